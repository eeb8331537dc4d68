"""The event log: one JSON object a line for every event, in cursor order, for people and log shippers.

The ledger is the truth, and this file follows it from the cursor in its own last line. Lines that a kill, a full disk
or a power cut takes from its end are written again from the ledger, and no line is written twice. So nothing is fsynced
here, and nothing waits for this file. The log of operations (start-up, warnings) is another one.

On disk: the file itself, and after rotations `.1.gz` (newest) to `.10.gz` beside it.
"""

import asyncio
import contextlib
import gzip
import json
import logging
import os
import shutil
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from dropmill.access.policy import may_read_audit, visible_to
from dropmill.health import LONGEST_RETRY_S, Health
from dropmill.model.accounts import name_key
from dropmill.model.caller import Caller
from dropmill.model.errors import SettingsError
from dropmill.model.events import ABOUT_ACCOUNTS, KIND_OF_AUDITED, TOPIC_ALL, TOPIC_AUDIT, AuditKind, Event
from dropmill.model.faults import TEMPORARY, translated
from dropmill.model.ids import Cursor, Owner
from dropmill.ports.bus import Bus
from dropmill.ports.ledger.events import EventLedger, EventPage
from dropmill.private import FOLDER_MODE, opener
from dropmill.wire.log_line import log_line

logger = logging.getLogger(__name__)

ROTATE_AT_BYTES = 64 * 2**20  # some 150,000 events; compressed to about a tenth
KEEP_ROTATED = 10
EVENTS_PER_WRITE = 500
EVENTS_PER_READ = 100  # held in memory at once; a line with the longest names has 30 KB
AUDIT_SEARCHED = 5_000  # events that one request searches: about 0.1 s of a thread
GATHER_S = 0.05  # from a hint to the read; with one read a commit the log took 1.7 ms of CPU a job, with this 0.2
POLL_S = 5.0  # hints may be lost; then a line is late by at most this
RETRY_FIRST_S = 1.0  # before the second try after a fault of disk or ledger


class EventLog:
    """Writes the ledger's events to the log file."""

    def __init__(
        self,
        path: Path,
        ledger: EventLedger,
        bus: Bus,
        *,
        rotate_at_bytes: int = ROTATE_AT_BYTES,
        keep_rotated: int = KEEP_ROTATED,
        poll_s: float = POLL_S,
        retry_s: float = RETRY_FIRST_S,
        health: Health | None = None,
    ) -> None:
        """Touch nothing yet.

        Args:
            path: the file; it and its folder are created if missing.
            ledger: has the events.
            bus: gives a hint when there are new events.
            rotate_at_bytes: the file is rotated before it grows beyond this.
            keep_rotated: how many rotated files are kept.
            poll_s: seconds between reads of the ledger without a hint.
            retry_s: seconds before the first retry after the disk refused a write; doubled up to `LONGEST_RETRY_S`.
            health: shows whether the log follows the ledger; None: its own, which nobody reads.
        """
        self._health = health or Health()
        self._file = _LogFile(path, rotate_at_bytes, keep_rotated)
        self._ledger = ledger
        self._bus = bus
        self._poll_s = poll_s
        self._retry_s = retry_s
        self._catching_up = asyncio.Lock()

    async def open(self) -> None:
        """Find the end of the file, cut off a line that a kill left half-written, and finish a rotation.

        A file that is ahead of the ledger belongs to another ledger: it is rotated, and the log starts empty.

        Raises:
            SettingsError: the file cannot be read or written, or is no event log.
        """
        try:
            cursor = await asyncio.to_thread(self._file.position)
            if cursor > await self._ledger.newest_cursor():
                logger.warning("The event log %s belongs to another ledger; it is rotated.", self._file.path)
                await asyncio.to_thread(self._file.start_new)
        except OSError as error:
            raise SettingsError(f"--log-file {self._file.path}: {error.strerror or error}.") from error

    async def run(self) -> None:
        """Follow the ledger until cancelled; call `open` before. Faults of disk and ledger are retried.

        Cancelling leaves only whole lines; `flush` may follow.
        """
        subscription = self._bus.subscribe()
        try:
            subscription.join(TOPIC_ALL)
            while True:
                await self._health.insist(
                    "event_log", self._catch_up, first_s=self._retry_s, most_s=max(self._retry_s, LONGEST_RETRY_S)
                )
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_s):
                        await subscription.next()
                        await asyncio.sleep(GATHER_S)
        finally:
            subscription.close()

    async def flush(self) -> None:
        """Write the events that the ledger has now, in one try; if the disk refuses, the next start writes them."""
        try:
            await self._catch_up()
        except TEMPORARY as error:
            logger.warning("The event log is behind; the next start catches up: %s", error)

    async def make_durable(self) -> Cursor:
        """Force the log to disk; returns the cursor up to which it is there, 0 if that is not known now.

        Raises:
            OutOfSpace, StorageUnavailable: the disk refused.
        """
        with translated("The event log"):
            return await asyncio.to_thread(self._file.make_durable)

    async def read(self, caller: Caller, *, after: Cursor, limit: int) -> AsyncIterator[bytes]:
        """The lines after a cursor, at most `limit`, in cursor order and several at a time; read from the ledger.

        Who does not see everybody's things gets the lines about their own; those of the config are about nobody's.
        Those about accounts of others are for who may `READ_AUDIT`.

        Raises:
            OutOfSpace, Unavailable: the ledger cannot be read; if that happens later, the iterator raises it.
        """
        owner = visible_to(caller)
        page = await self._ledger.events(TOPIC_ALL, after=after, limit=min(limit, EVENTS_PER_READ), visible_to=owner)
        return self._texts(page.events, limit, owner, hides_accounts=owner is None and not may_read_audit(caller))

    async def audit(
        self,
        caller: Caller,
        *,
        before: Cursor | None,
        limit: int,
        kind: AuditKind | None = None,
        who: str | None = None,
    ) -> EventPage:
        """The last audited events before a cursor, oldest first; for who may `READ_AUDIT`.

        At most `AUDIT_SEARCHED` events are searched for those of a kind or of somebody. So a page may have fewer events
        than `limit`, or none, although there are older ones: its cursor says where to search on.

        Args:
            caller: who reads it.
            before: the cursor; None: the last events there are.
            limit: most events.
            kind: only such events; None: all.
            who: only events about or by the account of this name, or from this address or host; None: from all.
        """
        owner = visible_to(caller)
        before = Cursor(await self._ledger.newest_cursor() + 1) if before is None else before
        if kind is None and who is None:
            return await self._ledger.events_before(TOPIC_AUDIT, before=before, limit=limit, visible_to=owner)
        found: list[Event] = []
        for _ in range(AUDIT_SEARCHED // EVENTS_PER_WRITE):
            page = await self._ledger.events_before(
                TOPIC_AUDIT, before=before, limit=EVENTS_PER_WRITE, visible_to=owner
            )
            for event in reversed(page.events):
                if _is_wanted(event, kind, who):
                    found.append(event)
                    if len(found) == limit:
                        is_oldest = page.cursor == 0 and event is page.events[0]
                        return EventPage(events=found[::-1], cursor=Cursor(0) if is_oldest else event.cursor)
            before = page.cursor
            if before == 0:
                break
        return EventPage(events=found[::-1], cursor=before)

    async def _texts(
        self, events: Sequence[Event], limit: int, owner: Owner | None, *, hides_accounts: bool
    ) -> AsyncIterator[bytes]:
        while events:
            shown = [event for event in events if not hides_accounts or event.name not in ABOUT_ACCOUNTS]
            if shown:
                yield await asyncio.to_thread(_text, shown)
            limit -= len(shown)
            if limit == 0:
                return
            after = events[-1].cursor
            page = await self._ledger.events(
                TOPIC_ALL, after=after, limit=min(limit, EVENTS_PER_READ), visible_to=owner
            )
            events = page.events

    async def _catch_up(self) -> None:
        async with self._catching_up:
            while True:
                cursor = self._file.known_position
                if cursor is None:
                    cursor = await asyncio.to_thread(self._file.position)
                page = await self._ledger.events(TOPIC_ALL, after=cursor, limit=EVENTS_PER_WRITE)
                if not page.events:
                    return
                # If this is cancelled, the thread still finishes the write; the next call waits for the file's lock.
                await asyncio.to_thread(self._file.append, page.events)
                if len(page.events) < EVENTS_PER_WRITE:
                    return  # newer events have their own hint


def _is_wanted(event: Event, kind: AuditKind | None, who: str | None) -> bool:
    if kind not in (None, KIND_OF_AUDITED[event.name]):
        return False
    if who is None:
        return True
    client = event.subject.client
    places = () if client is None else (client.ip, client.host)
    return name_key(who) in {name_key(name) for name in (event.subject.account, event.data.get("by"), *places) if name}


class _LogFile:
    """The file and its rotated predecessors. Blocks; may be used from several threads."""

    def __init__(self, path: Path, rotate_at_bytes: int, keep_rotated: int) -> None:
        self.path = path
        self._rotate_at_bytes = rotate_at_bytes
        self._keep_rotated = keep_rotated
        self._lock = threading.Lock()
        self._cursor: Cursor | None = None  # of the last line; None: not read from the file yet

    @property
    def known_position(self) -> Cursor | None:
        """As `position`, but None where that would read the file."""
        return self._cursor

    def position(self) -> Cursor:
        """The cursor of the last line, 0 if there is none.

        Raises:
            SettingsError: the file is no event log.
        """
        with self._lock:
            if self._cursor is None:
                self._cursor = self._recover()
            return self._cursor

    def append(self, events: Sequence[Event]) -> None:
        """Write those events that are not in the file yet, with one system call.

        Raises:
            OSError: not everything was written; the file may end with part of a line until the next call of `position`.
        """
        with self._lock:
            if self._cursor is None:
                return  # an earlier write failed; the caller reads these events again
            new = [event for event in events if event.cursor > (self._cursor or 0)]
            if not new:
                return
            text = _text(new)
            try:
                if self._size() and self._size() + len(text) > self._rotate_at_bytes:
                    self._rotate()
                with open(self.path, "ab", buffering=0, opener=opener) as file:
                    written = file.write(text)
                    while written < len(text):  # a full disk cut it short; the next call raises the reason
                        written += file.write(text[written:])
            except OSError:
                self._cursor = None
                raise
            self._cursor = new[-1].cursor

    def make_durable(self) -> Cursor:
        """Force the file to disk; returns the cursor of its last line, 0 if an earlier write failed."""
        with self._lock:
            if self._cursor and self.path.exists():  # rotated files were fsynced
                with self.path.open("rb") as file:
                    os.fsync(file.fileno())
            return self._cursor or Cursor(0)

    def start_new(self) -> None:
        """Rotate the file; the next line may have any cursor."""
        with self._lock:
            if self._size():
                self._rotate()
            self._cursor = Cursor(0)

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def _recover(self) -> Cursor:
        self.path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        if self._aside.exists():
            self._compress_aside()
        with open(self.path, "a+b", opener=opener) as file:
            file.seek(0)
            _require_event_log(self.path, file.read(len(_LINE_START)))
            cursor, end = _last_whole_line(file.fileno())
            file.truncate(end)
        newest = self._rotated(1)
        if cursor is None and newest.exists():
            with gzip.open(newest) as lines:
                for text in lines:
                    cursor = _cursor_of(text)
        return cursor or Cursor(0)

    # Rotation. A kill between any two steps neither loses nor repeats a line: the whole file is renamed first, and
    # removed only once its compressed copy is on disk under its final name.

    @property
    def _aside(self) -> Path:
        return self.path.with_name(f"{self.path.name}.0")

    def _rotated(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}.gz")

    def _rotate(self) -> None:
        self.path.replace(self._aside)
        self._compress_aside()

    def _compress_aside(self) -> None:
        if not self._is_compressed():
            partial = self.path.with_name(f"{self.path.name}.gz.partial")
            partial.unlink(missing_ok=True)
            with self._aside.open("rb") as plain, open(partial, "xb", opener=opener) as raw:
                with gzip.GzipFile(filename="", mode="wb", fileobj=raw) as packed:
                    shutil.copyfileobj(plain, packed, 2**20)
                raw.flush()
                os.fsync(raw.fileno())
            numbers = range(1, self._keep_rotated + 1)
            # Shift only up to the first gap, which a kill during an earlier shift may have left.
            free = next((n for n in numbers if not self._rotated(n).exists()), self._keep_rotated)
            for number in range(free - 1, 0, -1):
                self._rotated(number).replace(self._rotated(number + 1))
            partial.replace(self._rotated(1))
        self._aside.unlink()

    def _is_compressed(self) -> bool:
        try:
            with self._aside.open("rb") as plain, gzip.open(self._rotated(1)) as packed:
                return plain.readline() == packed.readline()  # no two lines are equal: each has its own cursor
        except FileNotFoundError:
            return False


_LINE_START: Final = b'{"at":"'


def _require_event_log(path: Path, head: bytes) -> None:
    # After a power cut some file systems have zeros where data was not yet on disk.
    head = head.lstrip(b"\0")
    if not (_LINE_START.startswith(head) or head.startswith(_LINE_START)):
        raise SettingsError(f"--log-file {path} is not an event log; name another file.")


def _last_whole_line(descriptor: int) -> tuple[Cursor | None, int]:
    """The cursor of the last whole line, and the offset of its end; None and 0 if there is no whole line."""
    size = os.fstat(descriptor).st_size
    window = 2**16
    while True:
        start = max(0, size - window)
        tail = os.pread(descriptor, size - start, start)
        end = tail.rfind(b"\n")
        while end >= 0:
            begin = tail.rfind(b"\n", 0, end) + 1
            if begin == 0 and start > 0:
                break  # the line may begin before the window
            cursor = _cursor_of(tail[begin:end])
            if cursor is not None:
                return cursor, start + end + 1
            end = begin - 1
        if start == 0:
            return None, 0
        window *= 8


def _cursor_of(text: bytes) -> Cursor | None:
    try:
        cursor = json.loads(text)["cursor"]
    except (ValueError, KeyError, TypeError):
        return None
    return Cursor(cursor) if isinstance(cursor, int) else None


def _text(events: Sequence[Event]) -> bytes:
    return "".join(map(log_line, events)).encode("ascii")

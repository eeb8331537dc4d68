"""Small files that are stored together: written where they stay, made durable by a journal, synced later.

`journal` has the records, `docs/decisions/small-files.md` the order of durability. The event loop decides which segment
is used; threads do what blocks. Without a usable segment the caller stores the files with an fsync each.
"""

import asyncio
import hashlib
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from dropmill.engines.disk import syncing
from dropmill.engines.disk.files import READ_PLAIN, HashedFile, fsync_folder
from dropmill.engines.disk.folders import Folders, ended
from dropmill.engines.disk.journal import SEGMENT_BYTES, Record, Segment
from dropmill.engines.disk.syncing import Syncing
from dropmill.model.errors import BytesLost
from dropmill.model.ids import Sha256
from dropmill.model.uploads import StoredBlob
from dropmill.ports.blobs import SMALL_BYTES

FLUSH_FILES, FLUSH_BYTES = 256, 1024 * 1024  # of one flush, unless a single call brings more
CALL_BYTES = SEGMENT_BYTES // 2  # a call that brings more is stored without the journal
DRAIN_EVERY_S = 15.0  # bounds what a start has to replay
AGAIN_S = 60.0  # between two attempts to make segments
SLOW_S = 1.0  # a `syncfs` that takes longer waits for what others write

Live = Callable[[Sequence[str]], Awaitable[Collection[str]]]
"""Of some keys, those whose files must be there."""

log = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True, eq=False)
class _Call:
    """Parts that one caller wants stored, each with its key."""

    files: Sequence[tuple[str, bytes]]
    stored: asyncio.Future[Sequence[StoredBlob]]
    size: int


@dataclass(kw_only=True, slots=True, eq=False)
class _Open:
    """A segment that this process writes to.

    Attributes:
        writing: held while records are appended, and while it is drained.
        keys: of the files that its records have made durable; those that were deleted are taken out.
        is_due: whether it is to be drained now.
        is_suspect: whether something that belongs to its files may have failed to reach the disk.
        is_failed: whether it takes no more records until it has been drained.
    """

    segment: Segment
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    keys: set[str] = field(default_factory=set)
    is_used: bool = False
    is_due: bool = False
    is_suspect: bool = False
    is_failed: bool = False


class SmallFiles:
    """The journal of one store, and the files that are durable only in it."""

    def __init__(self, folders: Folders, how: Syncing) -> None:
        """Touch nothing yet.

        Args:
            folders: of the store; the journal lies beside them.
            how: files are synced together.
        """
        self._folders = folders
        self._journal = folders.incoming.with_name("journal")
        self._how = how
        self._thread = ThreadPoolExecutor(1, "blob-journal")
        self._drain_thread = ThreadPoolExecutor(1, "blob-drain")
        self._calls: list[_Call] = []
        self._flushing: asyncio.Task[None] | None = None
        self._segments: list[_Open] = []  # the first takes the records
        self._make_at = 0.0
        self._disk = -1
        self._draining: asyncio.Task[None] | None = None
        self._due = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()  # of the keys of segments, and of a rename that may bring back a deleted file
        folders.on_remove = self._forget

    # --- storing -----------------------------------------------------------------------------------------------------

    async def store(self, files: Sequence[tuple[str, bytes]]) -> Sequence[StoredBlob] | None:
        """Store files, each with its key, together with those of others; None: there is no room, and none was stored.

        Raises:
            OSError, BytesLost: one of them could not be stored; none of the caller's is.

        Cancelling removes them.
        """
        size = sum(len(data) for _, data in files)
        if size > CALL_BYTES:
            return None
        self._loop = asyncio.get_running_loop()
        call = _Call(files=files, stored=self._loop.create_future(), size=size)
        self._calls.append(call)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush_all())
        try:
            return await asyncio.shield(call.stored) or None
        except asyncio.CancelledError:
            await ended(call.stored)
            if not call.stored.exception():
                await ended(self._folders.in_thread(self._discard, [key for key, _ in call.files]))
            raise

    async def _flush_all(self) -> None:
        while self._calls:
            calls: list[_Call] = []
            files = size = 0
            for call in self._calls:
                files, size = files + len(call.files), size + call.size
                if calls and (files > FLUSH_FILES or size > FLUSH_BYTES):
                    break
                calls.append(call)
            del self._calls[: len(calls)]
            try:
                results = await self._flush(calls)
            except Exception as error:  # a bug of ours; the callers must not wait for ever
                results = [error for _ in calls]
            for call, result in zip(calls, results, strict=True):
                if isinstance(result, Exception):
                    call.stored.set_exception(result)
                    call.stored.exception()  # retrieved, though a cancelled caller never will
                else:
                    call.stored.set_result(result)
        self._flushing = None

    async def _flush(self, calls: Sequence[_Call]) -> Sequence[Sequence[StoredBlob] | Exception]:
        files, size = sum(len(call.files) for call in calls), sum(call.size for call in calls)
        chosen = await self._segment_for(size, files)
        if chosen is None:
            return [() for _ in calls]
        async with chosen.writing:
            chosen.is_used = True
            results = await asyncio.get_running_loop().run_in_executor(self._thread, self._write, chosen, calls)
        if chosen.is_due:
            self._due.set()
        return results

    def _write(self, chosen: _Open, calls: Sequence[_Call]) -> Sequence[Sequence[StoredBlob] | Exception]:
        """Write files and their records; each call gets its blobs, or its error. Blocks."""
        results: list[list[StoredBlob] | Exception] = []
        written: list[tuple[str, bytes, bytes]] = []
        for call in calls:
            stored = []
            try:
                for key, data in call.files:
                    stored.append(self._write_file(key, data))
            except Exception as error:
                self._discard([key for key, _ in call.files])
                results.append(error)
                continue
            results.append(stored)
            for (key, data), blob in zip(call.files, stored, strict=True):
                written.append((key, bytes.fromhex(blob.sha256), data))
        if not written:
            return results
        try:
            chosen.segment.append(written)
        except OSError as error:
            chosen.is_failed = chosen.is_due = True
            self._discard([key for key, _, _ in written])
            # An object for each, because callers add to it.
            return [_copy(error) if isinstance(result, list) else result for result in results]
        with self._lock:
            chosen.keys.update(key for key, _, _ in written)
        return results

    def _write_file(self, key: str, data: bytes) -> StoredBlob:
        final = self._folders.path(key)
        digest = hashlib.sha256()
        with HashedFile(final, "xb", digest) as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o400)
            self._folders.require_renamed(final, os.fstat(file.fileno()), len(data))
        return StoredBlob(key=key, size=len(data), sha256=Sha256(digest.hexdigest()))

    def _discard(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._folders.discard(key)

    # --- segments ----------------------------------------------------------------------------------------------------

    async def _segment_for(self, size: int, files: int) -> _Open | None:
        """The segment that takes so many bytes of so many files now; None if there is none."""
        if not self._segments and not await self._make_segments():
            return None
        for candidate in self._segments:
            is_free = not (candidate.is_due or candidate.is_failed or candidate.writing.locked())
            if is_free and candidate.segment.has_room(size, files):
                return candidate
            if candidate.is_used and not candidate.is_due:
                candidate.is_due = True
                self._due.set()
        return None

    async def _make_segments(self) -> bool:
        loop = asyncio.get_running_loop()
        if loop.time() < self._make_at:
            return False
        self._make_at = loop.time() + AGAIN_S
        try:
            made = await loop.run_in_executor(self._thread, self._make)
        except OSError as error:
            log.warning("Small files are stored one by one, because their journal cannot be made: %s", error)
            return False
        self._segments = [_Open(segment=segment) for segment in made]
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain_until_cancelled(), name="drain of the journal")
        return True

    def _make(self) -> list[Segment]:
        if self._disk < 0:  # before the first write: then every error since is reported
            self._disk = os.open(self._folders.blobs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        made = [Segment.make(self._journal)]
        try:
            made.append(Segment.make(self._journal))
        except OSError:
            made[0].remove()
            raise
        return made

    def _forget(self, key: str) -> None:
        """Note that a file is being deleted. From any thread, before it is."""
        with self._lock:
            for one in self._segments:
                if key in one.keys:
                    one.keys.discard(key)
                    if not one.is_due and self._loop is not None:
                        one.is_due = True
                        self._loop.call_soon_threadsafe(self._due.set)

    # --- draining ----------------------------------------------------------------------------------------------------

    async def _drain_until_cancelled(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_EVERY_S):
                    await self._due.wait()
            has_waited = not self._due.is_set()
            self._due.clear()
            for one in tuple(self._segments):
                if one.is_due or (one.is_used and has_waited):
                    await self._drain(one)
            if any(one.is_due for one in self._segments):
                await asyncio.sleep(DRAIN_EVERY_S)  # the disk refused

    async def _drain(self, one: _Open) -> bool:
        """Make what a segment holds durable where it lies, then free the segment; returns whether that was possible."""
        one.is_due = True  # takes no more records
        async with one.writing:
            try:
                await asyncio.get_running_loop().run_in_executor(self._drain_thread, self._sync, one)
            except Exception as error:
                is_ours = not isinstance(error, (OSError, BytesLost))
                log.warning("Small files stay in the journal for another try: %s", error, exc_info=is_ours)
                return False
            try:
                await asyncio.get_running_loop().run_in_executor(self._drain_thread, one.segment.clear)
            except OSError as error:
                log.warning("A segment of the journal cannot be used again: %s", error)
                await asyncio.get_running_loop().run_in_executor(self._drain_thread, _remove, one.segment)
                self._segments.remove(one)
            one.keys.clear()
            one.is_used = one.is_due = one.is_suspect = one.is_failed = False
        return True

    def _sync(self, one: _Open) -> None:
        """Make the files of a segment durable. Blocks; nobody appends to it meanwhile.

        Raises:
            OSError: the disk refuses; the segment must stay.
        """
        with self._lock:
            keys = set(one.keys)
        try:
            if not one.is_suspect:
                self._sync_files(keys)
        except OSError as error:
            log.warning("Small files are written anew from the journal, because a sync failed: %s", error)
            # The error has been reported now, and not again; it may concern any file that was not synced.
            for each in self._segments:
                each.is_suspect = True
        if one.is_suspect:
            self._write_anew((found for found in one.segment.records() if found.key in keys), one.keys.__contains__)

    def _sync_files(self, keys: Collection[str]) -> None:
        if self._how is Syncing.EACH_FILE:
            syncing.fsync_all((self._folders.path(key) for key in keys), self._folders.threads)
            return
        began = time.monotonic()
        syncing.syncfs(self._disk)
        if time.monotonic() - began > SLOW_S:
            log.info("Small files are synced one by one from now on: syncing the disk took over %g s.", SLOW_S)
            self._how = Syncing.EACH_FILE

    def _write_anew(self, records: Iterable[Record], is_wanted: Callable[[str], bool]) -> None:
        """Replace files by what the journal holds, durably.

        Args:
            records: of the files.
            is_wanted: whether a file has not been deleted since; asked while no deletion begins.

        Raises:
            OSError: the disk refuses.
        """
        folders = set()
        for found in records:
            content = found.content if found.content is not None else self._content_of(found)
            if content is None:
                log.error("The stored file %s is lost: neither its file nor the journal has its bytes.", found.key)
                continue
            temporary, final = self._folders.incoming / found.key, self._folders.path(found.key)
            temporary.unlink(missing_ok=True)
            try:
                with HashedFile(temporary, "xb", None) as file:
                    file.write(content)
                    os.fchmod(file.fileno(), 0o400)
                    os.fsync(file.fileno())
                    with self._lock:
                        if not is_wanted(found.key):
                            continue
                        os.rename(temporary, final)
                    self._folders.require_renamed(final, os.fstat(file.fileno()), len(content))
            finally:
                temporary.unlink(missing_ok=True)
            folders.add(final.parent)
        for folder in folders:
            fsync_folder(folder)

    def _content_of(self, found: Record) -> bytes | None:
        """A file's bytes, if they are those of its record; None if not, or if it is missing."""
        try:
            descriptor = os.open(self._folders.path(found.key), READ_PLAIN)
        except OSError:
            return None
        try:
            content = os.read(descriptor, SMALL_BYTES + 1)
        finally:
            os.close(descriptor)
        is_right = len(content) == found.size and hashlib.sha256(content).digest() == found.digest
        return content if is_right else None

    # --- start and end -----------------------------------------------------------------------------------------------

    async def replay(self, live: Live) -> int:
        """Make right and durable the files that the segments of processes that are gone hold; returns how many it made.

        Args:
            live: says which keys the ledger refers to.

        Raises:
            OSError: the disk refuses; the segments stay.
        """
        loop = asyncio.get_running_loop()
        written = 0
        left = await loop.run_in_executor(self._thread, Segment.left_in, self._journal)
        try:
            while left:
                records = await loop.run_in_executor(self._thread, lambda: list(left[-1].records()))
                wanted = set(await live([found.key for found in records])) if records else set()
                found = [one for one in records if one.key in wanted]
                written += await loop.run_in_executor(self._thread, self._replay, found)
                await loop.run_in_executor(self._thread, left.pop().remove)
        finally:
            for segment in left:
                segment.close()
        return written

    def _replay(self, records: Sequence[Record]) -> int:
        wrong = [found for found in records if self._content_of(found) is None]
        self._write_anew(wrong, lambda _: True)
        # Also those that are right: they may be so in the page cache only.
        syncing.fsync_all((self._folders.path(found.key) for found in records), self._folders.threads)
        return len(wrong)

    async def close(self) -> None:
        """Drain and remove the segments; what cannot be drained stays for the next start."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
        if self._draining is not None:
            self._draining.cancel()
            await asyncio.wait([self._draining])
        for one in tuple(self._segments):
            is_empty = not one.is_used or await self._drain(one)
            if one in self._segments:  # else it was given up
                end = _remove if is_empty else Segment.close
                await asyncio.get_running_loop().run_in_executor(self._drain_thread, end, one.segment)
        self._segments.clear()
        self._thread.shutdown()
        self._drain_thread.shutdown()
        disk, self._disk = self._disk, -1
        if disk >= 0:
            os.close(disk)


def _remove(segment: Segment) -> None:
    """Delete a segment, or leave it to the next start: its files are durable."""
    with suppress(OSError):
        segment.remove()


def _copy(error: OSError) -> OSError:
    return OSError(error.errno, error.strerror)

"""The event log: the file holds every event of the ledger once, in order, whatever happens to the file."""

import asyncio
import errno
import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from tests.support.scenarios import CALLER
from tests.support.waiting import eventually

from dropmill.engines.local.bus import LocalBus
from dropmill.model.client import ClientIdentity
from dropmill.model.errors import SettingsError, Unavailable
from dropmill.model.events import AuditKind, Event, EventName, Subject
from dropmill.model.ids import Cursor, FileId, Owner, SubmissionId
from dropmill.ports.ledger.events import EventPage
from dropmill.upkeep import event_log
from dropmill.upkeep.event_log import EventLog

SOON_S = 10.0
CLIENT = ClientIdentity(ip="10.0.0.7", host="pc7.lab.example", verified=True, domain="lab.example", user_agent="curl/8")
AT = datetime(2026, 3, 1, 12, 0, 0, 123_000, timezone(timedelta(hours=2)))


def event(cursor: int) -> Event:
    subject = Subject(submission_id=SubmissionId("s1"), file_id=FileId("f1"), name="a.txt", client=CLIENT)
    data = {"size": 12, "path": "folder/a.txt"}
    return Event(cursor=Cursor(cursor), at=AT, name=EventName.UPLOAD_STARTED, subject=subject, data=data)


class FakeLedger:
    """`dropmill.ports.ledger.events.EventLedger` of one topic."""

    def __init__(self, count: int = 0) -> None:
        self.all: list[Event] = []
        self.reads = 0
        self.error: Exception | None = None
        self.add(count)

    def add(self, count: int) -> None:
        self.all += [event(len(self.all) + 1 + number) for number in range(count)]

    async def events(self, topic: str, *, after: Cursor, limit: int, visible_to: Owner | None = None) -> EventPage:
        assert topic == "all"
        self.reads += 1
        if self.error is not None:
            raise self.error
        events = self.all[after : after + limit]
        return EventPage(events=events, cursor=events[-1].cursor if events else after)

    async def events_before(
        self, topic: str, *, before: Cursor, limit: int, visible_to: Owner | None = None
    ) -> EventPage:
        assert topic == "audit"
        self.reads += 1
        events = [one for one in self.all if one.cursor < before][-limit:]
        return EventPage(events=events, cursor=Cursor(0 if not events or events[0].cursor == 1 else events[0].cursor))

    async def newest_cursor(self) -> Cursor:
        return Cursor(len(self.all))


def make(path: Path, ledger: FakeLedger, bus: LocalBus | None = None, **options: Any) -> EventLog:
    return EventLog(path, ledger, bus or LocalBus(), **options)


async def write(path: Path, ledger: FakeLedger, **options: Any) -> EventLog:
    """One life of a server: opened, and written once."""
    log = make(path, ledger, **options)
    await log.open()
    await log.flush()
    return log


@asynccontextmanager
async def following(log: EventLog) -> AsyncIterator[None]:
    await log.open()
    task = asyncio.create_task(log.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()


def whole_story(path: Path) -> list[int]:
    """The cursors of every line, oldest first, rotated files included."""
    rotated = sorted(path.parent.glob(f"{path.name}.*.gz"), key=lambda p: -int(p.name.split(".")[-2]))
    text = b"".join([gzip.decompress(p.read_bytes()) for p in rotated] + ([path.read_bytes()] if path.exists() else []))
    assert text == b"" or text.endswith(b"\n")
    return [json.loads(one)["cursor"] for one in text.splitlines()]


def upto(count: int) -> list[int]:
    return list(range(1, count + 1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log" / "dropmill.jsonl"


# what a line says


# following the ledger


async def test_it_makes_its_folder_and_writes_what_the_ledger_holds(path: Path) -> None:
    await write(path, FakeLedger(1_234))
    assert whole_story(path) == upto(1_234)


async def test_an_untouched_ledger_makes_an_empty_file(path: Path) -> None:
    await write(path, FakeLedger())
    assert path.read_bytes() == b""


async def test_a_hint_is_followed(path: Path) -> None:
    ledger, bus = FakeLedger(2), LocalBus()
    async with following(make(path, ledger, bus, poll_s=3600)):
        await eventually(lambda: whole_story(path) == upto(2))
        ledger.add(3)
        bus.publish({"all": 3})
        await eventually(lambda: whole_story(path) == upto(5))
        assert list(bus.listeners) == ["all"]
    assert not bus.listeners


async def test_a_lost_hint_makes_a_line_late_and_no_more(path: Path) -> None:
    ledger = FakeLedger(1)
    async with following(make(path, ledger, poll_s=0.02)):
        await eventually(lambda: whole_story(path) == upto(1))
        ledger.add(1)
        await eventually(lambda: whole_story(path) == upto(2))


async def test_the_next_life_goes_on_behind_the_last_line(path: Path) -> None:
    ledger = FakeLedger(3)
    await write(path, ledger)
    ledger.add(4)
    await write(path, ledger)
    assert whole_story(path) == upto(7)


async def test_flushing_while_it_follows_writes_nothing_twice(path: Path) -> None:
    ledger, bus = FakeLedger(3_000), LocalBus()
    log = make(path, ledger, bus)
    async with following(log):
        await asyncio.gather(*(log.flush() for _ in range(5)))
    await log.flush()
    assert whole_story(path) == upto(3_000)


async def test_a_follower_cancelled_at_any_moment_leaves_whole_lines_and_the_rest_to_flush(path: Path) -> None:
    ledger = FakeLedger(4_000)
    log = make(path, ledger)
    await log.open()
    for turns in range(60):
        task = asyncio.create_task(log.run())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait((task,))
    await log.flush()
    assert whole_story(path) == upto(4_000)


async def test_a_ledger_that_is_away_is_asked_again(path: Path) -> None:
    ledger = FakeLedger(2)
    ledger.error = Unavailable("The database does not answer.")
    async with following(make(path, ledger, retry_s=0.01)):
        await eventually(lambda: ledger.reads >= 3)
        ledger.error = None
        await eventually(lambda: whole_story(path) == upto(2))


async def test_a_log_of_another_ledger_is_put_aside(path: Path) -> None:
    """The database was deleted and the log kept: its cursors would hide the new ledger's first events."""
    await write(path, FakeLedger(50))
    ledger = FakeLedger()
    log = await write(path, ledger)
    ledger.add(3)
    await log.flush()
    assert [json.loads(one)["cursor"] for one in path.read_bytes().splitlines()] == upto(3)
    assert gzip.decompress(path.with_name("dropmill.jsonl.1.gz").read_bytes()).count(b"\n") == 50


async def test_a_log_of_another_ledger_is_told_again_after_a_restart_without_a_line(path: Path) -> None:
    await write(path, FakeLedger(50))
    await write(path, FakeLedger())
    ledger = FakeLedger()
    log = await write(path, ledger)
    ledger.add(1)
    await log.flush()
    assert path.read_bytes().count(b"\n") == 1


# a file cut off anywhere


async def test_a_file_cut_at_any_byte_is_made_whole(path: Path) -> None:
    ledger = FakeLedger(3)
    await write(path, ledger)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        await write(path, ledger)
        assert path.read_bytes() == whole, length


@pytest.mark.parametrize(
    "rubbish", [b"\0" * 5000, b"\0\n\0\n", b"half a line", b"{}\n", b'{"cursor":"x"}\n', b"\xff\n"]
)
async def test_rubbish_behind_the_last_line_is_cut_off(path: Path, rubbish: bytes) -> None:
    ledger = FakeLedger(3)
    await write(path, ledger)
    whole = path.read_bytes()
    path.write_bytes(whole + rubbish)
    ledger.add(1)
    await write(path, ledger)
    assert path.read_bytes().startswith(whole)
    assert whole_story(path) == upto(4)


async def test_a_file_of_zeros_alone_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"\0" * 4096)
    await write(path, FakeLedger(2))
    assert whole_story(path) == upto(2)


async def test_a_last_line_longer_than_what_is_read_at_first_is_found(path: Path) -> None:
    ledger = FakeLedger()
    ledger.all = [event(1)]
    long_name = Subject(name="x" * 200_000)
    ledger.all.append(replace(event(2), subject=long_name))
    await write(path, ledger)
    ledger.add(1)
    await write(path, ledger)
    assert whole_story(path) == upto(3)


@pytest.mark.parametrize("content", [b"root:x:0:0\n", b"no line end", b"{}\n"])
async def test_a_file_that_is_no_event_log_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="is not an event log"):
        await make(path, FakeLedger(3)).open()
    assert path.read_bytes() == content


async def test_a_path_that_cannot_be_written_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--log-file .*: Is a directory\."):
        await make(tmp_path, FakeLedger()).open()


# rotation


async def test_a_file_at_its_size_is_compressed_and_the_oldest_are_dropped(path: Path) -> None:
    ledger = FakeLedger()
    log = await write(path, ledger, rotate_at_bytes=2_000, keep_rotated=3)
    for _ in range(40):
        ledger.add(2)
        await log.flush()
    names = sorted(p.name for p in path.parent.iterdir())
    assert names == ["dropmill.jsonl", *(f"dropmill.jsonl.{number}.gz" for number in (1, 2, 3))]
    story = whole_story(path)
    assert story == list(range(story[0], 81))
    assert story[0] > 1
    assert path.stat().st_size <= 2_000


async def test_a_missing_file_is_continued_from_the_newest_rotated_one(path: Path) -> None:
    ledger = FakeLedger()
    log = await write(path, ledger, rotate_at_bytes=2_000)
    for _ in range(8):
        ledger.add(2)
        await log.flush()
    last = json.loads(gzip.decompress(path.with_name("dropmill.jsonl.1.gz").read_bytes()).splitlines()[-1])["cursor"]
    path.unlink()
    await write(path, ledger, rotate_at_bytes=2_000)
    assert whole_story(path) == upto(16)
    assert json.loads(path.read_bytes().splitlines()[0])["cursor"] == last + 1


CHILD = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = {path!r}
from tests.upkeep.test_event_log import FakeLedger, write

async def live():
    ledger = FakeLedger({known})
    log = await write(Path({log!r}), ledger, rotate_at_bytes=3000, keep_rotated=1000)
    while True:
        ledger.add(2)
        await log.flush()

asyncio.run(live())
"""


async def test_a_kill_at_any_moment_loses_and_repeats_no_line(path: Path) -> None:
    """Real processes that write and rotate without a pause, killed after random times; each life reads the one before.

    The ledger of each life is set to what the file has reached, as a real one would hold at least that.
    """
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(6):
        known = max(whole_or_cut_story(path), default=0)
        program = CHILD.format(path=sys.path, known=known, log=str(path))
        child = await asyncio.to_thread(subprocess.Popen, [sys.executable, "-c", program])
        await eventually(lambda: path.exists() and max(whole_or_cut_story(path), default=0) > known)  # noqa: B023
        await asyncio.sleep(chance.uniform(0.0, 0.1))
        child.send_signal(signal.SIGKILL)
        assert await asyncio.to_thread(child.wait) == -signal.SIGKILL
    reached = max(whole_or_cut_story(path))
    await write(path, FakeLedger(reached), rotate_at_bytes=3000, keep_rotated=1000)
    assert whole_story(path) == upto(reached)


def whole_or_cut_story(path: Path) -> list[int]:
    """Cursors in any file of the log, whatever a kill or a running writer left half-way."""
    cursors = []
    for one in path.parent.glob(f"{path.name}*"):
        if one.suffix == ".partial":
            continue
        try:
            text = gzip.decompress(one.read_bytes()) if one.suffix == ".gz" else one.read_bytes()
        except FileNotFoundError:  # rotated meanwhile
            continue
        cursors += [json.loads(whole)["cursor"] for whole in text.split(b"\n")[:-1]]
    return cursors


class Killed(BaseException):
    """Stands for the end of the process at one exact step."""


@pytest.mark.parametrize("step", range(1, 7))
async def test_a_rotation_cut_at_any_step_is_finished_by_the_next_life(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Each copy, sync, rename and removal of the second rotation, in turn, is the one that never happens."""
    ledger = FakeLedger(8)
    log = await write(path, ledger, rotate_at_bytes=3_000)
    ledger.add(8)
    await log.flush()
    assert path.with_name("dropmill.jsonl.1.gz").exists()
    ledger.add(8)
    steps = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == step:
                raise Killed
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for owner, name in ((Path, "replace"), (Path, "unlink"), (os, "fsync"), (shutil, "copyfileobj")):
            patch.setattr(owner, name, counted(getattr(owner, name)))
        with pytest.raises(Killed):
            await log.flush()
    await write(path, ledger, rotate_at_bytes=3_000)
    assert whole_story(path) == upto(24)
    assert not path.with_name("dropmill.jsonl.0").exists()


# a disk that refuses


class FullDisk:
    """Lets a number of bytes through to any file opened for appending, then says that the disk is full."""

    def __init__(self, patch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self.refused = 0
        real = open

        def opened(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            file = real(path, mode, *arguments, **options)
            return _Limited(file, self) if mode == "ab" else file

        patch.setattr(event_log, "open", opened, raising=False)


class _Limited:
    def __init__(self, file: Any, disk: FullDisk) -> None:
        self._file, self._disk = file, disk

    def __enter__(self) -> "_Limited":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> int:
        part = data[: self._disk.room]
        if not part:
            self._disk.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._disk.room -= len(part)
        return int(self._file.write(part))


async def test_a_full_disk_is_tried_again_until_it_has_room(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = FakeLedger(20)
    disk = FullDisk(monkeypatch, room=1_000)
    async with following(make(path, ledger, retry_s=0.01)):
        await eventually(lambda: disk.refused >= 3)
        ledger.add(5)
        disk.room = 10**9
        await eventually(lambda: whole_or_cut_story(path) == upto(25))
    assert "No space left on device" in caplog.text


async def test_a_flush_on_a_full_disk_returns_and_the_next_life_catches_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = FakeLedger(20)
    with monkeypatch.context() as patch:
        disk = FullDisk(patch, room=1_000)
        await write(path, ledger)
        assert disk.refused == 1
    await write(path, ledger)
    assert whole_story(path) == upto(20)


async def test_a_disk_too_full_to_rotate_is_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = FakeLedger(8)
    log = await write(path, ledger, rotate_at_bytes=3_000)
    ledger.add(8)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", full)
        await log.flush()
    await log.flush()
    assert whole_story(path) == upto(16)


# --- the audit -------------------------------------------------------------------------------------------------------


async def test_one_request_searches_the_audit_so_far_and_says_where_to_search_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for a rare thing among many must not keep a reader busy for long."""
    monkeypatch.setattr(event_log, "EVENTS_PER_WRITE", 10)
    monkeypatch.setattr(event_log, "AUDIT_SEARCHED", 30)
    ledger = FakeLedger()
    for cursor in range(1, 101):
        kind = EventName.ACCOUNT_SIGNED_IN if cursor % 50 == 20 else EventName.CONFIG_SAVED
        ledger.all.append(replace(event(cursor), name=kind))
    log = make(tmp_path / "log", ledger)

    async def read(before: int | None, kind: AuditKind, limit: int) -> tuple[list[int], int]:
        ledger.reads = 0
        page = await log.audit(CALLER, before=None if before is None else Cursor(before), kind=kind, limit=limit)
        assert ledger.reads <= 3
        return [one.cursor for one in page.events], page.cursor

    assert await read(None, AuditKind.SIGN_INS, 5) == ([], 71)
    assert await read(71, AuditKind.SIGN_INS, 5) == ([70], 41)
    assert await read(41, AuditKind.SIGN_INS, 5) == ([20], 11)
    assert await read(11, AuditKind.SIGN_INS, 5) == ([], 0)
    assert await read(None, AuditKind.CONFIG, 3) == ([98, 99, 100], 98)
    assert await read(4, AuditKind.CONFIG, 3) == ([1, 2, 3], 0)  # there is nothing older

"""Retention on a real ledger and a real folder: what goes, what stays, what a fault leaves to do."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.support import scenarios
from tests.support.clocks import DAY_S, WallClock

from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.local.outputs import FileOutputs
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.health import Health
from dropmill.model.clock import Clock, utc_now
from dropmill.model.errors import OutOfSpace, StorageUnavailable, Unavailable
from dropmill.model.ids import Cursor, JobId, SubmissionId, new_file_id, new_job_id
from dropmill.model.output import OutputPiece
from dropmill.upkeep import retention
from dropmill.upkeep.retention import Retention


class Store:
    """A ledger, its bytes and its output."""

    def __init__(self, folder: Path, ledger: SqliteLedger, blobs: DiskBlobStore, bus: LocalBus) -> None:
        self.folder = folder
        self.ledger = ledger
        self.blobs = blobs
        self.outputs = FileOutputs(folder / "outputs")
        self.logged = 0

    def retention(self, *, keep_s: float | None = None, keep_bytes: int | None = None, **options: Any) -> Retention:
        async def logged() -> Cursor:
            return Cursor(self.logged)

        return Retention(
            ledger=self.ledger,
            blobs=self.blobs,
            outputs=self.outputs,
            logged=logged,
            keep_s=keep_s,
            keep_bytes=keep_bytes,
            keep_events_s=options.get("keep_events_s"),
            clock=options.get("clock", Clock()),
            health=Health(),
        )

    async def settled(self, count: int = 1) -> SubmissionId:
        """A settled submission with files and output on disk."""
        submission_id = await scenarios.opened(self.ledger)
        for _ in range(count):
            writer = self.blobs.create(".txt")
            await writer.write(b"content")
            file_id, job_id = new_file_id(), new_job_id()
            await self.ledger.start_upload(file_id, submission_id, "a.txt", "a.txt", None)
            await self.ledger.store_upload(file_id, await writer.commit(), job_id)
            await scenarios.claimed(self.ledger)
            await self.print(job_id)
            await self.ledger.end_attempt(job_id, 1, scenarios.FAILED)
        await self.ledger.seal_submission(submission_id)
        return submission_id

    async def print(self, job_id: JobId) -> None:
        piece = OutputPiece(job_id=job_id, number=1, offset=0, data=b"output", began_at=utc_now())
        assert not await self.outputs.append([piece])

    def left(self) -> int:
        return sum(path.is_file() for name in ("blobs", "outputs") for path in (self.folder / name).rglob("*"))


@pytest.fixture
async def store(tmp_path: Path, ledger: SqliteLedger, blobs: DiskBlobStore, bus: LocalBus) -> Store:
    return Store(tmp_path, ledger, blobs, bus)


async def test_a_sweep_removes_bytes_and_output_of_what_is_old(store: Store) -> None:
    for _ in range(60):  # more than are marked at once
        await store.settled()
    assert store.left() == 120
    await store.retention(keep_s=3600.0).sweep()
    assert store.left() == 120
    await store.retention(keep_s=-1.0).sweep()
    assert store.left() == 0
    await store.retention(keep_s=-1.0).sweep()  # nothing more to do


async def test_what_is_kept_for_ever_needs_no_sweeps(store: Store) -> None:
    await store.settled()
    await store.retention().run()  # returns
    assert store.left() == 2


async def test_what_the_disk_refused_to_delete_is_tried_again_and_the_history_says_removed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission_id = await store.settled(3)
    delete = store.blobs.delete
    refused = 0

    async def stubborn(key: str) -> None:
        nonlocal refused
        if refused < 2:
            refused += 1
            raise OSError("input/output error")
        await delete(key)

    monkeypatch.setattr(store.blobs, "delete", stubborn)
    retention = store.retention(keep_s=-1.0)
    for _ in range(2):
        with pytest.raises(OSError, match="input/output"):
            await retention.sweep()
    assert len(await store.ledger.removals(10)) == 1
    await retention.sweep()
    assert store.left() == 0
    assert await store.ledger.removals(10) == []
    files = (await store.ledger.view_submission(submission_id, limit=10)).files
    assert all(file.removed_at for file in files)


async def test_the_oldest_go_beyond_the_size_and_those_in_use_count_but_stay(store: Store) -> None:
    ids = [await store.settled() for _ in range(3)]  # 7 bytes of content and 9 of output each
    running = await scenarios.running(store.ledger, await scenarios.opened(store.ledger))  # 8 bytes
    await store.retention(keep_bytes=2 * 16 + 8).sweep()
    removed = [(await store.ledger.view_submission(one, limit=1)).files[0].removed_at is not None for one in ids]
    assert removed == [True, False, False]
    await store.retention(keep_bytes=0).sweep()
    assert store.left() == 0
    assert (await store.ledger.file((await store.ledger.job(running)).file_id)).removed_at is None


async def test_events_go_only_as_far_as_they_are_logged(store: Store) -> None:
    await store.settled()
    newest = await store.ledger.newest_cursor()
    retention = store.retention(keep_events_s=-1.0)
    await retention.sweep()
    assert len((await store.ledger.events("all", after=Cursor(0), limit=100)).events) == newest
    store.logged = 5
    await retention.sweep()
    assert (await store.ledger.events("all", after=Cursor(0), limit=100)).events[0].cursor == 6
    store.logged = newest
    await retention.sweep()
    assert [event.cursor for event in (await store.ledger.events("all", after=Cursor(0), limit=9)).events] == [newest]


async def test_clean_up_goes_on_whatever_fails_and_less_often_while_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "CLEAN_UP_EVERY_S", 0.01)
    monkeypatch.setattr(retention, "CLEAN_UP_EVERY_MOST_S", 0.1)
    waits: list[float] = []
    sleep = asyncio.sleep

    async def noted(delay_s: float) -> None:
        waits.append(delay_s)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    answers: list[int | Exception] = [OSError("eio"), Unavailable("away"), 3, OutOfSpace("full"), 1, 0, 0]
    has_all = asyncio.Event()

    async def sweep() -> int:
        if not answers:
            has_all.set()
            await asyncio.Event().wait()
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    running = asyncio.create_task(retention.CleanUp({"this": sweep}, Health()).run())
    await has_all.wait()
    running.cancel()
    await asyncio.wait([running])
    assert waits == [0.01, 0.02, 0.04, 0.08, 0.1, 0.1, 0.01, 0.01]


async def test_a_removal_that_an_earlier_process_began_is_tried_again_though_all_is_kept_for_ever(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission_id = await store.settled()
    settled_at = (await store.ledger.view_submission(submission_id, limit=1)).submission.settled_at
    assert settled_at is not None
    await store.ledger.begin_removal(submission_id, settled_at)
    monkeypatch.setattr(retention, "EVERY_MOST_S", 0.01)
    monkeypatch.setattr(retention, "EVERY_LEAST_S", 0.01)
    delete, refused = store.blobs.delete, 0

    async def stubborn(key: str) -> None:
        nonlocal refused
        if refused < 2:
            refused += 1
            raise StorageUnavailable("input/output error")
        await delete(key)

    monkeypatch.setattr(store.blobs, "delete", stubborn)
    async with asyncio.timeout(10):
        await store.retention().run()  # returns
    assert store.left() == 0


async def test_a_clock_that_steps_removes_nothing_early(store: Store, wall_clock: WallClock) -> None:
    """Point 10, for bytes and events."""
    await store.settled()
    store.logged = newest = await store.ledger.newest_cursor()
    retention = store.retention(keep_s=3600.0, keep_events_s=3600.0, clock=wall_clock.clock)
    for step_s in (30 * DAY_S, -60 * DAY_S, 45 * DAY_S):
        wall_clock.step(step_s)
        await retention.sweep()
        assert store.left() == 2
        assert len((await store.ledger.events("all", after=Cursor(0), limit=100)).events) == newest
    wall_clock.step(-wall_clock.ahead_s)
    await store.retention(keep_s=-1.0).sweep()
    assert store.left() == 0

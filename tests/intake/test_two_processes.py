"""What a start does while another process of the same ledger and store is at work."""

import asyncio
import contextlib
import hashlib
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contracts.conftest import connections, database, empty, engine, ledger
from tests.contracts.ledgers import LedgerEngine
from tests.contracts.uploader import CONTENT
from tests.intake.counter import Counter, make_late
from tests.intake.desk import Body, Desk
from tests.support import scenarios
from tests.support.scenarios import CALLER
from tests.support.waiting import eventually

from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sql.ledger import SqlLedger
from dropmill.model.clock import utc_now
from dropmill.model.errors import BadRequest, OffsetMismatch, TooLarge, UploadTaken
from dropmill.model.ids import FileId, SubmissionId
from dropmill.model.nodes import Node
from dropmill.model.uploads import UploadState
from dropmill.ports.ledger.uploads import ResumableUpload

__all__ = ["connections", "database", "empty", "engine", "ledger"]  # fixtures

ROOT = Path(__file__).parents[2]
CHUNKED = random.Random(2).randbytes(1_000_000)


@contextlib.asynccontextmanager
async def uploader(
    engine: LedgerEngine, folder: Path, submission_id: SubmissionId, when: str
) -> AsyncIterator[tuple[FileId, asyncio.subprocess.Process]]:
    """Another process that waits with a file on its way; see `tests.contracts.uploader`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.contracts.uploader", engine.name, engine.place, str(folder)),
        *(submission_id, when),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(scenarios.LIVENESS_S):
            yield FileId((await process.stdout.readline()).decode().strip()), process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


class Replica(Counter):
    """Uploads of one of several servers on a ledger and a folder."""

    @classmethod
    async def of(cls, engine: LedgerEngine, folder: Path, lock: str) -> "Replica":
        ledger = await engine.open()
        node = Node(id=scenarios.node().id, host="here", lock=lock)
        await ledger.enter(node)
        store = DiskBlobStore(folder, lambda _: None, node=node.id, is_shared=True)
        await store.open()
        return cls(Desk(ledger, store, LocalBus()))

    async def settled_offset(self, upload: ResumableUpload) -> int:
        return (await self.uploads.find(CALLER, upload.file_id)).offset


@pytest.fixture
async def replicas(engine: LedgerEngine, ledger: SqlLedger, tmp_path: Path) -> AsyncIterator[list[Replica]]:
    made = [await Replica.of(engine, tmp_path, lock) for lock in ("a", "b")]
    yield made
    for replica in made:
        await replica.uploads.drain()
        await replica.desk.intake.drain()
        await replica.desk.blobs.close()


async def require_stored(replica: Replica, upload: ResumableUpload) -> None:
    async def is_stored() -> bool:
        return (await replica.file(upload)).state is UploadState.STORED

    await eventually(is_stored)
    file = await replica.file(upload)
    assert file.blob is not None
    content = await asyncio.to_thread(replica.desk.blobs.path(file.blob).read_bytes)
    assert content == CHUNKED
    assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert await asyncio.to_thread(lambda: list(replica.desk.blobs.incoming.rglob("*"))) == []


async def test_any_server_takes_any_chunk(replicas: list[Replica]) -> None:
    upload = await replicas[0].create(len(CHUNKED))
    for number, at in enumerate(range(0, len(CHUNKED), 150_000)):
        here, there = replicas[number % 2], replicas[(number + 1) % 2]
        assert await here.settled_offset(upload) == at
        chunk = CHUNKED[at : at + 150_000]
        assert (await here.append(upload, at, chunk)).offset == at + len(chunk)
        if at + len(chunk) < len(CHUNKED):
            assert await there.settled_offset(upload) == at + len(chunk)
    await require_stored(replicas[0], upload)


async def test_of_two_servers_with_the_same_bytes_the_later_one_gets_the_turn(replicas: list[Replica]) -> None:
    """The client's connection to the first died, and that one does not know it yet."""
    first, second = replicas
    upload = await first.create(len(CHUNKED))
    body = Body()
    sending = first.begin(upload, 0, body)
    body.send(CHUNKED[:300_000])
    await body.all_taken()
    offset = await second.settled_offset(upload)
    taken = asyncio.create_task(second.append(upload, offset, CHUNKED[offset:]))
    with contextlib.suppress(OffsetMismatch):  # the first has written more meanwhile; the client asks again
        await taken
    body.send(b"late" * 100_000)
    body.end()
    with pytest.raises((UploadTaken, TooLarge, BadRequest)):
        await sending
    if (offset := await second.settled_offset(upload)) < len(CHUNKED):
        await second.append(upload, offset, CHUNKED[offset:])
    await require_stored(second, upload)


async def test_a_start_leaves_the_uploads_of_others_to_them(replicas: list[Replica]) -> None:
    first, second = replicas
    upload = await first.create(len(CHUNKED))
    body = Body()
    sending = first.begin(upload, 0, body)
    body.send(CHUNKED[:300_000])
    await body.all_taken()
    await make_late(first, upload)
    await second.uploads.recover()
    await second.desk.intake.recover()
    assert await second.desk.ledger.expired_uploads(utc_now(), limit=9) == []
    assert len(await first.desk.ledger.expired_uploads(utc_now(), limit=9)) == 1
    body.send(CHUNKED[300_000:])
    body.end()
    assert (await sending).offset == len(CHUNKED)
    await require_stored(second, upload)


async def starting(ledger: SqlLedger, folder: Path, lock: str = "mine") -> Desk:
    """A process that starts on the same ledger and store, and has recovered."""
    node = Node(id=scenarios.node().id, host="here", lock=lock)
    store = DiskBlobStore(folder, node=node.id)
    await store.open()
    await ledger.enter(node)
    await ledger.recover(5, "gone")
    desk = Desk(ledger, store, LocalBus())
    await desk.intake.recover()
    return desk


@pytest.mark.parametrize("when", ["written", "committed"])
async def test_a_start_leaves_alone_what_another_process_has_not_recorded_yet(
    engine: LedgerEngine, ledger: SqlLedger, tmp_path: Path, when: str
) -> None:
    """Its bytes are in no table yet; without the node in their key they would look like leftovers."""
    submission_id = await scenarios.opened(ledger)
    async with uploader(engine, tmp_path, submission_id, when) as (file_id, process):
        desk = await starting(ledger, tmp_path)
        await process.communicate(b"\n")
        assert process.returncode == 0
    file = await ledger.file(file_id)
    assert file.state is UploadState.STORED
    assert file.blob is not None
    content = desk.blobs.path(file.blob).read_bytes()
    assert content == CONTENT
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    await desk.blobs.close()


@pytest.mark.parametrize("when", ["written", "committed"])
async def test_a_start_removes_what_its_own_predecessor_left(
    engine: LedgerEngine, ledger: SqlLedger, tmp_path: Path, when: str
) -> None:
    submission_id = await scenarios.opened(ledger)
    async with uploader(engine, tmp_path, submission_id, when) as (file_id, process):
        process.kill()
        await process.wait()
        desk = await starting(ledger, tmp_path, lock=str(process.pid))
    assert (await ledger.file(file_id)).state is UploadState.ABORTED
    left = [path for folder in (desk.blobs.incoming, desk.blobs.blobs) for path in folder.rglob("*") if path.is_file()]
    assert left == []
    await desk.blobs.close()

"""What a start does while another process of the same ledger and store is at work."""

import asyncio
import contextlib
import hashlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contracts.conftest import connections, database, empty, engine, ledger
from tests.contracts.ledgers import LedgerEngine
from tests.contracts.uploader import CONTENT
from tests.intake.desk import Desk
from tests.support import scenarios

from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sql.ledger import SqlLedger
from dropmill.model.ids import FileId, SubmissionId
from dropmill.model.nodes import Node
from dropmill.model.uploads import UploadState

__all__ = ["connections", "database", "empty", "engine", "ledger"]  # fixtures

ROOT = Path(__file__).parents[2]


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

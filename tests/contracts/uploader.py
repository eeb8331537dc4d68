"""A process that receives a file beside others.

    python -m tests.contracts.uploader ENGINE PLACE FOLDER SUBMISSION WHEN

It writes the bytes to the store in FOLDER, prints the file's id, and waits for a line; then it records the file.
WHEN is `written` to wait before the bytes are committed, `committed` to wait between that and the record.
"""

import asyncio
import os
import sys
from pathlib import Path

from tests.contracts.writer import ENGINES
from tests.support import scenarios

from dropmill.engines.disk.store import DiskBlobStore
from dropmill.model.ids import SubmissionId, new_file_id, new_job_id
from dropmill.model.nodes import Node

CONTENT = bytes(range(256)) * 2400  # more than is held in memory


async def main(engine: str, place: str, folder: Path, submission_id: SubmissionId, when: str) -> None:
    """Receive one file."""
    ledger = ENGINES[engine](place)
    await ledger.open(without_lock=True)
    node = Node(id=scenarios.node().id, host="elsewhere", lock=str(os.getpid()))
    await ledger.enter(node)
    store = DiskBlobStore(folder, node=node.id)
    await store.open()
    file_id = new_file_id()
    await ledger.start_upload(file_id, submission_id, "a.bin", "a.bin", len(CONTENT))
    writer = store.create(".bin")
    await writer.write(CONTENT)
    blob = await writer.commit() if when == "committed" else None
    print(file_id, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await ledger.store_upload(file_id, blob or await writer.commit(), new_job_id())
    await store.close()
    await ledger.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), SubmissionId(sys.argv[4]), sys.argv[5]))

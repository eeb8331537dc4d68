"""A process that writes into a ledger beside others.

`python -m benchmarks.ledger_writer PLACE SUBMISSION CALLERS FILES`: PLACE is a URL of Postgres or a path of SQLite.
Each caller takes its share of the files from the first byte to the end of an attempt: four changes and six events
each. When it is ready it prints a line, and begins when it is given one. Prints its seconds of CPU at the end, and how
many commits it made.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from dropmill.engines.postgres.ledger import PostgresLedger
from dropmill.engines.sql.ledger import SqlLedger
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.ids import Sha256, SubmissionId, new_file_id, new_job_id, new_node_id
from dropmill.model.jobs import AttemptOutcome, AttemptState, Claim
from dropmill.model.nodes import Node
from dropmill.model.uploads import StoredBlob


async def main(place: str, submission_id: SubmissionId, callers: int, files: int) -> None:
    """Open, wait for the others, write, close."""
    commits = 0

    def committed(_: object) -> None:
        nonlocal commits
        commits += 1

    ledger: SqlLedger
    if place.startswith("postgresql:"):
        # As with a bus that spans processes: then no process reads what the others commit.
        ledger = PostgresLedger(place, committed, is_told_of_others=True)
    else:
        ledger = SqliteLedger(Path(place), committed)
    ledger.patience_s = None  # a busy machine is no fault here
    await ledger.open(without_lock=True)
    await ledger.enter(Node(id=new_node_id(), host="here", lock=str(os.getpid())))
    for _ in range(8):  # statements are compiled and prepared
        await life(ledger, submission_id)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    cpu_s, commits = time.process_time(), 0
    left = iter(range(files))

    async def call() -> None:
        for _ in left:
            await life(ledger, submission_id)

    await asyncio.gather(*(call() for _ in range(callers)))
    print(f"{time.process_time() - cpu_s} {commits}", flush=True)
    await ledger.close()


async def life(ledger: SqlLedger, submission_id: SubmissionId) -> None:
    """Of one file; the job that is run to its end may be another caller's."""
    file_id = new_file_id()
    await ledger.start_upload(file_id, submission_id, "a.txt", "folder/a.txt", 1024)
    await ledger.store_upload(
        file_id, StoredBlob(key=f"{file_id}.txt", size=1024, sha256=Sha256("0" * 64)), new_job_id()
    )
    [order] = await ledger.claim(Claim())
    await ledger.end_attempt(
        order.job_id, order.number, AttemptOutcome(state=AttemptState.SUCCEEDED, exit_code=0, output_size=7)
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], SubmissionId(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))

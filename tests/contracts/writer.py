"""A process that writes into a ledger beside others: `python -m tests.contracts.writer ENGINE PLACE SUBMISSION FILES`.

It takes files of one submission from their first byte to their result, some at a time, in a ledger that exists.
PLACE is a path for `sqlite`, libpq's words for `postgres`.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support import scenarios

from dropmill.engines.postgres.ledger import PostgresLedger
from dropmill.engines.sql.ledger import SqlLedger
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.ids import SubmissionId

AT_ONCE = 100
ENGINES: Mapping[str, Callable[[str], SqlLedger]] = {
    "sqlite": lambda place: SqliteLedger(Path(place), lambda _: None),
    "postgres": lambda place: PostgresLedger(place, lambda _: None),
}


async def main(engine: str, place: str, submission_id: SubmissionId, files: int) -> None:
    """Open, write, close."""
    made = ENGINES[engine](place)
    await made.open(without_lock=True)
    await made.enter(scenarios.node(lock=str(os.getpid())))
    try:
        for begun in range(0, files, AT_ONCE):
            some = range(begun, min(begun + AT_ONCE, files))
            await asyncio.gather(*(scenarios.settle_one(made, submission_id) for _ in some))
    finally:
        await made.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], SubmissionId(sys.argv[3]), int(sys.argv[4])))

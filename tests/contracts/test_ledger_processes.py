"""Several processes on one database, and a database that crashes."""

import asyncio
import contextlib
import random
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from tests.contracts.ledgers import LedgerEngine, PostgresEngine
from tests.support import scenarios
from tests.support.postgres import Postgres, running

from dropmill.model.errors import StorageUnavailable
from dropmill.model.submissions import Counts
from dropmill.ports.ledger import Ledger

ROOT = Path(__file__).parents[2]
FILES = 834  # of each writer; six events a file
CRASHES = 10


async def test_two_processes_write_ten_thousand_events_without_a_hole(engine: LedgerEngine, ledger: Ledger) -> None:
    submissions = [await scenarios.opened(ledger) for _ in range(2)]
    writers = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.contracts.writer", engine.name, engine.place, submission_id, str(FILES)),
            cwd=ROOT,
        )
        for submission_id in submissions
    ]
    try:
        assert [await writer.wait() for writer in writers] == [0, 0]
    finally:
        for writer in writers:
            with contextlib.suppress(ProcessLookupError):
                writer.kill()
    told = await scenarios.all_events(ledger)  # that cursors are 1, 2, 3, ... is looked at there
    assert len(told) == 1 + 2 * (1 + FILES * 6) >= 10_000
    turns = sum(one.subject.submission_id != other.subject.submission_id for one, other in pairwise(told))
    print(f"{turns} times the other one's events came next")
    for submission_id in submissions:
        assert await scenarios.recount(ledger, submission_id) == Counts(succeeded=FILES)


@pytest.fixture(scope="module")
def durable() -> Iterator[Postgres]:
    """A server that keeps what it has acknowledged."""
    with running(is_durable=True) as server:
        yield server


async def test_of_what_was_acknowledged_nothing_is_lost_in_ten_crashes_of_the_database(durable: Postgres) -> None:
    """The server and all of its processes are killed in the middle of commits; the ledger's own process goes on."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    engine = PostgresEngine(durable, durable.make_database())
    ledger = await engine.open()
    await scenarios.save(ledger)
    submission_id = await scenarios.opened(ledger)
    acknowledged: set[str] = set()
    refused = 0

    async def write() -> None:
        nonlocal refused
        while True:
            try:
                acknowledged.add(await scenarios.settle_one(ledger, submission_id))
            except StorageUnavailable:
                refused += 1
                return

    for _ in range(CRASHES):
        before = len(acknowledged)
        writers = [asyncio.create_task(write()) for _ in range(20)]
        async with asyncio.timeout(scenarios.LIVENESS_S):
            while len(acknowledged) < before + 3:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        await asyncio.sleep(chance.random() * 0.1)
        await asyncio.to_thread(durable.kill)
        await asyncio.gather(*writers)
        await asyncio.to_thread(durable.start)
        assert await scenarios.settle_one(ledger, submission_id)
    assert refused == 20 * CRASHES

    told = await scenarios.all_events(ledger)
    settled = Counter(event.subject.job_id for event in told if event.name == "job.settled")
    assert set(settled.values()) == {1}
    assert acknowledged <= set(settled)
    counts = await scenarios.recount(ledger, submission_id)
    assert counts.succeeded == len(settled)
    await engine.close()

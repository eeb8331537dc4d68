"""Intakes on the real ports."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.intake.counter import Counter
from tests.intake.desk import Desk
from tests.support import scenarios

from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger


@pytest.fixture
async def desk(ledger: SqliteLedger, blobs: DiskBlobStore, bus: LocalBus) -> AsyncIterator[Desk]:
    made = Desk(ledger, blobs, bus)
    yield made
    await made.intake.drain()


@pytest.fixture
async def counter(desk: Desk) -> AsyncIterator[Counter]:
    made = Counter(desk)
    yield made
    await made.uploads.drain()


@pytest.fixture
async def other(tmp_path: Path, desk: Desk) -> AsyncIterator[Counter]:
    """What another process does with the same ledger and the same store."""
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", desk.bus.publish)
    await ledger.open(without_lock=True)
    await ledger.enter(scenarios.node(lock="another"))
    made = Counter(Desk(ledger, desk.blobs, desk.bus))
    yield made
    await made.uploads.drain()
    await ledger.close()

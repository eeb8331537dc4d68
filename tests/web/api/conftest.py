"""The live routes, served in the test's own loop."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.live_app import LiveApp
from tests.support.serving_in_process import served

from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger


@pytest.fixture
async def alone(tmp_path: Path, ledger: SqliteLedger, bus: LocalBus) -> AsyncIterator[LiveApp]:
    """The live routes, served; nothing is followed any more when they end."""
    made = LiveApp(tmp_path, ledger, bus)
    feeding = asyncio.create_task(made.services.live.feed.run())
    async with served(made.app) as made.port:
        await made.caught_up()
        yield made
        await made.let_go()
    feeding.cancel()
    await asyncio.wait([feeding])

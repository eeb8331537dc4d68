"""Every route over a real ledger and store of bytes, asked without a server; nothing processes what is sent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from quart import Quart
from tests.support.services import services_of

from dropmill.app import create_app
from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.settings import Settings
from dropmill.web.services import EXTENSION, Services


@contextlib.asynccontextmanager
async def all_routes(
    folder: Path, ledger: SqliteLedger, bus: LocalBus, **settings: Any
) -> AsyncIterator[tuple[Quart, Services]]:
    """An app with these settings, as text, and what its handlers use."""
    given = {"data": str(folder), "config": str(folder / "config.yaml"), "command": "true", "auth": "off", **settings}
    app = create_app(Settings.load(given, {}), owns_sockets=True)
    app.before_serving_funcs.clear()  # what the server would open is made here
    app.after_serving_funcs.clear()
    found = app.extensions[EXTENSION] = services_of(folder, ledger, bus)
    assert isinstance(found.blobs, DiskBlobStore)
    await found.blobs.open()
    feeding = asyncio.create_task(found.live.feed.run())
    try:
        yield app, found
    finally:
        feeding.cancel()
        await asyncio.wait([feeding])
        await found.intake.drain()
        await found.uploads.drain()
        await found.config._parser.close()
        await found.resolver.close()
        await found.blobs.close()

"""The live routes over a real ledger and bus; what processes and stores is left out."""

from pathlib import Path

from quart import Quart
from tests.support.services import services_of
from tests.support.waiting import eventually

from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.settings import Settings
from dropmill.web.api import events, live
from dropmill.web.server import connection, guard
from dropmill.web.server.capacity import Capacity
from dropmill.web.services import EXTENSION


class LiveApp:
    """An app of these routes; a fixture serves it, and runs its feed."""

    def __init__(self, folder: Path, ledger: SqliteLedger, bus: LocalBus, capacity: Capacity | None = None) -> None:
        self.ledger, self.bus = ledger, bus
        self.services = services_of(folder, ledger, bus)
        self.app = Quart(__name__)
        connection.install(self.app, capacity)
        guard.install(self.app, Settings())
        self.app.register_blueprint(live.live)
        self.app.register_blueprint(events.events)
        self.app.extensions[EXTENSION] = self.services
        self.port = 0

    @property
    def address(self) -> str:
        return f"ws://127.0.0.1:{self.port}/api/v1/live"

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def caught_up(self) -> None:
        """Return when the feed has read what was committed; otherwise a join gets the rest a window later."""
        newest = await self.ledger.newest_cursor()
        await eventually(lambda: self.services.live.feed.cursor >= newest)

    async def let_go(self) -> None:
        """Return when nothing is held open any more, and nobody is followed."""
        await eventually(lambda: not self.services.closers and not self.services.live.feed.follows_anything)

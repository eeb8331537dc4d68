"""What the blueprints need, in one place; `dropmill.app` fills it, a request finds it by `services()`.

The ledger is not among it: whatever a handler reads or changes goes through a capability, which is told the caller.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from quart import current_app

from dropmill.configfile.revisions import ConfigFile
from dropmill.health import Health
from dropmill.intake.resumable import Uploads
from dropmill.intake.submissions import Intake
from dropmill.live.joins import JoinRates
from dropmill.live.topics import Topics
from dropmill.live.views import Views
from dropmill.origin.resolver import Resolver
from dropmill.ports.blobs import BlobStore
from dropmill.processing.jobs import Jobs
from dropmill.processing.processor import Processor
from dropmill.settings import Settings
from dropmill.upkeep.event_log import EventLog

EXTENSION = "dropmill"


@dataclass(kw_only=True)
class Services:
    """Everything that is open while the server runs.

    Attributes:
        is_draining: whether the server is stopping: nothing new is taken.
        closers: end what would stay open for long, sockets and long polls, given a socket's code and reason.
    """

    settings: Settings
    processor: Processor
    blobs: BlobStore
    intake: Intake
    uploads: Uploads
    jobs: Jobs
    config: ConfigFile
    resolver: Resolver
    views: Views
    topics: Topics
    joins: JoinRates
    log: EventLog
    health: Health
    is_draining: bool = False
    closers: set[Callable[[int, str], Awaitable[None]]] = field(default_factory=set)


def services() -> Services:
    """The services of the app that handles this request."""
    found: Services = current_app.extensions[EXTENSION]
    return found

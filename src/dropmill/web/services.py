"""Everything that handlers use: `dropmill.app` makes the one `Services`, a handler gets it from `services()`.

The ledger is not part of it: handlers read and change things only through a capability, and pass it the caller.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from quart import current_app

from dropmill.access.policy import Policy
from dropmill.configfile.revisions import ConfigFile
from dropmill.health import Health
from dropmill.intake.resumable import Uploads
from dropmill.intake.submissions import Intake
from dropmill.live.notices import Notices
from dropmill.live.subscriber import LiveServices
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
        is_draining: whether the server is stopping and refuses new work.
        closers: functions that end one socket, long poll or event stream, given a close code and a reason.
    """

    settings: Settings
    policy: Policy
    processor: Processor
    blobs: BlobStore
    intake: Intake
    uploads: Uploads
    jobs: Jobs
    config: ConfigFile
    resolver: Resolver
    views: Views
    topics: Topics
    live: LiveServices
    notices: Notices
    log: EventLog
    health: Health
    is_draining: bool = False
    closers: set[Callable[[int, str], Awaitable[None]]] = field(default_factory=set)


def services() -> Services:
    """The services of the current request's app."""
    found: Services = current_app.extensions[EXTENSION]
    return found

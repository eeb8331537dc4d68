"""Everything that handlers use: `dropmill.app` makes the one `Services`, a handler gets it from `services()`.

The ledger is not part of it: handlers read and change things only through a capability, and pass it the caller.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quart import current_app

from dropmill.access.accounts import Accounts
from dropmill.access.links import Links
from dropmill.access.policy import Policy
from dropmill.access.quotas import Quotas
from dropmill.access.refusals import Refusals
from dropmill.access.sessions import Sessions
from dropmill.access.sign_ins import End, SignIns
from dropmill.access.tokens import Tokens
from dropmill.access.visits import Visits
from dropmill.configfile.revisions import ConfigFile
from dropmill.health import Health
from dropmill.intake.resumable import Uploads
from dropmill.intake.submissions import Intake
from dropmill.live.notices import Notices
from dropmill.live.subscriber import LiveServices
from dropmill.live.topics import Topics
from dropmill.live.views import Views
from dropmill.model.caller import Caller
from dropmill.origin.resolver import Resolver
from dropmill.ports.blobs import BlobStore
from dropmill.processing.jobs import Jobs
from dropmill.processing.processor import Processor
from dropmill.settings import Settings
from dropmill.upkeep.event_log import EventLog
from dropmill.upkeep.membership import Membership

if TYPE_CHECKING:
    from dropmill.access.oidc import Oidc  # its libraries take a while to load, and most servers have no provider

EXTENSION = "dropmill"

SIGN_IN = 4401  # WebSocket close code: sign in again

Closer = Callable[[int, str], Awaitable[None]]
"""Ends one socket, long poll or event stream, given a close code and a reason."""


@dataclass(kw_only=True)
class Services:
    """Everything that is open while the server runs.

    Attributes:
        oidc: signs people in with an identity provider; None without one.
        membership: keeps the lease of this process; None: it has none, because no other process shares its ledger.
        is_open: whether whoever reaches the server may use it without signing in.
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
    accounts: Accounts
    sessions: Sessions
    tokens: Tokens
    sign_ins: SignIns
    refusals: Refusals
    quotas: Quotas
    links: Links
    visits: Visits
    oidc: "Oidc | None" = None
    membership: Membership | None = None
    is_open: bool = True
    is_draining: bool = False
    closers: set[Closer] = field(default_factory=set)

    def held(self, caller: Caller, end: End, *, outlives_expiry: bool = False) -> AbstractContextManager[None]:
        """Have `end` called if what the caller's rights depend on ends meanwhile: a sign-in, or a link.

        Args:
            caller: whose connection it is.
            end: ends the connection; called at most once.
            outlives_expiry: whether the connection goes on when it ends because its time is over.
        """
        if caller.link is not None:
            return self.visits.held(caller, end, outlives_expiry=outlives_expiry)
        return self.sign_ins.held(caller, end, outlives_session=outlives_expiry)

    @contextmanager
    def held_open(self, caller: Caller, close: Closer) -> Iterator[None]:
        """Have `close` called once the server stops, or the caller is no longer signed in, or the link has ended."""

        async def sign_out() -> None:
            await close(SIGN_IN, "You are no longer signed in." if caller.link is None else "The link has ended.")

        self.closers.add(close)
        try:
            with self.held(caller, sign_out):
                yield
        finally:
            self.closers.discard(close)


def services() -> Services:
    """The services of the current request's app."""
    found: Services = current_app.extensions[EXTENSION]
    return found

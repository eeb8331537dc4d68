"""People who have signed in, for tests: a request or a handshake names one in a header.

`guard.find_caller` is all that is replaced; what the server makes of a caller is real.
"""

from collections.abc import Mapping

import pytest
from quart import g
from tests.support import scenarios
from tests.support.scenarios import CLIENT

from dropmill.access.visits import Entry
from dropmill.model.caller import EVERY_SCOPE, Authentication, Caller, Role, Scope
from dropmill.model.ids import BrowserKey, LinkId, Owner, SubmissionId, VisitId
from dropmill.model.links import Link, LinkKind, Visit, only, sender_of
from dropmill.web.server import guard
from dropmill.web.server.caller import Connection
from dropmill.web.server.link_paths import link_path

HEADER = "Test-Caller"


def account(
    name: str,
    role: Role = Role.VIEWER,
    scopes: frozenset[Scope] = EVERY_SCOPE,
    authentication: Authentication = Authentication.TOKEN,
) -> Caller:
    """Somebody with an account."""
    return Caller(
        client=CLIENT,
        account=name,
        owner=Owner(f"account:{name.encode().hex():0<32}"),
        role=role,
        scopes=scopes,
        authentication=authentication,
    )


ADA, BOB = account("ada"), account("bob")
OPAL = account("opal", Role.OPERATOR)
ROOT = account("root", Role.ADMIN)
SENDER = account("sender", Role.ADMIN, frozenset({Scope.SEND}))
READER = account("reader", Role.ADMIN, frozenset({Scope.READ}))
BY_PAGE = account("page", Role.ADMIN, authentication=Authentication.SESSION)

CALLERS: Mapping[str, Caller] = {one.account or "": one for one in (ADA, BOB, OPAL, ROOT, SENDER, READER, BY_PAGE)}


def visitor(scopes: frozenset[Scope], owner: Owner, *, sees_results: bool) -> Caller:
    """Somebody who has entered a link."""
    return Caller(
        client=CLIENT,
        credential=VisitId("0" * 32),
        owner=owner,
        role=Role.VIEWER,
        scopes=scopes,
        link=LINK_ID,
        sees_results=sees_results,
        authentication=Authentication.LINK,
    )


LINK_ID = LinkId("1" * 32)
_BY_REQUEST = sender_of(LINK_ID, BrowserKey("b" * 64))
VISITORS: Mapping[str, Caller] = {
    "visitor": visitor(frozenset({Scope.SEND, Scope.READ}), _BY_REQUEST, sees_results=True),
    "visitor who only sends": visitor(frozenset({Scope.SEND, Scope.READ}), _BY_REQUEST, sees_results=False),
    "visitor who looks": visitor(frozenset({Scope.READ}), only(SubmissionId("2" * 32)), sees_results=True),
}
"""Those who have entered a link; requests name them below the link's path alone."""


ENTRY = Entry(
    visit=Visit(
        id=VisitId("0" * 32),
        link_id=LINK_ID,
        key=BrowserKey("b" * 64),
        name=None,
        began_at=scenarios.FAR_FUTURE,
        client=CLIENT,
    ),
    link=Link(
        id=LINK_ID,
        kind=LinkKind.REQUEST,
        owner=ADA.owner,
        made_by=None,
        account_id=None,
        label="of nobody",
        made_at=scenarios.FAR_FUTURE,
        expires_at=scenarios.FAR_FUTURE,
    ),
)
"""What they have entered; the ledger has no such link."""


def named(caller: Caller | None) -> dict[str, str]:
    """The headers of a request of this caller; None: of nobody."""
    everybody = {**CALLERS, **VISITORS}
    return {} if caller is None else {HEADER: next(name for name, one in everybody.items() if one == caller)}


async def find_caller(connection: Connection) -> Caller | None:
    """Whom the header names; nobody without it."""
    name = connection.headers.get(HEADER)
    if link_path(connection) is None:
        return None if name is None else CALLERS[name]
    if name is None or name not in VISITORS:
        return None
    g.entry = ENTRY
    return VISITORS[name]


@pytest.fixture
def signed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are made by those whom they name; the others, by nobody."""
    monkeypatch.setattr(guard, "find_caller", find_caller)

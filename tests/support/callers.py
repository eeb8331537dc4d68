"""People who have signed in, for tests: a request or a handshake names one in a header.

`guard.find_caller` is all that is replaced; what the server makes of a caller is real.
"""

from collections.abc import Mapping

import pytest
from tests.support.scenarios import CLIENT

from dropmill.model.caller import EVERY_SCOPE, Authentication, Caller, Role, Scope
from dropmill.model.ids import Owner
from dropmill.web.server import guard
from dropmill.web.server.caller import Connection

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


def named(caller: Caller | None) -> dict[str, str]:
    """The headers of a request of this caller; None: of nobody."""
    return {} if caller is None else {HEADER: caller.account or ""}


async def find_caller(connection: Connection) -> Caller | None:
    """Whom the header names; nobody without it."""
    name = connection.headers.get(HEADER)
    return None if name is None else CALLERS[name]


@pytest.fixture
def signed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are made by those whom they name; the others, by nobody."""
    monkeypatch.setattr(guard, "find_caller", find_caller)

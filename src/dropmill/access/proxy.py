"""Who is signed in at a proxy (`--auth-header`): what its headers say, and which role its groups give.

Only `web/server/forwarding` takes these headers from a request, and keeps them only if a trusted proxy is the
connection's own peer. What is malformed is refused, never guessed at: a header that is there twice was sent by the
client, too.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from dropmill.model.accounts import checked_name
from dropmill.model.caller import Role
from dropmill.model.errors import BadRequest

_BETWEEN_GROUPS = re.compile("[,|]")  # Authelia and oauth2-proxy write commas, authentik bars


@dataclass(frozen=True, kw_only=True, slots=True)
class Vouched:
    """The headers in which a trusted proxy says who is signed in, as they arrived.

    Attributes:
        names: the values of `--auth-header`; the proxy writes one.
        groups: the values of `--auth-groups-header`.
    """

    names: Sequence[bytes]
    groups: Sequence[bytes] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """Whom a proxy, or an issuer of tokens, vouches for.

    Attributes:
        name: as an account's name may be.
        role: what the groups give; None: groups decide nothing.
    """

    name: str
    role: Role | None


def claim_of(vouched: Vouched, roles: Iterable[tuple[Role, str]]) -> Claim | None:
    """Whom a proxy vouches for; None if it says that nobody is signed in.

    Args:
        vouched: its headers.
        roles: roles with a group that gives it. Of several the highest counts; whoever is in none is a viewer.

    Raises:
        BadRequest: a header is there twice, is not UTF-8, or names somebody who cannot be an account; groups count
            also if nobody is signed in, because then a client has sent them.
    """
    name = _text(vouched.names, "--auth-header").strip()
    groups = [group.strip() for group in _BETWEEN_GROUPS.split(_text(vouched.groups, "--auth-groups-header"))]
    if not name:
        return None
    return Claim(name=checked_name(name, "--auth-header"), role=role_of(groups, list(roles)))


def role_of(groups: Collection[str], roles: Collection[tuple[Role, str]]) -> Role | None:
    """The highest role that these groups give, viewer if they give none; None if groups decide nothing."""
    found = {role for role, group in roles if group in groups}
    return max(found, key=list(Role).index, default=Role.VIEWER) if roles else None


def _text(values: Sequence[bytes], setting: str) -> str:
    if len(values) > 1:
        raise BadRequest(f"The header of {setting} is there more than once; the proxy must replace what clients send.")
    try:
        return values[0].decode() if values else ""
    except UnicodeDecodeError:
        raise BadRequest(f"The header of {setting} is not UTF-8.") from None

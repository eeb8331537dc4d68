"""Addresses below a link: which link they are of, and where its secret stays.

Everything of a link lies below `/r/<id>` (somebody sends files) or `/s/<id>` (somebody looks at a submission). This
works on the ASGI scope, before Quart: the API below a link becomes the API itself, with the link noted in the scope,
where no client can write. So one set of routes serves both, and which caller a request has follows from its address
alone: see `dropmill.web.server.caller`. URLs that routes make begin with the link's prefix, as with any other sub-path.

For browsers without scripts a link has the secret in its path. It is taken out of there before anything can log it.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from quart import Quart, Request, Websocket

from dropmill.model.ids import LinkId
from dropmill.model.links import LETTERS, LinkKind

LINK: Final = "dropmill.link"
"""Key of the scope: the link below which the address lies, as `LinkPath`; missing for all other addresses."""

_KINDS: Final = {letter: kind for kind, letter in LETTERS.items()}

_PATH: Final = re.compile(r"/([rs])/([0-9a-f]{32})(/.*)?", re.DOTALL)
_SECRET: Final = re.compile(r"/[A-Za-z0-9_-]{43}")
_IN_A_PATH: Final = re.compile(r"(/[rs]/[0-9a-f]{32}/)[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
DOOR: Final = "/enter"


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkPath:
    """What an address says of a link.

    Attributes:
        id: which one; there may be none.
        kind: what it is said to be for.
        base: how the paths of everything that belongs to it begin.
        secret: that was in the path; None if none was.
    """

    id: LinkId
    kind: LinkKind
    base: str
    secret: str | None = None


def install(app: Quart) -> None:
    """Note the link of each address. What trusted proxies forward must be applied first, so install that later."""
    inner = app.asgi_app

    async def of_a_link(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket"):
            scope = {**scope, **_noted(scope)}
        await inner(scope, receive, send)

    app.asgi_app = of_a_link  # type: ignore[method-assign]


def _noted(scope: Any) -> dict[str, Any]:
    base = scope.get("root_path", "")
    found = _PATH.fullmatch(scope["path"].removeprefix(base))
    if found is None:
        return {}
    letter, link_id, rest = found.groups()
    prefix = f"{base}/{letter}/{link_id}"
    link = LinkPath(id=LinkId(link_id), kind=_KINDS[letter], base=prefix)
    rest = rest or ""
    if rest.startswith(("/api/", "/static/")):
        return {LINK: link, "root_path": prefix}  # ASGI: the path includes the root path
    if _SECRET.fullmatch(rest) is None:
        return {LINK: link, **(_at(f"{prefix}/-") if rest == DOOR else {})}  # nobody names the door itself
    return {
        LINK: LinkPath(id=link.id, kind=link.kind, base=prefix, secret=rest[1:]),
        **_at(prefix + DOOR),
    }


def _at(path: str) -> dict[str, Any]:
    return {"path": path, "raw_path": path.encode()}


def link_path(connection: Request | Websocket) -> LinkPath | None:
    """The link below which a request or socket is addressed; None for all other addresses."""
    found: Any = connection.scope.get(LINK)
    return found if isinstance(found, LinkPath) else None


def without_secrets(path: str) -> str:
    """A path as it was sent, for the log: without the secret of a link."""
    return _IN_A_PATH.sub(r"\1...", path)

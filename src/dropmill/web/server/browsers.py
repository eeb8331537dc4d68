"""Browsers told apart by a cookie (`--private`): on a server without accounts, each sees what it has sent itself.

Whoever has the cookie is that browser, so it holds a random secret, which scripts cannot read and other sites do not
send. The ledger gets its hash alone. There is no way back to what was sent by a browser that has lost its cookie.
"""

import hashlib
import re
import secrets
from dataclasses import replace

from quart import Response, g, request

from dropmill.access.policy import Action
from dropmill.model.caller import Caller
from dropmill.model.ids import BrowserKey, Owner
from dropmill.web.routes import Access
from dropmill.web.server.caller import Connection, prefixed

COOKIE = "dropmill_browser"
SECRET_BYTES = 32
MAX_AGE_S = 400 * 24 * 3600  # the most that browsers keep one; each page that is opened begins it anew

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")  # `SECRET_BYTES` in base64


def as_browser(caller: Caller, connection: Connection, base: str) -> Caller:
    """The caller as the browser whose cookie it sends; as a new one if it sends none of ours.

    Args:
        caller: who asks.
        connection: the request or socket.
        base: how the paths of URLs begin.
    """
    given = connection.cookies.get(prefixed(COOKIE, connection, base), "")
    g.is_new_browser = _SECRET.fullmatch(given) is None
    g.browser_secret = secrets.token_urlsafe(SECRET_BYTES) if g.is_new_browser else given
    key = BrowserKey(hashlib.sha256(g.browser_secret.encode()).hexdigest())
    return replace(caller, browser=key, owner=Owner(f"browser:{key}"))


def give_cookie(response: Response, access: Access, base: str) -> None:
    """Have a browser keep its cookie, with a page, or its first submission or link; nothing without `as_browser`.

    Args:
        response: to the current request, which succeeded.
        access: to its route.
        base: how the paths of URLs begin.
    """
    secret = g.get("browser_secret")
    has_sent = access in (Action.SEND, Action.MAKE_LINKS) and g.get("is_new_browser", False)
    if secret is None or not (request.blueprint == "pages" or has_sent):
        return
    response.set_cookie(
        prefixed(COOKIE, request, base),
        secret,
        max_age=MAX_AGE_S,
        path=f"{base}/",
        secure=request.scheme == "https",
        httponly=True,
        samesite="Lax",
    )

"""Signing in and out, and one's own sessions."""

from collections.abc import Mapping
from typing import Any

from quart import Blueprint, Response, request

from dropmill.access.sessions import SignedIn
from dropmill.model.errors import BadRequest
from dropmill.model.ids import SessionId
from dropmill.web.server import body
from dropmill.web.server.caller import client_of, cookie_name, current_caller, prefixed, session_cookie
from dropmill.web.server.guard import require_private
from dropmill.web.services import services
from dropmill.wire.accounts import session_json, signed_in_json

sessions = Blueprint("sessions", __name__, url_prefix="/api/v1")

BODY_MAX = 16 * 1024

KNOWN_COOKIE = "dropmill_known"
KNOWN_S = 365 * 86400


def words(given: Mapping[str, Any], *names: str) -> list[str]:
    """The texts of these names.

    Raises:
        BadRequest: one is missing or no text.
    """
    for name in names:
        if not isinstance(given.get(name), str):
            raise BadRequest(f"`{name}` must be a text.")
    return [str(given[name]) for name in names]


@sessions.post("/session")
async def sign_in() -> Response:
    """Sign in with a name and a password; with `first`, make the first account with them."""
    require_private(request, services().settings)
    signed_in = await by_fields(await body.read_json_object(limit=BODY_MAX))
    response = Response(status=204)
    set_cookie(response, signed_in)
    return response


async def by_fields(given: Mapping[str, Any]) -> SignedIn:
    """Sign in with the `name`, `password` and perhaps `first` that a request gave.

    Raises:
        BadRequest, WrongCredentials, TooManyAttempts, Unavailable: see `Sessions`.
    """
    name, password = words(given, "name", "password")
    client = client_of(request)
    if "first" in given:
        (first,) = words(given, "first")
        return await services().sessions.sign_in_first(client, first, name, password)
    mark = request.cookies.get(prefixed(KNOWN_COOKIE, request, services().settings.base_path))
    return await services().sessions.sign_in(client, name, password, replaced=session_cookie(request), mark=mark)


@sessions.get("/session")
async def who() -> Any:
    """Who is signed in."""
    return signed_in_json(current_caller())


@sessions.delete("/session")
async def sign_out() -> Response:
    """Sign out; also answered so if nobody was signed in."""
    await services().sessions.sign_out(current_caller())
    response = Response(status=204)
    drop_cookie(response)
    return response


@sessions.put("/session/password")
async def change_password() -> Response:
    """Set another password, and end the account's other sessions."""
    require_private(request, services().settings)
    current, new = words(await body.read_json_object(limit=BODY_MAX), "current", "new")
    mark = await services().sessions.change_password(current_caller(), current, new)
    response = Response(status=204)
    _set_mark(response, mark)
    return response


@sessions.get("/sessions")
async def index() -> Any:
    """The account's sessions, the newest first."""
    caller = current_caller()
    return {"items": [session_json(session, caller) for session in await services().sessions.list(caller)]}


@sessions.delete("/sessions/<session_id>")
async def end(session_id: str) -> Response:
    """End one of the account's sessions."""
    await services().sessions.end(current_caller(), SessionId(session_id))
    return Response(status=204)


def set_cookie(response: Response, signed_in: SignedIn) -> None:
    """Give a session's secret to the browser. Scripts cannot read it; from other sites only a link sends it."""
    base = services().settings.base_path
    response.set_cookie(
        cookie_name(request, base),
        signed_in.secret,
        max_age=int(services().settings.session_lifetime),
        path=base or "/",
        secure=request.scheme == "https",
        httponly=True,
        samesite="Lax",
    )
    if signed_in.mark is not None:
        _set_mark(response, signed_in.mark)


def _set_mark(response: Response, mark: str) -> None:
    """Have the browser known to whoever signed in; it stays so after they have signed out."""
    base = services().settings.base_path
    response.set_cookie(
        prefixed(KNOWN_COOKIE, request, base),
        mark,
        max_age=KNOWN_S,
        path=base or "/",
        secure=request.scheme == "https",
        httponly=True,
        samesite="Strict",
    )


def drop_cookie(response: Response) -> None:
    """Have the browser forget the session's secret."""
    base, is_https = services().settings.base_path, request.scheme == "https"
    name = cookie_name(request, base)
    response.delete_cookie(name, path=base or "/", secure=is_https, httponly=True, samesite="Lax")

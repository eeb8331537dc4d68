"""The page `/sign-in`, and the way to the identity provider and back; all of it also works without scripts.

A person who comes back from the provider in vain sees `/sign-in` with the reason, and can try again from there.
"""

import re
from typing import Any
from urllib.parse import urlencode

from quart import Response, redirect, render_template, request

from dropmill.model.errors import (
    BadRequest,
    DropmillError,
    NotFound,
    SignInFailed,
    TooManyAttempts,
    Unavailable,
    WrongCredentials,
)
from dropmill.web.api import query, sessions
from dropmill.web.server import body
from dropmill.web.server.caller import caller_if_known, client_of, prefixed, session_cookie
from dropmill.web.server.guard import require_private
from dropmill.web.services import services

NEXT_MAX = 4000  # characters of an address to go on to after a sign-in
COOKIE = "dropmill_sign_in"  # tells the browser that has begun to sign in with the provider from others
PARAMETER_MAX = 5000  # characters of what a provider sends back


async def sign_in_page() -> Any:
    """The page for signing in, with a form that needs no script. After it, the browser goes on to `next`.

    Whoever has signed in, or need not, goes there at once.
    """
    wanted = _wanted()
    refused: DropmillError | None = None
    if request.method == "GET" and caller_if_known() is not None:
        return redirect(wanted, 303)
    if request.method == "POST":
        require_private(request, services().settings)
        try:
            signed_in = await sessions.by_fields(await body.read_form(limit=sessions.BODY_MAX))
        except (BadRequest, WrongCredentials, TooManyAttempts) as error:
            refused = error
        else:
            response = Response(status=303, headers={"Location": wanted})
            sessions.set_cookie(response, signed_in)
            return response
    page = await _page(wanted, refused=refused)
    return page, refused.status if refused is not None else 200


async def begin() -> Any:
    """Send the browser to the provider; by way of the page with the button, if another site has led here.

    Raises:
        NotFound: this server has none.
    """
    oidc, wanted = services().oidc, _wanted()
    if oidc is None:
        raise NotFound("There is nothing at this address.")
    if caller_if_known() is not None:
        return redirect(wanted, 303)
    if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):  # no session without the person's wish
        return redirect(_address(wanted), 303)
    try:
        require_private(request, services().settings)
        begun = await oidc.begin(client_of(request), _browser(), wanted)
    except DropmillError as error:
        return await _failed(error, wanted)
    response = Response(status=303, headers={"Location": begun.url})
    response.set_cookie(
        _cookie_name(),
        begun.browser,
        max_age=int(begun.lasts_s),
        path=services().settings.base_path or "/",
        secure=request.scheme == "https",
        httponly=True,
        samesite="Lax",  # the provider sends the browser back by a link or a redirection
    )
    return response


async def finish() -> Any:
    """Sign in whom the provider has sent back, and go on to where they wanted to go.

    Raises:
        NotFound: this server has no provider.
    """
    oidc, browser, wanted = services().oidc, _browser(), f"{services().settings.base_path}/"
    if oidc is None:
        raise NotFound("There is nothing at this address.")
    client = client_of(request)
    try:
        require_private(request, services().settings)
        answer = _answer()
        pending = await oidc.take(client, browser, answer)
        wanted = pending.next
        signed_in = await oidc.finish(client, browser or "", answer, replaced=session_cookie(request))
    except DropmillError as error:
        return await _failed(error, wanted)
    response = Response(status=303, headers={"Location": wanted})
    sessions.set_cookie(response, signed_in)
    return response


def _answer() -> dict[str, str]:
    """What the provider sends in the address (RFC 6749, section 4.1.2; RFC 9207)."""
    given = {
        "state": query.text("state", most=PARAMETER_MAX),
        "code": query.text("code", most=PARAMETER_MAX),
        "error": query.text("error", most=PARAMETER_MAX),
        "iss": query.text("iss", most=PARAMETER_MAX),
    }
    return {name: value for name, value in given.items() if value is not None}


async def _failed(error: DropmillError, wanted: str) -> Response:
    """The page with the reason, from which one can try again."""
    response = Response(await _page(wanted, failed=error), status=error.status)
    if isinstance(error, Unavailable):
        response.headers["Retry-After"] = "5"
    if isinstance(error, TooManyAttempts):
        response.headers["Retry-After"] = str(error.extra["retry_after"])
    if isinstance(error, SignInFailed):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def _page(wanted: str, *, refused: DropmillError | None = None, failed: DropmillError | None = None) -> str:
    found = services()
    provider = None
    if found.oidc is not None:  # on the public URL: whoever comes back there must have the cookie there
        provider = {"name": found.oidc.name, "url": f"{found.settings.public_url}/sign-in/oidc{_after(wanted)}"}
    return await render_template(
        "sign-in.html",
        offers_first=await found.sessions.offers_first(),
        refused=refused,
        failed=failed,
        provider=provider,
        address=_address(wanted),
    )


def _address(wanted: str) -> str:
    """The path of the sign-in page that leads on to where somebody wants to go."""
    return f"{services().settings.base_path}/sign-in{_after(wanted)}"


def _after(wanted: str) -> str:
    return "" if wanted == f"{services().settings.base_path}/" else "?" + urlencode({"next": wanted})


def _wanted() -> str:
    return local_path(query.text("next", most=NEXT_MAX), services().settings.base_path)


def _browser() -> str | None:
    found: str | None = request.cookies.get(_cookie_name())
    return found


def _cookie_name() -> str:
    return prefixed(COOKIE, request, services().settings.base_path)


def local_path(wanted: str | None, base: str) -> str:
    """The page of this site to go on to; the first one if the address leads elsewhere, as a link of somebody else may.

    Args:
        wanted: a path, with or without `base`; None if none was given.
        base: path prefix of this site behind a proxy; empty without one.
    """
    # Browsers read a backslash as a slash, leave out tabs and line ends, and take two slashes for the start of a host.
    if wanted is None or not wanted.isprintable() or "\\" in wanted or not re.match("/(?!/)", wanted):
        return f"{base}/"
    return wanted if base and f"{wanted}/".startswith(f"{base}/") else f"{base}{wanted}"

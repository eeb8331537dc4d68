"""Entering a link, and what its visitors may know of it. All of this is below a link, and nowhere else."""

from collections.abc import Mapping
from typing import Any

from quart import Blueprint, Response, jsonify, request
from werkzeug.exceptions import NotFound as NoRoute

from dropmill.access.links import Entered
from dropmill.access.visits import Entry
from dropmill.model.clock import utc_now
from dropmill.model.errors import BadRequest, NotFound
from dropmill.web.server import body
from dropmill.web.server.caller import client_of, current_entry, link_cookie_name
from dropmill.web.server.guard import require_private
from dropmill.web.server.link_paths import LinkPath, link_path
from dropmill.web.services import services
from dropmill.wire.links import InvitationJson, invitation_json

invitations = Blueprint("invitations", __name__, url_prefix="/api/v1")

BODY_MAX = 16 * 1024


@invitations.post("/enter")
async def enter() -> Response:
    """Let this browser in: the answer has its cookie."""
    given = await body.read_json_object(limit=BODY_MAX)
    secret = given.get("secret")
    if not isinstance(secret, str):
        raise BadRequest("`secret` must be a text.")
    entered = await enter_with(secret, given)
    response: Response = jsonify(invitation_json(entered.link, entered.visit.name))
    give_cookie(response, entered)
    return response


@invitations.get("/invitation")
async def read() -> Any:
    """The link as it is now, for who has entered it."""
    return await invitation_of(entry_of_visitor())


def this_link() -> LinkPath:
    """The link below which the current request is addressed."""
    found = link_path(request)
    if found is None:
        raise AssertionError("the guard lets nobody here without a link")
    return found


def entry_of_visitor() -> Entry:
    """The visit of the current request's caller."""
    found = current_entry()
    if found is None:
        raise AssertionError("the guard lets nobody here who has not entered")
    return found


async def invitation_of(entry: Entry) -> InvitationJson:
    """The link of a visit, with what may still be sent by it."""
    try:
        link = await services().links.live(entry.link.id)
    except NotFound:
        raise NoRoute from None
    return invitation_json(link, entry.visit.name)


async def enter_with(secret: str, given: Mapping[str, Any]) -> Entered:
    """Enter the link of the current request, with the `passphrase` and the `name` that it gave.

    Raises:
        NoRoute: there is no such link, or its secret is another.
        BadRequest, LinkAsks, TooManyAttempts, Unavailable: see `Links.enter`.
    """
    passphrase, name = (_text(given, each) for each in ("passphrase", "name"))
    found, link, entry = services(), this_link(), current_entry()
    if not found.is_open:
        require_private(request, found.settings)
    try:
        entered = await found.links.enter(
            client_of(request),
            link.id,
            secret,
            passphrase=passphrase,
            name=name,
            known=None if entry is None else entry.visit,
        )
    except NotFound:
        raise NoRoute from None
    if entered.link.kind is not link.kind:
        raise NoRoute
    return entered


def give_cookie(response: Response, entered: Entered) -> None:
    """Give a visit's secret to the browser, for this link alone. Scripts cannot read it."""
    if entered.secret is None:
        return
    response.set_cookie(
        link_cookie_name(request),
        entered.secret,
        max_age=max(int((entered.link.expires_at - utc_now()).total_seconds()), 1),
        path=this_link().base,
        secure=request.scheme == "https",
        httponly=True,
        samesite="Lax",
    )


def _text(given: Mapping[str, Any], name: str) -> str | None:
    found = given.get(name)
    if not (found is None or isinstance(found, str)):
        raise BadRequest(f"`{name}` must be a text.")
    return found

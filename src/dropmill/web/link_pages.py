"""The pages of links, for people without an account. They work without scripts, too, and lead nowhere else."""

from typing import Any

from quart import Blueprint, Response, render_template, request
from werkzeug.exceptions import NotFound as NoRoute

from dropmill.access.links import asked_by
from dropmill.model.errors import BadRequest, DropmillError, LinkAsks, NotFound, TooManyAttempts
from dropmill.model.ids import SubmissionId
from dropmill.model.links import Link, LinkKind
from dropmill.web.api.invitations import (
    BODY_MAX,
    enter_with,
    entry_of_visitor,
    give_cookie,
    invitation_of,
    this_link,
)
from dropmill.web.pages import rules_for_files
from dropmill.web.server import body
from dropmill.web.server.caller import current_caller, current_entry
from dropmill.web.server.compression import compress_page
from dropmill.web.services import services
from dropmill.wire.links import InvitationJson

link_pages = Blueprint("link_pages", __name__)
link_pages.after_request(compress_page)

LISTED = 50  # submissions on the page of a link


@link_pages.get("/r/<link_id>", defaults={"letter": "r"})
@link_pages.get("/s/<link_id>", defaults={"letter": "s"})
async def home(letter: str, link_id: str) -> Any:
    """The page of a link: for sending, or of one submission; the way in for who has not entered yet."""
    entry = current_entry()
    if entry is None:
        return await _way_in(await _live(), asks=())
    invitation = await invitation_of(entry)
    if entry.link.kind is LinkKind.RESULT and entry.link.submission_id is not None:
        return await _submission_page(invitation, entry.link.submission_id)
    listed, _ = await services().views.submissions(current_caller(), before=None, limit=LISTED)
    return await render_template(
        "link-request.html",
        page_data={"invitation": invitation, "submissions": listed, **_rules(invitation)},
        invitation=invitation,
        submissions=listed,
        accept=",".join(services().settings.accept),
        client_ip=current_caller().client.ip,
    )


@link_pages.get("/r/<link_id>/submissions/<submission_id>")
async def submission(link_id: str, submission_id: str) -> Any:
    """One submission of this visitor.

    Raises:
        NoRoute: there is none.
    """
    invitation = await invitation_of(entry_of_visitor())
    return await _submission_page(invitation, SubmissionId(submission_id))


@link_pages.get("/r/<link_id>/enter", defaults={"letter": "r"})
@link_pages.get("/s/<link_id>/enter", defaults={"letter": "s"})
@link_pages.post("/r/<link_id>/enter", defaults={"letter": "r"})
@link_pages.post("/s/<link_id>/enter", defaults={"letter": "s"})
async def door(letter: str, link_id: str) -> Any:
    """The way in without scripts: the address has the secret, which `link_paths` has taken out of it.

    Only the form that this shows enters the link: previews of messages and scanners of mail fetch each address.
    """
    secret = this_link().secret
    if secret is None:
        raise NoRoute
    link = await _live(secret)
    if request.method != "POST":
        return await _way_in(link, asks=asked_by(link), has_secret=True)
    try:
        entered = await enter_with(secret, await body.read_form(limit=BODY_MAX))
    except (BadRequest, LinkAsks, TooManyAttempts) as error:
        page = await _way_in(link, asks=asked_by(link), has_secret=True, refused=error)
        return page, error.status
    response = Response(status=303, headers={"Location": this_link().base})
    give_cookie(response, entered)
    return response


async def _live(secret: str | None = None) -> Link:
    """The link of the current request, if it can be used and, unless None, has this secret; for others, no page."""
    wanted, links = this_link(), services().links
    try:
        link = await (links.live(wanted.id) if secret is None else links.opened_by(wanted.id, secret))
    except NotFound:
        raise NoRoute from None
    if link.kind is not wanted.kind:
        raise NoRoute
    return link


async def _way_in(link: Link, *, asks: Any, has_secret: bool = False, refused: DropmillError | None = None) -> str:
    """The page before a browser has entered. Without the secret, it says nothing of the link."""
    return await render_template(
        "link-enter.html",
        page_data={"kind": link.kind.value},
        kind=link.kind.value,
        label=link.label if has_secret else None,
        asks=asks,
        has_secret=has_secret,
        refused=refused,
    )


async def _submission_page(invitation: InvitationJson, submission_id: SubmissionId) -> str:
    try:
        shape, cursor = await services().views.submission(current_caller(), submission_id)
    except NotFound:
        raise NoRoute from None
    return await render_template(
        "link-submission.html",
        page_data={"invitation": invitation, "submission": shape, "cursor": cursor, **_rules(invitation)},
        invitation=invitation,
        submission=shape,
        accept=",".join(services().settings.accept),
    )


def _rules(invitation: InvitationJson) -> dict[str, Any]:
    """What the page checks before it sends a file: the server's limits, and what may still be sent by the link."""
    rules = rules_for_files()
    limits = rules["limits"]
    for name, left in (("max_files", invitation["files_left"]), ("max_submission_size", invitation["size_left"])):
        limits[name] = min((most for most in (limits[name], left) if most is not None), default=None)
    return rules

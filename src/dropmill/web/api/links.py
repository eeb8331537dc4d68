"""Links, for those who make them."""

from collections.abc import Mapping
from typing import Any

from quart import Blueprint, Response, request

from dropmill.access.links import NewLink
from dropmill.model.clock import utc_now
from dropmill.model.errors import BadRequest
from dropmill.model.ids import LinkId, SubmissionId
from dropmill.model.links import EXPIRES_S, Link, LinkKind, LinkLimits, address_of
from dropmill.web.api import query
from dropmill.web.server import body
from dropmill.web.server.caller import current_caller
from dropmill.web.server.guard import require_private
from dropmill.web.services import services
from dropmill.wire.encoding import Json
from dropmill.wire.links import link_json

links = Blueprint("links", __name__, url_prefix="/api/v1/links")

BODY_MAX = 64 * 1024

_KNOWN = frozenset(
    {
        *("kind", "submission_id", "label", "text", "expires_in", "max_files", "max_size", "max_submissions"),
        *("passphrase", "asks_name", "shows_results"),
    }
)


@links.get("")
async def index() -> Any:
    """Links that the caller may see, the newest first, with those that have ended."""
    page = await services().links.list(current_caller(), before=query.text("before"), limit=query.limit())
    now = utc_now()
    return {"items": [link_json(link, now) for link in page.items], "next": page.next}


@links.post("")
async def make() -> Any:
    """Make a link; this answer is the only one that has its secret."""
    given = await body.read_json_object(limit=BODY_MAX)
    if unknown := sorted(given.keys() - _KNOWN):
        raise BadRequest(f"A link has no `{unknown[0]}`.")
    wanted = _wanted(given)
    if wanted.passphrase is not None and not services().is_open:
        require_private(request, services().settings)
    link, secret = await services().links.make(current_caller(), wanted)
    base = _base_of(link)
    return {
        "id": link.id,
        "url": f"{base}#{secret}",
        "url_without_script": f"{base}/{secret}",
        "link": link_json(link, utc_now()),
    }, 201


@links.delete("/<link_id>")
async def revoke(link_id: str) -> Response:
    """End a link at once."""
    await services().links.revoke(current_caller(), LinkId(link_id))
    return Response(status=204)


def _base_of(link: Link) -> str:
    """The link's address without the secret: at the public URL, else where this request was sent."""
    settings = services().settings
    public = settings.public_url
    origin = f"{request.scheme}://{request.headers.get('Host', '')}" if public is None else public.origin
    return origin + settings.base_path + address_of(link.kind, link.id)


def _wanted(given: Json) -> NewLink:
    kind = given.get("kind", LinkKind.REQUEST.value)
    if kind not in list(LinkKind):
        raise BadRequest(f"`kind` must be one of {', '.join(LinkKind)}.")
    submission_id = _text(given, "submission_id")
    if (submission_id is not None) != (kind == LinkKind.RESULT):
        raise BadRequest("A link of the kind `result` has the `submission_id` that it shows; another has none.")
    label = _text(given, "label")
    if label is None and submission_id is None:
        raise BadRequest("`label` must be a text.")
    expires_in = given.get("expires_in")
    if expires_in is not None and (not isinstance(expires_in, int | float) or isinstance(expires_in, bool)):
        raise BadRequest("`expires_in` must be a number of seconds.")
    return NewLink(
        label=label,
        text=_text(given, "text"),
        submission_id=None if submission_id is None else SubmissionId(submission_id),
        expires_in_s=EXPIRES_S if expires_in is None else expires_in,
        limits=LinkLimits(
            files=_count(given, "max_files"),
            size=_count(given, "max_size"),
            submissions=_count(given, "max_submissions"),
        ),
        passphrase=_text(given, "passphrase"),
        asks_name=_yes(given, "asks_name"),
        shows_results=_yes(given, "shows_results"),
    )


def _text(given: Mapping[str, Any], name: str) -> str | None:
    found = given.get(name)
    if not (found is None or isinstance(found, str)):
        raise BadRequest(f"`{name}` must be a text.")
    return found


def _count(given: Mapping[str, Any], name: str) -> int | None:
    found = given.get(name)
    if found is not None and (not isinstance(found, int) or isinstance(found, bool)):
        raise BadRequest(f"`{name}` must be a whole number, or null.")
    return found


def _yes(given: Mapping[str, Any], name: str) -> bool:
    found = given.get(name)
    if not (found is None or isinstance(found, bool)):
        raise BadRequest(f"`{name}` must be true or false.")
    return bool(found)

"""The config over HTTP: exact bytes, ETags, checks, history."""

from typing import Any

from quart import Blueprint, Response, jsonify, request

from dropmill.configfile.revisions import etag
from dropmill.live.messages import revision_json
from dropmill.model.errors import BadRequest
from dropmill.model.ids import Sha256
from dropmill.web import body, query
from dropmill.web.services import services
from dropmill.web.submissions import client_of_request

config = Blueprint("config", __name__, url_prefix="/api/v1/config")

BODY_MAX = 1024 * 1024 + 1  # one byte more than a config may have, so that the check can say so at its line
MESSAGE_MAX = 200


@config.get("")
async def read() -> Response:
    """The config's exact bytes."""
    text, revision = await services().config.read()
    return Response(text, headers={"Content-Type": "application/yaml", "ETag": etag(revision)})


@config.put("")
async def save() -> Any:
    """Replace the config with exactly these bytes."""
    text = await body.read(BODY_MAX)
    revision = await services().config.save(
        text, if_match=_if_match(), client=client_of_request(), account=None, message=_message()
    )
    response: Response = jsonify(revision_json(revision))
    response.headers["ETag"] = etag(revision)
    return response


@config.post("/check")
async def check() -> Any:
    """The checks of a save, without saving."""
    report = await services().config.check(await body.read(BODY_MAX))
    return {
        "errors": [finding.as_json() for finding in report.errors],
        "warnings": [finding.as_json() for finding in report.warnings],
    }


@config.get("/revisions")
async def revisions() -> Any:
    """The config's history, newest first."""
    page = await services().ledger.revisions(before=query.text("before"), limit=query.limit())
    return {"items": [revision_json(item) for item in page.items], "next": page.next}


@config.get("/revisions/<sha256>")
async def revision_text(sha256: str) -> Response:
    """A revision's exact bytes."""
    text = await services().ledger.revision_text(Sha256(sha256))
    return Response(text, headers={"Content-Type": "application/yaml", "ETag": f'"{sha256}"'})


def _if_match() -> Sha256 | None:
    """The revision a save says it replaces; None if it says none. A weak ETag never matches (RFC 9110, 13.1.1)."""
    header = request.headers.get("If-Match")
    if header is None:
        return None
    header = header.strip()
    is_strong = len(header) >= 2 and header[0] == '"' and header[-1] == '"'
    return Sha256(header[1:-1] if is_strong else "")


def _message() -> str | None:
    message = request.headers.get("Dropmill-Message")
    if message is not None and (len(message) > MESSAGE_MAX or not message.isprintable()):
        raise BadRequest(f"Dropmill-Message must be at most {MESSAGE_MAX} printable characters.")
    return message or None

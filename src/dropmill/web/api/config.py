"""The config over HTTP: exact bytes, value edits, ETags, checks, history."""

import asyncio
import re
from dataclasses import replace
from typing import Any

from quart import Blueprint, Response, jsonify, request

from dropmill.configfile.file_sync import sha256_of
from dropmill.configfile.revisions import etag
from dropmill.configfile.schema.file import SCHEMA_NAME
from dropmill.configfile.schema.schema import SchemaUnusable
from dropmill.configfile.yaml.edits import parse_patch
from dropmill.configfile.yaml.findings import Report
from dropmill.model.caller import Caller
from dropmill.model.config import ConfigRevision
from dropmill.model.errors import BadRequest, NotFound
from dropmill.model.ids import Sha256
from dropmill.web.api import query
from dropmill.web.server import body
from dropmill.web.server.caller import current_caller
from dropmill.web.server.guard import EXACT
from dropmill.web.services import services
from dropmill.wire.config import revision_json

config = Blueprint("config", __name__, url_prefix="/api/v1/config")

BODY_MAX = 1024 * 1024 + 1  # one byte more than a config may have, so that the check can say so at its line
# JSON with \uXXXX for all that is not ASCII, and a patch. Six times is possible, but would hold the loop for 0.6 s.
FORM_MAX = 3 * BODY_MAX + body.JSON_MAX
MESSAGE_MAX = 200
_ETAG = re.compile(r'(?:W/)?"([0-9a-f]{64})(?:[-;]{1,2}(?:gzip|br|zstd|deflate))?"')
NAME_WAIT_S = 1.0  # of the resolver's two; answers are remembered, also that there is none


@config.get("")
async def read() -> Response:
    """The config's exact bytes."""
    text, revision = await services().config.read(current_caller())
    return _exact(text, "application/yaml", etag(revision))


@config.put("")
async def save() -> Any:
    """Replace the config with exactly these bytes."""
    text = await body.read(BODY_MAX)
    revision = await services().config.save(await _author(), text, if_match=_if_match(), message=_message())
    return _saved(revision)


@config.patch("")
async def edit() -> Any:
    """Change values in place: all operations of a JSON Patch (RFC 6902), or none."""
    members = await body.read_json("application/json-patch+json")
    operations = await asyncio.to_thread(parse_patch, members)  # a megabyte of values takes a while
    revision, made = await services().config.edit(await _author(), operations, if_match=_if_match(), message=_message())
    return _saved(revision, removed_comments=made.removed_comments)


@config.post("/check")
async def check() -> Any:
    """The checks of a save, without saving."""
    return _findings(await services().config.check(current_caller(), await body.read(BODY_MAX)))


@config.post("/form")
async def form() -> Any:
    """A text that need not be saved as a form shows it, with a patch applied to it if there is one."""
    asked = await body.read_json_object(limit=FORM_MAX)
    text, patch = asked.get("text"), asked.get("patch", [])
    if not isinstance(text, str):
        raise BadRequest("`text` must be the config's text.")
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise BadRequest("`text` holds half a character (a lone surrogate).") from None
    operations = await asyncio.to_thread(parse_patch, patch)
    form = await services().config.form(current_caller(), raw, operations)
    return {
        "text": form.text.decode(errors="replace"),
        "removed_comments": form.removed_comments,
        "fields": form.fields,
        "is_cut": form.is_cut,
        **_findings(form.report),
    }


@config.get("/schema")
async def schema() -> Response:
    """The exact bytes of the JSON Schema beside the config."""
    try:
        text = await services().config.schema(current_caller())
    except SchemaUnusable as error:
        raise NotFound(f"{error}.") from error
    if text is None:
        raise NotFound(f"There is no {SCHEMA_NAME} beside the config.")
    return _exact(text, "application/schema+json", f'"{sha256_of(text)}"')


@config.get("/revisions")
async def revisions() -> Any:
    """The config's history, newest first."""
    page = await services().config.revisions(current_caller(), before=query.text("before"), limit=query.limit())
    return {"items": [revision_json(item) for item in page.items], "next": page.next}


@config.get("/revisions/<sha256>")
async def revision_text(sha256: str) -> Response:
    """A revision's exact bytes."""
    text = await services().config.revision_text(current_caller(), Sha256(sha256))
    return _exact(text, "application/yaml", f'"{sha256}"')


@config.post("/revisions/<sha256>/restore")
async def restore(sha256: str) -> Any:
    """Save an older revision's text as the newest."""
    revision = await services().config.restore(
        await _author(), Sha256(sha256), if_match=_if_match(), message=_message()
    )
    return _saved(revision)


@config.delete("/revisions/<sha256>")
async def purge(sha256: str) -> Response:
    """Remove a text from the history for good."""
    await services().config.purge(await _author(), Sha256(sha256))
    return Response(status=204)


def _exact(text: bytes, kind: str, tag: str) -> Response:
    return Response(text, headers={"Content-Type": kind, "ETag": tag, "Cache-Control": EXACT})


def _findings(report: Report) -> dict[str, Any]:
    return {
        "errors": [finding.as_json() for finding in report.errors],
        "warnings": [finding.as_json() for finding in report.warnings],
    }


def _saved(revision: ConfigRevision, **more: Any) -> Response:
    response: Response = jsonify({**revision_json(revision), **more})
    response.headers.update({"ETag": etag(revision), "Cache-Control": EXACT})
    return response


async def _author() -> Caller:
    """The caller, with the host name if that is known soon: no later event brings it to a revision."""
    caller = current_caller()
    try:
        async with asyncio.timeout(NAME_WAIT_S):
            found = await services().resolver.resolve(caller.client.ip)
    except TimeoutError:
        return caller
    client = replace(caller.client, host=found.host, verified=found.verified, domain=found.domain)
    return replace(caller, client=client)


def _if_match() -> Sha256 | None:
    """The revision a save says it replaces; None if it says none.

    A proxy that compresses makes an ETag weak or appends its coding. RFC 9110, section 13.1.1, lets neither match,
    because they may name other bytes. These cannot: an ETag of ours is the SHA-256 of the text, and a save is compared
    with that.
    """
    header = request.headers.get("If-Match")
    if header is None:
        return None
    found = _ETAG.fullmatch(header.strip())
    return Sha256(found[1] if found else "")


def _message() -> str | None:
    """The author's word on a save; None if there is none. Its bytes are UTF-8, as curl and our pages send it."""
    header = request.headers.get("Dropmill-Message")
    if header is None:
        return None
    try:
        message = header.encode("latin-1").decode()  # what is read from the wire comes as Latin-1 (WSGI's custom)
    except UnicodeDecodeError:
        message = header
    if len(message) > MESSAGE_MAX or not message.isprintable():
        raise BadRequest(f"Dropmill-Message must be at most {MESSAGE_MAX} printable characters.")
    return message or None

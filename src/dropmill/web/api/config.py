"""The config over HTTP: its exact bytes, value edits, ETags, checks and history."""

import asyncio
import re
from dataclasses import replace
from typing import Any

from quart import Blueprint, Response, jsonify, request

from dropmill.access.policy import Action
from dropmill.configfile.file_sync import sha256_of
from dropmill.configfile.revisions import etag
from dropmill.configfile.schema.file import SCHEMA_NAME
from dropmill.configfile.schema.schema import SchemaUnusable
from dropmill.configfile.yaml.edits import parse_patch
from dropmill.configfile.yaml.findings import Report
from dropmill.model.caller import Caller
from dropmill.model.config import ConfigRevision
from dropmill.model.errors import BadParameter, BadRequest, NotFound
from dropmill.model.ids import Sha256
from dropmill.web.api import query
from dropmill.web.server import body
from dropmill.web.server.caller import current_caller
from dropmill.web.server.guard import EXACT
from dropmill.web.services import services
from dropmill.wire.config import revision_json

config = Blueprint("config", __name__, url_prefix="/api/v1/config")

BODY_MAX = 1024 * 1024 + 1  # one byte over a config's limit, so that the check can report the line
# JSON with \uXXXX for all that is not ASCII, and a patch. Six times the text is possible, but holds the loop 0.6 s.
FORM_MAX = 3 * BODY_MAX + body.JSON_MAX
MESSAGE_MAX = 200
_ETAG = re.compile(r'(?:W/)?"([0-9a-f]{64})(?:[-;]{1,2}(?:gzip|br|zstd|deflate))?"')
NAME_WAIT_S = 1.0  # of the resolver's two seconds; it remembers answers, also negative ones


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
    operations = await asyncio.to_thread(parse_patch, members)  # a megabyte of values takes long
    revision, made = await services().config.edit(await _author(), operations, if_match=_if_match(), message=_message())
    return _saved(revision, removed_comments=made.removed_comments)


@config.post("/check")
async def check() -> Any:
    """The checks of a save, without saving."""
    return _findings(await services().config.check(current_caller(), await body.read(BODY_MAX)))


@config.post("/form")
async def form() -> Any:
    """The form of a text that need not be saved, with a patch applied to it if the request has one."""
    asked = await body.read_json_object(limit=FORM_MAX)
    text, patch = asked.get("text"), asked.get("patch", [])
    if not isinstance(text, str):
        raise BadRequest("`text` must be the config's text.")
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise BadRequest("`text` contains a lone surrogate (half a character).") from None
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


@config.get("/changes")
async def changes() -> Any:
    """The keys whose values differ between two revisions."""
    before, after = query.text("from"), query.text("to")
    if before is None:
        raise BadParameter("`from` must be the SHA-256 of a revision.")
    newer, found = await services().config.changes(current_caller(), Sha256(before), Sha256(after) if after else None)
    return {"from": before, "to": newer, "keys": found.keys, "is_cut": found.is_cut}


@config.get("/revisions")
async def revisions() -> Any:
    """The config's history, newest first."""
    caller = current_caller()
    page = await services().config.revisions(caller, before=query.text("before"), limit=query.limit())
    with_author = services().policy.may(caller, Action.SEE_AUTHORS)
    return {"items": [revision_json(item, with_author=with_author) for item in page.items], "next": page.next}


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
    """The caller, with the host name if it is found in time: a revision is not completed later."""
    caller = current_caller()
    try:
        async with asyncio.timeout(NAME_WAIT_S):
            found = await services().resolver.resolve(caller.client.ip)
    except TimeoutError:
        return caller
    client = replace(caller.client, host=found.host, verified=found.verified, domain=found.domain)
    return replace(caller, client=client)


def _if_match() -> Sha256 | None:
    """The revision in `If-Match`, which a save replaces; None without the header, "" if it is not an ETag of ours.

    A proxy that compresses makes an ETag weak or appends its coding. By RFC 9110, section 13.1.1, neither matches,
    because it may name other bytes. Ours cannot: it is the SHA-256 of the text, and the save is compared with that.
    """
    header = request.headers.get("If-Match")
    if header is None:
        return None
    found = _ETAG.fullmatch(header.strip())
    return Sha256(found[1] if found else "")


def _message() -> str | None:
    """The author's remark on a save; None without one. It is UTF-8, as curl and our pages send it."""
    header = request.headers.get("Dropmill-Message")
    if header is None:
        return None
    try:
        message = header.encode("latin-1").decode()  # Quart decodes headers as Latin-1
    except UnicodeDecodeError:
        message = header
    if len(message) > MESSAGE_MAX or not message.isprintable():
        raise BadRequest(f"Dropmill-Message must be at most {MESSAGE_MAX} printable characters.")
    return message or None

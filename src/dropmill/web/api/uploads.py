"""Uploads without a form: resumable ones (tus 1.0.0), and `PUT /send/NAME` for `curl -T`."""

from email.utils import format_datetime
from typing import Any

from quart import Blueprint, Response, request, url_for
from werkzeug.routing import PathConverter

from dropmill.intake.limits import SIZE_MAX
from dropmill.intake.resumable import UploadPosition
from dropmill.intake.tus import CHECKSUMS, Checksum
from dropmill.model.errors import (
    BadRequest,
    NotFound,
    TooLarge,
    TusVersionMismatch,
    UnsupportedMediaType,
)
from dropmill.model.ids import FileId
from dropmill.model.numbers import is_whole_number, whole_number
from dropmill.model.uploads import AbortCause
from dropmill.web.api import query
from dropmill.web.api.submissions import created, idempotency_key
from dropmill.web.server import body
from dropmill.web.server.caller import current_caller
from dropmill.web.server.headers import (
    chunk_checksum,
    expected_sha256,
    refuse_digests,
    refuse_resumable,
    sha256_of_header,
)
from dropmill.web.services import services

uploads = Blueprint("uploads", __name__, url_prefix="/api/v1/uploads")
send = Blueprint("send", __name__, url_prefix="/send")

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,checksum,expiration,termination"
OCTETS = "application/offset+octet-stream"


@uploads.after_request
async def _speak_tus(response: Response) -> Response:
    response.headers["Tus-Resumable"] = VERSION
    if response.status_code == TusVersionMismatch.status:
        response.headers["Tus-Version"] = VERSION
    return response


@uploads.route("", methods=["OPTIONS"])
@uploads.route("/", methods=["OPTIONS"])
@uploads.route("/<file_id>", methods=["OPTIONS"])
async def options(file_id: str = "") -> Response:
    """The version and extensions of tus that the server supports."""
    headers = {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Checksum-Algorithm": ",".join(CHECKSUMS),
    }
    most = services().settings.max_file_size
    if most is not None:
        headers["Tus-Max-Size"] = str(most)
    return Response(status=204, headers=headers)


@uploads.post("")
@uploads.post("/")  # people often give tus clients this address
async def create() -> Response:
    """Create an upload; the request may bring its first bytes."""
    _require_tus()
    size = _size()
    length = request.content_length
    brings_bytes = length != 0 and request.content_type is not None
    if brings_bytes:
        _require_octets()
        if "Upload-Complete" in request.headers and None not in (size, length) and length != size:
            raise BadRequest("Upload-Complete declares the body the whole file, but Upload-Length contradicts it.")
    if _number("Upload-Offset"):
        raise BadRequest("Upload-Offset of a new upload can only be 0.")
    checksum = _checksum()
    whole = sha256_of_header(request.headers, "Repr-Digest") if "Repr-Digest" in request.headers else None
    upload = await services().uploads.create(
        current_caller(),
        size=size,
        metadata=request.headers.get("Upload-Metadata", ""),
        content_length=length if brings_bytes else None,
        expected_sha256=whole,
    )
    position = UploadPosition(upload=upload, offset=0)
    if brings_bytes and size != 0:
        position = await _append(upload.file_id, 0, None, checksum)
    response = Response(status=201, headers=_headers(position))
    response.headers["Location"] = url_for("uploads.head", file_id=upload.file_id)
    return response


@uploads.route("/<file_id>", methods=["HEAD"])
async def head(file_id: str) -> Response:
    """The offset of an upload."""
    _require_tus()
    position = await services().uploads.find(current_caller(), FileId(file_id))
    headers = _headers(position)
    if position.upload.metadata:
        headers["Upload-Metadata"] = position.upload.metadata
    if position.upload.size is None:
        headers["Upload-Defer-Length"] = "1"
    else:
        headers["Upload-Length"] = str(position.upload.size)
    return Response(status=200, headers=headers)


@uploads.patch("/<file_id>")
async def append(file_id: str) -> Response:
    """Append bytes at an offset."""
    _require_tus()
    _require_octets()
    offset = _number("Upload-Offset")
    if offset is None:
        raise BadRequest("Upload-Offset is missing.")
    if "Upload-Defer-Length" in request.headers:
        raise BadRequest("Upload-Defer-Length is for new uploads only; send Upload-Length once it is known.")
    checksum = _checksum()
    refuse_digests(
        request.headers,
        "Repr-Digest",
        why="is the digest of the whole file: send it when you create the upload, or as `sha256` in Upload-Metadata.",
    )
    position = await _append(FileId(file_id), offset, _number("Upload-Length"), checksum)
    return Response(status=204, headers=_headers(position))


@uploads.delete("/<file_id>")
async def terminate(file_id: str) -> Response:
    """Terminate an upload and remove its bytes."""
    _require_tus()
    cause = query.text("cause") or AbortCause.CANCELLED
    await services().uploads.terminate(current_caller(), FileId(file_id), cause)
    return Response(status=204)


@uploads.post("/<file_id>")
async def override(file_id: str) -> Response:
    """PATCH, DELETE or HEAD for clients that can only POST (tus core protocol, `X-HTTP-Method-Override`)."""
    match request.headers.get("X-HTTP-Method-Override", "").upper():
        case "PATCH":
            return await append(file_id)
        case "DELETE":
            return await terminate(file_id)
        case "HEAD":
            return await head(file_id)
    raise BadRequest("POST to an upload needs X-HTTP-Method-Override: PATCH, DELETE or HEAD.")


def _checksum() -> Checksum | None:
    refuse_digests(
        request.headers, "Digest", "Content-MD5", why="is not supported; send Upload-Checksum: sha256 BASE64."
    )
    return chunk_checksum(request.headers)


async def _append(file_id: FileId, offset: int, size: int | None, checksum: Checksum | None) -> UploadPosition:
    return await services().uploads.append(
        current_caller(),
        file_id,
        body.chunks(),
        offset=offset,
        size=size,
        content_length=request.content_length,
        checksum=checksum,
    )


def _headers(position: UploadPosition) -> dict[str, str]:
    headers = {"Upload-Offset": str(position.offset)}
    if position.upload.expires_at is not None and position.upload.partial is not None:
        headers["Upload-Expires"] = format_datetime(position.upload.expires_at, usegmt=True)
    return headers


def _require_tus() -> None:
    if request.headers.get("Tus-Resumable") != VERSION:
        raise TusVersionMismatch(f"Send Tus-Resumable: {VERSION}.")


def _require_octets() -> None:
    if request.mimetype != OCTETS:
        raise UnsupportedMediaType(f"Send the bytes as {OCTETS}.")


def _size() -> int | None:
    size = _number("Upload-Length")
    deferred = request.headers.get("Upload-Defer-Length")
    if deferred is not None and deferred != "1":
        raise BadRequest("Upload-Defer-Length can only be 1.")
    if (size is None) == (deferred is None):
        raise BadRequest("Send either Upload-Length or Upload-Defer-Length: 1.")
    return size


def _number(name: str) -> int | None:
    values = request.headers.getlist(name)
    if not values:
        return None
    value = values[0]
    if len(values) > 1:
        raise BadRequest(f"{name} is given more than once.")
    if not is_whole_number(value):
        raise BadRequest(f"{name} must be a whole number.")
    found = whole_number(value, SIZE_MAX)
    if found is None:
        raise TooLarge(f"{name} is larger than any file.")
    return found


# --- curl -T ---------------------------------------------------------------------------------------------------------


class _FileName(PathConverter):
    """A file's name as in a form: it may begin with a slash, or contain a line break."""

    part_isolating = False
    regex = r"[\s\S]+"


@send.record_once
def _add_converter(state: Any) -> None:
    state.app.url_map.converters["file_name"] = _FileName


@send.put("/<file_name:name>")
async def put(name: str) -> Response:
    """One file as the body, in a submission of its own."""
    refuse_resumable(request.headers, request.content_length)
    if request.mimetype in ("multipart/form-data", "multipart/byteranges"):
        raise UnsupportedMediaType(
            f"Send the file itself as the body, not as {request.mimetype}, as curl -T FILE does; "
            "a form (curl -F) goes to /api/v1/submissions."
        )
    receipt = await services().intake.receive_raw(
        current_caller(),
        body.chunks(),
        name,
        size=request.content_length,
        media_type=request.mimetype,
        expected_sha256=expected_sha256(request.headers),
        idempotency_key=idempotency_key(),
    )
    return await created(receipt)


@send.put("")
@send.put("/")
async def put_without_name() -> Response:
    """Explain the mistake: `curl -T FILE` appends the name only to an address that ends in a slash."""
    raise NotFound(
        "The address lacks the file's name: PUT /send/NAME, or curl -T FILE URL/send/ with a slash at the end."
    )

"""Headers that change what a request's body means. Each is obeyed, or refused with a sentence that names it.

Ignoring one would mean taking a part of a file for the whole, or encoded bytes for the file. Headers that declare the
body whole are ignored: Apple's systems send those of the IETF's draft on resumable uploads with every upload.

| header | here |
|---|---|
| Content-Encoding, Content-Transfer-Encoding | refused unless they encode nothing |
| Content-Range (RFC 9110, 14.4) | refused unless it covers the whole |
| Upload-Concat (tus); Upload-Complete, Upload-Incomplete (IETF) | refused unless they say that the body is whole |
| Upload-Length, Upload-Offset outside resumable uploads | refused where they contradict Content-Length |
| Upload-Checksum, Upload-Defer-Length outside resumable uploads | refused |
| Repr-Digest, Content-Digest (RFC 9530), Digest, Content-MD5 | the SHA-256 of a file is checked; the rest is refused |
| Want-Digest and similar | ignored, as RFC 9530 allows: they are about the answer |
"""

import base64
import binascii
import re

from werkzeug.datastructures import Headers

from dropmill.intake.tus import Checksum, parse_checksum
from dropmill.model.errors import BadRequest, UnsupportedMediaType
from dropmill.model.ids import Sha256

DIGESTS = ("Repr-Digest", "Content-Digest", "Digest", "Content-MD5")

_RANGE = re.compile(r"bytes\s+(\d{1,19})-(\d{1,19})/(\d{1,19})", re.ASCII)
_SHA256 = re.compile(r"(?:^|,)\s*sha-256=(:?)([A-Za-z0-9+/=]*)(:?)\s*(?=$|[,;])", re.IGNORECASE)
_WHOLE = {"Upload-Complete": "?1", "Upload-Incomplete": "?0"}
_ENCODES_NOTHING = {
    "Content-Encoding": frozenset({"identity"}),
    "Content-Transfer-Encoding": frozenset({"7bit", "8bit", "binary"}),
}
_ONLY_RESUMABLE = ("Upload-Checksum", "Upload-Defer-Length")


def refuse_other_meanings(headers: Headers) -> None:
    """Return if the body is a whole, unencoded file. Called for every request that may change something.

    Raises:
        UnsupportedMediaType: it is encoded.
        BadRequest: it is a part of a file.
    """
    for name, harmless in _ENCODES_NOTHING.items():
        if any(word.strip().lower() not in harmless for word in _words(headers, name)):
            raise UnsupportedMediaType(f"Send the body without {name}; the server decodes nothing.")
    for value in headers.getlist("Content-Range"):
        found = _RANGE.fullmatch(value.strip())
        if found is None or int(found[1]) != 0 or int(found[2]) + 1 != int(found[3]):
            raise BadRequest(
                "Content-Range declares the body a part of a file; send the whole file, "
                "or use tus 1.0.0 at /api/v1/uploads."
            )
    if "Upload-Concat" in headers:
        raise BadRequest(
            "Upload-Concat: the tus extension `concatenation` is not supported; send the file as one upload."
        )
    for name, whole in _WHOLE.items():
        if any(value.strip() != whole for value in headers.getlist(name)):
            raise BadRequest(
                f"{name} announces more of the file, but the IETF's resumable uploads are not supported; "
                "use tus 1.0.0 at /api/v1/uploads."
            )


def refuse_resumable(headers: Headers, content_length: int | None) -> None:
    """Return if no header of a resumable upload contradicts a body that is sent in one request.

    Args:
        headers: of the request.
        content_length: of its body; None if unknown.

    Raises:
        BadRequest: one does, or only a resumable upload can have it.
    """
    for name in _ONLY_RESUMABLE:
        if name in headers:
            raise BadRequest(f"{name} is for resumable uploads only (tus 1.0.0 at /api/v1/uploads).")
    for name, expected in (("Upload-Offset", 0), ("Upload-Length", content_length)):
        if any(value.strip() != str(expected) for value in headers.getlist(name)):
            raise BadRequest(f"{name} contradicts a body sent in one request; use tus 1.0.0 at /api/v1/uploads.")


def refuse_digests(headers: Headers, *names: str, why: str) -> None:
    """Return if the request has none of these digests, which the server would not check.

    Args:
        headers: of the request.
        names: of the digests; all digests if none is named.
        why: how the refusing sentence ends.

    Raises:
        BadRequest: it has one.
    """
    for name in names or DIGESTS:
        if name in headers:
            raise BadRequest(f"{name} {why}")


def expected_sha256(headers: Headers) -> Sha256 | None:
    """The SHA-256 that a request declares for its body, a whole file; None if it declares none.

    Raises:
        BadRequest: a digest is not a SHA-256, two differ, or Content-MD5 is present.
    """
    refuse_digests(headers, "Content-MD5", why="is not supported; send Repr-Digest: sha-256=:BASE64: (RFC 9530).")
    found = {sha256_of_header(headers, name) for name in DIGESTS if name in headers}
    if len(found) > 1:
        raise BadRequest("The request's digests contradict each other.")
    return found.pop() if found else None


def chunk_checksum(headers: Headers) -> Checksum | None:
    """The checksum that a resumable upload's request declares for its bytes; None if it declares none.

    Raises:
        BadRequest: it is malformed, or given twice.
    """
    given = headers.getlist("Upload-Checksum")
    if len(given) + len(headers.getlist("Content-Digest")) > 1:
        raise BadRequest("Send one checksum: Upload-Checksum or Content-Digest.")
    if given:
        return parse_checksum(given[0])
    if "Content-Digest" in headers:
        return Checksum(algorithm="sha256", digest=bytes.fromhex(sha256_of_header(headers, "Content-Digest")))
    return None


def sha256_of_header(headers: Headers, name: str) -> Sha256:
    """The SHA-256 of a digest header (RFC 9530; RFC 3230 for `Digest`).

    Raises:
        BadRequest: it has none, several, or a malformed one.
    """
    found = [match for value in headers.getlist(name) for match in _SHA256.finditer(value)]
    colons = "" if name == "Digest" else ":"
    try:
        digest = base64.b64decode(found[0][2], validate=True) if len(found) == 1 else b""
    except binascii.Error:
        digest = b""
    if len(digest) != 32 or {found[0][1], found[0][3]} != {colons}:
        form = f"sha-256={colons}BASE64{colons}"
        raise BadRequest(f"{name} must have {form} once; other algorithms are not supported.")
    return Sha256(digest.hex())


def _words(headers: Headers, name: str) -> list[str]:
    return [word for value in headers.getlist(name) for word in value.split(",") if word.strip()]

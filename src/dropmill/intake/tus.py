"""The texts of tus 1.0.0 that the intake reads and keeps: Upload-Metadata and Upload-Checksum.

Upload-Metadata is stored with each upload as its client wrote it; for a file that a form announces, the server writes
it. All other headers of tus are `dropmill.web.api.uploads`' business.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dropmill.model.errors import BadRequest
from dropmill.model.ids import Sha256, SubmissionId

CHECKSUMS = ("sha1", "sha256")
"""Algorithms of Upload-Checksum that this server offers."""

METADATA_MAX = 8 * 1024  # characters of one Upload-Metadata header
METADATA_KEYS_MAX = 100
METADATA_READ = frozenset({"filename", "relativePath", "filetype", "submission", "sha256"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Checksum:
    """The checksum that a chunk must have.

    Attributes:
        algorithm: one of `CHECKSUMS`.
        digest: its raw bytes.
    """

    algorithm: str
    digest: bytes


def parse_metadata(header: str) -> Mapping[str, str]:
    """The values in an `Upload-Metadata` header that the server reads, by key; a key without a value has "".

    All other keys are the client's own (Uppy sends all it knows of a file). They are not decoded.

    Raises:
        BadRequest: the header is too long, or has a key twice; or the value of a key in `METADATA_READ` is not base64
            of UTF-8 text.
    """
    if len(header) > METADATA_MAX:
        raise BadRequest(f"Upload-Metadata is longer than {METADATA_MAX} characters.")
    keys: set[str] = set()
    values: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in header.split(","))):
        key, _, encoded = pair.partition(" ")
        if key in keys or len(keys) >= METADATA_KEYS_MAX or not re.fullmatch(r"[!-+\--~]+", key):
            raise BadRequest(
                "Upload-Metadata has a key twice, too many keys, or a key with characters that none may have."
            )
        keys.add(key)
        if key not in METADATA_READ:
            continue
        try:
            values[key] = base64.b64decode(encoded.strip(), validate=True).decode()
        except ValueError:
            raise BadRequest(f"The value of {key!r} in Upload-Metadata is not base64 of UTF-8 text.") from None
    return values


def metadata_of(name: str, path: str, submission_id: SubmissionId) -> str:
    """The `Upload-Metadata` of a file that was announced in JSON."""
    values = {"filename": name, "relativePath": path, "submission": submission_id}
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


def parse_hex_sha256(text: str | None) -> Sha256 | None:
    """The value of `sha256` in Upload-Metadata; None if it is absent or empty.

    Raises:
        BadRequest: it is something else than 64 hexadecimal digits.
    """
    if not text:
        return None
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise BadRequest("`sha256` in Upload-Metadata must be 64 hexadecimal digits.")
    return Sha256(text.lower())


def parse_checksum(header: str) -> Checksum:
    """An `Upload-Checksum` header.

    Raises:
        BadRequest: it names an algorithm that is not in `CHECKSUMS`, or carries no digest of it.
    """
    algorithm, _, encoded = header.strip().partition(" ")
    if algorithm not in CHECKSUMS:
        raise BadRequest(f"Upload-Checksum must name one of {', '.join(CHECKSUMS)}.")
    try:
        digest = base64.b64decode(encoded.strip(), validate=True)
    except ValueError:
        digest = b""
    if len(digest) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        raise BadRequest(f"Upload-Checksum must carry a {algorithm} digest in base64.")
    return Checksum(algorithm=algorithm, digest=digest)

"""The secrets that browsers and programs show, and their form.

The form is checked before anything is read: what cannot be one of ours costs no look-up. Only the SHA-256 of a secret
is kept. That is enough, because each has at least 190 random bits: nobody can guess one.

A token is `dmill_`, eight characters by which the ledger finds it, a secret, and a checksum. Its fixed beginning and
its checksum let scanners of published code find tokens that leaked.
"""

import hashlib
import re
import secrets
import string
import zlib
from typing import Final

from dropmill.model.ids import Sha256

_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PREFIX: Final = 8
_SECRET: Final = 32  # 190 bits
_CHECKSUM: Final = 6  # characters that a CRC-32 takes in this alphabet

TOKEN_MARK: Final = "dmill_"  # noqa: S105  # no secret
TOKEN_LENGTH: Final = len(TOKEN_MARK) + _PREFIX + _SECRET + _CHECKSUM
SHOWN: Final = len(TOKEN_MARK) + _PREFIX
"""Characters of a token's beginning that are no secret: its prefix."""

_SESSION: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_TOKEN: Final = re.compile(TOKEN_MARK + rf"[0-9A-Za-z]{{{TOKEN_LENGTH - len(TOKEN_MARK)}}}", re.ASCII)


def new_session_secret() -> str:
    """A new secret for a cookie or a one-time link: 256 random bits."""
    return secrets.token_urlsafe(32)


def is_session_secret(text: str) -> bool:
    """Whether a text has the form of such a secret."""
    return _SESSION.fullmatch(text) is not None


def new_token() -> str:
    """A new token."""
    body = TOKEN_MARK + "".join(secrets.choice(_ALPHABET) for _ in range(_PREFIX + _SECRET))
    return body + _checksum(body)


def token_prefix(text: str) -> str | None:
    """The prefix of a token; None if the text is none, or its checksum is wrong."""
    if _TOKEN.fullmatch(text) is None or _checksum(text[:-_CHECKSUM]) != text[-_CHECKSUM:]:
        return None
    return text[:SHOWN]


def digest(secret: str) -> Sha256:
    """What is kept of a secret."""
    return Sha256(hashlib.sha256(secret.encode()).hexdigest())


def _checksum(body: str) -> str:
    rest, digits = zlib.crc32(body.encode()), ""
    while rest:
        rest, digit = divmod(rest, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits.rjust(_CHECKSUM, _ALPHABET[0])

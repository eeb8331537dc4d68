"""What JWTs of other systems have in common: algorithms, keys, and the checks that no use of them may leave out.

The algorithms are named here, and each takes a public key: a token can neither choose `none` nor have a public key used
as a secret (RFC 8725, section 2.1). What a token says of where its key is, is not read.
"""

import json
import warnings
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from joserfc import jws, jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import JWKRegistry, Key

from dropmill.access.http import json_object
from dropmill.model.accounts import SUBJECT_MAX

ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "Ed25519",
    "EdDSA",
)
"""All of public keys. A shared secret would have to be on each server that checks a token."""

KEYS_MAX: Final = 1024 * 1024  # bytes of a key set
LEEWAY_S: Final = 30  # that clocks may differ

Keys: TypeAlias = Mapping[str | None, Key]
"""The public keys of a set for signatures, by their ids."""


def usable_keys(text: bytes) -> Keys:
    """The keys of a JSON Web Key Set. Takes a while for a large one.

    Raises:
        ValueError: the text is no set, or has none.
    """
    entries = json_object(text).get("keys")
    found: dict[str | None, Key] = {}
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("kty") not in ("RSA", "EC", "OKP") or entry.get("use") == "enc":
            continue
        key_id = entry.get("kid")
        try:
            found[key_id if isinstance(key_id, str) else None] = JWKRegistry.import_key(entry)
        except (JoseError, ValueError, TypeError, KeyError):  # a kind of a newer time, for others
            continue
    if not found:
        raise ValueError("there is no public key for signatures")
    return found


def key_of(keys: Keys, key_id: str | None) -> Key | None:
    """The key of this id; without one, the only key. None if there is none, or it is unclear which."""
    return next(iter(keys.values())) if key_id is None and len(keys) == 1 else keys.get(key_id)


def key_id_of(token: str, most: int) -> str | None:
    """The id of the key that a token says it was signed with; None if it does not say.

    Args:
        token: what may be one.
        most: characters of a token; a longer one is not decoded.

    Raises:
        ValueError: it cannot be a token.
    """
    if len(token) > most or token.count(".") != 2 or not token.isascii():
        raise ValueError("it has not the form of a JWT")
    try:
        key_id = jws.extract_compact(token.encode()).headers().get("kid")
    except (JoseError, ValueError, RecursionError):
        raise ValueError("it has not the form of a JWT") from None
    return key_id if isinstance(key_id, str) else None


def verified_claims(token: str, key: Key, expected: jwt.JWTClaimsRegistry) -> Mapping[str, Any]:
    """What a token says, if it was signed with a key and says what is expected.

    Args:
        token: for which `key_id_of` found the key.
        key: the issuer's. Never None: a library might take that for no need to check.
        expected: of the claims.

    Raises:
        JoseError, ValueError: it was not, or does not.
    """
    assert key is not None  # noqa: S101  # see above
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # EdDSA has another name since RFC 9864
        claims = jwt.decode(token, key, algorithms=list(ALGORITHMS), decoder_cls=_Decoder).claims
    expected.validate(claims)
    return claims


class _Decoder(json.JSONDecoder):
    def decode(self, s: str, *positional: Any) -> Any:
        try:
            return super().decode(s, *positional)
        except RecursionError:
            raise ValueError("the claims are nested too deeply") from None


def subject_of(claims: Mapping[str, Any]) -> str:
    """Who a token is about.

    Raises:
        ValueError: `sub` is missing, or cannot be an account's.
    """
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= SUBJECT_MAX or not subject.isprintable():
        raise ValueError("`sub` cannot be an account's")
    return subject


def words(value: object) -> list[str]:
    """The texts of a claim that is a list or one text."""
    several = value if isinstance(value, list) else [value]
    return [one for one in several if isinstance(one, str)]

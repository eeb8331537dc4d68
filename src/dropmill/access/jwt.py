"""Tokens that another system signs (`--jwt-issuer`): JWT of RFC 7519, checked as RFC 8725 advises.

Keys come from a file or URL alone. A token without `exp`, for another audience or of another issuer is none. What
cannot be a token costs no computation. See `dropmill.access.jose` for algorithms and keys.

Who has such a token is an account of that issuer and subject, see `dropmill.model.accounts.Identity`.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import Key

from dropmill.access import http
from dropmill.access.jose import (
    KEYS_MAX,
    LEEWAY_S,
    Keys,
    key_id_of,
    key_of,
    subject_of,
    usable_keys,
    verified_claims,
    words,
)
from dropmill.access.kept import Kept
from dropmill.access.proxy import Claim, role_of
from dropmill.model.accounts import Identity, checked_name
from dropmill.model.caller import Role, Scope
from dropmill.model.errors import BadRequest, Unavailable

TOKEN_MAX: Final = 8 * 1024  # characters
REFRESH_S: Final = 60.0  # between two reads of the keys, whatever tokens arrive
OWN_SCOPE: Final = "dropmill:"
ACCESS_KINDS: Final = frozenset({"jwt", "at+jwt"})  # `typ` of a header; RFC 9068 wants the second, few issuers write it
OTHER_CLAIMS: Final = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "events"})  # of id tokens and of logout tokens
USUAL_SCOPES: Final = frozenset({Scope.SEND, Scope.READ})

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Signed:
    """What a valid token says.

    Attributes:
        claim: the name of a new account, and the role that the groups give.
        scopes: those of `scope` or `scp` that begin with `dropmill:`; without any, to send and to read.
        expires_at: never None, because a token that leaks must end.
    """

    identity: Identity
    claim: Claim
    scopes: frozenset[Scope]
    expires_at: datetime


class Jwts:
    """Checks tokens of one issuer."""

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        keys: str,
        name_claim: str,
        groups_claim: str,
        roles: Iterable[tuple[Role, str]],
    ) -> None:
        """Know no key yet; `run` reads them.

        Args:
            issuer: what `iss` must be.
            audience: what `aud` must have.
            keys: where the JSON Web Key Set is: a path, or a URL.
            name_claim: names a new account; where it is missing, `sub` does.
            groups_claim: a list of groups, or one.
            roles: roles with a group that gives it; empty: groups decide nothing.
        """
        self._issuer = issuer
        self._source = keys
        self._name_claim = name_claim
        self._groups_claim = groups_claim
        self._roles = tuple(roles)
        self._expected = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            sub={"essential": True},
        )
        self._keys: Kept[Keys] = Kept(self._read, "What --jwt-keys names", rest_s=REFRESH_S)

    # --- check -------------------------------------------------------------------------------------------------------

    async def check(self, token: str) -> Signed | None:
        """What a token says; None if it is none of ours, or not valid now.

        Raises:
            Unavailable: the keys could not be read since the start.
        """
        try:
            key_id = key_id_of(token, TOKEN_MAX)
        except ValueError:
            return None
        key = await self._key(key_id)
        if key is None:
            return None
        try:
            claims = verified_claims(token, key, self._expected)
            _require_access_token(jws.extract_compact(token.encode()).headers(), claims)
            return self._signed(claims)
        except (JoseError, BadRequest, ValueError, OverflowError) as error:
            log.debug("A JWT was refused: %s", type(error).__name__)  # what it says is not ours to log
            return None

    def _signed(self, claims: Mapping[str, Any]) -> Signed:
        subject = subject_of(claims)
        name = claims.get(self._name_claim)
        groups = words(claims.get(self._groups_claim))
        return Signed(
            identity=Identity(issuer=self._issuer, subject=subject),
            claim=Claim(
                name=checked_name(name if isinstance(name, str) else subject, self._name_claim),
                role=role_of(groups, self._roles),
            ),
            scopes=_scopes(claims),
            expires_at=datetime.fromtimestamp(claims["exp"], UTC),
        )

    async def _key(self, key_id: str | None) -> Key | None:
        """The key of a token, after reading the keys again if it is unknown and they were not just read."""
        found = key_of(self._keys.value or {}, key_id)
        if found is None:
            await self._keys.again()
            found = key_of(self._keys.value or {}, key_id)
        if self._keys.value is None:
            raise Unavailable("The keys that sign tokens cannot be read now; try again in a minute.")
        return found

    # --- keys --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the keys up to date until cancelled: read them now, each hour, and when a token names an unknown one."""
        await self._keys.run()

    async def _read(self) -> Keys:
        if "://" in self._source:
            text = await http.fetch(self._source, KEYS_MAX)
        else:
            text = await asyncio.to_thread(_read_file, Path(self._source))
        return await asyncio.to_thread(usable_keys, text)


def _require_access_token(header: Mapping[str, Any], claims: Mapping[str, Any]) -> None:
    """Return unless the issuer signed this for another purpose (RFC 8725, section 3.11), though perhaps for us.

    Raises:
        ValueError: it is an id token, a logout token, a refresh token or a request.
    """
    kind = str(header.get("typ") or "JWT").lower().removeprefix("application/")
    if kind not in ACCESS_KINDS or not OTHER_CLAIMS.isdisjoint(claims) or claims.get("typ", "Bearer") != "Bearer":
        raise ValueError("it is no access token")


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(KEYS_MAX + 1)
    if len(content) > KEYS_MAX:
        raise ValueError(f"there are more than {KEYS_MAX} bytes")
    return content


def _scopes(claims: Mapping[str, Any]) -> frozenset[Scope]:
    given = {word for name in ("scope", "scp") for text in words(claims.get(name)) for word in text.split()}
    own = {word.removeprefix(OWN_SCOPE) for word in given if word.startswith(OWN_SCOPE)}
    return frozenset(scope for scope in Scope if scope.value in own) if own else USUAL_SCOPES

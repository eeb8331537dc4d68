"""Tokens that another system signs (`--jwt-issuer`): JWT of RFC 7519, checked as RFC 8725 advises.

The algorithms are named here, and each takes a public key: a token can neither choose `none` nor have a public key used
as a secret. Keys come from a file or URL alone; what a token says of where its key is, is not read. A token without
`exp`, for another audience or of another issuer is none. What cannot be a token costs no computation.

Who has such a token is an account of that issuer and subject, see `dropmill.model.accounts.Identity`.
"""

import asyncio
import contextlib
import json
import logging
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
from joserfc import jws, jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import JWKRegistry, Key

from dropmill.access.proxy import Claim, role_of
from dropmill.model.accounts import Identity, checked_name
from dropmill.model.caller import Role, Scope
from dropmill.model.errors import BadRequest, Unavailable

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

TOKEN_MAX: Final = 8 * 1024  # characters
KEYS_MAX: Final = 1024 * 1024  # bytes of the file or the answer
FETCH_S: Final = 10.0
REFRESH_S: Final = 60.0  # between two reads of the keys, whatever tokens arrive
KEEP_S: Final = 3600.0  # then keys are read again, because the issuer may have withdrawn one
LEEWAY_S: Final = 30  # that clocks may differ
SUBJECT_MAX: Final = 255  # characters (OpenID Connect Core, section 2)
OWN_SCOPE: Final = "dropmill:"
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
        self._algorithms = list(ALGORITHMS)
        self._claims = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            sub={"essential": True},
        )
        self._keys: Mapping[str | None, Key] | None = None
        self._wanted = asyncio.Event()
        self._has_read = asyncio.Event()
        self._is_resting = False

    # --- check -------------------------------------------------------------------------------------------------------

    async def check(self, token: str) -> Signed | None:
        """What a token says; None if it is none of ours, or not valid now.

        Raises:
            Unavailable: the keys could not be read since the start.
        """
        if len(token) > TOKEN_MAX or token.count(".") != 2 or not token.isascii():
            return None
        try:
            key_id = jws.extract_compact(token.encode()).headers().get("kid")
        except (JoseError, ValueError):
            return None
        key = await self._key(key_id if isinstance(key_id, str) else None)
        if key is None:
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)  # EdDSA has another name since RFC 9864
                claims = jwt.decode(token, key, algorithms=self._algorithms).claims
            self._claims.validate(claims)
            return self._signed(claims)
        except (JoseError, BadRequest, ValueError, OverflowError) as error:
            log.debug("A JWT was refused: %s", type(error).__name__)  # what it says is not ours to log
            return None

    def _signed(self, claims: Mapping[str, Any]) -> Signed:
        subject = claims["sub"]
        if not isinstance(subject, str) or not 1 <= len(subject) <= SUBJECT_MAX or not subject.isprintable():
            raise ValueError("`sub` cannot be an account's")
        name = claims.get(self._name_claim)
        groups = _words(claims.get(self._groups_claim))
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
        found = self._found(key_id)
        if found is None:
            self._wanted.set()
            if not self._is_resting:
                has_read = self._has_read
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(has_read.wait(), 2 * FETCH_S)
                found = self._found(key_id)
        if self._keys is None:
            raise Unavailable("The keys that sign tokens cannot be read now; try again in a minute.")
        return found

    def _found(self, key_id: str | None) -> Key | None:
        keys = self._keys or {}
        return next(iter(keys.values())) if key_id is None and len(keys) == 1 else keys.get(key_id)

    # --- keys --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the keys up to date until cancelled: read them now, each hour, and when a token names an unknown one."""
        while True:
            self._wanted.clear()
            try:
                self._keys = _usable(await self._read())
            except (OSError, httpx.HTTPError, ValueError, JoseError) as error:
                log.warning("The keys of --jwt-keys cannot be read: %s", error)
            self._is_resting = True
            self._has_read.set()
            self._has_read = asyncio.Event()
            await asyncio.sleep(REFRESH_S)
            self._is_resting = False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), KEEP_S)

    async def _read(self) -> bytes:
        if "://" not in self._source:
            return await asyncio.to_thread(_read_file, Path(self._source))
        content = bytearray()
        async with (
            asyncio.timeout(FETCH_S),
            httpx.AsyncClient(timeout=FETCH_S) as client,
            client.stream("GET", self._source) as answer,
        ):
            answer.raise_for_status()
            async for piece in answer.aiter_bytes():
                content += piece
                _check_size(len(content))
        return bytes(content)


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(KEYS_MAX + 1)
    _check_size(len(content))
    return content


def _check_size(size: int) -> None:
    if size > KEYS_MAX:
        raise ValueError(f"there are more than {KEYS_MAX} bytes")


def _usable(text: bytes) -> Mapping[str | None, Key]:
    """The public keys of a set for signatures, by their ids.

    Raises:
        ValueError: the text is no set, or has none.
    """
    given = json.loads(text)
    entries = given.get("keys") if isinstance(given, dict) else None
    found: dict[str | None, Key] = {}
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("kty") not in ("RSA", "EC", "OKP") or entry.get("use") == "enc":
            continue
        with contextlib.suppress(JoseError, ValueError, TypeError, KeyError):  # a kind of a newer time, for others
            found[entry.get("kid")] = JWKRegistry.import_key(entry)
    if not found:
        raise ValueError("there is no public key for signatures")
    return found


def _words(value: object) -> list[str]:
    """The texts of a claim that is a list or one text."""
    several = value if isinstance(value, list) else [value]
    return [one for one in several if isinstance(one, str)]


def _scopes(claims: Mapping[str, Any]) -> frozenset[Scope]:
    given = {word for name in ("scope", "scp") for text in _words(claims.get(name)) for word in text.split()}
    own = {word.removeprefix(OWN_SCOPE) for word in given if word.startswith(OWN_SCOPE)}
    return frozenset(scope for scope in Scope if scope.value in own) if own else USUAL_SCOPES

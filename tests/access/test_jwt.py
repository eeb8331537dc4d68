"""Tokens that another system signs: which are valid, and when their keys are read."""

import asyncio
import base64
import contextlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeySet, OKPKey, RSAKey

from dropmill.access import jwt as jwt_module
from dropmill.access.jwt import TOKEN_MAX, Jwts
from dropmill.model.accounts import Identity
from dropmill.model.caller import Role, Scope
from dropmill.model.errors import Unavailable

ISSUER, AUDIENCE = "https://issuer.example", "dropmill"
EC = ECKey.generate_key("P-256", {"kid": "ec"})
RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"})
NEW = ECKey.generate_key("P-256", {"kid": "new"})
ROLES = [(Role.ADMIN, "ops"), (Role.OPERATOR, "staff")]


def signed(key: Any = EC, alg: str = "ES256", header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token that is valid unless a claim or the header is changed; None drops a claim."""
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "u1", "exp": int(time.time()) + 600, "preferred_username": "ada"}
    given = {name: value for name, value in (usual | claims).items() if value is not None}
    head = {name: value for name, value in ({"alg": alg, "kid": key.kid} | (header or {})).items() if value is not None}
    return jwt.encode(head, given, key, algorithms=[alg])


def write(path: Path, *keys: Key) -> None:
    path.write_text(json.dumps(KeySet(list(keys)).as_dict(private=False)))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    write(tmp_path / "keys.json", EC, RSA, ED)
    return tmp_path / "keys.json"


Start = Callable[..., Jwts]


@pytest.fixture
async def start(keys: Path) -> AsyncIterator[Start]:
    """Starts to check tokens."""
    running: list[asyncio.Task[None]] = []

    def make(source: str | None = None) -> Jwts:
        made = Jwts(
            issuer=ISSUER,
            audience=AUDIENCE,
            keys=source or str(keys),
            name_claim="preferred_username",
            groups_claim="groups",
            roles=ROLES,
        )
        running.append(asyncio.create_task(made.run()))
        return made

    yield make
    for task in running:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(("key", "alg"), [(EC, "ES256"), (RSA, "RS256"), (RSA, "PS384"), (ED, "Ed25519")])
async def test_a_token_says_who_it_is_of(start: Start, key: Any, alg: str) -> None:
    found = await start().check(signed(key, alg, groups=["others", "staff"]))
    assert found is not None
    assert found.identity == Identity(issuer=ISSUER, subject="u1")
    assert (found.claim.name, found.claim.role) == ("ada", Role.OPERATOR)
    assert found.scopes == {Scope.SEND, Scope.READ}
    assert time.time() < found.expires_at.timestamp() <= time.time() + 600


@pytest.mark.parametrize("kind", [None, "JWT", "at+jwt", "application/at+jwt", "AT+JWT"])
async def test_an_access_token_need_not_say_what_it_is(start: Start, kind: str | None) -> None:
    assert await start().check(signed(header={"typ": kind} if kind else {}, typ="Bearer")) is not None


async def test_claims_give_no_more_than_they_say(start: Start) -> None:
    jwts = start()

    async def scopes_of(**claims: Any) -> frozenset[Scope]:
        found = await jwts.check(signed(**claims))
        assert found is not None
        return found.scopes

    assert await scopes_of(scope="openid profile admin") == {Scope.SEND, Scope.READ}
    assert await scopes_of(scope="openid dropmill:read") == {Scope.READ}
    assert await scopes_of(scp=["dropmill:admin", "dropmill:config"]) == {Scope.ADMIN, Scope.CONFIG}
    assert await scopes_of(scope="dropmill:everything") == frozenset()
    found = await jwts.check(signed(groups="ops", preferred_username=None))
    assert found is not None
    assert (found.claim.name, found.claim.role) == ("u1", Role.ADMIN)


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def unsigned(alg: str = "none", kid: str = "ec") -> str:
    body = {"iss": ISSUER, "aud": AUDIENCE, "sub": "u1", "exp": 2**33}
    return ".".join([*(encoded(json.dumps(part).encode()) for part in ({"alg": alg, "kid": kid}, body)), ""])


def with_public_key_as_secret() -> str:
    """Signed by HMAC with what everybody knows: the public key."""
    text = unsigned("HS256", "rsa").removesuffix(".")
    return f"{text}.{encoded(hmac.digest(RSA.as_pem(private=False), text.encode(), 'sha256'))}"


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(lambda: signed(iss="https://other.example"), id="other issuer"),
        pytest.param(lambda: signed(iss=None), id="no issuer"),
        pytest.param(lambda: signed(aud="other"), id="other audience"),
        pytest.param(lambda: signed(aud=None), id="no audience"),
        pytest.param(lambda: signed(exp=int(time.time()) - 60), id="expired"),
        pytest.param(lambda: signed(exp=None), id="never expires"),
        pytest.param(lambda: signed(exp="soon"), id="expires at a text"),
        pytest.param(lambda: signed(exp=10**30), id="expires beyond all time"),
        pytest.param(lambda: signed(nbf=int(time.time()) + 600), id="not valid yet"),
        pytest.param(lambda: signed(nonce="n"), id="id token"),
        pytest.param(lambda: signed(at_hash="h"), id="id token of a code"),
        pytest.param(lambda: signed(typ="ID"), id="id token of Keycloak"),
        pytest.param(lambda: signed(typ="Refresh"), id="refresh token of Keycloak"),
        pytest.param(lambda: signed(events={}), id="logout token"),
        pytest.param(lambda: signed(header={"typ": "logout+jwt"}), id="logout token by its header"),
        pytest.param(lambda: signed(header={"typ": "dpop+jwt"}), id="proof of possession"),
        pytest.param(lambda: signed(sub=None), id="no subject"),
        pytest.param(lambda: signed(sub=""), id="empty subject"),
        pytest.param(lambda: signed(sub=7), id="subject is a number"),
        pytest.param(lambda: signed(sub="x" * 256), id="long subject"),
        pytest.param(lambda: signed(preferred_username="a" * 65), id="name of nobody"),
        pytest.param(lambda: signed(NEW, header={"kid": "ec"}), id="signed by another key"),
        pytest.param(lambda: signed(NEW, header={"kid": None}), id="which key"),
        pytest.param(lambda: signed(EC, header={"kid": "rsa"}), id="key of another kind"),
        pytest.param(lambda: signed()[:-4] + "AAAA", id="signature changed"),
        pytest.param(unsigned, id="not signed"),
        pytest.param(with_public_key_as_secret, id="public key as a secret"),
        pytest.param(lambda: signed(more="x" * TOKEN_MAX), id="too long"),
        pytest.param(lambda: "", id="empty"),
        pytest.param(lambda: "..", id="empty parts"),
        pytest.param(lambda: "é.é.é", id="no ASCII"),
        pytest.param(lambda: "W10.W10.W10", id="lists"),
        pytest.param(lambda: f"{encoded(b'[' * 5000)}.W10.W10", id="nested deeply"),
        pytest.param(lambda: "dmill_" + "x" * 46, id="a token of ours"),
    ],
)
async def test_any_other_token_is_none(start: Start, token: Callable[[], str]) -> None:
    assert await start().check(token()) is None


async def test_where_a_token_says_its_key_is_does_not_count(start: Start) -> None:
    header = {"jwk": NEW.as_dict(private=False), "jku": "https://evil.example/keys", "kid": "new"}
    assert await start().check(signed(NEW, header=header)) is None


async def test_an_unknown_key_has_the_keys_read_again_but_not_at_once_twice(
    start: Start, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    reading = jwt_module._read_file

    def read(path: Path) -> bytes:
        nonlocal reads
        reads += 1
        return reading(path)

    monkeypatch.setattr(jwt_module, "_read_file", read)
    monkeypatch.setattr(jwt_module, "REFRESH_S", 0.2)
    jwts = start()
    assert await jwts.check(signed(NEW)) is None
    write(keys, NEW)
    for _ in range(20):
        assert await jwts.check(signed(NEW)) is None  # the keys have just been read
    assert reads == 1
    await asyncio.sleep(0.5)  # it was asked for meanwhile, and is read once
    assert await jwts.check(signed(NEW)) is not None
    assert reads == 2
    assert await jwts.check(signed(EC)) is None, "the issuer has withdrawn it"


async def test_keys_that_cannot_be_read_make_no_token_invalid(start: Start, keys: Path, tmp_path: Path) -> None:
    missing = start(str(tmp_path / "missing.json"))
    with pytest.raises(Unavailable):
        await missing.check(signed())
    for text in (
        "",
        "[" * 100_000,
        "[]",
        '{"keys": []}',
        '{"keys": [{"kty": "oct", "k": "eA", "kid": "ec"}]}',
        "x" * 2_000_000,
    ):
        keys.write_text(text)
        with pytest.raises(Unavailable):
            await start().check(signed())

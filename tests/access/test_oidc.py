"""Sign-in with an identity provider: which of its answers let somebody in, over a real ledger and a real provider."""

import asyncio
import base64
import contextlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from argon2 import PasswordHasher
from joserfc import jwt
from joserfc.jwk import RSAKey
from tests.support import identity_provider
from tests.support.identity_provider import (
    CLIENT_ID,
    CLIENT_SECRET,
    DISCOVERY,
    KEYS,
    TOKEN,
    USERINFO,
    Handler,
    IdentityProvider,
    answer_with,
    new_key,
)
from tests.support.scenarios import CLIENT, all_events
from tests.support.waiting import eventually

from dropmill.access import http, oidc
from dropmill.access.accounts import Accounts
from dropmill.access.oidc import Oidc, OidcSettings
from dropmill.access.passwords import Passwords
from dropmill.access.refusals import Refusals
from dropmill.access.sessions import Sessions, SignedIn
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.accounts import Identity
from dropmill.model.caller import Role
from dropmill.model.errors import DropmillError, ProviderUnavailable, SignInFailed, Unavailable
from dropmill.model.events import EventName
from dropmill.model.internal import Internal

PASSWORD = "correct horse battery"
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})


@pytest.fixture(scope="module")
def serving() -> Iterator[IdentityProvider]:
    with identity_provider.running() as found:
        yield found


@pytest.fixture
def provider(serving: IdentityProvider) -> IdentityProvider:
    """A good provider; a test makes it another one."""
    serving.forget()
    serving.key = new_key("one")
    serving.keys = [serving.key, RSA]
    return serving


class Access:
    """Sign-in with a provider over one ledger."""

    def __init__(self, ledger: SqliteLedger, provider: IdentityProvider, **settings: Any) -> None:
        given = {
            "issuer": provider.url,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "redirect_uri": "https://drop.example/sign-in/oidc/callback",
            "name": "the office",
            "scopes": ("openid", "profile"),
            "name_claim": "preferred_username",
            "groups_claim": "groups",
            "roles": [(Role.ADMIN, "ops"), (Role.OPERATOR, "staff")],
            **settings,
        }
        self.ledger = ledger
        self.passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        self.accounts = Accounts(ledger, self.passwords)
        self.refusals = Refusals(ledger)
        sessions = Sessions(ledger, self.passwords, self.refusals, idle_s=3600, lifetime_s=7200)
        self.oidc = Oidc(OidcSettings(**given), ledger=ledger, sessions=sessions, refusals=self.refusals)

    async def begun(self, browser: str | None = None) -> tuple[str, dict[str, str]]:
        """The secret of the browser that has begun to sign in, and what the provider sends it back with."""
        begun = await self.oidc.begin(CLIENT, browser, "/history")
        async with httpx.AsyncClient(trust_env=False) as visiting:
            answer = await visiting.get(begun.url)
        assert answer.status_code == 302
        back = urlsplit(answer.headers["Location"])
        assert f"{back.scheme}://{back.netloc}{back.path}" == "https://drop.example/sign-in/oidc/callback"
        return begun.browser, {name: values[0] for name, values in parse_qs(back.query).items()}

    async def sign_in(self) -> SignedIn:
        """Sign in at the provider and come back."""
        browser, answer = await self.begun()
        assert (await self.oidc.take(CLIENT, browser, answer)).next == "/history"
        return await self.oidc.finish(CLIENT, browser, answer)

    async def refused(self) -> tuple[str, str | None]:
        """Code and reason of the error with which a sign-in fails, after the audit has it."""
        with pytest.raises(DropmillError) as caught:
            await self.sign_in()
        assert CLIENT_SECRET not in caught.value.detail
        return caught.value.code, caught.value.extra.get("reason")

    async def audited(self) -> list[str]:
        """Why somebody was refused, as the audit says it."""
        await self.refusals.record(all_of_it=True)
        return [e.data["reason"] for e in await all_events(self.ledger) if e.name is EventName.ACCOUNT_REFUSED]


Start = Callable[..., Access]


@pytest.fixture
async def start(ledger: SqliteLedger, provider: IdentityProvider) -> AsyncIterator[Start]:
    """Starts to sign people in."""
    running: list[asyncio.Task[None]] = []
    made: list[Access] = []

    def make(**settings: Any) -> Access:
        made.append(Access(ledger, provider, **settings))
        running.append(asyncio.create_task(made[-1].oidc.run()))
        return made[-1]

    yield make
    for task in running:
        assert not task.done(), "an answer of the provider has ended the task that reads"
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    for access in made:
        access.passwords.close()


# --- who gets in -----------------------------------------------------------------------------------------------------


async def test_the_first_sign_in_makes_an_account_and_later_ones_find_it(
    start: Start, provider: IdentityProvider
) -> None:
    access = start()
    provider.person["groups"] = ["others", "staff"]
    first = await access.sign_in()
    assert (first.account.name, first.account.role, first.account.has_password) == ("ada", Role.OPERATOR, False)
    found = await access.ledger.account_by(Identity(issuer=provider.url, subject="u-ada"))
    assert found is not None
    assert found.id == first.account.id
    provider.person |= {"preferred_username": "renamed", "groups": ["ops", "staff"]}
    second = await access.sign_in()
    assert (second.account.id, second.account.name, second.account.role) == (first.account.id, "ada", Role.ADMIN)
    provider.person["groups"] = []
    assert (await access.sign_in()).account.role is Role.VIEWER
    signed = [e.data for e in await all_events(access.ledger) if e.name is EventName.ACCOUNT_SIGNED_IN]
    assert signed == [{"method": "oidc"}] * 3


async def test_without_groups_that_give_roles_an_admin_decides(start: Start, provider: IdentityProvider) -> None:
    access = start(roles=())
    provider.person["groups"] = ["ops"]
    found = (await access.sign_in()).account
    assert found.role is Role.VIEWER
    await access.accounts.change(Internal.COMMAND_LINE, found.id, role=Role.OPERATOR)
    assert (await access.sign_in()).account.role is Role.OPERATOR


async def test_other_subjects_are_other_people_whatever_they_are_called(
    start: Start, provider: IdentityProvider
) -> None:
    access = start()
    ada = (await access.sign_in()).account
    provider.person = {"sub": "u-other", "preferred_username": "ADA"}
    assert await access.refused() == ("sign_in_failed", "name_taken")
    provider.person = {"sub": "u-nameless"}
    nameless = (await access.sign_in()).account
    assert (nameless.name, nameless.id != ada.id) == ("u-nameless", True)


async def test_claims_that_the_id_token_lacks_come_from_the_userinfo_endpoint(
    start: Start, provider: IdentityProvider
) -> None:
    access = start()
    provider.person["groups"] = ["ops"]
    provider.claims = {"preferred_username": None, "groups": None}
    found = (await access.sign_in()).account
    assert (found.name, found.role) == ("ada", Role.ADMIN)
    provider.asked.clear()
    provider.claims = {}
    await access.sign_in()
    assert USERINFO not in provider.asked, "nothing was missing"


async def test_another_signature_and_several_audiences_are_valid_too(start: Start, provider: IdentityProvider) -> None:
    access = start()
    provider.key, provider.header = RSA, {"alg": "RS256"}
    provider.claims = {"aud": ["others", CLIENT_ID], "azp": CLIENT_ID}
    assert (await access.sign_in()).account.name == "ada"


async def test_a_client_without_a_secret_and_one_that_shows_it_in_the_form_are_let_in(
    start: Start, provider: IdentityProvider
) -> None:
    token = answer_with(json.dumps({"access_token": "a", "token_type": "Bearer"}).encode())
    provider.answers[TOKEN] = token
    await start(client_secret=None).refused()
    assert (provider.seen[-1]["client_id"], provider.seen[-1]["authorization"]) == (CLIENT_ID, None)
    provider.document["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    await start().refused()
    assert (provider.seen[-1]["client_secret"], provider.seen[-1]["authorization"]) == (CLIENT_SECRET, None)


async def test_a_key_that_the_provider_has_changed_meanwhile_is_read(start: Start, provider: IdentityProvider) -> None:
    access = start()
    await access.sign_in()
    browser, answer = await access.begun()
    provider.key = new_key("two")
    provider.keys = [provider.key]
    provider.asked.clear()
    await access.oidc.take(CLIENT, browser, answer)
    assert (await access.oidc.finish(CLIENT, browser, answer)).account.name == "ada"
    assert provider.asked == [TOKEN, DISCOVERY, KEYS], "the keys were read once, although they had just been read"


async def test_a_key_that_was_changed_under_its_old_id_is_read(start: Start, provider: IdentityProvider) -> None:
    access = start()
    browser, answer = await access.begun()
    provider.key = new_key("one")
    provider.keys = [provider.key]
    await access.oidc.take(CLIENT, browser, answer)
    assert (await access.oidc.finish(CLIENT, browser, answer)).account.name == "ada"


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_secrets_and_codes_arrive_as_they_are(start: Start, provider: IdentityProvider, method: str) -> None:
    secret, code = "a+b/c=&%~*'()! \"ü", "4/0A-b_c~d.e*f'g(h)! i&j=k%l+m"
    access = start(client_secret=secret)
    provider.document["token_endpoint_auth_methods_supported"] = [method]
    provider.comes_back = {"code": code}
    assert await access.refused() == ("sign_in_failed", "answer")
    (seen,) = provider.seen
    assert seen["code"] == code
    if method == "client_secret_post":
        assert seen["client_secret"] == secret
    else:
        assert base64.b64decode(seen["authorization"].removeprefix("Basic ")).decode("latin-1") == f"drop:{secret}"


# --- states ----------------------------------------------------------------------------------------------------------


async def test_a_state_is_good_once_and_in_its_browser_alone(start: Start) -> None:
    access = start()
    browser, answer = await access.begun()
    other, _ = await access.begun()
    assert other != browser
    for somebody in (other, None, "", "x" * 43):
        with pytest.raises(SignInFailed) as caught:
            await access.oidc.take(CLIENT, somebody, answer)
        assert caught.value.extra == {"reason": "state"}
    await access.oidc.take(CLIENT, browser, answer)
    for wrong in (answer, {}, {"state": ""}, {"state": "x" * 43}, {"state": "x" * 5000}):
        with pytest.raises(SignInFailed):
            await access.oidc.take(CLIENT, browser, wrong)
    assert set(await access.audited()) == {"wrong_state"}


async def test_two_tabs_of_a_browser_sign_in_side_by_side(start: Start) -> None:
    access = start()
    browser, first = await access.begun()
    same, second = await access.begun(browser)
    assert same == browser
    for answer in (first, second):
        await access.oidc.take(CLIENT, browser, answer)
        assert (await access.oidc.finish(CLIENT, browser, answer)).account.name == "ada"


async def test_a_state_expires(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "PENDING_S", 0.0)
    access = start()
    browser, answer = await access.begun()
    with pytest.raises(SignInFailed):
        await access.oidc.take(CLIENT, browser, answer)


async def test_the_answer_to_one_sign_in_does_not_fit_another(start: Start) -> None:
    """A code that an attacker has got for itself, put into somebody else's sign-in: the verifier does not fit."""
    access = start()
    _, of_attacker = await access.begun()
    browser, answer = await access.begun()
    await access.oidc.take(CLIENT, browser, answer)
    with pytest.raises(SignInFailed):
        await access.oidc.finish(CLIENT, browser, {**answer, "code": of_attacker["code"]})


async def test_nothing_in_the_ledger_is_worth_anything(start: Start, ledger: SqliteLedger) -> None:
    access = start()
    browser, answer = await access.begun()
    await access.oidc.take(CLIENT, browser, answer)
    signed_in = await access.oidc.finish(CLIENT, browser, answer)
    browser, answer = await access.begun(browser)
    await ledger.close()
    kept = b"".join(path.read_bytes() for path in sorted(ledger._path.parent.glob("ledger.sqlite*")))
    for secret in (browser, answer["state"], answer["code"], signed_in.secret, CLIENT_SECRET, "the-access-token"):
        assert secret.encode() not in kept


# --- answers that let nobody in --------------------------------------------------------------------------------------


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return ".".join(encoded(json.dumps(part).encode()) for part in ({**header, "alg": "none"}, claims)) + "."


def by_public_key(header: dict[str, Any], claims: dict[str, Any]) -> str:
    """Signed by HMAC with what everybody knows: the public key."""
    head = {**header, "alg": "HS256", "kid": "rsa"}
    text = ".".join(encoded(json.dumps(part).encode()) for part in (head, claims))
    return f"{text}.{encoded(hmac.digest(RSA.as_pem(private=False), text.encode(), 'sha256'))}"


def by_other_key(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return jwt.encode(header, claims, new_key("one"))


def deep(header: dict[str, Any], _claims: dict[str, Any]) -> str:
    return f"{encoded(b'[' * 40000)}.{encoded(json.dumps(header).encode())}.{encoded(b'x')}"


NOW = int(time.time())


@pytest.mark.parametrize(
    ("change", "value"),
    [
        pytest.param("claims", {"iss": "https://other.example"}, id="other issuer"),
        pytest.param("claims", {"iss": None}, id="no issuer"),
        pytest.param("claims", {"aud": "other"}, id="other audience"),
        pytest.param("claims", {"aud": None}, id="no audience"),
        pytest.param("claims", {"aud": [CLIENT_ID, "other"]}, id="several audiences and no azp"),
        pytest.param("claims", {"azp": "other"}, id="made for another client"),
        pytest.param("claims", {"exp": NOW - 600}, id="expired"),
        pytest.param("claims", {"exp": None}, id="never expires"),
        pytest.param("claims", {"exp": "soon"}, id="expires at a text"),
        pytest.param("claims", {"iat": None}, id="made at no time"),
        pytest.param("claims", {"iat": NOW + 6000}, id="made in the future"),
        pytest.param("claims", {"nonce": "other"}, id="other nonce"),
        pytest.param("claims", {"nonce": None}, id="no nonce"),
        pytest.param("claims", {"nonce": 7}, id="nonce is a number"),
        pytest.param("claims", {"nonce": "é"}, id="nonce is no ASCII"),
        pytest.param("claims", {"sub": None}, id="no subject"),
        pytest.param("claims", {"sub": ["u-ada"]}, id="subject is a list"),
        pytest.param("claims", {"sub": "x" * 256}, id="long subject"),
        pytest.param("claims", {"more": "x" * oidc.ID_TOKEN_MAX}, id="too long"),
        pytest.param("header", {"kid": "unknown"}, id="unknown key"),
        pytest.param("header", {"kid": None}, id="which key"),
        pytest.param("header", {"kid": "rsa"}, id="key of another kind"),
        pytest.param("sign", unsigned, id="alg none"),
        pytest.param("sign", by_public_key, id="public key as a secret"),
        pytest.param("sign", by_other_key, id="signed by another key"),
        pytest.param("sign", deep, id="nested deeply"),
        pytest.param("sign", lambda *_: "", id="empty"),
        pytest.param("sign", lambda *_: "a.b.c", id="no JSON"),
        pytest.param("sign", lambda *_: 7, id="a number"),
        pytest.param("sign", lambda *_: None, id="null"),
    ],
)
async def test_an_id_token_that_is_not_valid_lets_nobody_in(
    start: Start, provider: IdentityProvider, change: str, value: Any
) -> None:
    access = start()
    setattr(provider, change, value)
    assert await access.refused() == ("sign_in_failed", "answer")
    assert await access.audited() == ["provider_failed"]
    assert not await access.ledger.has_accounts()


HTML = b"<!doctype html><title>Sorry</title>"
BOMB = b"\x1f\x8b" + bytes(100)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param(answer_with(HTML, kind="text/html"), "sign_in_failed", id="HTML"),
        pytest.param(answer_with(HTML, kind="text/html", status=500), "provider_unavailable", id="500"),
        pytest.param(answer_with(b"{}", status=302, Location="/token"), "sign_in_failed", id="redirection"),
        pytest.param(answer_with(b"{}", status=429), "sign_in_failed", id="429"),
        pytest.param(answer_with(b""), "sign_in_failed", id="empty"),
        pytest.param(answer_with(b"[]"), "sign_in_failed", id="list"),
        pytest.param(answer_with(b"{}"), "sign_in_failed", id="nothing"),
        pytest.param(answer_with(b"[" * 100_000), "sign_in_failed", id="nested deeply"),
        pytest.param(answer_with(b'{"expires_in": "soon"}'), "sign_in_failed", id="expires at a text"),
        pytest.param(answer_with(b'{"error": {"a": "<b>"}}', status=400), "sign_in_failed", id="strange error"),
        pytest.param(answer_with(b'{"error": "invalid_client"}', status=401), "sign_in_failed", id="wrong secret"),
        pytest.param(answer_with(b"x" * (oidc.ANSWER_MAX + 1)), "sign_in_failed", id="huge"),
        pytest.param(answer_with(BOMB, Content_Encoding="gzip"), "sign_in_failed", id="compressed"),
        pytest.param(lambda handler: handler.connection.close(), "provider_unavailable", id="hangs up"),
    ],
)
async def test_a_token_endpoint_that_answers_something_else_lets_nobody_in(
    start: Start, provider: IdentityProvider, answer: identity_provider.Answer, code: str
) -> None:
    access = start()
    provider.answers[TOKEN] = answer
    assert (await access.refused())[0] == code
    assert await access.audited() == ["provider_failed"]


@pytest.mark.parametrize("path", [DISCOVERY, KEYS, TOKEN, USERINFO])
async def test_a_provider_that_hangs_is_waited_for_a_while(
    start: Start, provider: IdentityProvider, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "CALL_S", 0.3)
    provider.answers[path] = Handler.hang
    provider.claims = {"groups": None}
    assert (await start().refused())[0] == "provider_unavailable"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(answer_with(HTML, kind="text/html"), id="HTML"),
        pytest.param(answer_with(b"{}", status=500), id="500"),
        pytest.param(answer_with(b"[" * 100_000), id="nested deeply"),
        pytest.param(answer_with(b"x" * 2_000_000), id="huge"),
        pytest.param(answer_with(b"{}"), id="nothing"),
    ],
)
@pytest.mark.parametrize("path", [DISCOVERY, KEYS])
async def test_nobody_is_sent_to_a_provider_that_does_not_say_what_it_is(
    start: Start, provider: IdentityProvider, path: str, answer: identity_provider.Answer
) -> None:
    access = start()
    provider.answers[path] = answer
    with pytest.raises(ProviderUnavailable):
        await access.oidc.begin(CLIENT, None, "/")
    assert await access.audited() == ["provider_failed"]


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://other.example"},
        {"issuer": None},
        {"token_endpoint": "http://other.example/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": "file:///etc/keys"},
        {"userinfo_endpoint": 7},
        {"token_endpoint": None},
        {"jwks_uri": "https://xn--a/keys"},
    ],
    ids=str,
)
async def test_a_document_that_leads_elsewhere_is_refused(
    start: Start, provider: IdentityProvider, change: dict[str, Any]
) -> None:
    provider.document = change
    with pytest.raises(ProviderUnavailable):
        await start().oidc.begin(CLIENT, None, "/")


@pytest.mark.parametrize(
    ("change", "code", "reason", "audited"),
    [
        ({"error": "access_denied", "code": None}, "sign_in_failed", "denied", "provider_denied"),
        ({"error": "<script>", "code": None}, "sign_in_failed", "answer", "provider_failed"),
        ({"error": "server_error", "code": None}, "provider_unavailable", None, "provider_failed"),
        ({"code": None}, "sign_in_failed", "answer", "provider_failed"),
        ({"code": "x" * 5000}, "sign_in_failed", "answer", "provider_failed"),
        ({"code": "é\n"}, "sign_in_failed", "answer", "provider_failed"),
        ({"code": "invented"}, "sign_in_failed", "answer", "provider_failed"),
        ({"iss": "https://other.example"}, "sign_in_failed", "answer", "provider_failed"),
    ],
    ids=str,
)
async def test_what_the_browser_comes_back_with_is_checked(
    start: Start, provider: IdentityProvider, change: dict[str, str | None], code: str, reason: str | None, audited: str
) -> None:
    access = start()
    provider.comes_back = change
    assert await access.refused() == (code, reason)
    assert await access.audited() == [audited]


async def test_claims_about_somebody_else_are_not_believed(start: Start, provider: IdentityProvider) -> None:
    access = start()
    provider.claims = {"groups": None}
    for body in (b'{"sub": "u-root", "groups": ["ops"]}', b'{"groups": ["ops"]}', b"[]", HTML):
        provider.answers[USERINFO] = answer_with(body)
        assert await access.refused() == ("sign_in_failed", "answer")


async def test_names_and_accounts_that_cannot_be_used_are_refused(start: Start, provider: IdentityProvider) -> None:
    access = start()
    local = await access.accounts.add(Internal.COMMAND_LINE, "Root", Role.ADMIN, PASSWORD)
    provider.person = {"sub": "u-root", "preferred_username": "rOOT", "groups": ["ops"]}
    assert await access.refused() == ("sign_in_failed", "name_taken")
    provider.person = {"sub": "u-long", "preferred_username": "x" * 65, "groups": []}
    assert await access.refused() == ("sign_in_failed", "name")
    provider.person = {"sub": "u-ada", "preferred_username": "ada", "groups": []}
    ada = (await access.sign_in()).account
    await access.accounts.change(Internal.COMMAND_LINE, ada.id, is_disabled=True)
    assert await access.refused() == ("sign_in_failed", "disabled")
    assert await access.audited() == ["name_taken", "provider_failed", "disabled"]
    refused = [e.subject.account for e in await all_events(access.ledger) if e.name is EventName.ACCOUNT_REFUSED]
    assert refused == [local.name, None, "ada"]


async def test_invented_codes_have_to_wait_and_an_outage_makes_nobody_wait(
    start: Start, provider: IdentityProvider
) -> None:
    access = start()
    provider.answers[TOKEN] = answer_with(HTML, status=503)
    for _ in range(30):
        assert (await access.refused())[0] == "provider_unavailable"
    provider.answers.clear()
    provider.comes_back = {"code": "invented"}
    codes = [(await access.refused())[0] for _ in range(22)]
    assert codes == ["sign_in_failed"] * 20 + ["too_many_attempts"] * 2
    assert provider.asked.count(TOKEN) == 50, "who has to wait makes the server call nobody"


async def test_a_company_behind_one_address_signs_in_at_once(start: Start, provider: IdentityProvider) -> None:
    access = start()
    begun = [await access.begun() for _ in range(15)]

    async def finish(browser: str, answer: dict[str, str]) -> str:
        await access.oidc.take(CLIENT, browser, answer)
        return (await access.oidc.finish(CLIENT, browser, answer)).account.name

    assert set(await asyncio.gather(*(finish(*one) for one in begun))) == {"ada"}


async def test_more_than_can_be_asked_at_once_have_to_try_again(
    start: Start, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "AT_ONCE", 1)
    access = start()
    first, second = await access.begun(), await access.begun()
    for browser, answer in (first, second):
        await access.oidc.take(CLIENT, browser, answer)
    provider.answers[TOKEN] = Handler.hang
    waiting = asyncio.create_task(access.oidc.finish(CLIENT, *first))
    await eventually(lambda: TOKEN in provider.asked)
    with pytest.raises(Unavailable):
        await access.oidc.finish(CLIENT, *second)
    waiting.cancel()  # the client has left
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    provider.answers.clear()
    assert (await access.sign_in()).account.name == "ada"


async def test_the_log_has_each_reason_once_and_no_word_of_the_provider(
    start: Start, provider: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    access = start()
    for error in ("invalid_client", "a secret of mine"):
        provider.answers[TOKEN] = answer_with(json.dumps({"error": error}).encode(), status=401)
        for _ in range(2):
            await access.refused()
    found = [record.getMessage() for record in caplog.records if record.name == "dropmill.access.oidc"]
    assert [message.partition("failed: ")[2] for message in found] == [
        "the token endpoint answers invalid_client.",
        "the token endpoint answers an unknown error.",
    ]
    assert "secret of mine" not in caplog.text
    assert CLIENT_SECRET not in caplog.text
    assert CLIENT_SECRET not in repr(access.oidc._settings)


async def test_a_provider_that_comes_up_later_is_found(start: Start, provider: IdentityProvider) -> None:
    provider.answers[DISCOVERY] = answer_with(HTML, status=503)
    access = start()
    with pytest.raises(ProviderUnavailable):
        await access.oidc.begin(CLIENT, None, "/")
    provider.answers.clear()
    async with asyncio.timeout(30):
        while True:  # it is asked once a second at most
            with contextlib.suppress(ProviderUnavailable):
                await access.oidc.begin(CLIENT, None, "/")
                break
            await asyncio.sleep(0.05)
    assert (await access.sign_in()).account.name == "ada"

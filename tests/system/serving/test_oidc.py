"""People who sign in with an identity provider, as far as HTTP shows it: a real server and a provider of the tests."""

import html
import json
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from tests.support import identity_provider
from tests.support.identity_provider import (
    CLIENT_ID,
    CLIENT_SECRET,
    DISCOVERY,
    TOKEN,
    Handler,
    IdentityProvider,
    answer_with,
    free_port,
)
from tests.support.preloaded import DROPMILL
from tests.support.server import Server
from tests.support.waiting import PATIENCE_S, wait_until

PASSWORD = "correct horse battery"
NAME = "the <Office>"
SORRY = answer_with(b"<html>Sorry</html>", status=500, kind="text/html")


@pytest.fixture(scope="module")
def serving() -> Iterator[IdentityProvider]:
    with identity_provider.running() as found:
        yield found


@pytest.fixture
def provider(serving: IdentityProvider) -> IdentityProvider:
    """A good provider; a test makes it another one."""
    serving.forget()
    return serving


@pytest.fixture(scope="module")
def site(serving: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose people sign in with a provider, and one admin with a password."""
    port = free_port()
    flags = ("--oidc-issuer", serving.url, "--oidc-client-id", CLIENT_ID, "--oidc-name", NAME)
    server = Server(
        tmp_path_factory.mktemp("site"),
        *flags,
        *("--public-url", f"http://127.0.0.1:{port}"),
        bind=f"127.0.0.1:{port}",
        environment={"DROPMILL_OIDC_CLIENT_SECRET": CLIENT_SECRET, "DROPMILL_OIDC_ROLES": "admin=ops,operator=staff"},
    )
    try:
        server.start()
        add = [*DROPMILL, "account", "add", "root", "--role", "admin", "--password-stdin", "--data", str(server.data)]
        subprocess.run(add, input=PASSWORD, text=True, check=True, cwd=server.folder, capture_output=True)
        yield server
    finally:
        server.end()


class Browser:
    """A browser without scripts, at an address of its own."""

    _last = 10

    def __init__(self, site: Server) -> None:
        Browser._last += 1
        self.ip = f"127.0.0.{Browser._last}"
        self.http = httpx.Client(
            base_url=site.url,
            transport=httpx.HTTPTransport(local_address=self.ip),
            timeout=PATIENCE_S,
            headers={"Accept": "text/html"},
        )

    def begin(self, wanted: str = "/history") -> httpx.URL:
        """Where the provider sends the browser back to."""

        def begun() -> str | None:  # the server may know the provider as it was in the test before
            answer = self.http.get("/sign-in/oidc", params={"next": wanted})
            return answer.headers["Location"] if answer.status_code == 303 else None

        back = httpx.get(wait_until(begun), trust_env=False)
        assert back.status_code == 302
        return httpx.URL(back.headers["Location"])

    def sign_in(self, wanted: str = "/history") -> httpx.Response:
        """The answer to coming back."""
        return self.http.get(self.begin(wanted))

    @property
    def who(self) -> tuple[str, str] | None:
        """Account and role of the session; None without one."""
        answer = self.http.get("/api/v1/session")
        found = answer.json()
        return (found["account"], found["role"]) if answer.status_code == 200 else None


Open = Callable[[], Browser]


@pytest.fixture
def browser(site: Server) -> Iterator[Open]:
    """Opens browsers."""
    made: list[Browser] = []

    def make() -> Browser:
        made.append(Browser(site))
        return made[-1]

    yield make
    for one in made:
        one.http.close()


def words(answer: httpx.Response) -> str:
    """What a page says, without its tags and the messages for scripts."""
    text = re.sub(r"<script.*?</script>", "", answer.text, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", text)))


def require_retry(answer: httpx.Response, status: int) -> str:
    """A page that says what went wrong and has a way to try again; returns its words."""
    assert answer.status_code == status, words(answer)
    assert answer.headers["Content-Type"].startswith("text/html")
    assert '<a class="button primary large" href="http://127.0.0.1' in answer.text
    assert f"Try again with {NAME}" in words(answer)
    assert 'name="password"' in answer.text
    assert "no-store" in answer.headers["Cache-Control"]
    return words(answer)


# --- getting in ------------------------------------------------------------------------------------------------------


def test_the_sign_in_page_leads_to_the_provider_and_back_to_where_one_wanted_to_go(
    provider: IdentityProvider, browser: Open, site: Server
) -> None:
    ada = browser()
    page = ada.http.get("/history?state=failed", follow_redirects=True)
    assert f"Sign in with {NAME}" in words(page)
    (link,) = re.findall(r'href="(http[^"]*/sign-in/oidc[^"]*)"', page.text)
    begun = ada.http.get(html.unescape(link))
    (cookie,) = begun.headers.get_list("Set-Cookie")
    assert re.fullmatch(
        r"dropmill_sign_in=[\w-]{43}; Expires=[^;]+; Max-Age=600; HttpOnly; Path=/; SameSite=Lax", cookie
    )
    asked = {name: value for name, (value,) in parse_qs(urlsplit(begun.headers["Location"]).query).items()}
    assert asked["redirect_uri"] == f"{site.url}/sign-in/oidc/callback"
    assert asked["scope"] == "openid profile"
    back = httpx.get(begun.headers["Location"], trust_env=False).headers["Location"]
    done = ada.http.get(back)
    assert (done.status_code, done.headers["Location"]) == (303, "/history?state=failed")
    assert ada.who == ("ada", "viewer")
    assert ada.http.get("/sign-in/oidc?next=/config").headers["Location"] == "/config", "nothing begins anew"


def test_groups_give_the_role_at_each_sign_in_and_end_what_was_open(provider: IdentityProvider, browser: Open) -> None:
    provider.person = {"sub": "u-rita", "preferred_username": "rita", "groups": ["ops"]}
    first, second = browser(), browser()
    first.sign_in()
    assert first.who == ("rita", "admin")
    provider.person["groups"] = ["others"]
    second.sign_in()
    assert second.who == ("rita", "viewer")
    wait_until(lambda: first.who == ("rita", "viewer"))


def test_the_session_that_the_browser_had_ends(provider: IdentityProvider, browser: Open, site: Server) -> None:
    ada, copy = browser(), browser()
    back = ada.begin()
    form = {"name": "root", "password": PASSWORD}
    ada.http.post("/sign-in", data=form, headers={"Origin": site.url})
    copy.http.cookies.set("dropmill_session", ada.http.cookies["dropmill_session"], domain="127.0.0.1")
    assert copy.who == ("root", "admin")
    assert ada.http.get(back).status_code == 303
    assert ada.who == ("ada", "viewer")
    wait_until(lambda: copy.who is None)


@pytest.mark.parametrize("wanted", ["//other.example/", "https://other.example/", "/\\other.example", "javascript:x"])
def test_nobody_is_led_to_another_site(provider: IdentityProvider, browser: Open, wanted: str) -> None:
    assert browser().sign_in(wanted).headers["Location"] == "/"


def test_a_sign_out_ends_the_session_here(provider: IdentityProvider, browser: Open, site: Server) -> None:
    ada = browser()
    ada.sign_in()
    assert ada.http.delete("/api/v1/session", headers={"Origin": site.url}).status_code == 204
    assert ada.who is None
    page = ada.http.get("/", follow_redirects=True)
    assert (page.url.path, page.status_code) == ("/sign-in", 200)


@pytest.mark.parametrize("site_of_link", ["cross-site", "same-site"])
def test_a_link_of_another_site_begins_nothing(provider: IdentityProvider, browser: Open, site_of_link: str) -> None:
    """Whoever is signed in at the provider would be signed in here without having pressed anything."""
    ada = browser()
    answer = ada.http.get("/sign-in/oidc?next=/history", headers={"Sec-Fetch-Site": site_of_link})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in?next=%2Fhistory")
    assert "Set-Cookie" not in answer.headers
    for own in ("same-origin", "none"):
        ada.http.headers["Sec-Fetch-Site"] = own
        ada.begin()


def test_an_account_of_the_provider_has_no_password(provider: IdentityProvider, browser: Open, site: Server) -> None:
    ada = browser()
    ada.sign_in()
    assert 'data-part="password-form"' not in ada.http.get("/account").text
    headers = {"Origin": site.url, "Accept": "application/json"}
    for path, body in (("session/password", {"current": "", "new": PASSWORD}),):
        assert ada.http.put(f"/api/v1/{path}", json=body, headers=headers).status_code == 401
    answer = browser().http.post("/api/v1/session", json={"name": "ada", "password": ""}, headers=headers)
    assert answer.json()["code"] == "wrong_credentials"


# --- not getting in --------------------------------------------------------------------------------------------------


def test_a_state_is_good_once_and_in_its_browser(provider: IdentityProvider, browser: Open, site: Server) -> None:
    ada, other = browser(), browser()
    back = ada.begin("/config")
    other.begin()
    for one in (other, browser()):
        text = require_retry(one.http.get(back), 401)
        assert "expired, was used already, or began in another browser" in text
        assert one.who is None
    assert ada.http.get(back).status_code == 303
    ada.http.cookies.delete("dropmill_session")
    require_retry(ada.http.get(back), 401)
    assert ada.who is None
    for more in ("", "?state=", "?code=x", "?state=a&state=b", f"?state={'x' * 6000}", "?state=%00&error=%F0%9F"):
        answer = browser().http.get(f"/sign-in/oidc/callback{more}")
        assert 400 <= answer.status_code < 500
        assert "Try again" in words(answer)


def test_whoever_tries_again_gets_to_where_they_wanted_to_go(provider: IdentityProvider, browser: Open) -> None:
    provider.comes_back = {"error": "access_denied", "code": None}
    ada = browser()
    answer = ada.sign_in("/config?job=1")
    assert "not let in there, or you cancelled" in require_retry(answer, 401)
    (link,) = re.findall(r'href="(http[^"]*/sign-in/oidc[^"]*)"', answer.text)
    assert parse_qs(urlsplit(html.unescape(link)).query) == {"next": ["/config?job=1"]}
    (action,) = re.findall(r'<form[^>]*action="([^"]*)"', answer.text)
    assert action == "/sign-in?next=%2Fconfig%3Fjob%3D1"
    provider.comes_back = {}
    begun = ada.http.get(html.unescape(link))
    back = httpx.get(begun.headers["Location"], trust_env=False).headers["Location"]
    assert ada.http.get(back).headers["Location"] == "/config?job=1"


@pytest.mark.parametrize(
    ("path", "answer", "status"),
    [
        pytest.param(DISCOVERY, SORRY, 503, id="500 at first"),
        pytest.param(TOKEN, SORRY, 503, id="500"),
        pytest.param(TOKEN, answer_with(b"<html>", kind="text/html"), 401, id="HTML"),
        pytest.param(TOKEN, answer_with(b"x" * 1_000_000), 401, id="huge"),
        pytest.param(TOKEN, answer_with(b'{"error": "invalid_client"}', status=401), 401, id="wrong secret"),
        pytest.param(TOKEN, lambda handler: handler.connection.shutdown(socket.SHUT_RDWR), 503, id="hangs up"),
    ],
)
def test_a_bad_provider_is_a_page_and_local_accounts_still_get_in(
    provider: IdentityProvider, browser: Open, site: Server, path: str, answer: identity_provider.Answer, status: int
) -> None:
    provider.answers[path] = answer

    def not_begun() -> httpx.Response | None:
        answer = ada.http.get("/sign-in/oidc?next=/history")
        return answer if answer.status_code != 303 else None  # a browser is sent to who was well ten seconds ago

    ada = browser()
    found = wait_until(not_begun) if path == DISCOVERY else ada.sign_in()
    text = require_retry(found, status)
    assert CLIENT_SECRET not in found.text
    assert found.headers.get("Retry-After") == ("5" if status == 503 else None)
    assert "Sign in" in text
    form = {"name": "root", "password": PASSWORD}
    assert ada.http.post("/sign-in", data=form, headers={"Origin": site.url}).status_code == 303
    assert ada.who == ("root", "admin")


def test_a_provider_that_hangs_keeps_nobody_else_waiting(
    provider: IdentityProvider, browser: Open, site: Server
) -> None:
    provider.answers[TOKEN] = Handler.hang
    people = [browser() for _ in range(8)]
    backs = [one.begin() for one in people]
    with ThreadPoolExecutor(8) as waiting:
        answers = [waiting.submit(one.http.get, back) for one, back in zip(people, backs, strict=True)]
        wait_until(lambda: provider.asked.count(TOKEN) == 8)
        for _ in range(50):
            assert site.http.get("/healthz").status_code == 200
        root = browser()
        form = {"name": "root", "password": PASSWORD}
        assert root.http.post("/sign-in", data=form, headers={"Origin": site.url}).status_code == 303
        assert not any(answer.done() for answer in answers), "they were still waiting"
        provider.released.set()  # now it closes the connections without an answer
        for answer in answers:
            require_retry(answer.result(), 503)
    provider.released.clear()


def test_a_name_of_a_local_account_is_not_the_providers_to_give(
    provider: IdentityProvider, browser: Open, site: Server
) -> None:
    provider.person = {"sub": "u-evil", "preferred_username": "ROOT", "groups": ["ops"]}
    evil = browser()
    assert "has your name" in require_retry(evil.sign_in(), 401)
    assert evil.who is None


def test_what_failed_is_in_the_audit_and_no_secret_anywhere(
    provider: IdentityProvider, browser: Open, site: Server
) -> None:
    provider.claims = {"nonce": "other"}
    ada = browser()
    back = ada.begin()
    require_retry(ada.http.get(back), 401)
    bob = browser()
    require_retry(bob.http.get(back), 401)
    root = browser()
    form = {"name": "root", "password": PASSWORD}
    root.http.post("/sign-in", data=form, headers={"Origin": site.url})

    def audited() -> bool:
        items = root.http.get("/api/v1/audit?limit=1000", headers={"Accept": "application/json"}).json()["items"]
        found = {
            (one["subject"]["client"]["ip"], one["data"]["reason"]) for one in items if one["name"] == "account.refused"
        }
        return {(ada.ip, "provider_failed"), (bob.ip, "wrong_state")} <= found

    wait_until(audited)
    cookie = ada.http.cookies["dropmill_sign_in"]
    written = site.said() + json.dumps(site.log())
    assert "the id token has another nonce" in site.said()
    for secret in (CLIENT_SECRET, cookie, back.params["code"], back.params["state"], "the-access-token", "eyJ"):
        assert secret not in written


def test_the_page_speaks_german(provider: IdentityProvider, browser: Open) -> None:
    ada = browser()
    ada.http.headers["Accept-Language"] = "de"
    assert f"Mit {NAME} anmelden" in words(ada.http.get("/sign-in"))
    assert "in einem anderen Browser begonnen" in words(ada.http.get("/sign-in/oidc/callback?state=x"))


def test_doctor_says_whether_the_provider_can_be_used(provider: IdentityProvider, site: Server) -> None:
    own = (*("--data", str(site.data)), *("--config", str(site.config)), *site.flags)

    def line() -> str:
        ran = subprocess.run([*DROPMILL, "doctor", *own], text=True, capture_output=True, cwd=site.folder, check=False)
        (found,) = [one for one in ran.stdout.splitlines() if one[6:].startswith("provider")]
        return found

    assert line().startswith("ok")
    assert f"{site.url}/sign-in/oidc/callback" in line()
    provider.document = {"issuer": f"{provider.url}/"}
    assert line().startswith("FAIL")
    assert f"it calls itself {provider.url}/, and --oidc-issuer must be exactly that" in line()
    provider.answers[DISCOVERY] = SORRY
    assert line().startswith("FAIL")


# --- servers ---------------------------------------------------------------------------------------------------------


def test_a_server_without_a_provider_has_no_way_to_one(server: Server) -> None:
    for path in ("/sign-in/oidc", "/sign-in/oidc/callback?state=x&code=y"):
        assert server.http.get(path).status_code == 404
    assert "oidc" not in server.http.get("/sign-in", follow_redirects=True).text


def test_a_server_starts_while_its_provider_is_away_and_does_not_over_plain_http(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    port = free_port()
    flags = ("--oidc-issuer", "http://127.0.0.1:9", "--oidc-client-id", CLIENT_ID)
    server = make_server(*flags, "--public-url", "http://drop.example", bind=f"127.0.0.1:{port}").start()
    answer = server.http.get("/sign-in/oidc", headers={"Accept": "text/html"})
    assert answer.status_code == 503
    assert "Try again with 127.0.0.1" in words(answer)
    answer = server.http.get("/sign-in/oidc", headers={"Accept": "text/html", "Host": "drop.example"})
    assert answer.status_code == 403
    assert "https" in words(answer)


def test_a_server_that_browsers_could_not_come_back_to_does_not_start(tmp_path: Path) -> None:
    command = [*DROPMILL, "serve", "--data", str(tmp_path / "data"), "--config", str(tmp_path / "config.yaml")]
    flags = ["--oidc-issuer", "https://id.example", "--oidc-client-id", CLIENT_ID]
    ran = subprocess.run([*command, *flags], text=True, capture_output=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr.startswith("dropmill: --oidc-issuer needs --public-url: ")
    assert ran.stderr.count("\n") == 1

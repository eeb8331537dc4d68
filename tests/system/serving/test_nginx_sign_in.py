"""People who sign in at a provider, through nginx with the sample configuration, on a sub-path with TLS."""

import contextlib
import hashlib
import re
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.support import provider
from tests.support.certificates import make_certificate
from tests.support.nginx import PEER, Nginx
from tests.support.preloaded import DROPMILL
from tests.support.provider import cookie
from tests.support.server import Server, clean_environment, hear
from tests.support.waiting import PATIENCE_S, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin

CLIENT = "127.0.0.7"
PASSWORD = "correct horse battery"
TRUST = ("--auth-header", "Remote-User", "--auth-groups-header", "Remote-Groups")
APP = "https://app.example"
ROLES = ("--auth-group", "admin=ops", "--auth-group", "operator=night shift")


class Site:
    """A provider, nginx that asks it, and the server behind nginx, with one account of its own."""

    def __init__(self, folder: Path, provider_address: str, fault: Callable[[str], str] = lambda text: text) -> None:
        certificate = make_certificate(folder)
        self.certificate = certificate[0]
        self.nginx = Nginx(folder / "nginx", certificate, "/drop")
        flags = ("--public-url", self.nginx.url, "--trusted-proxy", PEER, *TRUST, *ROLES, "--allowed-origin", APP)
        self.server = Server(folder / "server", *flags).start()
        self.context = ssl.create_default_context(cafile=certificate[0])
        transport = httpx.HTTPTransport(verify=self.context, local_address=CLIENT)
        self.http = httpx.Client(base_url=self.nginx.url, transport=transport, timeout=PATIENCE_S, trust_env=False)
        self.origin = {"Origin": f"https://localhost:{self.nginx.port}"}
        (first,) = re.findall(r"/sign-in#first=(\S+)", self.server.said())
        made = {"first": first, "name": "root", "password": PASSWORD}
        own = {"Origin": self.server.url}
        self.root = httpx.Client(base_url=f"{self.server.url}/drop", headers=own, trust_env=False)
        assert self.root.post("/api/v1/session", json=made).status_code == 204
        self.nginx.start(self.server.host, lambda text: fault(asking(text, provider_address)))

    def who(self, headers: dict[str, str]) -> tuple[str | None, str]:
        """Account and role of whoever asks through nginx."""
        said = self.http.get("/api/v1/session", headers=headers).json()
        return said["account"], said["role"]

    def from_peer(self, headers: list[tuple[str, str]], address: str = PEER, path: str = "session") -> httpx.Response:
        """An answer to a request that does not come through nginx, but from an address of this machine."""
        with httpx.Client(transport=httpx.HTTPTransport(local_address=address), timeout=PATIENCE_S) as client:
            return client.get(f"{self.server.url}/drop/api/v1/{path}", headers=headers)

    def end(self) -> None:
        self.http.close()
        self.root.close()
        self.nginx.end()
        self.server.end()


def asking(text: str, provider_address: str) -> str:
    """The sample with the lines for a provider switched on."""
    switched_on, lines = re.subn(r"^( *)#(?=\S)", r"\1", text, flags=re.MULTILINE)
    assert lines == 20
    assert "client_max_body_size    0;    # here" in switched_on
    return switched_on.replace("127.0.0.1:9091", provider_address)


def doctor(site: Site, *flags: str) -> dict[str, str]:
    """What `dropmill doctor` says of the way through nginx: subject to level and sentence."""
    environment = clean_environment({"SSL_CERT_FILE": str(site.certificate), "NO_PROXY": "*"})
    trust = ("--trusted-proxy", PEER, *flags) if flags else ()
    command = [*DROPMILL, "doctor", "--min-free", "1", "--url", site.nginx.url, *trust]
    done = subprocess.run(command, cwd=site.server.folder, env=environment, capture_output=True, text=True, timeout=120)
    lines = [line for line in done.stdout.splitlines() if line[6:].startswith("network")]
    return {line[6:22].strip(): f"{line[:5].strip()} {line[23:]}" for line in lines}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with provider.running() as address:
        made = Site(tmp_path_factory.mktemp("site"), address)
        try:
            yield made
        finally:
            made.end()


def test_nobody_gets_past_nginx(site: Site) -> None:
    assert site.http.get("/").status_code == 401
    assert site.http.get("/api/v1/session", headers={"Remote-User": "root"}).status_code == 401


def test_the_first_visit_makes_an_account_with_the_role_of_its_groups(site: Site) -> None:
    assert site.who(cookie("Zoë")) == ("Zoë", "viewer")
    assert site.who(cookie("opal", "others", "night shift")) == ("opal", "operator")
    assert site.who(cookie("ZOË")) == ("Zoë", "viewer")
    made = [one["name"] for one in site.root.get("/api/v1/accounts").json()["items"]]
    assert sorted(made) == sorted(set(made))
    assert {"Zoë", "opal"} <= set(made)

    def logged() -> list[str]:
        lines = [line for line in site.server.log() if line["event"] == "account.signed_in"]
        return [line["ip"] for line in lines if line["account"] == "Zoë"]

    assert wait_until(logged) == [CLIENT]


def test_a_role_follows_the_groups(site: Site) -> None:
    assert site.who(cookie("rita", "ops")) == ("rita", "admin")
    assert site.http.get("/api/v1/accounts", headers=cookie("rita", "ops")).status_code == 200
    assert site.who(cookie("rita")) == ("rita", "viewer")
    assert site.http.get("/api/v1/accounts", headers=cookie("rita")).status_code == 403


@pytest.mark.parametrize("name", ["Remote-User", "remote-user", "REMOTE-USER", "Remote_User"])
def test_a_forged_header_from_outside_is_ignored(site: Site, name: str) -> None:
    assert site.who(cookie("zed") | {name: "rita", "Remote-Groups": "ops"}) == ("zed", "viewer")


@pytest.mark.parametrize("address", [CLIENT, "127.0.0.1"])
def test_only_the_proxys_own_address_may_say_who_it_is(site: Site, address: str) -> None:
    """Neither a forwarded address nor the header of another program on the proxy's machine counts."""
    for more in ([], [("X-Forwarded-For", PEER)], [("X-Forwarded-For", f"{PEER}, {PEER}"), ("X-Real-IP", PEER)]):
        for path in ("session", "jobs", "nowhere"):
            answer = site.from_peer([("Remote-User", "rita"), ("Remote-Groups", "ops"), *more], address, path)
            assert (answer.status_code, answer.json()["code"]) == (401, "sign_in_required")


def test_what_the_proxy_sends_is_taken_as_a_whole_or_refused(site: Site) -> None:
    assert site.from_peer([("Remote-User", "zed")]).json()["account"] == "zed"
    assert site.from_peer([("Remote-User", "")]).status_code == 401
    for headers in (
        [("Remote-User", "zed"), ("Remote-User", "rita")],
        [("Remote-User", "zed"), ("Remote-Groups", ""), ("Remote-Groups", "ops")],
        [("Remote-User", "z" * 65)],
    ):
        assert site.from_peer(headers).status_code == 400
    assert recorded(site, "bad_proxy_header") is None


def recorded(site: Site, reason: str) -> object:
    """The account that the audit names in its newest refusal for this reason, once there is one."""

    def found() -> list[object]:
        items = site.root.get("/api/v1/audit?kind=refusals").json()["items"]
        return [one["subject"]["account"] for one in items if one["data"]["reason"] == reason]

    return wait_until(found)[0]


def test_a_change_says_which_page_it_comes_from_as_with_a_cookie(site: Site) -> None:
    post = "/api/v1/submissions"
    assert site.http.post(post, json={"files": []}, headers=cookie("zed")).status_code == 403
    for foreign in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert site.http.post(post, json={"files": []}, headers=cookie("zed") | foreign).status_code == 403
    made = site.http.post(post, json={"files": []}, headers=cookie("zed") | site.origin)
    assert (made.status_code, made.json()["account"]) == (201, "zed")
    read = f"{post}/{made.json()['id']}"
    assert site.http.get(read, headers=cookie("zed")).status_code == 200
    assert site.http.get(read, headers=cookie("zoltan")).status_code == 404


def test_a_large_file_passes_the_question_of_nginx(site: Site) -> None:
    sent = b"large" * 1_000_000
    made = site.http.put("/send/large.bin", content=sent, headers=cookie("zed") | site.origin)
    assert (made.status_code, made.json()["account"]) == (201, "zed")
    assert site.root.get(f"/api/v1/submissions/{made.json()['id']}").json()["files"][0]["sha256"] == (
        hashlib.sha256(sent).hexdigest()
    )


def test_a_socket_ends_when_its_account_is_disabled_and_the_provider_cannot_help(site: Site) -> None:
    assert site.who(cookie("dora"))[0] == "dora"
    items = site.root.get("/api/v1/accounts").json()["items"]
    (account,) = [one["id"] for one in items if one["name"] == "dora"]
    address = f"wss://localhost:{site.nginx.port}/drop/api/v1/live"
    own = Origin(site.origin["Origin"])
    with connect(address, ssl=site.context, proxy=None, origin=own, additional_headers=cookie("dora")) as live:
        assert hear(live)["type"] == "hello"
        assert site.root.patch(f"/api/v1/accounts/{account}", json={"is_disabled": True}).status_code == 200
        with contextlib.suppress(ConnectionClosed):  # with a code that is an error to this client
            for _ in live:
                pass
        assert live.close_code == 4401
    refused = site.http.get("/api/v1/session", headers=cookie("dora"))
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert "disabled" in refused.json()["detail"]
    assert recorded(site, "disabled") == "dora"


def test_an_account_with_a_password_is_not_the_providers_to_give(site: Site) -> None:
    """Where people choose their own names, somebody would choose root."""
    refused = site.http.get("/api/v1/jobs", headers=cookie("Root", "ops"))
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert "password" in refused.json()["detail"]
    assert recorded(site, "name_taken") == "root"
    given = {"name": "root", "password": PASSWORD}
    signed_in = site.http.post("/api/v1/session", json=given, headers=cookie("Root") | site.origin)
    assert signed_in.status_code == 204
    session = signed_in.headers["Set-Cookie"].partition(";")[0]
    site.http.cookies.clear()
    assert site.who({"Cookie": f"{cookie('zed')['Cookie']}; {session}"}) == ("root", "admin")


def test_nobody_signs_in_with_a_password_to_an_account_that_has_none(site: Site) -> None:
    site.who(cookie("zed"))
    for password in ("", "None", PASSWORD):
        given = {"name": "zed", "password": password}
        answer = site.http.post("/api/v1/session", json=given, headers=cookie("zed") | site.origin)
        assert (answer.status_code, answer.json()["code"]) == (401, "wrong_credentials")


def test_a_program_with_a_token_and_the_page_of_another_origin_get_past_the_provider(site: Site) -> None:
    made = site.root.post("/api/v1/tokens", json={"scopes": ["read"], "expires_in": 600}).json()["token"]
    bearer = {"Authorization": f"Bearer {made}", "Origin": APP}
    forged = {"Remote-User": "rita", "Remote-Groups": "ops"}
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization", "Origin": APP}
    preflight = site.http.options("/api/v1/session", headers=asked | forged)
    assert (preflight.status_code, preflight.headers["Access-Control-Allow-Origin"]) == (204, APP)
    answer = site.http.get("/api/v1/session", headers=bearer | forged)
    assert (answer.json()["account"], answer.headers["Access-Control-Allow-Origin"]) == ("root", APP)
    for none in ("dmill_none", "x", "Basic cm9vdDpyb290"):
        refused = site.http.get("/api/v1/session", headers=forged | {"Authorization": f"Bearer {none}"})
        assert (refused.status_code, refused.json()["code"]) == (401, "sign_in_required")
    for headers in ({"Authorization": "Basic cm9vdDpyb290"}, {"Authorization": "Bearer"}, {"Origin": APP}):
        assert site.http.get("/api/v1/session", headers=forged | headers).headers["Content-Type"] == "text/html"
    assert site.http.options("/api/v1/session", headers={"Origin": APP}).status_code == 401


def test_doctor_finds_that_nobody_can_say_who_they_are(site: Site) -> None:
    accounts = site.root.get("/api/v1/accounts").json()["items"]
    found = doctor(site, *TRUST, *ROLES)
    assert {subject: line for subject, line in found.items() if not line.startswith("ok")} == {}
    assert found["network: sign-in"] == "ok clients cannot say who they are"
    assert site.root.get("/api/v1/accounts").json()["items"] == accounts
    assert doctor(site)["network"].startswith("FAIL")  # nginx asks for a sign-in, and doctor does not know


@pytest.mark.parametrize("header", ["Remote-User", "Remote-Groups"])
def test_doctor_finds_a_proxy_that_passes_a_forged_header_on(tmp_path: Path, header: str) -> None:
    def fault(text: str) -> str:
        changed, lines = re.subn(rf"\n *proxy_set_header +{header} [^\n]*", "", text)
        assert lines == 1
        return changed

    with provider.running() as address:
        broken = Site(tmp_path, address, fault)
        try:
            found = doctor(broken, *TRUST, *ROLES)
            accounts = [one["name"] for one in broken.root.get("/api/v1/accounts").json()["items"]]
        finally:
            broken.end()
    assert found["network: sign-in"].startswith(f"FAIL clients can say who they are: {header} of a client arrives")
    assert accounts == ["root"]

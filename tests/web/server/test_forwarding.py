"""Only a trusted proxy's forwarding headers count; and every path works below a sub-path."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.server import Server, hear
from tests.support.waiting import wait_until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dropmill.app import create_app, requires_sign_in
from dropmill.model.errors import SettingsError
from dropmill.settings import Settings

FORWARDED = {"X-Forwarded-For": "203.0.113.5, 192.0.2.7", "X-Forwarded-Proto": "https", "Host": "drop.example"}


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that trusts this machine as a proxy, on a sub-path."""
    flags = ("--auth", "off", "--trusted-proxy", "127.0.0.0/8", "--public-url", "https://drop.example/tools/drop/")
    running = Server(tmp_path_factory.mktemp("behind"), *flags)
    try:
        yield running.start()
    finally:
        running.end()


@pytest.fixture(scope="module")
def trusting_others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that trusts a proxy which is not this machine."""
    flags = ("--auth", "off", "--trusted-proxy", "10.0.0.0/8", "--allowed-host", "drop.example")
    running = Server(tmp_path_factory.mktemp("others"), *flags)
    try:
        yield running.start()
    finally:
        running.end()


def send(server: Server, base: str = "", **headers: str) -> httpx.Response:
    return server.http.put(f"{base}/send/a.txt", content=b"a", headers=headers)


# --- the client's address, scheme and host ---------------------------------------------------------------------------


def test_the_client_behind_a_trusted_proxy_is_shown_and_logged(behind: Server) -> None:
    made = behind.http.put("/send/seen.txt", content=b"a", headers=FORWARDED).json()
    assert made["client"]["ip"] == "192.0.2.7"
    lines = wait_until(lambda: [line for line in behind.log() if line["submission"] == made["id"]])
    assert {line["ip"] for line in lines if line["ip"] is not None} == {"192.0.2.7"}
    assert "192.0.2.7" in behind.http.get("/", headers=FORWARDED | {"Accept": "text/html"}).text


def test_an_ipv6_client_behind_a_trusted_proxy_is_shown(behind: Server) -> None:
    answer = send(behind, **{"X-Forwarded-For": '"[2001:DB8::7]:4711"'})
    assert answer.json()["client"]["ip"] == "2001:db8::7"


def test_forwarded_of_rfc_7239_and_x_real_ip_are_not_read(behind: Server) -> None:
    headers = {"Forwarded": "for=192.0.2.9;host=evil.example;proto=https", "X-Real-IP": "192.0.2.9"}
    answer = send(behind, **headers)
    assert answer.json()["client"]["ip"] == "127.0.0.1"


def test_headers_from_elsewhere_are_ignored(trusting_others: Server) -> None:
    headers = FORWARDED | {"Host": trusting_others.host, "X-Forwarded-Host": "drop.example"}
    answer = trusting_others.http.put("/send/a.txt", content=b"a", headers=headers)
    assert answer.json()["client"]["ip"] == "127.0.0.1"
    page = trusting_others.http.get("/", headers={"Host": "drop.example", "X-Forwarded-Proto": "https"})
    assert "Strict-Transport-Security" not in page.headers


def test_the_cap_per_client_counts_clients_and_not_their_proxy(make_server: Callable[..., Server]) -> None:
    flags = ("--auth", "off", "--trusted-proxy", "127.0.0.1", "--max-uploads-per-client", "1")
    server = make_server(*flags).start()
    lines = f"Host: {server.host}", "X-Forwarded-For: 192.0.2.7", "Content-Length: 9", "Expect: 100-continue"
    with server.connect() as first:
        first.sendall("\r\n".join(("PUT /send/a HTTP/1.1", *lines, "", "")).encode())
        assert first.recv(1000).startswith(b"HTTP/1.1 100 ")  # its body is being read: it has its place
        assert send(server, **{"X-Forwarded-For": "192.0.2.7"}).status_code == 429
        assert send(server, **{"X-Forwarded-For": "192.0.2.8"}).status_code == 201


def test_what_belongs_to_https_follows_the_scheme_of_a_trusted_proxy(behind: Server) -> None:
    https = behind.http.get("/healthz", headers=FORWARDED).headers
    assert "Strict-Transport-Security" in https
    assert "Cross-Origin-Opener-Policy" in https
    http = behind.http.get("/healthz", headers=FORWARDED | {"X-Forwarded-Proto": "http"}).headers
    assert "Strict-Transport-Security" not in http
    assert "Cross-Origin-Opener-Policy" not in http


def test_a_forwarded_host_is_checked_beside_the_own_one(behind: Server) -> None:
    """A page of a rebound name can set X-Forwarded-Host, but not Host."""
    for host, forwarded, status in (
        (behind.host, "drop.example", 200),
        ("drop.example", "drop.example", 200),
        (behind.host, "evil.example", 421),
        ("evil.example", "drop.example", 421),
        (behind.host, "drop.example, evil.example", 421),
    ):
        headers = {"Host": host, "X-Forwarded-Host": forwarded}
        assert behind.http.get("/readyz", headers=headers).status_code == status, headers


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("drop.example", "https://drop.example", 201),
        ("drop.example:443", "https://drop.example", 201),
        ("{own}", "https://drop.example", 201),  # a proxy that does not pass Host on
        ("{own}", "http://{own}", 201),
        ("drop.example", "http://drop.example", 403),
        ("drop.example", "https://drop.example:444", 403),
        ("drop.example", "https://evil.example", 403),
    ],
)
def test_the_origin_is_compared_with_the_public_one(behind: Server, host: str, origin: str, status: int) -> None:
    headers = {"Host": host, "Origin": origin}
    headers = {name: value.format(own=behind.host) for name, value in headers.items()}
    assert behind.http.post("/api/v1/submissions", json={"files": []}, headers=headers).status_code == status


def test_a_socket_behind_a_proxy_is_opened_by_pages_of_the_public_origin(behind: Server) -> None:
    address = f"ws://{behind.host}/tools/drop/api/v1/live"
    headers = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "drop.example"}
    with connect(address, proxy=None, additional_headers=headers | {"Origin": "https://drop.example"}) as live:
        assert hear(live)["type"] == "hello"
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(address, proxy=None, additional_headers=headers | {"Origin": "http://drop.example"}),
    ):
        pass
    assert refused.value.response.status_code == 403


# --- the sub-path ----------------------------------------------------------------------------------------------------

BASE = "/tools/drop"


def each_url(value: Any) -> Iterator[str]:
    """Every URL in an answer of the API."""
    if isinstance(value, dict):
        yield from (text for name, text in value.items() if name in ("url", "upload_url"))
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from each_url(item)


@pytest.mark.parametrize("kept", [BASE, ""], ids=["kept", "stripped"])
def test_a_sub_path_works_whether_the_proxy_keeps_it_or_strips_it(behind: Server, kept: str) -> None:
    for path in ("/", "/history", "/config", "/healthz", "/api/v1/submissions", "/static/js/core/base.js"):
        assert behind.http.get(kept + path).status_code == 200, path
    assert behind.http.get(f"{kept}/submissions").headers["Location"] == f"{BASE}/history"
    opened = behind.http.post(f"{kept}/api/v1/submissions", json={"files": [{"name": "a.txt", "size": 1}]})
    assert opened.headers["Location"] == f"{BASE}/api/v1/submissions/{opened.json()['id']}"
    urls = list(each_url(opened.json()))
    assert urls
    assert all(url.startswith(f"{BASE}/api/v1/uploads/") for url in urls)
    for url in urls:
        assert behind.http.head(url, headers={"Tus-Resumable": "1.0.0"}).status_code == 200
    made = behind.http.post(f"{kept}/api/v1/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "1"})
    assert made.headers["Location"].startswith(f"{BASE}/api/v1/uploads/")
    form = behind.http.post(
        f"{kept}/api/v1/submissions", files={"file": ("a.txt", b"a")}, headers={"Accept": "text/html"}
    )
    assert (form.status_code, form.headers["Location"].startswith(f"{BASE}/submissions/")) == (303, True)


def test_the_sub_path_itself_is_the_first_page(behind: Server) -> None:
    for path in (BASE, f"{BASE}/"):
        page = behind.http.get(path)
        assert (page.status_code, f'data-base="{BASE}"' in page.text) == (200, True)


def test_what_only_begins_like_the_sub_path_is_elsewhere(behind: Server) -> None:
    for path in (f"{BASE}x/", "/tools", "/tools/", f"{BASE}/nowhere", f"{BASE}{BASE}/"):
        assert behind.http.get(path).status_code == 404, path


def test_every_address_on_a_page_begins_with_the_sub_path(behind: Server) -> None:
    submission = send(behind).json()
    job = submission["files"][0]["job"]["id"]
    for path in ("/", "/history", f"/submissions/{submission['id']}", f"/jobs/{job}", "/config", "/nowhere"):
        page = behind.http.get(path, headers={"Accept": "text/html"}).text
        addresses = re.findall(r'(?:href|src|action)="([^"#]*)', page)
        assert len(addresses) > 5
        assert [address for address in addresses if address and not address.startswith(f"{BASE}/")] == [], path


def test_the_scripts_take_every_address_from_one_place() -> None:
    scripts = Path(__file__).parents[3] / "static" / "js"
    ours = "api|static|send|submissions|jobs|config|readyz|healthz"
    absolute = re.compile(rf"""(?:["'`]|(?<!\${{base)(?<!\${{api)\}})/(?:{ours})\b""")
    for script in scripts.rglob("*.js"):
        code = re.sub(r"(?m)(?:^|\s)(?://|/?\*).*$", "", script.read_text())
        calls = re.sub(r"\b(?:call|callJson|configText)\([^)]*", "", code)  # these take paths below `api`
        found = [line for line in calls.splitlines() if absolute.search(line)]
        assert [line for line in found if "const path = " not in line and "const api = " not in line] == [], script.name


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "shown", "origin", "path"),
    [
        ("https://Drop.Example", "https://drop.example", "https://drop.example", ""),
        ("https://drop.example:443/", "https://drop.example", "https://drop.example", ""),
        ("http://drop.example:443/a/", "http://drop.example:443/a", "http://drop.example:443", "/a"),
        ("https://[2001:DB8::0:7]:8443/a/b", "https://[2001:db8::7]:8443/a/b", "https://[2001:db8::7]:8443", "/a/b"),
    ],
)
def test_a_public_url_is_read(given: str, shown: str, origin: str, path: str) -> None:
    settings = Settings.load({"public_url": given}, {})
    assert settings.public_url is not None
    assert (str(settings.public_url), settings.public_url.origin, settings.base_path) == (shown, origin, path)


@pytest.mark.parametrize(
    "given",
    [
        "drop.example",
        "/drop",
        "ftp://drop.example",
        "https://",
        "https://me@drop.example/",
        "https://drop.example/?a",
        "https://drop.example/#a",
        "https://drop.example//a",
        "https://drop.example/a/../b",
        "https://drop.example/.",
        "https://drop.example/a%20b",
        'https://drop.example/"><script>',
        "https://drop.example:0/",
    ],
)
def test_a_public_url_that_cannot_be_used_stops_the_start(given: str) -> None:
    with pytest.raises(SettingsError, match="--public-url"):
        Settings.load({"public_url": given}, {})


@pytest.mark.parametrize("given", ["10.0.0.0/33", "10.0.0.1/8", "proxy.example", "", "10.0.0.0/8/8", "unknown"])
def test_a_trusted_proxy_that_is_no_network_stops_the_start(given: str) -> None:
    with pytest.raises(SettingsError, match="--trusted-proxy"):
        Settings.load({"trusted_proxy": [given]}, {})


def test_trusted_proxies_are_addresses_and_networks() -> None:
    settings = Settings.load({}, {"DROPMILL_TRUSTED_PROXY": "10.0.0.1, 2001:db8::/32,::ffff:10.1.0.0/112"})
    assert [str(network) for network in settings.trusted_proxy] == ["10.0.0.1/32", "2001:db8::/32", "10.1.0.0/16"]


@pytest.mark.parametrize("setting", [{"trusted_proxy": ["127.0.0.1"]}, {"public_url": "https://drop.example"}])
def test_a_server_behind_a_proxy_is_not_open_without_being_told_to(setting: dict[str, Any]) -> None:
    assert requires_sign_in(Settings.load(setting, {}), owns_sockets=True)
    assert not requires_sign_in(Settings.load(setting | {"auth": "off"}, {}), owns_sockets=True)


@pytest.mark.parametrize("path", ["/api", "/send/x", "/submissions", "/static", "/healthz"])
def test_a_sub_path_that_is_a_path_of_ours_stops_the_start(path: str) -> None:
    """It would be unclear whether a proxy has stripped it."""
    settings = Settings.load({"auth": "off", "public_url": f"https://drop.example{path}"}, {})
    with pytest.raises(SettingsError, match="is a path of Dropmill itself"):
        create_app(settings)

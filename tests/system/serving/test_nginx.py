"""Behind Debian's nginx with the sample configuration: TLS, a sub-path, the real client in the log."""

import hashlib
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.support.certificates import make_certificate
from tests.support.nginx import PEER, Nginx
from tests.support.server import Server, clean_environment, hear
from tests.support.waiting import PATIENCE_S, wait_until
from websockets.sync.client import connect
from websockets.typing import Origin

CLIENT = "127.0.0.7"
"""Where these clients connect from."""

LEAVES_RESULTS = """
def process(path, file, results):
    (results / file.name.replace("/", "_")).write_bytes(open(path, "rb").read())
"""


class Site:
    """nginx and the server behind it."""

    def __init__(self, folder: Path, certificate: tuple[Path, Path], base: str, *flags: str) -> None:
        (folder / "server").mkdir(parents=True)
        (folder / "server" / "leaving.py").write_text(LEAVES_RESULTS)
        self.certificate = certificate
        self.nginx = Nginx(folder / "nginx", certificate, base)
        flags = flags or ("--public-url", self.nginx.url, "--trusted-proxy", PEER)
        self.server = Server(folder / "server", "--auth", "off", "--processor", "leaving:process", *flags)
        self.context = ssl.create_default_context(cafile=certificate[0])
        transport = httpx.HTTPTransport(verify=self.context, local_address=CLIENT)
        self.http = httpx.Client(base_url=self.nginx.url, transport=transport, timeout=PATIENCE_S, trust_env=False)

    @property
    def url(self) -> str:
        return self.nginx.url

    def curl(self, *words: str, standard_input: bytes | None = None) -> str:
        """What curl prints."""
        command = ["curl", "-sS", "--interface", CLIENT, "--cacert", str(self.certificate[0]), *words]
        done = subprocess.run(command, input=standard_input, check=True, capture_output=True, timeout=60)
        return done.stdout.decode()

    def doctor(self, url: str | None = None) -> dict[str, str]:
        """What `dropmill doctor --url` says of the connection: subject to level and sentence."""
        command = [sys.executable, "-m", "dropmill", "doctor", "--min-free", "1", "--url", url or self.url]
        environment = clean_environment({"SSL_CERT_FILE": str(self.certificate[0]), "NO_PROXY": "*"})
        done = subprocess.run(
            command, cwd=self.server.folder, env=environment, capture_output=True, text=True, timeout=120
        )
        lines = [line for line in done.stdout.splitlines() if line[6:].startswith("network")]
        return {line[6:22].strip(): f"{line[:5].strip()} {line[23:]}" for line in lines}

    def end(self) -> None:
        self.http.close()
        self.nginx.end()
        self.server.end()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]) -> Iterator[Site]:
    """The sample on a sub-path."""
    made = Site(tmp_path_factory.mktemp("site"), certificate, "/drop")
    try:
        made.nginx.start(made.server.start().host)
        yield made
    finally:
        made.end()


def test_curl_sends_and_the_log_has_the_address_of_the_client(site: Site, tmp_path: Path) -> None:
    sent = tmp_path / "sent über nginx.bin"
    sent.write_bytes(b"bytes" * 100_000)
    site.curl("-f", "-T", str(sent), f"{site.url}/send/")
    submission = site.http.get("/api/v1/submissions").json()["items"][0]
    assert submission["client"]["ip"] == CLIENT
    settled = site.server.settled(submission["id"])
    (file,) = settled["files"]
    assert (file["name"], file["sha256"]) == (sent.name, hashlib.sha256(sent.read_bytes()).hexdigest())

    def logged() -> set[str]:
        lines = [line for line in site.server.log() if line["submission"] == settled["id"]]
        return {line["ip"] for line in lines} if any(line["event"] == "submission.settled" for line in lines) else set()

    assert wait_until(logged) == {CLIENT}
    (result,) = file["job"]["results"]
    assert httpx.URL(site.url).join(result["url"]).path.startswith("/drop/api/v1/jobs/")
    assert site.http.get(f"https://localhost:{site.nginx.port}{result['url']}").content == sent.read_bytes()


def test_a_forged_header_does_not_hide_the_client(site: Site) -> None:
    headers = {"X-Forwarded-For": "203.0.113.5, 127.0.0.9", "X-Forwarded-Host": "evil.example"}
    headers |= {"X-Forwarded-Proto": "http", "Forwarded": "for=203.0.113.5"}
    made = site.http.put("/send/a.txt", content=b"a", headers=headers)
    assert made.status_code == 201
    assert made.json()["client"]["ip"] == CLIENT
    assert "Strict-Transport-Security" not in made.headers  # localhost has none; the scheme is tested elsewhere
    assert "Cross-Origin-Opener-Policy" in made.headers


@pytest.mark.parametrize("name", ["/etc/passwd", "a\nb.txt", "a//b.txt", "../x.txt", "50%.txt", "ü?#&.txt"])
def test_a_name_in_a_url_passes_nginx_as_it_is(site: Site, name: str) -> None:
    quoted = "".join(f"%{byte:02X}" for byte in name.encode())
    made = site.http.put(f"/send/{quoted}", content=b"a").json()
    assert made["files"][0]["path"] == name


def test_a_resumable_upload_goes_where_its_location_says(site: Site) -> None:
    tus = {"Tus-Resumable": "1.0.0"}
    made = site.http.post("/api/v1/uploads", headers=tus | {"Upload-Length": "4"})
    address = httpx.URL(site.url).join(made.headers["Location"])
    octets = {"Content-Type": "application/offset+octet-stream"}
    for offset, piece in ((0, b"ab"), (2, b"cd")):
        sent = site.http.patch(address, content=piece, headers=tus | octets | {"Upload-Offset": str(offset)})
        assert (sent.status_code, sent.headers["Upload-Offset"]) == (204, str(offset + 2))


def test_a_page_of_the_public_origin_opens_its_socket_and_no_other_does(site: Site) -> None:
    address = f"wss://localhost:{site.nginx.port}/drop/api/v1/live"
    own = Origin(f"https://localhost:{site.nginx.port}")
    with connect(address, ssl=site.context, proxy=None, origin=own) as live:
        assert hear(live)["type"] == "hello"
    with pytest.raises(Exception, match="403"), connect(address, ssl=site.context, proxy=None, origin=Origin("null")):
        pass


def test_server_sent_events_arrive_as_they_happen(site: Site) -> None:
    stream = site.http.stream("GET", "/api/v1/events?after=newest", headers={"Accept": "text/event-stream"})
    with stream as events:
        lines = events.iter_lines()
        assert next(lines).startswith(":")
        site.http.put("/send/a.txt", content=b"a")
        assert next(line for line in lines if line.startswith("data:"))


def test_the_config_is_saved_and_restored(site: Site) -> None:
    first = site.http.get("/api/v1/config")
    assert first.headers["Cache-Control"] == "no-store, no-transform"
    saved = site.http.put("/api/v1/config", content=b"name: new\n", headers={"If-Match": first.headers["ETag"]})
    assert saved.status_code == 200
    assert saved.json()["client"]["ip"] == CLIENT
    assert site.http.get("/api/v1/config").content == b"name: new\n"


def test_the_command_line_sends_under_the_sub_path(site: Site, tmp_path: Path) -> None:
    (tmp_path / "small.txt").write_bytes(b"small")
    (tmp_path / "large.bin").write_bytes(b"large" * 1_000_000)
    command = [sys.executable, "-m", "dropmill", "send", "small.txt", "large.bin", "--watch", "--server", site.url]
    more = {"SSL_CERT_FILE": str(site.certificate[0]), "NO_PROXY": "*", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environment(more), capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_doctor_finds_nothing_amiss_with_the_sample(site: Site) -> None:
    found = site.doctor()
    assert len(found) == 10
    assert {subject: line for subject, line in found.items() if not line.startswith("ok")} == {}


def test_doctor_finds_a_sub_path_that_the_server_does_not_know(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    made = Site(tmp_path, certificate, "/drop", "--allowed-host", "localhost")
    try:
        # The sub-path is stripped, and the server does not know it.
        made.nginx.start(made.server.start().host, lambda text: text.replace("http://dropmill;", "http://dropmill/;"))
        found = made.doctor()
    finally:
        made.end()
    assert found["network: pages"].startswith("FAIL pages lead to /, but they are reached at /drop")
    assert found["network: origin"].startswith("FAIL pages cannot change anything")
    assert f"--public-url {made.url}" in found["network: origin"]


def compressing(text: str) -> str:
    """The sample with a proxy's compression switched on for everything, and its own sub-path stripped."""
    text = text.replace("http://dropmill;", "http://dropmill/;")
    return text.replace("gzip                    off;", "gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;")


def test_behind_a_proxy_that_compresses_and_strips_a_config_is_saved_and_doctor_says_so(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    made = Site(tmp_path, certificate, "/drop")
    try:
        made.nginx.start(made.server.start().host, compressing)
        read = made.http.get("/api/v1/config", headers={"Accept-Encoding": "gzip"})
        assert read.headers["ETag"].startswith('W/"')
        saved = made.http.put("/api/v1/config", content=b"name: new\n", headers={"If-Match": read.headers["ETag"]})
        assert saved.status_code == 200
        assert made.http.get("/api/v1/config").content == b"name: new\n"
        found = made.doctor()
    finally:
        made.end()
    assert found["network: bytes"].startswith("warn a proxy compresses answers (gzip)")
    assert found["network: pages"].startswith("ok")


def test_doctor_finds_a_proxy_that_lets_clients_choose_their_address(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    made = Site(tmp_path, certificate, "")
    try:
        made.nginx.start(
            made.server.start().host,
            lambda text: text.replace("$proxy_add_x_forwarded_for", "$http_x_forwarded_for"),
        )
        found = made.doctor()
    finally:
        made.end()
    assert found["network: client"].startswith("warn clients can forge the address")

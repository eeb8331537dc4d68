"""https by Dropmill itself: over HTTP/1.1 only, because HTTP/2 would throttle uploads; and what belongs to https."""

import contextlib
import os
import ssl
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.support.certificates import NAME, make_certificate
from tests.support.faulty_link import Line
from tests.support.server import SERVE, Server, clean_environment, hear, read_answer
from websockets.sync.client import connect
from websockets.typing import Origin

from dropmill.cli.serve import require_certificate
from dropmill.model.errors import SettingsError
from dropmill.settings import Settings

H2_WINDOW = 64 * 1024  # what Hypercorn's HTTP/2 lets a client send ahead

Make = Callable[..., Server]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def https(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]) -> Iterator[Server]:
    """One started server that speaks https."""
    flags = ("--certfile", str(certificate[0]), "--keyfile", str(certificate[1]), "--allowed-host", NAME)
    running = Server(tmp_path_factory.mktemp("https"), *flags, certificate=certificate[0])
    try:
        yield running.start()
    finally:
        running.end()


def trusting(certificate: tuple[Path, Path], *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificate[0])
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def test_a_browser_that_would_rather_speak_http2_gets_http1(https: Server, certificate: tuple[Path, Path]) -> None:
    context = trusting(certificate, "h2", "http/1.1")
    with context.wrap_socket(https.connect(), server_hostname="localhost") as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"
    assert https.url.startswith("https://127.0.0.1:")
    assert https.http.get("/healthz").http_version == "HTTP/1.1"


def test_curl_falls_back_to_http1(https: Server, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    sent = tmp_path / "sent.bin"
    sent.write_bytes(os.urandom(100_000))
    told = ("-w", "%{http_version} %{http_code}", "-o", "/dev/null")
    curl = ("curl", "-sS", "--http2", "--cacert", str(certificate[0]), *told, "-T", str(sent), f"{https.url}/send/")
    assert subprocess.run(curl, check=True, capture_output=True, text=True, timeout=20).stdout == "1.1 201"


def test_uploads_are_not_throttled_by_a_line_with_delay(
    https: Server, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    """Over HTTP/2 at most 64 KiB would ever be under way."""
    sent = tmp_path / "sent.bin"
    sent.write_bytes(os.urandom(8 * 1024 * 1024))
    with Line(int(https.url.rpartition(":")[2]), delay_s=0.05) as line:
        address = f"https://localhost:{line.port}/send/"
        curl = ("curl", "-sSf", "--http2", "--cacert", str(certificate[0]), "-T", str(sent), address)
        subprocess.run(curl, check=True, capture_output=True, timeout=20)
        assert line.most_in_flight > 4 * H2_WINDOW


@pytest.mark.parametrize(
    "beginning",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        b"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    ],
    ids=["preface", "upgrade"],
)
def test_without_tls_http2_is_not_spoken_either(server: Server, beginning: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(beginning.replace(b"{host}", server.host.encode()))
        status, headers, _ = read_answer(connection)
        assert status == (200 if b"healthz" in beginning else 421)
        assert "upgrade" not in headers
        if status != 200:
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(65536):  # what follows the preface is no request: the connection ends
                    pass


def test_it_asks_browsers_to_stay_with_https_except_on_loopback(https: Server) -> None:
    for name, expected in ((NAME, "max-age=2592000"), ("localhost", None), ("127.0.0.1", None)):
        answer = https.http.get("/healthz", headers={"Host": f"{name}:{https.url.rpartition(':')[2]}"})
        assert answer.status_code == 200
        assert answer.headers.get("Strict-Transport-Security") == expected


def test_an_error_asks_for_it_too_and_http_never_does(https: Server, server: Server) -> None:
    refused = https.http.get("/nothing", headers={"Host": NAME})
    assert (refused.status_code, "Strict-Transport-Security" in refused.headers) == (404, True)
    assert "Strict-Transport-Security" not in server.http.get("/healthz").headers


def test_its_owner_has_browsers_stay_with_https_for_a_year_and_below_the_name(
    make_server: Make, certificate: tuple[Path, Path]
) -> None:
    tls = ("--certfile", str(certificate[0]), "--keyfile", str(certificate[1]), "--allowed-host", NAME)
    server = make_server(*tls, "--hsts", "365d", "--hsts-subdomains", certificate=certificate[0]).start()
    for path in ("/", "/healthz", "/nothing", "/static/favicon.svg", "/api/v1/jobs"):
        answer = server.http.get(path, headers={"Host": NAME})
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains", path


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_of_tls_are_refused(
    https: Server, certificate: tuple[Path, Path], version: ssl.TLSVersion
) -> None:
    context = trusting(certificate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")  # otherwise our own side would refuse
    with https.connect() as plain, pytest.raises((ssl.SSLError, ConnectionResetError)):
        context.wrap_socket(plain, server_hostname="localhost")


def test_the_newest_version_of_tls_is_preferred(https: Server, certificate: tuple[Path, Path]) -> None:
    for newest, expected in ((ssl.TLSVersion.MAXIMUM_SUPPORTED, "TLSv1.3"), (ssl.TLSVersion.TLSv1_2, "TLSv1.2")):
        context = trusting(certificate)
        context.maximum_version = newest
        with context.wrap_socket(https.connect(), server_hostname="localhost") as connection:
            assert connection.version() == expected


@pytest.mark.parametrize("name", ["AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384"])
def test_only_ciphers_with_forward_secrecy_and_authentication_are_offered(
    https: Server, certificate: tuple[Path, Path], name: str
) -> None:
    for ciphers, is_taken in ((name, False), ("ECDHE-ECDSA-AES128-GCM-SHA256", True)):
        context = trusting(certificate)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
        refused = contextlib.nullcontext() if is_taken else pytest.raises((ssl.SSLError, ConnectionResetError))
        with https.connect() as plain, refused, context.wrap_socket(plain, server_hostname="localhost") as connection:
            assert connection.cipher() is not None


@pytest.mark.parametrize(("origin", "status"), [("https://{host}", 201), ("http://{host}", 403)])
def test_the_own_origin_is_the_one_of_https(https: Server, origin: str, status: int) -> None:
    headers = {"Origin": origin.format(host=https.host)}
    answer = https.http.post("/api/v1/submissions", json={"files": []}, headers=headers)
    assert answer.status_code == status


def test_pages_open_their_socket(https: Server, certificate: tuple[Path, Path]) -> None:
    host = f"localhost:{https.url.rpartition(':')[2]}"
    origin = Origin(f"https://{host}")
    with connect(f"wss://{host}/api/v1/live", ssl=trusting(certificate), proxy=None, origin=origin) as live:
        assert hear(live)["type"] == "hello"


def test_the_command_line_sends_and_trusts_what_it_is_told_to(
    https: Server, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "sent.txt").write_text("over https")
    around = {"XDG_CACHE_HOME": str(tmp_path), "NO_PROXY": "*"}
    send = (*SERVE[:-1], "send", "sent.txt", "--server", https.url)

    def run(**more: str) -> "subprocess.CompletedProcess[str]":
        environment = clean_environment(around | more)
        return subprocess.run(send, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=20)

    refused = run()
    assert refused.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert run(SSL_CERT_FILE=str(certificate[0])).returncode == 0


def test_it_stops_with_connections_open(make_server: Make, certificate: tuple[Path, Path]) -> None:
    """TLS has a closing handshake; a client that does not take part does not delay the stop."""
    flags = ("--certfile", str(certificate[0]), "--keyfile", str(certificate[1]))
    server = make_server(*flags, certificate=certificate[0]).start()
    context = trusting(certificate, "http/1.1")
    with (
        context.wrap_socket(server.connect(), server_hostname="localhost") as idle,
        server.connect() as half,  # has not even begun the handshake
    ):
        idle.sendall(f"GET /healthz HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode())
        assert read_answer(idle)[0] == 200
        assert server.stop() == 0
        assert half.fileno() > 0
    assert "Traceback" not in server.said()


def test_a_certificate_that_cannot_be_used_stops_the_start_with_one_line(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    good, key = certificate
    other = make_certificate(tmp_path)[1]
    locked = tmp_path / "locked.pem"
    subprocess.run(("openssl", "pkey", "-in", key, "-aes128", "-passout", "pass:x", "-out", locked), check=True)
    for keyfile, said in ((tmp_path / "missing", "missing"), (good, "PEM"), (other, "key"), (locked, "passphrase")):
        with pytest.raises(SettingsError, match=said):
            require_certificate(Settings(certfile=good, keyfile=keyfile))
    start = (
        *SERVE,
        "--bind",
        "127.0.0.1:0",
        "--data",
        str(tmp_path),
        "--certfile",
        str(good),
        "--keyfile",
        str(locked),
    )
    ended = subprocess.run(
        start,
        cwd=tmp_path,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("dropmill: --certfile")


def test_certificate_and_key_are_given_together() -> None:
    for name in ("certfile", "keyfile"):
        with pytest.raises(SettingsError, match="go together"):
            Settings.load({name: "file.pem"}, {})


def test_http_on_the_port_of_https_is_refused_quietly(https: Server) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{https.host}/healthz", trust_env=False)
    assert https.http.get("/healthz").status_code == 200
    assert "Traceback" not in https.said()

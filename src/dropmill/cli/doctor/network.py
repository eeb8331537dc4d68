"""What `dropmill doctor --url` checks: the connection to a running server, with every proxy in between.

Raw HTTP/1.1 on sockets, because several checks need a request that no client library makes, such as the first half of
one. The server stores nothing.
"""

import base64
import hashlib
import json
import re
import secrets
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from urllib.parse import urlsplit

from dropmill import __version__
from dropmill.cli.doctor.findings import Findings, fail, ok, warn
from dropmill.model.accounts import NAME_MAX

ANSWER_S = 5.0  # a server answers in milliseconds; a proxy that waits for the rest of a body never does
PROBE_BYTES = 64 * 1024 * 1024  # announced, never sent; above the default limit of common proxies
BEGINNING_BYTES = 16 * 1024
HEAD_MAX = 64 * 1024
WHOLE_MAX = 2 * 1024 * 1024  # bytes of an answer read to its end: a config, a page
FORGED_NAME = "x" * (NAME_MAX + 1)  # of nobody: the server refuses it, and makes no account
FORGED_GROUPS = "\udcff"  # a byte that is no UTF-8
NO_TOKEN = "dmill_doctor"  # noqa: S105  # of nobody; a proxy that leaves tokens to the server passes it on
FORGED_ADDRESS = "192.0.2.1"  # of no client (RFC 5737)

ASKS_TO_SIGN_IN = (301, 302, 303, 307, 401, 403)  # of a proxy

H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # and empty settings
H2_SETTINGS = 4  # type of the first frame of a server that speaks HTTP/2


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The answer to a request.

    Attributes:
        status: 0 if no answer came in time.
        kind: the content type.
        body: its first bytes.
    """

    status: int = 0
    kind: str = ""
    body: bytes = b""

    @property
    def is_ours(self) -> bool:
        """Whether Dropmill answered, not a proxy."""
        return self.kind.startswith(("application/json", "application/problem+json"))

    @property
    def detail(self) -> str:
        """The `detail` of a problem document; without one, the status in words."""
        try:
            return str(json.loads(self.body)["detail"])
        except (ValueError, KeyError, TypeError):
            return f"it answers {self.status}"


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeAnswer:
    """An answer read to its end, at most `WHOLE_MAX` bytes of it; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class ServerConnection:
    """Makes connections to the server at one URL.

    Attributes:
        is_open: whether the server was reached; the other checks make no sense until then.
        base: the URL's path, without a slash at its end.
        origin: what browsers send as `Origin` from its pages.
        auth_header: in which the proxy says who is signed in (`--auth-header`); None: it does not.
        auth_groups_header: in which it says what groups they are in.
    """

    def __init__(self, url: str, *, auth_header: str | None = None, auth_groups_header: str | None = None) -> None:
        """Connect to nothing yet.

        Raises:
            ValueError: it is not a URL of http or https.
        """
        self.url = url if "://" in url else f"http://{url}"
        self.is_open = False
        self.auth_header = auth_header
        self.auth_groups_header = auth_groups_header
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an address such as https://drop.example.com")
        self.is_tls = parts.scheme == "https"
        self.name = parts.hostname or ""
        self._authority = parts.netloc.rpartition("@")[2]
        self._port = parts.port or (443 if self.is_tls else 80)
        self.base = parts.path.rstrip("/")
        default = ":443" if self.is_tls else ":80"
        self.origin = f"{parts.scheme}://{self._authority.lower().removesuffix(default)}"

    def connect(self, protocols: tuple[str, ...] = ("http/1.1",)) -> socket.socket:
        """A new connection, with TLS if the URL is https.

        Raises:
            OSError: the server cannot be reached.
        """
        made = socket.create_connection((self.name, self._port), timeout=ANSWER_S)
        if not self.is_tls:
            return made
        context = ssl.create_default_context()
        context.set_alpn_protocols(list(protocols))
        try:
            return context.wrap_socket(made, server_hostname=self.name)
        except BaseException:
            made.close()
            raise

    def ask(self, request: str, body: bytes = b"", **headers: str) -> Answer:
        """The answer to one request, its headers and the bytes that come with them; `Answer()` if none comes in time.

        Raises:
            OSError: the server cannot be reached.
        """
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        with self.connect() as connection:
            connection.sendall(self._head(request, *lines) + body)
            return _read(connection)

    def fetch(self, path: str, **headers: str) -> "WholeAnswer":
        """The answer to a GET, read to its end.

        Raises:
            OSError: the server cannot be reached, or the answer is not HTTP or not whole.
        """
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        with self.connect() as connection:
            connection.sendall(self._head(f"GET {path}", *lines, "Connection: close"))
            answer = HTTPResponse(connection, method="GET")
            try:
                answer.begin()
                found = {name.lower(): value for name, value in answer.getheaders()}
                return WholeAnswer(status=answer.status, headers=found, body=answer.read(WHOLE_MAX))
            except HTTPException as error:
                raise OSError(f"the answer is not HTTP ({type(error).__name__})") from None
            finally:
                answer.close()

    def _head(self, request: str, *lines: str) -> bytes:
        method, _, path = request.partition(" ")
        first = f"{method} {self.base}{path} HTTP/1.1"
        agent = f"User-Agent: dropmill/{__version__}"
        # Where a provider signs people in, nothing else gets past the proxy.
        token = [] if self.auth_header is None else [f"Authorization: Bearer {NO_TOKEN}"]
        head = [first, f"Host: {self._authority}", agent, *token, *lines, "", ""]
        return "\r\n".join(head).encode(errors="surrogateescape")


def check_http(server: ServerConnection) -> Findings:
    """The server can be reached, and is Dropmill."""
    try:
        answer = server.ask("GET /readyz", Connection="close")
    except OSError as error:
        yield fail(f"{server.url} cannot be reached ({error})")
        return
    if answer.status == 200 and answer.is_ours:
        server.is_open = True
        yield ok(f"{server.url} is ready")
    elif answer.is_ours:
        server.is_open = True
        yield fail(f"{server.url}: {answer.detail}")
    elif answer.status in ASKS_TO_SIGN_IN and server.auth_header is not None:
        yield warn(
            f"the proxy answers {answer.status} before the server does, so nothing behind it is checked; it can leave "
            "requests with a token to the server, as deploy/nginx.conf does"
        )
    else:
        yield fail(f"{server.url} is not Dropmill: " + (answer.detail if answer.status else "it does not answer"))


def check_pages(server: ServerConnection) -> Findings:
    """Links on pages lead to the URL, sub-path included."""
    page = server.fetch("/", Accept="text/html")
    if page.status == 303:  # to the page that everybody sees
        page = server.fetch("/sign-in", Accept="text/html")
    shown = re.search(rb'data-base="([^"]*)"', page.body)
    if page.status != 200 or shown is None:
        yield fail(f"{server.url}/ is not a page of Dropmill: it answers {page.status}")
    elif (base := shown[1].decode(errors="replace")) != server.base:
        yield fail(
            f"pages lead to {base or '/'}, but they are reached at {server.base or '/'}; start the server with "
            f"--public-url {server.url}"
        )
    elif (status := server.fetch("/static/favicon.svg").status) != 200:
        yield fail(
            f"{server.url}/static/ answers {status}: the proxy must pass every path below {server.base or '/'} on"
        )
    else:
        yield ok(f"pages work at {server.base or '/'}")


def check_origin(server: ServerConnection) -> Findings:
    """Pages may change things: the server accepts the origin that browsers send."""
    answer = server.ask(
        "POST /api/v1/config/check", Origin=server.origin, Sec_Fetch_Site="same-origin", Content_Length="0"
    )
    if answer.status == 200:
        yield ok(f"pages of {server.origin} may change things")
    elif answer.status == 401:
        yield ok("not checked; the server requires sign-in")
    elif answer.status == 403 and answer.is_ours:
        yield fail(f"pages cannot change anything; start the server with --public-url {server.url} ({answer.detail})")
    else:
        yield fail(f"pages cannot change anything: {answer.detail}")


def check_client(server: ServerConnection) -> Findings:
    """The server knows the client's address and scheme, and no client can forge its address."""
    page = server.fetch("/", Accept="text/html", X_Forwarded_For=FORGED_ADDRESS)
    is_plain = "cross-origin-opener-policy" not in page.headers
    if page.status == 403:
        yield ok("forwarding headers are refused")
    elif page.status != 200:
        yield ok("not checked; there is no page")
    elif FORGED_ADDRESS.encode() in page.body:
        yield warn(
            "clients can forge the address that the log shows: the proxy must append to X-Forwarded-For "
            "($proxy_add_x_forwarded_for in nginx), and --trusted-proxy must name proxies only"
        )
    elif server.is_tls and is_plain:
        yield warn(
            "the server takes this connection for http: the proxy must send X-Forwarded-Proto, and --trusted-proxy "
            "must name the proxy"
        )
    else:
        yield ok("clients cannot forge their address")


def check_sign_in(server: ServerConnection) -> Findings:
    """No client can say who it is: the proxy replaces, or removes, the headers of `--auth-header`.

    What is forged is malformed, so the server refuses it if it arrives. Otherwise this would sign somebody in.
    """
    forged = {"--auth-header": (server.auth_header, FORGED_NAME)}
    forged["--auth-groups-header"] = (server.auth_groups_header, FORGED_GROUPS)
    if server.auth_header is None:
        yield ok("not checked; --auth-header is not set")
        return
    for setting, (header, value) in forged.items():
        for path in ("/readyz", "/api/v1/session"):
            if header is None:
                continue
            answer = server.ask(f"GET {path}", b"", **{header: value}, Connection="close")
            if answer.status == 400 and answer.is_ours and setting in answer.detail:
                yield fail(
                    f"clients can say who they are: {header} of a client arrives at {path}; the proxy must replace or "
                    f"remove it in every location (nginx: proxy_set_header {header} ...)"
                )
                return
    yield ok("clients cannot say who they are")


def check_bytes(server: ServerConnection) -> Findings:
    """Bytes arrive unchanged: the config's ETag is the SHA-256 of its bytes."""
    answer = server.fetch("/api/v1/config", Accept="application/yaml", Accept_Encoding="gzip, br, zstd")
    tag, coding = answer.headers.get("etag", ""), answer.headers.get("content-encoding", "identity")
    if answer.status != 200:
        yield ok(f"not checked; the config answers {answer.status}")
    elif coding != "identity":
        yield warn(
            f"a proxy compresses answers ({coding}) in spite of no-transform: downloads cannot be resumed; "
            "nginx: gzip off"
        )
    elif tag != f'"{hashlib.sha256(answer.body).hexdigest()}"':
        yield fail(f"a proxy rewrites answers: ETag {tag or 'none'} does not match the bytes that arrive")
    else:
        yield ok("bytes and ETags arrive as they were sent")


def check_http2(server: ServerConnection) -> Findings:
    """Whether browsers would use HTTP/2: uploads over a distance are then many times slower."""
    if server.is_tls:
        with server.connect(("h2", "http/1.1")) as connection:
            is_h2 = isinstance(connection, ssl.SSLSocket) and connection.selected_alpn_protocol() == "h2"
    else:
        with server.connect() as connection:
            connection.sendall(H2_PREFACE)
            try:
                beginning = connection.recv(9)
            except OSError:
                beginning = b""
            is_h2 = len(beginning) > 3 and not beginning.startswith(b"HTTP/") and beginning[3] == H2_SETTINGS
    if is_h2:
        yield warn("HTTP/2 is offered: uploads wait a round trip for each window (often 64 KiB); offer HTTP/1.1 only")
    else:
        yield ok("HTTP/1.1, the faster one for uploads")


def check_websocket(server: ServerConnection) -> Findings:
    """Pages can open their WebSocket."""
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    answer = server.ask(
        "GET /api/v1/live",
        Upgrade="websocket",
        Connection="Upgrade",
        Sec_WebSocket_Version="13",
        Sec_WebSocket_Key=key,
        Origin=server.origin,
    )
    if answer.status == 101:
        yield ok("sockets can be opened")
    elif answer.status == 401:
        yield ok("sockets reach the server; it requires sign-in")
    elif answer.is_ours and answer.status in (403, 421, 503):
        yield fail(f"sockets are refused: {answer.detail}")
    else:
        yield fail("sockets cannot be opened: the proxy must pass on Upgrade and Connection; until then pages poll")


def check_bodies(server: ServerConnection) -> Findings:
    """Large bodies pass, and without buffering: the server must answer before the body is whole."""
    answer = server.ask(
        "PATCH /api/v1/uploads/doctor",
        bytes(BEGINNING_BYTES),
        Tus_Resumable="1.0.0",
        Upload_Offset="0",
        Content_Type="application/offset+octet-stream",
        Content_Length=str(PROBE_BYTES),
    )
    if answer.is_ours:
        yield ok("large bodies pass, without buffering")
    elif answer.status == 413:
        yield fail("large bodies are refused between client and server (413); nginx: client_max_body_size 0")
    elif answer.status:
        yield fail(f"large bodies do not pass: {answer.detail}")
    else:
        yield warn(
            "a proxy buffers request bodies before it passes them on: progress is wrong and uploads take "
            "twice as long; nginx: proxy_request_buffering off"
        )


def check_streams(server: ServerConnection) -> Findings:
    """Events arrive when the server sends them."""
    answer = server.ask("GET /api/v1/events?after=newest", Accept="text/event-stream")
    if answer.status == 200 and answer.body:
        yield ok("events arrive as they are sent")
    elif answer.status == 401:
        yield ok("not checked; the server requires sign-in")
    elif answer.status in (0, 200):
        yield warn("a proxy buffers answers: pages show events late; nginx: proxy_buffering off")
    else:
        yield fail(f"events are refused: {answer.detail}")


NETWORK_CHECKS: Mapping[str, Callable[[ServerConnection], Findings]] = {
    "network": check_http,
    "network: pages": check_pages,
    "network: origin": check_origin,
    "network: client": check_client,
    "network: sign-in": check_sign_in,
    "network: bytes": check_bytes,
    "network: HTTP/2": check_http2,
    "network: sockets": check_websocket,
    "network: bodies": check_bodies,
    "network: streams": check_streams,
}


def _read(connection: socket.socket) -> Answer:
    """An answer's head and the first bytes of its body; `Answer()` for anything else."""
    received = b""
    try:
        while b"\r\n\r\n" not in received and len(received) < HEAD_MAX:
            if not (more := connection.recv(HEAD_MAX)):
                break
            received += more
        head, separator, body = received.partition(b"\r\n\r\n")
        if not separator:
            return Answer()
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        answer = Answer(status=int(first.split()[1]), kind=fields.get("content-type", ""), body=body)
    except (TimeoutError, ConnectionError, ValueError, IndexError):
        return Answer()
    try:
        if not body and fields.get("content-length") != "0" and answer.status != 101:
            return Answer(status=answer.status, kind=answer.kind, body=connection.recv(HEAD_MAX))
    except OSError:
        pass
    return answer

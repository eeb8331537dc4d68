"""What pages of other origins are let do, asked of a real server by the headers that browsers send."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from quart import Quart
from tests.support.all_routes import all_routes
from tests.support.server import Server, hear
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

import dropmill
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.web.server.cors import ANSWER_HEADERS, REQUEST_HEADERS, OtherOrigins, keep_origins
from dropmill.web.server.refusal import headers_for, refusal

ALLOWED = "https://a.example"
OTHERS = ["https://b.example", "https://a.example.evil.example", "https://A.example", "http://a.example", "null", "*"]
API = Path(dropmill.__file__).parent / "web" / "api"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that one other origin may call; its setting is not in the browsers' own form."""
    running = Server(tmp_path_factory.mktemp("server"), "--auth", "off", "--allowed-origin", "HTTPS://A.example:443/")
    try:
        yield running.start()
    finally:
        running.end()


def cors(answer: httpx.Response) -> dict[str, str]:
    """The headers of an answer that are for browsers with a page of another origin."""
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


def preflight(server: Server, path: str, origin: str, method: str = "PATCH") -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "if-match"}
    return server.http.options(path, headers=asked)


@pytest.mark.parametrize(
    ("path", "status"), [("/api/v1/jobs", 200), ("/api/v1/jobs/x", 404), ("/api/v1/nowhere", 404), ("/send", 405)]
)
def test_a_page_that_is_allowed_reads_answers_and_refusals(server: Server, path: str, status: int) -> None:
    answer = server.http.get(path, headers={"Origin": ALLOWED})
    assert answer.status_code == status
    assert set(cors(answer)) == {"access-control-allow-origin", "access-control-expose-headers"}
    assert answer.headers["Access-Control-Allow-Origin"] == ALLOWED
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize("origin", [None, *OTHERS])
def test_other_pages_get_none_of_it(server: Server, origin: str | None) -> None:
    """`Vary` all the same: a cache must not give their answer to a page that is allowed."""
    answer = server.http.get("/api/v1/jobs", headers={} if origin is None else {"Origin": origin})
    assert (answer.status_code, cors(answer)) == (200, {})
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize("path", ["/", "/history", "/static/css/tokens.css", "/healthz", "/nowhere"])
def test_pages_and_static_files_are_for_our_own_pages(server: Server, path: str) -> None:
    answer = server.http.get(path, headers={"Origin": ALLOWED})
    assert cors(answer) == {}
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "path", ["/api/v1/config", "/api/v1/uploads", "/api/v1/uploads/x", "/send/a.txt", "/api/v1/nowhere"]
)
def test_a_preflight_of_an_allowed_page_is_answered_at_each_address_alike(
    server: Server, path: str, method: str
) -> None:
    answer = preflight(server, path, ALLOWED, method)
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == ALLOWED
    assert method in answer.headers["Access-Control-Allow-Methods"].split(", ")
    named = answer.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"Authorization", "Content-Type", "If-Match", "Idempotency-Key", "Repr-Digest"} <= set(named)
    assert {"Tus-Resumable", "Upload-Offset", "Upload-Metadata", "X-HTTP-Method-Override"} <= set(named)
    assert int(answer.headers["Access-Control-Max-Age"]) > 0
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", OTHERS)
@pytest.mark.parametrize("path", ["/api/v1/config", "/api/v1/uploads/x", "/send/a.txt", "/api/v1/nowhere"])
def test_a_preflight_of_another_page_is_answered_without_a_permission(server: Server, path: str, origin: str) -> None:
    answer = preflight(server, path, origin)
    assert (answer.status_code, cors(answer)) == (204, {})
    assert "Allow" not in answer.headers  # nor with which addresses there are


def test_what_tus_says_of_itself_is_no_preflight(server: Server) -> None:
    answer = server.http.options("/api/v1/uploads", headers={"Origin": ALLOWED})
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Access-Control-Allow-Origin"] == ALLOWED


def test_an_allowed_page_posts_and_opens_the_socket_and_no_other_does(server: Server) -> None:
    made = server.http.post("/api/v1/submissions", json={"files": []}, headers={"Origin": ALLOWED})
    assert (made.status_code, made.headers["Access-Control-Allow-Origin"]) == (201, ALLOWED)
    assert "Location" in made.headers["Access-Control-Expose-Headers"].split(", ")
    with server.live(origin=Origin(ALLOWED)) as live:
        live.send('{"type": "join", "topic": "all", "after": 0}')
        assert hear(live)
    for origin in OTHERS:
        refused = server.http.post("/api/v1/submissions", json={"files": []}, headers={"Origin": origin})
        assert (refused.status_code, cors(refused)) == (403, {})
        with pytest.raises(InvalidStatus, match="403"), server.live(origin=Origin(origin)):
            pass


LARGE = {"Origin": ALLOWED, "X-Large": "x" * 200_000}


def test_an_allowed_page_reads_answers_to_requests_that_were_not_read(server: Server, tmp_path: Path) -> None:
    """Without the headers a browser would say that the server is away."""
    answer = server.http.get("/api/v1/jobs", headers=LARGE)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (431, "*")
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert "access-control-allow-credentials" not in answer.headers
    crowded = Server(tmp_path, "--auth", "off", "--allowed-origin", ALLOWED, "--max-connections", "1").start()
    try:
        assert crowded.http.get("/healthz").status_code == 200  # and its connection stays
        with httpx.Client(base_url=crowded.url, trust_env=False) as other:
            refused = other.get("/api/v1/jobs", headers={"Origin": ALLOWED})
        assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (503, "*")
        assert refused.headers["Access-Control-Expose-Headers"] == "Retry-After"
    finally:
        crowded.end()


async def test_an_allowed_page_reads_that_the_server_stops(tmp_path: Path, ledger: SqliteLedger, bus: LocalBus) -> None:
    """A refused preflight would keep the answer from it."""
    async with all_routes(tmp_path, ledger, bus, allowed_origin=[ALLOWED]) as (app, found):
        found.is_draining = True
        client = app.test_client()
        asked = {"Origin": ALLOWED, "Access-Control-Request-Method": "PATCH"}
        answer = await client.options("/api/v1/uploads/x", headers=asked)
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (204, ALLOWED)
        for path in ("/api/v1/jobs", "/api/v1/uploads"):
            refused = await client.get(path, headers={"Origin": ALLOWED})
            assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (503, ALLOWED)
            assert refused.headers["Retry-After"] == "5"


def test_what_the_app_has_not_answered_is_for_allowed_pages(tmp_path: Path) -> None:
    """An answer of the server itself, about a request whose head was read."""
    app = Quart(__name__)
    keep_origins(app, OtherOrigins([ALLOWED]))
    for origins, expected in (
        ([ALLOWED], ALLOWED),
        (["https://b.example"], None),
        ([ALLOWED, ALLOWED], None),
        ([], None),
    ):
        headers = headers_for(app, {"headers": [(b"origin", origin.encode()) for origin in origins]})
        head = dict(refusal(503, origins=headers)[0])
        assert head.get(b"access-control-allow-origin", b"").decode() == (expected or "")
        assert head[b"cross-origin-resource-policy"] == (b"cross-origin" if expected else b"same-origin")


def test_a_server_that_allows_no_other_origin_says_nothing_of_them(server: Server, tmp_path: Path) -> None:
    plain = Server(tmp_path).start()
    try:
        answer = plain.http.get("/api/v1/jobs", headers={"Origin": ALLOWED})
        assert (cors(answer), "Origin" in answer.headers.get("Vary", "")) == ({}, False)
        assert (preflight(plain, "/api/v1/jobs", ALLOWED).status_code, cors(answer)) == (204, {})
        assert cors(plain.http.get("/api/v1/jobs", headers=LARGE)) == {}
    finally:
        plain.end()


def test_each_header_that_the_api_reads_or_writes_is_listed() -> None:
    """A header that is missing here works everywhere but on pages of other origins."""
    code = "".join(path.read_text() for path in API.glob("*.py"))
    read = set(re.findall(r'request\.headers(?:\.get\(|\[)"([\w-]+)"', code))
    read |= set(re.findall(r'"([\w-]+)" in request\.headers', code))
    assert "Upload-Metadata" in read
    of_browsers = {"Accept", "Accept-Encoding", "Accept-Language", "Cookie", "Host", "Sec-Fetch-Site", "User-Agent"}
    assert read - of_browsers - set(REQUEST_HEADERS) == set()
    written = set(re.findall(r'(?:response\.)?headers\["([\w-]+)"\] =', code))
    written |= set(re.findall(r'"((?:Tus|Upload|Dropmill|Content)-[\w-]+)": ', code))
    assert "Upload-Offset" in written
    readable = {"Cache-Control", "Content-Length", "Content-Type", "Last-Modified", "Expires"}  # by every page
    not_for_pages = {"Connection", "Content-Encoding", "Content-Security-Policy"}
    assert written - readable - not_for_pages - set(ANSWER_HEADERS) == set()

"""What every request passes, asked of a real server."""

import httpx
import pytest
from tests.support.server import Server, read_answer
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from dropmill.model.errors import SettingsError
from dropmill.settings import Settings
from dropmill.web.server.guard import FORWARDING_HEADERS, HEADERS, LOOPBACK_NAMES, allowed_hosts

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def refusal_of_socket(server: Server, **headers: str) -> httpx.Response:
    """The answer to a handshake that is refused."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    host = given.pop("Host", None)
    with (
        server.connect() as made,
        pytest.raises(InvalidStatus) as refused,
        connect(f"ws://{host or server.host}/api/v1/live", sock=made, proxy=None, additional_headers=given),
    ):
        pass
    answer = refused.value.response
    return httpx.Response(
        answer.status_code, headers=list(answer.headers.raw_items()), content=bytes(answer.body or b"")
    )


def require_problem(answer: httpx.Response, status: int, code: str) -> None:
    """Fail unless it is that problem document."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"]


# --- hosts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/api/v1/submissions", "/static/css/tokens.css", "/readyz", "/nowhere"])
@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.example", "", "[::2]", "a@b"]
)
def test_another_host_is_misdirected(server: Server, path: str, host: str) -> None:
    require_problem(server.http.get(path, headers={"Host": host}), 421, "unknown_host")


@pytest.mark.parametrize("host", ["evil.example", "10.1.2.3:8000", "[fe80::1]"])
def test_healthz_answers_for_any_host(server: Server, host: str) -> None:
    """A load balancer's probe names the address that it asks."""
    assert server.http.get("/healthz", headers={"Host": host}).json() == {"ok": True}


def test_a_socket_for_another_host_is_misdirected(server: Server) -> None:
    require_problem(refusal_of_socket(server, Host="evil.example:80"), 421, "unknown_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8000", "[0:0::1]"])
def test_every_name_of_loopback_is_served(server: Server, host: str) -> None:
    assert server.http.get("/healthz", headers={"Host": host}).status_code == 200


def test_a_request_without_host_is_refused(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert read_answer(connection)[0] == 400
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert read_answer(connection)[0] == 421


def test_the_hosts_are_those_of_the_binds_and_the_allowed_ones() -> None:
    assert allowed_hosts(Settings(bind=("[::1]:1",))) == {"localhost", "127.0.0.1", "::1"}
    everywhere = Settings(bind=("0.0.0.0:80", "[::]:80", "10.1.2.3:80"), allowed_host=("Drop.Example", "[fe80::1]"))
    wildcards = {"0.0.0.0", "::"}
    assert allowed_hosts(everywhere) == LOOPBACK_NAMES | wildcards | {"10.1.2.3", "drop.example", "fe80::1"}
    public = Settings.load({"bind": ["10.1.2.3:80"], "public_url": "https://Drop.Example:8443/x"}, {})
    assert allowed_hosts(public) == {"10.1.2.3", "drop.example"}


# --- origins ---------------------------------------------------------------------------------------------------------

FOREIGN = [
    {"Origin": "null"},
    {"Origin": "https://evil.example"},
    {"Origin": "https://{host}"},
    {"Origin": "http://{host}.evil.example"},
    {"Origin": "http://evil{host}"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://{host}", "Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_change_from_another_origin_is_refused(server: Server, headers: dict[str, str]) -> None:
    filled = {name: value.format(host=server.host) for name, value in headers.items()}
    answer = server.http.post("/api/v1/submissions", json={"files": []}, headers=filled)
    require_problem(answer, 403, "forbidden")


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_socket_from_another_origin_is_refused(server: Server, headers: dict[str, str]) -> None:
    filled = {name: value.format(host=server.host) for name, value in headers.items()}
    require_problem(refusal_of_socket(server, **filled), 403, "forbidden")


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "http://{host}"}, {"Origin": "http://{host}", "Sec-Fetch-Site": "same-origin"}]
)
def test_our_own_pages_and_scripts_may_change_things(server: Server, headers: dict[str, str]) -> None:
    filled = {name: value.format(host=server.host) for name, value in headers.items()}
    assert server.http.post("/api/v1/submissions", json={"files": []}, headers=filled).status_code == 201
    with server.live(additional_headers=filled):
        pass


def test_reading_is_open_to_links_from_elsewhere(server: Server) -> None:
    answer = server.http.get("/", headers={"Sec-Fetch-Site": "cross-site", "Origin": "https://a.example"})
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


# --- proxies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORWARDING_HEADERS)
def test_what_came_through_a_proxy_is_refused_with_what_to_do(server: Server, name: str) -> None:
    answer = server.http.get("/", headers={name.lower(): "for=10.0.0.1"})
    require_problem(answer, 403, "forbidden")
    assert name in answer.json()["detail"]
    assert "--trusted-proxy" in answer.json()["detail"]
    assert "--public-url" in answer.json()["detail"]


def test_a_socket_through_a_proxy_is_refused(server: Server) -> None:
    require_problem(refusal_of_socket(server, X_Forwarded_For="10.0.0.1"), 403, "forbidden")


# --- pages and JSON --------------------------------------------------------------------------------------------------

FORM = {"file": ("a.txt", b"a")}
JAVA = {"Accept": "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"}  # what HttpURLConnection sends unasked


@pytest.mark.parametrize(
    "headers",
    [
        HTML,
        HTML | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"},
        HTML | {"Authorization": "Basic YTpi"},  # for the proxy before us
    ],
)
def test_a_form_without_scripts_leads_to_its_page(server: Server, headers: dict[str, str]) -> None:
    answer = server.http.post("/api/v1/submissions", files=FORM, headers=headers)
    assert answer.status_code == 303
    assert server.http.get(answer.headers["Location"]).status_code == 200
    refused = server.http.post("/api/v1/submissions", files={"note": (None, "no file")}, headers=headers)
    assert (refused.status_code, refused.headers["Content-Type"]) == (400, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Accept": "*/*"},
        {"Accept": "application/json, text/html"},
        HTML | {"Sec-Fetch-Mode": "cors"},
        HTML | {"Authorization": "Bearer t"},
        HTML | {"Idempotency-Key": "k"},
        HTML | {"X-Requested-With": "XMLHttpRequest"},
    ],
)
def test_a_form_of_a_script_is_answered_in_json(server: Server, headers: dict[str, str]) -> None:
    answer = server.http.post("/api/v1/submissions", files=FORM, headers=headers)
    assert answer.status_code == 201
    assert answer.json()["counts"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/jobs/none"),
        ("GET", "/api/v1/submissions/none"),
        ("GET", "/api/v1/config/revisions/none"),
        ("GET", "/api/v1/nowhere"),
        ("GET", "/api/v1"),
        ("DELETE", "/api/v1/submissions"),
        ("POST", "/api/v1/jobs/none/retry"),
        ("PUT", "/api/v1/config"),
        ("PUT", "/send"),
        ("POST", "/send/x"),
        ("HEAD", "/api/v1/uploads/none"),
    ],
)
@pytest.mark.parametrize("accept", [HTML, JAVA])
def test_the_api_answers_in_json_whatever_is_accepted(
    server: Server, method: str, path: str, accept: dict[str, str]
) -> None:
    answer = server.http.request(method, path, headers=accept)
    assert answer.status_code >= 400
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_files_that_are_added_or_put_are_answered_in_json_whatever_is_accepted(server: Server) -> None:
    opened = server.http.post("/api/v1/submissions", json={"files": []}, headers=HTML)
    assert opened.status_code == 201
    added = server.http.post(f"/api/v1/submissions/{opened.json()['id']}/files", files=FORM, headers=HTML)
    assert (added.status_code, added.json()["id"]) == (201, opened.json()["id"])
    put = server.http.put("/send/a.txt", content=b"a", headers=HTML)
    assert (put.status_code, put.json()["files"][0]["name"]) == (201, "a.txt")


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("HEAD", "/"),
        ("GET", "/history"),
        ("GET", "/submissions"),
        ("GET", "/config"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/api/v1/submissions"),
        ("GET", "/api/v1/config"),
        ("GET", "/static/css/tokens.css"),
        ("GET", "/static/nothing.css"),
        ("GET", "/nowhere"),
        ("POST", "/healthz"),
        ("OPTIONS", "/healthz"),
        ("GET", "/api/v1/jobs?limit=x"),
        ("PUT", "/api/v1/config"),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_every_answer_carries_the_security_headers(server: Server, method: str, path: str, accept: str) -> None:
    answer = server.http.request(method, path, headers={"Accept": accept})
    assert answer.status_code < 500
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    expected = "no-cache" if path.startswith("/static/") else "no-store"
    is_exact = (method, path) == ("GET", "/api/v1/config")
    assert answer.headers["Cache-Control"] == (f"{expected}, no-transform" if is_exact else expected)
    assert "Server" not in answer.headers


def test_the_security_headers_say_what_they_must() -> None:
    given = [part.split() for part in HEADERS["Content-Security-Policy"].split(";")]
    policy = {name: set(sources) for name, *sources in given}
    for name in ("default-src", "base-uri", "frame-ancestors"):
        assert policy[name] == {"'none'"}
    assert "object-src" not in policy  # so the default counts
    assert policy["connect-src"] == policy["script-src"] == policy["style-src"] == policy["form-action"] == {"'self'"}
    assert set().union(*policy.values()) <= {"'none'", "'self'", "data:", "blob:", "'script'"}
    assert policy["require-trusted-types-for"] == {"'script'"}
    assert HEADERS["X-Content-Type-Options"] == "nosniff"
    assert HEADERS["Referrer-Policy"] == "same-origin"
    assert HEADERS["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_refused_socket_carries_them_too(server: Server) -> None:
    answer = refusal_of_socket(server, Origin="null")
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS


def test_output_is_sandboxed(server: Server) -> None:
    job = server.settled(server.send(("a.html", b"<script>"))["id"])["files"][0]["job"]["id"]
    answer = server.http.get(f"/api/v1/jobs/{job}/output")
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_static_file_is_sent_again_only_when_it_has_changed(server: Server) -> None:
    first = server.http.get("/static/css/tokens.css")
    assert "Expires" not in first.headers
    second = server.http.get("/static/css/tokens.css", headers={"If-None-Match": first.headers["ETag"]})
    assert (second.status_code, second.content) == (304, b"")


def test_nowhere_is_a_problem_to_a_script_and_a_page_to_a_person(server: Server) -> None:
    require_problem(server.http.get("/api/v1/jobs/none"), 404, "not_found")
    require_problem(server.http.get("/nowhere", headers={"Accept": "*/*"}), 404, "not_found")
    page = server.http.get("/submissions/none", headers=HTML)
    assert page.status_code == 404
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "not_found" in page.text or "Not found" in page.text
    assert "Traceback" not in page.text


def test_a_page_about_an_error_is_in_the_persons_language_where_its_code_says_enough(server: Server) -> None:
    german = HTML | {"Accept-Language": "de"}
    page = server.http.get("/submissions/none", headers=german)
    assert "<h1>Das hat der Server nicht, oder es wurde entfernt.</h1>" in page.text
    assert "There is no" not in page.text
    page = server.http.get("/nowhere", headers=HTML)
    assert "<h1>The server has no such thing, or has removed it.</h1>" in page.text


def test_a_page_that_refuses_shows_text_only(server: Server) -> None:
    page = server.http.get(f"/submissions?before={'%3Cscript%3Ealert(1)%3C/script%3E' * 9}", headers=HTML)
    assert page.status_code == 400
    assert "<script>alert" not in page.text


def test_a_method_that_is_not_offered_is_answered_with_those_that_are(server: Server) -> None:
    answer = server.http.delete("/api/v1/submissions")
    require_problem(answer, 405, "method_not_allowed")
    assert {word.strip() for word in answer.headers["Allow"].split(",")} == {"GET", "HEAD", "OPTIONS", "POST"}


def test_a_socket_where_there_is_none_is_refused(server: Server) -> None:
    for path, status in (("/nowhere", 404), ("/healthz", 400)):
        with pytest.raises(InvalidStatus) as refused, connect(f"ws://{server.host}{path}", proxy=None):
            pass
        assert refused.value.response.status_code == status
    assert "Traceback" not in server.said()


def test_an_address_with_doubled_slashes_is_another_address(server: Server) -> None:
    for path in ("/api//v1/submissions", "/static//etc/passwd"):
        require_problem(server.http.get(server.url + path), 404, "not_found")


def test_head_answers_as_get_without_the_body(server: Server) -> None:
    for path in ("/", "/api/v1/submissions", "/api/v1/config", "/static/css/tokens.css"):
        head, get = server.http.head(path), server.http.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Length"] == get.headers["Content-Length"]


def test_an_unusable_setting_is_an_error_of_ours_not_of_a_request() -> None:
    assert SettingsError.status == 500

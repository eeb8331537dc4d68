"""Numbers of thousands of digits in text from outside: refused or ignored, never an error of ours."""

import json

import pytest
from tests.support.server import Server, hear

from dropmill.model.numbers import NUMBER_MAX, is_whole_number, whole_number

DIGITS = "1" * 5000  # Python's `int` refuses more than 4,300
FEWER = "1" * 4000  # and takes these


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("007", 7),
        ("0" * 5000 + "7", 7),
        (str(NUMBER_MAX), NUMBER_MAX),
        (str(NUMBER_MAX + 1), None),
        (DIGITS, None),
        (FEWER, None),
        ("", None),
        ("-1", None),
        ("+1", None),
        (" 1", None),
        ("1_0", None),
        ("1.0", None),
        ("\u00b2", None),
        ("\u0661", None),
    ],
)
def test_a_whole_number_is_ascii_digits_up_to_a_limit(text: str, number: int | None) -> None:
    assert whole_number(text) == number


def test_digits_without_end_are_digits() -> None:
    assert is_whole_number(DIGITS)
    assert whole_number("11", most=10) is None
    assert whole_number("10", most=10) == 10


@pytest.mark.parametrize("digits", [DIGITS, FEWER])
@pytest.mark.parametrize(
    ("method", "path", "name", "value"),
    [
        ("GET", "/api/v1/events", "Last-Event-ID", "{}"),
        ("GET", "/api/v1/events", "Accept", "text/event-stream;q={}"),
        ("GET", "/static/css/main.css", "Range", "bytes={}-"),
        ("GET", "/static/css/main.css", "Range", "bytes=-{}"),
        ("GET", "/static/css/main.css", "If-Modified-Since", "Mon, 01 Jan {} 00:00:00 GMT"),
        ("GET", "/api/v1/files/x/content", "Range", "bytes=0-{}"),
        ("GET", "/healthz", "Host", "localhost:{}"),
        ("POST", "/api/v1/uploads", "Upload-Length", "{}"),
        ("PATCH", "/api/v1/uploads/x", "Upload-Offset", "{}"),
        ("PATCH", "/api/v1/uploads/x", "Upload-Length", "{}"),
        ("PUT", "/send/x", "Content-Length", "{}"),
        ("PUT", "/send/x", "Keep-Alive", "timeout={}"),
        ("PUT", "/api/v1/config", "If-Match", '"{}"'),
        ("POST", "/api/v1/submissions", "Content-Type", "multipart/form-data; boundary=B; charset={}"),
    ],
)
def test_no_header_with_a_long_number_is_an_error_of_ours(
    server: Server, digits: str, method: str, path: str, name: str, value: str
) -> None:
    headers = {"Host": server.host, "Tus-Resumable": "1.0.0", "Upload-Offset": "0"} | {name: value.format(digits)}
    head = "".join(f"{key}: {text}\r\n" for key, text in headers.items())
    with server.connect() as client:
        client.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())
        received = client.recv(65536)
    number = int(received.split()[1])
    assert number < 500, received
    assert number < 400 or b"application/problem+json" in received
    assert "Traceback" not in server.said()


@pytest.mark.parametrize("digits", [DIGITS, FEWER])
@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/events?after={}",
        "/api/v1/events?after=0&limit={}",
        "/api/v1/events?wait={}",
        "/api/v1/submissions?before={}",
        "/api/v1/submissions?limit={}",
        "/api/v1/submissions/x/files?before={}",
        "/api/v1/jobs?before={}",
        "/api/v1/jobs/x/output?attempt={}",
        "/api/v1/jobs/x/output?from={}",
        "/api/v1/jobs/x/results/y?attempt={}",
        "/api/v1/config/revisions?before={}",
    ],
)
def test_no_parameter_with_a_long_number_is_an_error_of_ours(server: Server, digits: str, path: str) -> None:
    answer = server.http.get(path.format(digits))
    assert answer.status_code in (400, 404)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("number", [DIGITS, FEWER, "1e999", "-1e999", "1" * 400 + ".5"])
def test_no_json_with_a_long_number_is_an_error_of_ours(server: Server, number: str) -> None:
    body = f'{{"files": [{{"name": "a", "size": {number}}}]}}'
    answer = server.http.post("/api/v1/submissions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    etag = server.http.get("/api/v1/config").headers["etag"]
    patch = f'[{{"op": "replace", "path": "/name", "value": {number}}}]'
    kind = {"Content-Type": "application/json-patch+json", "If-Match": etag}
    answer = server.http.patch("/api/v1/config", content=patch, headers=kind)
    assert 400 <= answer.status_code < 500
    assert "Traceback" not in server.said()


@pytest.mark.parametrize("number", [DIGITS, FEWER, "0x" + "f" * 5000, "1:" * 2000 + "1", "1" * 5000 + ".5", "1e99999"])
def test_no_config_with_a_long_number_is_an_error_of_ours(server: Server, number: str) -> None:
    text = f"a: {number}\n"
    answer = server.http.post("/api/v1/config/check", content=text, headers={"Content-Type": "application/yaml"})
    assert answer.status_code in (200, 422)
    etag = server.http.get("/api/v1/config").headers["etag"]
    kind = {"Content-Type": "application/yaml", "If-Match": etag}
    assert server.http.put("/api/v1/config", content=text, headers=kind).status_code in (200, 422)
    assert server.http.get("/config").status_code == 200
    assert server.http.get("/api/v1/config/form").status_code < 500
    assert "Traceback" not in server.said()


@pytest.mark.parametrize("number", [DIGITS, FEWER, "1e999"])
def test_no_message_with_a_long_number_is_an_error_of_ours(server: Server, number: str) -> None:
    with server.live() as page:
        for message in (
            f'{{"type":"join","id":1,"topic":"all","after":{number}}}',
            f'{{"type":"join","id":1,"topic":"output:x","after":0,"attempt":{number}}}',
            f'{{"type":"leave","id":{number},"topic":"all"}}',
        ):
            page.send(message)
            assert json.dumps(hear(page, "reply")["error"]["code"]) == '"bad_message"'

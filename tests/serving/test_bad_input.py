"""The catalogue of bad inputs, played over plain sockets against one server.

After every case the server is as it was: it answers, nothing is left on disk or outside its folder, the log is whole.
A surface is played by the function of its name; one that is built later adds its own.
"""

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.serving.catalogue import Case, cases, frame
from tests.serving.server import Server, form, post, read_answer, reset, until

LISTS = ("/api/v1/submissions", "/api/v1/jobs", "/api/v1/events", "/api/v1/config/revisions")
HANDSHAKE = (
    "GET /api/v1/live HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture(scope="module")
def target(server: Server) -> Server:
    """The server, with a job whose output can be asked for."""
    server.settled(server.send(("first", b"x"))["id"])
    return server


@pytest.fixture(autouse=True)
def as_before(target: Server) -> Iterator[None]:
    """After a case the server is as it was before."""
    outside, newest = outside_of_data(target), newest_submission(target)
    yield
    assert target.http.get("/healthz").status_code == 200
    for submission in new_submissions(target, newest):
        target.settled(submission)
    until(lambda: not target.arriving())
    assert outside_of_data(target) == outside
    assert "Traceback" not in target.said()
    cursors = [line["cursor"] for line in target.log()]
    assert cursors == list(range(1, len(cursors) + 1))


def outside_of_data(server: Server) -> set[Path]:
    """Every file around the data folder that the server could have made."""
    return {path for path in server.folder.parent.rglob("*") if not path.is_relative_to(server.data)}


def newest_submission(server: Server) -> str:
    """Its id."""
    return str(server.get("/submissions?limit=1")["items"][0]["id"])


def new_submissions(server: Server, before: str) -> list[str]:
    """Ids of the submissions since that one."""
    found: list[str] = []
    for item in server.get("/submissions?limit=100")["items"]:
        if item["id"] == before:
            break
        found.append(item["id"])
    return found


def filled(server: Server) -> dict[str, str]:
    """The placeholders of this server."""
    job = server.get("/jobs?limit=1")["items"][0]["id"]
    return {
        "host": server.host,
        "hostname": server.host.partition(":")[0],
        "submissions": "/api/v1/submissions",
        "config": "/api/v1/config",
        "etag": server.http.get("/api/v1/config").headers["ETag"].strip('"'),
        "ws": "/api/v1/live",
        "download": f"/api/v1/jobs/{job}/output",
        "session": "session=x",
        "id_of_user_b": "none",
    }


def require_expected(case: Case, answer: Answer) -> None:
    """Fail unless it is an answer that the case allows."""
    status, headers, body = answer
    assert status in case.expect["status"], (status, body[:300])
    assert b"Traceback" not in body
    assert b"root:" not in body
    if status >= 400 and headers.get("content-length") != "0":
        assert headers["content-type"] == "application/problem+json"
        problem = json.loads(body)
        assert problem["status"] == status
        assert problem["code"] == case.expect.get("code", problem["code"])


def counts(server: Server, before: str) -> tuple[int, int]:
    """Files stored and aborted since a submission."""
    found = [server.settled(submission)["counts"] for submission in new_submissions(server, before)]
    return sum(c["succeeded"] + c["failed"] for c in found), sum(c["aborted"] for c in found)


def ids(case: Case) -> str:
    return case.id


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("http", "multipart", "config_api", "ws_handshake"), ids=ids)
def test_a_bad_request_is_answered_as_such(target: Server, case: Case) -> None:
    before, config = newest_submission(target), target.config.read_bytes()
    with target.connect() as connection:
        with contextlib.suppress(ConnectionError):  # an answer may come before all was sent
            for text in case.texts(filled(target)):
                connection.sendall(text)
        if case.expect.get("then") == "fin":
            connection.shutdown(socket.SHUT_WR)
        if case.expect.get("then") == "rst":
            until(lambda: new_submissions(target, before))
            reset(connection)
        elif case.expect.get("is_pipelined"):
            told = b"".join(iter(lambda: connection.recv(65536), b""))
            assert [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", told)] == case.expect["status"]
        else:
            answer = read_answer(connection)
            require_expected(case, answer)
            if case.expect.get("is_closed"):
                with contextlib.suppress(ConnectionError):
                    assert connection.recv(1) == b""
            if answer[0] == 201:
                assert new_submissions(target, before)
    stored, aborted = counts(target, before)
    if 201 not in case.expect["status"] or "stored" in case.expect:
        assert stored == case.expect.get("stored", 0)
        assert aborted == case.expect.get("aborted", aborted)
    if case.surface == "config_api" and 200 not in case.expect["status"]:
        assert target.config.read_bytes() == config


@pytest.mark.parametrize("case", cases("filename"), ids=ids)
def test_a_clients_file_name_is_only_ever_text(target: Server, case: Case) -> None:
    names = [text.decode(errors="surrogatepass") for text in case.texts({})]
    # As browsers write them (RFC 7578 by way of the HTML standard).
    sent = [name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A") for name in names]
    body = form([(name, b"x") for name in sent])
    with target.connect() as connection:
        connection.sendall(post(target, len(body)) + body)
        answer = read_answer(connection)
    require_expected(case, answer)
    if answer[0] != 201:
        return
    submission = target.settled(json.loads(answer[2])["id"])
    assert [file["job"]["state"] for file in submission["files"]] == ["succeeded"] * len(names)
    if case.expect.get("is_text_kept", True):
        shown = [file["path"] for file in submission["files"]]
        assert [name.replace("%22", '"') for name in shown] == names
    page = target.http.get(f"/submissions/{submission['id']}", headers={"Accept": "text/html"})
    assert page.status_code == 200
    markup = Markup()
    markup.feed(page.text)
    assert "img" not in markup.tags
    assert not {name for name in markup.attributes if name.startswith("on") or name == "autofocus"}
    assert not [text for text in markup.scripts if "alert" in text and not text.lstrip().startswith("{")]


class Markup(HTMLParser):
    """The elements and attributes that a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.scripts: list[str] = []
        self._is_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self._is_script = tag == "script"

    def handle_data(self, data: str) -> None:
        if self._is_script:
            self.scripts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._is_script = False


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("case", cases("query"), ids=ids)
def test_a_bad_query_is_refused_or_means_nothing(target: Server, case: Case, path: str) -> None:
    (text,) = case.texts({})
    with target.connect() as connection:
        line = b"GET %b?%b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path.encode(), text.lstrip(b"?"), target.host.encode())
        with contextlib.suppress(ConnectionError):
            connection.sendall(line)
        answer = read_answer(connection)
    require_expected(case, answer)


@pytest.mark.parametrize("path", ["submissions/{}", "submissions/{}/files", "jobs/{}", "jobs/{}/output"])
@pytest.mark.parametrize("name", ["none", "..", "../../config.yaml", "%", "\0", "a" * 5000, "\u202e", "x' OR 1=1--"])
def test_an_id_that_does_not_exist_is_not_found(target: Server, path: str, name: str) -> None:
    answer = target.http.get("/api/v1/" + path.format(quote(name, safe="")))
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


# --- sockets ---------------------------------------------------------------------------------------------------------


class RawSocket:
    """A WebSocket by hand, so that what no library sends can be sent."""

    def __init__(self, server: Server) -> None:
        self.connection = server.connect()
        self.connection.sendall(HANDSHAKE.format(server.host).encode())
        self._received = b""
        while b"\r\n\r\n" not in self._received:
            self._received += self.connection.recv(65536)
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        assert b" 101 " in head.split(b"\r\n")[0]
        assert self.hear()["type"] == "hello"

    def hear(self) -> Any:
        """The next message, or `{"close": code}`."""
        try:
            while True:
                kind, payload = self._take(1)[0] & 0x0F, self._payload()
                if kind == 1:
                    return json.loads(payload)
                if kind == 8:
                    return {"close": int.from_bytes(payload[:2], "big")}
        except (EOFError, ConnectionError):
            return {"close": 1006}

    def _payload(self) -> bytes:
        length = self._take(1)[0]
        if length >= 126:
            length = int.from_bytes(self._take(2 if length == 126 else 8), "big")
        return self._take(length)

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            if not (more := self.connection.recv(65536)):
                raise EOFError
            self._received += more
        taken, self._received = self._received[:size], self._received[size:]
        return taken


@contextlib.contextmanager
def raw_socket(server: Server) -> Iterator[RawSocket]:
    """One, hung up at the end."""
    made = RawSocket(server)
    with made.connection:
        yield made


def require_refusal(case: Case, heard: Any) -> None:
    """Fail unless a socket was told what the case allows."""
    if "close" in heard:
        assert heard["close"] in case.expect.get("close", ())
    else:
        assert heard["type"] == "reply"
        assert heard["ok"] is False
        assert heard["error"]["code"] in case.expect["reply"]


@pytest.mark.parametrize("case", cases("ws_message", "ws_frame"), ids=ids)
def test_a_bad_message_is_refused_and_hurts_nobody_else(target: Server, case: Case) -> None:
    before = target.resident_bytes
    with raw_socket(target) as other, raw_socket(target) as client:
        texts = case.texts(filled(target))
        with contextlib.suppress(ConnectionError):
            for text in texts:
                client.connection.sendall(frame(text) if case.surface == "ws_message" else text)
        if not case.expect.get("is_silent"):
            for _ in texts:
                heard = client.hear()
                require_refusal(case, heard)
                if "close" in heard:
                    break
        other.connection.sendall(frame(b'{"type":"join","id":1,"topic":"config"}'))
        assert other.hear() == {"type": "reply", "re": 1, "ok": True, "error": None}
    assert target.resident_bytes - before < 20 * 1024 * 1024


def test_many_silent_sockets_do_not_keep_others_from_being_served(target: Server) -> None:
    with contextlib.ExitStack() as silent:
        for _ in range(100):
            silent.enter_context(raw_socket(target))
        assert target.http.get("/healthz").status_code == 200
        with raw_socket(target) as one_more:
            one_more.connection.sendall(frame(b"{}"))
            assert one_more.hear()["ok"] is False

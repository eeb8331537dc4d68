"""Plays a case of the catalogue against a server, and looks afterwards whether the server is as it was before.

After every case it answers, nothing is left on its way in nor outside its data folder, it has shown no traceback, and
its log is whole. Fails with AssertionError. A surface is played by the function of its name in `PLAYS`; whoever builds
a further one adds it there.
"""

import base64
import contextlib
import functools
import hashlib
import json
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support.server import CONFIG, Server, form, post, read_answer, reset
from tests.support.tus import TUS, append, create, offset_of, patch_head
from tests.support.waiting import wait_until
from tests.system.catalogue.cases import Case, Unplayable, frame
from tests.system.catalogue.identities import Recorder
from tests.system.catalogue.scripts import play_script
from tests.system.catalogue.sign_ins import Guarded

FLAGS = ("--processor", "leaves:process", "--max-file-size", "2GiB", "--min-free", "0", "--idle-timeout", "5")
MAX_FILE_SIZE = 2 << 30
UPLOAD_SIZE = 100
PROCESSOR = """
def process(file, results):
    if file.name == "first":
        (results / "result.txt").write_bytes(b"0123456789" * 100)
"""
OVER_HTTP_MAX = 3  # messages of a case that are also sent by a long poll
LISTS = ("/api/v1/submissions", "/api/v1/jobs", "/api/v1/events", "/api/v1/config/revisions")
HANDSHAKE = (
    "GET /api/v1/live HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
SAID_TO_BE_UNABLE = (501, 503, 507)  # answers, if a problem document says why; any other 5xx is a fault
Answer = tuple[int, dict[str, str], bytes]


class Target:
    """A started server with a result to download and an upload to harm."""

    def __init__(self, folder: Path) -> None:
        self._folders = tempfile.TemporaryDirectory(prefix="dropmill-recorder-")
        self.server = Server(folder, *FLAGS)
        (folder / "leaves.py").write_text(PROCESSOR)
        self.server.start()
        first = self.server.settled(self.server.send(("first", b"x"))["id"])
        self._job = first["files"][0]["job"]
        self._newest = ""
        self._older, self._purged = (self._add_revision(text) for text in (b"older: 1\n", b"purged: 1\n"))
        self.save(CONFIG)
        assert self.server.http.delete(f"/api/v1/config/revisions/{self._purged}").status_code == 204

    def _add_revision(self, text: bytes) -> str:
        self.save(text)
        return hashlib.sha256(text).hexdigest()

    def save(self, text: bytes) -> None:
        """Replace the config, whatever it is."""
        answer = self.server.http.put("/api/v1/config", content=text, headers={"If-Match": self.config()[1]})
        assert answer.status_code == 200, answer.text

    def config(self) -> tuple[bytes, str]:
        """The config and its ETag; what is told is what is in the file."""
        answer = self.server.http.get("/api/v1/config")
        assert answer.status_code == 200
        assert answer.headers["ETag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
        assert self.server.config.read_bytes() == answer.content, "the file is not what is told"
        return answer.content, answer.headers["ETag"]

    def end(self) -> None:
        """End the server, the one that records identities, and the one that requires sign-in."""
        self.server.end()
        for other in ("recorder", "guarded"):
            if other in vars(self):
                vars(self)[other].end()
        self._folders.cleanup()

    @functools.cached_property
    def recorder(self) -> Recorder:
        """The server behind a proxy; started when first needed, in a folder that is none of the first server's."""
        return Recorder(Path(self._folders.name))

    @functools.cached_property
    def guarded(self) -> Guarded:
        """The server that requires sign-in; started when first needed."""
        return Guarded(Path(self._folders.name) / "guarded")

    def play(self, case: Case) -> None:
        """Do what a case says, and look at what it left."""
        with self._as_before():
            PLAYS[case.surface](self, case)

    @contextlib.contextmanager
    def _as_before(self) -> Iterator[None]:
        server = self.server
        outside = self._outside()
        self._newest = str(server.get("/submissions?limit=1")["items"][0]["id"])
        yield
        assert server.http.get("/healthz").status_code == 200, "it is not healthy"
        self.end_uploads()
        wait_until(
            lambda: all(server.get(f"/submissions/{one}")["state"] == "settled" for one in self.new_submissions()), 120
        )
        wait_until(lambda: not server.arriving())
        assert self._outside() == outside, "it wrote outside its data folder"
        assert "Traceback" not in server.said(), server.said()
        cursors = [line["cursor"] for line in server.log()]
        assert cursors == list(range(1, len(cursors) + 1)), "its log has a hole"

    def _outside(self) -> set[Path]:
        folder = self.server.folder
        found = {path for path in folder.parent.rglob("*") if not path.is_relative_to(self.server.data)}
        return {path for path in found if "__pycache__" not in path.parts}

    def new_submissions(self) -> list[str]:
        """Ids of the submissions since the case began."""
        found: list[str] = []
        for item in self.server.get("/submissions?limit=1000")["items"]:
            if item["id"] == self._newest:
                break
            found.append(item["id"])
        return found

    def end_uploads(self) -> None:
        """End what may still be gone on with; the rest ends by itself."""
        for submission in self.new_submissions():
            for file in self.server.get(f"/submissions/{submission}/files?limit=1000")["items"]:
                if "upload_url" in file:
                    self.server.http.delete(file["upload_url"], headers=TUS)

    def counts(self) -> tuple[int, int]:
        """Files stored and aborted since the case began."""
        found = [self.server.settled(submission)["counts"] for submission in self.new_submissions()]
        return sum(c["succeeded"] + c["failed"] for c in found), sum(c["aborted"] for c in found)

    def filled(self) -> dict[str, str]:
        """The placeholders."""
        return {
            "host": self.server.host,
            "hostname": self.server.host.partition(":")[0],
            "submissions": "/api/v1/submissions",
            "send": "/send/x.bin",
            "tus": "/api/v1/uploads",
            "config": "/api/v1/config",
            "etag": self.server.http.get("/api/v1/config").headers["ETag"].strip('"'),
            "older": self._older,
            "purged": self._purged,
            "ws": "/api/v1/live",
            "download": self._job["results"][0]["url"],
            "session": "session=x",
            "id_of_user_b": "none",
            "max_plus_1": str(MAX_FILE_SIZE + 1),
        }


def require_expected(case: Case, answer: Answer) -> None:
    """Fail unless it is an answer that the case allows."""
    status, headers, body = answer
    allowed = case.expect["status"] if case.is_known else (*range(500), *SAID_TO_BE_UNABLE)
    assert status in allowed, (status, body[:300])
    assert body or status not in SAID_TO_BE_UNABLE, "no problem document says why"
    assert b"Traceback" not in body
    assert b"root:" not in body
    if status >= 400 and body:
        assert headers["content-type"] == "application/problem+json"
        problem = json.loads(body)
        assert problem["status"] == status
        assert problem["code"] == case.expect.get("code", problem["code"]), problem


# --- requests --------------------------------------------------------------------------------------------------------


def play_request(target: Target, case: Case) -> None:
    """Write the bytes of a request to a plain socket, as often as the case says."""
    server = target.server
    filled = target.filled()
    upload = create(server.http, UPLOAD_SIZE) if "{{upload}}" in json.dumps(case.input) else None
    if upload is not None:
        filled["upload"] = upload
    with prepared(target, case, upload):
        texts = case.texts(filled)
        if "segments" in case.expect:
            for size in case.expect["segments"]:
                text = b"".join(texts)
                ask(target, case, [text[at : at + size] for at in range(0, len(text), size)], pause_s=0.0005)
        elif "at_once" in case.expect:
            with ThreadPoolExecutor(case.expect["at_once"]) as threads:
                answers = list(threads.map(lambda _: ask(target, case, texts), range(case.expect["at_once"])))
            assert len({json.loads(body)["id"] for _, _, body in answers}) == 1
        else:
            for _ in range(case.expect.get("times", 1)):
                ask(target, case, texts)
    if not case.is_known:
        return
    if upload is not None and not case.expect.get("is_gone"):
        assert offset_of(server.http, upload) == case.expect.get("received", 0)
    target.end_uploads()
    stored, aborted = target.counts()
    if 201 not in case.expect["status"] or "stored" in case.expect:
        assert stored == case.expect.get("stored", 0), (stored, aborted)
    assert aborted >= case.expect.get("aborted", 0), (stored, aborted)


@contextlib.contextmanager
def prepared(target: Target, case: Case, upload: str | None) -> Iterator[None]:
    """Bring an upload to where the case begins."""
    server, received = target.server, case.expect.get("received", 0)
    if upload is None or not received:
        yield
        return
    if not case.expect.get("is_sending"):
        assert append(server.http, upload, 0, b"x" * received).status_code == 204
        if case.expect.get("is_ended"):
            assert server.http.delete(upload, headers=TUS).status_code == 204
        yield
        return
    with server.connect() as sending:
        sending.sendall(patch_head(server, upload, 0, UPLOAD_SIZE) + b"x" * received)
        wait_until(
            lambda: server.get(f"/submissions/{target.new_submissions()[0]}")["files"][0]["state"] == "receiving"
        )
        yield
        assert read_answer(sending)[0] in (0, 410, 503)  # it was cut off


def ask(target: Target, case: Case, texts: list[bytes], pause_s: float = 0.0) -> Answer:
    """Send bytes on a connection of their own and look at the answer."""
    answer: Answer = (0, {}, b"")
    with target.server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):  # an answer may come before all was sent
            for text in texts:
                connection.sendall(text)
                time.sleep(pause_s)
        then = case.expect.get("then", None if case.is_known else "fin")
        if then == "rst":
            wait_until(target.new_submissions)
            reset(connection)
            return answer
        if then == "fin":
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        if case.expect.get("is_pipelined"):
            told = b""
            while len(statuses := re.findall(rb"HTTP/1\.1 (\d+)", told)) < len(case.expect["status"]):
                more = connection.recv(65536)
                assert more, told
                told += more
            assert [int(status) for status in statuses] == case.expect["status"]
            return answer
        answer = read_answer(connection, has_body=not texts[0].startswith(b"HEAD"))
        require_expected(case, answer)
        if case.expect.get("is_closed"):
            with contextlib.suppress(ConnectionError):
                assert connection.recv(1) == b"", "the connection stays open"
    return answer


# --- file names ------------------------------------------------------------------------------------------------------


def play_filename(target: Target, case: Case) -> None:
    """Send a file of that name in a form, by tus, and as a body."""
    names = [text.decode(errors="surrogatepass") for text in case.texts({})]
    # As browsers write them (RFC 7578 by way of the HTML standard).
    sent = [name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A") for name in names]
    body = form([(name, b"x") for name in sent])
    answer = _exchange(target, post(target.server, len(body)) + body)
    require_expected(case, answer)
    if answer[0] == 201:
        shown = _shown(target, json.loads(answer[2])["id"])
        if case.is_known and case.expect.get("is_text_kept", True):
            assert [name.replace("%22", '"') for name in shown] == names
    for name in names:
        given = base64.b64encode(name.encode(errors="surrogatepass")).decode()
        begin = "POST /api/v1/uploads HTTP/1.1\r\nHost: {}\r\nTus-Resumable: 1.0.0\r\nUpload-Length: 0\r\n"
        text = begin.format(target.server.host) + f"Upload-Metadata: filename {given}\r\nContent-Length: 0\r\n\r\n"
        _require_name_kept(target, name, _exchange(target, text.encode()))
        place = quote(name.encode(errors="surrogatepass"), safe="")
        text = f"PUT /send/{place} HTTP/1.1\r\nHost: {target.server.host}\r\nContent-Length: 1\r\n\r\nx"
        _require_name_kept(target, name, _exchange(target, text.encode()))


def _require_name_kept(target: Target, name: str, answer: Answer) -> None:
    assert answer[0] in (201, 400), answer
    if answer[0] == 201:
        assert _shown(target, target.new_submissions()[0]) in ([name], [name.encode(errors="replace").decode()])


def _shown(target: Target, submission_id: str) -> list[str]:
    """The files' paths as told, once they were processed; their page makes nothing of them but text."""
    submission = target.server.settled(submission_id)
    assert {file["job"]["state"] for file in submission["files"]} == {"succeeded"}
    page = target.server.http.get(f"/submissions/{submission_id}", headers={"Accept": "text/html"})
    assert page.status_code == 200
    markup = Markup()
    markup.feed(page.text)
    assert "img" not in markup.tags
    assert not {name for name in markup.attributes if name.startswith("on") or name == "autofocus"}
    assert not [text for text in markup.scripts if "alert" in text and not text.lstrip().startswith("{")]
    return [file["path"] for file in submission["files"]]


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


def _exchange(target: Target, text: bytes) -> Answer:
    with target.server.connect() as connection:
        connection.sendall(text)
        return read_answer(connection)


# --- queries ---------------------------------------------------------------------------------------------------------


def play_query(target: Target, case: Case) -> None:
    """Ask each list with that query; where sign-in is required, as nobody and as an admin, too."""
    (text,) = case.texts({})
    for path in LISTS:
        line = b"GET %b?%b HTTP/1.1\r\nHost: %b\r\n\r\n"
        with target.server.connect() as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(line % (path.encode(), text.lstrip(b"?"), target.server.host.encode()))
            require_expected(case, read_answer(connection))
        nobodys, admins = target.guarded.play_query(path, text.lstrip(b"?"))
        assert nobodys[0] in (401, *(status for status in case.expect.get("status", ()) if status >= 400)), nobodys
        require_expected(case, admins)
    target.guarded.require_sound()


def play_identity(target: Target, case: Case) -> None:
    """See who is recorded; what a request claims about its sender signs nobody in."""
    target.recorder.play(case)
    (given,) = case.texts({})
    if re.match(rb"[A-Za-z-]+: ", given):
        target.guarded.play_unasked(given)


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


def play_socket(target: Target, case: Case) -> None:
    """Say it on a socket; another one must not notice."""
    server = target.server
    before = server.resident_bytes
    with raw_socket(server) as other, raw_socket(server) as client:
        texts = case.texts(target.filled())
        with contextlib.suppress(ConnectionError):
            for text in texts:
                client.connection.sendall(frame(text) if case.surface == "ws_message" else text)
        if case.is_known and not case.expect.get("is_silent"):
            for _ in texts:
                heard = client.hear()
                _require_refusal(case, heard)
                if "close" in heard:
                    break
        other.connection.sendall(frame(b'{"type":"join","id":1,"topic":"config"}'))
        while (heard := other.hear())["type"] == "tick":
            pass
        assert heard == {"type": "reply", "re": 1, "ok": True, "error": None}
    if case.surface == "ws_message":
        for text in texts[:OVER_HTTP_MAX]:
            _require_refusal_over_http(server, text)
    assert server.resident_bytes - before < 20 * 1024 * 1024


def _require_refusal_over_http(server: Server, text: bytes) -> None:
    """The same as a join of a long poll, and its topic as that of an event stream."""
    body = b'{"wait":0,"joins":[' + text + b"]}"
    answer = server.http.post("/api/v1/live", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 200:
        replies = [message for message in answer.json() if message["type"] == "reply"]
        assert [reply["ok"] for reply in replies] == [False], answer.text
    with contextlib.suppress(ValueError, RecursionError):
        asked = json.loads(text)
        topic = asked.get("topic") if isinstance(asked, dict) else None
        if isinstance(topic, str) and topic != "all":
            headers = {"Accept": "text/event-stream"}
            refused = server.http.get("/api/v1/events", params={"topic": topic}, headers=headers)
            assert refused.status_code == 404, refused.text


def _require_refusal(case: Case, heard: Any) -> None:
    if "close" in heard:
        assert heard["close"] in case.expect.get("close", ()), heard
    else:
        assert heard["type"] == "reply", heard
        assert heard["ok"] is False, heard
        assert heard["error"]["code"] in case.expect["reply"], heard


# --- the config ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def behind_a_link(target: Target) -> Iterator[None]:
    """The file is elsewhere, and a link leads there."""
    elsewhere = target.server.data / "elsewhere"
    elsewhere.mkdir()
    with _linked(target.server.config, elsewhere):
        yield
    elsewhere.rmdir()


@contextlib.contextmanager
def on_a_full_disk(target: Target) -> Iterator[None]:
    """The file is on a disk without room, a small one made for it."""
    disk = target.server.data / "disk"
    disk.mkdir()
    try:
        mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(disk)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            raise Unplayable("no disk can be mounted here")
        try:
            with _linked(target.server.config, disk):
                with contextlib.suppress(OSError), (disk / "rest").open("wb", buffering=0) as rest:
                    while rest.write(bytes(4096)):
                        pass
                yield
                (disk / "rest").unlink()
        finally:
            subprocess.run(["umount", disk], check=True)
    finally:
        disk.rmdir()


@contextlib.contextmanager
def _linked(link: Path, folder: Path) -> Iterator[None]:
    file = folder / "config.yaml"
    shutil.move(link, file)
    link.symlink_to(file)
    try:
        yield
        assert link.is_symlink()
        assert [path.name for path in folder.iterdir()] == ["config.yaml"]
    finally:
        link.unlink()
        shutil.move(file, link)


@contextlib.contextmanager
def edited_on_disk(target: Target) -> Iterator[None]:
    """Somebody saves it with an editor, and that stays."""
    edited = b"edited: on disk\n"
    target.server.config.write_bytes(edited)
    yield
    assert target.config()[0] == edited


STATES: Mapping[str, Callable[[Target], contextlib.AbstractContextManager[None]]] = {
    "behind a link": behind_a_link,
    "on a full disk": on_a_full_disk,
    "edited on disk": edited_on_disk,
}


@contextlib.contextmanager
def config_kept(target: Target) -> Iterator[None]:
    """Begin with a config and leave the same behind; no temporary file, no memory, no open file stays."""
    server = target.server
    target.save(CONFIG)
    memory, opened = server.resident_bytes, _open_files(server)
    yield
    target.save(CONFIG)
    assert [path.name for path in server.config.parent.glob(".*.dropmill")] == []
    assert server.resident_bytes - memory < 32 * 1024 * 1024
    wait_until(lambda: _open_files(server) <= opened)


def _open_files(server: Server) -> int:
    """Without sockets: a connection whose client is gone may stay for as long as idle ones do."""
    found = 0
    for descriptor in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += not str(descriptor.readlink()).startswith("socket:")
    return found


def play_config(target: Target, case: Case) -> None:
    """Write the bytes of a request to a plain socket; the config is what it was, or what was answered with 200."""
    state = case.expect.get("config")
    if "{{etag_before_disk_edit}}" in json.dumps(case.input):
        state = "edited on disk"
    with config_kept(target):
        filled = target.filled() | {"etag_before_disk_edit": target.config()[1].strip('"')}
        with STATES[state](target) if state else contextlib.nullcontext():
            before = target.config() if state != "edited on disk" else None
            statuses = _ask_about_config(target, case, filled)
            after = target.config()
            if before is not None and 200 not in statuses and 204 not in statuses:
                assert after == before


def _ask_about_config(target: Target, case: Case, filled: Mapping[str, str]) -> list[int]:
    texts = case.texts(filled)
    if case.expect.get("then") == "cut":
        text = b"".join(texts)
        for end in range(len(text) - 1):
            with target.server.connect() as connection:
                connection.sendall(text[:end])
        return []
    if "at_once" in case.expect:
        with ThreadPoolExecutor(case.expect["at_once"]) as threads:
            answers = list(threads.map(lambda _: ask(target, case, texts), range(case.expect["at_once"])))
        assert sorted(status for status, _, _ in answers) == case.expect["status"]
        return [status for status, _, _ in answers]
    statuses = []
    for number in range(case.expect.get("times", 1)):
        texts = case.texts(filled)
        if number % 2:
            texts = [text.replace(b"a: 1\n", b"a: 2\n") for text in texts]
        status, headers, _ = ask(target, case, texts)
        statuses.append(status)
        if "etag" in headers:
            filled = {**filled, "etag": headers["etag"].strip('"')}
    return statuses


def play_yaml(target: Target, case: Case) -> None:
    """Check it and save it: refused with places, or kept byte for byte; one accepted is patched as well."""
    http = target.server.http
    for text in case.texts({}):
        with config_kept(target):
            before, etag = target.config()
            checked = http.post("/api/v1/config/check", content=text)
            assert checked.status_code == 200, checked.text
            saved = http.put("/api/v1/config", content=text, headers={"If-Match": etag})
            require_expected(case, (saved.status_code, dict(saved.headers), saved.content))
            report = checked.json()
            assert bool(report["errors"]) == (saved.status_code == 422)
            for finding in report["errors"] + report["warnings"]:
                assert finding["line"] >= 1, finding
                assert finding["column"] >= 1, finding
                assert finding["message"], finding
            if case.is_known:
                assert bool(report["warnings"]) == case.expect.get("is_warned", False), report
            if saved.status_code == 200:
                assert target.config() == (text, saved.headers["ETag"])
                if len(text) < 100_000:
                    _require_patchable(target, text)
            else:
                assert saved.status_code == 422
                assert saved.json()["errors"] == report["errors"]
                assert target.config() == (before, etag)


def _require_patchable(target: Target, text: bytes) -> None:
    """A key can be added at its end, and taken away again, and all is as before; or it is refused, and nothing is."""
    http, kind = target.server.http, {"Content-Type": "application/json-patch+json"}
    patch = [{"op": "add", "path": "/added by a test", "value": 1}]
    added = http.patch("/api/v1/config", json=patch, headers={**kind, "If-Match": target.config()[1]})
    if added.status_code != 200:
        assert (added.status_code, added.json()["code"]) == (409, "config_edit_refused"), added.text
        assert target.config()[0] == text
        return
    assert set(text.splitlines()) <= set(target.config()[0].splitlines())
    patch = [{"op": "remove", "path": "/added by a test"}]
    removed = http.patch("/api/v1/config", json=patch, headers={**kind, "If-Match": target.config()[1]})
    assert removed.status_code == 200 or removed.json()["reason"] == "only_child", removed.text
    if removed.status_code == 200:
        assert target.config()[0].rstrip(b"\r\n") == text.rstrip(b"\r\n")


PLAYS: Mapping[str, Callable[[Target, Case], None]] = {
    "http": play_request,
    "tus": play_request,
    "multipart": play_request,
    "config_api": play_config,
    "yaml": play_yaml,
    "ws_handshake": play_request,
    "filename": play_filename,
    "query": play_query,
    "ws_message": play_socket,
    "ws_frame": play_socket,
    "identity": play_identity,
    "auth": lambda target, case: target.guarded.play(case),
    "script": lambda _, case: play_script(case),
}

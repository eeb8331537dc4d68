"""Plays the cases of surface `auth`, and others once more, against a server that requires sign-in.

`expect`, beside what `cases` says: `last` the number that the last of several answers must have; `location` a pattern
that the address to go on to must match; `absent` headers that no answer may have; `is_alike` whether all answers must
be the same; `is_fixation` whether the request signs in with a session chosen before, which must be none afterwards.
"""

import contextlib
import itertools
import json
import re
import socket
from pathlib import Path
from typing import Any

import httpx
from tests.support.server import Server, read_answer
from tests.support.waiting import PATIENCE_S
from tests.system.catalogue.cases import Case

FLAGS = ("--auth", "required", "--min-free", "0")
PASSWORD = "correct horse battery"
COOKIE = "dropmill_session"
NOBODYS = "x" * 43  # has the form of a session's secret
JWT_HEAD = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
Answer = tuple[int, dict[str, str], bytes]


class Guarded:
    """A server with the accounts root, an admin, and ada and bob, viewers; ada has sent something."""

    def __init__(self, folder: Path) -> None:
        self.server = Server(folder, *FLAGS)
        self._addresses = (f"127.0.{number // 250}.{number % 250 + 2}" for number in itertools.count())
        self.server.start()
        (first,) = re.findall(r"/sign-in#first=(\S+)", self.server.said())
        self._root = self._signed_in({"first": first, "name": "root", "password": PASSWORD})
        for name in ("ada", "bob"):
            made = {"name": name, "role": "viewer", "password": PASSWORD}
            assert self._ask("POST", "/accounts", self._root, json=made).status_code == 201
        ada, self._bob = (self._signed_in({"name": name, "password": PASSWORD}) for name in ("ada", "bob"))
        sent = self._ask("POST", "/submissions", ada, files={"f": ("a.txt", b"x")})
        self._filled = {
            "host": self.server.host,
            "hostname": self.server.host.partition(":")[0],
            "submissions": "/api/v1/submissions",
            "session_path": "/api/v1/session",
            "session": self._root,
            "session_b": self._bob,
            "id_of_user_a": str(sent.json()["id"]),
            "session_id_of_root": self._ask("GET", "/sessions", self._root).json()["items"][0]["id"],
            "token": self._ask("POST", "/tokens", self._root, json={"scopes": ["read"]}).json()["token"],
            "a": NOBODYS,
            "b": self._root.partition("=")[2],
            "cookie": COOKIE,
            "password": PASSWORD,
            "chosen": "c" * 43,
            **{f"jwt_{kind}": f"{JWT_HEAD}.eyJzdWIiOiJyb290In0.{'A' * 43}" for kind in _JWT_KINDS},
        }

    def end(self) -> None:
        """End it."""
        self.server.end()

    def play(self, case: Case) -> None:
        """Send what the case says from an address of its own, and look at the answers and at what they left."""
        before = self._state()
        address = next(self._addresses)
        texts = case.texts(self._filled) * case.expect.get("times", 1)
        answers = [self._exchange(text, address) for text in texts]
        for answer in answers:
            self._require(case, answer)
        if "last" in case.expect:
            assert answers[-1][0] == case.expect["last"]
            assert answers[-1][0] != 429 or int(answers[-1][1]["retry-after"]) >= 1
        if case.expect.get("is_alike"):
            assert len({(status, body) for status, _, body in answers}) == 1
        if case.expect.get("is_fixation"):
            chosen = self._filled["chosen"]
            assert chosen not in answers[0][1]["set-cookie"]
            assert self._ask("GET", "/session", f"{COOKIE}={chosen}").status_code == 401
        assert self._state() == before, "it changed something"
        self.require_sound()

    def play_unasked(self, header: bytes) -> None:
        """What is claimed of the sender signs nobody in."""
        text = b"GET /api/v1/submissions HTTP/1.1\r\nHost: %b\r\n%b\r\n\r\n" % (self.server.host.encode(), header)
        assert self._exchange(text, next(self._addresses))[0] in (400, 401, 431)
        self.require_sound()

    def play_query(self, path: str, query: bytes) -> tuple[Answer, Answer]:
        """The answers to nobody and to an admin."""
        line = b"GET %b?%b HTTP/1.1\r\nHost: %b\r\n" % (path.encode(), query, self.server.host.encode())
        address = next(self._addresses)
        signed_in = line + b"Cookie: %b\r\n\r\n" % self._root.encode()
        return self._exchange(line + b"\r\n", address), self._exchange(signed_in, address)

    def require_sound(self) -> None:
        """Return if it is healthy and has shown neither a traceback nor a secret."""
        assert self.server.http.get("/healthz").status_code == 200
        said = self.server.said() + (self.server.data / "log" / "dropmill.jsonl").read_text()
        assert "Traceback" not in said, said
        assert not [name for name in ("b", "token", "password") if self._filled[name] in said], "a secret is shown"

    def _state(self) -> Any:
        """What no case may change, without the sessions that it has begun."""
        listed = [self._ask("GET", path, self._root).json()["items"] for path in ("/submissions", "/tokens")]
        accounts = self._ask("GET", "/accounts", self._root).json()["items"]
        return (
            [one["id"] for one in listed[0]],
            [token["id"] for token in listed[1]],
            [(one["name"], one["role"]) for one in accounts],
        )

    def _require(self, case: Case, answer: Answer) -> None:
        status, headers, body = answer
        allowed = case.expect["status"] if case.is_known else range(500)
        assert status in allowed, (status, body[:300])
        assert b"Traceback" not in body
        assert not set(headers) & set(case.expect.get("absent", ())), headers
        if "location" in case.expect and status in (301, 302, 303, 307, 308):
            assert re.fullmatch(case.expect["location"], headers["location"]), headers
        assert "location" not in headers or re.match(r"/(?![/\\])", headers["location"]), headers
        if (
            status >= 400
            and body
            and headers.get("content-type") == "application/problem+json"
            and "code" in case.expect
        ):
            assert json.loads(body)["code"] == case.expect["code"], body

    def _exchange(self, text: bytes, address: str) -> Answer:
        with socket.socket() as connection:
            connection.settimeout(PATIENCE_S)
            connection.bind((address, 0))
            name, port = self.server.host.split(":")
            connection.connect((name, int(port)))
            with contextlib.suppress(ConnectionError):  # an answer may come before all was sent
                connection.sendall(text)
            return read_answer(connection, has_body=not text.startswith(b"HEAD"))

    def _signed_in(self, given: dict[str, str]) -> str:
        answer = self._ask("POST", "/session", "", json=given)
        assert answer.status_code == 204, answer.text
        return f"{COOKIE}={answer.cookies[COOKIE]}"

    def _ask(self, method: str, path: str, cookie: str, **what: Any) -> httpx.Response:
        headers = {"Origin": self.server.url} | ({"Cookie": cookie} if cookie else {})
        answer = self.server.http.request(method, f"/api/v1{path}", headers=headers, **what)
        self.server.http.cookies.clear()
        return answer


_JWT_KINDS = ("expired", "no_exp", "aud", "refresh")

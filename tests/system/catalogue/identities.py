"""Plays the cases of surface `identity` against a server behind a trusted proxy, with a resolver as hostile as needed.

`input` is a header of a request; or what the reverse zone answers, where `what` begins with "PTR answer" or `input` is
`<100 PTR RRs>`, `<CNAME loop>` or `<delay 30 s>`.

`expect`: `status` of the upload (201 if absent); `ip` that it is recorded from, where `peer` is the peer's own;
`host` and `verified` once the name is known; `user_agent_bytes` at most so many are kept.
"""

import contextlib
import ipaddress
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.name_server import NameServer
from tests.support.server import Server, read_answer
from tests.support.waiting import wait_until
from tests.system.catalogue.cases import Case

FLAGS = ("--auth", "off", "--trusted-proxy", "127.0.0.1/32", "--min-free", "0")
PEER = "127.0.0.1"
HOST_NAME = re.compile(r"[A-Za-z0-9_.-]{1,253}")
USER_AGENT_MAX = 8192
LABELS_MAX = 126  # of one byte each: as long a name as can travel (RFC 1035, section 3.1)


class Recorder:
    """A server whose clients are whoever a trusted proxy says, and the name server that it asks for their names."""

    def __init__(self, folder: Path) -> None:
        self._stack = contextlib.ExitStack()
        self.names = self._stack.enter_context(NameServer())
        self.server = Server(folder, *FLAGS, environment={"DROPMILL_DNS_SERVERS": self.names.address})
        self._stack.callback(self.server.end)
        self._addresses = (f"203.0.113.{number}" for number in itertools.count(1))
        self.server.start()

    def end(self) -> None:
        """End both."""
        self._stack.close()

    def play(self, case: Case) -> None:
        """Send a file as the case says, and look at what is recorded and shown of its sender."""
        (given,) = case.texts({})
        if re.match(rb"[A-Za-z-]+: ", given):
            self._require_recorded(case, given)
        else:
            address = next(self._addresses)
            with self._answers(case, given, address):
                self._require_recorded(case, b"X-Forwarded-For: " + address.encode(), address)

    @contextlib.contextmanager
    def _answers(self, case: Case, given: bytes, address: str) -> Iterator[None]:
        text = given.decode(errors="replace")
        loop = ipaddress.ip_address(address).reverse_pointer
        if text == "<100 PTR RRs>":
            self.names.pointers[address] = [f"host-{number}.example" for number in range(100)]
        elif text == "<CNAME loop>":
            self.names.aliases |= {loop: "loop.example", "loop.example": loop}
        elif text == "<delay 30 s>":
            self.names.may_answer.clear()
        else:
            labels = [label for label in text.replace("\\010", "\n").encode().split(b".") if label]
            self.names.pointers[address] = [tuple(labels[:LABELS_MAX])]
        try:
            yield
        finally:
            self.names.may_answer.set()

    def _require_recorded(self, case: Case, header: bytes, address: str | None = None) -> None:
        status, _, body = self._put(header)
        allowed = case.expect.get("status", [201] if case.is_known else [201, 400, 403, 431])
        assert status in allowed, (status, body[:300])
        assert b"<script>" not in body
        if status == 201:
            submission_id = json.loads(body)["id"]
            wait_until(lambda: "client.identified" in self._events(submission_id))
            self._require_client(case, self.server.get(f"/submissions/{submission_id}")["client"], address)
            self.server.settled(submission_id)
            page = self.server.http.get(f"/submissions/{submission_id}", headers={"Accept": "text/html"}).text
            assert "<script>alert" not in page
            assert "//evil.example" not in page
        assert self.server.http.get("/healthz").status_code == 200
        for shown in (self.server.said(), *(json.dumps(line) for line in self.server.log())):
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", shown), "a control character is shown raw"
        assert "Traceback" not in self.server.said()

    def _put(self, header: bytes) -> tuple[int, dict[str, str], bytes]:
        with self.server.connect() as connection:
            head = f"PUT /send/case.txt HTTP/1.1\r\nHost: {self.server.host}\r\nContent-Length: 1\r\n"
            connection.sendall(head.encode() + header + b"\r\n\r\nx")
            return read_answer(connection)

    def _events(self, submission_id: str) -> list[str]:
        return [event["name"] for event in self.server.events(f"submission:{submission_id}")]

    def _require_client(self, case: Case, client: Any, address: str | None) -> None:
        ip = ipaddress.ip_address(client["ip"])
        assert str(ip) == client["ip"]
        expected = case.expect.get("ip", address)
        if expected is not None:
            assert client["ip"] == (PEER if expected == "peer" else expected), client
        assert client["host"] is None or HOST_NAME.fullmatch(client["host"]), client
        for part in ("host", "verified"):
            if part in case.expect:
                assert client[part] == case.expect[part], client
        kept = len(client["user_agent"] or "")
        assert kept <= case.expect.get("user_agent_bytes", USER_AGENT_MAX), kept

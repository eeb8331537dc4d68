"""A small HTTP server on loopback that takes the webhook's calls and answers as a test wants."""

import contextlib
import hashlib
import hmac
import json
import re
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Call:
    """What was sent in one call."""

    path: str
    headers: dict[str, str]
    body: bytes
    answered: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def name(self) -> tuple[str, int]:
        return self.json["submission_id"], self.json["number"]

    def is_signed_with(self, secret: str) -> bool:
        found = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", self.headers.get("dropmill-signature", ""))
        if found is None or abs(int(found[1]) - time.time()) > 60:
            return False
        wanted = hmac.new(secret.encode(), found[1].encode() + b"." + self.body, hashlib.sha256)
        return hmac.compare_digest(wanted.hexdigest(), found[2])


class Receiver:
    """Answers 200 unless told otherwise.

    Attributes:
        calls: every one so far, in the order in which they were answered.
        answers: numbers to answer the next calls with; 0 answers nothing and cuts the connection.
        free: while clear, calls are held.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answers: list[int] = []
        self.free = threading.Event()
        self.free.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = receiver.answers.pop(0) if receiver.answers else 200
                receiver.free.wait(30)
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.calls.append(Call(self.path, headers, body, answer))
                if answer == 0:
                    self.close_connection = True
                    return
                with contextlib.suppress(ConnectionError):
                    self.send_response(answer)
                    if 300 <= answer < 400:
                        self.send_header("Location", "/elsewhere")
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def do_GET(self) -> None:
                receiver.calls.append(Call(self.path, {}, b"", 200))

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?key=1"

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.free.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def taken(self) -> list[tuple[str, int]]:
        """The deliveries that were answered with 2xx."""
        return [call.name for call in self.calls if 200 <= call.answered < 300]

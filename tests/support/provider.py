"""A provider of sign-in as nginx's `auth_request` asks it: whoever has its cookie is signed in, nobody else is."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import quote, unquote

PATH = "/api/authz/auth-request"


def cookie(name: str, *groups: str) -> dict[str, str]:
    """The header of a browser in which this person is signed in at the provider."""
    return {"Cookie": f"provider={quote('/'.join([name, *groups]), safe='')}"}


class _Provider(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        sent = SimpleCookie(self.headers.get("Cookie", "")).get("provider")
        self.send_response(401 if sent is None else 200)
        if sent is not None:
            name, *groups = unquote(sent.value).split("/")
            self.send_header("Remote-User", name.encode().decode("latin-1"))
            self.send_header("Remote-Groups", ",".join(groups).encode().decode("latin-1"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@contextmanager
def running() -> Iterator[str]:
    """A provider; the value is its `HOST:PORT`."""
    serving = ThreadingHTTPServer(("127.0.0.1", 0), _Provider)
    thread = Thread(target=serving.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{serving.server_port}"
    finally:
        serving.shutdown()
        thread.join()
        serving.server_close()

"""An identity provider whose answers a test decides: a good one by default, which checks what it is sent."""

import base64
import hashlib
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

CLIENT_ID = "drop"
CLIENT_SECRET = "geheim"
DISCOVERY, AUTHORIZE, TOKEN = "/.well-known/openid-configuration", "/authorize", "/token"
KEYS, USERINFO = "/keys", "/userinfo"

Answer = Callable[["Handler"], None]


class IdentityProvider(ThreadingHTTPServer):
    """One provider, on a free port of loopback.

    Attributes:
        url: its issuer.
        key: with which it signs.
        keys: what it publishes.
        person: the claims of who signs in.
        document: changes of what it says of itself; None leaves something out.
        header: changes of the id token's header.
        claims: changes of the id token's claims; None leaves one out.
        sign: makes an id token of a header and claims.
        answers: by path, what answers instead.
        comes_back: changes of what the browser is sent back with.
        asked: the paths that were asked for.
        seen: bodies and headers that arrived at the token endpoint.
        released: ends the answers that hang.
    """

    daemon_threads = True

    def __init__(self) -> None:
        """Serve nothing yet; see `running`."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.key: Any = new_key("one")
        self.keys: list[Any] = [self.key]
        self.released = Event()
        self.forget()

    def forget(self) -> None:
        """Be a good provider again, for whom `ada` signs in."""
        self.person: dict[str, Any] = {"sub": "u-ada", "preferred_username": "ada", "groups": []}
        self.document: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.claims: dict[str, Any] = {}
        self.answers: dict[str, Answer] = {}
        self.comes_back: dict[str, str | None] = {}
        self.asked: list[str] = []
        self.seen: list[dict[str, Any]] = []
        self.codes: dict[str, dict[str, str]] = {}
        self.sign: Callable[[dict[str, Any], dict[str, Any]], str] = lambda header, claims: jwt.encode(
            header, claims, self.key, algorithms=[header["alg"]]
        )

    def id_token(self, nonce: str | None) -> str:
        """An id token for who signs in."""
        now = int(time.time())
        usual = {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 600, "nonce": nonce, **self.person}
        header = {"alg": "ES256", "kid": self.key.kid}
        return self.sign(_changed(header, self.header), _changed(usual, self.claims))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is nothing to print."""


def _changed(usual: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (usual | change).items() if value is not None}


def new_key(key_id: str) -> ECKey:
    """A key to sign with."""
    return ECKey.generate_key("P-256", {"kid": key_id})


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: IdentityProvider

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.server.asked.append(parts.path)
        if (answer := self.server.answers.get(parts.path)) is not None:
            answer(self)
        elif parts.path == DISCOVERY:
            self.send(json.dumps(self._document()).encode())
        elif parts.path == KEYS:
            self.send(json.dumps(KeySet(self.server.keys).as_dict(private=False)).encode())
        elif parts.path == AUTHORIZE:
            self._authorize({name: values[0] for name, values in parse_qs(parts.query).items()})
        elif parts.path == USERINFO:
            is_right = self.headers.get("Authorization") == "Bearer the-access-token"
            self.send(json.dumps(self.server.person if is_right else {}).encode(), status=200 if is_right else 401)
        else:
            self.send(b"{}", status=404)

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        self.server.asked.append(path)
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        given = {name: values[0] for name, values in parse_qs(body).items()}
        self.server.seen.append({**given, "authorization": self.headers.get("Authorization")})
        if (answer := self.server.answers.get(path)) is not None:
            answer(self)
        elif (begun := self.server.codes.pop(given.get("code", ""), None)) is None or not self._is_right(given, begun):
            self.send(json.dumps({"error": "invalid_grant", "error_description": "<b>no</b>"}).encode(), status=400)
        else:
            token = self.server.id_token(begun.get("nonce"))
            tokens = {"access_token": "the-access-token", "token_type": "Bearer", "expires_in": 60, "id_token": token}
            self.send(json.dumps(tokens).encode())

    def _document(self) -> dict[str, Any]:
        url = self.server.url
        usual = {
            "issuer": url,
            "authorization_endpoint": url + AUTHORIZE,
            "token_endpoint": url + TOKEN,
            "userinfo_endpoint": url + USERINFO,
            "jwks_uri": url + KEYS,
            "response_types_supported": ["code"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "code_challenge_methods_supported": ["S256"],
        }
        return _changed(usual, self.server.document)

    def _authorize(self, given: dict[str, str]) -> None:
        assert given["response_type"] == "code"
        assert given["client_id"] == CLIENT_ID
        assert given["code_challenge_method"] == "S256"
        assert {"openid", "profile"} <= set(given["scope"].split())
        code = secrets.token_urlsafe()
        self.server.codes[code] = given
        back = _changed({"code": code, "state": given["state"]}, self.server.comes_back)
        self.send_response(302)
        self.send_header("Location", f"{given['redirect_uri']}?{urlencode(back)}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _is_right(self, given: dict[str, str], begun: dict[str, str]) -> bool:
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(given["code_verifier"].encode()).digest())
        return (
            self.headers.get("Authorization") == f"Basic {basic}"
            and given["redirect_uri"] == begun["redirect_uri"]
            and challenge.decode().rstrip("=") == begun["code_challenge"]
        )

    def send(self, body: bytes, *, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        """Answer."""
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def hang(self) -> None:
        """Answer nothing until the test is over."""
        self.server.released.wait()

    def log_message(self, *_: object) -> None:
        """Write nothing."""


def answer_with(body: bytes, **how: Any) -> Answer:
    """Something that always answers the same."""
    return lambda handler: handler.send(body, **how)


@contextmanager
def running() -> Iterator[IdentityProvider]:
    """A provider that serves."""
    with IdentityProvider() as provider:
        thread = Thread(target=provider.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield provider
        finally:
            provider.released.set()
            provider.shutdown()
            thread.join()


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port

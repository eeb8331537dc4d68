"""A program with a token that another system signs, on a real server that fetches the keys."""

import json
import re
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from tests.support.server import Server, hear
from tests.support.waiting import wait_until

KEY = ECKey.generate_key("P-256", {"kid": "one"})
ISSUER = "https://issuer.example"


class _Issuer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(KeySet([KEY]).as_dict(private=False)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing."""


LOCAL = {"name": "local", "password": "correct horse battery"}


def sign_in(server: Server, given: dict[str, str]) -> None:
    assert server.http.post("/api/v1/session", json=given, headers={"Origin": server.url}).status_code == 204


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that trusts an issuer, and gives roles to its groups."""
    issuer = ThreadingHTTPServer(("127.0.0.1", 0), _Issuer)
    thread = Thread(target=issuer.serve_forever)
    thread.start()
    keys = f"http://127.0.0.1:{issuer.server_port}/keys"
    flags = ("--jwt-issuer", ISSUER, "--jwt-audience", "dropmill", "--jwt-keys", keys, "--auth-group", "admin=ops")
    running = Server(tmp_path_factory.mktemp("server"), "--auth", "required", *flags)
    try:
        running.start()
        (first,) = re.findall(r"#first=(\S+)", running.said())
        sign_in(running, {"first": first, **LOCAL})
        running.http.cookies.clear()
        yield running
    finally:
        running.end()
        issuer.shutdown()
        thread.join()
        issuer.server_close()


def token(sub: str, **claims: Any) -> dict[str, str]:
    """The header of a program that has one."""
    usual = {"iss": ISSUER, "aud": "dropmill", "sub": sub, "exp": int(time.time()) + 600, "preferred_username": sub}
    return {"Authorization": f"Bearer {jwt.encode({'alg': 'ES256', 'kid': 'one'}, usual | claims, KEY)}"}


def test_a_program_sends_and_reads_as_its_account_and_others_do_not_see_it(server: Server) -> None:
    made = server.http.put("/send/a.txt", content=b"a", headers=token("ada"))
    assert (made.status_code, made.json()["account"]) == (201, "ada")
    address = f"/api/v1/submissions/{made.json()['id']}"
    assert server.http.get(address, headers=token("ada", preferred_username="renamed")).status_code == 200
    assert server.http.get(address, headers=token("bob")).status_code == 404
    assert server.http.get(address, headers=token("root", groups=["ops"])).status_code == 200
    with server.live(additional_headers=token("ada")) as live:
        live.send(json.dumps({"type": "join", "topic": made.json()["id"], "after": 0}))
        assert hear(live)


def test_scopes_and_role_bound_what_a_token_may_do(server: Server) -> None:
    read = token("cleo", groups=["ops"], scope="dropmill:read")
    assert server.http.get("/api/v1/jobs", headers=read).status_code == 200
    assert server.http.put("/send/a.txt", content=b"a", headers=read).status_code == 403
    for more in ({}, {"groups": ["ops"]}):  # neither the role nor, without the scope, a high role is enough
        assert server.http.get("/api/v1/accounts", headers=token("dan", **more)).status_code == 403
    admin = token("dan", groups=["ops"], scope="dropmill:admin")
    assert server.http.get("/api/v1/accounts", headers=admin).status_code == 200


@pytest.mark.parametrize(
    "claims", [{"iss": "https://other.example"}, {"aud": "other"}, {"exp": int(time.time()) - 60}, {"exp": None}]
)
def test_any_other_token_is_nobodys(server: Server, claims: dict[str, Any]) -> None:
    answer = server.http.get("/api/v1/jobs", headers=token("ada", **claims))
    assert (answer.status_code, answer.json()["code"]) == (401, "sign_in_required")


def test_the_secret_of_a_session_is_no_token(server: Server) -> None:
    sign_in(server, LOCAL)
    secret = server.http.cookies["dropmill_session"]
    assert server.http.get("/api/v1/session").json()["account"] == "local"
    server.http.cookies.clear()
    assert server.http.get("/api/v1/session", headers={"Authorization": f"Bearer {secret}"}).status_code == 401


def test_a_token_does_not_open_a_local_account_of_its_name(server: Server) -> None:
    answer = server.http.get("/api/v1/jobs", headers=token("someone", preferred_username="LOCAL", groups=["ops"]))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert refused(server, "name_taken") == "local"


def test_the_audit_names_whose_account_is_disabled(server: Server) -> None:
    admin = token("root", groups=["ops"], scope="dropmill:admin")
    assert server.http.get("/api/v1/session", headers=token("eve")).status_code == 200
    (eve,) = [one for one in server.http.get("/api/v1/accounts", headers=admin).json()["items"] if one["name"] == "eve"]
    change = server.http.patch(f"/api/v1/accounts/{eve['id']}", json={"is_disabled": True}, headers=admin)
    assert change.status_code == 200
    answer = server.http.get("/api/v1/jobs", headers=token("eve"))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "disabled" in answer.json()["detail"]
    assert refused(server, "disabled") == "eve"
    assert server.http.get("/api/v1/jobs", headers=token("eve", exp=1)).status_code == 401
    assert refused(server, "bad_credentials") is None


def refused(server: Server, reason: str) -> Any:
    """The account that the audit names in its newest refusal for this reason, once there is one."""

    def found() -> Any:
        admin = token("root", groups=["ops"], scope="dropmill:admin")
        items = server.http.get("/api/v1/audit?kind=refusals", headers=admin).json()["items"]
        return [one["subject"]["account"] for one in items if one["data"]["reason"] == reason]

    return wait_until(found)[0]


def test_a_token_in_the_address_is_not_looked_at(server: Server) -> None:
    value = token("ada")["Authorization"].partition(" ")[2]
    assert server.http.get("/api/v1/jobs", params={"access_token": value, "token": value}).status_code == 401


def test_a_server_whose_issuer_is_away_says_so_and_starts(make_server: Callable[..., Server], tmp_path: Path) -> None:
    keys = str(tmp_path / "none.json")
    flags = ("--jwt-issuer", ISSUER, "--jwt-audience", "dropmill", "--jwt-keys", keys)
    started = make_server("--auth", "required", *flags).start()
    answer: httpx.Response = started.http.get("/api/v1/jobs", headers=token("ada"))
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert started.http.get("/healthz").status_code == 200

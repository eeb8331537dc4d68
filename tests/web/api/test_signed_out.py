"""Beside a running server: what the command line changes, and what ends with the right to it."""

import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import websockets.sync.client
from tests.support.server import Server
from tests.support.waiting import PATIENCE_S, wait_until
from tests.web.api.test_accounts import PASSWORD, _close_clients, bearer, client, server
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.typing import Origin

from dropmill.cli import main

__all__ = ["_close_clients", "server"]


@pytest.fixture
def command(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command on the server's data folder, beside the server; returns what it printed."""

    def run(*words: str, stdin: str = "") -> str:
        capsys.readouterr()
        with monkeypatch.context() as around:
            around.setattr(sys, "stdin", io.StringIO(stdin))
            around.setenv("DROPMILL_DATA", str(server.data))
            with pytest.raises(SystemExit) as caught:
                main(list(words), prog_name="dropmill")
        assert caught.value.code == 0, capsys.readouterr().err
        return capsys.readouterr().out.strip()

    return run


def test_the_command_line_adds_an_account_and_a_token_beside_the_server(
    server: Server, command: Callable[..., str]
) -> None:
    assert "can sign in" in command(
        "account", "add", "cli", "--role", "admin", "--password-stdin", stdin=f"{PASSWORD}\n"
    )
    client(server, "cli")
    token = command("token", "create", "--account", "cli", "--scope", "read")
    assert server.http.get("/api/v1/session", headers=bearer(token)).json()["account"] == "cli"
    command("token", "revoke", token[:14])
    wait_until(lambda: server.http.get("/api/v1/session", headers=bearer(token)).status_code == 401)
    command("account", "remove", "CLI")


def close_code(socket: ClientConnection) -> int | None:
    """How the server closes a socket, once it does."""
    try:
        while True:
            socket.recv(timeout=PATIENCE_S)
    except ConnectionClosed as closed:
        return None if closed.rcvd is None else closed.rcvd.code


@pytest.mark.parametrize("how", ["sign out", "disable", "role", "revoke"])
def test_sockets_polls_and_streams_end_within_two_seconds(
    server: Server, command: Callable[..., str], how: str
) -> None:
    name = f"watcher-{how.replace(' ', '-')}"
    command("account", "add", name, "--role", "operator", "--password-stdin", stdin=f"{PASSWORD}\n")
    token = command("token", "create", "--account", name)
    browser = client(server, name)
    cookie = f"dropmill_session={browser.cookies['dropmill_session']}"
    headers = bearer(token) if how == "revoke" else {"Cookie": cookie}
    ended: dict[str, Any] = {}

    def poll() -> None:
        ended["poll"] = httpx.get(
            f"{server.url}/api/v1/live?join=all@0&wait=25", headers=headers, timeout=60, trust_env=False
        ).status_code

    def stream() -> None:
        url, accept = f"{server.url}/api/v1/events?topic=all&after=0", {"Accept": "text/event-stream"}
        with httpx.stream("GET", url, headers=headers | accept, timeout=60, trust_env=False) as answer:
            for _ in answer.iter_bytes():
                pass
        ended["stream"] = True

    threads = [threading.Thread(target=each) for each in (poll, stream)]
    url = f"ws://{server.host}/api/v1/live"
    with websockets.sync.client.connect(
        url, proxy=None, additional_headers=headers, origin=Origin(server.url)
    ) as socket:
        socket.recv()
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        match how:
            case "sign out":
                assert browser.delete("/api/v1/session").status_code == 204
            case "disable":
                command("account", "disable", name)
            case "role":
                command("account", "role", name, "viewer")
            case "revoke":
                command("token", "revoke", token[:14])
        assert close_code(socket) == 4401
    for thread in threads:
        thread.join(PATIENCE_S)
    assert ended["stream"]
    assert "poll" in ended


def test_an_upload_in_flight_ends_when_its_token_is_revoked(server: Server, command: Callable[..., str]) -> None:
    token = command("token", "create", "--account", "bob")
    began = threading.Event()

    def body() -> Iterator[bytes]:
        yield b"x" * 300_000
        began.set()
        for _ in range(600):
            time.sleep(0.1)
            yield b"x"

    found: dict[str, Any] = {}

    def send() -> None:
        answer = httpx.put(
            f"{server.url}/send/long.bin", headers=bearer(token), content=body(), timeout=60, trust_env=False
        )
        found["answer"] = answer.status_code, answer.json()["code"]

    sending = threading.Thread(target=send)
    sending.start()
    assert began.wait(PATIENCE_S)
    command("token", "revoke", token[:14])
    sending.join(PATIENCE_S)
    assert found["answer"] == (401, "sign_in_required")
    token = command("token", "create", "--account", "bob")
    (one,) = server.http.get("/api/v1/submissions", headers=bearer(token), params={"q": "long.bin"}).json()["items"]
    assert (one["account"], one["counts"]["aborted"]) == ("bob", 1)


def test_a_download_in_flight_is_cut_off_when_its_token_is_revoked(server: Server, command: Callable[..., str]) -> None:
    token = command("token", "create", "--account", "bob")
    size = 64 * 1024 * 1024  # more than sockets hold
    sent = server.http.put("/send/large.bin", headers=bearer(token), content=bytes(size), timeout=60).json()
    (file,) = server.http.get(f"/api/v1/submissions/{sent['id']}/files", headers=bearer(token)).json()["items"]
    path = f"/api/v1/files/{file['id']}/content"
    with server.http.stream("GET", path, headers=bearer(token), timeout=60) as answer:
        assert answer.status_code == 200
        pieces = answer.iter_raw(65_536)
        assert next(pieces)
        command("token", "revoke", token[:14])
        wait_until(lambda: server.http.get("/api/v1/session", headers=bearer(token)).status_code == 401)
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)
    again = bearer(command("token", "create", "--account", "bob"))
    assert len(server.http.get(path, headers=again, timeout=60).content) == size

"""An answer that comes before the whole body ends the connection: what follows is never read as a request."""

import re
import signal
import socket
from collections.abc import Callable

import pytest
from tests.support.server import Server, read_answer
from tests.support.waiting import wait_until

from dropmill.app import create_app
from dropmill.settings import Settings

Make = Callable[..., Server]

BODY = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabcdefgh'
LENGTH = 400
SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
TYPES = ("multipart/form-data; boundary=B", "application/json", "application/offset+octet-stream", "text/plain")


def routes() -> list[tuple[str, str]]:
    """Every method and path of the URL map that may have a body."""
    found = set()
    for rule in create_app(Settings(auth="off")).url_map.iter_rules():
        for method in (rule.methods or set()) & {"POST", "PUT", "PATCH", "DELETE"}:
            found.add((method, re.sub(r"<[^>]*>", "x", rule.rule)))
    return sorted(found)


def asked(server: Server, method: str, path: str, kind: str, *, is_chunked: bool) -> bytes:
    """All that the server writes: one byte of the body is missing when the answer comes, then a request follows."""
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {len(BODY) + 1}"
    tus = f"Tus-Resumable: 1.0.0\r\nUpload-Length: {LENGTH}\r\nUpload-Offset: 0\r\n" if "/uploads" in path else ""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {server.host}\r\n{tus}"
        f'If-Match: "x"\r\nContent-Type: {kind}\r\n{framing}\r\n\r\n'
    )
    body = b"%x\r\n%b" % (len(BODY) + 1, BODY) if is_chunked else BODY
    with server.connect() as client:
        client.sendall(head.encode())
        client.sendall(body)
        received = client.recv(65536)
        try:
            client.sendall((b"x\r\n0\r\n\r\n" if is_chunked and method != "PUT" else b"") + SMUGGLED)
            while more := client.recv(65536):
                received += more
        except ConnectionError:
            pass
        return received


def check(received: bytes) -> int:
    """The number of the one answer, which says that it is the last."""
    assert received.count(b"HTTP/1.1 ") == 1, received
    head = received.partition(b"\r\n\r\n")[0].lower()
    assert b"\r\nconnection: close" in head, received
    return int(received.split()[1])


@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_answer_before_the_whole_body_is_the_last_of_its_connection(make_server: Make, is_chunked: bool) -> None:
    server = make_server("--idle-timeout", "0.3").start()
    seen: dict[int, list[tuple[str, str, str]]] = {}
    for method, path in routes():
        for kind in TYPES:
            number = check(asked(server, method, path, kind, is_chunked=is_chunked))
            seen.setdefault(number, []).append((method, path, kind))
    assert {404, 408, 415} <= set(seen)
    assert 500 not in seen
    assert "Traceback" not in server.said()


@pytest.mark.parametrize("is_chunked", [False, True])
def test_so_it_is_on_a_full_disk(make_server: Make, is_chunked: bool) -> None:
    server = make_server("--min-free", "8000000TB").start()
    numbers = {
        check(asked(server, method, path, kind, is_chunked=is_chunked))
        for method, path, kind in (("POST", "/api/v1/submissions", TYPES[0]), ("PUT", "/send/x", TYPES[3]))
    }
    assert numbers == {507}


@pytest.mark.parametrize("is_chunked", [False, True])
def test_so_it_is_in_a_stop(make_server: Make, is_chunked: bool) -> None:
    server = make_server("--command", "sh -c 'trap \"\" TERM; while :; do sleep 1; done'", "--grace", "8").start()
    submission = server.send(("a.txt", b"x"))["id"]
    wait_until(lambda: server.get(f"/submissions/{submission}")["files"][0]["job"]["state"] == "running")
    with server.connect() as client:
        client.sendall(f"GET /healthz HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode())
        assert read_answer(client)[0] == 200
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.http.get("/readyz").status_code == 503)
        assert check(asked_on(client, server, is_chunked=is_chunked)) == 503


def asked_on(client: socket.socket, server: Server, *, is_chunked: bool) -> bytes:
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {len(BODY) + 1}"
    client.sendall(f"POST /api/v1/submissions HTTP/1.1\r\nHost: {server.host}\r\n{framing}\r\n\r\n".encode())
    received = client.recv(65536)
    client.sendall(SMUGGLED)
    try:
        while more := client.recv(65536):
            received += more
    except ConnectionError:
        pass
    return received


def test_a_request_behind_a_whole_body_is_answered(make_server: Make) -> None:
    server = make_server().start()
    next_one = f"GET /healthz HTTP/1.1\r\nHost: {server.host}\r\nConnection: close\r\n\r\n".encode()
    for framed in (b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"):
        for method, path in routes():
            with server.connect() as client:
                head = f"{method} {path} HTTP/1.1\r\nHost: {server.host}\r\n".encode()
                client.sendall(head + framed + next_one)
                received = b""
                while more := client.recv(65536):
                    received += more
            assert received.count(b"HTTP/1.1 ") == 2, (method, path, received)
            assert b'"ok":true' in received

"""How many clients are served, how long one that reads nothing is, and what is kept free of them."""

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from tests.support.server import Server, hear, read_answer
from tests.support.waiting import wait_until
from websockets.exceptions import InvalidStatus

from dropmill.model.errors import TooManyConnections, Unavailable
from dropmill.settings import Settings
from dropmill.web.server.capacity import Capacity, CapacityLimits

Make = Callable[..., Server]
MIB = 1024 * 1024


def open_descriptors(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def stored(server: Server, size: int) -> str:
    """Where a stored file of this size is."""
    submission = server.send(("large.bin", os.urandom(size)))["id"]
    file = server.settled(submission)["files"][0]["id"]
    return f"/api/v1/files/{file}/content"


def download(server: Server, path: str) -> socket.socket:
    """A connection on which a download was asked for, with a small window."""
    name, port = server.host.split(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    client.settimeout(20)
    client.connect((name, int(port)))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: {server.host}\r\nConnection: close\r\n\r\n".encode())
    return client


@contextlib.contextmanager
def held(clients: list[socket.socket]) -> Iterator[list[socket.socket]]:
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


# --- write timeout ---------------------------------------------------------------------------------------------------


def test_downloads_that_nobody_reads_are_cut(make_server: Make) -> None:
    server = make_server("--write-timeout", "0.5").start()
    path = stored(server, 16 * MIB)
    before = open_descriptors(server)
    with held([download(server, path) for _ in range(10)]):
        wait_until(lambda: open_descriptors(server) >= before + 20)  # each has a connection and a file
        wait_until(lambda: open_descriptors(server) <= before)
    assert server.stop() == 0
    assert "Traceback" not in server.said()


def test_a_client_that_reads_slowly_gets_it_all(make_server: Make) -> None:
    server = make_server("--write-timeout", "1").start()
    size = 8 * MIB
    with held([download(server, stored(server, size))]) as [client]:
        received = 0
        while data := client.recv(MIB // 4):
            received += len(data)
            time.sleep(0.04)
        assert received > size


def test_sockets_and_streams_that_are_quiet_stay(make_server: Make) -> None:
    server = make_server("--write-timeout", "0.3").start()
    with server.live() as page, server.connect() as stream:
        head = f"GET /api/v1/events HTTP/1.1\r\nHost: {server.host}\r\nAccept: text/event-stream\r\n\r\n"
        stream.sendall(head.encode())
        assert stream.recv(65536).startswith(b"HTTP/1.1 200")
        time.sleep(1.5)
        page.ping().wait(10)
        server.send(("a.txt", b"x"))
        wait_until(lambda: b"submission.opened" in stream.recv(65536))


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_contract() -> None:
    limits = CapacityLimits.from_settings(Settings())
    assert limits == CapacityLimits()
    capacity = Capacity(limits)
    for kind in (capacity.admit_socket, lambda address: capacity.admit_connection(address, 3)):
        let_in = [kind("10.0.0.1") for _ in range(1000)]
        with pytest.raises(TooManyConnections):
            kind("10.0.0.1")
        let_in += [kind(f"10.0.1.{number % 200}") for number in range(4000)]
        with pytest.raises(Unavailable):
            kind("10.0.0.2")
        let_in[0].release()
        let_in[0].release()  # twice is once
        kind("10.0.0.1")
        with pytest.raises(Unavailable):
            kind("10.0.0.2")


@pytest.mark.parametrize(
    ("flag", "status", "code"),
    [("--max-sockets-per-client", 429, "too_many_connections"), ("--max-sockets", 503, "unavailable")],
)
def test_sockets_over_a_limit_are_refused(make_server: Make, flag: str, status: int, code: str) -> None:
    server = make_server(flag, "2").start()
    with server.live():
        with server.live():
            with pytest.raises(InvalidStatus) as refused, server.live():
                pass
            assert refused.value.response.status_code == status
            assert code.encode() in (refused.value.response.body or b"")
            assert refused.value.response.headers["Retry-After"]

        def opened() -> bool:
            with contextlib.suppress(InvalidStatus), server.live():
                return True
            return False

        wait_until(opened)


@pytest.mark.parametrize(
    ("flag", "status", "code"),
    [("--max-connections-per-client", 429, "too_many_connections"), ("--max-connections", 503, "unavailable")],
)
def test_connections_over_a_limit_are_refused_and_sockets_are_not_among_them(
    make_server: Make, flag: str, status: int, code: str
) -> None:
    server = make_server(flag, "3").start()
    with server.live(), server.live(), server.live(), server.live():
        with held([server.connect() for _ in range(3)]), server.connect() as late:
            answer, headers, body = read_answer(late)
            assert answer == status
            assert headers["content-type"] == "application/problem+json"
            assert headers["retry-after"]
            assert code.encode() in body
            assert late.recv(1) == b""
        wait_until(lambda: server.http.get("/healthz").status_code == 200)


# --- descriptors -----------------------------------------------------------------------------------------------------


def test_descriptors_are_left_for_the_rest_of_the_server(make_server: Make) -> None:
    server = make_server(descriptors=(128, 128)).start()
    server.settled(server.send(("a.txt", b"x"))["id"])
    with server.live() as page, held([server.connect() for _ in range(200)]) as clients:
        wait_until(lambda: open_descriptors(server) >= 90)
        wait_until(lambda: len(refused(clients)) >= 100)
        assert {read_answer(client)[0] for client in refused(clients)} <= {503, 0}
        assert open_descriptors(server) <= 128 - 128 // 4 + 10
        # What was let in before goes on, so the ledger, the log and the pool do.
        page.send('{"type":"join","id":1,"topic":"all","after":0}')
        assert hear(page, "reply")["ok"]
    server.settled(wait_until(lambda: sent(server)))
    assert "Too many open files" not in server.said()
    assert server.stop() == 0


def refused(clients: list[socket.socket]) -> list[socket.socket]:
    """Those that have an answer that came unasked, or an end without one."""
    return select.select(clients, [], [], 0)[0]


def sent(server: Server) -> str | None:
    answer = server.http.post("/api/v1/submissions", files={"file": ("b.txt", b"x")})
    return str(answer.json()["id"]) if answer.status_code == 201 else None


def test_the_soft_limit_is_raised_for_the_server_and_not_for_scripts(make_server: Make) -> None:
    server = make_server("--command", "sh -c 'ulimit -Sn'", descriptors=(300, 2000)).start()
    job = server.settled(server.send(("a.txt", b"x"))["id"])["files"][0]["job"]["id"]
    assert server.http.get(f"/api/v1/jobs/{job}/output").text == "300\n"
    with open(f"/proc/{server.process.pid}/limits") as limits:
        assert "Max open files            2000                 2000" in limits.read()

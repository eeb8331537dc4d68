"""`dropmill doctor --url` finds what a proxy does to requests and answers."""

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from tests.support.server import Server

from dropmill.cli.doctor import network
from dropmill.cli.doctor.findings import FAIL, OK, WARN, Finding
from dropmill.cli.doctor.network import ServerConnection

Run = Callable[..., tuple[int, str, str]]


class Proxy:
    """A proxy that nobody has set up for uploads, one fault at a time.

    Args:
        target: `HOST:PORT` of the server.
        fault: `gathers` request bodies, `limits` them, `drops` Upgrade, `holds` answers, `rewrites` a config, `moves`
            pages, `is away`; or `none`.
    """

    def __init__(self, target: str, fault: str) -> None:
        self._target = target
        self._fault = fault
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def end(self) -> None:
        """Take no more connections, wait for those there are."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(20)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._threads.append(threading.Thread(target=self._carry, args=(client,)))
                self._threads[-1].start()

    def _carry(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                if not (more := client.recv(65536)):
                    return
                head += more
            length = re.search(rb"Content-Length: (\d+)", head)
            if self._fault == "is away":
                client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                return
            if self._fault == "limits" and length:
                client.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nno")
                return
            if self._fault == "drops":
                head = re.sub(rb"(Upgrade|Connection): [^\r]*\r\n", b"", head)
            while self._fault == "gathers" and length and client.recv(65536):
                pass
            name, port = self._target.split(":")
            with socket.create_connection((name, int(port))) as server:
                server.sendall(head.replace(self.url.encode().partition(b"://")[2], self._target.encode()))
                back = threading.Thread(target=self._carry_back, args=(server, client))
                back.start()
                with contextlib.suppress(OSError):
                    while more := client.recv(65536):
                        server.sendall(more)
                server.shutdown(socket.SHUT_RDWR)
                back.join()

    def _carry_back(self, server: socket.socket, client: socket.socket) -> None:
        is_held = False
        with contextlib.suppress(OSError):
            while more := server.recv(65536):
                is_held = is_held or (self._fault == "holds" and b"event-stream" in more)
                if self._fault == "rewrites":
                    more = more.replace(b"name: bar", b"name: foo")
                if self._fault == "moves":
                    more = more.replace(b'data-base=""', b'data-base="/x"')
                if not is_held:
                    client.sendall(more)
            client.shutdown(socket.SHUT_WR)


@pytest.fixture
def connect(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ServerConnection]]:
    """Makes ways to the shared server through a proxy with a fault."""
    monkeypatch.setattr(network, "ANSWER_S", 1.0)
    made: list[Proxy] = []

    def through(fault: str) -> ServerConnection:
        made.append(Proxy(server.host, fault))
        return ServerConnection(made[-1].url)

    yield through
    for proxy in made:
        proxy.end()


Through = Callable[[str], ServerConnection]


def only(findings: Iterator[Finding]) -> tuple[str, str]:
    (finding,) = findings
    return finding.level, finding.sentence


@pytest.mark.parametrize("check", network.NETWORK_CHECKS.values())
def test_a_proxy_that_passes_all_is_well(
    connect: Through, check: Callable[[ServerConnection], Iterator[Finding]]
) -> None:
    assert only(check(connect("none")))[0] == OK


@pytest.mark.parametrize(
    ("fault", "check", "level", "hint"),
    [
        ("gathers", network.check_bodies, WARN, "proxy_request_buffering off"),
        ("limits", network.check_bodies, FAIL, "client_max_body_size"),
        ("drops", network.check_websocket, FAIL, "Upgrade"),
        ("holds", network.check_streams, WARN, "proxy_buffering off"),
        ("rewrites", network.check_bytes, FAIL, "a proxy rewrites answers"),
        ("moves", network.check_pages, FAIL, "pages lead to /x, but they are reached at /"),
        ("is away", network.check_pages, FAIL, "it answers 502"),
        ("is away", network.check_origin, FAIL, "it answers 502"),
        ("is away", network.check_http, FAIL, "it answers 502"),
    ],
)
def test_a_fault_is_found(
    connect: Through, fault: str, check: Callable[[ServerConnection], Iterator[Finding]], level: str, hint: str
) -> None:
    found = only(check(connect(fault)))
    assert found[0] == level
    assert hint in found[1]


def test_a_server_that_speaks_http2_is_warned_of() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def speak() -> None:
            client, _ = listening.accept()
            with client:
                client.recv(65536)
                client.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))

        speaking = threading.Thread(target=speak)
        speaking.start()
        level, sentence = only(network.check_http2(ServerConnection(f"http://127.0.0.1:{listening.getsockname()[1]}")))
        speaking.join()
    assert (level, "round trip" in sentence) == (WARN, True)


def test_where_nobody_is_the_rest_is_not_looked_at(run: Run) -> None:
    code, out, _ = run("doctor", "--min-free", "1", "--url", "127.0.0.1:9")
    assert code == 1
    assert [line[6:22].strip() for line in out.splitlines()][-2:] == ["provider", "network"]
    assert "http://127.0.0.1:9 cannot be reached" in out


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "http://[", "ftp://there", "http://"])
def test_an_address_that_is_none_is_a_failure_of_its_own(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ServerConnection(url)

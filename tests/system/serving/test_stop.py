"""A graceful stop: in time, with everything told, nothing lost."""

import contextlib
import signal
import socket
import threading
from collections.abc import Callable

import pytest
from tests.support.server import Server, form, hear, post, read_answer
from tests.support.waiting import wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

SLOW = """
import pathlib, signal, time

def process(path):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("began", flush=True)
    mark = pathlib.Path(__file__).with_name("go-on")
    for _ in range(3000):
        if mark.exists():
            return
        time.sleep(0.01)
"""

pytestmark = pytest.mark.fresh

Make = Callable[..., Server]
HALF = bytes(600_000)  # more than is gathered before a file is begun on disk


def slow_server(make_server: Make, *flags: str) -> Server:
    """A server whose script takes 30 s unless there is a file `go-on`."""
    server = make_server("--processor", "slow:process", "--concurrency", "1", *flags)
    (server.folder / "slow.py").write_text(SLOW)
    return server.start()


def running(server: Server, name: str) -> str:
    """The id of a submission whose script has begun."""
    submission: str = server.send((name, b"x"))["id"]
    job = server.get(f"/submissions/{submission}")["files"][0]["job"]["id"]
    wait_until(lambda: server.http.get(f"/api/v1/jobs/{job}/output").content == b"began\n")
    return submission


def close_code(client: ClientConnection) -> int | None:
    """Read to the end; the code the server gave."""
    with contextlib.suppress(ConnectionClosed):
        for _ in client:
            pass
    return client.close_code


def stored(server: Server, name: str) -> str | None:
    """The submission of a stored file."""
    for event in server.events():
        if event["name"] == "upload.stored" and event["subject"]["name"] == name:
            return str(event["subject"]["submission_id"])
    return None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_tells_everyone_and_loses_nothing(make_server: Make, number: signal.Signals) -> None:
    """Pages, a long poll, a paused upload, a script of 30 s, one waiting: exit 0, and the next start goes on."""
    server = slow_server(make_server, "--grace", "0.2")
    cut = running(server, "cut.txt")
    waiting = server.send(("waiting.txt", b"x"))["id"]
    polled: list[object] = []
    newest = server.events()[-1]["cursor"]
    poll = threading.Thread(target=lambda: polled.append(server.http.get(f"/api/v1/events?after={newest}&wait=25")))
    with server.live() as page, server.live() as other, server.connect() as idle, server.connect() as upload:
        page.send('{"type":"join","id":1,"topic":"all"}')
        hear(page, "snapshot")
        idle.sendall(f"GET /healthz HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode())
        assert read_answer(idle)[0] == 200
        body = form([("whole.txt", b"kept")])[: -len("--B--\r\n")] + form([("half.txt", HALF)])[:-100]
        upload.sendall(post(server, 1_000_000) + body)
        sent = wait_until(lambda: stored(server, "whole.txt"))
        poll.start()

        server.process.send_signal(number)

        assert close_code(page) == 1012
        assert close_code(other) == 1012
        status, headers, answer = read_answer(upload)
        assert status == 503
        assert headers["retry-after"]
        assert b"whole.txt" in answer
    assert server.wait() == 0
    poll.join()
    assert len(polled) == 1
    assert "Traceback" not in server.said()
    assert server.strays() == []
    assert server.arriving() == []

    (server.folder / "go-on").touch()
    server.start()
    settled = [server.settled(submission) for submission in (cut, waiting, sent)]
    files = [file for submission in settled for file in submission["files"]]
    states = {file["name"]: (file["state"], file["job"] and file["job"]["state"]) for file in files}
    assert states == {
        "cut.txt": ("stored", "succeeded"),
        "waiting.txt": ("stored", "succeeded"),
        "whole.txt": ("stored", "succeeded"),
        "half.txt": ("aborted", None),
    }
    told = [event["name"] for event in server.events(f"submission:{cut}") if event["subject"]["job_id"]]
    assert told == [
        "job.queued",
        "attempt.started",
        "attempt.lost",
        "job.queued",
        "attempt.started",
        "attempt.succeeded",
        "job.settled",
    ]
    numbers = [attempt["state"] for attempt in server.get(f"/submissions/{cut}")["files"][0]["job"]["attempts"]]
    assert numbers == ["lost", "succeeded"]
    cursors = [line["cursor"] for line in server.log()]
    assert cursors == list(range(1, len(cursors) + 1))
    assert server.stop() == 0


def test_a_running_script_may_end_within_the_grace(make_server: Make) -> None:
    server = slow_server(make_server, "--grace", "20")
    submission = running(server, "a.txt")
    with server.connect() as late:
        server.process.send_signal(signal.SIGTERM)

        def refused() -> tuple[int, dict[str, str], bytes] | None:
            late.sendall(f"GET /api/v1/submissions HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode())
            answer = read_answer(late)
            return answer if answer[0] != 200 else None  # refused from then on, and told when to come again

        status, headers, _ = wait_until(refused)
        assert (status, headers["retry-after"]) == (503, "5")
    (server.folder / "go-on").touch()
    assert server.wait() == 0

    server.start()
    told = [event["name"] for event in server.events(f"submission:{submission}") if event["subject"]["job_id"]]
    assert told == ["job.queued", "attempt.started", "attempt.succeeded", "job.settled"]


def test_a_client_that_never_reads_does_not_hold_up_the_end(make_server: Make) -> None:
    server = make_server().start()
    with server.connect() as deaf, socket.create_connection(deaf.getpeername()) as silent:
        handshake = (
            f"GET /api/v1/live HTTP/1.1\r\nHost: {server.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        deaf.sendall(handshake.encode())
        silent.sendall(b"GET / HT")
        assert read_answer(deaf)[0] == 101
        assert server.stop() == 0
    assert "Traceback" not in server.said()


def request_under_way(server: Server, number: int) -> bytes:
    """The beginning of a request of one of several sorts, its body not whole; some kilobytes or a megabyte."""
    length = 3_000_000
    body = bytes(1_000_000 if number % 2 else 1000)
    match number % 4:
        case 0 | 1:
            return post(server, length) + form([(f"{number}.bin", body)], is_closed=False)
        case 2:
            return f"PUT /send/x HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: {length}\r\n\r\n".encode() + body
        case _:
            kind = "Content-Type: application/offset+octet-stream\r\nTus-Resumable: 1.0.0"
            head = f"POST /api/v1/uploads HTTP/1.1\r\nHost: {server.host}\r\n{kind}\r\nUpload-Length: {length}\r\n"
            return f"{head}Content-Length: {length}\r\n\r\n".encode() + body


class Load:
    """Requests that begin one after another until the server is gone.

    Attributes:
        answers: what they were answered: number, headers, body.
    """

    def __init__(self, server: Server) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self._server = server
        self._senders = [threading.Thread(target=self._send_on, args=(number,)) for number in range(12)]
        for sender in self._senders:
            sender.start()

    def _send_on(self, number: int) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more
            while True:
                with self._server.connect() as upload, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    upload.sendall(request_under_way(self._server, number))
                    self.answers.append(read_answer(upload))

    def wait(self) -> None:
        """Return when the last one has noticed."""
        for sender in self._senders:
            sender.join()


def test_every_answer_in_a_stop_under_load_is_whole_or_a_problem_document(make_server: Make) -> None:
    """Requests that begin, go on and end while the server stops: none is answered with a bare error."""
    server = make_server()
    for _ in range(4):
        server.start()
        load = Load(server)
        wait_until(lambda: len(server.arriving()) >= 3)
        assert server.stop() == 0
        load.wait()
        for status, headers, body in load.answers:
            if status == 0:
                assert body == b""  # nothing at all, rather than half an answer
                continue
            assert status == 503, body
            assert headers["content-type"] == "application/problem+json"
            assert int(headers["content-length"]) == len(body) > 0
        assert any(status == 503 for status, _, _ in load.answers)
        assert "Traceback" not in server.said()
        assert "ended without an answer" not in server.said()

"""Bodies that a real server takes past its event loop: whole, limited, told, and cut off at any moment."""

import contextlib
import hashlib
import random
import re
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import SHUT_WR, socket
from typing import Any

import pytest
from tests.support.server import Server, form, post, read_answer, reset
from tests.support.tus import TUS, append, checksum, create, metadata, offset_of, patch_head
from tests.support.waiting import wait_until

from dropmill.engines.disk.pump import NICENESS

Make = Callable[..., Server]

MIB = 1 << 20
CONTENT = random.Random(21).randbytes(40 * MIB)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def put_head(server: Server, length: int, more: str = "", name: str = "a.bin") -> bytes:
    return f"PUT /send/{name} HTTP/1.1\r\nHost: {server.host}\r\n{more}Content-Length: {length}\r\n\r\n".encode()


def pump_threads(server: Server) -> int:
    """How many threads of pumps the server has: they alone are nice. None are started before they are needed."""
    stats = [path.read_text() for path in Path(f"/proc/{server.process.pid}/task").glob("*/stat")]
    return sum(int(stat.rpartition(")")[2].split()[16]) >= NICENESS for stat in stats)


def on_disk(server: Server) -> int:
    """Bytes of the only file on its way in; 0 if there is none."""
    return sum(path.stat().st_size for path in (server.data / "incoming").iterdir() if path.suffix != ".chunk")


def require_pumped(server: Server) -> None:
    """Fail unless a pump has worked for this server."""
    assert pump_threads(server) >= 3


def newest_file(server: Server) -> Any:
    """The only file of the newest submission, settled."""
    newest = server.get("/submissions?limit=1")["items"][0]["id"]
    (file,) = server.settled(newest)["files"]
    return file


def require_stored(server: Server, content: bytes = CONTENT) -> None:
    file = newest_file(server)
    assert (file["state"], file["size"]) == ("stored", len(content))
    assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert server.http.get(f"/api/v1/files/{file['id']}/content").content == content
    assert file["job"]["state"] == "succeeded"
    assert server.arriving() == []


@pytest.fixture
def fresh(make_server: Make) -> Server:
    return make_server().start()


# --- whole -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", ["", "Expect: 100-continue\r\n"])
def test_a_put_is_stored_and_the_request_behind_it_answered(fresh: Server, more: str) -> None:
    with fresh.connect() as connection:
        connection.sendall(put_head(fresh, len(CONTENT), more))
        if more:
            assert read_answer(connection, has_body=False)[0] == 100
        behind = f"GET /healthz HTTP/1.1\r\nHost: {fresh.host}\r\nConnection: close\r\n\r\n"
        connection.sendall(CONTENT + behind.encode())
        answers = b"".join(iter(lambda: connection.recv(65536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"201", b"200"]
    require_stored(fresh)
    require_pumped(fresh)


@pytest.mark.parametrize("algorithm", [None, "sha1", "sha256"])
def test_a_patch_is_stored_with_and_without_a_checksum(fresh: Server, algorithm: str | None) -> None:
    url = create(fresh.http, len(CONTENT), sha256=DIGEST)
    told = {} if algorithm is None else checksum(CONTENT, algorithm)
    with fresh.connect() as connection:
        more = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        connection.sendall(patch_head(fresh, url, 0, len(CONTENT), more) + CONTENT)
        assert read_answer(connection)[0] == 204
    require_pumped(fresh)
    (file,) = fresh.settled(fresh.get("/submissions?limit=1")["items"][0]["id"])["files"]
    assert (file["state"], file["sha256"]) == ("stored", DIGEST)


def test_each_file_of_a_form_is_stored_for_itself(fresh: Server) -> None:
    files = [("small.txt", b"small"), ("a.bin", CONTENT), ("b.txt", b""), ("c.bin", CONTENT[::-1]), ("d.txt", b"last")]
    body = form(files)
    with fresh.connect() as connection:
        connection.sendall(post(fresh, len(body)) + body)
        assert read_answer(connection)[0] == 201
    require_pumped(fresh)
    found = fresh.settled(fresh.get("/submissions?limit=1")["items"][0]["id"])["files"]
    stored = {file["name"]: (file["size"], file["sha256"]) for file in found}
    assert stored == {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files}


def test_many_at_once_do_not_mix(fresh: Server) -> None:
    contents = [CONTENT[number * MIB : (number + 20) * MIB] for number in range(8)]
    answers: list[int] = []

    def send(number: int) -> None:
        with fresh.connect() as connection:
            content = contents[number]
            connection.sendall(put_head(fresh, len(content), name=f"{number}.bin") + content)
            answers.append(read_answer(connection)[0])

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [201] * 8
    require_pumped(fresh)
    found = {}
    for item in fresh.get("/submissions?limit=20")["items"]:
        (file,) = fresh.settled(item["id"])["files"]
        found[file["name"]] = file["sha256"]
    assert found == {f"{n}.bin": hashlib.sha256(content).hexdigest() for n, content in enumerate(contents)}


# --- limited ---------------------------------------------------------------------------------------------------------


def test_a_form_over_the_limit_is_refused_inside_a_slice_and_leaves_nothing(make_server: Make) -> None:
    server = make_server("--max-file-size", "20MiB").start()
    body = form([("a.bin", CONTENT)])
    with server.connect() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(post(server, len(body)) + body)
        status, _, answer = read_answer(connection)
        assert (status, b"file_too_large" in answer) == (413, True)
    require_pumped(server)
    assert server.arriving() == []
    assert newest_file(server)["state"] == "aborted"


@pytest.mark.parametrize("is_form", [False, True])
def test_a_disk_that_is_full_inside_a_slice_is_told_and_the_server_goes_on(fresh: Server, is_form: bool) -> None:
    """A limit on the size of files replaces the full disk; the same calls fail."""
    pid = fresh.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    body = form([("a.bin", CONTENT)]) if is_form else CONTENT
    head = post(fresh, len(body)) if is_form else put_head(fresh, len(body))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (20 * MIB + 1000, limits[1]))
    with fresh.connect() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(head + body)
        status, _, answer = read_answer(connection)
        assert (status, b"out_of_space" in answer) == (507, True)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    require_pumped(fresh)
    wait_until(lambda: not fresh.arriving())
    with fresh.connect() as connection:
        connection.sendall(put_head(fresh, len(CONTENT)) + CONTENT)
        assert read_answer(connection)[0] == 201
    require_stored(fresh)


def test_a_client_that_stops_inside_a_slice_is_told_after_the_idle_limit(make_server: Make) -> None:
    server = make_server("--idle-timeout", "1").start()
    with server.connect() as connection:
        connection.sendall(put_head(server, len(CONTENT)) + CONTENT[: 30 * MIB])
        assert read_answer(connection)[0] == 408
    require_pumped(server)
    assert server.arriving() == []


def test_clients_that_earned_a_loan_and_then_drip_do_not_keep_an_honest_one_from_its_end(fresh: Server) -> None:
    """Without the rules for who may borrow, twelve of them kept the pumps for ever."""
    with contextlib.ExitStack() as stack:
        dripping = [stack.enter_context(fresh.connect()) for _ in range(12)]
        for connection in dripping:
            connection.sendall(put_head(fresh, len(CONTENT)) + CONTENT[: 3 * MIB])
        is_over = threading.Event()

        def drip() -> None:
            while not is_over.wait(0.006):
                for connection in dripping:
                    connection.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with fresh.connect() as honest:
                honest.sendall(put_head(fresh, len(CONTENT), name="honest.bin") + CONTENT)
                assert read_answer(honest)[0] == 201
        finally:
            is_over.set()
            thread.join()
    require_pumped(fresh)


# --- cut off ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def sending(server: Server, head: bytes) -> Iterator[socket]:
    """A connection that sends a body without an end, as fast as it is read, until it is closed."""
    with server.connect(send_bytes=256 * 1024) as connection:
        connection.sendall(head)

        def send() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection.sendall(CONTENT[:MIB])

        thread = threading.Thread(target=send)
        thread.start()
        wait_until(lambda: pump_threads(server) >= 3 and on_disk(server) > 4 * MIB)
        try:
            yield connection
        finally:
            with contextlib.suppress(OSError):
                connection.shutdown(SHUT_WR)
            thread.join()


ENDLESS = 4 << 30  # bytes; a test ends long before


@pytest.mark.parametrize("is_form", [False, True])
def test_a_stop_inside_a_slice_is_told_to_the_client_and_comes_in_time(fresh: Server, is_form: bool) -> None:
    head = post(fresh, ENDLESS) + form([("a.bin", b"")], is_closed=False)[:-2] if is_form else put_head(fresh, ENDLESS)
    with sending(fresh, head) as connection:
        fresh.process.send_signal(signal.SIGTERM)
        status, headers, _ = read_answer(connection)
        assert status == 503
        assert headers["retry-after"]
    assert fresh.wait() == 0
    assert fresh.arriving() == []
    assert "Traceback" not in fresh.said()


@pytest.mark.parametrize("leave", [reset, socket.close, lambda connection: connection.shutdown(SHUT_WR)])
def test_a_client_that_leaves_inside_a_slice_leaves_nothing(fresh: Server, leave: Callable[[socket], None]) -> None:
    with fresh.connect() as connection:
        connection.sendall(put_head(fresh, 2 * len(CONTENT)) + CONTENT)
        leave(connection)
        wait_until(lambda: not fresh.arriving() and newest_file(fresh)["state"] == "aborted")
    require_pumped(fresh)


@pytest.mark.parametrize("is_checked", [False, True])
@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.2])
def test_after_a_kill_inside_a_slice_an_upload_stands_where_the_disk_says(
    make_server: Make, is_checked: bool, delay_s: float
) -> None:
    server = make_server().start()
    told = TUS | {"Upload-Defer-Length": "1", "Upload-Metadata": metadata(filename="a.bin")}
    url = server.http.post("/api/v1/uploads", headers=told).headers["Location"]
    more = "".join(f"{name}: {value}\r\n" for name, value in checksum(b"never").items()) if is_checked else ""
    with sending(server, patch_head(server, url, 0, ENDLESS, more)):
        time.sleep(delay_s)
        server.kill()
    (path,) = [path for path in (server.data / "incoming").iterdir() if path.suffix != ".chunk"]
    left = path.stat().st_size
    assert left > MIB
    server.start()
    offset = offset_of(server.http, url)
    assert offset == path.stat().st_size == (0 if is_checked else left)
    rest = (CONTENT[:MIB] * 2)[offset % MIB : MIB + 1000]
    size = offset + len(rest)
    assert append(server.http, url, offset, rest, **{"Upload-Length": str(size)}).status_code == 204
    digest = hashlib.sha256()
    for _ in range(size // MIB):
        digest.update(CONTENT[:MIB])
    digest.update(CONTENT[: size % MIB])
    file = newest_file(server)
    assert (file["state"], file["size"], file["sha256"]) == ("stored", size, digest.hexdigest())


def test_another_request_for_an_upload_ends_its_slice(fresh: Server) -> None:
    url = create(fresh.http, ENDLESS)
    with sending(fresh, patch_head(fresh, url, 0, ENDLESS)) as connection:
        offset = offset_of(fresh.http, url)
        (name,) = fresh.arriving()
        assert (fresh.data / "incoming" / name).stat().st_size == offset > MIB
        assert read_answer(connection)[0] == 503

"""What the measuring clients send is what they say, and they read every answer to its end."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from benchmarks.client import BLOCK_BYTES, Form, block, whole_answer

from benchmarks import client

ANSWER = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def served(until: Callable[[bytes], bool], *, answers: int = 1) -> Iterator[tuple[int, list[bytes]]]:
    """A server for one connection: its port, and what it received before each answer."""
    received: list[bytes] = []

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            for _ in range(answers):
                data = bytearray()
                while not until(bytes(data)):
                    data += connection.recv(2**20)
                received.append(bytes(data))
                connection.sendall(ANSWER)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = threading.Thread(target=serve)
        serving.start()
        yield listening.getsockname()[1], received
        serving.join()


def unchunked(body: bytes) -> bytes:
    data = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if size == b"0":
            assert body == b"\r\n"
            return data
        data += body[: int(size, 16)]
        body = body[int(size, 16) :].removeprefix(b"\r\n")


def test_a_body_comes_as_head_blocks_and_tail() -> None:
    form = Form(head=b"before", blocks=2, tail=b"after")
    size = len(b"before") + 2 * BLOCK_BYTES + len(b"after")
    with served(lambda data: data.endswith(b"after")) as (port, received):
        exchange = client.send(port, "PUT", "/x", "", form)
    head, _, body = received[0].partition(b"\r\n\r\n")
    assert f"Content-Length: {size}".encode() in head.split(b"\r\n")
    assert body == b"before" + 2 * block() + b"after"
    assert (exchange.status, exchange.body) == (201, b"{}")


def test_a_chunked_body_has_the_same_bytes() -> None:
    form = Form(head=b"before", blocks=1, tail=b"after", is_chunked=True)
    with served(lambda data: data.endswith(b"\r\n0\r\n\r\n")) as (port, received):
        client.send(port, "PUT", "/x", "", form)
    head, _, body = received[0].partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head.split(b"\r\n")
    assert b"Content-Length" not in head
    assert unchunked(body) == b"before" + block() + b"after"


def test_a_chunked_body_may_have_neither_head_nor_tail() -> None:
    with served(lambda data: data.endswith(b"\r\n0\r\n\r\n")) as (port, received):
        client.send(port, "PUT", "/x", "", Form(blocks=1, is_chunked=True))
    assert unchunked(received[0].partition(b"\r\n\r\n")[2]) == block()


def test_parts_with_pauses_are_the_same_form_as_without() -> None:
    contents = [b"one", b"two", b"three"]
    with served(lambda data: data.endswith(b"--\r\n")) as (port, received):
        exchange, ended = client.send_parts(port, "/x", contents, pause_s=0)
    assert received[0].partition(b"\r\n\r\n")[2] == client.small_files(contents, names="part").head
    assert list(ended) == ["part-0.bin", "part-1.bin", "part-2.bin"]
    assert exchange.status == 201


def test_small_requests_are_all_sent_each_behind_an_answer() -> None:
    requests = [("PUT", f"/{n}", "", Form(head=b"content")) for n in range(3)]
    with served(lambda data: data.endswith(b"content"), answers=3) as (port, received):
        statuses, _ = client.send_over(port, requests, 1)
    assert statuses == {201}
    assert [data.split()[1] for data in received] == [b"/0", b"/1", b"/2"]


def test_a_connection_that_ends_before_its_answer_is_an_error() -> None:
    with served(lambda _: True, answers=0) as (port, _), pytest.raises(OSError, match=r"ended the connection|reset"):
        client.send_over(port, [("PUT", "/0", "", Form())], 1)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_an_answer_is_whole_with_its_last_byte(answer: bytes) -> None:
    assert whole_answer(answer) == 201
    assert [whole_answer(answer[:size]) for size in range(len(answer))] == [None] * len(answer)


def test_the_block_is_in_memory_alone() -> None:
    descriptor, size = client._memory_file(False)
    assert os.pread(descriptor, size, 0) == block()
    assert os.readlink(f"/proc/self/fd/{descriptor}").startswith("/memfd:")

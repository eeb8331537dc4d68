"""A connection that is lent inside a large body, between the real Hypercorn, the real Quart and the real store.

Fails when the private names of Hypercorn, h11, Quart or asyncio change that the lending relies on.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from quart import Quart, request
from tests.support.scenarios import LIVENESS_S
from tests.support.serving_in_process import served, settled_tasks
from tests.support.waiting import eventually

from dropmill.engines.disk.store import DiskBlobStore
from dropmill.intake.loans import Loan
from dropmill.ports.blobs import Inflow
from dropmill.web.server import body, connection, hypercorn, lending
from dropmill.web.server.capacity import Capacity, capacity_of
from dropmill.web.server.lending import LEFT_MIN, LOAN, RATE_MIN, Lender, PieceTaken, Slices, SocketLoan

MIB = 1024 * 1024
CONTENT = random.Random(7).randbytes(24 * MIB)
NEXT = b"GET /alive HTTP/1.1\r\nHost: x\r\n\r\n"


class Lent:
    """An app that stores bodies, and borrows where it is offered to.

    Attributes:
        brought: bytes of each loan that was used.
        offered: how many loans there were.
        endings: how each handler ended.
    """

    def __init__(self, store: DiskBlobStore) -> None:
        self.app = Quart(__name__)
        connection.install(self.app)
        self.store = store
        self.port = 0
        self.brought: list[int] = []
        self.offered = 0
        self.endings: list[str] = []
        self.is_borrowing = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []
        self.app.put("/store")(self.put)
        self.app.put("/ignore")(self.ignore)
        self.app.put("/refuse")(self.refuse)
        self.app.put("/keep")(self.keep)
        self.app.put("/whole")(self.whole)
        self.app.get("/alive")(self.alive)

    async def put(self) -> str:
        writer = self.store.create("")
        try:
            async for piece in body.chunks():
                if isinstance(piece, Loan):
                    self.offered += 1
                    self.is_borrowing.set()
                    while await piece.use(lambda inflow: writer.take(inflow, 1 << 40)):
                        pass
                    self.brought.append(piece.brought)
                else:
                    await writer.write(piece)
            stored = await writer.commit()
        except BaseException as error:
            self.endings.append(type(error).__name__)
            await writer.abort()
            raise
        await self.store.delete(stored.key)
        self.endings.append("stored")
        return stored.sha256

    async def ignore(self) -> str:
        digest = hashlib.sha256()
        async for piece in body.chunks():
            if isinstance(piece, Loan):
                self.offered += 1
            else:
                digest.update(piece)
        return digest.hexdigest()

    async def refuse(self) -> tuple[str, int]:
        async for piece in body.chunks():
            if isinstance(piece, Loan):
                self.offered += 1
                return "no more", 413
        return "all", 200

    async def keep(self) -> str:
        """Take a loan, and neither use nor end it until the client has left."""
        async for piece in body.chunks():
            if isinstance(piece, Loan):
                self.offered += 1
                await asyncio.Event().wait()
        return ""

    async def whole(self) -> str:
        data = await request.get_data()
        assert isinstance(data, bytes)
        return hashlib.sha256(data).hexdigest()

    async def alive(self) -> str:
        return "alive"

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer

    async def hang_up(self) -> None:
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@pytest.fixture
async def lent(tmp_path: Path) -> AsyncIterator[Lent]:
    store = DiskBlobStore(tmp_path)
    await store.open()
    app = Lent(store)
    descriptors = len(os.listdir("/proc/self/fd"))
    async with served(app.app) as app.port:
        yield app
    await app.hang_up()
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
    assert capacity_of(app.app).slices.awaited == 0
    await store.close()


def head(path: str, length: int, *lines: str) -> bytes:
    return "\r\n".join([f"PUT {path} HTTP/1.1", "Host: x", f"Content-Length: {length}", *lines, "", ""]).encode()


async def answer(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(LIVENESS_S):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        return head.split()[1] + b" " + await reader.readexactly(length)


# --- order and ends --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [LEFT_MIN, 5 * MIB + 1, len(CONTENT)])
async def test_a_lent_body_is_whole_and_in_order_and_the_next_request_is_read(lent: Lent, length: int) -> None:
    reader, writer = await lent.open()
    for _ in range(2):
        writer.write(head("/store", length) + CONTENT[:length] + NEXT)
        assert await answer(reader) == b"200 " + hashlib.sha256(CONTENT[:length]).hexdigest().encode()
        assert await answer(reader) == b"200 alive"
    if length > 4 * MIB:
        assert sum(lent.brought) > length / 2


async def test_nobody_has_to_know_of_loans(lent: Lent) -> None:
    reader, writer = await lent.open()
    for path in ("/ignore", "/whole"):
        writer.write(head(path, len(CONTENT)) + CONTENT + NEXT)
        assert await answer(reader) == b"200 " + hashlib.sha256(CONTENT).hexdigest().encode()
        assert await answer(reader) == b"200 alive"
    assert lent.offered


async def test_an_early_answer_ends_a_loan(lent: Lent) -> None:
    reader, writer = await lent.open()
    writer.write(head("/refuse", len(CONTENT)) + CONTENT)
    assert await answer(reader) == b"413 no more"
    assert lent.offered


async def test_a_client_that_waits_for_100_continue_is_lent_after_it(lent: Lent) -> None:
    reader, writer = await lent.open()
    writer.write(head("/store", len(CONTENT), "Expect: 100-continue"))
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), LIVENESS_S)).startswith(b"HTTP/1.1 100")
    writer.write(CONTENT)
    assert await answer(reader) == b"200 " + hashlib.sha256(CONTENT).hexdigest().encode()
    assert lent.brought


async def test_a_body_in_chunks_is_never_lent(lent: Lent) -> None:
    reader, writer = await lent.open()
    writer.write(b"PUT /store HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(CONTENT), CONTENT))
    assert await answer(reader) == b"200 " + hashlib.sha256(CONTENT).hexdigest().encode()
    assert not lent.offered


async def test_a_body_in_http_1_0_is_never_lent(lent: Lent) -> None:
    reader, writer = await lent.open()
    writer.write(head("/store", len(CONTENT)).replace(b"HTTP/1.1", b"HTTP/1.0") + CONTENT)
    assert await answer(reader) == b"200 " + hashlib.sha256(CONTENT).hexdigest().encode()
    assert not lent.offered


# --- clients that leave or stop --------------------------------------------------------------------------------------


def reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
    )
    writer.transport.abort()


@pytest.mark.parametrize("leave", [reset, asyncio.StreamWriter.write_eof, asyncio.StreamWriter.close])
@pytest.mark.parametrize("path", ["/store", "/keep"])
async def test_a_client_that_leaves_inside_a_slice_leaves_nothing_behind(
    lent: Lent, leave: Callable[[asyncio.StreamWriter], None], path: str
) -> None:
    baseline = len(asyncio.all_tasks())
    _, writer = await lent.open()
    writer.write(head(path, 2 * len(CONTENT)) + CONTENT)
    await eventually(lambda: lent.offered > 0)
    leave(writer)
    if path == "/keep":  # the loan ends because the server stops; the fixture sees that no descriptor is left
        return
    await eventually(lambda: lent.endings == ["CancelledError"])
    await settled_tasks(baseline)
    assert list(lent.store.incoming.iterdir()) == []


async def test_a_client_that_stops_inside_a_slice_gets_its_body_stored_when_it_goes_on(lent: Lent) -> None:
    reader, writer = await lent.open()
    writer.write(head("/store", len(CONTENT)) + CONTENT[: 20 * MIB])
    await writer.drain()
    await asyncio.sleep(2 * lending.SLICE_S)
    assert lent.endings == []
    writer.write(CONTENT[20 * MIB :])
    assert await answer(reader) == b"200 " + hashlib.sha256(CONTENT).hexdigest().encode()


async def test_a_server_that_stops_ends_a_slice(lent: Lent) -> None:
    _, writer = await lent.open()
    writer.write(head("/store", 2 * len(CONTENT)) + CONTENT)
    await asyncio.wait_for(lent.is_borrowing.wait(), LIVENESS_S)
    # The fixture stops the server, and sees that no descriptor is left.


# --- who may borrow --------------------------------------------------------------------------------------------------


def piece(size: int, left: int = 64 * MIB) -> PieceTaken:
    async def never(loan: SocketLoan) -> None:
        raise AssertionError("nothing is offered here")

    return PieceTaken(size=size, left=left, offer=never)


class Time:
    """The clock of the lending, moved by a test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("dropmill.web.server.lending.time.monotonic", lambda: self.now)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


async def test_a_loan_is_earned_by_two_large_reads_that_follow_each_other(time: Time) -> None:
    lender = Lender(Slices())
    large = lending.EARNING_BYTES
    assert not lender.has_earned(piece(large))
    time.now += 0.04
    assert lender.has_earned(piece(large))
    time.now += 0.06
    assert not lender.has_earned(piece(large))
    time.now += 0.01
    assert not lender.has_earned(piece(large - 1))
    assert lender.has_earned(piece(large))
    assert not lender.has_earned(piece(large, left=LEFT_MIN - 1))


def has_earned(lender: Lender) -> bool:
    return [lender.has_earned(piece(MIB)) for _ in range(2)][1]


async def test_slow_slices_cost_the_right_for_longer_and_longer(time: Time) -> None:
    lender = Lender(Slices())
    for bar_s in (2.0, 4.0, 8.0):
        lender._judge(int(RATE_MIN * 0.25) - 200_000, 0.25)
        time.now += bar_s - 0.1
        assert not has_earned(lender)
        time.now += 0.2
        assert has_earned(lender)


async def test_one_short_slice_after_quick_ones_bars_nobody(time: Time) -> None:
    lender = Lender(Slices())
    lender._judge(0, 0.002)
    assert has_earned(lender)
    lender._judge(64 * MIB, 0.25)
    lender._judge(0, 0.002)
    assert has_earned(lender)
    for _ in range(20):
        lender._judge(0, 0.002)
    assert not has_earned(lender)


async def test_a_slice_waits_for_another_only_a_little_and_in_order() -> None:
    slices = Slices()
    async with slices.one() as first, slices.one() as second:
        assert (first, second) == (True, True)
        async with slices.one() as third:
            assert not third
        waiting = asyncio.ensure_future(anext(aiter_of(slices)))
        await eventually(lambda: slices.awaited == 1)
    assert await waiting
    assert slices.awaited == 0


async def aiter_of(slices: Slices) -> AsyncIterator[bool]:
    async with slices.one() as is_free:
        yield is_free


# --- the inflow of a socket ------------------------------------------------------------------------------------------


class Pair:
    """Two connected sockets; the server's one is lent."""

    def __init__(self, size: int, slices: Slices | None = None) -> None:
        self.client, self.server = socket.socketpair()
        self.server.setblocking(False)
        self.slices = slices or Slices()
        self.descriptor = os.dup(self.server.fileno())
        self.loan = SocketLoan(self.descriptor, size, self.slices)

    async def read(self, length: int = 100) -> bytes:
        read = b""

        async def take(inflow: Inflow) -> int:
            nonlocal read
            buffer = bytearray(length)
            count = await asyncio.to_thread(inflow.read_into, memoryview(buffer))
            read = bytes(buffer[:count])
            return count

        await self.loan.use(take)
        return read

    @property
    def is_closed(self) -> bool:
        try:
            os.fstat(self.descriptor)
        except OSError:
            return True
        return False

    def close(self) -> None:
        self.loan.end()
        self.client.close()
        self.server.close()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair(10)
    yield made
    made.close()


async def test_no_byte_beyond_the_loan_is_read_and_the_mode_stays(pair: Pair) -> None:
    pair.client.sendall(b"0123456789abc")
    assert await pair.read() == b"0123456789"
    assert await pair.read() == b""
    assert pair.loan.brought == 10
    assert pair.is_closed
    assert not pair.server.getblocking()
    assert pair.server.recv(10) == b"abc"


async def test_a_loan_that_nobody_uses_reads_nothing_and_is_closed(pair: Pair) -> None:
    pair.client.sendall(b"0123")
    pair.loan.end()
    pair.loan.end()
    await pair.loan.wait_ended()
    assert pair.is_closed
    assert await pair.read() == b""
    assert pair.server.recv(10) == b"0123"


async def test_a_loan_that_is_ended_while_a_thread_reads_is_closed_only_after_it(pair: Pair) -> None:
    is_reading, may_return = asyncio.Event(), asyncio.Event()

    async def take(inflow: Inflow) -> int:
        is_reading.set()
        await may_return.wait()
        return await asyncio.to_thread(inflow.read_into, memoryview(bytearray(10)))

    using = asyncio.ensure_future(pair.loan.use(take))
    await is_reading.wait()
    pair.loan.end()
    await asyncio.sleep(0)
    assert not pair.is_closed
    may_return.set()
    assert await using == 0
    assert pair.is_closed


@pytest.mark.parametrize("is_late", [False, True])
async def test_an_application_that_ends_ends_its_loan(pair: Pair, is_late: bool) -> None:
    """Also one that never got it, and one that was told meanwhile that its client has left."""
    inbox = hypercorn._Inbox(2)
    if is_late:
        inbox.close()
    await inbox.send({"type": "http.request", LOAN: pair.loan})
    await inbox.send({"type": "http.disconnect"})
    inbox.close()
    assert pair.is_closed
    await pair.loan.wait_ended()


async def test_an_end_of_the_connection_ends_the_loan() -> None:
    pair = Pair(10)
    pair.client.sendall(b"01")
    pair.client.close()
    assert await pair.read() == b"01"
    assert await pair.read() == b""
    assert pair.is_closed
    pair.close()


async def test_a_slice_ends_whatever_waits_in_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "SLICE_S", 0.0)
    pair = Pair(10)
    pair.client.sendall(b"0123456789")
    assert await pair.read() == b""
    assert pair.is_closed
    pair.close()


async def test_a_quiet_slice_ends_once_others_wait(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "SLICE_S", 3600.0)
    reading = asyncio.ensure_future(pair.read())
    await asyncio.sleep(0.02)
    assert not reading.done()
    pair.slices.awaited += 1
    assert await asyncio.wait_for(reading, LIVENESS_S) == b""
    assert pair.is_closed


async def test_a_connection_near_the_limit_of_descriptors_is_not_lent(
    lent: Lent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Capacity, "is_reserved", lambda _, descriptor: False)
    reader, writer = await lent.open()
    writer.write(head("/store", 1) + b"x")
    await answer(reader)
    monkeypatch.setattr(Capacity, "is_reserved", lambda _, descriptor: True)
    writer.write(head("/store", len(CONTENT)) + CONTENT)
    assert await answer(reader) == b"200 " + hashlib.sha256(CONTENT).hexdigest().encode()
    assert not lent.offered

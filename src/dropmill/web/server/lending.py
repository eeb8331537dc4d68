"""A connection's socket, lent for a slice of a large body to a thread that reads it past the event loop.

Who may borrow, and for how long: `docs/decisions/lending.md`. A loan travels in-band to the application, behind the
bytes that came before it; the connection reads nothing until the loan has ended.
"""

import asyncio
import contextlib
import os
import select
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from dropmill.intake.loans import Loan
from dropmill.ports.blobs import Inflow

LEFT_MIN = 1024 * 1024  # bytes of a body that must be left

EARNING_BYTES = 64 * 1024
EARNING_S = 0.05
"""A loan is earned by two reads of the loop that brought as much, and followed each other within this time."""

SLICE_S = 0.25  # also how often the progress of a file is reported
SLICE_BYTES = 128 * 1024 * 1024
QUIET_S = 0.001  # without a byte, after which a slice ends if others wait; and how often a stop is looked for

RATE_MIN = 8 * 1024 * 1024  # bytes per second of a connection's slices
BARRED_S = 2.0  # without a loan after slower ones; doubled each time
CREDIT_S = 0.015  # at that rate: what two reads have earned, so that one slice that ends at once bars nobody

LOANS_MAX = 2
"""Slices at once, in one process. Measured with uploads on two processors: three doubled the time of a GET."""

WAIT_S = 0.05  # for one of them; then the next piece comes the ordinary way

LOAN = "dropmill.loan"
"""Key of a loan in an `http.request` message to the application."""


class Slices:
    """How many slices run at once, and who waits for one.

    Attributes:
        awaited: how many wait.
    """

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(LOANS_MAX)
        self.awaited = 0

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[bool]:
        """Whether a slice may run in the context: not if none has become free in `WAIT_S`."""
        self.awaited += 1
        try:
            async with asyncio.timeout(WAIT_S):
                await self._free.acquire()
        except TimeoutError:
            is_free = False
        else:
            is_free = True
        finally:
            self.awaited -= 1
        try:
            yield is_free
        finally:
            if is_free:
                self._free.release()


@dataclass(kw_only=True, slots=True)
class PieceTaken:
    """An event for the connection: its last read was inside a body of known length, and was passed on.

    Attributes:
        size: bytes of that read.
        left: bytes of the body that are still to be read.
        offer: passes a loan to the application; returns when it has ended.
        brought: set by the connection: bytes of the body that were read by a loan.
    """

    size: int
    left: int
    offer: Callable[["SocketLoan"], Awaitable[None]]
    brought: int = 0


class Lender:
    """Decides when one connection is lent."""

    def __init__(self, slices: Slices) -> None:
        self._slices = slices
        self._large_at = float("-inf")
        self._barred_until = float("-inf")
        self._bar_s = BARRED_S
        self._recent_bytes, self._recent_s = RATE_MIN * CREDIT_S, 0.0

    def has_earned(self, piece: PieceTaken) -> bool:
        """Whether the connection may be lent now. Call it for each read."""
        if piece.size < EARNING_BYTES:
            return False
        now = time.monotonic()
        before, self._large_at = self._large_at, now
        return piece.left >= LEFT_MIN and now - before <= EARNING_S and now >= self._barred_until

    async def lend(self, descriptor: int, piece: PieceTaken) -> None:
        """Lend the connection, and return when it is read by nobody else.

        Args:
            descriptor: a duplicate of the connection's; closed when the loan has ended.
            piece: gets the bytes that were read. The last byte of a body is not lent: the end is the parser's business.

        Cancelling ends the loan; a thread that reads lets go a little later.
        """
        loan = SocketLoan(descriptor, piece.left - 1, self._slices)
        try:
            await piece.offer(loan)
        finally:
            loan.end()
        piece.brought = loan.brought
        if loan.lasted_s:
            self._judge(loan.brought, loan.lasted_s)

    def _judge(self, brought: int, lasted_s: float) -> None:
        now = self._large_at = time.monotonic()
        self._recent_bytes = self._recent_bytes / 2 + brought
        self._recent_s = self._recent_s / 2 + lasted_s
        if self._recent_bytes < RATE_MIN * self._recent_s:
            self._barred_until = now + self._bar_s
            self._bar_s *= 2


class SocketLoan(Loan):
    """One slice of a connection."""

    def __init__(self, descriptor: int, size: int, slices: Slices) -> None:
        """Begin with the first use.

        Args:
            descriptor: of the connection, closed when the loan ends.
            size: most bytes that may be read.
            slices: runs this one, too.
        """
        self._descriptor = descriptor
        self._slices = slices
        self._inflow = _SocketInflow(descriptor, size, slices)
        self._is_used = False
        self._is_closed = False
        self._ended = asyncio.Event()

    @property
    def brought(self) -> int:
        """Bytes that were read from the connection."""
        return self._inflow.brought

    @property
    def waited_s(self) -> float:
        """Seconds for which a thread waited for the client."""
        return self._inflow.waited_s

    @property
    def lasted_s(self) -> float:
        """Seconds from the first call of the thread to its last; 0.0 if nobody used it."""
        return self._inflow.lasted_s

    async def use(self, take: Callable[[Inflow], Awaitable[int]]) -> int:
        """See `Loan`."""
        if self._inflow.is_over:
            return 0
        async with self._slices.one() as is_free:
            if not is_free or self._inflow.is_over:
                return 0
            self._is_used = True
            try:
                return await take(self._inflow)
            finally:
                self._is_used = False
                if self._inflow.is_over:
                    self.end()

    def end(self) -> None:
        """End it. A thread that reads lets go within about a millisecond, and only then is the descriptor closed."""
        self._inflow.stop()
        if not self._is_used and not self._is_closed:
            self._is_closed = True
            os.close(self._descriptor)
            self._ended.set()

    async def wait_ended(self) -> None:
        """Return when nobody reads any more."""
        await self._ended.wait()


class _SocketInflow:
    """`dropmill.ports.blobs.Inflow` from a socket that does not block. Its mode is the connection's, and stays."""

    def __init__(self, descriptor: int, size: int, slices: Slices) -> None:
        self.brought = 0
        self.waited_s = 0.0
        self.lasted_s = 0.0
        self.is_over = False
        self._descriptor = descriptor
        self._left = min(size, SLICE_BYTES)
        self._slices = slices
        self._began: float | None = None
        self._readable = select.poll()
        self._readable.register(descriptor, select.POLLIN)

    def stop(self) -> None:
        self.is_over = True

    def read_into(self, buffer: memoryview) -> int:
        began = self._began = self._began or time.monotonic()
        filled, room = 0, min(len(buffer), self._left)
        while filled < room:
            since = time.monotonic()
            self.lasted_s = since - began
            if self.is_over or self.lasted_s >= SLICE_S:
                self.is_over = True
                break
            try:
                length = os.readv(self._descriptor, [buffer[filled:room]])
            except BlockingIOError:
                is_quiet = not self._readable.poll(QUIET_S * 1000)
                self.waited_s += time.monotonic() - since
                if is_quiet and filled:
                    break
                self.is_over = self.is_over or (is_quiet and self._slices.awaited > 0)
                continue
            except OSError:  # the connection was reset; the loop will find it ended
                length = 0
            if not length:
                self.is_over = True
                break
            filled += length
        self._left -= filled
        self.brought += filled
        self.is_over = self.is_over or not self._left
        self.lasted_s = max(time.monotonic() - began, QUIET_S / 1000)
        return filled

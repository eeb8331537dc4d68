"""The bodies of requests: bounded in memory, handed out by `chunks` alone, small ones read whole by `read`.

Quart reads a body as fast as it arrives, whatever the handler does with it: 1 GiB into a slow handler took 1.1 GiB of
memory. Here reading stops while more than `UNREAD_MAX` bytes wait for the handler.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from typing import Any
from urllib.parse import parse_qsl

from quart import Request, request
from quart.wrappers.request import Body

from dropmill.intake.loans import Loan, Pieces
from dropmill.model.errors import BadRequest, DropmillError, RequestTooSlow, TooLarge, UnsupportedMediaType
from dropmill.web.server.lending import SocketLoan
from dropmill.web.services import services
from dropmill.wire.encoding import Json, loads_strict

UNREAD_MAX = 128 * 1024
"""Unread bytes of one body above which no more are read: usually one piece. Measured: 512 KiB is no faster and takes
50 MiB more for 100 uploads; 1 MiB and more are slower and unstable (TCP zero-window stalls)."""

JSON_MAX = 1024 * 1024
JSON_QUICK = 64 * 1024  # bytes; read in 4 ms at worst


class BoundedBody(Body):
    """A request's body in chunks. Above `UNREAD_MAX` unread bytes the connection is not read."""

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        super().__init__(expected_content_length, max_content_length)
        self._chunks: deque[bytes | SocketLoan] = deque()
        self._loan: SocketLoan | None = None  # the one that was handed out last
        self._unread = 0
        self._room = asyncio.Event()
        self._room.set()
        self._is_bounded = True
        self._is_discarded = False
        self._refusal: DropmillError | None = None
        self.ask: Callable[[], Awaitable[None]] | None = None
        """Sends 100 Continue; None once it was sent, or if the client does not wait for it."""
        self.may_be_left = asyncio.Event()
        """Set once the handler of an unsafe method has ended, or changes nothing: it ends when its client leaves."""

    async def __anext__(self) -> bytes:
        while isinstance(piece := await self.next_piece(), Loan):
            pass  # the next call ends it
        return piece

    def pieces(self) -> Pieces:
        """The body as it arrives, with the loans of its connection."""
        return _Pieces(self)

    async def next_piece(self) -> bytes | SocketLoan:
        """More of the body, or a loan of its connection; ends the one before.

        Raises:
            StopAsyncIteration: the body has ended.
            DropmillError: the body was refused.
        """
        self._end_loan()
        await self._ask_once()
        while not self._chunks or self._refusal is not None:
            if self._refusal is not None:
                raise self._refusal
            if self._complete.is_set():
                raise StopAsyncIteration
            self._has_data.clear()
            await self._has_data.wait()
        piece = self._chunks.popleft()
        if isinstance(piece, SocketLoan):
            self._loan = piece
            return piece
        self._unread -= len(piece)
        if self._unread < UNREAD_MAX:
            self._room.set()
        return piece

    def _end_loan(self) -> None:
        loan, self._loan = self._loan, None
        if loan is not None:
            loan.end()

    def __await__(self) -> Generator[Any, None, Any]:
        # A bound would make the wait for the whole body endless.
        self._is_bounded = False
        self._room.set()
        yield from self._ask_once().__await__()
        self._end_loans()
        yield from self._complete.wait().__await__()
        return b"".join(piece for piece in self._chunks if isinstance(piece, bytes))

    async def _ask_once(self) -> None:
        ask, self.ask = self.ask, None
        if ask is not None:
            await ask()

    def append(self, data: bytes) -> None:
        if not data or self._is_discarded:
            return
        self._chunks.append(data)
        self._unread += len(data)
        if self._is_bounded and self._unread >= UNREAD_MAX:
            self._room.clear()
        self._has_data.set()

    def append_loan(self, loan: SocketLoan) -> None:
        """Hand out a loan of the connection behind what came before it, unless nobody would use it."""
        if self._is_bounded:
            self._chunks.append(loan)
            self._has_data.set()
        else:
            loan.end()

    def _end_loans(self) -> None:
        """End the loan that was handed out, and those that wait."""
        self._end_loan()
        for piece in self._chunks:
            if isinstance(piece, SocketLoan):
                piece.end()

    def clear(self) -> None:
        self._end_loans()
        self._chunks.clear()
        self._unread = 0

    def refuse(self, error: DropmillError) -> None:
        """Raise an error where more of the body is awaited, also in a loan, unless all of it has arrived."""
        if not self._complete.is_set():
            self._refusal = error
            if self._loan is not None:
                self._loan.end()
            self._has_data.set()

    @property
    def is_complete(self) -> bool:
        """Whether the last byte has arrived."""
        return self._complete.is_set()

    async def wait_for_room(self) -> None:
        """Return when there is room for more."""
        await self._room.wait()

    async def wait_complete(self) -> None:
        """Return when the last byte has arrived."""
        await self._complete.wait()

    def discard(self) -> None:
        """Drop what is unread and all that still arrives."""
        self._is_discarded = True
        self._is_bounded = False
        self.clear()
        self._room.set()


class _Pieces:
    """What `BoundedBody.pieces` returns. No generator: it goes on after a cancelled wait."""

    def __init__(self, body: BoundedBody) -> None:
        self._body = body

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes | Loan:
        return await self._body.next_piece()


class BoundedRequest(Request):
    """A request whose body is bounded."""

    body_class = BoundedBody
    body: BoundedBody

    @property
    def has_arrived(self) -> bool:
        """Whether all of the body has arrived."""
        return self.body.is_complete

    def refuse_rest(self, error: DropmillError) -> None:
        """Raise an error where more of the body is awaited; from any task."""
        self.body.refuse(error)


def chunks() -> Pieces:
    """The body of the current request, in pieces as they arrive; once a request, since nothing is kept.

    Cancelling leaves the rest unread. The pieces have no idle limit: `read` and the gate of the intake have their own.
    """
    body: BoundedBody = request.body  # type: ignore[assignment]  # request_class is BoundedRequest
    return body.pieces()


async def read(limit: int) -> bytes:
    """The whole body. Counted as it arrives: Content-Length is absent from chunked requests.

    Raises:
        TooLarge: it is over `limit` bytes.
        RequestTooSlow: it stalled.
    """
    gathered = bytearray()
    idle_s = services().settings.idle_timeout
    pieces = chunks()
    while True:
        try:
            async with asyncio.timeout(idle_s):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return bytes(gathered)
        except TimeoutError:
            raise RequestTooSlow(f"No byte arrived for {idle_s:g} s.") from None
        if isinstance(piece, Loan):
            continue
        gathered += piece
        if len(gathered) > limit:
            raise TooLarge(f"The body is larger than {limit} bytes.")


async def read_json(kind: str = "application/json", *, limit: int = JSON_MAX) -> Any:
    """The body as JSON; strictly (RFC 8259): no key twice, no NaN, no number that is none here.

    Args:
        kind: the media type that it must have.
        limit: bytes.

    Raises:
        UnsupportedMediaType, BadRequest, TooLarge, RequestTooSlow: it is none.
    """
    if request.mimetype != kind:
        raise UnsupportedMediaType(f"Send JSON with Content-Type {kind}.")
    text = await read(limit)
    try:
        # A hostile megabyte takes 50 ms. In a thread at least `_unique` lets others go on.
        return await asyncio.to_thread(loads_strict, text) if len(text) > JSON_QUICK else loads_strict(text)
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON, or says something twice.") from None


async def read_form(*, limit: int) -> dict[str, str]:
    """The fields of a form that has no file (`application/x-www-form-urlencoded`); of repeated ones the last.

    Raises:
        UnsupportedMediaType, BadRequest, TooLarge, RequestTooSlow: it is none.
    """
    if request.mimetype != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType("Send a form without files.")
    text = await read(limit)
    try:
        return dict(parse_qsl(text.decode(), keep_blank_values=True, errors="strict", max_num_fields=100))
    except ValueError:
        raise BadRequest("The body is not a form.") from None


async def read_json_object(*, limit: int = JSON_MAX) -> Json:
    """The body as a JSON object.

    Raises:
        UnsupportedMediaType, BadRequest, TooLarge, RequestTooSlow: it is none.
    """
    value = await read_json(limit=limit)
    if not isinstance(value, dict):
        raise BadRequest("The body is not a JSON object.")
    return value

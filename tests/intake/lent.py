"""Bodies whose connection is lent, without a connection."""

from collections.abc import Awaitable, Callable

from dropmill.intake.loans import Loan, Pieces
from dropmill.ports.blobs import Inflow


class BytesLoan(Loan):
    """A loan that brings these bytes, at most `step` for each call of the thread.

    Attributes:
        left: bytes that nobody has taken; the body sends them as its next piece.
        uses: how often it was used.
    """

    def __init__(self, content: bytes, *, step: int = 1 << 20, waited_s: float = 0.0) -> None:
        self.left = content
        self.uses = 0
        self._size = len(content)
        self._step = step
        self._waited_s = waited_s
        self._is_over = False

    @property
    def brought(self) -> int:
        return self._size - len(self.left)

    @property
    def waited_s(self) -> float:
        return self._waited_s

    async def use(self, take: Callable[[Inflow], Awaitable[int]]) -> int:
        self.uses += 1
        return 0 if self._is_over else await take(self)

    def read_into(self, buffer: memoryview) -> int:
        piece = self.left[: min(len(buffer), self._step)]
        if self._is_over or not piece:
            self._is_over = True
            return 0
        buffer[: len(piece)] = piece
        self.left = self.left[len(piece) :]
        return len(piece)

    def stop(self) -> None:
        self._is_over = True


async def lent(*pieces: bytes | BytesLoan) -> Pieces:
    """A body of these pieces; bytes of a loan that are left come as a piece behind it."""
    for piece in pieces:
        yield piece
        if isinstance(piece, BytesLoan):
            piece.stop()
            if piece.left:
                yield piece.left

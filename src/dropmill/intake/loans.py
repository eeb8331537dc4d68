"""A connection that is lent for a while: the next bytes of a body, for whoever can read them in a thread.

`docs/decisions/lending.md` has the rules.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable

from dropmill.ports.blobs import Inflow


class Loan(ABC):
    """A piece of a body that has not been read yet. Asking the body for its next piece ends the loan, used or not."""

    @property
    @abstractmethod
    def brought(self) -> int:
        """Bytes that were read from the connection so far."""

    @property
    @abstractmethod
    def waited_s(self) -> float:
        """Seconds for which a thread waited for the client."""

    @abstractmethod
    async def use(self, take: Callable[[Inflow], Awaitable[int]]) -> int:
        """What `take` returns for the inflow; 0 if the loan is over, or all the threads for it are busy.

        May be used again until it returns 0. Raises what `take` raises.

        Args:
            take: takes bytes from the inflow, and returns how many; reads no more once it has returned or raised.
        """


Pieces = AsyncIterator[bytes | Loan]
"""A body in pieces, in order. A loan may be left unused: then the bytes come in the next pieces."""

"""What another system publishes, read by one task and kept: requests ask for a new reading and wait, but never read.

So a client that leaves cancels no reading, many clients cause one, and nobody causes more than the task has rest for.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import httpx
from joserfc.errors import JoseError

from dropmill.access.http import CALL_S

KEEP_S: Final = 3600.0  # then it is read again, because a key may have been withdrawn
MOST_CALLS: Final = 2  # of one reading

UNREADABLE: Final = (OSError, httpx.HTTPError, ValueError, JoseError)
"""What a reading may raise: there is no answer, or it is not what it should be."""

log = logging.getLogger(__name__)

T = TypeVar("T")


class Kept(Generic[T]):
    """Keeps what was read last.

    Attributes:
        value: what was read; an earlier reading while a new one fails; None until the first succeeds.
        is_current: whether the last reading succeeded.
    """

    def __init__(self, read: Callable[[], Awaitable[T]], what: str, *, rest_s: float) -> None:
        """Know nothing yet; `run` reads.

        Args:
            read: reads it; raises one of `UNREADABLE`.
            what: begins the sentence of the log when that fails.
            rest_s: seconds between two readings, however often somebody asks.
        """
        self._read = read
        self._what = what
        self._rest_s = rest_s
        self._wanted = asyncio.Event()
        self._has_read = asyncio.Event()
        self._is_resting = False
        self._begun = 0  # readings
        self._ended = 0
        self._read_at = 0.0  # of the loop's clock
        self._said = ""
        self.value: T | None = None
        self.is_current = False

    async def again(self, *, is_patient: bool = False) -> None:
        """Have it read again, and wait until it was.

        Args:
            is_patient: whether to wait while the task rests, and for a reading that begins after this call; otherwise
                one that has just ended, or is going on, will do.
        """
        self._wanted.set()
        if self._is_resting and not is_patient:
            return
        number = 1 + (self._begun if is_patient else self._ended)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MOST_CALLS * CALL_S + (self._rest_s if is_patient else 0.0)):
                while self._ended < number:
                    await self._has_read.wait()

    async def not_older_than(self, age_s: float) -> None:
        """As `again`, unless the last reading succeeded and is younger."""
        if not self.is_current or asyncio.get_running_loop().time() - self._read_at >= age_s:
            await self.again()

    async def run(self) -> None:
        """Read it now, each hour, and when somebody asks, until cancelled."""
        while True:
            self._wanted.clear()
            self._begun += 1
            try:
                self.value = await self._read()
                self.is_current = True
                self._say("")
            except UNREADABLE as error:
                self.is_current = False
                self._say(f"{self._what} cannot be read: {error or type(error).__name__}")
            self._read_at = asyncio.get_running_loop().time()
            self._ended += 1
            self._is_resting = True
            self._has_read.set()
            self._has_read = asyncio.Event()
            await asyncio.sleep(self._rest_s)
            self._is_resting = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEEP_S):  # `wait_for` of Python 3.11 loses a cancellation beside the event
                    await self._wanted.wait()

    def _say(self, problem: str) -> None:
        """Log a problem when it is another one than last time: clients decide how often is read."""
        if problem and problem != self._said:
            log.warning("%s", problem)
        elif self._said and not problem:
            log.info("%s can be read again.", self._what)
        self._said = problem

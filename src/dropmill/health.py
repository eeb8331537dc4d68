"""What works and what does not: one board for the process, and the one way in which background work is repeated.

Each part of the server that cannot do its work reports itself here and keeps trying. `/readyz` and the pages list the
parts; the log has one line when a part fails and one when it works again. Only temporary errors (`TEMPORARY`) are
repeated: any other exception is a fault of our own and passes through.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dropmill.model.faults import TEMPORARY

FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 30.0

log = logging.getLogger(__name__)

T = TypeVar("T")


class Health:
    """The parts of one server that fail at the moment. Used on the event loop."""

    def __init__(self) -> None:
        # A part may be several tasks: it works again when the last of those that failed does.
        self._failing: dict[str, set[object]] = {}

    @property
    def degraded(self) -> tuple[str, ...]:
        """Names of the parts that fail now, sorted; without the reasons, which are in the log."""
        return tuple(sorted(self._failing))

    def failed(self, part: str, error: BaseException, owner: object = None) -> None:
        """Note that a part fails; the first failure is logged.

        Args:
            part: as `/readyz` lists it: "event_log".
            error: the reason.
            owner: which of several tasks of the part; None if it has only one.
        """
        owners = self._failing.get(part)
        if owners is None:
            log.warning("%s does not work, trying again: %s", _title(part), error)
            owners = self._failing[part] = set()
        owners.add(owner)

    def works(self, part: str, owner: object = None) -> None:
        """Note that a part works; logged if it failed before."""
        if self._forget(part, owner):
            log.info("%s works again.", _title(part))

    def _forget(self, part: str, owner: object) -> bool:
        """Whether that was the last failing owner."""
        owners = self._failing.get(part)
        if owners is None or owner not in owners:
            return False
        owners.remove(owner)
        if owners:
            return False
        del self._failing[part]
        return True

    async def insist(
        self,
        part: str,
        work: Callable[[], Awaitable[T]],
        *,
        first_s: float = FIRST_RETRY_S,
        most_s: float = LONGEST_RETRY_S,
        errors: tuple[type[Exception], ...] = TEMPORARY,
    ) -> T:
        """Do work until it succeeds; returns its result.

        Cancelling cancels the work or the pause, and takes the part off the board.

        Args:
            part: as for `failed`.
            work: called once for each try; must be safe to repeat.
            first_s: seconds before the second try; doubled for each further one.
            most_s: longest pause in seconds.
            errors: exceptions after which another try makes sense. Others are raised.
        """
        owner = object()
        pause_s = first_s
        try:
            while True:
                try:
                    result = await work()
                except errors as error:
                    self.failed(part, error, owner)
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, most_s)
                else:
                    self.works(part, owner)
                    return result
        finally:
            self._forget(part, owner)


def _title(part: str) -> str:
    return f"The {part.replace('_', ' ')}"

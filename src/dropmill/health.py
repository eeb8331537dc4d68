"""Which parts of the server fail at the moment, and the retries of background work.

Each part that cannot do its work reports itself here and keeps trying. `/readyz` and the pages list these parts; the
log has one line when a part fails and one when it works again. Only temporary errors (`TEMPORARY`) are retried: any
other exception is a bug of ours and is raised.
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
    """The failing parts of one server. Used on the event loop."""

    def __init__(self) -> None:
        # A part may be several tasks: it works again when the last of its failed tasks does.
        self._failing: dict[str, set[object]] = {}

    @property
    def degraded(self) -> tuple[str, ...]:
        """Names of the failing parts, sorted; the reasons are in the log."""
        return tuple(sorted(self._failing))

    def failed(self, part: str, error: BaseException, owner: object = None) -> None:
        """Note that a part fails; logs the first failure.

        Args:
            part: its name in `/readyz`, such as "event_log".
            error: the reason.
            owner: which of the part's tasks fails; None if it has only one.
        """
        owners = self._failing.get(part)
        if owners is None:
            log.warning("%s does not work, trying again: %s", _title(part), error)
            owners = self._failing[part] = set()
        owners.add(owner)

    def works(self, part: str, owner: object = None) -> None:
        """Note that a part works; logs that if it failed before."""
        if self._forget(part, owner):
            log.info("%s works again.", _title(part))

    def _forget(self, part: str, owner: object) -> bool:
        """Remove an owner; returns whether it was the last failing one."""
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
        hurry: asyncio.Event | None = None,
    ) -> T:
        """Call `work` until it succeeds; returns its result.

        Cancelling cancels the work or the pause, and the part no longer counts as failing.

        Args:
            part: as for `failed`.
            work: called once for each try; must be safe to repeat.
            first_s: seconds before the second try; doubled for each further one.
            most_s: longest pause in seconds.
            errors: exceptions that are retried; others are raised.
            hurry: set when another try may succeed, which ends a pause; the next pause is a first one again.
        """
        owner = object()
        pause_s = first_s
        try:
            while True:
                try:
                    result = await work()
                except errors as error:
                    self.failed(part, error, owner)
                    is_hurried = await _pause(pause_s, hurry)
                    pause_s = first_s if is_hurried else min(2 * pause_s, most_s)
                else:
                    self.works(part, owner)
                    return result
        finally:
            self._forget(part, owner)


async def _pause(seconds: float, hurry: asyncio.Event | None) -> bool:
    """Whether `hurry` was set before the time was over."""
    if hurry is None:
        await asyncio.sleep(seconds)
        return False
    try:
        async with asyncio.timeout(seconds):
            return await hurry.wait()
    except TimeoutError:
        return False


def _title(part: str) -> str:
    return f"The {part.replace('_', ' ')}"

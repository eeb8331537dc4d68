"""Ages that no step of the wall clock distorts.

Records carry the time of the wall clock, which a person or NTP may step. Ages are measured with the monotonic clock
(CLOCK_MONOTONIC, which does not count the time that the machine sleeps): `Clock.ago` turns an age into the time of the
wall clock that records of that age carry, whatever steps came in between.
"""

import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

STEP_S = 1.0  # a larger change between both clocks counts as a step; NTP slews by at most 0.5 ms a second
STEPS_KEPT = 64  # older ones are merged: an age may then be underestimated, never overestimated


def _wall_clock() -> float:
    return utc_now().timestamp()  # the one that records carry


class Clock:
    """Compares the wall clock with the monotonic clock at each call.

    It knows the steps since it was made; two steps between two calls are one to it.
    """

    def __init__(
        self, wall: Callable[[], float] = _wall_clock, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Read both clocks once.

        Args:
            wall: seconds since 1970, as records carry them.
            monotonic: seconds since any moment; never steps.
        """
        self._wall = wall
        self._monotonic = monotonic
        self._offset = wall() - monotonic()
        self._steps: deque[tuple[float, float]] = deque()  # until when (monotonic) an offset was the one; oldest first

    def ago(self, age_s: float) -> datetime:
        """The time of the wall clock, UTC; every record with an earlier time is at least this old.

        Exact after a step forward. After a step back, records from before the step count as younger than they are,
        until the clock has caught up.

        Args:
            age_s: seconds.
        """
        now = self._monotonic()
        offset = self._wall() - now
        if abs(offset - self._offset) >= STEP_S:
            self._steps.append((now, self._offset))
            if len(self._steps) > STEPS_KEPT:
                (_, oldest), (until, older) = self._steps.popleft(), self._steps.popleft()
                self._steps.appendleft((until, min(oldest, older)))
            self._offset = offset
        since = now - age_s
        offset = min([offset, *(older for until, older in self._steps if until > since)])
        return datetime.fromtimestamp(0, UTC) + timedelta(seconds=since + offset)


def utc_now() -> datetime:
    """The wall clock, UTC, cut to milliseconds as the log shows them."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)

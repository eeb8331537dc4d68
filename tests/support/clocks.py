"""A wall clock that a test steps, as a person or NTP does; the monotonic clock stays as it is."""

import time
from datetime import datetime, timedelta, tzinfo

import pytest

from dropmill.model import clock
from dropmill.model.clock import Clock

DAY_S = 86400.0


class WallClock:
    """The wall clock of everything that Dropmill records in this process."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        """Take the place of the real one."""
        self.ahead_s = 0.0
        outer = self

        class Stepped(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> "Stepped":
                return cls.fromtimestamp(time.time(), tz) + timedelta(seconds=outer.ahead_s)

        patch.setattr(clock, "datetime", Stepped)
        self.clock = Clock()

    def step(self, seconds: float) -> None:
        """Set it ahead, or back if negative."""
        self.ahead_s += seconds

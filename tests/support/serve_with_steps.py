"""`dropmill serve` whose wall clock steps forward by 30 days at each SIGUSR1; the monotonic clock goes on.

A fake clock preloaded into the process makes its threads wait for ever on condition variables.
"""

import signal

import pytest
from tests.support.clocks import DAY_S, WallClock

if __name__ == "__main__":
    wall_clock = WallClock(pytest.MonkeyPatch())
    signal.signal(signal.SIGUSR1, lambda *_: wall_clock.step(30 * DAY_S))
    from dropmill.cli import main

    main()

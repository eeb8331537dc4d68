"""Scripts that the measured servers run."""

import time
from pathlib import Path

BUSY_MOST_S = 120.0  # a benchmark that died must not leave this running


def nothing(path: str) -> None:
    """Cost nothing, so that what remains is the server's."""


def wait(path: str) -> None:
    """Hold the slot until it is ended."""
    time.sleep(BUSY_MOST_S)


def busy(path: str) -> None:
    """Burn CPU until the file appears whose path is the content of the dropped one."""
    end = Path(Path(path).read_text())
    give_up = time.monotonic() + BUSY_MOST_S
    while not end.exists() and time.monotonic() < give_up:
        for _ in range(200_000):
            pass

"""Waiting for something to become true, instead of sleeping for a while and hoping."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 30.0  # for what takes a moment on an idle machine
POLL_S = 0.02


def wait_until(look: Callable[[], T | None], seconds: float = PATIENCE_S) -> T:
    """What `look` finds, once it finds something; a failed test if it finds nothing in time."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(POLL_S)
    return found


async def eventually(look: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Return once `look` finds something, or the coroutine that it makes does; the event loop goes on meanwhile."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if await found if isinstance(found, Awaitable) else found:
            return
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(POLL_S / 4)

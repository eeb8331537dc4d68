"""Waiting for something to become true, instead of sleeping for a while and hoping."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 30.0  # for what takes a moment on an idle machine
POLL_S = 0.02
SLOW_POLL_S = 0.5  # at most, where what is waited for stays


def wait_until(look: Callable[[], T | None], seconds: float = PATIENCE_S, *, stays: bool = False) -> T:
    """What `look` finds, once it finds something; a failed test if it finds nothing in time.

    Args:
        stays: what is waited for does not go away again, so that it is looked for less often the longer it takes.
    """
    begun = time.monotonic()
    while not (found := look()):
        waited = time.monotonic() - begun
        assert waited < seconds, "it did not happen"
        time.sleep(min(max(POLL_S, waited / 10), SLOW_POLL_S) if stays else POLL_S)
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

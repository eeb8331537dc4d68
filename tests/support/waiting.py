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


async def eventually(look: Callable[[], Awaitable[T | None] | T | None], seconds: float = PATIENCE_S) -> T:
    """The same on an event loop, which goes on meanwhile; `look` may be a coroutine function."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.001)

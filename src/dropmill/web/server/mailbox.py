"""A queue from one task to another, made to lie idle in large numbers.

An empty `asyncio.Queue` takes 3.5 KiB, most of it for deques of those who wait. A socket has two queues.
"""

import asyncio
from typing import Any


class Mailbox:
    """A bounded queue with one reader. Only the reader's wait, and nothing else, takes memory while it is empty."""

    __slots__ = ("_arrival", "_messages", "_room", "_size")

    def __init__(self, size: int) -> None:
        """Hold nothing yet.

        Args:
            size: messages that may lie in it.
        """
        self._size = size
        self._messages: list[Any] = []
        self._arrival: asyncio.Future[None] | None = None  # while the reader waits
        self._room: asyncio.Event | None = None  # while writers wait

    @property
    def is_full(self) -> bool:
        """Whether nothing more fits."""
        return len(self._messages) >= self._size

    async def wait_for_room(self) -> None:
        """Return when something may fit, or everything was dropped: look again."""
        if self._room is None:
            self._room = asyncio.Event()
        await self._room.wait()

    def put(self, message: Any) -> None:
        """Add a message, also beyond the size."""
        self._messages.append(message)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def get(self) -> Any:
        """The oldest message, once there is one. Cancelling loses none."""
        while not self._messages:
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        message = self._messages.pop(0)
        self._make_room()
        return message

    def clear(self) -> None:
        """Drop everything, and let writers look again."""
        self._messages.clear()
        self._make_room()

    def _make_room(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

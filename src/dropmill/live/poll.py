"""The answer of a long poll: the messages that a socket would have sent, gathered until there is something to say.

What has a cursor, or an offset, is repeated by the client with its next request. For the rest (who is sending, who
watches, notices, progress) the answer ends with a token that stands for it; the client sends it back, so that a change
between two requests is noticed and nothing else ends the wait.
"""

import asyncio
import hashlib
from typing import NamedTuple

from dropmill.live.outgoing import Outgoing
from dropmill.model.numbers import whole_number

ANSWER_BYTES_MAX = 1024 * 1024  # of one answer, but for its last message
VOLATILE = frozenset({"sending", "presence", "notice", "notice_withdrawn"})
SEEN_MAX = 80  # characters of a token


class Seen(NamedTuple):
    """What a client knows that has no cursor.

    Attributes:
        progress: number of the newest progress.
        state: stands for who is sending, who watches, and the notices.
    """

    progress: int
    state: str

    def text(self) -> str:
        """The token."""
        return f"{self.progress}.{self.state}"


def parse_seen(text: str | None) -> Seen | None:
    """The content of a token; None without one, or if it is not one of ours: the client then knows nothing."""
    if text is None or len(text) > SEEN_MAX:
        return None
    number, _, state = text.partition(".")
    progress = whole_number(number)
    return None if progress is None else Seen(progress, state)


class Gathering:
    """Gathers the messages of one answer.

    Attributes:
        is_full: set once no further message fits.
    """

    def __init__(self, seen: Seen | None) -> None:
        """Gather nothing yet.

        Args:
            seen: what the client knows; None: nothing, and then nothing volatile ends the wait.
        """
        self.is_full = asyncio.Event()
        self._seen = seen
        self._messages: list[Outgoing] = []
        self._size = 0
        self._has_joined = False
        self._state: dict[tuple[str, str], bytes] = {}
        self._news = asyncio.Event()

    async def send(self, message: Outgoing) -> None:
        """Take a message; waits for ever once the answer is full, so that the sender's cursors do not move on."""
        if self._size >= ANSWER_BYTES_MAX:
            self.is_full.set()
            await asyncio.Event().wait()
        if message.message.get("ok"):
            return  # only refusals are of interest
        self._messages.append(message)
        self._size += len(message.text)
        if message.kind in VOLATILE:
            self._state[message.kind, message.key] = message.text
        is_volatile = message.kind in VOLATILE or message.kind == "progress"
        if not is_volatile or (self._seen is not None and self._has_joined):
            self._news.set()

    def has_joined(self) -> None:
        """Note that the state of everything that was joined has been taken: from now on, each message is a change."""
        self._has_joined = True
        if self._seen is None:
            return
        if self._digest() == self._seen.state:
            self._messages = [message for message in self._messages if message.kind not in VOLATILE]
        elif self._state:
            self._news.set()

    async def news(self) -> None:
        """Wait for something that the client does not know."""
        await self._news.wait()

    def answer(self, first: Outgoing, progress: int) -> tuple[list[Outgoing], Seen]:
        """All messages, and the token that stands for what has no cursor.

        Args:
            first: goes before the others.
            progress: number of the newest progress among them.
        """
        return [first, *self._messages], Seen(progress, self._digest())

    def _digest(self) -> str:
        digest = hashlib.blake2b(digest_size=12)
        for _, text in sorted(self._state.items()):
            digest.update(text)
        return digest.hexdigest()

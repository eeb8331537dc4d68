"""Messages on their way to clients: each is encoded once, and framed once for each transport."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, TypeAlias

from dropmill.wire.encoding import dumps
from dropmill.wire.socket import MAX_POSITION, ServerMessage, events, events_text

EVENTS_MAX = 500  # in one message
EVENTS_BYTES_MAX = 256 * 1024
"""Bytes of one message, unless a single event is larger. The contract allows 1 MiB; but a reader that stalls holds one
message, beside what its transport holds."""


class EncodedEvent(NamedTuple):
    """An event as JSON text; the same bytes whichever topic and transport carries it."""

    cursor: int
    text: bytes


class Outgoing:
    """One message.

    Attributes:
        message: the message.
        kind: its `type`.
        topic: what it is about; "" if it is about no topic.
        key: what the next message of this kind replaces: the topic, or the id of a notice.
    """

    def __init__(self, message: ServerMessage) -> None:
        """Encode a message."""
        self.kind: str = message["type"]
        self.topic = str(message.get("topic", ""))
        self.key = str(message.get("id", self.topic))
        self.message = message
        self._framed: dict[Framing, bytes] = {}

    @cached_property
    def text(self) -> bytes:
        """The message as JSON text, in ASCII."""
        return dumps(self.message).encode()

    def framed(self, frame: "Framing") -> bytes:
        """The message as a transport sends it; made at the first call, for all subscribers of that transport.

        Args:
            frame: makes it; the same function at each call.
        """
        found = self._framed.get(frame)
        if found is None:
            found = self._framed[frame] = frame(self)
        return found


Framing: TypeAlias = Callable[[Outgoing], bytes]
"""Makes what a transport sends of a message."""


class OutgoingEvents(Outgoing):
    """A message of events, made of encoded ones.

    Attributes:
        events: the events, at least one.
    """

    def __init__(self, topic: str, some: Sequence[EncodedEvent]) -> None:
        """Keep the events; the text is made when it is needed."""
        super().__init__(events(topic, some[-1].cursor, []))
        self.events = some

    @property
    def cursor(self) -> int:
        """Of its last event."""
        return self.events[-1].cursor

    @cached_property
    def text(self) -> bytes:
        """The message as JSON text, in ASCII."""
        return events_text(self.topic, self.cursor, [event.text for event in self.events])


def messages_of(topic: str, some: Sequence[EncodedEvent]) -> Iterator[OutgoingEvents]:
    """Events as messages of at most `EVENTS_MAX` events and `EVENTS_BYTES_MAX` bytes."""
    around = len(dumps(events(topic, MAX_POSITION, [])))
    begin, size = 0, around
    for at, event in enumerate(some):
        length = len(event.text) + 1
        if at > begin and (size + length > EVENTS_BYTES_MAX or at - begin >= EVENTS_MAX):
            yield OutgoingEvents(topic, some[begin:at])
            begin, size = at, around
        size += length
    if begin < len(some):
        yield OutgoingEvents(topic, some[begin:])

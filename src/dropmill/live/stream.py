"""One subscriber: its topics and streams, its position in each, and what is sent to it next.

Nothing is queued for a subscriber. A notification says that a topic has new events; they are read from the ledger,
after the subscriber's own cursor, when it is ready for more. So a slow reader needs no memory and loses nothing, and a
burst travels as few messages. This module knows no socket: it gets a function that sends.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

from dropmill.live.joins import JoinRates
from dropmill.live.topics import OUTPUT, AttemptOutput, Topic, Topics
from dropmill.model.caller import Caller
from dropmill.model.errors import DropmillError, NotFound
from dropmill.model.events import TOPIC_ALL, Event
from dropmill.model.ids import Cursor, FileId, JobId
from dropmill.text import whole_characters
from dropmill.wire import socket
from dropmill.wire.encoding import dumps
from dropmill.wire.events import EventJson, event_json
from dropmill.wire.socket import Cancel, ClientMessage, Events, Join, Leave, Retry, ServerMessage
from dropmill.wire.submissions import SubmissionJson

EVENTS_MAX = 500  # in one message
EVENTS_BYTES_MAX = 1024 * 1024  # of one message, unless a single event is larger
OUTPUT_BYTES_MAX = 64 * 1024  # of output in one message
JOINED_MAX = 256  # topics and streams of one subscriber

GATHER_S = 0.1
"""After a delivery the next one waits as long, and brings what came meanwhile; the first after a rest is sent at once.
No page draws more often. Without it, 500 small files made 1,400 messages and cost 5 ms of CPU each."""


class JobCommands(Protocol):
    """The commands that a subscriber may send about a job; HTTP calls the same functions."""

    async def cancel(self, caller: Caller, job_id: JobId) -> None:
        """Cancel it."""

    async def retry(self, caller: Caller, job_id: JobId) -> None:
        """Requeue it."""


@dataclass(slots=True)
class _Followed:
    """A topic, and how far it was delivered.

    Attributes:
        cursor: of the last event that was delivered.
        senders: the files of which it was last said that they are being sent; None before the first time.
    """

    topic: Topic
    cursor: Cursor
    senders: Set[FileId] | None = None


@dataclass(slots=True)
class _Stream:
    """An output stream, and the offset after the last byte that was delivered."""

    reader: AttemptOutput
    offset: int


class Subscriber:
    """One connection's subscriptions. `run` delivers until cancelled; `handle` executes a client's message."""

    def __init__(
        self,
        caller: Caller,
        *,
        topics: Topics,
        orders: JobCommands,
        joins: JoinRates,
        send: Callable[[str], Awaitable[None]],
    ) -> None:
        """Start without subscriptions.

        Args:
            caller: who opened the connection; joins are charged to its address.
            topics: authorises joins.
            orders: cancels and retries.
            joins: limits the joins of one address.
            send: sends one text message; waits while the client is slow, for a bounded time.
        """
        self._caller = caller
        self._topics = topics
        self._orders = orders
        self._joins = joins
        self._send_text = send
        self._mailbox = topics.mailbox()
        self._joined: dict[str, _Followed | _Stream] = {}
        self._sending = asyncio.Lock()  # a join's reply comes before its data

    async def run(self) -> None:
        """Deliver the events, output and progress of everything that was joined, until cancelled."""
        try:
            while True:
                notification = await self._mailbox.next()
                async with self._sending:
                    for topic in notification.positions:
                        await self._deliver(topic)
                    for place in list(self._joined.values()):
                        if isinstance(place, _Followed) and place.topic.senders_stream in notification.positions:
                            await self._deliver_senders(place)
                    if notification.progress:
                        await self._send(socket.progress(notification.progress.values()))
                await asyncio.sleep(GATHER_S)
        finally:
            self._mailbox.close()

    async def handle(self, message: ClientMessage) -> None:
        """Execute a client's message and reply."""
        try:
            known = await self._wait_to_join(message) if isinstance(message, Join) else 0
        except DropmillError as error:
            await self._send(socket.reply(message.id, error.code, error.detail))
            return
        async with self._sending:
            try:
                match message:
                    case Join():
                        brought = await self._join(message)
                        self._joins.charge(self._caller.client.ip, max(0, brought - known))
                        return
                    case Leave():
                        self._leave(message.topic)
                    case Cancel():
                        await self._orders.cancel(self._caller, JobId(message.job_id))
                    case Retry():
                        await self._orders.retry(self._caller, JobId(message.job_id))
            except DropmillError as error:
                await self._send(socket.reply(message.id, error.code, error.detail))
            else:
                await self._send(socket.reply(message.id))

    # --- joining -----------------------------------------------------------------------------------------------------

    async def _wait_to_join(self, join: Join) -> int:
        """Wait until the client may join; returns what was charged so far, since the rest is not known yet."""
        cost = 1
        if join.topic == TOPIC_ALL and join.after is not None:  # it has an event for each cursor
            cost += max(0, await self._topics.newest(self._caller) - join.after)
        await self._joins.admit(self._caller.client.ip, cost)
        return cost

    async def _join(self, join: Join) -> int:
        """Join, and return what that costs; see `dropmill.live.joins`."""
        if len(self._joined) >= JOINED_MAX and join.topic not in self._joined:
            await self._send(socket.reply(join.id, socket.TOO_MANY, f"At most {JOINED_MAX} topics a connection."))
            return 1
        place: Topic | AttemptOutput
        if join.topic.startswith(OUTPUT):
            job_id = JobId(join.topic.removeprefix(OUTPUT))
            place = await self._topics.output(self._caller, job_id, join.attempt)
        else:
            place = await self._topics.authorise(self._caller, join.topic)
        # Join before reading: a change in between then causes one notification too many, never one too few.
        self._mailbox.join(place)
        try:
            if isinstance(place, Topic):
                self._mailbox.join_senders(place)
                return 1 + await self._join_topic(join, place)
            return 1 + await self._join_stream(join, place)
        except DropmillError:
            if join.topic not in self._joined:
                self._mailbox.leave(place)
            raise

    async def _join_stream(self, join: Join, reader: AttemptOutput) -> int:
        self._joined[join.topic] = _Stream(reader=reader, offset=join.after or 0)
        await self._send(socket.reply(join.id))
        return await self._deliver(join.topic)

    async def _join_topic(self, join: Join, topic: Topic) -> int:
        state, newest = await topic.snapshot()
        await self._send(socket.reply(join.id))
        if join.after is not None and join.after <= newest:
            followed = self._joined[join.topic] = _Followed(topic=topic, cursor=Cursor(join.after))
            brought = await self._deliver(join.topic)
        else:
            # A cursor from the future is from another ledger: send a snapshot.
            followed = self._joined[join.topic] = _Followed(topic=topic, cursor=newest)
            await self._send(socket.snapshot(join.topic, newest, state))
            brought = 0
        if state is not None:
            await self._deliver_senders(followed)
        return _files_in(state) + brought

    def _leave(self, topic: str) -> None:
        place = self._joined.pop(topic, None)
        if place is None:
            raise NotFound("That topic was not joined.")
        self._mailbox.leave(place.topic if isinstance(place, _Followed) else place.reader)

    # --- delivering --------------------------------------------------------------------------------------------------

    async def _deliver(self, topic: str) -> int:
        """Send what is new; returns how much: events, or KiB of output."""
        match self._joined.get(topic):
            case _Followed() as place:
                return await self._deliver_events(place)
            case _Stream() as place:
                return await self._deliver_output(place)
        return 0

    async def _deliver_events(self, place: _Followed) -> int:
        topic = place.topic.name
        count = 0
        while True:
            page = await place.topic.events(after=place.cursor, limit=EVENTS_MAX)
            if page.is_cut:
                await self._begin_afresh(place)
                continue
            for message in _messages_of(topic, page.events):
                await self._send(message)
            place.cursor = page.cursor
            count += len(page.events)
            if len(page.events) < EVENTS_MAX:
                return count

    async def _deliver_senders(self, place: _Followed) -> None:
        """Say which files are being sent, if that has changed: all of them, so that nothing a client missed counts."""
        senders = place.topic.senders()
        if senders != place.senders:
            place.senders = senders
            await self._send(socket.sending(place.topic.name, senders))

    async def _begin_afresh(self, place: _Followed) -> None:
        """Events after the subscriber's cursor were removed: send the current state, then the gap."""
        state, place.cursor = await place.topic.snapshot()
        topic = place.topic.name
        # In this order: a client that joins again when it gets the gap already has the snapshot's cursor.
        await self._send(socket.snapshot(topic, place.cursor, state))
        await self._send(socket.gap(topic, place.cursor))

    async def _deliver_output(self, place: _Stream) -> int:
        size = 0
        while True:
            piece = await place.reader.read(place.offset, OUTPUT_BYTES_MAX)
            if piece is None or place.reader.number is None:
                return 0
            data = whole_characters(piece.data)
            is_cut = len(data) < len(piece.data)
            if is_cut and piece.offset + len(piece.data) == piece.end and await place.reader.is_over():
                # Read again: the rest of the character may have been written before the attempt ended.
                piece = await place.reader.read(place.offset, OUTPUT_BYTES_MAX) or piece
                is_last = piece.offset + len(piece.data) == piece.end
                data = piece.data if is_last else whole_characters(piece.data)
            if not data:
                return size // 1024
            size += len(data)
            end = piece.offset + len(data)
            text = data.decode(errors="replace")
            await self._send(socket.output(place.reader.job.id, place.reader.number, piece.offset, end, text))
            place.offset = end

    async def _send(self, message: ServerMessage) -> None:
        await self._send_text(dumps(message))


def _files_in(state: SubmissionJson | None) -> int:
    return 0 if state is None else len(state["files"])


def _messages_of(topic: str, some: Sequence[Event]) -> Iterator[Events]:
    """Events as messages of at most `EVENTS_BYTES_MAX`."""
    around = len(dumps(socket.events(topic, socket.MAX_POSITION, [])))
    gathered: list[EventJson] = []
    size = around
    for event in some:
        shape = event_json(event)
        length = len(dumps(shape)) + 1
        if gathered and size + length > EVENTS_BYTES_MAX:
            yield socket.events(topic, gathered[-1]["cursor"], gathered)
            gathered, size = [], around
        gathered.append(shape)
        size += length
    if gathered:
        yield socket.events(topic, gathered[-1]["cursor"], gathered)

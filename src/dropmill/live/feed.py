"""The one reader of new events for all subscribers.

Once a window it reads the ledger, encodes each event once, and puts it into the rings of the topics that are followed.
A ring holds the newest events of one topic in one view; every subscriber reads from it after its own cursor, whatever
its transport. A subscriber behind the ring reads the ledger; what it reads is put before the ring's first event, so the
next one need not.

Progress, output and who is sending are shared in the same way. Nothing is queued for a subscriber: an `Inbox` says what
has moved, and its size is bounded by what was joined.
"""

import asyncio
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dropmill.live.guests import View, event_as_seen
from dropmill.live.outgoing import EVENTS_MAX, EncodedEvent, Outgoing, OutgoingEvents, messages_of
from dropmill.live.progress import RecentProgress
from dropmill.live.topics import AttemptOutput, Topic
from dropmill.model.clock import utc_now
from dropmill.model.errors import DropmillError, OutOfSpace, Unavailable
from dropmill.model.events import TOPIC_ALL, Event
from dropmill.model.ids import Cursor
from dropmill.model.notices import Notice
from dropmill.ports.bus import NOTICES, Bus, Notification
from dropmill.ports.ledger.events import FeedLedger
from dropmill.text import whole_characters
from dropmill.wire import socket
from dropmill.wire.events import event_text

WINDOW_MIN_S = 0.025
WINDOW_MAX_S = 0.25
"""After each round of deliveries, the next waits this long: the first while the process is idle, the second while it is
busy. A page draws no more often, and a message costs the same whether it carries one event or fifty."""

CPU_IDLE, CPU_BUSY = 0.05, 0.5
"""Cores that the process uses; below the first the window is the shortest, above the second the longest."""

LOAD_OVER_S = 1.0  # the process's load is averaged over so many seconds

DELIVERY_SHARE = 0.05
"""Of a core, for messages: where each takes 40 us, two hundred subscribers have windows of 160 ms."""

RINGS_BYTES_MAX = 64 * 1024 * 1024  # of the events in all rings; the oldest events of the least recent ring go first
EVENT_OVERHEAD = 150  # bytes of memory that an event takes beside its text
READS_AT_ONCE = 8  # subscribers behind their ring that read the ledger, or output, at the same time

BLOCK = 128
"""Events of a ring that go together in a message: those who catch up from different cursors get the same messages. The
newest go in one, wherever a block ends."""

MESSAGES_AT_ONCE = 8  # blocks that one who catches up is given at once: a millisecond of work

BLOCKS_KEPT = 32  # messages of a ring that are kept for others who catch up

OUTPUT_BYTES_MAX = 64 * 1024  # of output in one message
PIECES_KEPT = 32  # of output, for others who follow it

RETRY_S = 1.0  # after a read that failed


class Inbox:
    """What has moved for one subscriber since it last asked; the name only, so it is bounded by what was joined.

    Attributes:
        progress_seen: number of the newest progress that was delivered; see `RecentProgress`.
    """

    __slots__ = ("_fault", "_moved", "_waiting", "progress_seen")

    def __init__(self, progress_seen: int) -> None:
        self.progress_seen = progress_seen
        self._moved: set[str] = set()
        self._fault: DropmillError | None = None
        self._waiting: asyncio.Future[None] | None = None

    def notify(self, name: str) -> None:
        """Note that something moved: a topic or stream that was joined, or `PROGRESS`."""
        self._moved.add(name)
        self._wake()

    def fail(self, fault: DropmillError) -> None:
        """Have the next call of `next` raise an error."""
        self._fault = fault
        self._wake()

    async def next(self) -> set[str]:
        """Wait until something has moved, then return all of it.

        Raises:
            OutOfSpace, Unavailable: the ledger cannot be read now.
        """
        while not self._moved and self._fault is None:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        if self._fault is not None:
            raise self._fault
        moved, self._moved = self._moved, set()
        return moved

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


PROGRESS = "progress"
"""What `Inbox.next` returns when there is new progress; `NOTICES`, when a notice was posted or withdrawn."""


class Batch(NamedTuple):
    """What a subscriber is sent next.

    Attributes:
        messages: of events, oldest first.
        cursor: the subscriber's afterwards.
        was_read: whether the events came from the ledger, not from memory.
        is_last: whether there is nothing more; what comes later notifies the subscriber.
        is_cut: whether events after the subscriber's cursor were removed; there are no messages then.
    """

    messages: Sequence[OutgoingEvents]
    cursor: Cursor
    was_read: bool = False
    is_last: bool = False
    is_cut: bool = False


@dataclass(eq=False, slots=True)
class Ring:
    """The newest events of one topic in one view.

    Attributes:
        topic: the topic, of the first who followed it.
        start: the ring has every event after this cursor, up to the feed's; None until it begins.
        followers: who is notified when it grows.
    """

    topic: Topic
    start: Cursor | None = None
    followers: set[Inbox] = field(default_factory=set)
    size: int = 0
    _events: list[EncodedEvent] = field(default_factory=list)
    _first: int = 0  # number of the first event; those before the ring's beginning have negative ones
    _newest: dict[int, list[OutgoingEvents]] = field(default_factory=dict)  # of this window, by the first event
    _blocks: OrderedDict[int, list[OutgoingEvents]] = field(default_factory=OrderedDict)

    def append(self, event: EncodedEvent) -> None:
        """Add the newest event."""
        self._newest.clear()
        self._events.append(event)
        self.size += len(event.text) + EVENT_OVERHEAD

    def prepend(self, after: Cursor, some: Sequence[EncodedEvent]) -> None:
        """Add events before the first one: all those after a cursor, up to `start`."""
        self._newest.clear()
        self._events[:0] = some
        self._first -= len(some)
        self.size += sum(len(event.text) + EVENT_OVERHEAD for event in some)
        self.start = after

    def drop_oldest(self) -> None:
        """Remove the oldest block of events; the ring begins after it."""
        count = min(BLOCK, len(self._events))
        self.size -= sum(len(event.text) + EVENT_OVERHEAD for event in self._events[:count])
        self.start = Cursor(self._events[count - 1].cursor)
        del self._events[:count]
        self._first += count
        self._newest.clear()
        self._blocks.clear()

    def clear(self) -> None:
        """Remove everything; the ring has to begin again."""
        self.start, self.size = None, 0
        self._events.clear()
        self._newest.clear()
        self._blocks.clear()

    def messages(self, after: Cursor) -> tuple[Sequence[OutgoingEvents], bool]:
        """Some events after a cursor, which is not before `start`, as messages that others get too.

        Returns:
            The messages, and whether they are all.
        """
        at = bisect_right(self._events, int(after), key=_cursor_of)
        found: list[OutgoingEvents] = []
        while at < len(self._events) and len(found) < MESSAGES_AT_ONCE:
            if len(self._events) - at <= BLOCK:
                end = len(self._events)
                found += self._newest_from(at)
            else:
                end = ((self._first + at) // BLOCK + 1) * BLOCK - self._first
                found += self._block(at, end)
            at = end
        return found, at >= len(self._events)

    def _newest_from(self, at: int) -> Sequence[OutgoingEvents]:
        """All events from one on: the same messages for all who have got as far."""
        newest = self._newest.get(self._first + at)
        if newest is None:
            newest = self._newest[self._first + at] = list(messages_of(self.topic.name, self._events[at:]))
            if len(self._newest) > BLOCKS_KEPT:
                del self._newest[next(iter(self._newest))]
        return newest

    def _block(self, at: int, end: int) -> Sequence[OutgoingEvents]:
        """A block, or what is left of it for those who have its first events, as after a restart all have."""
        number = self._first + at
        block = self._blocks.get(number)
        if block is None:
            block = self._blocks[number] = list(messages_of(self.topic.name, self._events[at:end]))
            if len(self._blocks) > BLOCKS_KEPT:
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end(number)
        return block


class Piece(NamedTuple):
    """A piece of output: its message, and the offset after it."""

    message: Outgoing
    end: int


class StandingNotice:
    """A notice with its message, which shows it or withdraws it."""

    def __init__(self, notice: Notice) -> None:
        self.notice = notice
        self.message = Outgoing(
            socket.notice_withdrawn(notice.id)
            if notice.is_withdrawn
            else socket.notice(notice.id, notice.text, notice.expires_at)
        )


class Feed:
    """Reads new events for all subscribers. `run` does so until cancelled.

    Attributes:
        cursor: every event up to here has reached the rings.
        progress: the newest reports.
        notices: those that had not expired when the last one was posted or withdrawn, the oldest first.
    """

    def __init__(self, ledger: FeedLedger, bus: Bus) -> None:
        """Follow nothing yet."""
        self.cursor = Cursor(0)
        self.progress = RecentProgress()
        self.notices: Sequence[StandingNotice] = ()
        self._inboxes: set[Inbox] = set()
        self._ledger = ledger
        self._subscription = bus.subscribe()
        self._rings: OrderedDict[tuple[str, View], Ring] = OrderedDict()  # the least recent one first
        # Who follows output, or who sends a submission's files; and what each is notified of.
        self._streams: dict[str, dict[Inbox, str]] = {}
        self._pieces: OrderedDict[tuple[str, int, int], Piece] = OrderedDict()
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._is_reading = True  # until `run` knows the cursor
        self._load = 0.0  # cores, averaged
        self._measured = (0.0, 0.0)  # when, and the process's CPU time then
        self._notified = 0  # subscribers, since the window before
        self._delivery_s = 0.0  # of CPU, for what they were sent at once

    # --- for subscribers ---------------------------------------------------------------------------------------------

    @property
    def follows_anything(self) -> bool:
        """Whether anyone is notified of anything."""
        return bool(self._inboxes or self._rings or self._streams)

    def follows(self, name: str) -> bool:
        """Whether anyone follows a topic or stream of this name."""
        return name in self._streams or any(topic == name for topic, _ in self._rings)

    @property
    def bytes_in_rings(self) -> int:
        """Memory of the events in all rings, at most `RINGS_BYTES_MAX` between two windows."""
        return sum(ring.size for ring in self._rings.values())

    def inbox(self, progress_seen: int | None = None) -> Inbox:
        """An inbox that follows nothing yet; `close_inbox` ends it.

        Args:
            progress_seen: number of the newest progress that the client has; one that never was, as after a restart,
                counts as 0. None: what comes from now on.
        """
        number = self.progress.number
        if progress_seen is None:
            progress_seen = number
        made = Inbox(progress_seen if progress_seen <= number else 0)
        if made.progress_seen < number:
            made.notify(PROGRESS)
        self._inboxes.add(made)
        return made

    def close_inbox(self, inbox: Inbox) -> None:
        """Notify a subscriber, which has left everything, no more."""
        self._inboxes.discard(inbox)

    def follow(self, topic: Topic, inbox: Inbox) -> None:
        """Notify a subscriber from now on: of the topic's events, its progress, and who sends its files.

        Follow before you read: an event in between then causes one notification too many, never one too few.
        """
        key = topic.name, topic.view
        ring = self._rings.get(key)
        if ring is None:
            # What is being read now may have begun before this event: the ring begins with the next read.
            ring = self._rings[key] = Ring(topic, start=None if self._is_reading else self.cursor)
        ring.followers.add(inbox)
        if topic.senders_stream is not None:
            self._follow_stream(topic.senders_stream, inbox, topic.name)

    def leave(self, topic: Topic, inbox: Inbox) -> None:
        """Notify it no more. The ring of a topic that nobody follows is dropped."""
        key = topic.name, topic.view
        ring = self._rings[key]
        ring.followers.discard(inbox)
        if not ring.followers:
            del self._rings[key]
        if topic.senders_stream is not None:
            self._leave_stream(topic.senders_stream, inbox)

    def follow_output(self, reader: AttemptOutput, inbox: Inbox) -> None:
        """Notify a subscriber when a job has more output."""
        self._follow_stream(reader.name, inbox, reader.name)

    def leave_output(self, reader: AttemptOutput, inbox: Inbox) -> None:
        """Notify it no more."""
        self._leave_stream(reader.name, inbox)

    def holds(self, topic: str, view: View, after: int) -> bool:
        """Whether following a topic from a cursor needs no read of the ledger."""
        ring = self._rings.get((topic, view))
        return ring is not None and ring.start is not None and ring.start <= after <= self.cursor

    async def newest(self) -> Cursor:
        """The newest event's cursor, read from the ledger."""
        return await self._ledger.newest_cursor()

    async def events(self, topic: Topic, after: Cursor) -> Batch:
        """What follows a cursor on a topic that the caller follows; no messages once there is nothing more.

        Raises:
            OutOfSpace, Unavailable: the ledger cannot be read now.
        """
        ring = self._rings[topic.name, topic.view]
        if ring.start is None or after < ring.start:
            async with self._reads:
                if ring.start is None or after < ring.start:  # others may have read it meanwhile
                    return await self._read_behind(ring, after)
        self._rings.move_to_end((topic.name, topic.view))
        messages, is_last = ring.messages(after)
        return Batch(messages, max(after, self.cursor) if is_last else Cursor(messages[-1].cursor), is_last=is_last)

    async def _read_behind(self, ring: Ring, after: Cursor) -> Batch:
        page = await ring.topic.events(after=after, limit=EVENTS_MAX)
        if page.is_cut:
            return Batch((), after, is_cut=True)
        encoded = [_encoded(event) for event in page.events]
        start = ring.start  # as of now: the feed may have gone on
        if start is not None and after < start <= page.cursor:
            older = [event for event in encoded if event.cursor <= start]
            if self.bytes_in_rings + sum(len(event.text) for event in older) <= RINGS_BYTES_MAX:
                ring.prepend(after, older)
        return Batch(list(messages_of(ring.topic.name, encoded)), page.cursor, was_read=True, is_last=not encoded)

    async def output(self, reader: AttemptOutput, offset: int) -> Piece | None:
        """The output after an offset, read once for all who follow it; None if there is no more now.

        Bytes of an unfinished character wait until the rest is there, or the attempt has ended.

        Raises:
            StorageUnavailable: the store fails now.
        """
        if (found := self._kept_piece(reader, offset)) is not None:
            return found
        async with self._reads:
            if (found := self._kept_piece(reader, offset)) is not None:
                return found
            found = await _read_output(reader, offset)
        if found is not None and reader.number is not None:
            self._pieces[reader.job.id, reader.number, offset] = found
            if len(self._pieces) > PIECES_KEPT:
                self._pieces.popitem(last=False)
        return found

    def _kept_piece(self, reader: AttemptOutput, offset: int) -> Piece | None:
        return None if reader.number is None else self._pieces.get((reader.job.id, reader.number, offset))

    def _follow_stream(self, name: str, inbox: Inbox, notified: str) -> None:
        if name not in self._streams:
            self._streams[name] = {}
            self._subscription.join(name)
        self._streams[name][inbox] = notified

    def _leave_stream(self, name: str, inbox: Inbox) -> None:
        followers = self._streams[name]
        del followers[inbox]
        if not followers:
            del self._streams[name]
            self._subscription.leave(name)

    # --- the windows -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Deliver in windows until cancelled."""
        self._subscription.join(TOPIC_ALL)
        self._subscription.join(NOTICES)
        try:
            self.cursor = max(self.cursor, await self._newest_at_last())
            self._begin_rings()
            self._is_reading = False
            self._measured = asyncio.get_running_loop().time(), time.process_time()
            while True:
                notification = Notification()
                try:
                    async with asyncio.timeout(self.progress.due_in()):
                        notification = await self._subscription.next()
                except TimeoutError:
                    pass  # progress that was held back is due
                try:
                    await self._deliver(notification)
                except (OutOfSpace, Unavailable) as fault:
                    for inbox in self._inboxes:
                        inbox.fail(fault)
                    await asyncio.sleep(RETRY_S)
                if self._notified:
                    await self._let_deliver()
                await asyncio.sleep(self._window_s())
        finally:
            self._subscription.close()

    async def _newest_at_last(self) -> Cursor:
        while True:
            try:
                await self._read_notices()
                return await self._ledger.newest_cursor()
            except (OutOfSpace, Unavailable):
                await asyncio.sleep(RETRY_S)

    async def _let_deliver(self) -> None:
        """Let the subscribers that were notified send, and note what that took.

        They have their turn before this task has it again. What a message takes is not known in advance: from 40 us to
        three times as much where others use the machine.
        """
        began = time.thread_time()
        await asyncio.sleep(0)
        self._delivery_s = time.thread_time() - began

    def _window_s(self) -> float:
        """How long the next window is, by the load of the whole process, and by what the last messages took."""
        now, cpu = asyncio.get_running_loop().time(), time.process_time()
        passed, used = now - self._measured[0], cpu - self._measured[1]
        if passed > 0:
            weight = min(passed / LOAD_OVER_S, 1.0)
            self._load += weight * (used / passed - self._load)
            self._measured = now, cpu
        share = min(max((self._load - CPU_IDLE) / (CPU_BUSY - CPU_IDLE), 0.0), 1.0)
        by_load = WINDOW_MIN_S + share * (WINDOW_MAX_S - WINDOW_MIN_S)
        by_cost = min(self._delivery_s / DELIVERY_SHARE, WINDOW_MAX_S)
        self._notified, self._delivery_s = 0, 0.0
        return max(by_load, by_cost)

    async def _deliver(self, notification: Notification) -> None:
        """Take over what has moved, and notify the subscribers."""
        if NOTICES in notification.positions:
            await self._read_notices()
        newest = notification.positions.get(TOPIC_ALL)
        if newest is not None:
            if self._rings:
                self._is_reading = True
                try:
                    await self._read_events()
                finally:
                    self._is_reading = False
            else:
                self.cursor = max(self.cursor, Cursor(newest))
        for name in notification.positions:
            for inbox, notified in self._streams.get(name, {}).items():
                inbox.notify(notified)
        self._deliver_progress(notification)

    async def _read_notices(self) -> None:
        found = await self._ledger.notices(utc_now())
        known = {kept.notice: kept for kept in self.notices}
        self.notices = [known.get(notice) or StandingNotice(notice) for notice in found]
        for inbox in self._inboxes:
            inbox.notify(NOTICES)

    async def _read_events(self) -> None:
        self._begin_rings()
        while True:
            page = await self._ledger.events(TOPIC_ALL, after=self.cursor, limit=EVENTS_MAX)
            if page.is_cut:  # removed before they were read; whoever was not ahead of us finds out from the ledger
                for ring in self._rings.values():
                    ring.clear()
            grown = self._route(page.events)
            self.cursor = page.cursor
            # A ring that was made during the read may have missed some of it: its followers look themselves.
            for ring in grown | self._begin_rings():
                self._notified += len(ring.followers)
                for inbox in ring.followers:
                    inbox.notify(ring.topic.name)
            self._evict()
            if len(page.events) < EVENTS_MAX:
                return

    def _begin_rings(self) -> set[Ring]:
        """Begin the rings that have not begun; returns them."""
        begun = {ring for ring in self._rings.values() if ring.start is None}
        for ring in begun:
            ring.start = self.cursor
        return begun

    def _route(self, events: Sequence[Event]) -> set[Ring]:
        """Put events into their rings; returns the rings that have grown."""
        grown = set()
        for event in events:
            self.progress.forget_ended(event)
            for view in View:
                seen = encoded = None
                for topic in event.topics:
                    ring = self._rings.get((topic, view))
                    if ring is not None and ring.start is not None:
                        if seen is None:
                            seen = event_as_seen(event, view)
                        if seen is None:
                            break
                        encoded = encoded or _encoded(seen)
                        ring.append(encoded)
                        grown.add(ring)
        return grown

    def _deliver_progress(self, notification: Notification) -> None:
        submissions = self.progress.take(notification.progress.values())
        if not submissions:
            return
        names = {TOPIC_ALL, *(f"submission:{submission_id}" for submission_id in submissions)}
        for name in names:
            for view in View:
                ring = self._rings.get((name, view))
                for inbox in () if ring is None else ring.followers:
                    inbox.notify(PROGRESS)

    def _evict(self) -> None:
        excess = self.bytes_in_rings - RINGS_BYTES_MAX
        for ring in self._rings.values():  # the least recent one first
            while excess > 0 and ring.size > 0:
                before = ring.size
                ring.drop_oldest()
                excess -= before - ring.size


def _cursor_of(event: EncodedEvent) -> int:
    return event.cursor


def _encoded(event: Event) -> EncodedEvent:
    return EncodedEvent(event.cursor, event_text(event))


async def _read_output(reader: AttemptOutput, offset: int) -> Piece | None:
    piece = await reader.read(offset, OUTPUT_BYTES_MAX)
    if piece is None or reader.number is None:
        return None
    data = whole_characters(piece.data)
    is_short = len(data) < len(piece.data)
    if is_short and piece.offset + len(piece.data) == piece.end and await reader.is_over():
        # Read again: the rest of the character may have been written before the attempt ended.
        piece = await reader.read(offset, OUTPUT_BYTES_MAX) or piece
        is_last = piece.offset + len(piece.data) == piece.end
        data = piece.data if is_last else whole_characters(piece.data)
    if not data:
        return None
    end = piece.offset + len(data)
    text = data.decode(errors="replace")
    return Piece(Outgoing(socket.output(reader.job.id, reader.number, piece.offset, end, text)), end)

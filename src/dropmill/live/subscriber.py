"""One subscriber: its topics and streams, its position in each, and what is sent to it next.

Nothing is queued for a subscriber. Its inbox says what has moved; it then reads from the feed, after its own cursor,
when it is ready for more. So a slow reader needs no memory and loses nothing, and a burst travels as few messages. This
module knows no transport: it gets a function that sends.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Set
from dataclasses import dataclass
from typing import Final, Protocol

from dropmill.access.policy import Action, Policy
from dropmill.access.refusals import Refusals
from dropmill.live.feed import PROGRESS, Feed
from dropmill.live.guests import View, view_of
from dropmill.live.joins import JoinRates
from dropmill.live.outgoing import Outgoing
from dropmill.live.presence import Presence, Viewer
from dropmill.live.topics import OUTPUT, SUBMISSION, AttemptOutput, Topic, Topics
from dropmill.model.caller import Caller
from dropmill.model.clock import utc_now
from dropmill.model.errors import DropmillError, Forbidden, NotFound
from dropmill.model.events import TOPIC_ALL, TOPIC_CONFIG
from dropmill.model.ids import Cursor, FileId, JobId
from dropmill.ports.bus import NOTICES
from dropmill.wire import socket
from dropmill.wire.socket import Cancel, ClientMessage, Editing, Join, Leave, Retry
from dropmill.wire.submissions import SubmissionJson

JOINED_MAX = 256  # topics and streams of one subscriber

INTERJECTED = "interjected"  # in the inbox: the transport has a message of its own
_NOT_JOINED = frozenset({PROGRESS, NOTICES, INTERJECTED})

HELD_COST = 0.1  # of an event, or a join, that the feed has in memory: a poll repeats its joins four times a second


COMMANDS: Final[Mapping[type[ClientMessage], Action]] = {
    Join: Action.READ,
    Leave: Action.READ,
    Cancel: Action.CONTROL,
    Retry: Action.CONTROL,
    Editing: Action.CHANGE_CONFIG,
}
"""What each message of a client is, to the policy. Which topic a caller may join, `Topics` decides."""


class JobCommands(Protocol):
    """The commands that a subscriber may send about a job; HTTP calls the same functions."""

    async def cancel(self, caller: Caller, job_id: JobId) -> None:
        """Cancel it."""

    async def retry(self, caller: Caller, job_id: JobId) -> None:
        """Requeue it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveServices:
    """What all subscribers share.

    Attributes:
        policy: says which commands a caller may send.
        topics: authorises joins.
        feed: what is new.
        presence: who else is there.
        orders: cancels and retries.
        joins: limits the joins of one account, or of one address without one.
        refusals: records who may not do what they ask for.
    """

    policy: Policy
    topics: Topics
    feed: Feed
    presence: Presence
    orders: JobCommands
    joins: JoinRates
    refusals: Refusals


@dataclass(slots=True)
class _Followed:
    """A topic, and how far it was delivered.

    Attributes:
        cursor: of the last event that was delivered.
        senders: the files of which it was last said that they are being sent; None before the first time.
        presence: what was last said of the others; None before the first time.
    """

    topic: Topic
    cursor: Cursor
    senders: Set[FileId] | None = None
    presence: Outgoing | None = None


@dataclass(slots=True)
class _Stream:
    """An output stream, and the offset after the last byte that was delivered."""

    reader: AttemptOutput
    offset: int


class Subscriber:
    """One connection's subscriptions. `run` delivers until cancelled; `handle` executes a client's message.

    Call `close` in the end, also if `run` was never called.
    """

    def __init__(
        self,
        caller: Caller,
        *,
        services: LiveServices,
        send: Callable[[Outgoing], Awaitable[None]],
        viewer: Viewer | None = None,
        progress_seen: int | None = None,
    ) -> None:
        """Start without subscriptions.

        Args:
            caller: who opened the connection; joins are charged to its account, or to its address without one.
            services: what all subscribers share.
            send: sends one message; waits while the client is slow, for a bounded time.
            viewer: who watches, for a client that polls; it lingers after `close`. None: this connection.
            progress_seen: number of the newest progress that a client which polls has, 0 if it has none. None: each
                join brings what there is.
        """
        feed = services.feed
        self._caller = caller
        self._joiner = caller.account_id or caller.client.ip
        self._policy = services.policy
        self._topics = services.topics
        self._feed = feed
        self._presence = services.presence
        self._orders = services.orders
        self._joins = services.joins
        self._refusals = services.refusals
        self._send = send
        self._lingers = viewer is not None
        self._viewer = viewer or Viewer(secrets.token_hex(8))
        self._inbox = feed.inbox(progress_seen)
        self._noticed: set[Outgoing] = set()
        self._joined: dict[str, _Followed | _Stream] = {}
        self._followed: frozenset[str] = frozenset()  # the topics among them
        self._sending = asyncio.Lock()  # a join's reply comes before its data
        self._interjected: Outgoing | None = None

    async def run(self) -> None:
        """Deliver the events, output and progress of everything that was joined, until cancelled.

        Raises:
            OutOfSpace, Unavailable: the ledger cannot be read now.
        """
        while True:
            moved = await self._inbox.next()
            async with self._sending:
                for name in moved - _NOT_JOINED:
                    await self._deliver_moved(name)
                if NOTICES in moved:
                    await self._deliver_notices()
                if PROGRESS in moved:
                    await self._deliver_progress()
                if self._interjected is not None:
                    message, self._interjected = self._interjected, None
                    await self._send(message)

    def interject(self, message: Outgoing) -> None:
        """Have `run` send a message of the transport's own, such as a heartbeat; the newest, if it takes so long."""
        self._interjected = message
        self._inbox.notify(INTERJECTED)

    async def greet(self) -> None:
        """Send the notices to everybody; call it once, after the transport's own greeting."""
        async with self._sending:
            await self._deliver_notices()

    def close(self) -> None:
        """Leave everything."""
        for name in list(self._joined):
            self._leave(name)
        if not self._lingers:
            self._presence.edit(self._viewer, is_dirty=False, expires=False)
        self._feed.close_inbox(self._inbox)

    @property
    def progress_seen(self) -> int:
        """Number of the newest progress that was delivered."""
        return self._inbox.progress_seen

    async def handle(self, message: ClientMessage) -> None:
        """Execute a client's message and reply."""
        try:
            self._policy.require(self._caller, COMMANDS[type(message)])
            known = await self._wait_to_join(message) if isinstance(message, Join) else 0.0
        except DropmillError as error:
            if isinstance(error, Forbidden):
                self._refusals.note_forbidden(self._caller, f"MESSAGE {type(message).__name__.lower()}")
            await self._reply(message.id, error)
            return
        async with self._sending:
            try:
                match message:
                    case Join():
                        brought = await self._join(message)
                        self._joins.charge(self._joiner, max(0, brought - known))
                        return
                    case Leave():
                        if message.topic not in self._joined:
                            raise NotFound("That topic was not joined.")
                        self._leave(message.topic)
                    case Cancel():
                        await self._orders.cancel(self._caller, JobId(message.job_id))
                    case Retry():
                        await self._orders.retry(self._caller, JobId(message.job_id))
                    case Editing():
                        if message.topic != TOPIC_CONFIG:
                            raise NotFound("Only the config can be edited.")
                        self._presence.edit(self._viewer, is_dirty=message.is_dirty, expires=False)
            except DropmillError as error:
                await self._reply(message.id, error)
            else:
                await self._reply(message.id)

    async def _reply(self, re: socket.MessageId, error: DropmillError | None = None) -> None:
        refused = (None, None) if error is None else (error.code, error.detail)
        await self._send(Outgoing(socket.reply(re, *refused)))

    # --- joining -----------------------------------------------------------------------------------------------------

    async def _wait_to_join(self, join: Join) -> float:
        """Wait until the client may join; returns what was charged in advance of what the join brings."""
        cost, known = 1.0, 0.0
        view = self._topics.view_of(self._caller, join.topic)
        if join.after is not None and self._feed.holds(join.topic, view, join.after):
            cost = HELD_COST
        elif join.after is not None and join.topic == TOPIC_ALL:  # it has an event for each cursor
            known = max(0, await self._feed.newest() - join.after)
        await self._joins.admit(self._joiner, cost + known)
        return known

    async def _join(self, join: Join) -> float:
        """Join, and return what it has brought; see `dropmill.live.joins`."""
        if len(self._joined) >= JOINED_MAX and join.topic not in self._joined:
            detail = f"At most {JOINED_MAX} topics a connection."
            await self._send(Outgoing(socket.reply(join.id, socket.TOO_MANY, detail)))
            return 0
        place: Topic | AttemptOutput
        if join.topic.startswith(OUTPUT):
            job_id = JobId(join.topic.removeprefix(OUTPUT))
            place = await self._topics.output(self._caller, job_id, join.attempt)
        else:
            place = await self._topics.authorise(self._caller, join.topic)
        # Follow before reading: a change in between then causes one notification too many, never one too few.
        if isinstance(place, Topic):
            self._feed.follow(place, self._inbox)
        else:
            self._feed.follow_output(place, self._inbox)
        try:
            if isinstance(place, Topic):
                return await self._join_topic(join, place)
            return await self._join_stream(join, place)
        except BaseException:
            if join.topic not in self._joined:
                self._unfollow(place)
            raise

    async def _join_stream(self, join: Join, reader: AttemptOutput) -> float:
        self._joined[join.topic] = place = _Stream(reader=reader, offset=join.after or 0)
        await self._reply(join.id)
        return await self._deliver_output(place)

    async def _join_topic(self, join: Join, topic: Topic) -> float:
        """Join a topic; a cursor of another ledger, or from the future, is of no use."""
        after = join.after if join.ledger in (None, self._topics.of_ledger) else None
        if after is not None and after > self._feed.cursor and after > await self._feed.newest():
            after = None
        if after is not None:
            followed = self._enter(join.topic, topic, Cursor(after))
            await self._reply(join.id)
            brought = await self._deliver_events(followed)
            if not self._lingers:
                await self._deliver_progress_of(topic)
        else:
            state, newest = await topic.snapshot()
            followed = self._enter(join.topic, topic, newest)
            await self._reply(join.id)
            await self._send(Outgoing(socket.snapshot(join.topic, newest, state)))
            brought = _files_in(state)
        await self._deliver_senders(followed)
        await self._deliver_presence(followed)
        await self._deliver_notices()
        return brought

    def _enter(self, name: str, topic: Topic, cursor: Cursor) -> _Followed:
        if name not in self._joined and topic.has_presence:
            self._presence.enter(name, self._viewer, self, lambda: self._inbox.notify(name))
        followed = self._joined[name] = _Followed(topic=topic, cursor=cursor)
        self._followed |= {name}
        return followed

    def _leave(self, name: str) -> None:
        place = self._joined.pop(name)
        self._followed -= {name}
        if isinstance(place, _Followed) and place.topic.has_presence:
            self._presence.leave(name, self._viewer, self, lingers=self._lingers)
        self._unfollow(place.topic if isinstance(place, _Followed) else place.reader)

    def _unfollow(self, place: Topic | AttemptOutput) -> None:
        if isinstance(place, Topic):
            self._feed.leave(place, self._inbox)
        else:
            self._feed.leave_output(place, self._inbox)

    # --- delivering --------------------------------------------------------------------------------------------------

    async def _deliver_moved(self, name: str) -> None:
        """Send what is new of a topic or stream, unless it was left meanwhile."""
        place = self._joined.get(name)
        if isinstance(place, _Followed):
            await self._deliver_events(place)
            await self._deliver_senders(place)
            await self._deliver_presence(place)
        elif isinstance(place, _Stream):
            await self._deliver_output(place)

    async def _deliver_events(self, place: _Followed) -> float:
        """Send the events after the subscriber's cursor; returns how many, those from memory for less."""
        cost = 0.0
        while True:
            batch = await self._feed.events(place.topic, place.cursor)
            if batch.is_cut:
                await self._begin_afresh(place)
                continue
            for message in batch.messages:
                await self._send(message)
                place.cursor = Cursor(message.cursor)
                cost += len(message.events) * (1.0 if batch.was_read else HELD_COST)
            place.cursor = batch.cursor
            if batch.is_last:
                return cost
            await asyncio.sleep(0)  # a fast reader must not keep others from theirs

    async def _deliver_senders(self, place: _Followed) -> None:
        """Say which files are being sent, if that has changed: all of them, so that nothing a client missed counts."""
        if place.topic.senders_stream is None:
            return
        senders = place.topic.senders()
        if senders != place.senders:
            place.senders = senders
            await self._send(Outgoing(socket.sending(place.topic.name, senders)))

    async def _deliver_presence(self, place: _Followed) -> None:
        if not place.topic.has_presence:
            return
        message = self._presence.message(place.topic.name, self._viewer)
        if place.presence is None or message.text != place.presence.text:
            place.presence = message
            await self._send(message)

    async def _deliver_notices(self) -> None:
        now = utc_now()
        for notice, message in [(kept.notice, kept.message) for kept in self._feed.notices]:
            is_to_all = notice.submission_id is None and self._caller.link is None  # else it is for those who work here
            is_ours = is_to_all or f"{SUBMISSION}{notice.submission_id}" in self._followed
            is_ours = is_ours and notice.account_id in (None, self._caller.account_id)
            if is_ours and message not in self._noticed and notice.expires_at > now:
                self._noticed.add(message)
                await self._send(message)

    async def _deliver_progress(self) -> None:
        number = self._feed.progress.number
        await self._send_progress(self._inbox.progress_seen, self._followed)
        self._inbox.progress_seen = number

    async def _deliver_progress_of(self, topic: Topic) -> None:
        """Send what a client that comes with a cursor may have missed; a snapshot has it."""
        await self._send_progress(0, frozenset({topic.name}))

    async def _send_progress(self, seen: int, topics: frozenset[str]) -> None:
        if (
            view_of(self._caller) is View.ARRIVALS
        ):  # it would tell that the script runs; how far the files are, it knows
            return
        message = self._feed.progress.message(seen, topics)
        if message is not None:
            await self._send(message)

    async def _begin_afresh(self, place: _Followed) -> None:
        """Events after the subscriber's cursor were removed: send the current state, then the gap."""
        state, place.cursor = await place.topic.snapshot()
        topic = place.topic.name
        # In this order: a client that joins again when it gets the gap already has the snapshot's cursor.
        await self._send(Outgoing(socket.snapshot(topic, place.cursor, state)))
        await self._send(Outgoing(socket.gap(topic, place.cursor)))

    async def _deliver_output(self, place: _Stream) -> float:
        begin = place.offset
        while True:
            piece = await self._feed.output(place.reader, place.offset)
            if piece is None:
                return (place.offset - begin) // 1024
            await self._send(piece.message)
            place.offset = piece.end


def _files_in(state: SubmissionJson | None) -> int:
    return 0 if state is None else len(state["files"])

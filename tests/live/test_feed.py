"""One reader for all subscribers: rings, catching up, the budget, and what is read how often."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from tests.support import scenarios
from tests.support.fakes.outputs import FakeOutputs
from tests.support.scenarios import CALLER
from tests.support.waiting import eventually

from dropmill.access.policy import Policy
from dropmill.access.refusals import Refusals
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.live import feed as feed_module
from dropmill.live.feed import BLOCK, READS_AT_ONCE, Feed, Inbox
from dropmill.live.guests import View
from dropmill.live.outgoing import EVENTS_MAX, OutgoingEvents
from dropmill.live.topics import Topic, Topics
from dropmill.live.views import Views
from dropmill.model.errors import StorageUnavailable
from dropmill.model.ids import Cursor
from dropmill.ports.ledger.events import EventPage


class CountedReads:
    """A ledger's `events`, counted, and held up while `gate` is closed."""

    def __init__(self, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
        self.topics: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: Exception | None = None
        self._read = ledger.events
        monkeypatch.setattr(ledger, "events", self.events)

    async def events(self, topic: str, **arguments: Any) -> EventPage:
        self.topics.append(topic)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            page = await self._read(topic, **arguments)
            await self.gate.wait()
            if self.fault is not None:
                raise self.fault
            return page
        finally:
            self.at_once -= 1


class Room:
    def __init__(self, ledger: SqliteLedger, bus: LocalBus) -> None:
        self.ledger = ledger
        views = Views(ledger=ledger, bus=bus, received=lambda _: None, senders=lambda _: frozenset())
        self.topics = Topics(
            ledger=ledger, views=views, outputs=FakeOutputs(), policy=Policy(), refusals=Refusals(ledger)
        )
        self.feed = Feed(ledger, bus)

    async def follow(self, name: str) -> tuple[Topic, Inbox]:
        topic, inbox = await self.topics.authorise(CALLER, name), self.feed.inbox()
        self.feed.follow(topic, inbox)
        return topic, inbox

    async def caught_up(self) -> None:
        newest = await self.ledger.newest_cursor()
        await eventually(lambda: self.feed.cursor >= newest)

    async def all_after(self, topic: Topic, after: int) -> tuple[list[int], list[OutgoingEvents]]:
        """The cursors of what follows, and its messages."""
        messages: list[OutgoingEvents] = []
        cursor = Cursor(after)
        while True:
            batch = await self.feed.events(topic, cursor)
            messages += batch.messages
            cursor = batch.cursor
            if batch.is_last:
                return [event.cursor for message in messages for event in message.events], messages


@pytest.fixture
async def room(ledger: SqliteLedger, bus: LocalBus) -> AsyncIterator[Room]:
    made = Room(ledger, bus)
    running = asyncio.create_task(made.feed.run())
    await made.caught_up()
    yield made
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


async def opened(ledger: SqliteLedger, count: int) -> None:
    await asyncio.gather(*(scenarios.opened(ledger) for _ in range(count)))


def texts(messages: Sequence[OutgoingEvents]) -> list[bytes]:
    return [event.text for message in messages for event in message.events]


async def test_many_who_follow_a_topic_cost_one_read(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    followers = [await room.follow("all") for _ in range(50)]
    reads = CountedReads(room.ledger, monkeypatch)
    await scenarios.opened(room.ledger)
    assert [await inbox.next() for _, inbox in followers] == [{"all"}] * 50
    found = [await room.all_after(topic, 1) for topic, _ in followers]
    assert [cursors for cursors, _ in found] == [[2]] * 50
    assert len({id(message) for _, messages in found for message in messages}) == 1  # encoded and framed once
    assert reads.topics == ["all"]


async def test_nobody_there_means_no_read(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = CountedReads(room.ledger, monkeypatch)
    await opened(room.ledger, 5)
    await room.caught_up()
    assert reads.topics == []


async def test_events_reach_each_of_their_topics_and_no_other(room: Room) -> None:
    first, second = await scenarios.opened(room.ledger), await scenarios.opened(room.ledger)
    await room.caught_up()
    topics = [(await room.follow(name))[0] for name in ("all", f"submission:{first}", "config")]
    await scenarios.queued(room.ledger, first)
    await scenarios.queued(room.ledger, second)
    await scenarios.save(room.ledger, b"a: 2\n")
    await room.caught_up()
    everything, of_first, of_config = [await room.all_after(topic, 3) for topic in topics]
    newest = await room.ledger.newest_cursor()
    assert everything[0] == list(range(4, newest + 1))
    own = [event.cursor for event in await scenarios.all_events(room.ledger, f"submission:{first}") if event.cursor > 3]
    assert of_first[0] == own
    assert of_config[0] == [newest]
    assert set(texts(of_first[1])) < set(texts(everything[1]))


async def test_who_is_behind_reads_the_ledger_and_the_next_one_need_not(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened(room.ledger, 2 * EVENTS_MAX)
    await room.caught_up()
    topic, _ = await room.follow("all")
    reads = CountedReads(room.ledger, monkeypatch)
    for _ in range(5):
        cursors, _ = await room.all_after(topic, 1)
        assert cursors == list(range(2, 2 * EVENTS_MAX + 2))
    # The first reads two pages, of which the second reaches the ring; the second client reads the first page again.
    assert len(reads.topics) == 3
    for after in range(1, 2 * EVENTS_MAX, 97):
        assert (await room.all_after(topic, after))[0] == list(range(after + 1, 2 * EVENTS_MAX + 2))
    assert len(reads.topics) == 3


async def test_those_who_catch_up_from_different_places_share_their_messages(room: Room) -> None:
    topic, _ = await room.follow("all")
    await opened(room.ledger, 4 * BLOCK)
    await room.caught_up()
    ways = [(await room.all_after(topic, after))[1] for after in (3, 50, BLOCK)]
    shared = set.intersection(*({id(message) for message in messages} for messages in ways))
    assert len(shared) >= 3


@pytest.mark.parametrize("behind", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5])
async def test_all_who_have_got_as_far_share_all_their_messages_wherever_a_block_ends(room: Room, behind: int) -> None:
    """As all do who are connected when something happens, and all who lost the same server."""
    topic, _ = await room.follow("all")
    await opened(room.ledger, 3 * BLOCK + 7)
    await room.caught_up()
    after = room.feed.cursor - behind
    (cursors, one), (_, other) = await room.all_after(topic, after), await room.all_after(topic, after)
    assert cursors == list(range(after + 1, room.feed.cursor + 1))
    assert [id(message) for message in one] == [id(message) for message in other]
    if behind <= BLOCK:
        assert len(one) == 1


async def test_a_window_is_as_long_as_the_messages_of_the_last_one_were_dear(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, inbox = await room.follow("all")
    monkeypatch.setattr(feed_module, "CPU_IDLE", 1000.0)  # the load of the process counts for nothing
    monkeypatch.setattr(feed_module, "CPU_BUSY", 2000.0)
    windows: list[float] = []
    window_s = room.feed._window_s

    def note_window_s() -> float:
        windows.append(window_s())
        return windows[-1]

    monkeypatch.setattr(room.feed, "_window_s", note_window_s)

    async def send() -> None:
        await inbox.next()
        until = time.thread_time() + 0.01
        while time.thread_time() < until:
            pass

    for _ in range(2):
        sending = asyncio.create_task(send())
        await asyncio.sleep(0)
        await scenarios.opened(room.ledger)
        await sending
    await eventually(lambda: max(windows, default=0.0) >= 0.01 / feed_module.DELIVERY_SHARE)
    assert max(windows) <= feed_module.WINDOW_MAX_S


async def test_at_most_eight_read_at_once_and_reading_holds_up_nobody_who_is_not_behind(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    submissions = [await scenarios.opened(room.ledger) for _ in range(3 * READS_AT_ONCE)]
    topics = [(await room.follow(f"submission:{one}"))[0] for one in submissions]
    near, _ = await room.follow("all")
    await room.caught_up()
    reads = CountedReads(room.ledger, monkeypatch)
    reads.gate.clear()
    behind = [asyncio.ensure_future(room.feed.events(topic, Cursor(0))) for topic in topics]
    await eventually(lambda: reads.at_once == READS_AT_ONCE)
    assert (await room.feed.events(near, room.feed.cursor)).cursor == room.feed.cursor
    reads.gate.set()
    assert all(batch.messages for batch in await asyncio.gather(*behind))
    assert reads.most_at_once <= READS_AT_ONCE + 1  # the feed itself may read


async def test_a_ring_that_is_made_while_the_feed_reads_misses_nothing(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The read may have begun before the event, and end after it."""
    await room.follow("config")
    reads = CountedReads(room.ledger, monkeypatch)
    reads.gate.clear()
    await scenarios.opened(room.ledger)
    await eventually(lambda: reads.at_once == 1)
    topic, inbox = await room.follow("all")
    reads.gate.set()
    assert await inbox.next() == {"all"}
    assert (await room.all_after(topic, 1))[0] == [2]


async def test_the_rings_keep_to_their_budget_and_nothing_is_lost(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    topic, _ = await room.follow("all")
    config, _ = await room.follow("config")
    monkeypatch.setattr(feed_module, "RINGS_BYTES_MAX", 40_000)
    for _ in range(10):
        await opened(room.ledger, BLOCK)
        await scenarios.save(room.ledger, f"a: {await room.ledger.newest_cursor()}\n".encode())
    await room.caught_up()
    await eventually(lambda: room.feed.bytes_in_rings <= 40_000)
    assert (await room.all_after(topic, 0))[0] == list(range(1, await room.ledger.newest_cursor() + 1))
    assert len((await room.all_after(config, 0))[0]) == 11
    assert room.feed.bytes_in_rings <= 40_000


async def test_history_that_is_removed_before_the_feed_reads_it_is_a_gap_for_all(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, inbox = await room.follow("all")
    reads = CountedReads(room.ledger, monkeypatch)
    reads.gate.clear()
    await scenarios.opened(room.ledger)
    await eventually(lambda: reads.at_once == 1)
    await opened(room.ledger, 10)
    newest = await room.ledger.newest_cursor()
    await room.ledger.remove_events(before=scenarios.FAR_FUTURE, up_to=newest, limit=1000)
    reads.gate.set()
    await room.caught_up()
    assert await inbox.next() == {"all"}
    assert (await room.feed.events(topic, Cursor(1))).is_cut
    assert (await room.all_after(topic, newest))[0] == []


async def test_a_ledger_that_cannot_be_read_fails_those_who_follow_and_is_read_again(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "RETRY_S", 0.01)
    topic, inbox = await room.follow("all")
    reads = CountedReads(room.ledger, monkeypatch)
    reads.fault = StorageUnavailable("not now")
    await scenarios.opened(room.ledger)
    with pytest.raises(StorageUnavailable):
        await inbox.next()
    reads.fault = None
    again = room.feed.inbox()
    room.feed.follow(topic, again)
    await scenarios.opened(room.ledger)
    assert await again.next() == {"all"}
    assert (await room.all_after(topic, 1))[0] == [2, 3]


async def test_whoever_holds_a_link_does_not_see_who_sent_it(room: Room) -> None:
    """Both views of one topic are followed at once."""
    submission_id = await scenarios.opened(room.ledger)
    await room.caught_up()
    name = f"submission:{submission_id}"
    guest = await room.topics.authorise(scenarios.GUEST, name)
    full = await room.topics.authorise(CALLER, name)
    assert (full.view, guest.view) == (View.FULL, View.GUEST)
    for topic in (full, guest):
        room.feed.follow(topic, room.feed.inbox())
    await room.ledger.identify_client(submission_id, "pc7.lab.example", True, "lab.example")
    await scenarios.queued(room.ledger, submission_id)
    await room.caught_up()
    for after in (0, 2):  # from the ledger, and from the ring
        seen = b"".join(texts((await room.all_after(full, after))[1]))
        hidden = b"".join(texts((await room.all_after(guest, after))[1]))
        assert seen.count(b'"cursor"') == hidden.count(b'"cursor"') > 2
        for secret in (scenarios.CLIENT.ip.encode(), b"pc7.lab.example"):
            assert secret in seen
            assert secret not in hidden
    state, _ = await guest.snapshot()
    assert state is not None
    assert (state["client"], state["account"]) == (None, None)

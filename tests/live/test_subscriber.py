"""One subscriber on the real ledger and bus: what it joined, it gets, all of it, once, in order."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from tests.support import scenarios
from tests.support.fakes.outputs import FakeOutputs
from tests.support.scenarios import CALLER, LIVENESS_S, SUCCEEDED, all_events
from tests.support.waiting import eventually

from dropmill.access.policy import Policy
from dropmill.access.refusals import Refusals
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.intake.senders import Senders
from dropmill.live import feed, joins, outgoing
from dropmill.live.feed import OUTPUT_BYTES_MAX, Feed
from dropmill.live.joins import JoinRates
from dropmill.live.outgoing import EVENTS_BYTES_MAX, EVENTS_MAX, Outgoing
from dropmill.live.presence import Presence
from dropmill.live.subscriber import JOINED_MAX, LiveServices, Subscriber
from dropmill.live.topics import Topics
from dropmill.live.views import FILES_SHOWN, Views
from dropmill.model.caller import Caller
from dropmill.model.clock import utc_now
from dropmill.model.errors import IllegalTransition, NotFound
from dropmill.model.ids import Cursor, FileId, JobId, SubmissionId
from dropmill.model.jobs import Progress
from dropmill.model.output import OutputPiece
from dropmill.model.uploads import AbortCause
from dropmill.ports.bus import senders_of
from dropmill.wire.socket import Cancel, ClientMessage, Join, Leave, Retry


class FakeOrders:
    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.retried: list[str] = []

    async def cancel(self, caller: Caller, job_id: JobId) -> None:
        assert caller == CALLER
        if job_id == "unknown":
            raise NotFound("There is no such job.")
        self.cancelled.append(job_id)

    async def retry(self, caller: Caller, job_id: JobId) -> None:
        assert caller == CALLER
        if job_id == "queued":
            raise IllegalTransition("The job is queued.")
        self.retried.append(job_id)


class Page:
    """A connection's far end: keeps what it is sent, and folds the events as a page does."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.lengths: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._arrived = asyncio.Event()

    async def send(self, message: Outgoing) -> None:
        await self.gate.wait()
        self.messages.append(json.loads(message.text))
        self.lengths.append(len(message.text))
        self._arrived.set()

    def of(self, kind: str, topic: str | None = None) -> list[dict[str, Any]]:
        found = [message for message in self.messages if message["type"] == kind]
        return [message for message in found if topic is None or message["topic"] == topic]

    def cursors(self, topic: str = "all") -> list[int]:
        """Cursors of the events it was sent; every message's own cursor is its last event's."""
        found: list[int] = []
        for message in self.of("events", topic):
            found += [event["cursor"] for event in message["events"]]
            assert message["cursor"] == found[-1]
        return found

    def text(self) -> str:
        """The output it was sent; each piece begins where the one before ended."""
        pieces = self.of("output")
        for before, after in pairwise(pieces):
            assert before["end"] <= after["offset"]
        return "".join(piece["text"] for piece in pieces)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIVENESS_S):
            while not condition():
                self._arrived.clear()
                await self._arrived.wait()


class Room:
    """What subscribers need."""

    def __init__(self, ledger: SqliteLedger, bus: LocalBus) -> None:
        self.ledger, self.bus = ledger, bus
        self.outputs, self.orders = FakeOutputs(), FakeOrders()
        self.joins = JoinRates(1e9)
        self.senders = Senders(bus)
        self.views = Views(ledger=ledger, bus=bus, received=lambda _: 5, senders=self.senders.of)
        self.refusals = Refusals(ledger)
        self.topics = self.topics_of(Policy())
        self.feed, self.presence = Feed(ledger, bus), Presence()

    def topics_of(self, policy: Policy) -> Topics:
        """What callers may follow by another policy."""
        return Topics(ledger=self.ledger, views=self.views, outputs=self.outputs, policy=policy, refusals=self.refusals)

    async def caught_up(self) -> None:
        """Return when the feed has read what was committed; otherwise a join gets the rest a window later."""
        newest = await self.ledger.newest_cursor()
        await eventually(lambda: self.feed.cursor >= newest)

    @asynccontextmanager
    async def page(
        self, caller: Caller = CALLER
    ) -> AsyncIterator[tuple[Page, Callable[..., Awaitable[dict[str, Any]]]]]:
        """A page and how it says something; what it says answers with the reply."""
        page = Page()
        services = LiveServices(
            policy=Policy(),
            topics=self.topics,
            feed=self.feed,
            presence=self.presence,
            orders=self.orders,
            joins=self.joins,
            refusals=self.refusals,
        )
        subscriber = Subscriber(caller, services=services, send=page.send)

        async def say(message: ClientMessage) -> dict[str, Any]:
            await self.caught_up()
            before = len(page.of("reply"))
            await subscriber.handle(message)
            reply = page.of("reply")[before]
            assert reply["re"] == message.id
            return reply

        await subscriber.greet()
        running = asyncio.create_task(subscriber.run())
        await asyncio.sleep(0)
        try:
            yield page, say
        finally:
            running.cancel()
            await asyncio.wait([running])
            assert running.cancelled()
            subscriber.close()


@pytest.fixture
async def room(ledger: SqliteLedger, bus: LocalBus) -> AsyncIterator[Room]:
    made = Room(ledger, bus)
    running = asyncio.create_task(made.feed.run())
    await asyncio.sleep(0)
    yield made
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


def join(topic: str, after: int | None = None, *, attempt: int | None = None) -> Join:
    return Join(id=f"join {topic}", topic=topic, ledger=None, after=after, attempt=attempt)


# --- joining topics --------------------------------------------------------------------------------------------------


async def test_a_join_without_a_cursor_gets_a_snapshot_and_then_what_follows(room: Room) -> None:
    submission_id = await scenarios.opened(room.ledger)
    job_id = await scenarios.queued(room.ledger, submission_id)
    topic = f"submission:{submission_id}"
    async with room.page() as (page, say):
        assert (await say(join(topic)))["ok"]
        reply, snapshot, sending, presence = page.messages
        assert (reply["type"], snapshot["type"], sending["type"]) == ("reply", "snapshot", "sending")
        assert presence == {"type": "presence", "topic": topic, "watching": 0, "names": None, "editing": False}
        cursor = await room.ledger.newest_cursor()
        assert (snapshot["topic"], snapshot["cursor"]) == (topic, cursor)
        state = snapshot["state"]
        assert (state["id"], state["state"], state["counts"]["queued"]) == (submission_id, "open", 1)
        (file,) = state["files"]
        assert (file["job"]["id"], file["job"]["position"], state["files_next"]) == (job_id, 1, None)
        await scenarios.claimed(room.ledger)
        await scenarios.opened(room.ledger)  # of no interest here
        await room.ledger.seal_submission(submission_id)
        await page.until(lambda: len(page.cursors(topic)) == 2)
        assert page.cursors(topic) == [cursor + 1, cursor + 3]
    # `all` and `config` are only events: their snapshot has no state.
    async with room.page() as (page, say):
        for topic in ("all", "config"):
            await say(join(topic))
            assert page.of("snapshot", topic)[0]["state"] is None


async def test_a_snapshot_shows_the_first_files_and_where_the_rest_begins(room: Room) -> None:
    submission_id = await scenarios.opened(room.ledger)
    paths = [f"{number}.txt" for number in range(FILES_SHOWN + 5)]
    await asyncio.gather(*(scenarios.receiving(room.ledger, submission_id, path) for path in paths))
    async with room.page() as (page, say):
        await say(join(f"submission:{submission_id}"))
        state = page.of("snapshot")[0]["state"]
        assert len(state["files"]) == FILES_SHOWN
        assert {file["received"] for file in state["files"]} == {5}
        rest, following = await room.views.files(
            CALLER, submission_id, after=state["files_next"], limit=100, state=None
        )
        assert sorted([*(file["path"] for file in state["files"]), *(file["path"] for file in rest)]) == sorted(paths)
        assert following is None


@pytest.mark.parametrize("after", [0, 1, 4, 9])
async def test_a_join_after_a_cursor_replays_from_there_and_follows(room: Room, after: int) -> None:
    for _ in range(8):
        await scenarios.opened(room.ledger)
    async with room.page() as (page, say):
        await say(join("all", after))
        assert page.of("snapshot") == []
        assert page.cursors() == list(range(after + 1, 10))
        await scenarios.opened(room.ledger)
        await page.until(lambda: bool(page.cursors()) and page.cursors()[-1] == 10)
        assert page.cursors() == list(range(after + 1, 11))


async def test_events_have_the_contracts_shape(room: Room) -> None:
    await scenarios.opened(room.ledger)
    async with room.page() as (page, say):
        await say(join("all", 1))
        (event,) = page.of("events")[0]["events"]
        assert set(event) == {"cursor", "at", "name", "subject", "data"}
        assert event["name"] == "submission.opened"
        assert event["subject"]["client"]["ip"] == scenarios.CLIENT.ip


async def test_a_cursor_from_the_future_begins_afresh(room: Room) -> None:
    """The page knew another ledger; what it shows is of no use."""
    async with room.page() as (page, say):
        await say(join("all", 99))
        assert page.of("snapshot") == [{"type": "snapshot", "topic": "all", "cursor": 1, "state": None}]
        await scenarios.opened(room.ledger)
        await page.until(lambda: page.cursors() == [2])


@pytest.mark.parametrize(
    "topic",
    ["*", "x' OR 1=1--", "", "stats", "account:", "submission:", "submission:" + "0" * 32, "output:" + "0" * 32],
)
async def test_a_topic_that_does_not_exist_is_not_found_and_not_followed(room: Room, topic: str) -> None:
    async with room.page() as (page, say):
        reply = await say(join(topic, 0))
        assert (reply["ok"], reply["error"]["code"]) == (False, "not_found")
        assert [message["type"] for message in page.messages] == ["reply"]
        assert not room.feed.follows(topic)


async def test_after_leaving_nothing_more_comes(room: Room) -> None:
    async with room.page() as (page, say):
        await say(join("all"))
        await say(join("config"))
        assert (await say(Leave(id=2, topic="all")))["ok"]
        await scenarios.opened(room.ledger)
        await scenarios.save(room.ledger, b"a: 2\n")
        await page.until(lambda: bool(page.of("events")))
        assert page.of("events", "all") == []
        assert page.cursors("config") == [3]
        reply = await say(Leave(id=3, topic="all"))
        assert reply["error"]["code"] == "not_found"


async def test_joining_again_begins_where_it_is_asked_to(room: Room) -> None:
    async with room.page() as (page, say):
        await say(join("all", 0))
        await say(join("all", 0))
        assert page.cursors() == [1, 1]
        await scenarios.opened(room.ledger)
        await page.until(lambda: len(page.cursors()) == 3)


async def test_too_many_topics_are_refused_and_those_joined_stay(room: Room) -> None:
    submission_id = await scenarios.opened(room.ledger)
    jobs = await asyncio.gather(*(scenarios.queued(room.ledger, submission_id) for _ in range(JOINED_MAX - 1)))
    async with room.page() as (_, say):
        await say(join("all"))
        for job_id in jobs:
            assert (await say(join(f"output:{job_id}", 0)))["ok"]
        reply = await say(join("config"))
        assert (reply["ok"], reply["error"]["code"]) == (False, "too_many")
        assert (await say(join("all")))["ok"]  # one that is joined is no further one
        await say(Leave(id=1, topic="all"))
        assert (await say(join("config")))["ok"]


# --- no hole, no double ----------------------------------------------------------------------------------------------


async def test_no_subscriber_misses_an_event_or_gets_one_twice(room: Room) -> None:
    """Pages that join at random moments, leave, and join again after their cursor, while many write."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    submissions = [await scenarios.opened(room.ledger) for _ in range(3)]

    async def write() -> None:
        for _ in range(40):
            await asyncio.gather(
                *(scenarios.settle_one(room.ledger, chance.choice(submissions)) for _ in range(chance.randint(1, 4)))
            )

    async def watch() -> None:
        topic = chance.choice(["all", *(f"submission:{one}" for one in submissions)])
        async with room.page() as (page, say):
            begin: int | None = None
            for _ in range(chance.randint(1, 5)):
                await asyncio.sleep(chance.random() * 0.05)
                seen = page.cursors(topic)
                await say(join(topic, seen[-1] if seen else begin))
                if begin is None:
                    begin = page.of("snapshot")[0]["cursor"]
                await asyncio.sleep(chance.random() * 0.05)
                await say(Leave(id=0, topic=topic))
            await writing
            seen = page.cursors(topic)
            await say(join(topic, seen[-1] if seen else begin))
            assert begin is not None
            expected = [event.cursor for event in await all_events(room.ledger, topic) if event.cursor > begin]
            assert page.cursors(topic) == expected

    async def follow() -> None:
        """Joins once and stays."""
        async with room.page() as (page, say):
            await asyncio.sleep(chance.random() * 0.1)
            await say(join("all", 0))
            await writing
            newest = await room.ledger.newest_cursor()
            await page.until(lambda: page.cursors()[-1] == newest)
            assert page.cursors() == list(range(1, newest + 1))

    writing = asyncio.create_task(write())
    await asyncio.gather(*(watch() for _ in range(6)), *(follow() for _ in range(4)))


async def test_a_slow_reader_costs_few_messages_and_misses_nothing(room: Room) -> None:
    async with room.page() as (page, say):
        await say(join("all", 0))
        page.gate.clear()
        for _ in range(40):
            await scenarios.opened(room.ledger)
        page.gate.set()
        await page.until(lambda: page.cursors()[-1] == 41)
        assert page.cursors() == list(range(1, 42))
        assert len(page.of("events")) <= 4


# --- sizes -----------------------------------------------------------------------------------------------------------


async def test_a_message_holds_at_most_500_events(room: Room) -> None:
    await asyncio.gather(*(scenarios.opened(room.ledger) for _ in range(2 * EVENTS_MAX + 10)))
    async with room.page() as (page, say):
        await say(join("all", 0))
        assert [len(message["events"]) for message in page.of("events")] == [EVENTS_MAX, EVENTS_MAX, 11]
        assert page.cursors() == list(range(1, 2 * EVENTS_MAX + 12))


async def test_events_in_a_row_are_gathered_and_none_is_lost(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "WINDOW_MIN_S", 1.0)
    monkeypatch.setattr(feed, "WINDOW_MAX_S", 1.0)
    async with room.page() as (page, say):
        await say(join("all", 1))
        await scenarios.opened(room.ledger)
        await page.until(lambda: page.cursors() == [2])  # what comes after a rest comes by itself
        for _ in range(20):
            await scenarios.opened(room.ledger)
        await page.until(lambda: page.cursors() == list(range(2, 23)))
        assert len(page.of("events")) < 21


@pytest.mark.parametrize("limit", range(1000, 1600, 30))
async def test_a_message_with_all_that_is_around_its_events_keeps_to_its_size(
    room: Room, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(outgoing, "EVENTS_BYTES_MAX", limit)
    for _ in range(12):
        await scenarios.opened(room.ledger)
    async with room.page() as (page, say):
        await say(join("all", 1))
        assert page.cursors() == list(range(2, 14))
        sizes = [length for message, length in zip(page.messages, page.lengths, strict=True) if "events" in message]
        assert max(sizes) <= limit
        assert len(sizes) < 12


async def test_a_message_is_at_most_a_mebibyte(room: Room) -> None:
    submission_id = await scenarios.opened(room.ledger)
    name = "\U0001f4a9" * 1000  # the longest that a client may send; 12 bytes a character in JSON
    await asyncio.gather(*(scenarios.receiving(room.ledger, submission_id, name) for _ in range(150)))
    async with room.page() as (page, say):
        await say(join("all", 0))
        assert page.cursors() == list(range(1, 153))
        assert max(page.lengths) <= EVENTS_BYTES_MAX
        assert len(page.of("events")) >= 3


# --- output ----------------------------------------------------------------------------------------------------------


async def _with_attempt(room: Room) -> JobId:
    return await scenarios.running(room.ledger, await scenarios.opened(room.ledger))


async def _write(room: Room, job_id: JobId, data: bytes, *, number: int = 1) -> None:
    end = (await room.outputs.read(job_id, number, 0, 1)).end
    await room.outputs.append([OutputPiece(job_id=job_id, number=number, offset=end, data=data, began_at=utc_now())])
    room.bus.publish({f"output:{job_id}": end + len(data)})


async def _end(room: Room, job_id: JobId) -> None:
    """The attempt ends, and its followers get one more notification."""
    await room.ledger.end_attempt(job_id, 1, SUCCEEDED)
    room.bus.publish({f"output:{job_id}": (await room.outputs.read(job_id, 1, 0, 1)).end})


async def test_output_is_continuous_and_no_character_is_split(room: Room) -> None:
    """The bytes arrive one by one; pieces always hold whole characters."""
    job_id = await _with_attempt(room)
    text = "a\u00e9\u20ac\U0001f4a9b\u0301\n" * 3
    async with room.page() as (page, say):
        await say(join(f"output:{job_id}", 0))
        for byte in text.encode():
            await _write(room, job_id, bytes([byte]))
            await asyncio.sleep(0)
        await page.until(lambda: page.text() == text)
        pieces = page.of("output")
        assert "\ufffd" not in page.text()
        assert [piece["offset"] for piece in pieces] == [0, *(piece["end"] for piece in pieces[:-1])]
        assert pieces[-1]["end"] == len(text.encode())
        assert {(piece["job_id"], piece["attempt"]) for piece in pieces} == {(job_id, 1)}


async def test_large_output_comes_in_pieces_that_split_no_character(room: Room) -> None:
    job_id = await _with_attempt(room)
    text = "x" + "\u20ac" * OUTPUT_BYTES_MAX
    await _write(room, job_id, text.encode())
    await _end(room, job_id)
    async with room.page() as (page, say):
        await say(join(f"output:{job_id}", 0))
        assert page.text() == text
        assert all(piece["end"] - piece["offset"] <= OUTPUT_BYTES_MAX for piece in page.of("output"))


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"a\xe2\x82", b"\xf0\x9f", b"\xe2(\xa1", b"\x80\x80\x80\x80"])
async def test_bytes_that_are_no_text_are_replaced_and_none_is_held_back_at_the_end(room: Room, data: bytes) -> None:
    job_id = await _with_attempt(room)
    async with room.page() as (page, say):
        await say(join(f"output:{job_id}", 0))
        await _write(room, job_id, data)
        await asyncio.sleep(0.01)
        await _end(room, job_id)
        await page.until(lambda: bool(page.of("output")) and page.of("output")[-1]["end"] == len(data))
        assert page.of("output")[0]["offset"] == 0


async def test_output_is_joined_at_a_byte_and_shows_what_was_not_kept(room: Room) -> None:
    job_id = await _with_attempt(room)
    await _write(room, job_id, b"0123456789")
    async with room.page() as (page, say):
        await say(join(f"output:{job_id}", 4))
        assert page.text() == "456789"
        late = OutputPiece(job_id=job_id, number=1, offset=15, data=b"keptmore", began_at=utc_now())
        await room.outputs.append([late])  # the bytes between were not kept
        room.bus.publish({f"output:{job_id}": 23})
        await page.until(lambda: len(page.of("output")) == 2)
        assert (page.of("output")[1]["offset"], page.of("output")[1]["end"]) == (15, 23)


async def test_output_of_a_job_that_waits_begins_with_its_first_attempt(room: Room) -> None:
    job_id = await scenarios.queued(room.ledger, await scenarios.opened(room.ledger))
    async with room.page() as (page, say):
        assert (await say(join(f"output:{job_id}", 0)))["ok"]
        await scenarios.claimed(room.ledger)
        await _write(room, job_id, b"begun")
        await page.until(lambda: page.text() == "begun")


async def test_output_is_of_the_newest_attempt_unless_another_is_asked_for(room: Room) -> None:
    job_id = await _with_attempt(room)
    await room.ledger.end_attempt(job_id, 1, SUCCEEDED)
    await room.ledger.retry_job(job_id)
    await scenarios.claimed(room.ledger)
    await _write(room, job_id, b"first", number=1)
    await _write(room, job_id, b"second", number=2)
    topic = f"output:{job_id}"
    for attempt, text in ((None, "second"), (1, "first"), (2, "second")):
        async with room.page() as (page, say):
            await say(join(topic, 0, attempt=attempt))
            assert page.text() == text
    async with room.page() as (page, say):
        reply = await say(join(topic, 0, attempt=3))
        assert reply["error"]["code"] == "not_found"
        await _write(room, job_id, b"more", number=2)
        await asyncio.sleep(0.01)
        assert page.of("output") == []


# --- who is sending --------------------------------------------------------------------------------------------------


async def test_a_page_hears_which_files_are_being_sent_when_it_joins_and_at_each_change(room: Room) -> None:
    submission_id = await scenarios.opened(room.ledger)
    one, two = [await scenarios.receiving(room.ledger, submission_id, name) for name in ("one", "two")]
    topic = f"submission:{submission_id}"
    senders = [room.senders.sender(file_id) for file_id in (one, two)]
    senders[0].begin(submission_id)
    async with room.page() as (page, say):
        await say(join(topic, await room.ledger.newest_cursor()))
        assert page.of("sending") == [{"type": "sending", "topic": topic, "file_ids": [one]}]
        senders[1].begin(submission_id)
        await page.until(lambda: page.of("sending")[-1]["file_ids"] == sorted([one, two]))
        for sender in senders:
            sender.end()
        await page.until(lambda: page.of("sending")[-1]["file_ids"] == [])
        assert len(page.of("sending")) == 3
        await say(Leave(id="leave", topic=topic))
        senders[0].begin(submission_id)
        room.bus.publish({senders_of(submission_id): 9})
        await say(join("config"))
        assert len(page.of("sending")) == 3


async def test_a_page_that_comes_back_hears_that_nobody_sends_any_more(room: Room) -> None:
    """No event says so: the server may have been killed meanwhile."""
    submission_id = await scenarios.opened(room.ledger)
    async with room.page() as (page, say):
        await say(join(f"submission:{submission_id}", await room.ledger.newest_cursor()))
        assert [message["file_ids"] for message in page.of("sending")] == [[]]
        await say(join("all"))
        assert len(page.of("sending")) == 1


async def test_a_file_says_whether_it_is_being_sent(room: Room) -> None:
    submission_id = await scenarios.opened(room.ledger)
    file_id = await scenarios.receiving(room.ledger, submission_id)
    sender = room.senders.sender(file_id)

    async def is_sending() -> bool:
        shape, _ = await room.views.submission(CALLER, submission_id)
        return shape["files"][0]["is_sending"]

    assert not await is_sending()
    sender.begin(submission_id)
    assert await is_sending()
    await room.ledger.abort_upload(file_id, AbortCause.CUT_OFF, "given up")
    assert not await is_sending()  # whatever still comes of it


# --- progress and orders ---------------------------------------------------------------------------------------------


async def test_a_join_after_a_cursor_brings_the_progress_there_is(room: Room) -> None:
    """It may be the last for long: a script that says "half way" and works on in silence."""
    submission_id = await scenarios.opened(room.ledger)
    room.bus.report(Progress(submission_id=submission_id, file_id=FileId("f"), stage="process", value=1))
    await eventually(lambda: room.feed.progress.number)
    async with room.page() as (page, say):
        await say(join("config", 0))
        assert page.of("progress") == []
        await say(join(f"submission:{submission_id}", await room.ledger.newest_cursor()))
        assert [[file["value"] for file in report["files"]] for report in page.of("progress")] == [[1]]


async def test_progress_reaches_those_who_follow_the_newest_only(room: Room) -> None:
    submission_id = await scenarios.opened(room.ledger)
    async with room.page() as (page, say):
        await say(join(f"submission:{submission_id}"))
        for value in range(50):
            room.bus.report(
                Progress(submission_id=submission_id, file_id=FileId("f"), stage="process", value=value, total=50)
            )
        room.bus.report(Progress(submission_id=SubmissionId("other"), file_id=FileId("g"), stage="process", value=1))
        await page.until(lambda: bool(page.of("progress")))
        report = {"file_id": "f", "stage": "process", "value": 49, "total": 50, "label": None}
        assert page.of("progress") == [{"type": "progress", "files": [report]}]


async def test_orders_are_carried_out_or_answered_with_their_error(room: Room) -> None:
    async with room.page() as (_, say):
        assert (await say(Cancel(id=1, job_id="a")))["ok"]
        assert (await say(Retry(id=2, job_id="b")))["ok"]
        assert (await say(Cancel(id=3, job_id="unknown")))["error"]["code"] == "not_found"
        reply = await say(Retry(id=4, job_id="queued"))
        assert reply["error"] == {"code": "illegal_transition", "detail": "The job is queued."}
    assert (room.orders.cancelled, room.orders.retried) == (["a"], ["b"])


async def test_a_subscriber_that_ends_hears_nothing_more(room: Room) -> None:
    async with room.page() as (page, say):
        await say(join("all"))
        assert room.feed.follows_anything
    await scenarios.opened(room.ledger)
    assert not room.feed.follows_anything
    assert page.of("events") == []
    assert (await room.ledger.events("all", after=Cursor(0), limit=9)).cursor == 2


# --- what joins cost -------------------------------------------------------------------------------------------------


async def history(ledger: SqliteLedger) -> None:
    """Some dozens of events."""
    submission_id = await scenarios.opened(ledger)
    for number in range(10):
        await scenarios.queued(ledger, submission_id, f"{number}.txt")


async def test_joins_that_bring_a_whole_history_wait_until_it_is_paid_for(room: Room, ledger: SqliteLedger) -> None:
    await history(ledger)
    room.joins = JoinRates(1.0)  # a second each, ten at once
    async with room.page() as (page, say):
        joining = [asyncio.ensure_future(say(join("all", 0))) for _ in range(600)]
        await page.until(lambda: len(page.of("events")) > 0)
        await asyncio.sleep(0.2)
        assert len(page.of("reply")) == 1
        for one in joining:
            one.cancel()
        await asyncio.wait(joining)


async def test_joins_that_bring_little_do_not_wait(room: Room, ledger: SqliteLedger) -> None:
    await history(ledger)
    newest = await ledger.newest_cursor()
    room.joins = JoinRates(100.0)
    async with room.page() as (page, say):
        for _ in range(500):
            assert (await say(join("all", newest)))["ok"]
        assert len(page.of("events")) == 0


async def test_a_join_of_one_address_does_not_hold_up_another() -> None:
    rates = JoinRates(1.0)
    await rates.admit(CALLER.client.ip, 1e9)
    waiting = asyncio.create_task(rates.admit(CALLER.client.ip, 1))
    await rates.admit("10.0.0.2", 1)
    assert not waiting.done()
    waiting.cancel()


async def test_addresses_that_joined_nothing_lately_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joins, "ACCOUNTS_KEPT", 3)
    rates = JoinRates(1e6)
    for number in range(50):
        await rates.admit(f"10.0.0.{number}", 0)
    assert len(rates._accounts) <= 3

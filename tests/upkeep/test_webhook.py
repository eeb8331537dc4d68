"""The webhook's calls: what they say, how long they wait, when they are given up."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import scenarios
from tests.support.clocks import DAY_S, WallClock
from tests.support.receiver import Receiver

from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.clock import utc_now
from dropmill.model.deliveries import Delivery
from dropmill.model.errors import SettingsError
from dropmill.model.ids import SubmissionId
from dropmill.model.submissions import Counts
from dropmill.upkeep.webhook import Webhook, body_of, signature

LIVENESS_S = 20.0


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture
async def telling(tmp_path: Path, bus: LocalBus) -> AsyncIterator[SqliteLedger]:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", bus.publish, records_deliveries=True)
    await ledger.open()
    await ledger.enter(scenarios.node())
    await scenarios.save(ledger)
    yield ledger
    await ledger.close()


async def settle(ledger: SqliteLedger) -> SubmissionId:
    submission_id = await scenarios.opened(ledger)
    await scenarios.settled(ledger, submission_id)
    await ledger.seal_submission(submission_id)
    return submission_id


@contextlib.asynccontextmanager
async def calling(ledger: SqliteLedger, bus: LocalBus, url: str, **options: Any) -> AsyncIterator[None]:
    running = asyncio.create_task(Webhook(ledger=ledger, bus=bus, url=url, secret="s", **options).run())
    try:
        yield
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def until_none_is_left(ledger: SqliteLedger) -> None:
    async with asyncio.timeout(LIVENESS_S):
        while await ledger.deliveries(10):  # noqa: ASYNC110 - a ledger has no event for it
            await asyncio.sleep(0.01)


async def test_a_settled_submission_is_told_at_once(telling: SqliteLedger, bus: LocalBus, receiver: Receiver) -> None:
    before = await settle(telling)
    async with calling(telling, bus, receiver.url):
        await until_none_is_left(telling)
        after = await settle(telling)  # by a hint: the poll comes much later
        async with asyncio.timeout(LIVENESS_S):
            while len(receiver.calls) < 2:  # noqa: ASYNC110 - another thread's list
                await asyncio.sleep(0.01)
        await until_none_is_left(telling)
    assert receiver.taken() == [(before, 1), (after, 1)]


async def test_who_does_not_answer_in_time_is_called_again(
    telling: SqliteLedger, bus: LocalBus, receiver: Receiver
) -> None:
    receiver.free.clear()
    submission_id = await settle(telling)
    async with calling(telling, bus, receiver.url, timeout_s=0.2):
        async with asyncio.timeout(LIVENESS_S):
            while (await telling.deliveries(1))[0].tries == 0:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.01)
        (waiting,) = await telling.deliveries(1)
        assert waiting.due_at > waiting.settled_at
        receiver.free.set()
        await until_none_is_left(telling)
    assert (submission_id, 1) in receiver.taken()


async def test_after_a_day_a_call_that_fails_is_the_last_and_the_next_number_has_its_turn(
    telling: SqliteLedger, bus: LocalBus, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    submission_id = await settle(telling)
    receiver.answers = [500]
    async with calling(telling, bus, receiver.url, give_up_s=0.0):
        await until_none_is_left(telling)
        (job,) = (await telling.jobs(before=None, limit=1)).items
        await telling.retry_job(job.id)
        await scenarios.claimed(telling)
        await telling.end_attempt(job.id, 2, scenarios.SUCCEEDED)
        async with asyncio.timeout(LIVENESS_S):
            while not receiver.taken():  # noqa: ASYNC110 - another thread's list
                await asyncio.sleep(0.01)
        await until_none_is_left(telling)
    assert receiver.taken() == [(submission_id, 2)]
    assert "given up" in caplog.text


async def test_each_try_in_vain_waits_longer(telling: SqliteLedger, bus: LocalBus, receiver: Receiver) -> None:
    receiver.answers = [503] * 100
    submission_id = await settle(telling)
    delays = []
    for tries in (0, 3, 6, 60):
        await make_due(telling, tries)
        before = len(receiver.calls)
        async with calling(telling, bus, receiver.url):
            async with asyncio.timeout(LIVENESS_S):
                while (await telling.deliveries(1))[0].tries == tries:  # noqa: ASYNC110 - the same
                    await asyncio.sleep(0.01)
        (delivery,) = await telling.deliveries(1)
        delays.append((delivery.due_at - utc_now()).total_seconds())
        assert len(receiver.calls) == before + 1
    assert delivery.submission_id == submission_id
    assert delays[0] < 2 < delays[1] < 10 < delays[2] < 80 < 3000 < delays[3] < 4000


async def test_a_clock_that_steps_forward_gives_no_call_up(
    telling: SqliteLedger, bus: LocalBus, receiver: Receiver, wall_clock: WallClock
) -> None:
    """Point 10: the day of tries is a day that has passed."""
    receiver.answers = [500]
    submission_id = await settle(telling)
    wall_clock.step(30 * DAY_S)
    async with calling(telling, bus, receiver.url, clock=wall_clock.clock):
        await until_none_is_left(telling)
    assert receiver.taken() == [(submission_id, 1)]


async def test_a_clock_that_steps_back_delays_no_call(
    telling: SqliteLedger, bus: LocalBus, receiver: Receiver, wall_clock: WallClock
) -> None:
    """Point 10: neither the first one nor its repetition."""
    submission_id = await settle(telling)
    wall_clock.step(-30 * DAY_S)
    receiver.answers = [500]
    async with calling(telling, bus, receiver.url, clock=wall_clock.clock):
        async with asyncio.timeout(LIVENESS_S):
            while (await telling.deliveries(1))[0].tries == 0:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.01)
        wall_clock.step(-30 * DAY_S)
        await until_none_is_left(telling)
    assert receiver.taken() == [(submission_id, 1)]


async def make_due(ledger: SqliteLedger, tries: int) -> None:
    path = ledger._engine.url.database
    assert path is not None
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE deliveries SET tries = ?, due_at = '2026-01-01T00:00:00.000Z'", (tries,))
    connection.close()


def test_the_body_says_what_settled_and_where_it_is() -> None:
    at = utc_now().replace(year=2026, month=1, day=2, hour=3, minute=4, second=5, microsecond=60_000)
    delivery = Delivery(
        submission_id=SubmissionId("abc"), number=3, settled_at=at, counts=Counts(failed=1), tries=0, due_at=at
    )
    told = json.loads(body_of(delivery))
    assert (told["event"], told["submission_id"], told["number"]) == ("submission.settled", "abc", 3)
    assert told["settled_at"] == "2026-01-02T03:04:05.060Z"
    assert told["counts"]["failed"] == 1
    assert set(told["links"]) == {"submission", "files", "results", "page"}
    assert told["links"]["page"] == "/submissions/abc"
    public = json.loads(body_of(delivery, "https://drop.example/x"))["links"]
    assert public == {name: f"https://drop.example/x{path}" for name, path in told["links"].items()}


def test_the_signature_is_over_time_and_body() -> None:
    digest = hmac.new(b"secret", b'1700000000.{"a":1}', hashlib.sha256).hexdigest()
    assert signature(b"secret", 1700000000, b'{"a":1}') == f"t=1700000000,v1={digest}"


def test_an_address_that_no_client_takes_is_refused(ledger: SqliteLedger, bus: LocalBus) -> None:
    with pytest.raises(SettingsError, match="--on-settled"):
        Webhook(ledger=ledger, bus=bus, url="http://a.example:port/", secret=None)

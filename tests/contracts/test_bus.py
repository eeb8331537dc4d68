"""What every bus promises. A further engine joins by a fixture parameter."""

import asyncio

import pytest
from tests.support.fakes.bus import FakeBus
from tests.support.scenarios import LIVENESS_S

from dropmill.engines.local.bus import PROGRESS_MAX, LocalBus
from dropmill.model.ids import FileId, SubmissionId
from dropmill.model.jobs import Progress
from dropmill.ports.bus import Bus, Notification, Subscription

ENGINES = {"local": LocalBus, "fake": FakeBus}


@pytest.fixture(name="bus", params=ENGINES)
def _bus(request: pytest.FixtureRequest) -> Bus:
    return ENGINES[request.param]()


def report(value: float, file: str = "f1", submission: str = "s1", stage: str = "upload") -> Progress:
    return Progress(submission_id=SubmissionId(submission), file_id=FileId(file), stage=stage, value=value)


async def soon(subscription: Subscription) -> Notification:
    async with asyncio.timeout(LIVENESS_S):
        return await subscription.next()


async def hears_nothing(subscription: Subscription) -> bool:
    waiting = asyncio.ensure_future(subscription.next())
    for _ in range(5):
        await asyncio.sleep(0)
    is_waiting = not waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])
    return is_waiting


async def test_only_joined_topics_are_heard_of(bus: Bus) -> None:
    subscription = bus.subscribe()
    bus.publish({"config": 1})
    subscription.join("config")
    assert await hears_nothing(subscription)
    bus.publish({"config": 2, "all": 2})
    assert (await soon(subscription)).positions == {"config": 2}
    subscription.leave("config")
    bus.publish({"config": 3})
    assert await hears_nothing(subscription)


async def test_the_newest_position_replaces_those_not_yet_taken(bus: Bus) -> None:
    subscription = bus.subscribe()
    subscription.join("all")
    subscription.join("config")
    for cursor in range(1, 10_001):
        bus.publish({"all": cursor})  # never blocks, however slow the subscriber
    bus.publish({"config": 7})
    assert (await soon(subscription)).positions == {"all": 10_000, "config": 7}
    assert await hears_nothing(subscription)


async def test_every_subscriber_has_a_mailbox_of_its_own(bus: Bus) -> None:
    quick, slow = bus.subscribe(), bus.subscribe()
    quick.join("all")
    slow.join("all")
    for cursor in (1, 2, 3):
        bus.publish({"all": cursor})
        assert (await soon(quick)).positions == {"all": cursor}
    assert (await soon(slow)).positions == {"all": 3}


async def test_a_waiting_subscriber_is_woken(bus: Bus) -> None:
    subscription = bus.subscribe()
    subscription.join("all")
    waiting = asyncio.create_task(soon(subscription))
    await asyncio.sleep(0)
    bus.publish({"all": 1})
    assert (await waiting).positions == {"all": 1}


async def test_a_cancelled_wait_loses_nothing(bus: Bus) -> None:
    subscription = bus.subscribe()
    subscription.join("all")
    assert await hears_nothing(subscription)
    bus.publish({"all": 1})
    assert (await soon(subscription)).positions == {"all": 1}


async def test_a_closed_subscription_hears_nothing_more(bus: Bus) -> None:
    subscription = bus.subscribe()
    subscription.join("all")
    subscription.join("submission:s1")
    subscription.close()
    bus.publish({"all": 1})
    bus.report(report(1))
    assert await hears_nothing(subscription)


async def test_leaving_what_was_never_joined_is_no_error(bus: Bus) -> None:
    other, subscription = bus.subscribe(), bus.subscribe()
    other.join("all")
    subscription.leave("all")
    subscription.leave("config")
    bus.publish({"all": 1})
    assert (await soon(other)).positions == {"all": 1}


async def test_progress_is_heard_by_those_who_follow_the_submission_or_all_the_newest_only(bus: Bus) -> None:
    of_one, of_all, of_other = bus.subscribe(), bus.subscribe(), bus.subscribe()
    of_one.join("submission:s1")
    of_all.join("all")
    of_other.join("submission:s2")
    for value in range(100):
        bus.report(report(value))
    bus.report(report(0.5, stage="process"))
    expected = {("f1", "upload"): report(99), ("f1", "process"): report(0.5, stage="process")}
    assert (await soon(of_one)).progress == (await soon(of_all)).progress == expected
    assert await hears_nothing(of_other)


async def test_a_slow_subscriber_keeps_a_bounded_number_of_reports(bus: Bus) -> None:
    subscription = bus.subscribe()
    subscription.join("all")
    for number in range(5 * PROGRESS_MAX):
        bus.report(report(1, file=f"f{number}"))
    kept = (await soon(subscription)).progress
    assert 0 < len(kept) <= PROGRESS_MAX
    assert (f"f{5 * PROGRESS_MAX - 1}", "upload") in kept


async def test_the_newest_report_is_known_until_it_is_of_no_more_use(bus: Bus) -> None:
    file_id = FileId("f1")
    assert bus.newest_progress(file_id, "upload") is None
    bus.report(report(1))
    bus.report(report(2))
    bus.report(report(3, file="f2"))
    assert bus.newest_progress(file_id, "upload") == report(2)
    assert bus.newest_progress(file_id, "process") is None
    bus.forget_progress(file_id)
    bus.forget_progress(file_id)
    assert bus.newest_progress(file_id, "upload") is None
    assert bus.newest_progress(FileId("f2"), "upload") == report(3, file="f2")

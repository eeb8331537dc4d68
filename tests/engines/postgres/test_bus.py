"""The bus between processes: each is played by a bus of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest
from tests.support import scenarios
from tests.support.postgres import Postgres
from tests.support.scenarios import LIVENESS_S
from tests.support.waiting import eventually

from dropmill.engines.local.bus import LocalBus
from dropmill.engines.postgres.bus import PostgresBus
from dropmill.engines.postgres.connecting import connect
from dropmill.engines.postgres.ledger import PostgresLedger
from dropmill.health import Health
from dropmill.model.ids import FileId, SubmissionId
from dropmill.model.jobs import Progress
from dropmill.ports.bus import Notification, Subscription


@pytest.fixture
def conninfo(postgres: Postgres) -> str:
    return postgres.conninfo(postgres.make_database())


class Heard:
    """A bus that runs, and the hints that it gave."""

    def __init__(self, conninfo: str) -> None:
        self.health = Health()
        self.bus = PostgresBus(LocalBus(), lambda: connect(conninfo), self.health)
        self.hints: list[str] = []
        self.bus.on_events = lambda: self.hints.append("events")
        self.bus.on_work = lambda: self.hints.append("work")
        self.bus.on_cancel = lambda: self.hints.append("cancel")
        self.running = asyncio.create_task(self.bus.run())

    async def listens(self) -> None:
        await eventually(lambda: "events" in self.hints)
        self.hints.clear()

    async def end(self) -> None:
        self.running.cancel()
        await asyncio.wait([self.running])


@pytest.fixture
async def buses(conninfo: str) -> AsyncIterator[list[Heard]]:
    made = [Heard(conninfo) for _ in range(2)]
    for each in made:
        await each.listens()
    yield made
    for each in made:
        await each.end()


async def heard(subscription: Subscription, has: Callable[[Notification], bool]) -> Notification:
    async with asyncio.timeout(LIVENESS_S):
        while True:
            if has(found := await subscription.next()):
                return found


async def test_what_one_process_publishes_reaches_the_others(buses: list[Heard]) -> None:
    mine, other = buses
    subscription, own = other.bus.subscribe(), mine.bus.subscribe()
    for each in (subscription, own):
        each.join("output:j1")
        each.join("submission:s1")
    progress = Progress(
        submission_id=SubmissionId("s1"), file_id=FileId("f1"), stage="process", value=3, label="\u00e4\ud83d"
    )
    mine.bus.publish({"output:j1": 7, "nobody": 1})
    mine.bus.report(progress)
    assert (await own.next()).positions == {"output:j1": 7}
    found = await heard(subscription, lambda one: bool(one.progress))
    assert found.progress == {(FileId("f1"), "process"): progress}
    assert other.bus.newest_progress(FileId("f1"), "process") == progress
    mine.bus.forget_progress(FileId("f1"))
    await eventually(lambda: other.bus.newest_progress(FileId("f1"), "process") is None)


async def test_many_positions_take_several_notifications(buses: list[Heard]) -> None:
    mine, other = buses
    subscription = other.bus.subscribe()
    for number in range(500):
        subscription.join(f"output:{number:032}")
    mine.bus.publish({f"output:{number:032}": number for number in range(500)})
    found: dict[str, int] = {}
    while len(found) < 500:
        found |= (await heard(subscription, lambda one: bool(one.positions))).positions
    assert found == {f"output:{number:032}": number for number in range(500)}


async def test_a_commit_notifies_workers_and_servers(buses: list[Heard], conninfo: str) -> None:
    published: list[str] = []
    writer, reader = PostgresLedger(conninfo, lambda _: None), PostgresLedger(conninfo, published.extend)
    for ledger in (writer, reader):
        await ledger.open()
        await ledger.enter(scenarios.node(lock=str(id(ledger))))
    await scenarios.save(writer)
    submission_id = await scenarios.opened(writer)
    for each in buses:
        await eventually(lambda: "events" in each.hints)  # noqa: B023
        assert "work" not in each.hints
    job_id = await scenarios.queued(writer, submission_id)
    for each in buses:
        await eventually(lambda: "work" in each.hints)  # noqa: B023
        assert "cancel" not in each.hints
    await scenarios.claimed(writer)
    await writer.request_cancel(job_id)
    for each in buses:
        await eventually(lambda: "cancel" in each.hints)  # noqa: B023
    published.clear()
    await reader.see_others()
    assert {f"submission:{submission_id}", "all"} <= {*published} or published == []  # or its own look was first
    for ledger in (writer, reader):
        await ledger.close()


async def test_after_a_broken_connection_everything_is_looked_at_again(buses: list[Heard], conninfo: str) -> None:
    mine, other = buses
    subscription = other.bus.subscribe()
    subscription.join("output:j1")
    other.hints.clear()
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    found = await heard(subscription, lambda one: "output:j1" in one.positions)
    assert found.positions["output:j1"] == 0
    assert {"events", "work", "cancel"} <= {*other.hints}
    await eventually(lambda: not mine.health.degraded and not other.health.degraded)
    await eventually(lambda: "events" in mine.hints)
    mine.bus.publish({"output:j1": 9})
    assert (await heard(subscription, lambda one: one.positions.get("output:j1") == 9)).positions

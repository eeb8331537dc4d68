"""Who is judged by whom, and when: the ledger is real, the clock is the test's."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support import scenarios
from tests.support.waiting import eventually

from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.health import Health
from dropmill.model.errors import StorageUnavailable
from dropmill.model.ids import new_node_id
from dropmill.model.nodes import Node
from dropmill.ports.ledger.nodes import Recovery
from dropmill.upkeep.membership import Membership

LEASE_S = 0.15


@dataclass
class Member:
    """A process with a lease, and what its membership reported."""

    ledger: SqliteLedger
    lease_s: float = LEASE_S
    now: float = 0.0
    health: Health = field(default_factory=Health)
    taken: list[Recovery] = field(default_factory=list)
    has_gone: bool = False

    def __post_init__(self) -> None:
        self.membership = Membership(
            self.ledger,
            lease_s=self.lease_s,
            max_attempts=5,
            on_gone=self.go,
            on_taken=self.taken.append,
            health=self.health,
            clock=lambda: self.now,
        )

    def go(self) -> None:
        self.has_gone = True

    async def renewed_for(self, seconds: float) -> None:
        """Let the clock run, with a renewal for each step."""
        end = self.now + seconds
        while self.now < end:
            before = self.membership._renewed_at
            self.now += LEASE_S / 10
            await eventually(lambda: self.membership._renewed_at > before)  # noqa: B023


@pytest.fixture
async def members(tmp_path: Path) -> AsyncIterator[list[Member]]:
    made: list[Member] = []
    for lock in ("a", "b"):
        ledger = SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None)
        await ledger.open()
        await ledger.enter(Node(id=new_node_id(), host=lock, lock=lock, lease_s=LEASE_S))
        made.append(Member(ledger))
    await scenarios.save(made[0].ledger)
    yield made
    for member in made:
        await member.ledger.close()


async def test_a_node_judges_only_after_a_lease_of_its_own(members: list[Member]) -> None:
    """It has just begun: perhaps the database has, too, and all leases are over."""
    judge, gone = members
    running = asyncio.create_task(judge.membership.run())
    await eventually(judge.ledger.has_expired)
    await asyncio.sleep(LEASE_S)
    assert judge.taken == []
    await judge.renewed_for(1.5 * LEASE_S)
    await eventually(lambda: judge.taken)
    assert judge.taken[0].gone == ["b"]
    assert not await gone.ledger.renew()
    running.cancel()
    await asyncio.wait([running])


async def test_who_could_not_renew_judges_nobody_for_a_lease(
    members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    member = members[0]
    member.now = 100.0
    membership = member.membership
    renewed = asyncio.Event()
    is_away = False
    renew = SqliteLedger.renew

    async def renew_if_there(ledger: SqliteLedger) -> bool:
        if is_away:
            raise StorageUnavailable("away")
        renewed.set()
        return await renew(ledger)

    monkeypatch.setattr(SqliteLedger, "renew", renew_if_there)
    running = asyncio.create_task(membership.run())
    await renewed.wait()
    await eventually(lambda: membership.has_lease)
    assert not membership.may_judge  # the first renewal came after a long time
    await member.renewed_for(1.2 * LEASE_S)
    await eventually(lambda: membership.may_judge)
    is_away = True
    await eventually(lambda: member.health.degraded == ("lease",))
    member.now += LEASE_S
    assert not membership.may_judge
    assert not membership.has_lease
    is_away = False
    await eventually(lambda: membership.has_lease)
    assert not membership.may_judge
    running.cancel()
    await asyncio.wait([running])


async def test_a_node_that_was_struck_off_is_told_once(members: list[Member]) -> None:
    gone, judge = members
    await eventually(judge.ledger.has_expired)
    await judge.ledger.lose_expired(5, "gone")
    await gone.membership.run()
    assert gone.has_gone

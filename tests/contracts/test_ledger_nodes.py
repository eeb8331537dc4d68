"""What every ledger promises about nodes: whose work is whose, and when another may take it over."""

import asyncio

import pytest
from tests.contracts.ledgers import LedgerEngine
from tests.support import scenarios
from tests.support.scenarios import SUCCEEDED, names, recount
from tests.support.waiting import eventually

from dropmill.engines.sql.ledger import SqlLedger
from dropmill.model.config import ConfigLocation
from dropmill.model.errors import NodeGone
from dropmill.model.ids import new_file_id, new_node_id
from dropmill.model.jobs import Claim, JobState
from dropmill.model.nodes import Node
from dropmill.model.submissions import Counts
from dropmill.model.uploads import UploadState

SHORT_S, LONG_S = 0.05, 3600.0


async def joined(engine: LedgerEngine, lease_s: float, lock: str) -> SqlLedger:
    """One more process, with a lease."""
    other = await engine.open()
    await other.enter(Node(id=new_node_id(), host=f"host of {lock}", lock=lock, lease_s=lease_s))
    return other


async def expired(ledger: SqlLedger) -> None:
    await eventually(ledger.has_expired)


async def test_the_work_of_a_node_whose_lease_has_expired_is_settled_once(
    engine: LedgerEngine, ledger: SqlLedger
) -> None:
    gone, judge, second = [
        await joined(engine, seconds, lock) for seconds, lock in ((SHORT_S, "a"), (LONG_S, "b"), (LONG_S, "c"))
    ]
    submission_id = await scenarios.opened(ledger)
    job_id = await scenarios.queued(ledger, submission_id)
    [spec] = await gone.claim(Claim())
    theirs = await scenarios.opened(gone)
    arriving = await scenarios.receiving(gone, theirs)
    await expired(judge)
    recoveries = await asyncio.gather(*(one.lose_expired(5, "gone") for one in (judge, second)))
    [recovery] = [one for one in recoveries if one.gone]
    assert (recovery.gone, recovery.aborted, recovery.sealed) == (["host of a"], 1, 1)
    assert [(attempt.job_id, attempt.number) for attempt in recovery.lost] == [(job_id, spec.number)]
    assert (await ledger.job(job_id)).state is JobState.QUEUED
    assert (await ledger.file(arriving)).state is UploadState.ABORTED
    assert (await names(ledger)).count("attempt.lost") == 1
    assert not await judge.has_expired()


async def test_a_node_that_was_struck_off_can_change_nothing_any_more(engine: LedgerEngine, ledger: SqlLedger) -> None:
    gone, judge = await joined(engine, SHORT_S, "a"), await joined(engine, LONG_S, "b")
    submission_id = await scenarios.opened(ledger)
    job_id = await scenarios.queued(ledger, submission_id)
    [spec] = await gone.claim(Claim())
    await expired(judge)
    await judge.lose_expired(5, "gone")
    assert not await gone.renew()
    before = await names(ledger)
    with pytest.raises(NodeGone):
        await gone.end_attempt(job_id, spec.number, SUCCEEDED)
    with pytest.raises(NodeGone):
        await scenarios.opened(gone)
    with pytest.raises(NodeGone):
        await gone.start_upload(new_file_id(), submission_id, "a", "a", 1)
    assert await names(ledger) == before
    assert await recount(ledger, submission_id) == Counts(queued=1)


async def test_a_lease_that_has_expired_and_is_renewed_in_time_costs_nothing(
    engine: LedgerEngine, ledger: SqlLedger
) -> None:
    late, judge = await joined(engine, SHORT_S, "a"), await joined(engine, LONG_S, "b")
    submission_id = await scenarios.opened(ledger)
    job_id = await scenarios.queued(ledger, submission_id)
    [spec] = await late.claim(Claim())
    await expired(judge)
    late._node = Node(id=late._node.id, host="", lock="", lease_s=LONG_S) if late._node else None
    assert await late.renew()
    assert (await judge.lose_expired(5, "gone")).gone == ()
    recorded = await late.end_attempt(job_id, spec.number, SUCCEEDED)
    assert recorded is not None
    assert recorded.state is JobState.SUCCEEDED


async def test_a_node_that_leaves_hands_its_jobs_back_and_that_counts_for_nothing(
    engine: LedgerEngine, ledger: SqlLedger
) -> None:
    submission_id = await scenarios.opened(ledger)
    job_id = await scenarios.queued(ledger, submission_id)
    for number in range(1, 4):  # more often than it may be lost
        leaving = await joined(engine, LONG_S, f"lock {number}")
        [spec] = await leaving.claim(Claim())
        assert spec.number == number
        assert len((await leaving.leave("it stopped")).lost) == 1
        assert (await ledger.job(job_id)).state is JobState.QUEUED
        with pytest.raises(NodeGone):
            await leaving.claim(Claim())
    last, judge = await joined(engine, SHORT_S, "last"), await joined(engine, LONG_S, "judge")
    await last.claim(Claim())
    await expired(judge)
    await judge.lose_expired(2, "gone")
    assert (await ledger.job(job_id)).state is JobState.QUEUED


async def test_one_node_has_a_duty_until_it_is_struck_off(engine: LedgerEngine, ledger: SqlLedger) -> None:
    first, second = await joined(engine, SHORT_S, "a"), await joined(engine, LONG_S, "b")
    assert sorted(await asyncio.gather(first.take_duty("mirror"), second.take_duty("mirror"))) == [False, True]
    assert await first.take_duty("gc") or not await second.take_duty("gc")
    assert await first.take_duty("log")
    assert not await second.take_duty("log")
    await expired(second)
    await second.lose_expired(5, "gone")
    assert await second.take_duty("log")
    assert await second.take_duty("log")


async def test_nodes_without_a_lease_are_never_struck_off(engine: LedgerEngine, ledger: SqlLedger) -> None:
    """On one machine the lock of the data folder says who is alive."""
    judge = await joined(engine, LONG_S, "b")
    submission_id = await scenarios.opened(ledger)
    await scenarios.queued(ledger, submission_id)
    await ledger.claim(Claim())
    assert not await judge.has_expired()
    assert (await judge.lose_expired(5, "gone")).lost == ()
    assert await recount(ledger, submission_id) == Counts(running=1)


@pytest.mark.parametrize("has_lease", [False, True])
async def test_nodes_that_a_migration_left_are_gone(engine: LedgerEngine, ledger: SqlLedger, has_lease: bool) -> None:
    """The ledger was in the other database, where nodes had leases, or had none."""
    submission_id = await scenarios.opened(ledger)
    await scenarios.queued(ledger, submission_id)
    before = await joined(engine, LONG_S, "a") if not has_lease else await engine.open(lock="data folder")
    await before.claim(Claim())
    after = await engine.open(lock="other") if not has_lease else await joined(engine, LONG_S, "b")
    assert len((await after.recover(5, "gone")).lost) == 1
    assert await recount(ledger, submission_id) == Counts(queued=1)


async def test_the_config_file_of_a_living_server_stays_when_another_joins(
    engine: LedgerEngine, ledger: SqlLedger
) -> None:
    first, second = await joined(engine, SHORT_S, "a"), await joined(engine, LONG_S, "b")
    here, there = (ConfigLocation(host, "/etc/config.yaml", "/data") for host in ("here", "there"))
    await first.use_config_file(here)
    await first.record_in_file(here, 1)
    await scenarios.save(ledger, b"a: 2\n")
    await second.use_config_file(there)
    assert {file.host for file in await ledger.config_files()} == {"here", "there"}
    assert (await second.config_position(there)).in_file == 1  # the oldest: its own text may be any of them
    await second.record_in_file(there, 2)
    await second.use_config_file(there)  # it has started again
    assert (await second.config_position(there)).in_file == 2
    assert (await first.config_position(here)).in_file == 1
    await expired(second)
    await second.lose_expired(5, "gone")
    await second.use_config_file(there)
    assert [file.host for file in await ledger.config_files()] == ["there"]

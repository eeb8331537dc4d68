"""What every ledger promises about quotas: nobody gets more, nothing is lost by them, and all of it comes back."""

import asyncio
import random
import re
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Pool, case, event, func, insert, select, update
from tests.contracts import history
from tests.contracts.announced import stored, upload_to
from tests.contracts.ledgers import LedgerEngine, SqliteEngine
from tests.support import scenarios
from tests.support.clocks import DAY_S, WallClock
from tests.support.scenarios import CLIENT, SUCCEEDED, in_line

from dropmill.engines.sql.claim import _BETWEEN, _OWNERS, NEXT, NEXT_OWNER
from dropmill.engines.sql.ledger import SqlLedger
from dropmill.engines.sql.tables import files, jobs, quotas, submissions, turns
from dropmill.model.accounts import Account, AccountChange
from dropmill.model.by import THIS_MACHINE
from dropmill.model.caller import Role
from dropmill.model.clock import utc_now
from dropmill.model.errors import IllegalTransition, QuotaExceeded, TooManySubmissions
from dropmill.model.events import EventName
from dropmill.model.ids import (
    OPEN,
    FileId,
    JobId,
    Owner,
    SubmissionId,
    new_account_id,
    new_file_id,
    new_job_id,
    new_submission_id,
)
from dropmill.model.jobs import Claim, JobState
from dropmill.model.quotas import COUNT_MAX, LimitChange, Limits, Quota
from dropmill.model.uploads import AbortCause, StoredBlob, UploadState
from dropmill.ports.ledger import Ledger
from dropmill.ports.ledger.uploads import ResumableUpload, WholeFile

ADA, BOB, EVE = Owner("account:" + "a" * 32), Owner("account:" + "b" * 32), Owner("browser:" + "e" * 64)
STORAGE = 1000


@pytest.fixture
async def limited(engine: LedgerEngine) -> SqlLedger:
    """A ledger whose owners may keep `STORAGE` bytes each."""
    return await with_limits(engine, Limits(storage=STORAGE))


async def with_limits(engine: LedgerEngine, limits: Limits, **options: Any) -> SqlLedger:
    ledger = await engine.open(limits=limits, **options)
    if await ledger.newest_revision() is None:
        await scenarios.save(ledger)
    return ledger


async def quota(ledger: Ledger, owner: Owner) -> Quota:
    return (await ledger.quotas([owner]))[owner]


async def kept(ledger: Ledger, owner: Owner) -> int:
    return (await quota(ledger, owner)).usage.storage


async def announced(ledger: Ledger, submission_id: SubmissionId, size: int | None) -> ResumableUpload:
    upload = upload_to(submission_id, new_file_id(), size)
    await ledger.announce_uploads([upload])
    return upload


def blob(size: int) -> StoredBlob:
    return replace(scenarios.blob(), size=size)


def whole(submission_id: SubmissionId, size: int) -> WholeFile:
    return replace(scenarios.whole(submission_id, new_file_id()), blob=blob(size))


async def account(ledger: Ledger, name: str = "ada") -> Account:
    made = Account(id=new_account_id(), name=name, role=Role.VIEWER, created_at=utc_now())
    await ledger.add_account(made, "hash", THIS_MACHINE)
    return made


async def set_limits(ledger: Ledger, of: Account, *dropped: str, **own: int | None) -> None:
    change = AccountChange(limits=LimitChange(own=own, dropped=frozenset(dropped)))
    await ledger.change_account(of.id, change, THIS_MACHINE)


# --- storage ---------------------------------------------------------------------------------------------------------


async def test_the_last_byte_fits_and_one_more_does_not(limited: SqlLedger) -> None:
    submission_id = await scenarios.opened(limited, owner=ADA)
    await announced(limited, submission_id, STORAGE - 1)
    before = await scenarios.all_events(limited)
    with pytest.raises(QuotaExceeded) as refused:
        await announced(limited, submission_id, 2)
    assert refused.value.extra == {"reason": "storage", "limit": STORAGE, "used": STORAGE - 1}
    assert refused.value.status == 413
    assert await scenarios.all_events(limited) == before
    assert (await scenarios.recount(limited, submission_id)).announced == 1
    await announced(limited, submission_id, 1)
    assert await kept(limited, ADA) == STORAGE
    await announced(limited, submission_id, 0)


async def test_files_that_are_announced_together_come_all_or_not_at_all(limited: SqlLedger) -> None:
    submission_id = await scenarios.opened(limited, owner=ADA)
    with pytest.raises(QuotaExceeded):
        await limited.announce_uploads([upload_to(submission_id, str(size), size) for size in (400, 400, 201)])
    assert await kept(limited, ADA) == 0
    assert (await scenarios.recount(limited, submission_id)).total == 0
    await limited.announce_uploads([upload_to(submission_id, str(size), size) for size in (400, 400, 200)])


async def test_each_owner_has_a_quota_of_its_own(limited: SqlLedger) -> None:
    for owner in (ADA, BOB, EVE, OPEN):
        submission_id = await scenarios.opened(limited, owner=owner)
        await announced(limited, submission_id, STORAGE)
        with pytest.raises(QuotaExceeded):
            await announced(limited, submission_id, 1)


async def test_a_file_counts_once_from_its_announcement_to_its_end(limited: SqlLedger) -> None:
    submission_id = await scenarios.opened(limited, owner=ADA)
    upload = await announced(limited, submission_id, 8)
    assert await kept(limited, ADA) == 8
    await stored(limited, upload)
    assert await kept(limited, ADA) == 8
    await limited.store_files([whole(submission_id, 5)])
    assert await kept(limited, ADA) == 13


async def test_a_file_that_does_not_come_gives_its_bytes_back(limited: SqlLedger) -> None:
    submission_id = await scenarios.opened(limited, owner=ADA)
    upload = await announced(limited, submission_id, STORAGE)
    await limited.take_upload(upload.file_id)
    await limited.abort_upload(upload.file_id, AbortCause.CANCELLED, "why")
    assert await kept(limited, ADA) == 0
    await announced(limited, submission_id, STORAGE)
    await limited.seal_submission(submission_id)  # gives up what is announced
    assert (await quota(limited, ADA)).usage == replace(
        (await quota(limited, ADA)).usage, storage=0, total_size=0, files=0, open_submissions=0
    )


async def test_a_file_of_unknown_size_counts_with_what_came_of_it(limited: SqlLedger) -> None:
    submission_id = await scenarios.opened(limited, owner=ADA)
    file_id = await scenarios.receiving(limited, submission_id)
    assert await limited.hold_upload(file_id, 600) == 400
    assert await kept(limited, ADA) == 600
    with pytest.raises(QuotaExceeded):
        await limited.hold_upload(file_id, STORAGE + 1)
    assert await kept(limited, ADA) == 600
    await announced(limited, submission_id, 400)
    with pytest.raises(QuotaExceeded):
        await limited.store_upload(file_id, blob(601), new_job_id())
    assert (await limited.file(file_id)).state is UploadState.RECEIVING
    await limited.store_upload(file_id, blob(600), new_job_id())
    assert await kept(limited, ADA) == STORAGE


async def test_a_small_file_is_refused_without_a_trace(limited: SqlLedger) -> None:
    submission_id = await scenarios.opened(limited, owner=ADA)
    await limited.store_files([whole(submission_id, 900)])
    before = await scenarios.all_events(limited)
    with pytest.raises(QuotaExceeded):
        await limited.store_files([whole(submission_id, 50), whole(submission_id, 51)])
    with pytest.raises(QuotaExceeded):
        await limited.receive_one(CLIENT, None, whole(new_submission_id(), 101), owner=ADA)
    assert await scenarios.all_events(limited) == before
    await limited.receive_one(CLIENT, None, whole(new_submission_id(), 100), owner=ADA)


async def test_a_deferred_length_is_refused_when_it_is_given_and_the_offset_is_not(limited: SqlLedger) -> None:
    submission_id = await scenarios.opened(limited, owner=ADA)
    upload = await announced(limited, submission_id, None)
    fence = await limited.take_upload(upload.file_id)

    async def extend(size: int | None, received: int) -> None:
        await limited.extend_upload(
            upload.file_id, size=size, received=received, expires_at=upload.expires_at, fence=fence
        )

    await extend(None, STORAGE + 5)  # these bytes are on the disk
    assert await kept(limited, ADA) == STORAGE + 5
    for size in (STORAGE + 5, STORAGE + 6):
        with pytest.raises(QuotaExceeded):
            await extend(size, STORAGE + 5)
    assert (await limited.upload(upload.file_id)).size is None
    await extend(None, 400)  # a chunk was dropped
    with pytest.raises(QuotaExceeded):
        await announced(limited, submission_id, 601)
    await extend(500, 400)
    assert await kept(limited, ADA) == 500


async def test_uploads_that_come_at_once_by_two_processes_do_not_exceed_the_quota(engine: LedgerEngine) -> None:
    limits = Limits(storage=STORAGE)
    ledgers = [await with_limits(engine, limits, lock=lock) for lock in ("one", "other")]
    mine = [await scenarios.opened(ledgers[0], owner=ADA) for _ in range(2)]
    sizes = [37] * 40

    async def send(number: int, size: int) -> int:
        ledger, submission_id = ledgers[number % 2], mine[number // 2 % 2]
        try:
            match number % 3:
                case 0:
                    await ledger.store_files([whole(submission_id, size)])
                case 1:
                    await stored_with(ledger, await announced(ledger, submission_id, size))
                case _:
                    file_id = await scenarios.receiving(ledger, submission_id, str(number))
                    await ledger.store_upload(file_id, blob(size), new_job_id())
        except QuotaExceeded:
            return 0
        return size

    came = sum(await asyncio.gather(*(send(number, size) for number, size in enumerate(sizes))))
    assert came == STORAGE // 37 * 37
    assert await kept(ledgers[0], ADA) == came


async def stored_with(ledger: Ledger, upload: ResumableUpload) -> None:
    fence = await ledger.take_upload(upload.file_id)
    await ledger.store_upload(upload.file_id, blob(upload.size or 0), new_job_id(), fence=fence)


async def test_what_retention_removes_can_be_sent_again(limited: SqlLedger) -> None:
    submission_id = await scenarios.opened(limited, owner=ADA)
    await limited.store_files([whole(submission_id, STORAGE)])
    [order] = await limited.claim(Claim())
    await limited.end_attempt(order.job_id, order.number, replace(SUCCEEDED, output_size=10_000))
    await limited.seal_submission(submission_id)
    other = await scenarios.opened(limited, owner=ADA)
    with pytest.raises(QuotaExceeded):
        await limited.store_files([whole(other, 1)])
    settled_at = (await limited.view_submission(submission_id, limit=1)).submission.settled_at
    assert settled_at is not None
    assert await limited.begin_removal(submission_id, settled_at)
    assert not await limited.begin_removal(submission_id, settled_at)
    assert await kept(limited, ADA) == 0
    await limited.store_files([whole(other, STORAGE)])
    assert (await quota(limited, ADA)).usage.total_size == 2 * STORAGE


async def test_one_that_is_refused_does_not_keep_others_of_the_same_commit_out(limited: SqlLedger) -> None:
    mine, theirs = [await scenarios.opened(limited, owner=owner) for owner in (ADA, BOB)]
    sent = [whole(mine, STORAGE + 1), whole(theirs, 1), whole(mine, 7)]
    results = await asyncio.gather(*(limited.store_files([one]) for one in sent), return_exceptions=True)
    assert [type(result) for result in results] == [QuotaExceeded, type(None), type(None)]
    assert [await kept(limited, owner) for owner in (ADA, BOB)] == [7, 1]


# --- limits of one's own ---------------------------------------------------------------------------------------------


async def test_an_account_may_have_more_less_or_no_limit_of_its_own(limited: SqlLedger) -> None:
    ada = await account(limited)
    submission_id = await scenarios.opened(limited, owner=ada.owner)
    await set_limits(limited, ada, storage=STORAGE + 1)
    await announced(limited, submission_id, STORAGE + 1)
    with pytest.raises(QuotaExceeded):
        await announced(limited, submission_id, 1)
    await set_limits(limited, ada, storage=None)
    await announced(limited, submission_id, 10**15)
    await set_limits(limited, ada, "storage", running=3)
    found = await quota(limited, ada.owner)
    assert found.own == {"running": 3}
    assert found.limits == Limits(storage=STORAGE, running=3)
    with pytest.raises(QuotaExceeded):
        await announced(limited, submission_id, 1)
    await set_limits(limited, ada, storage=COUNT_MAX)
    assert (await quota(limited, ada.owner)).own == {"storage": COUNT_MAX, "running": 3}
    told = await scenarios.all_events(limited)
    changes = [event.data["change"] for event in told if event.name is EventName.ACCOUNT_CHANGED]
    assert changes == ["added", *["limits"] * 4]


async def test_a_lowered_limit_removes_nothing_and_what_was_announced_may_still_come(limited: SqlLedger) -> None:
    ada = await account(limited)
    submission_id = await scenarios.opened(limited, owner=ada.owner)
    await limited.store_files([whole(submission_id, 500)])
    upload = await announced(limited, submission_id, 8)
    await set_limits(limited, ada, storage=100)
    assert await kept(limited, ada.owner) == 508
    await stored(limited, upload)
    assert (await scenarios.recount(limited, submission_id)).queued == 2
    with pytest.raises(QuotaExceeded):
        await limited.store_files([whole(submission_id, 1)])
    await limited.store_files([whole(submission_id, 0)])


async def test_what_a_holder_has_is_known_also_where_nothing_was_limited(ledger: Ledger, engine: LedgerEngine) -> None:
    submission_id = await scenarios.opened(ledger, owner=ADA)
    await ledger.store_files([whole(submission_id, 5000)])
    assert await kept(ledger, ADA) == 5000
    later = await engine.open(limits=Limits(storage=STORAGE))
    with pytest.raises(QuotaExceeded):
        await later.store_files([whole(submission_id, 1)])


async def test_there_may_be_limits_of_all_that_was_ever_sent(engine: LedgerEngine) -> None:
    """As for a link: what was removed since still counts."""
    ledger = await with_limits(engine, Limits(files=3, total_size=20, submissions=2))
    one = await scenarios.opened(ledger, owner=ADA)
    await ledger.store_files([whole(one, 10)])
    [order] = await ledger.claim(Claim())
    await ledger.end_attempt(order.job_id, order.number, SUCCEEDED)
    await ledger.seal_submission(one)
    settled_at = (await ledger.view_submission(one, limit=1)).submission.settled_at
    assert settled_at is not None
    await ledger.begin_removal(one, settled_at)
    two = await scenarios.opened(ledger, owner=ADA)
    reasons: list[Any] = []
    for refused in ([whole(two, 11)], [whole(two, 0) for _ in range(3)]):
        with pytest.raises(QuotaExceeded) as error:
            await ledger.store_files(refused)
        reasons.append(error.value.extra["reason"])
    with pytest.raises(QuotaExceeded) as error:
        await scenarios.opened(ledger, owner=ADA)
    assert [*reasons, error.value.extra["reason"]] == ["total_size", "files", "submissions"]
    await ledger.store_files([whole(two, 10), whole(two, 0)])


# --- submissions -----------------------------------------------------------------------------------------------------


async def test_submissions_of_a_day_are_counted_until_the_day_ends_in_utc(
    engine: LedgerEngine, wall_clock: WallClock
) -> None:
    ledger = await with_limits(engine, Limits(submissions_a_day=2))
    for _ in range(2):
        await ledger.seal_submission(await scenarios.opened(ledger, owner=ADA))
    with pytest.raises(TooManySubmissions) as refused:
        await scenarios.opened(ledger, owner=ADA)
    now = utc_now()
    assert 0 < refused.value.extra["retry_after"] <= DAY_S
    assert refused.value.extra["reason"] == "submissions_a_day"
    with pytest.raises(TooManySubmissions):
        await ledger.receive_one(CLIENT, None, whole(new_submission_id(), 1), owner=ADA)
    await scenarios.opened(ledger, owner=BOB)
    wall_clock.step(DAY_S - (now.hour * 3600 + now.minute * 60 + now.second))
    assert (await quota(ledger, ADA)).usage.submissions_a_day == 0
    await scenarios.opened(ledger, owner=ADA)
    assert (await quota(ledger, ADA)).usage.submissions_a_day == 1
    wall_clock.step(-2 * DAY_S)  # a clock that is set back gives nobody another day
    await scenarios.opened(ledger, owner=ADA)
    with pytest.raises(TooManySubmissions):
        await scenarios.opened(ledger, owner=ADA)


async def test_a_repeat_of_a_request_is_no_other_submission(engine: LedgerEngine) -> None:
    from dropmill.ports.ledger.submissions import RequestKey

    ledger = await with_limits(engine, Limits(submissions_a_day=1, open_submissions=1))
    key = RequestKey(text="key", fingerprint="f")
    first = await ledger.open_submission(new_submission_id(), CLIENT, None, key=key, owner=ADA)
    assert await ledger.open_submission(new_submission_id(), CLIENT, None, key=key, owner=ADA) == first


async def test_an_open_submission_counts_until_it_is_sealed(engine: LedgerEngine) -> None:
    ledger = await with_limits(engine, Limits(open_submissions=1))
    first = await scenarios.opened(ledger, owner=ADA)
    with pytest.raises(TooManySubmissions) as refused:
        await scenarios.opened(ledger, owner=ADA)
    assert refused.value.extra["reason"] == "open_submissions"
    # One that is never open counts for nothing.
    await ledger.receive_one(CLIENT, None, whole(new_submission_id(), 1), owner=ADA)
    await ledger.open_for_upload(upload_to(new_submission_id()), CLIENT, None, owner=ADA)
    await ledger.seal_submission(first)
    await ledger.seal_submission(first)
    await scenarios.opened(ledger, owner=ADA)
    assert (await quota(ledger, ADA)).usage.open_submissions == 1


# --- running at once, and turns --------------------------------------------------------------------------------------


async def fill(ledger: Ledger, owner: Owner, count: int, submission_id: SubmissionId | None = None) -> list[JobId]:
    submission_id = submission_id or await scenarios.opened(ledger, owner=owner)
    return [await scenarios.queued(ledger, submission_id) for _ in range(count)]


async def owners_claimed(ledger: Ledger, most: int) -> list[str]:
    orders = await ledger.claim(Claim(most=most))
    shown = [(await ledger.view_submission(order.submission_id, limit=1)).submission for order in orders]
    return [submission.account or "" for submission in shown]


async def test_owners_take_turns_whatever_they_have_sent(ledger: Ledger) -> None:
    """Not their submissions: who sends a thousand of one file each waits as long as who sends one of a thousand."""
    many = [(await fill(ledger, ADA, 1))[0] for _ in range(30)]
    first, second = await fill(ledger, BOB, 2)
    third = (await fill(ledger, EVE, 1))[0]
    assert await ledger.places([first, second, third]) == {first: 2, second: 5, third: 3}
    order = [order.job_id for order in await ledger.claim(Claim(most=6))]
    assert order == [many[0], first, third, many[1], second, many[2]]


async def test_an_owners_own_submissions_take_turns_too(ledger: Ledger) -> None:
    large = await fill(ledger, ADA, 20)
    small = (await fill(ledger, ADA, 1))[0]
    assert small in [order.job_id for order in await ledger.claim(Claim(most=2))]
    assert await ledger.places([large[1]]) == {large[1]: 1}


async def test_an_owner_at_its_limit_is_passed_over_and_goes_on_when_one_has_ended(engine: LedgerEngine) -> None:
    ledger = await with_limits(engine, Limits(running=2))
    mine, theirs = await fill(ledger, ADA, 5), await fill(ledger, BOB, 1)
    orders = await ledger.claim(Claim(most=9))
    assert [order.job_id for order in orders] == [mine[0], theirs[0], mine[1]]
    assert await ledger.claim(Claim(most=9)) == []
    assert (await quota(ledger, ADA)).usage.running == 2
    late = await fill(ledger, BOB, 1)
    ended = await ledger.end_attempt(mine[0], 1, SUCCEEDED, then_claim=Claim(most=9))
    assert ended is not None
    assert {order.job_id for order in ended.orders} == {mine[2], late[0]}
    assert await ledger.lose_attempt(mine[1], 1, max_attempts=5) is JobState.QUEUED
    assert [order.job_id for order in await ledger.claim(Claim(most=9))] == [mine[3]]


async def test_an_owner_that_was_passed_over_makes_up_for_nothing(engine: LedgerEngine) -> None:
    ledger = await with_limits(engine, Limits())
    ada = await account(ledger)
    await set_limits(ledger, ada, running=1)
    mine, theirs = await fill(ledger, ada.owner, 6), await fill(ledger, BOB, 30)
    await ledger.claim(Claim(most=20))
    await set_limits(ledger, ada, running=None)
    order = [order.job_id for order in await ledger.claim(Claim(most=6))]
    assert sum(job_id in theirs for job_id in order) >= 2
    assert sum(job_id in mine for job_id in order) >= 3


async def test_limits_of_one_account_count_from_the_next_claim_on(engine: LedgerEngine) -> None:
    ledger = await with_limits(engine, Limits(running=1))
    ada = await account(ledger)
    await fill(ledger, ada.owner, 6)
    assert len(await ledger.claim(Claim(most=9))) == 1
    await set_limits(ledger, ada, running=4)
    assert len(await ledger.claim(Claim(most=9))) == 3
    await set_limits(ledger, ada, "running")
    assert await ledger.claim(Claim(most=9)) == []
    await set_limits(ledger, ada, running=None)
    assert len(await ledger.claim(Claim(most=9))) == 2


async def test_two_nodes_together_run_no_more_than_the_limit(engine: LedgerEngine) -> None:
    limits = Limits(running=3)
    nodes = [await with_limits(engine, limits, lock=lock) for lock in ("one", "other")]
    await fill(nodes[0], ADA, 20)
    claimed = await asyncio.gather(*(node.claim(Claim(most=2)) for node in nodes * 4))
    assert sum(map(len, claimed)) == 3


async def test_places_are_the_order_in_which_claims_take_and_every_count_stays_right(engine: LedgerEngine) -> None:
    """Whatever happens, in any order: what is counted along the way is what a count of everything finds."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    ledger = await with_limits(engine, Limits(storage=400, open_submissions=8))
    owners = (ADA, BOB, EVE)
    opened: list[SubmissionId] = []
    under_way: list[FileId] = []
    waiting: set[JobId] = set()
    running: list[JobId] = []
    for _ in range(120):
        with suppress(QuotaExceeded, TooManySubmissions, IllegalTransition):
            match chance.randrange(9) if opened else 0:
                case 0:
                    opened.append(await scenarios.opened(ledger, owner=chance.choice(owners)))
                case 1:
                    under_way.append(
                        (await announced(ledger, chance.choice(opened), chance.choice([0, 3, None]))).file_id
                    )
                case 2:
                    under_way.append(await scenarios.receiving(ledger, chance.choice(opened), new_file_id()))
                case 3 if under_way:
                    await ledger.abort_upload(chance.choice(under_way), AbortCause.CANCELLED, "why")
                case 4 if under_way:
                    file = await ledger.file(chance.choice(under_way))
                    if file.state is UploadState.ANNOUNCED:
                        await ledger.take_upload(file.id)
                    elif file.size is None:
                        await ledger.hold_upload(file.id, file.received + chance.randrange(9))
                    else:
                        job_id = new_job_id()
                        await ledger.store_upload(file.id, blob(file.size), job_id)
                        waiting.add(job_id)
                case 5 | 6:
                    some = [whole(chance.choice(opened), chance.randrange(20)) for _ in range(chance.randint(1, 4))]
                    await ledger.store_files(some)
                    waiting |= {one.job_id for one in some}
                case 7:
                    running += [order.job_id for order in await ledger.claim(Claim(most=chance.randint(1, 3)))]
                    waiting -= set(running)
                case _ if running:
                    job_id = running.pop(chance.randrange(len(running)))
                    job = await ledger.job(job_id)
                    if chance.random() < 0.3:
                        await ledger.lose_attempt(job_id, job.attempts[-1].number, max_attempts=9)
                        waiting.add(job_id)
                    else:
                        await ledger.end_attempt(job_id, job.attempts[-1].number, SUCCEEDED)
                case _ if waiting:
                    job_id = chance.choice(sorted(waiting))
                    await ledger.request_cancel(job_id)
                    waiting.discard(job_id)
                case _:
                    await ledger.seal_submission(opened.pop(chance.randrange(len(opened))))
    assert set(await in_line(ledger)) == waiting
    assert await ledger._read(counted) == await ledger._read(counted_anew)
    order_of_all = await in_line(ledger)
    drained: list[JobId] = []
    while orders := await ledger.claim(Claim()):
        drained += [order.job_id for order in orders]
    assert drained == order_of_all


NAMES = ("storage", "total_size", "files", "submissions", "open_submissions", "running")


def counted(connection: Connection) -> dict[str, Counter[str]]:
    """What the ledger counts along the way, of each owner; and what waits."""
    found = {
        row["holder"]: Counter({name: row[name] for name in NAMES})
        for row in connection.execute(select(quotas)).mappings()
    }
    for row in connection.execute(select(turns)).mappings():
        assert (row["tag"] is None) == (row["waiting"] == 0)
        found.setdefault(row["owner"], Counter())["waiting"] = row["waiting"]
    return {owner: +counts for owner, counts in found.items()}


def counted_anew(connection: Connection) -> dict[str, Counter[str]]:
    """The same from everything that there is."""
    found: dict[str, Counter[str]] = {}
    for row in connection.execute(select(submissions)).mappings():
        of = found.setdefault(row["owner"], Counter())
        of += Counter(submissions=1, open_submissions=int(row["is_open"]))
    held = select(files, submissions.c.owner).join(submissions, submissions.c.id == files.c.submission_id)
    for row in connection.execute(held.where(files.c.state != "aborted")).mappings():
        size = row["received"] if row["size"] is None else row["size"]
        found[row["owner"]] += Counter(files=1, storage=size, total_size=size)
    running = func.sum(case((jobs.c.state == "running", 1), else_=0)).label("running")
    states = select(jobs.c.owner, running, func.count(jobs.c.tag).label("waiting")).group_by(jobs.c.owner)
    for row in connection.execute(states).mappings():
        found[row["owner"]] += Counter(running=int(row["running"]), waiting=row["waiting"])
    return {owner: +counts for owner, counts in found.items()}


# --- what a claim costs ----------------------------------------------------------------------------------------------

WAITING = 20_000
IDLE = 5000  # owners that have sent something once
FULL = 30  # owners with as many running as they may
STEPS_MAX = 4000  # of SQLite's machine, for one claim; a walk through the waiting jobs takes 100,000


def many_wait(connection: Connection) -> None:
    """`FULL` owners with many jobs have as many running as they may; behind them, one with a single job has none."""
    history.write(connection, WAITING)
    everybody = select(jobs.c.owner).distinct().order_by(jobs.c.owner).limit(FULL)
    full = list(connection.execute(everybody).scalars())
    connection.execute(update(jobs).where(jobs.c.owner.in_(full)).values(state="queued", tag=jobs.c.seq))
    last = select(func.max(jobs.c.seq)).where(jobs.c.owner.not_in(full)).scalar_subquery()
    connection.execute(update(jobs).where(jobs.c.seq == last).values(state="queued", tag=1))
    of_last = connection.execute(select(jobs.c.owner).where(jobs.c.seq == last)).scalar_one()
    rows: list[tuple[str, int | None, int, int]] = [(owner, 1, WAITING // 100, 2) for owner in full]
    rows.append((of_last, 2, 1, 0))
    rows += [(f"account:idle{number}", None, 0, 0) for number in range(IDLE)]
    connection.execute(
        insert(turns),
        [
            {"queue": "", "owner": owner, "turn": 0, "tag": tag, "since": number, "waiting": waiting}
            for number, (owner, tag, waiting, _) in enumerate(rows)
        ],
    )
    connection.execute(insert(quotas), [{"holder": owner, "running": running} for owner, _, _, running in rows])


async def test_a_claim_finds_the_owner_and_the_job_by_indexes(engine: LedgerEngine) -> None:
    ledger = await engine.open(limits=Limits(running=2))
    await ledger._change(lambda tx: many_wait(tx.connection))

    def plans(connection: Connection) -> list[str]:
        given = {"queue": "", "default_running": 2, "limit": 100, "of_owner": "account:7", "first_tag": 0}
        given |= {"first_cursor": 0, "last_tag": 10**9, "last_cursor": 10**9}
        explain, column = ("EXPLAIN QUERY PLAN", 3) if engine.name == "sqlite" else ("EXPLAIN", 0)
        found: list[str] = []
        for statement in (NEXT_OWNER, NEXT, _OWNERS, _BETWEEN):
            compiled: Any = statement.compile(connection.engine)
            values = compiled.params | {name: given[name] for name in compiled.params if name in given}
            bound = values if compiled.positiontup is None else tuple(values[name] for name in compiled.positiontup)
            found += [str(row[column]) for row in connection.exec_driver_sql(f"{explain} {compiled}", bound)]
        return found

    if engine.name == "postgres":
        with psycopg.connect(engine.place, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
    steps = await ledger._read(plans)
    print(*steps, sep="\n")
    bad = [
        step for step in steps if re.search(r"Seq Scan on (jobs|files)|Sort Key|SCAN (jobs|files)|TEMP B-TREE", step)
    ]
    assert bad == []
    assert any("ix_jobs_line" in step for step in steps)
    [order] = await ledger.claim(Claim(most=1))
    assert (await ledger.view_submission(order.submission_id, limit=1)).submission.counts.running == 1
    assert await ledger.claim(Claim(most=9)) == []


async def test_what_a_claim_costs_does_not_grow_with_what_waits_or_with_who_may_not_run(tmp_path: Path) -> None:
    counted_steps = 0

    def count() -> None:
        nonlocal counted_steps
        counted_steps += 10

    engine = SqliteEngine(tmp_path)

    def count_in(connection: Any, _: object) -> None:
        connection.set_progress_handler(count, 10)

    event.listen(Pool, "connect", count_in)
    try:
        ledger = await engine.open(limits=Limits(running=2))
    finally:
        event.remove(Pool, "connect", count_in)
    await ledger._change(lambda tx: many_wait(tx.connection))
    await ledger.claim(Claim(queues=("none",)))  # reads the events that were written past the ledger
    counted_steps = 0
    [_] = await ledger.claim(Claim(most=1))
    found, counted_steps = counted_steps, 0
    assert await ledger.claim(Claim(most=1)) == []
    await engine.close()
    print(found, counted_steps)
    assert 0 < found < STEPS_MAX
    assert 0 < counted_steps < STEPS_MAX

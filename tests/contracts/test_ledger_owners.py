"""Whose things are, what each owner has sent in sum, and what is found by words."""

import asyncio
import random
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, func, select
from tests.contracts.ledgers import LedgerEngine
from tests.support import scenarios
from tests.support.scenarios import CANCELLED, CLIENT, FAILED, SUCCEEDED

from dropmill.engines.sql import search
from dropmill.engines.sql.tables import submissions as submissions_table
from dropmill.engines.sql.transaction import COUNTS
from dropmill.model.client import ClientIdentity
from dropmill.model.errors import NotFound
from dropmill.model.ids import (
    OPEN,
    Cursor,
    FileId,
    JobId,
    Owner,
    SubmissionId,
    new_file_id,
    new_job_id,
    new_notice_id,
    new_submission_id,
)
from dropmill.model.jobs import AttemptOutcome, AttemptState, Claim, JobError, JobState
from dropmill.model.notices import Notice
from dropmill.model.submissions import Counts
from dropmill.model.uploads import AbortCause, UploadState
from dropmill.ports.ledger import Ledger
from dropmill.ports.ledger.uploads import ResumableUpload

ADA, BOB = Owner("account:1"), Owner("browser:" + "b" * 64)
AT, LATER = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
LINK = Owner("link:" + "f" * 32 + ":" + "0" * 64)


async def opened(ledger: Ledger, owner: Owner, client: ClientIdentity = CLIENT) -> SubmissionId:
    submission_id = new_submission_id()
    await ledger.open_submission(submission_id, client, None, owner=owner)
    return submission_id


def notice(submission_id: SubmissionId | None) -> Notice:
    return Notice(
        id=new_notice_id(), text="x", submission_id=submission_id, posted_at=AT, expires_at=LATER, account=None
    )


def failed(message: str) -> AttemptOutcome:
    return AttemptOutcome(state=AttemptState.FAILED, exit_code=1, error=JobError(type="E", message=message))


def _kept_bytes(connection: Connection, owner: Owner) -> int:
    query = select(func.sum(submissions_table.c.kept_bytes)).where(submissions_table.c.owner == owner)
    return int(connection.execute(query).scalar_one())


async def found(ledger: Ledger, text: str, **more: Any) -> tuple[list[SubmissionId], list[JobId]]:
    """What a text finds, page by page."""
    submissions: list[SubmissionId] = []
    jobs: list[JobId] = []
    before = None
    while True:
        some = await ledger.submissions(before=before, limit=2, text=text, **more)
        submissions += [one.id for one in some.items]
        if (before := some.next) is None:
            break
    while True:
        page = await ledger.jobs(before=before, limit=2, text=text, **more)
        jobs += [one.id for one in page.items]
        if (before := page.next) is None:
            return submissions, jobs


# --- owners ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", [ADA, BOB, OPEN])
async def test_what_is_somebody_elses_is_not_there(ledger: Ledger, owner: Owner) -> None:
    """Every read says the same of it as of what was never sent."""
    mine, other = await opened(ledger, owner), await opened(ledger, Owner("account:12"))
    upload = ResumableUpload(
        file_id=new_file_id(), submission_id=mine, name="later.txt", path="later.txt", state=UploadState.ANNOUNCED,
        size=1, received=0, partial="p", metadata="", expected_sha256=None, expires_at=None, ip="", account=None,
    )  # fmt: skip
    await ledger.announce_uploads([upload])
    job_id, others = await scenarios.settled(ledger, mine, FAILED), await scenarios.settled(ledger, other, FAILED)
    file_id = (await ledger.job(job_id)).file_id
    for stranger in (Owner("account:12"), Owner("account:"), Owner("account"), Owner(owner + "x"), Owner("")):
        for read in (
            ledger.view_submission(mine, limit=9, visible_to=stranger),
            ledger.file(file_id, visible_to=stranger),
            ledger.job(job_id, visible_to=stranger),
            ledger.result(job_id, "a", None, visible_to=stranger),
            ledger.upload(upload.file_id, visible_to=stranger),
            ledger.submission_usage(mine, visible_to=stranger),
            ledger.awaited_files(mine, upload.file_id, ahead=9, visible_to=stranger),
            ledger.request_cancel(job_id, visible_to=stranger),
            ledger.retry_job(job_id, visible_to=stranger),
            ledger.request_cancels(mine, after=None, limit=9, visible_to=stranger),
            ledger.retry_failed(mine, after=None, limit=9, visible_to=stranger),
            ledger.post_notice(notice(mine), None, visible_to=stranger),
        ):
            read_: Awaitable[object] = read
            with pytest.raises(NotFound):
                await read_
        assert await ledger.announced_upload(mine, "later.txt", visible_to=stranger) is None
        for topic in ("all", f"submission:{mine}"):
            told = await ledger.events(topic, after=Cursor(0), limit=99, visible_to=stranger)
            assert mine not in {event.subject.submission_id for event in told.events}
            assert told.cursor == await ledger.newest_cursor()
            older = await ledger.events_before(topic, before=Cursor(99), limit=99, visible_to=stranger)
            assert mine not in {event.subject.submission_id for event in older.events}
        assert mine not in {
            one.id for one in (await ledger.submissions(before=None, limit=9, visible_to=stranger)).items
        }
        for words in ({}, {"state": "failed"}, {"submission_id": mine}, {"text": "a.t"}):
            jobs = await ledger.jobs(before=None, limit=9, visible_to=stranger, **words)
            assert job_id not in {one.id for one in jobs.items}
        assert mine not in (await found(ledger, "a.txt", visible_to=stranger))[0]
        assert await ledger.notices(AT, visible_to=stranger) == []
    assert (await ledger.job(job_id)).state is JobState.FAILED
    await ledger.post_notice(notice(mine), None, visible_to=owner)
    assert len(await ledger.notices(AT, visible_to=owner)) == 1
    assert await ledger.notices(AT, visible_to=Owner("account:12")) == []
    seen = await ledger.view_submission(mine, limit=9, visible_to=owner)
    assert seen == await ledger.view_submission(mine, limit=9)
    assert await ledger.file(file_id, visible_to=owner) == await ledger.file(file_id)
    assert await ledger.job(job_id, visible_to=owner) == await ledger.job(job_id)
    assert (await ledger.upload(upload.file_id, visible_to=owner)).submission_id == mine
    assert await ledger.announced_upload(mine, "later.txt", visible_to=owner) is not None
    assert len(await ledger.awaited_files(mine, upload.file_id, ahead=9, visible_to=owner)) == 1
    assert (await ledger.submission_usage(mine, visible_to=owner)).files == 2
    for state in (None, "failed"):
        assert [one.id for one in (await ledger.jobs(before=None, limit=9, state=state, visible_to=owner)).items] == [
            job_id
        ]
    assert [one.id for one in (await ledger.jobs(before=None, limit=9)).items] == [others, job_id]
    assert [one.id for one in (await ledger.submissions(before=None, limit=9, visible_to=owner)).items] == [mine]
    told = await ledger.events("all", after=Cursor(0), limit=99, visible_to=owner)
    assert {event.subject.submission_id for event in told.events} == {mine}
    assert (await ledger.events_before("all", before=Cursor(99), limit=99, visible_to=owner)).events == told.events
    assert len(told.events) == len((await ledger.events(f"submission:{mine}", after=Cursor(0), limit=99)).events)
    assert (await ledger.events("config", after=Cursor(0), limit=9, visible_to=owner)).events == []


async def test_a_submission_of_one_upload_has_an_owner_too(ledger: Ledger) -> None:
    upload = ResumableUpload(
        file_id=new_file_id(), submission_id=new_submission_id(), name="a", path="a", state=UploadState.ANNOUNCED,
        size=1, received=0, partial="p", metadata="", expected_sha256=None, expires_at=None, ip="", account=None,
    )  # fmt: skip
    await ledger.open_for_upload(upload, CLIENT, None, owner=ADA)
    assert (await ledger.upload(upload.file_id, visible_to=ADA)).file_id == upload.file_id
    with pytest.raises(NotFound):
        await ledger.upload(upload.file_id, visible_to=OPEN)


async def test_of_each_owner_the_ledger_knows_the_sums(ledger: Ledger, engine: LedgerEngine) -> None:
    """After a random walk, of changes that are made together and of some that are refused, counted anew."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    owners = [ADA, BOB, OPEN]
    submissions = {owner: [await opened(ledger, owner) for _ in range(2)] for owner in owners}
    everything = [one for several in submissions.values() for one in several]
    files: list[FileId] = []
    jobs: list[JobId] = []

    def step() -> Awaitable[Any]:
        kinds = ["start", "start", "store", "store", "whole", "attempt", "end", "cancel", "retry", "abort", "lose"]
        kind = chance.choice(kinds)
        file_id = chance.choice(files[-9:]) if files else new_file_id()
        job_id = chance.choice(jobs[-9:]) if jobs else new_job_id()
        match kind:
            case "start":
                files.append(new_file_id())
                return ledger.start_upload(files[-1], chance.choice(everything), "a", "a", 1)
            case "store":
                jobs.append(new_job_id())
                return ledger.store_upload(file_id, scenarios.blob(), jobs[-1])
            case "whole":
                chosen = [chance.choice(everything) for _ in range(3)]
                return ledger.store_files([scenarios.whole(one) for one in chosen])
            case "attempt":
                return ledger.claim(Claim())
            case "end":
                return ledger.end_attempt(job_id, chance.choice([1, 2]), chance.choice([SUCCEEDED, FAILED, CANCELLED]))
            case "cancel":
                return ledger.request_cancel(job_id)
            case "retry":
                return ledger.retry_job(job_id)
            case "lose":
                return ledger.lose_attempt(job_id, 1, 2)
            case _:
                return ledger.abort_upload(file_id, AbortCause.CUT_OFF, "cut")

    for _ in range(25):
        await asyncio.gather(*(step() for _ in range(chance.randint(1, 20))), return_exceptions=True)
    gone = submissions[BOB][0]
    await ledger.seal_submission(gone)
    for job in (await ledger.jobs(before=None, limit=500, submission_id=gone)).items:
        if job.state == "running":
            await ledger.end_attempt(job.id, job.attempts[-1].number, SUCCEEDED)
        if job.state == "queued":
            await ledger.request_cancel(job.id)
    for file in (await ledger.view_submission(gone, limit=500)).files:
        if file.state == "receiving":
            await ledger.abort_upload(file.id, AbortCause.CUT_OFF, "cut")
    settled_at = (await ledger.view_submission(gone, limit=1)).submission.settled_at
    assert settled_at is not None
    assert await ledger.begin_removal(gone, settled_at)

    again = await engine.open()
    total = Counts()
    for owner, several in submissions.items():
        counted = [(await again.view_submission(one, limit=1)).submission.counts for one in several]
        wanted = Counts(**{name: sum(getattr(one, name) for one in counted) for name in COUNTS})
        totals = await again.totals(visible_to=owner)
        assert (totals.submissions, totals.counts) == (2, wanted)
        total = Counts(**{name: getattr(total, name) + getattr(wanted, name) for name in COUNTS})
        kept = await again._read(_kept_bytes, owner)
        assert totals.kept_bytes == kept
    totals = await again.totals()
    assert (totals.submissions, totals.counts) == (6, total)
    assert (await again.totals(visible_to=LINK)).submissions == 0


# --- what is found by words ------------------------------------------------------------------------------------------


async def test_a_text_is_looked_for_in_names_paths_addresses_hosts_and_errors(ledger: Ledger) -> None:
    first = await opened(ledger, ADA, ClientIdentity(ip="203.0.113.9"))
    await ledger.identify_client(first, "pc9.Lab.example", True, "lab.example")
    second = await opened(ledger, BOB, ClientIdentity(ip="2001:db8::1"))
    one = await scenarios.running(ledger, first, "Messung/Größe 7.csv")
    other = await scenarios.running(ledger, second, "messung/b.csv")
    await ledger.end_attempt(other, 1, failed("Spalte 'Preis' fehlt: NO SUCH COLUMN"))
    third = await scenarios.queued(ledger, first, "c.csv")
    for text, submissions, jobs in (
        ("größe", [first], [one]),
        ("GRÖSSE 7", [first], [one]),
        ("Gro\u0308ße", [first], [one]),  # composed otherwise, as a file's name may be
        ("MESSUNG/", [second, first], [other, one]),
        (".csv", [second, first], [other, third, one]),
        ("c", [second, first], [other, third, one]),
        ("pc9.lab", [first], [third, one]),
        ("LAB.EXAMPLE", [first], [third, one]),
        ("0.113.9", [first], [third, one]),
        ("2001:DB8", [second], [other]),
        ("no such column", [second], [other]),
        ("preis", [second], [other]),
        ("\u0130", [], []),
        ("nowhere", [], []),
        ("a\0b", [], []),
        ("\udc80bc", [], []),
    ):
        assert await found(ledger, text) == (submissions, jobs), text
        mine = [job for job in jobs if job in (one, third)]
        assert await found(ledger, text, visible_to=ADA) == ([one for one in submissions if one == first], mine), text
    await ledger.retry_job(other)
    assert await found(ledger, "no such column") == ([], [])
    await ledger.claim(Claim(most=99))
    await ledger.end_attempt(other, 2, failed("beginning" + "x" * 1_000_000 + "ending"))
    assert await found(ledger, "beginning") == ([second], [other])
    assert await found(ledger, "ending") == ([], [])
    assert await found(ledger, "messung/b") == ([second], [other])


@pytest.mark.parametrize("few", [0, 5000])
@pytest.mark.parametrize("chunk", [1, 2, 200])
async def test_pages_of_what_was_found_have_no_hole_and_nothing_twice(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, few: int, chunk: int
) -> None:
    """Against a list made by hand, whichever way is taken: by what matches, or by what the owner or the state has."""
    monkeypatch.setattr(search, "FEW", few)
    monkeypatch.setattr(search, "CHUNK", chunk)
    chance = random.Random(7)
    sent: list[tuple[SubmissionId, Owner, bool]] = []
    for number in range(5):
        owner = chance.choice([ADA, BOB])
        is_named = number in (1, 3)
        client = ClientIdentity(ip="198.51.100.77" if is_named else "192.0.2.1")
        sent.append((await opened(ledger, owner, client), owner, is_named))
    jobs: dict[JobId, tuple[int, int, bool, bool, Owner]] = {}
    numbers = dict.fromkeys(range(5), 0)
    for _ in range(24):
        place = chance.randrange(5)
        submission_id, owner, is_named = sent[place]
        is_meant, is_failed = chance.random() < 0.4, chance.random() < 0.5
        job_id = await scenarios.running(ledger, submission_id, "x 100.77 y.txt" if is_meant else "other.txt")
        if is_failed:
            await ledger.end_attempt(job_id, 1, FAILED)
        jobs[job_id] = (place, numbers[place], is_meant or is_named, is_failed, owner)
        numbers[place] += 1
    newest_first = sorted(jobs, key=lambda job_id: jobs[job_id][:2], reverse=True)
    for visible_to in (None, ADA, BOB):
        more: dict[str, Any] = {"visible_to": visible_to}
        mine = [job_id for job_id in newest_first if visible_to in (None, jobs[job_id][4])]
        for state in (None, "failed", "running"):
            states = (True, False) if state is None else (state == "failed",)
            wanted = [job_id for job_id in mine if jobs[job_id][2] and jobs[job_id][3] in states]
            pages: list[JobId] = []
            before = None
            while True:
                page = await ledger.jobs(before=before, limit=3, text="100.77", state=state, **more)
                pages += [one.id for one in page.items]
                if (before := page.next) is None:
                    break
            assert pages == wanted, (visible_to, state)
        for place, (submission_id, *_) in enumerate(sent):
            inside = [job_id for job_id in mine if jobs[job_id][0] == place and jobs[job_id][2]]
            some = await ledger.jobs(before=None, limit=99, text="100.77", submission_id=submission_id, **more)
            assert [one.id for one in some.items] == inside
        matching = [
            one
            for place, (one, owner, is_named) in reversed(list(enumerate(sent)))
            if visible_to in (None, owner) and (is_named or any(job[0] == place and job[2] for job in jobs.values()))
        ]
        assert (await found(ledger, "100.77", visible_to=visible_to))[0] == matching
        settled = await ledger.submissions(before=None, limit=9, text="100.77", state="settled", **more)
        assert settled.items == []
        under_way = (await ledger.submissions(before=None, limit=9, text="100.77", state="open", **more)).items
        assert [one.id for one in under_way] == matching


async def test_what_is_removed_from_the_texts_is_not_found_any_more(ledger: Ledger, engine: LedgerEngine) -> None:
    """Retention may delete rows; whatever index there is follows."""
    submission_id = await opened(ledger, ADA)
    await scenarios.queued(ledger, submission_id, "report.txt")
    again = await engine.open()
    await again._change(lambda tx: tx.connection.exec_driver_sql("DELETE FROM search_texts"))
    assert await found(ledger, "report") == ([], [])
    await scenarios.queued(ledger, submission_id, "report 2.txt")
    assert (await found(ledger, "report"))[0] == [submission_id]


async def test_jobs_of_ones_own_are_cancelled_and_retried_as_anybodys(ledger: Ledger) -> None:
    mine = await opened(ledger, ADA)
    job_id = await scenarios.queued(ledger, mine)
    assert await ledger.request_cancel(job_id, visible_to=ADA) is JobState.CANCELLED
    await ledger.retry_job(job_id, visible_to=ADA)
    assert (await ledger.request_cancels(mine, after=None, limit=9, visible_to=ADA)).items == []
    assert (await ledger.job(job_id)).state is JobState.CANCELLED
    assert (await ledger.retry_failed(mine, after=None, limit=9, visible_to=ADA)).items == [job_id]


async def test_the_topic_of_an_owner_has_the_events_about_what_it_owns(ledger: Ledger) -> None:
    owners = [Owner("account:" + "a" * 32), Owner("browser:" + "b" * 64)]
    made = [await opened(ledger, owner) for owner in owners]
    await opened(ledger, OPEN)
    for owner, submission_id in zip(owners, made, strict=True):
        await scenarios.settled(ledger, submission_id)
        told = await scenarios.all_events(ledger, owner)
        assert told == await scenarios.all_events(ledger, f"submission:{submission_id}")
        assert {event.owner for event in told} == {owner}
        page = await ledger.events_before(owner, before=Cursor(10**6), limit=2)
        assert page.events == told[-2:]
    for nobody in ("account:", "account:" + "c" * 32, "browser:" + "a" * 32):
        if nobody != "account:":
            assert (await ledger.events(nobody, after=Cursor(0), limit=9)).events == []

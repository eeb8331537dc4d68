"""What every ledger promises. A further engine joins in `tests.contracts.ledgers`."""

import asyncio
import contextlib
import hashlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.contracts.ledgers import LedgerEngine
from tests.support import scenarios
from tests.support.scenarios import CANCELLED, CLIENT, FAILED, LIVENESS_S, SUCCEEDED, all_events, blob, names, recount

from dropmill.engines.sql import database
from dropmill.engines.sql.ledger import SqlLedger
from dropmill.engines.sql.transaction import Transaction
from dropmill.model.client import ClientIdentity
from dropmill.model.config import ConfigLocation
from dropmill.model.errors import (
    BadParameter,
    ConfigConflict,
    DropmillError,
    IllegalTransition,
    NotFound,
    Unavailable,
)
from dropmill.model.events import Event, EventName, Subject
from dropmill.model.history import HistoryFilter
from dropmill.model.ids import (
    Cursor,
    FileId,
    JobId,
    Owner,
    Sha256,
    SubmissionId,
    new_file_id,
    new_job_id,
    new_submission_id,
)
from dropmill.model.jobs import AttemptOutcome, AttemptState, Claim, Ended, JobError, JobState
from dropmill.model.submissions import Counts, Outcome
from dropmill.model.uploads import AbortCause, UploadState
from dropmill.ports.ledger import Ledger

NOBODY = SubmissionId("0" * 32)
ADA = Owner("account:" + "a" * 32)
HERE = ConfigLocation(host="pc7", path="/srv/app/config.yaml", data_folder="/srv/app/data")


# --- state and event together ----------------------------------------------------------------------------------------


async def test_a_file_from_its_first_byte_to_its_result(ledger: Ledger, engine: LedgerEngine) -> None:
    """Every step's event, its subject and its data, and the records that they tell of."""
    submission_id, file_id, job_id = new_submission_id(), new_file_id(), new_job_id()
    stored = blob()
    await ledger.open_submission(submission_id, CLIENT, "ada", owner=ADA)
    await ledger.identify_client(submission_id, "pc7.lab.example", True, "lab.example")
    await ledger.start_upload(file_id, submission_id, "a.txt", "folder/a.txt", None)
    await ledger.store_upload(file_id, stored, job_id)
    await ledger.seal_submission(submission_id)
    order = await scenarios.claimed(ledger)
    assert await ledger.end_attempt(job_id, order.number, SUCCEEDED)

    revision = await ledger.newest_revision()
    assert revision is not None
    client = replace(CLIENT, host="pc7.lab.example", verified=True, domain="lab.example")
    assert order.config == revision
    assert order.client == client
    assert (order.file_name, order.file_path, order.number) == ("a.txt", "folder/a.txt", 1)
    assert (order.blob, order.size, order.sha256) == (stored.key, stored.size, stored.sha256)
    assert (order.job_id, order.file_id, order.submission_id) == (job_id, file_id, submission_id)

    told = (await all_events(ledger))[1:]
    counts = {"announced": 0, "receiving": 0, "aborted": 0, "running": 0, "failed": 0, "cancelled": 0}
    duration = told[7].data["duration"]
    assert duration >= 0
    job_settled = {"state": "succeeded", "exit_code": 0, "error": None, "duration": duration, "output_size": 7}
    job_settled |= {"result_count": 0, "results": []}
    assert [(event.name.value, event.data) for event in told] == [
        ("submission.opened", {}),
        ("client.identified", {"host": "pc7.lab.example", "verified": True, "domain": "lab.example"}),
        ("upload.started", {"size": None, "path": "folder/a.txt"}),
        ("upload.stored", {"size": stored.size, "sha256": stored.sha256}),
        ("job.queued", {"reason": "stored"}),
        ("submission.sealed", {"counts": counts | {"queued": 1, "succeeded": 0}}),
        ("attempt.started", {"config_revision": revision.sha256, "host": "here"}),
        ("attempt.succeeded", {"exit_code": 0, "duration": duration, "output_size": 7}),
        ("job.settled", job_settled),
        ("submission.settled", {"number": 1, "counts": counts | {"queued": 0, "succeeded": 1}}),
    ]
    for event in told:
        subject = event.subject
        assert (subject.submission_id, subject.account) == (submission_id, "ada")
        assert subject.client == (CLIENT if event.name is EventName.SUBMISSION_OPENED else client)
        is_of_file = not event.name.startswith(("submission.", "client."))
        assert (subject.file_id, subject.name) == ((file_id, "a.txt") if is_of_file else (None, None))
        assert subject.job_id == (job_id if event.name.startswith(("job.", "attempt.")) else None)
        has_attempt = event.name.startswith("attempt.") or event.name is EventName.JOB_SETTLED
        assert subject.attempt == (1 if has_attempt else None)
    assert await all_events(ledger, ADA) == told == await all_events(ledger, f"submission:{submission_id}")

    view = await ledger.view_submission(submission_id, limit=10)
    assert view.cursor == told[-1].cursor == await ledger.newest_cursor()
    assert view.submission.client == client
    assert view.submission.is_settled
    assert view.submission.settled_at is not None
    assert view.submission.times_settled == 1
    (file,) = view.files
    assert file == await ledger.file(file_id)
    assert (file.state, file.size, file.received) == (UploadState.STORED, stored.size, stored.size)
    assert (file.sha256, file.blob, file.error) == (stored.sha256, stored.key, None)
    job = await ledger.job(job_id)
    assert file.job == job
    assert (job.state, job.exit_code, job.error) == (JobState.SUCCEEDED, 0, None)
    assert (job.value, job.output_size, job.duration) == ({"lines": 3}, 7, duration)
    (attempt,) = job.attempts
    assert (attempt.number, attempt.state, attempt.host) == (1, AttemptState.SUCCEEDED, "here")
    assert attempt.config_revision == revision.sha256

    newest: dict[str, int] = {}
    for hint in engine.moved:
        newest.update(hint)
    assert newest == dict.fromkeys(("all", f"submission:{submission_id}", ADA), view.cursor) | {"config": 1, "audit": 1}


async def test_a_failure_is_told_with_its_error(ledger: Ledger) -> None:
    job_id = await scenarios.settled(ledger, await scenarios.opened(ledger), FAILED)
    error = {"type": "ValueError", "message": "no such column"}
    attempt_failed, job_settled = (await all_events(ledger))[-2:]
    assert (attempt_failed.name, attempt_failed.data["error"]) == (EventName.ATTEMPT_FAILED, error)
    assert (job_settled.name, job_settled.data["error"]) == (EventName.JOB_SETTLED, error)
    job = await ledger.job(job_id)
    assert (job.state, job.exit_code, job.error) == (JobState.FAILED, 1, FAILED.error)


@pytest.mark.parametrize("text", ["caf\u00e9 \u202e \0 \U0001f4a9", "half a character: \udcff\ud800"])
async def test_whatever_text_an_error_holds_its_job_settles(ledger: Ledger, text: str) -> None:
    """A script may raise with bytes of a file name in it that no encoding takes."""
    failed = replace(FAILED, error=JobError(type=text, message=text), value={text: text})
    job = await ledger.job(await scenarios.settled(ledger, await scenarios.opened(ledger), failed))
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.message.encode().startswith(text[:4].encode())
    assert (await all_events(ledger))[-1].data["error"] == {"type": job.error.type, "message": job.error.message}


async def test_a_client_is_identified_once(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    await ledger.identify_client(submission_id, None, False, None)
    await ledger.identify_client(submission_id, "late.example", True, "late.example")
    assert await names(ledger, f"submission:{submission_id}") == ["submission.opened", "client.identified"]
    assert (await ledger.view_submission(submission_id, limit=1)).submission.client == CLIENT


async def test_an_aborted_upload_says_why_and_lets_its_submission_settle(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    file_id = await scenarios.receiving(ledger, submission_id)
    await ledger.seal_submission(submission_id)
    assert not (await ledger.view_submission(submission_id, limit=1)).submission.is_settled
    await ledger.abort_upload(file_id, AbortCause.CUT_OFF, "the connection was cut")
    assert (await names(ledger))[-3:] == ["submission.sealed", "upload.aborted", "submission.settled"]
    file = await ledger.file(file_id)
    assert (file.state, file.error, file.job) == (UploadState.ABORTED, "the connection was cut", None)
    assert file.cause is AbortCause.CUT_OFF
    *_, aborted, _ = (await ledger.events("all", after=Cursor(0), limit=99)).events
    assert aborted.data == {"cause": "cut_off", "reason": "the connection was cut"}
    assert await recount(ledger, submission_id) == Counts(aborted=1)


@pytest.mark.parametrize("cause", [cause for cause in AbortCause if cause is not AbortCause.REPLACED])
async def test_a_ledger_keeps_the_cause_of_an_aborted_upload_and_only_a_cancelled_one_is_no_failure(
    ledger: Ledger, cause: AbortCause
) -> None:
    submission_id = await scenarios.opened(ledger)
    file_id = await scenarios.receiving(ledger, submission_id)
    assert (await ledger.file(file_id)).cause is None
    await ledger.abort_upload(file_id, cause, "why")
    await ledger.seal_submission(submission_id)
    view = await ledger.view_submission(submission_id, limit=9)
    assert [(file.cause, file.error) for file in view.files] == [(cause, "why")]
    outcome = Outcome.CANCELLED if cause is AbortCause.CANCELLED else Outcome.FAILED
    assert view.submission.outcome is outcome
    assert view.submission.counts == Counts(aborted=1)
    for state in Outcome:
        found = (await ledger.history(HistoryFilter(state=state.value), limit=9)).entries
        assert [entry.submission.outcome for entry in found] == [outcome] * (state is outcome)


async def test_one_file_that_broke_off_beside_cancelled_ones_makes_a_submission_failed(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    for cause in (AbortCause.CANCELLED, AbortCause.CUT_OFF, AbortCause.CANCELLED):
        await ledger.abort_upload(await scenarios.receiving(ledger, submission_id), cause, "why")
    await ledger.seal_submission(submission_id)
    submission = (await ledger.view_submission(submission_id, limit=1)).submission
    assert (submission.given_up, submission.counts.aborted, submission.outcome) == (2, 3, Outcome.FAILED)


async def test_sealing_twice_changes_nothing(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    await ledger.seal_submission(submission_id)
    cursor = await ledger.newest_cursor()
    await ledger.seal_submission(submission_id)
    assert await ledger.newest_cursor() == cursor
    assert (await names(ledger))[-2:] == ["submission.sealed", "submission.settled"]


async def test_a_refused_text_is_told(ledger: Ledger) -> None:
    errors = [{"line": 4, "column": 2, "path": "/a", "message": "a key stands twice"}]
    await ledger.reject_config(errors, CLIENT, "ada")
    (_, event) = await all_events(ledger, "config")
    assert (event.name, event.data) == (EventName.CONFIG_REJECTED, {"errors": errors})
    assert (event.subject.client, event.subject.account) == (CLIENT, "ada")


# --- what is refused -------------------------------------------------------------------------------------------------

Refused = Callable[[Ledger, Any], Awaitable[Any]]


async def _unchanged(ledger: Ledger, error: type[DropmillError], change: Awaitable[Any]) -> None:
    before = await ledger.newest_cursor()
    with pytest.raises(error):
        await change
    assert await ledger.newest_cursor() == before


async def test_unknown_ids_are_not_found(ledger: Ledger) -> None:
    job_id, file_id = new_job_id(), new_file_id()
    for change in (
        ledger.identify_client(NOBODY, None, False, None),
        ledger.start_upload(file_id, NOBODY, "a", "a", None),
        ledger.store_upload(file_id, blob(), job_id),
        ledger.abort_upload(file_id, AbortCause.CUT_OFF, "gone"),
        ledger.seal_submission(NOBODY),
        ledger.take_upload(file_id),
        ledger.extend_upload(file_id, size=1, received=1, expires_at=None, fence=1),
        ledger.end_attempt(job_id, 1, SUCCEEDED),
        ledger.lose_attempt(job_id, 1, 3),
        ledger.request_cancel(job_id),
        ledger.request_cancels(NOBODY, after=None, limit=1),
        ledger.retry_job(job_id),
        ledger.record_in_file(HERE, 99),
        ledger.view_submission(NOBODY, limit=1),
        ledger.file(file_id),
        ledger.job(job_id),
        ledger.revision_text(Sha256("0" * 64)),
        ledger.events("rooms", after=Cursor(0), limit=1),
        ledger.events("submission:", after=Cursor(0), limit=1),
        ledger.events("all:x", after=Cursor(0), limit=1),
        ledger.events_before("rooms", before=Cursor(9), limit=1),
        ledger.events_before("submission:", before=Cursor(9), limit=1),
    ):
        await _unchanged(ledger, NotFound, change)


@pytest.mark.parametrize("text", ["\0", "a\0b", "\udc80", "\u00e9", "x" * 5000, "%", "'"])
async def test_what_can_be_no_id_is_not_found(ledger: Ledger, text: str) -> None:
    """As it may stand in an address: some databases hold no NUL, and none a lone surrogate."""
    submission_id, file_id, job_id, sha256 = SubmissionId(text), FileId(text), JobId(text), Sha256(text)
    submission = await scenarios.opened(ledger)
    job = await scenarios.settled(ledger, submission)
    for asked in (
        ledger.view_submission(submission_id, limit=1),
        ledger.file(file_id),
        ledger.job(job_id),
        ledger.upload(file_id),
        ledger.submission_usage(submission_id),
        ledger.result(job_id, "a", None),
        ledger.result(job, text, None),
        ledger.revision_text(sha256),
        ledger.retry_job(job_id),
        ledger.request_cancel(job_id),
        ledger.abort_upload(file_id, AbortCause.CUT_OFF, "why"),
        ledger.seal_submission(submission_id),
        ledger.retry_failed(submission_id, after=None, limit=1),
        ledger.purge_revision(sha256, None, None),
    ):
        await _unchanged(ledger, NotFound, asked)
    assert (await ledger.events(f"submission:{text}", after=Cursor(0), limit=9)).events == []
    for topic in (f"account:{text}", f"browser:{text}"):
        assert (await ledger.events(topic, after=Cursor(0), limit=9)).events == []
    assert (await ledger.events_before(f"submission:{text}", before=Cursor(99), limit=9)).events == []
    assert (await ledger.jobs(before=None, limit=9, submission_id=submission_id)).items == []
    assert await ledger.announced_upload(submission, text) is None


@pytest.mark.parametrize(
    ("text", "kept"), [("a\0b", "a\\x00b"), ("a\udc80b", "a\\udc80b"), ("\u00e9\U0001f600", "\u00e9\U0001f600")]
)
async def test_a_name_that_no_database_holds_is_kept_as_text_that_shows_it(
    ledger: Ledger, text: str, kept: str
) -> None:
    submission_id = await scenarios.opened(ledger, replace(CLIENT, user_agent=text), account=text)
    file_id = await scenarios.receiving(ledger, submission_id, text)
    await ledger.abort_upload(file_id, AbortCause.CUT_OFF, text)
    file = await ledger.file(file_id)
    submission = (await ledger.view_submission(submission_id, limit=1)).submission
    assert {file.name, file.path, file.error, submission.account, submission.client.user_agent} == {kept}


async def test_cursors_and_keys_of_pages_may_pass_what_32_bits_hold(empty: SqlLedger) -> None:
    await scenarios.save(empty)

    def far(tx: Transaction) -> None:
        tx.cursor += 2**33
        tx.emit(EventName.CONFIG_PURGED, Subject(), sha256="a")

    await empty._change(far)
    submission_id = await scenarios.opened(empty)
    job_id = await scenarios.running(empty, submission_id)
    assert await empty.newest_cursor() > 2**33
    assert (await empty.events("all", after=Cursor(2**33 + 2), limit=9)).events
    assert await empty.lose_attempt(job_id, 1, 5) is JobState.QUEUED
    assert await scenarios.in_line(empty) == [job_id]
    last = str(2**63 - 1)
    assert (await empty.submissions(before=last, limit=9)).items
    assert (await empty.jobs(before=last, limit=9)).items
    assert (await empty.revisions(before=last, limit=9)).items
    assert (await empty.view_submission(submission_id, after=last, limit=9)).files == []
    with pytest.raises(NotFound):
        await empty.result(job_id, "a", 2**63 - 1)


async def test_illegal_transitions_are_refused_and_change_nothing(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    running = await scenarios.running(ledger, submission_id)
    stored = (await ledger.job(await scenarios.queued(ledger, submission_id))).file_id
    aborted = await scenarios.receiving(ledger, submission_id)
    await ledger.abort_upload(aborted, AbortCause.CUT_OFF, "cut")
    waiting = await scenarios.queued(ledger, submission_id)
    await ledger.seal_submission(submission_id)
    counts = await recount(ledger, submission_id)
    for change in (
        ledger.start_upload(new_file_id(), submission_id, "late", "late", None),
        ledger.store_upload(stored, blob(), new_job_id()),
        ledger.store_upload(aborted, blob(), new_job_id()),
        ledger.abort_upload(stored, AbortCause.CUT_OFF, "late"),
        ledger.abort_upload(aborted, AbortCause.CUT_OFF, "again"),
        ledger.retry_job(waiting),
        ledger.retry_job(running),
        ledger.end_attempt(running, 1, AttemptOutcome(state=AttemptState.RUNNING, exit_code=None)),
    ):
        await _unchanged(ledger, IllegalTransition, change)
    assert await recount(ledger, submission_id) == counts
    assert (await ledger.job(running)).attempts[0].state is AttemptState.RUNNING


async def test_nothing_is_queued_before_there_is_a_config(empty: Ledger) -> None:
    file_id = await scenarios.receiving(empty, await scenarios.opened(empty))
    await _unchanged(empty, Unavailable, empty.store_upload(file_id, blob(), new_job_id()))
    assert (await empty.file(file_id)).state is UploadState.RECEIVING


async def test_a_refused_change_leaves_no_trace_and_harms_no_neighbour(ledger: Ledger) -> None:
    """All of these are handed over before the first is made, so that an engine that groups has them in one group."""
    submission_id = await scenarios.opened(ledger)
    files = [new_file_id() for _ in range(20)]
    job_id = new_job_id()
    handed: list[Awaitable[Any]] = []
    for file_id in files:
        handed.append(ledger.start_upload(file_id, submission_id, "a", "a", None))
        handed.append(ledger.start_upload(file_id, submission_id, "twice", "twice", None))  # no such id again
        # Refused by its job's id after the file was marked, the event told and the counter moved.
        handed.append(ledger.store_upload(file_id, blob(), job_id))
    results = await asyncio.gather(*handed, return_exceptions=True)
    kinds = Counter(type(result).__name__ for result in results)
    assert kinds["NoneType"] == len(files) + 1
    assert await recount(ledger, submission_id) == Counts(receiving=len(files) - 1, queued=1)
    assert Counter(await names(ledger))["upload.started"] == len(files)
    assert Counter(await names(ledger))["upload.stored"] == 1
    assert (await ledger.file(files[0])).job == await ledger.job(job_id)
    for file_id in files[1:]:
        file = await ledger.file(file_id)
        assert (file.state, file.name, file.job) == (UploadState.RECEIVING, "a", None)


# --- cursors ---------------------------------------------------------------------------------------------------------


async def test_cursors_have_no_hole_under_many_writers_with_refusals(engine: LedgerEngine) -> None:
    """Two ledgers on one database, as two processes have; each of them with many callers."""
    ledgers = [await engine.open(lock="one"), await engine.open(lock="other")]
    await scenarios.save(ledgers[0])

    async def write(ledger: Ledger, number: int) -> SubmissionId:
        submission_id = await scenarios.opened(ledger, owner=Owner(f"browser:{number % 3:064}"))
        outcome = (SUCCEEDED, FAILED, CANCELLED)[number % 3]
        for _ in range(4):
            await scenarios.queued(ledger, submission_id)
            order = await scenarios.claimed(ledger)  # of whichever submission is next
            assert await ledger.end_attempt(order.job_id, order.number, outcome) == Ended(state=JobState(outcome.state))
            with pytest.raises(NotFound):
                await ledger.retry_job(new_job_id())
        await ledger.seal_submission(submission_id)
        return submission_id

    for submission_id in await asyncio.gather(*(write(ledgers[number % 2], number) for number in range(12))):
        told = await all_events(ledgers[0], f"submission:{submission_id}")
        assert (told[0].name, told[-1].name) == (EventName.SUBMISSION_OPENED, EventName.SUBMISSION_SETTLED)
        of_files: dict[FileId, list[str]] = {}
        for event in told:
            if event.subject.file_id is not None:
                of_files.setdefault(event.subject.file_id, []).append(event.name.value)
        assert len(of_files) == 4
        for steps in of_files.values():
            assert steps.pop(4) in ("attempt.succeeded", "attempt.failed", "attempt.cancelled")
            assert steps == ["upload.started", "upload.stored", "job.queued", "attempt.started", "job.settled"]
    assert len(await all_events(ledgers[0])) == 1 + 12 * (3 + 4 * 6)
    assert len(await all_events(ledgers[1], f"browser:{1:064}")) == 4 * (3 + 4 * 6)


async def test_hints_follow_the_commit_they_tell_of(engine: LedgerEngine) -> None:
    ledger = await engine.open()
    await asyncio.gather(*(scenarios.opened(ledger) for _ in range(50)))
    newest = [hint["all"] for hint in engine.moved]
    assert newest == sorted(newest)
    assert newest[-1] == 50 == await ledger.newest_cursor()
    assert len(set().union(*engine.moved)) == 51


async def test_a_page_of_events_says_how_far_was_looked(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    other = await scenarios.opened(ledger)
    await ledger.seal_submission(other)
    newest = await ledger.newest_cursor()
    topic = f"submission:{submission_id}"
    short = await ledger.events(topic, after=Cursor(0), limit=2)
    assert ([event.name for event in short.events], short.cursor) == ([EventName.SUBMISSION_OPENED], newest)
    full = await ledger.events(topic, after=Cursor(0), limit=1)
    assert full.cursor == full.events[0].cursor < newest
    assert (await ledger.events(topic, after=newest, limit=5)).cursor == newest
    assert (await ledger.events(topic, after=Cursor(newest + 7), limit=5)).cursor == newest + 7  # never back
    assert (await ledger.events(f"submission:{NOBODY}", after=Cursor(0), limit=5)).events == []


async def test_events_are_read_backwards_page_by_page_none_missed_and_none_twice(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger, owner=ADA)
    for _ in range(4):
        await scenarios.opened(ledger)  # of no interest to the topics of the submission and of its owner
        await scenarios.settled(ledger, submission_id)
    newest = await ledger.newest_cursor()
    for topic in ("all", "config", f"submission:{submission_id}", ADA):
        whole = await all_events(ledger, topic)
        for limit in (1, 2, 7, 1000):
            before: Cursor = Cursor(newest + 1)
            read: list[Event] = []
            while before:
                page = await ledger.events_before(topic, before=before, limit=limit)
                assert [event.cursor for event in page.events] == sorted(event.cursor for event in page.events)
                assert len(page.events) <= limit
                assert (page.cursor == 0) or page.cursor == page.events[0].cursor
                assert not page.is_cut
                read, before = [*page.events, *read], page.cursor
            assert read == whole


async def test_nothing_is_before_the_first_event_nor_in_a_topic_without_any(ledger: Ledger) -> None:
    for topic, before in (("all", 0), ("all", 1), (f"submission:{NOBODY}", 99), ("account:nobody", 99)):
        page = await ledger.events_before(topic, before=Cursor(before), limit=5)
        assert (page.events, page.cursor) == ([], 0)
    newest = await ledger.newest_cursor()
    page = await ledger.events_before("all", before=Cursor(2**62), limit=1)
    assert page.events[-1].cursor == newest


async def test_a_restart_goes_on_where_it_was(engine: LedgerEngine) -> None:
    before = await engine.open()
    await scenarios.save(before)
    submission_id = await scenarios.opened(before)
    job_id = await scenarios.queued(before, submission_id)
    told = await all_events(before)
    await engine.close()
    after = await engine.open()
    assert await all_events(after) == told
    assert await after.newest_cursor() == len(told)
    assert (await scenarios.claimed(after)).job_id == job_id
    assert (await all_events(after))[-1].name is EventName.ATTEMPT_STARTED


async def test_a_view_and_its_cursor_are_of_one_moment(ledger: Ledger) -> None:
    """What a page is shown, followed from the cursor it is given, counts each file once."""
    submission_id = await scenarios.opened(ledger)

    async def send() -> None:
        for _ in range(60):
            await scenarios.queued(ledger, submission_id)

    async def look() -> None:
        while not sending.done():
            view = await ledger.view_submission(submission_id, limit=1000)
            assert len(view.files) == view.submission.counts.total
            events = await all_events(ledger, f"submission:{submission_id}")
            started = [event for event in events if event.name is EventName.UPLOAD_STARTED]
            queued = [event for event in events if event.name is EventName.JOB_QUEUED]
            assert len(view.files) == sum(event.cursor <= view.cursor for event in started)
            assert view.submission.counts.queued == sum(event.cursor <= view.cursor for event in queued)
            assert sum(file.job is not None for file in view.files) == view.submission.counts.queued

    sending = asyncio.create_task(send())
    async with asyncio.timeout(LIVENESS_S):
        await asyncio.gather(sending, look(), look())


# --- cancelled callers, closing --------------------------------------------------------------------------------------


async def test_a_cancelled_callers_change_is_made_or_refused_all_the_same(
    engine: LedgerEngine, recwarn: pytest.WarningsRecorder
) -> None:
    ledger = await engine.open()
    complaints: list[Mapping[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    ids = [new_submission_id() for _ in range(40)]
    callers = [
        asyncio.create_task(ledger.open_submission(submission_id, CLIENT, None)) for submission_id in [*ids, ids[0]]
    ]
    await asyncio.sleep(0)  # each has handed over its change
    for caller in callers:
        caller.cancel()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    await engine.close()
    ledger = await engine.open()
    assert await names(ledger) == ["submission.opened"] * len(ids)
    for submission_id in ids:
        await ledger.view_submission(submission_id, limit=1)
    assert complaints == []


@pytest.fixture
def short_queue(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many changes wait at most in a ledger that is opened after this: so few that a test soon has more."""
    monkeypatch.setattr(database, "QUEUE_MAX", 400)
    monkeypatch.setattr(database, "BATCH_MAX", 25)
    return 400


async def test_closing_commits_what_was_handed_over_and_refuses_the_rest(
    short_queue: int, engine: LedgerEngine
) -> None:
    """Nobody waits for ever: a change is made, or refused as unavailable."""
    ledger = await engine.open()
    ids = [new_submission_id() for _ in range(short_queue * 3 // 2)]
    callers = [asyncio.create_task(ledger.open_submission(submission_id, CLIENT, None)) for submission_id in ids]
    await asyncio.sleep(0)
    closing = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    callers.append(asyncio.create_task(ledger.open_submission(new_submission_id(), CLIENT, None)))
    async with asyncio.timeout(LIVENESS_S):
        results = await asyncio.gather(*callers, return_exceptions=True)
        await closing
    refused = [result for result in results if isinstance(result, BaseException)]
    made = len(results) - len(refused)
    assert all(isinstance(result, Unavailable) for result in refused)
    assert isinstance(results[-1], Unavailable)
    assert made > 0
    with pytest.raises(Unavailable):
        await ledger.seal_submission(ids[0])
    ledger = await engine.open()
    assert await ledger.newest_cursor() == made
    for submission_id, result in list(zip(ids, results[:-1], strict=True))[:: len(ids) // 40]:
        with pytest.raises(NotFound) if isinstance(result, BaseException) else contextlib.nullcontext():
            await ledger.view_submission(submission_id, limit=1)


async def test_changes_are_made_in_the_order_they_were_handed_over(short_queue: int, ledger: Ledger) -> None:
    """Also when more are waiting than an engine takes at once."""
    ids = [new_submission_id() for _ in range(short_queue * 5 // 4)]
    await asyncio.gather(*(ledger.open_submission(submission_id, CLIENT, None) for submission_id in ids))
    told = [event.subject.submission_id for event in (await all_events(ledger))[1:]]
    assert told == ids


# --- attempts --------------------------------------------------------------------------------------------------------


async def test_a_job_is_claimed_once(ledger: Ledger) -> None:
    job_id = await scenarios.queued(ledger, await scenarios.opened(ledger))
    claimed = await asyncio.gather(*(ledger.claim(Claim()) for _ in range(8)))
    assert [(order.job_id, order.number) for orders in claimed for order in orders] == [(job_id, 1)]
    assert Counter(await names(ledger))["attempt.started"] == 1


async def test_a_worker_that_wakes_late_changes_nothing(ledger: Ledger, engine: LedgerEngine) -> None:
    job_id = await scenarios.running(ledger, await scenarios.opened(ledger))
    assert await ledger.lose_attempt(job_id, 1, 5) is JobState.QUEUED
    cursor = await ledger.newest_cursor()
    assert not await ledger.end_attempt(job_id, 1, SUCCEEDED)
    assert await ledger.lose_attempt(job_id, 1, 5) is None
    other = await engine.open(lock="another")
    order = await scenarios.claimed(other)
    assert (order.job_id, order.number) == (job_id, 2)
    assert not await ledger.end_attempt(job_id, 1, SUCCEEDED)
    assert not await ledger.end_attempt(job_id, 3, SUCCEEDED)
    assert await ledger.lose_attempt(job_id, 1, 5) is None
    assert await ledger.newest_cursor() == cursor + 1
    assert await other.end_attempt(job_id, 2, FAILED)
    assert not await ledger.end_attempt(job_id, 2, SUCCEEDED)
    job = await ledger.job(job_id)
    assert job.state is JobState.FAILED
    assert [attempt.state for attempt in job.attempts] == [AttemptState.LOST, AttemptState.FAILED]


async def test_an_attempt_is_lost_so_often_and_then_fails(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    job_id = await scenarios.queued(ledger, submission_id)
    await ledger.seal_submission(submission_id)
    for number in (1, 2, 3):
        assert (await scenarios.claimed(ledger)).number == number
        state = await ledger.lose_attempt(job_id, number, 3)
        assert state is (JobState.FAILED if number == 3 else JobState.QUEUED)
    job = await ledger.job(job_id)
    assert (job.state, job.error and job.error.type) == (JobState.FAILED, "lost")
    assert (await names(ledger))[-3:] == ["attempt.lost", "job.settled", "submission.settled"]
    reasons = [event.data["reason"] for event in await all_events(ledger) if event.name is EventName.JOB_QUEUED]
    assert reasons == ["stored", "lost", "lost"]

    await ledger.retry_job(job_id)  # asked for again: it may be lost as often again
    assert (await scenarios.claimed(ledger)).number == 4
    assert await ledger.lose_attempt(job_id, 4, 3) is JobState.QUEUED
    assert await recount(ledger, submission_id) == Counts(queued=1)


async def test_a_waiting_job_is_cancelled_at_once_and_others_not(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    await scenarios.running(ledger, submission_id)
    job_id = await scenarios.queued(ledger, submission_id)
    assert await ledger.request_cancel(job_id) is JobState.CANCELLED
    event = (await all_events(ledger))[-1]
    assert event.data == {
        "state": "cancelled",
        "exit_code": None,
        "error": None,
        "duration": None,
        "output_size": 0,
        "result_count": 0,
        "results": [],
    }
    assert event.subject.attempt is None
    cursor = await ledger.newest_cursor()
    with pytest.raises(IllegalTransition, match="settled already"):
        await ledger.request_cancel(job_id)
    assert await ledger.claim(Claim()) == []
    assert await ledger.newest_cursor() == cursor
    assert await recount(ledger, submission_id) == Counts(cancelled=1, running=1)


@pytest.mark.parametrize("outcome", [SUCCEEDED, FAILED, CANCELLED, None])
async def test_a_retry_from_any_end_runs_with_todays_config(ledger: Ledger, outcome: AttemptOutcome | None) -> None:
    submission_id = await scenarios.opened(ledger)
    if outcome is None:
        job_id = await scenarios.queued(ledger, submission_id)
        await ledger.request_cancel(job_id)
    else:
        job_id = await scenarios.settled(ledger, submission_id, outcome)
    await ledger.seal_submission(submission_id)
    sha256 = await scenarios.save(ledger, b"a: 2\n")
    await ledger.retry_job(job_id)

    job = await ledger.job(job_id)
    assert (job.state, job.exit_code, job.error, job.value) == (JobState.QUEUED, None, None, None)
    assert (job.started_at, job.settled_at, job.output_size, job.duration) == (None, None, 0, None)
    submission = (await ledger.view_submission(submission_id, limit=1)).submission
    assert (submission.is_settled, submission.settled_at, submission.times_settled) == (False, None, 1)
    await scenarios.save(ledger, b"a: 3\n")  # too late for this attempt
    order = await scenarios.claimed(ledger)
    assert order.config.sha256 == sha256
    assert order.number == (1 if outcome is None else 2)
    assert await ledger.end_attempt(job_id, order.number, SUCCEEDED)
    settled = [event.data["number"] for event in await all_events(ledger) if event.name == "submission.settled"]
    assert settled == [1, 2]
    assert await recount(ledger, submission_id) == Counts(succeeded=1)


async def test_an_attempt_runs_with_the_config_of_the_moment_its_job_was_queued(ledger: Ledger) -> None:
    job_id = await scenarios.queued(ledger, await scenarios.opened(ledger))
    queued_with = await ledger.newest_revision()
    await scenarios.save(ledger, b"a: 2\n")
    order = await scenarios.claimed(ledger)
    assert order.config == queued_with
    assert await ledger.lose_attempt(job_id, 1, 5) is JobState.QUEUED
    again = await scenarios.claimed(ledger)
    assert again.config == queued_with


async def test_a_submission_settles_once_and_once_more_after_each_retry(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    first, second = await scenarios.running(ledger, submission_id), await scenarios.running(ledger, submission_id)
    await ledger.end_attempt(first, 1, SUCCEEDED)
    assert "submission.settled" not in await names(ledger)  # another job runs
    await ledger.end_attempt(second, 1, FAILED)
    assert "submission.settled" not in await names(ledger)  # it is still open
    await ledger.seal_submission(submission_id)
    for number in (2, 3):
        await ledger.retry_job(second)
        await scenarios.claimed(ledger)
        await ledger.end_attempt(second, number, FAILED)
    told = [event for event in await all_events(ledger) if event.name is EventName.SUBMISSION_SETTLED]
    assert [event.data["number"] for event in told] == [1, 2, 3]
    assert all(event.data["counts"]["succeeded"] == event.data["counts"]["failed"] == 1 for event in told)


async def test_jobs_wait_in_the_order_they_were_queued_a_retried_one_at_the_end(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    jobs = [await scenarios.queued(ledger, submission_id) for _ in range(4)]
    assert await scenarios.in_line(ledger) == jobs
    assert (await scenarios.claimed(ledger)).job_id == jobs[0]
    await ledger.lose_attempt(jobs[0], 1, 5)
    await ledger.request_cancel(jobs[1])
    await ledger.retry_job(jobs[1])
    assert await scenarios.in_line(ledger) == [jobs[2], jobs[3], jobs[0], jobs[1]]


# --- recovery --------------------------------------------------------------------------------------------------------


async def test_recovery_settles_what_an_earlier_process_left(ledger: Ledger, engine: LedgerEngine) -> None:
    crashed = await scenarios.opened(ledger)
    running, worn = await scenarios.running(ledger, crashed), await scenarios.running(ledger, crashed)
    await ledger.lose_attempt(worn, 1, 2)
    assert (await scenarios.claimed(ledger)).job_id == worn
    cut = await scenarios.receiving(ledger, crashed)
    sealed = await scenarios.opened(ledger)
    left = await scenarios.receiving(ledger, sealed)
    await ledger.seal_submission(sealed)
    untouched = await scenarios.opened(ledger)
    settled = await scenarios.settled(ledger, untouched)
    await ledger.seal_submission(untouched)
    waiting = await scenarios.queued(ledger, crashed)
    empty = await scenarios.opened(ledger)
    before = len(await all_events(ledger))

    after = await engine.open()
    found = await after.recover(2, "the server stopped")
    assert (found.aborted, found.sealed) == (2, 2)
    assert {(attempt.job_id, attempt.number) for attempt in found.lost} == {(running, 1), (worn, 2)}
    for file_id in (cut, left):
        file = await ledger.file(file_id)
        assert (file.state, file.error) == (UploadState.ABORTED, "the server stopped")
    assert await recount(ledger, crashed) == Counts(queued=2, failed=1, aborted=1)
    assert await scenarios.in_line(ledger) == [waiting, running]
    assert (await ledger.view_submission(sealed, limit=1)).submission.is_settled
    assert (await ledger.view_submission(empty, limit=1)).submission.is_settled
    assert (await ledger.job(settled)).state is JobState.SUCCEEDED
    assert not any(event.subject.submission_id == untouched for event in (await all_events(ledger))[before:])

    cursor = await ledger.newest_cursor()
    again = await after.recover(2, "the server stopped")
    assert (again.aborted, again.sealed, again.lost) == (0, 0, [])
    assert await ledger.newest_cursor() == cursor


# --- a random walk ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("round_", range(3))
async def test_after_any_walk_counters_rows_and_events_tell_the_same(
    ledger: Ledger, engine: LedgerEngine, round_: int
) -> None:
    """Bursts of random changes, many of them illegal; then every file is counted three ways."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    submissions = [await scenarios.opened(ledger) for _ in range(3)]
    files: list[FileId] = []
    jobs: list[JobId] = []
    after = await engine.open()  # a later run, to which the other's work is an earlier one's

    def step() -> Awaitable[Any]:
        kind = chance.choices(
            ["start", "store", "abort", "attempt", "end", "lose", "cancel", "retry", "seal", "recover"],
            [9, 9, 1, 9, 9, 2, 1, 2, 0.2, 0.1],
        )[0]
        file_id = chance.choice(files[-8:]) if files else new_file_id()
        job_id = chance.choice(jobs[-12:]) if jobs else new_job_id()
        number = chance.choice([1, 1, 1, 2, 3])
        match kind:
            case "start":
                files.append(new_file_id())
                return ledger.start_upload(files[-1], chance.choice(submissions), "a", "a", 1)
            case "store":
                jobs.append(new_job_id())
                return ledger.store_upload(file_id, blob(), jobs[-1])
            case "abort":
                return ledger.abort_upload(file_id, AbortCause.CUT_OFF, "cut")
            case "attempt":
                return ledger.claim(Claim(most=chance.randint(1, 2)))
            case "end":
                return ledger.end_attempt(job_id, number, chance.choice([SUCCEEDED, FAILED, CANCELLED]))
            case "lose":
                return ledger.lose_attempt(job_id, number, 2)
            case "cancel":
                return ledger.request_cancel(job_id)
            case "retry":
                return ledger.retry_job(job_id)
            case "seal":
                return ledger.seal_submission(chance.choice(submissions))
            case _:
                return after.recover(2, "stopped")

    refused = 0
    for _ in range(40):
        results = await asyncio.gather(*(step() for _ in range(chance.randint(1, 20))), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        assert all(isinstance(error, IllegalTransition | NotFound) for error in errors), errors
        refused += len(errors)
    assert refused

    told = await all_events(ledger)
    for submission_id in submissions:
        assert await recount(ledger, submission_id) == _folded(told, submission_id)
        submission = (await ledger.view_submission(submission_id, limit=1)).submission
        assert submission.is_settled == (submission.settled_at is not None)
        assert submission.times_settled == sum(
            event.name is EventName.SUBMISSION_SETTLED for event in told if event.subject.submission_id == submission_id
        )


def _folded(told: Any, submission_id: SubmissionId) -> Counts:
    """The counts that a reader of the events arrives at."""
    states: dict[FileId, str] = {}
    sealed: list[Mapping[str, int]] = []
    event: Event
    for event in told:
        if event.subject.submission_id != submission_id:
            continue
        if "counts" in event.data:
            sealed.append(event.data["counts"])
            assert Counts(**event.data["counts"]) == Counts(**Counter(states.values()))
        file_id = event.subject.file_id
        if file_id is None:
            continue
        match event.name:
            case EventName.UPLOAD_STARTED:
                assert file_id not in states
                states[file_id] = "receiving"
            case EventName.UPLOAD_ABORTED:
                assert states[file_id] == "receiving"
                states[file_id] = "aborted"
            case EventName.UPLOAD_STORED:
                assert states[file_id] == "receiving"
            case EventName.JOB_QUEUED:
                assert states[file_id] != "queued"
                states[file_id] = "queued"
            case EventName.ATTEMPT_STARTED:
                assert states[file_id] == "queued"
                states[file_id] = "running"
            case EventName.JOB_SETTLED:
                assert states[file_id] in ("queued", "running")
                states[file_id] = event.data["state"]
    return Counts(**Counter(states.values()))


# --- lists -----------------------------------------------------------------------------------------------------------


async def _paged(read: Callable[[str | None], Awaitable[Any]]) -> tuple[list[Any], int]:
    found: list[Any] = []
    pages, before = 0, None
    while True:
        page = await read(before)
        pages += 1
        found.extend(page.items)
        before = page.next
        if before is None:
            return found, pages


async def test_lists_are_paged_newest_first_without_a_hole(ledger: Ledger) -> None:
    submissions = [await scenarios.opened(ledger) for _ in range(6)]
    jobs = [await scenarios.queued(ledger, submissions[0]) for _ in range(7)]
    for number in range(4):
        await scenarios.save(ledger, b"a: %d\n" % number)

    found, pages = await _paged(lambda before: ledger.submissions(before=before, limit=2))
    assert ([submission.id for submission in found], pages) == (submissions[::-1], 3)
    found, pages = await _paged(lambda before: ledger.jobs(before=before, limit=3))
    assert ([job.id for job in found], pages) == (jobs[::-1], 3)
    found, pages = await _paged(lambda before: ledger.revisions(before=before, limit=2))
    assert ([revision.number for revision in found], pages) == ([5, 4, 3, 2, 1], 3)

    after: str | None = None
    files: list[Any] = []
    while True:
        view = await ledger.view_submission(submissions[0], after=after, limit=3)
        files += view.files
        after = view.files_next
        if after is None:
            break
    assert [file.job.id for file in files] == jobs


async def test_a_list_read_while_it_grows_shows_nothing_twice(ledger: Ledger) -> None:
    first = [await scenarios.opened(ledger) for _ in range(4)]
    page = await ledger.submissions(before=None, limit=2)
    await scenarios.opened(ledger)
    rest = await ledger.submissions(before=page.next, limit=50)
    assert [submission.id for submission in (*page.items, *rest.items)] == first[::-1]


async def test_states_filter_their_lists(ledger: Ledger) -> None:
    is_open, processing, is_settled = [await scenarios.opened(ledger) for _ in range(3)]
    jobs = {
        "running": await scenarios.running(ledger, processing),
        "succeeded": await scenarios.settled(ledger, is_settled, SUCCEEDED),
        "failed": await scenarios.settled(ledger, is_settled, FAILED),
        "cancelled": await scenarios.settled(ledger, is_settled, CANCELLED),
        "queued": await scenarios.queued(ledger, processing),
    }
    aborted = await scenarios.receiving(ledger, processing)
    await ledger.abort_upload(aborted, AbortCause.CUT_OFF, "cut")
    receiving = await scenarios.receiving(ledger, processing)
    for submission_id in (processing, is_settled):
        await ledger.seal_submission(submission_id)
    for state, submission_id in (("open", is_open), ("processing", processing), ("settled", is_settled)):
        page = await ledger.submissions(before=None, limit=9, state=state)
        assert [submission.id for submission in page.items] == [submission_id]
    for job_state, job_id in jobs.items():
        page_of_jobs = await ledger.jobs(before=None, limit=9, state=job_state)
        assert [job.id for job in page_of_jobs.items] == [job_id]
    of_one = await ledger.jobs(before=None, limit=9, submission_id=processing)
    assert {job.id for job in of_one.items} == {jobs["queued"], jobs["running"]}
    for state, file_id in (("aborted", aborted), ("receiving", receiving)):
        view = await ledger.view_submission(processing, limit=9, state=state)
        assert [file.id for file in view.files] == [file_id]
    view = await ledger.view_submission(processing, limit=9, state="queued")
    assert [file.job and file.job.id for file in view.files] == [jobs["queued"]]


@pytest.mark.parametrize("text", ["50%", "a_b", "c/d", "\\", "'; DROP TABLE files; --", "\u00e9\u202e"])
async def test_a_searched_text_is_literal(ledger: Ledger, text: str) -> None:
    decoy, meant = await scenarios.opened(ledger), await scenarios.opened(ledger)
    await scenarios.queued(ledger, decoy, "500 aXb c-d.txt")
    job_id = await scenarios.queued(ledger, meant, f"x {text} y.txt")
    assert [one.id for one in (await ledger.submissions(before=None, limit=9, text=text)).items] == [meant]
    assert [one.id for one in (await ledger.jobs(before=None, limit=9, text=text)).items] == [job_id]


async def test_a_searched_text_may_stand_in_the_clients_address_or_name(ledger: Ledger) -> None:
    await scenarios.opened(ledger, ClientIdentity(ip="2001:db8::1"))
    found = await scenarios.opened(ledger, ClientIdentity(ip="203.0.113.9"))
    await ledger.identify_client(found, "pc9.lab.example", True, "lab.example")
    for text in ("203.0.113", "pc9.lab"):
        assert [one.id for one in (await ledger.submissions(before=None, limit=9, text=text)).items] == [found]


@pytest.mark.parametrize("key", ["-1", "1.5", "x", "\u0663", " 1", str(2**63), "9" * 5000, "1; --"])
async def test_a_page_key_that_no_page_gave_is_a_bad_parameter(ledger: Ledger, key: str) -> None:
    submission_id = await scenarios.opened(ledger)
    for read in (
        ledger.submissions(before=key, limit=1),
        ledger.jobs(before=key, limit=1),
        ledger.revisions(before=key, limit=1),
        ledger.view_submission(submission_id, after=key, limit=1),
    ):
        with pytest.raises(BadParameter):
            await read


async def test_a_state_that_does_not_exist_is_a_bad_parameter(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    for read in (
        ledger.submissions(before=None, limit=1, state="queued"),
        ledger.jobs(before=None, limit=1, state="open"),
        ledger.view_submission(submission_id, limit=1, state="lost"),
    ):
        with pytest.raises(BadParameter, match="must be one of"):
            await read


async def test_more_files_than_a_query_has_parameters_are_read_with_their_jobs(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    await asyncio.gather(*(scenarios.settle_one(ledger, submission_id) for _ in range(600)))
    view = await ledger.view_submission(submission_id, limit=1000)
    assert len(view.files) == 600
    assert all(file.job is not None and len(file.job.attempts) == 1 for file in view.files)
    keys = [file.blob for file in view.files if file.blob is not None]
    assert set(await ledger.needed_blobs([*keys, "stranger"])) == set(keys)
    assert len(keys) == 600


# --- config ----------------------------------------------------------------------------------------------------------


async def test_a_revision_is_kept_with_its_exact_bytes_and_who_saved_it(empty: Ledger) -> None:
    assert await empty.newest_revision() is None
    text = "a: 1 # caf\u00e9\r\n\n".encode() + b"\0"
    saved = await empty.save_revision(text, base=None, client=CLIENT, account="ada", message="first")
    assert saved.sha256 == hashlib.sha256(text).hexdigest()
    assert (saved.number, saved.size, saved.client, saved.account) == (1, len(text), CLIENT, "ada")
    assert saved.message == "first"
    assert await empty.newest_revision() == saved
    assert await empty.revision_text(saved.sha256) == text
    (event,) = await all_events(empty, "config")
    assert event.data == {"sha256": saved.sha256, "size": len(text), "message": "first"}
    assert (event.subject.client, event.subject.account) == (CLIENT, "ada")


async def test_of_those_who_save_over_the_same_revision_one_wins(ledger: Ledger) -> None:
    base = await ledger.newest_revision()
    assert base is not None
    results = await asyncio.gather(
        *(
            ledger.save_revision(b"a: %d\n" % number, base=base.sha256, client=None, account=None, message=None)
            for number in range(2, 12)
        ),
        return_exceptions=True,
    )
    assert Counter(type(result) for result in results)[ConfigConflict] == 9
    newest = await ledger.newest_revision()
    assert newest in results
    assert Counter(await names(ledger)) == {"config.saved": 2}


async def test_a_save_without_a_base_is_only_for_the_first(ledger: Ledger) -> None:
    save = ledger.save_revision(b"", base=None, client=None, account=None, message=None)
    await _unchanged(ledger, ConfigConflict, save)


async def test_a_restored_revision_repeats_its_hash_under_a_new_number(ledger: Ledger) -> None:
    first = await ledger.newest_revision()
    assert first is not None
    await scenarios.save(ledger, b"a: 2\n")
    assert await scenarios.save(ledger, b"a: 1\n") == first.sha256
    newest = await ledger.newest_revision()
    assert newest is not None
    assert (newest.number, newest.sha256) == (3, first.sha256)
    assert await ledger.revision_text(first.sha256) == b"a: 1\n"


# --- config files ----------------------------------------------------------------------------------------------------


async def in_file(ledger: Ledger, location: ConfigLocation = HERE) -> int | None:
    return (await ledger.config_position(location)).in_file


async def test_point_8_a_ledger_names_the_file_that_the_server_edits_and_what_it_holds(
    engine: LedgerEngine, empty: Ledger
) -> None:
    assert await empty.config_files() == []
    assert await empty.config_position(HERE) == (None, None)
    await empty.use_config_file(HERE)
    assert await empty.config_files() == [HERE]
    assert await empty.config_position(HERE) == (None, None)
    found = await empty.save_revision(b"a: 1\n", base=None, client=None, account=None, message=None, found_at=HERE)
    assert await empty.config_position(HERE) == (found, found.number)
    await scenarios.save(empty, b"a: 2\n")
    newest = await empty.newest_revision()
    assert newest is not None
    assert await empty.config_position(HERE) == (newest, found.number)  # it was sent: no file has it yet
    await empty.record_in_file(HERE, newest.number)
    other = await engine.open()
    assert await other.config_position(HERE) == (newest, newest.number)
    assert Counter(await names(empty)) == {"config.saved": 2}  # a file's state is no event


async def test_point_8_what_a_file_holds_never_goes_back(ledger: Ledger) -> None:
    """Of two processes that wrote it one after the other, the first may be the last to record it."""
    await ledger.use_config_file(HERE)
    await scenarios.save(ledger, b"a: 2\n")
    await ledger.record_in_file(HERE, 2)
    await ledger.record_in_file(HERE, 1)
    assert await in_file(ledger) == 2


@pytest.mark.parametrize(
    "moved",
    [
        HERE._replace(path="/etc/other.yaml"),
        HERE._replace(host="another container"),
        HERE._replace(data_folder="/copy"),
        ConfigLocation(host="h", path="/p", data_folder="/d"),
    ],
    ids=["path", "host", "folder", "all"],
)
async def test_point_8_a_server_that_moves_takes_along_what_its_file_held_and_leaves_nothing(
    ledger: Ledger, moved: ConfigLocation
) -> None:
    await ledger.use_config_file(HERE)
    await ledger.record_in_file(HERE, 1)
    await ledger.use_config_file(moved)
    await ledger.use_config_file(moved)
    assert await ledger.config_files() == [moved]
    assert await in_file(ledger, moved) == 1


async def test_point_8_a_file_that_the_server_has_left_adds_nothing_to_the_history(ledger: Ledger) -> None:
    first = await ledger.newest_revision()
    assert first is not None
    await ledger.use_config_file(HERE)
    moved = HERE._replace(path="/etc/other.yaml")
    await ledger.use_config_file(moved)
    save = ledger.save_revision(b"a: 2\n", base=first.sha256, client=None, account=None, message=None, found_at=HERE)
    await _unchanged(ledger, Unavailable, save)
    assert await ledger.newest_revision() == first
    await ledger.record_in_file(HERE, 1)
    assert await ledger.config_files() == [moved]
    assert (await in_file(ledger, HERE), await in_file(ledger, moved)) == (None, None)


async def test_point_8_a_path_is_bytes_whatever_they_are(ledger: Ledger) -> None:
    location = HERE._replace(path="/srv/caf\udce9/\u00e9\n.yaml", data_folder="/srv/\udcff")
    await ledger.use_config_file(location)
    await ledger.record_in_file(location, 1)
    assert await ledger.config_files() == [location]
    assert await in_file(ledger, location) == 1

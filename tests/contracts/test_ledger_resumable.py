"""What every ledger promises about files that are announced first and whose bytes come in several requests."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.contracts.announced import LONG_AGO, TOMORROW, announced, opened, stored, upload_to
from tests.contracts.ledgers import LedgerEngine
from tests.support import scenarios
from tests.support.scenarios import CLIENT, SUCCEEDED, all_events, blob, names, recount

from dropmill.model.clock import utc_now
from dropmill.model.errors import DropmillError, IdempotencyMismatch, IllegalTransition, NotFound
from dropmill.model.ids import FileId, Owner, Sha256, SubmissionId, new_file_id, new_job_id, new_submission_id
from dropmill.model.jobs import JobState
from dropmill.model.submissions import Counts, Outcome
from dropmill.model.uploads import AbortCause, UploadState
from dropmill.ports.ledger import Ledger
from dropmill.ports.ledger.submissions import RequestKey
from dropmill.ports.ledger.uploads import AwaitedFile, ResumableUpload, SubmissionUsage, WholeFile


async def test_an_announced_upload_is_found_as_it_was_told(ledger: Ledger, engine: LedgerEngine) -> None:
    submission_id = await opened(ledger)
    upload, deferred = await announced(ledger, submission_id), await announced(ledger, submission_id, "b", None)
    for reader in (ledger, await engine.open()):
        assert await reader.upload(upload.file_id) == upload
        assert await reader.upload(deferred.file_id) == deferred
        assert await reader.unfinished_uploads() == [upload, deferred]
    assert await recount(ledger, submission_id) == Counts(announced=2)
    assert "upload.started" not in await names(ledger)
    with pytest.raises(NotFound):
        await ledger.upload(FileId("0" * 32))


async def test_the_fingerprint_that_a_file_was_announced_with_stays_with_it(ledger: Ledger) -> None:
    submission_id = await opened(ledger)
    upload = await announced(ledger, submission_id)
    await ledger.announce_uploads([replace(upload_to(submission_id, "b"), fingerprint=None)])
    for _ in range(2):  # before its bytes came, and when it is stored
        view = await ledger.view_submission(submission_id, limit=9)
        assert [file.fingerprint for file in view.files] == ["f" * 64, None]
        if view.submission.counts.announced == 2:
            await stored(ledger, upload)
    assert (await ledger.upload(upload.file_id)).fingerprint == "f" * 64


async def test_an_upload_begins_once_and_is_told_once(ledger: Ledger) -> None:
    upload = await announced(ledger, await opened(ledger))
    assert await ledger.take_upload(upload.file_id) == 1
    assert await ledger.take_upload(upload.file_id) == 1
    started = [event for event in await all_events(ledger) if event.name.value == "upload.started"]
    assert [(event.subject.file_id, event.data) for event in started] == [
        (upload.file_id, {"size": 8, "path": "folder/a.txt"})
    ]
    assert await ledger.upload(upload.file_id) == replace(upload, state=UploadState.RECEIVING, fence=1)
    assert await recount(ledger, upload.submission_id) == Counts(receiving=1)


async def test_how_far_it_is_is_noted_without_an_event_and_not_after_its_end(ledger: Ledger) -> None:
    upload = await announced(ledger, await opened(ledger), size=None)
    fence = await ledger.take_upload(upload.file_id)
    before = len(await all_events(ledger))
    later = utc_now().replace(microsecond=0) + timedelta(days=1)
    await ledger.extend_upload(upload.file_id, size=8, received=5, expires_at=later, fence=fence)
    noted = await ledger.upload(upload.file_id)
    assert (noted.size, noted.received, noted.expires_at) == (8, 5, later)
    assert (await ledger.file(upload.file_id)).received == 5
    assert len(await all_events(ledger)) == before
    await stored(ledger, upload)
    await ledger.extend_upload(upload.file_id, size=9, received=6, expires_at=None, fence=fence)
    found = await ledger.upload(upload.file_id)
    assert (found.state, found.size, found.received, found.partial) == (UploadState.STORED, 8, 8, None)


async def test_a_stored_or_aborted_upload_is_no_longer_to_be_gone_on_with(ledger: Ledger) -> None:
    submission_id = await opened(ledger)
    first, second, third = [await announced(ledger, submission_id, name) for name in "abc"]
    await stored(ledger, first)
    await ledger.abort_upload(second.file_id, AbortCause.CUT_OFF, "no byte came for too long")
    assert [upload.file_id for upload in await ledger.unfinished_uploads()] == [third.file_id]
    assert (await ledger.upload(second.file_id)).partial is None
    assert await ledger.needed_blobs([first.partial or "", second.partial or ""]) in ([first.partial], {first.partial})
    for ended in (first, second):
        with pytest.raises(IllegalTransition):
            await ledger.take_upload(ended.file_id)


async def test_a_sealed_submission_takes_no_more_and_gives_up_what_was_only_announced(ledger: Ledger) -> None:
    submission_id = await opened(ledger)
    waiting, coming = await announced(ledger, submission_id, "a"), await announced(ledger, submission_id, "b")
    await ledger.take_upload(coming.file_id)
    await ledger.seal_submission(submission_id)
    assert await recount(ledger, submission_id) == Counts(aborted=1, receiving=1)
    with pytest.raises(IllegalTransition):
        await ledger.announce_uploads([upload_to(submission_id, "c"), upload_to(submission_id, "d")])
    assert await recount(ledger, submission_id) == Counts(aborted=1, receiving=1)
    assert (await ledger.upload(waiting.file_id)).state is UploadState.ABORTED
    assert (await ledger.file(waiting.file_id)).cause is AbortCause.CANCELLED
    with pytest.raises(NotFound):
        await ledger.announce_uploads([upload_to(SubmissionId("0" * 32))])


async def test_what_a_server_seals_was_not_given_up_by_its_client(ledger: Ledger) -> None:
    submission_id = await opened(ledger)
    waiting = await announced(ledger, submission_id, "a")
    await ledger.seal_submission(submission_id, AbortCause.EXPIRED)
    submission = (await ledger.view_submission(submission_id, limit=1)).submission
    assert ((await ledger.file(waiting.file_id)).cause, submission.outcome) == (AbortCause.EXPIRED, Outcome.FAILED)


@pytest.mark.parametrize("way", ["by form", "together", "in pieces"])
@pytest.mark.parametrize("size", [8, None])
async def test_a_file_that_broke_off_and_is_stored_when_it_is_sent_again_is_no_failure(
    ledger: Ledger, way: str, size: int | None
) -> None:
    """However it comes the second time; it counts as an aborted file still, because the list has it."""
    submission_id = await opened(ledger)
    first = await announced(ledger, submission_id, "folder/a.txt", size)
    other = await announced(ledger, submission_id, "folder/b.txt", 8)
    for upload in (first, other):
        await ledger.abort_upload(upload.file_id, AbortCause.CUT_OFF, "the connection was cut")
    whole = replace(blob(), size=8)
    if way == "in pieces":
        again = await announced(ledger, submission_id, "folder/a.txt", 8)
        fence = await ledger.take_upload(again.file_id)
        await ledger.store_upload(again.file_id, whole, new_job_id(), fence=fence)
    elif way == "by form":
        file_id = new_file_id()
        await ledger.start_upload(file_id, submission_id, "a.txt", "folder/a.txt", None)
        await ledger.store_upload(file_id, whole, new_job_id())
    else:
        file = WholeFile(
            file_id=new_file_id(), submission_id=submission_id, name="a.txt", path="folder/a.txt", blob=whole,
            job_id=new_job_id(),
        )  # fmt: skip
        await ledger.store_files([file])
    assert (await ledger.file(first.file_id)).cause is AbortCause.REPLACED
    assert (await ledger.file(other.file_id)).cause is AbortCause.CUT_OFF
    assert await recount(ledger, submission_id) == Counts(aborted=2, queued=1)
    told = [(event.subject.file_id, event.data["cause"]) for event in await all_events(ledger) if "cause" in event.data]
    assert told == [(first.file_id, "cut_off"), (other.file_id, "cut_off"), (first.file_id, "replaced")]
    await ledger.abort_upload(other.file_id, AbortCause.CANCELLED, "the client terminated it")
    await ledger.seal_submission(submission_id)
    await ledger.end_attempt((await scenarios.claimed(ledger)).job_id, 1, SUCCEEDED)
    submission = (await ledger.view_submission(submission_id, limit=9)).submission
    assert (submission.replaced, submission.given_up, submission.outcome) == (1, 1, Outcome.CANCELLED)


async def test_another_file_of_the_same_path_replaces_none_that_broke_off(ledger: Ledger) -> None:
    """Neither one of another size, nor one that was announced before."""
    submission_id = await opened(ledger)
    before = await announced(ledger, submission_id, "a.txt", blob().size)
    broken = await announced(ledger, submission_id, "a.txt", blob().size)
    await ledger.abort_upload(broken.file_id, AbortCause.CUT_OFF, "the connection was cut")
    await stored(ledger, before)
    larger = await announced(ledger, submission_id, "a.txt", blob().size + 1)
    fence = await ledger.take_upload(larger.file_id)
    await ledger.store_upload(larger.file_id, replace(blob(), size=blob().size + 1), new_job_id(), fence=fence)
    assert (await ledger.file(broken.file_id)).cause is AbortCause.CUT_OFF
    assert await recount(ledger, submission_id) == Counts(aborted=1, queued=2)


async def test_a_file_that_broke_off_counts_as_replaced_though_the_server_notices_it_late(ledger: Ledger) -> None:
    """Its client has sent it again already. What its client cancels is cancelled all the same."""
    submission_id = await opened(ledger)
    late, given_up = [await announced(ledger, submission_id, "a.txt", blob().size) for _ in range(2)]
    await stored(ledger, await announced(ledger, submission_id, "a.txt", blob().size))
    await ledger.abort_upload(late.file_id, AbortCause.SERVER_FAILED, "the server could not store it")
    await ledger.abort_upload(given_up.file_id, AbortCause.CANCELLED, "the client terminated it")
    causes = [(await ledger.file(upload.file_id)).cause for upload in (late, given_up)]
    assert causes == [AbortCause.REPLACED, AbortCause.CANCELLED]
    assert await recount(ledger, submission_id) == Counts(aborted=2, queued=1)


@pytest.mark.parametrize("cause", list(AbortCause))
async def test_a_client_may_give_up_what_broke_off_until_its_submission_is_sealed(
    ledger: Ledger, cause: AbortCause
) -> None:
    submission_id = await opened(ledger)
    upload = await announced(ledger, submission_id)
    await ledger.abort_upload(upload.file_id, cause, "why")
    cursor = await ledger.newest_cursor()
    for later in (AbortCause.CUT_OFF, AbortCause.REFUSED):
        with pytest.raises(IllegalTransition):
            await ledger.abort_upload(upload.file_id, later, "later")
    if cause.is_broken_off:
        await ledger.abort_upload(upload.file_id, AbortCause.CANCELLED, "the client terminated it")
        file = await ledger.file(upload.file_id)
        assert (file.cause, file.error) == (AbortCause.CANCELLED, "the client terminated it")
        assert (await names(ledger))[-1] == "upload.aborted"
    else:
        with pytest.raises(IllegalTransition):
            await ledger.abort_upload(upload.file_id, AbortCause.CANCELLED, "the client terminated it")
        assert await ledger.newest_cursor() == cursor
    assert await recount(ledger, submission_id) == Counts(aborted=1)
    other = await announced(ledger, submission_id, "b.txt")
    await ledger.abort_upload(other.file_id, AbortCause.CUT_OFF, "why")
    await ledger.seal_submission(submission_id)
    with pytest.raises(IllegalTransition):
        await ledger.abort_upload(other.file_id, AbortCause.CANCELLED, "the client terminated it")


async def test_a_submission_of_one_upload_settles_with_its_file(ledger: Ledger) -> None:
    for ends_well in (True, False):
        upload = upload_to(new_submission_id())
        await ledger.open_for_upload(upload, CLIENT, "ada")
        submission = (await ledger.view_submission(upload.submission_id, limit=1)).submission
        assert (submission.is_open, submission.is_settled, submission.account) == (False, False, "ada")
        assert submission.counts == Counts(announced=1)
        if ends_well:
            await stored(ledger, upload)
            order = await scenarios.claimed(ledger)
            await ledger.end_attempt(order.job_id, 1, SUCCEEDED)
        else:
            await ledger.abort_upload(upload.file_id, AbortCause.CUT_OFF, "the client ended it")
        assert (await ledger.view_submission(upload.submission_id, limit=1)).submission.is_settled
        topic = f"submission:{upload.submission_id}"
        assert (await names(ledger, topic))[:2] == ["submission.opened", "submission.sealed"]
        assert (await names(ledger, topic))[-1] == "submission.settled"


# --- filled by a form ------------------------------------------------------------------------------------------------


async def test_an_announced_file_is_found_by_its_path_before_its_name(ledger: Ledger) -> None:
    submission_id = await opened(ledger)
    by_name = await announced(ledger, submission_id, "x/a.txt")
    by_path = await announced(ledger, submission_id, "a.txt")
    found = await ledger.announced_upload(submission_id, "a.txt")
    assert found is not None
    assert found.file_id == by_path.file_id
    await ledger.take_upload(by_path.file_id)
    found = await ledger.announced_upload(submission_id, "a.txt")
    assert found is not None
    assert found.file_id == by_name.file_id
    assert await ledger.announced_upload(submission_id, "b.txt") is None
    assert await ledger.announced_upload(await opened(ledger), "a.txt") is None


async def test_awaited_files_come_in_the_order_in_which_they_were_announced(ledger: Ledger) -> None:
    """From one of them on, without those that have begun or ended, and without those of other submissions."""
    submission_id, other = await opened(ledger), await opened(ledger)
    uploads = [upload_to(submission_id, f"{number}.txt", number or None) for number in range(6)]
    await ledger.announce_uploads([*uploads[:4], upload_to(other), *uploads[4:]])
    first, second, third, fourth, *_ = uploads
    await ledger.take_upload(second.file_id)
    await ledger.abort_upload(third.file_id, AbortCause.CANCELLED, "the client terminated it")

    async def paths(start: ResumableUpload, ahead: int) -> list[str]:
        return [file.path for file in await ledger.awaited_files(submission_id, start.file_id, ahead=ahead)]

    assert await paths(first, 0) == ["0.txt"]
    assert await paths(first, 3) == ["0.txt", "3.txt"]
    assert await paths(first, 100) == ["0.txt", "3.txt", "4.txt", "5.txt"]
    assert await paths(second, 0) == []
    assert await paths(third, 100) == ["3.txt", "4.txt", "5.txt"]
    found = await ledger.awaited_files(submission_id, fourth.file_id, ahead=0)
    assert found == [AwaitedFile(file_id=fourth.file_id, path="3.txt", size=3, expected_sha256=Sha256("0" * 64))]
    [unsized] = await ledger.awaited_files(submission_id, first.file_id, ahead=0)
    assert unsized.size is None
    for wrong in ((other, first.file_id), (submission_id, new_file_id()), (SubmissionId("\0"), FileId("\ud800"))):
        with pytest.raises(NotFound):
            await ledger.awaited_files(*wrong, ahead=9)


async def test_a_file_that_comes_in_one_piece_cannot_be_gone_on_with(ledger: Ledger) -> None:
    """Nor by a second form that found it announced at the same moment."""
    upload = await announced(ledger, await opened(ledger))
    await ledger.begin_upload(upload.file_id)
    assert (await ledger.upload(upload.file_id)).partial is None
    assert await ledger.unfinished_uploads() == []
    for begin in (ledger.begin_upload, ledger.take_upload):
        with pytest.raises(IllegalTransition):
            await begin(upload.file_id)
    other = await announced(ledger, upload.submission_id)
    await ledger.take_upload(other.file_id)
    with pytest.raises(IllegalTransition):
        await ledger.begin_upload(other.file_id)


async def test_a_submission_holds_what_has_come_and_what_is_to_come(ledger: Ledger) -> None:
    submission_id = await opened(ledger)
    assert await ledger.submission_usage(submission_id) == SubmissionUsage()
    await announced(ledger, submission_id, "a", 100)
    gone = await announced(ledger, submission_id, "b", 1000)
    deferred = await announced(ledger, submission_id, "c", None)
    assert await ledger.submission_usage(submission_id) == SubmissionUsage(files=3, announced=3, size=1100)
    fence = await ledger.take_upload(deferred.file_id)
    await ledger.extend_upload(deferred.file_id, size=None, received=7, expires_at=None, fence=fence)
    await ledger.abort_upload(gone.file_id, AbortCause.CUT_OFF, "")
    await scenarios.queued(ledger, submission_id)
    assert await ledger.submission_usage(submission_id) == SubmissionUsage(
        files=3, announced=1, size=100 + 7 + blob().size
    )
    with pytest.raises(NotFound):
        await ledger.submission_usage(SubmissionId("0" * 32))


# --- time ------------------------------------------------------------------------------------------------------------


async def test_only_uploads_whose_time_is_over_are_expired(ledger: Ledger) -> None:
    submission_id = await opened(ledger)
    late, fresh, gone = [await announced(ledger, submission_id, name) for name in "abc"]
    for upload in (late, gone):
        await ledger.extend_upload(upload.file_id, size=8, received=0, expires_at=LONG_AGO, fence=0)
    await ledger.abort_upload(gone.file_id, AbortCause.CUT_OFF, "")
    expired = await ledger.expired_uploads(utc_now(), limit=10)
    assert [upload.file_id for upload in expired] == [late.file_id]
    assert await ledger.expired_uploads(LONG_AGO, limit=10) == []
    assert len(await ledger.expired_uploads(TOMORROW + timedelta(days=1), limit=1)) == 1
    assert fresh.file_id not in {upload.file_id for upload in expired}


async def test_a_submission_that_no_file_came_for_is_stale(ledger: Ledger) -> None:
    """Not one whose request is still open, nor one that a file is coming to or came to lately."""
    empty, waiting, coming, filled, sealed = [await opened(ledger) for _ in range(5)]
    by_request = await scenarios.opened(ledger)
    await announced(ledger, waiting)
    await ledger.take_upload((await announced(ledger, coming)).file_id)
    await scenarios.queued(ledger, filled)
    await ledger.seal_submission(sealed)
    middle = utc_now()
    await asyncio.sleep(0.01)
    await announced(ledger, filled)
    assert set(await ledger.stale_submissions(TOMORROW, limit=10)) == {empty, waiting, filled}
    assert await ledger.stale_submissions(LONG_AGO, limit=10) == []
    assert len(await ledger.stale_submissions(TOMORROW, limit=1)) == 1
    await asyncio.sleep(0.01)
    await scenarios.queued(ledger, waiting)  # opened long before, but just filled
    assert set(await ledger.stale_submissions(middle, limit=10)) == {empty, filled}
    assert by_request not in await ledger.stale_submissions(TOMORROW, limit=10)


# --- a repeated request ----------------------------------------------------------------------------------------------


async def _open(
    ledger: Ledger, key: str | None, *, owner: str = "open", fingerprint: str = "f"
) -> tuple[SubmissionId, bool]:
    wanted = new_submission_id()
    named = None if key is None else RequestKey(text=key, fingerprint=fingerprint)
    got = await ledger.open_submission(wanted, CLIENT, None, key=named, owner=Owner(owner))
    return got, got == wanted


async def _leave_open(ledger: Ledger, submission_id: SubmissionId) -> None: ...


async def _store_a_file(ledger: Ledger, submission_id: SubmissionId) -> None:
    await scenarios.queued(ledger, submission_id)
    await ledger.seal_submission(submission_id)


async def _cut_off(ledger: Ledger, submission_id: SubmissionId) -> None:
    await ledger.abort_upload(await scenarios.receiving(ledger, submission_id), AbortCause.CUT_OFF, "cut off")
    await ledger.seal_submission(submission_id)


async def _seal(ledger: Ledger, submission_id: SubmissionId) -> None:
    await ledger.seal_submission(submission_id)


@pytest.mark.parametrize(
    ("first", "is_repeat"), [(_leave_open, True), (_store_a_file, True), (_cut_off, False), (_seal, False)]
)
async def test_a_key_shows_its_first_submission_unless_nothing_came_of_that(
    ledger: Ledger, first: Callable[[Ledger, SubmissionId], Awaitable[None]], is_repeat: bool
) -> None:
    submission_id, is_new = await _open(ledger, "k")
    assert is_new
    await first(ledger, submission_id)
    before = len(await all_events(ledger))
    again, is_new = await _open(ledger, "k")
    assert is_new is not is_repeat
    assert (again == submission_id) is is_repeat
    assert len(await all_events(ledger)) == before + (0 if is_repeat else 1)
    assert (await _open(ledger, "k"))[0] == again
    assert (await _open(ledger, "other"))[1]
    assert (await _open(ledger, None))[1]
    assert (await _open(ledger, None))[1]


async def test_a_key_with_another_fingerprint_is_refused_and_changes_nothing(ledger: Ledger) -> None:
    first, _ = await _open(ledger, "k", fingerprint="one")
    before = len(await all_events(ledger))
    with pytest.raises(IdempotencyMismatch) as refused:
        await _open(ledger, "k", fingerprint="two")
    assert refused.value.extra["submission"] == first
    assert len(await all_events(ledger)) == before
    await _cut_off(ledger, first)
    assert (await _open(ledger, "k", fingerprint="two"))[1], "of the first nothing came"


async def test_a_key_is_its_owners(ledger: Ledger) -> None:
    mine, _ = await _open(ledger, "k", owner="open", fingerprint="one")
    theirs, is_new = await _open(ledger, "k", owner="ada", fingerprint="two")
    assert is_new
    assert await _open(ledger, "k", owner="open", fingerprint="one") == (mine, False)
    assert await _open(ledger, "k", owner="ada", fingerprint="two") == (theirs, False)


async def test_of_many_at_once_with_one_key_one_opens(ledger: Ledger) -> None:
    found = await asyncio.gather(*(_open(ledger, "k") for _ in range(20)))
    assert len({submission_id for submission_id, _ in found}) == 1
    assert sum(is_new for _, is_new in found) == 1


# --- after a kill ----------------------------------------------------------------------------------------------------


async def test_a_recovery_keeps_what_may_go_on_and_ends_the_rest(ledger: Ledger, engine: LedgerEngine) -> None:
    alone = upload_to(new_submission_id())
    await ledger.open_for_upload(alone, CLIENT, None)
    await ledger.take_upload(alone.file_id)
    waiting, half, filled, by_form, given_up = [await opened(ledger) for _ in range(5)]
    await ledger.abort_upload((await announced(ledger, given_up)).file_id, AbortCause.CANCELLED, "cancelled")
    fresh = await opened(ledger)
    by_request = await scenarios.opened(ledger)
    await announced(ledger, waiting)
    await ledger.take_upload((await announced(ledger, half)).file_id)
    await scenarios.queued(ledger, filled)
    in_one_piece = await announced(ledger, by_form)
    await ledger.begin_upload(in_one_piece.file_id)
    await scenarios.receiving(ledger, by_request)

    after = await engine.open()
    recovery = await after.recover(5, "the server stopped")

    assert (recovery.aborted, recovery.sealed) == (2, 3)
    is_open = {
        submission_id: (await after.view_submission(submission_id, limit=1)).submission.is_open
        for submission_id in (waiting, half, filled, by_form, given_up, fresh, by_request)
    }
    is_kept = {waiting: True, half: True, by_form: True, fresh: True}
    assert is_open == {**is_kept, filled: False, given_up: False, by_request: False}
    assert {upload.submission_id for upload in await after.unfinished_uploads()} == {
        alone.submission_id,
        waiting,
        half,
    }
    cut_off = await after.file(in_one_piece.file_id)
    assert (cut_off.error, cut_off.cause) == ("the server stopped", AbortCause.SERVER_FAILED)
    (job,) = (await after.jobs(before=None, limit=9)).items
    assert (job.submission_id, job.state) == (filled, JobState.QUEUED)
    again = await after.recover(5, "again")
    assert (again.aborted, again.sealed) == (0, 0)


async def test_two_ends_of_one_upload_leave_one(ledger: Ledger) -> None:
    upload = await announced(ledger, await opened(ledger))
    await ledger.take_upload(upload.file_id)
    ends = await asyncio.gather(
        ledger.store_upload(upload.file_id, blob(), new_job_id()),
        ledger.abort_upload(upload.file_id, AbortCause.CUT_OFF, "ended"),
        ledger.store_upload(upload.file_id, blob(), new_job_id()),
        return_exceptions=True,
    )
    assert [isinstance(end, DropmillError) for end in ends] == [False, True, True]
    assert await recount(ledger, upload.submission_id) == Counts(queued=1)


async def test_what_only_a_request_can_end_is_found_until_it_has_ended(ledger: Ledger) -> None:
    """Not resumable uploads, and not submissions that were opened for files to come."""
    one_request, for_more = new_submission_id(), await opened(ledger)
    await ledger.open_submission(one_request, CLIENT, None)
    by_form, filled = new_file_id(), await announced(ledger, for_more, "filled.txt")
    resumable = await announced(ledger, for_more, "resumable.txt")
    await ledger.start_upload(by_form, one_request, "a.txt", "a.txt", None)
    await ledger.begin_upload(filled.file_id)
    await ledger.take_upload(resumable.file_id)
    found = await ledger.form_uploads()
    assert (found.files, found.submissions) == ({by_form, filled.file_id}, {one_request})
    await ledger.store_upload(by_form, blob(), new_job_id())
    await ledger.abort_upload(filled.file_id, AbortCause.CUT_OFF, "cut off")
    await ledger.seal_submission(one_request)
    found = await ledger.form_uploads()
    assert (found.files, found.submissions) == (set(), set())

"""What every ledger promises of files that are recorded together, once their bytes are durable."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.contracts.announced import announced
from tests.support import scenarios
from tests.support.scenarios import CLIENT, SUCCEEDED, all_events, recount, whole

from dropmill.model.errors import IllegalTransition, NotFound, SubmissionSealed, Unavailable
from dropmill.model.events import Event
from dropmill.model.ids import OPEN, FileId, Owner, SubmissionId, new_submission_id
from dropmill.model.submissions import Counts
from dropmill.model.uploads import File
from dropmill.ports.ledger import Ledger
from dropmill.ports.ledger.uploads import WholeFile

ADA = Owner("account:ada")


async def one_by_one(ledger: Ledger, files: Sequence[WholeFile]) -> None:
    """Record the same as `store_files` does, by a change for each step."""
    for file in files:
        if file.is_announced:
            await ledger.begin_upload(file.file_id)
        else:
            await ledger.start_upload(file.file_id, file.submission_id, file.name, file.path, None)
        await ledger.store_upload(file.file_id, file.blob, file.job_id)


async def together(ledger: Ledger, files: Sequence[WholeFile]) -> None:
    await ledger.store_files(files)


def told(events: Sequence[Event], submission_id: SubmissionId) -> list[tuple[Any, ...]]:
    """A submission's events without what differs from one file to the next."""
    return [
        (event.name, event.subject.name, event.subject.account, event.subject.client, event.data)
        for event in events
        if event.subject.submission_id == submission_id
    ]


def shapes(files: Sequence[File]) -> list[File]:
    """Files without what differs from one to the next."""
    nobody = SubmissionId("")
    return [
        replace(file, id=FileId(""), submission_id=nobody, blob=None, job=None)
        for file in files
        if file.blob is not None and file.job is not None
    ]


async def test_files_stored_together_are_recorded_like_files_stored_one_by_one(ledger: Ledger) -> None:
    """New and announced ones, after a file that came alone."""
    found = []
    for store in (one_by_one, together):
        submission_id = new_submission_id()
        await ledger.open_submission(submission_id, CLIENT, "ada", is_announced=True, owner=ADA)
        upload = await announced(ledger, submission_id, "b.txt")
        await scenarios.queued(ledger, submission_id, "alone.txt")
        files = [
            whole(submission_id, "a.txt"),
            whole(submission_id, "b.txt", upload.file_id),
            whole(submission_id, "folder/c.txt"),
            whole(submission_id, "a.txt"),
        ]
        await store(ledger, files)
        assert await recount(ledger, submission_id) == Counts(queued=5)
        view = await ledger.view_submission(submission_id, limit=10)
        kept = {file.id: file for file in view.files}
        for file in files:
            stored = kept[file.file_id]
            assert (stored.blob, stored.size, stored.sha256) == (file.blob.key, file.blob.size, file.blob.sha256)
            assert stored.job is not None
            assert stored.job.id == file.job_id
        own = {file.job_id for file in files}
        assert [job_id for job_id in await scenarios.in_line(ledger) if job_id in own] == [
            file.job_id for file in files
        ]
        found.append((told(await all_events(ledger), submission_id), shapes(view.files)))
    assert found[0] == found[1]
    assert len(found[0][1]) == 5
    totals = await ledger.totals(visible_to=ADA)
    assert (totals.submissions, totals.counts) == (2, Counts(queued=10))
    assert (await ledger.submissions(before=None, limit=9, text="folder/c")).items[0].counts == Counts(queued=5)


async def test_files_of_several_submissions_are_stored_together(ledger: Ledger) -> None:
    one, other = await scenarios.opened(ledger), await scenarios.opened(ledger)
    files = [whole((one, other)[number % 2], f"{number}.txt") for number in range(300)]
    await ledger.store_files(files)
    for submission_id in (one, other):
        assert await recount(ledger, submission_id) == Counts(queued=150)
        view = await ledger.view_submission(submission_id, limit=200)
        assert [file.id for file in view.files] == [
            file.file_id for file in files if file.submission_id == submission_id
        ]
    assert await ledger.needed_blobs([file.blob.key for file in files]) == {file.blob.key for file in files}
    order = await scenarios.claimed(ledger)
    assert order.file_id == files[0].file_id


async def test_jobs_of_files_stored_together_take_turns_with_those_of_other_submissions(ledger: Ledger) -> None:
    many, few = await scenarios.opened(ledger), await scenarios.opened(ledger)
    first = [whole(many, f"{number}.txt") for number in range(4)]
    await ledger.store_files(first)
    second = [whole(few, f"{number}.txt") for number in range(2)]
    await ledger.store_files(second)
    line = [(await ledger.job(job_id)).submission_id for job_id in await scenarios.in_line(ledger)]
    assert line == [many, few, many, few, many, many]


async def _refused(ledger: Ledger, kind: type[Exception], files: Sequence[WholeFile]) -> None:
    before = await ledger.newest_cursor()
    with pytest.raises(kind):
        await ledger.store_files(files)
    assert await ledger.newest_cursor() == before
    assert not await ledger.needed_blobs([file.blob.key for file in files])


async def test_files_of_which_one_is_refused_leave_no_trace(ledger: Ledger) -> None:
    submission_id, elsewhere = await scenarios.opened(ledger), await scenarios.opened(ledger)
    sealed = await scenarios.opened(ledger)
    await ledger.seal_submission(sealed)
    upload, begun = [await announced(ledger, submission_id) for _ in range(2)]
    await ledger.begin_upload(begun.file_id)
    good = whole(submission_id)
    await _refused(ledger, SubmissionSealed, [good, whole(sealed)])
    await _refused(ledger, NotFound, [good, whole(SubmissionId("0" * 32))])
    await _refused(ledger, NotFound, [good, whole(submission_id, "a", FileId("0" * 32))])
    await _refused(ledger, NotFound, [good, whole(elsewhere, "a", upload.file_id)])
    await _refused(ledger, IllegalTransition, [good, whole(submission_id, "a", begun.file_id)])
    await _refused(ledger, IllegalTransition, [good, *(whole(submission_id, "a", upload.file_id) for _ in range(2))])
    assert await recount(ledger, submission_id) == Counts(announced=1, receiving=1)
    await ledger.store_files([good])
    assert await recount(ledger, submission_id) == Counts(announced=1, receiving=1, queued=1)


async def test_a_refused_group_harms_no_neighbour(ledger: Ledger) -> None:
    """Handed over before the first change is made, so that an engine that groups has them in one group."""
    submission_id, sealed = await scenarios.opened(ledger), await scenarios.opened(ledger)
    await ledger.seal_submission(sealed)
    groups = [[whole(submission_id), whole(sealed if number % 2 else submission_id)] for number in range(8)]
    results = await asyncio.gather(*(ledger.store_files(group) for group in groups), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), SubmissionSealed] * 4
    assert await recount(ledger, submission_id) == Counts(queued=8)


async def test_files_are_not_stored_before_there_is_a_config(empty: Ledger) -> None:
    submission_id = await scenarios.opened(empty)
    await _refused(empty, Unavailable, [whole(submission_id)])
    assert (await empty.totals(visible_to=OPEN)).counts == Counts()


async def test_no_files_change_nothing(ledger: Ledger) -> None:
    before = await ledger.newest_cursor()
    await ledger.store_files([])
    assert await ledger.newest_cursor() == before


async def test_only_stored_files_that_were_not_removed_are_live(ledger: Ledger) -> None:
    """A removed file keeps its key in the ledger; its bytes must not come back from a journal."""
    kept, gone = await scenarios.opened(ledger), await scenarios.opened(ledger)
    files = [whole(kept), whole(gone)]
    await ledger.store_files(files)
    upload = await announced(ledger, kept)
    for _ in files:
        order = await scenarios.claimed(ledger)
        assert await ledger.end_attempt(order.job_id, 1, SUCCEEDED)
    await ledger.seal_submission(gone)
    keys = [files[0].blob.key, files[1].blob.key, upload.partial or "", "0" * 32]
    assert await ledger.live_blobs(keys) == set(keys[:2])
    settled_at = (await ledger.view_submission(gone, limit=1)).submission.settled_at
    assert settled_at is not None
    assert await ledger.begin_removal(gone, settled_at)
    assert await ledger.live_blobs(keys) == {keys[0]}
    assert await ledger.needed_blobs(keys) == set(keys[:3])
    many = [f"{number:032d}" for number in range(1200)]
    assert await ledger.live_blobs([*many, keys[0]]) == {keys[0]}


async def test_one_file_is_received_by_one_change_that_tells_the_same_as_five(ledger: Ledger) -> None:
    """Its submission is opened, filled and sealed; what is returned is what a read returns."""
    views = []
    for is_one_change in (False, True):
        file = whole(new_submission_id())
        if is_one_change:
            view = await ledger.receive_one(CLIENT, "ada", file, owner=ADA)
            assert view == await ledger.view_submission(file.submission_id, limit=9)
        else:
            await ledger.open_submission(file.submission_id, CLIENT, "ada", owner=ADA)
            await one_by_one(ledger, [file])
            await ledger.seal_submission(file.submission_id)
        assert await recount(ledger, file.submission_id) == Counts(queued=1)
        view = await ledger.view_submission(file.submission_id, limit=9)
        views.append((told(await all_events(ledger), file.submission_id), shapes(view.files), view.submission.is_open))
    assert views[0] == views[1]
    assert (await ledger.totals(visible_to=ADA)).submissions == 2
    order = await scenarios.claimed(ledger)
    assert await ledger.end_attempt(order.job_id, 1, SUCCEEDED)
    settled = await ledger.view_submission(order.submission_id, limit=9)
    assert settled.submission.is_settled


async def test_one_file_that_is_refused_opens_no_submission(empty: Ledger) -> None:
    file = whole(new_submission_id())
    with pytest.raises(Unavailable):  # there is no config
        await empty.receive_one(CLIENT, None, file)
    with pytest.raises(NotFound):
        await empty.view_submission(file.submission_id, limit=9)
    assert await empty.newest_cursor() == 0

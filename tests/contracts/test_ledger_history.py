"""The history: what it says of a submission, what it finds, and how its pages follow each other in both directions."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.contracts.ledgers import LedgerEngine
from tests.support import scenarios
from tests.support.scenarios import CANCELLED, CLIENT, FAILED, SUCCEEDED

from dropmill.engines.sql import search
from dropmill.engines.sql import submissions as changes
from dropmill.model.client import ClientIdentity
from dropmill.model.errors import BadParameter
from dropmill.model.history import HISTORY_STATES, HistoryEntry, HistoryFilter, HistoryPage
from dropmill.model.ids import (
    FileId,
    JobId,
    Owner,
    Sha256,
    SubmissionId,
    new_file_id,
    new_job_id,
    new_submission_id,
)
from dropmill.model.jobs import AttemptOutcome
from dropmill.model.results import Result
from dropmill.model.submissions import Outcome
from dropmill.model.uploads import AbortCause, StoredBlob
from dropmill.ports.ledger import Ledger

ALL = HistoryFilter()
DAY = datetime(2026, 11, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def opening(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Sets the time at which submissions are opened from now on."""

    def at(time: datetime) -> None:
        monkeypatch.setattr(changes, "utc_now", lambda: time)

    return at


def result(path: str) -> Result:
    return Result(path=path, size=1, sha256=Sha256("e" * 64), blob=f"blob of {path}")


async def entries(ledger: Ledger, wanted: HistoryFilter = ALL) -> Sequence[HistoryEntry]:
    return (await ledger.history(wanted, limit=1000)).entries


async def ids(ledger: Ledger, wanted: HistoryFilter = ALL) -> list[SubmissionId]:
    return [entry.submission.id for entry in await entries(ledger, wanted)]


async def settled(ledger: Ledger, *outcomes: AttemptOutcome | None) -> SubmissionId:
    """A submission with a file for each outcome; None: a file that did not arrive."""
    submission_id = await scenarios.opened(ledger)
    for outcome in outcomes:
        if outcome is None:
            await ledger.abort_upload(
                await scenarios.receiving(ledger, submission_id), AbortCause.CUT_OFF, "it broke off"
            )
        else:
            await scenarios.settled(ledger, submission_id, outcome)
    await ledger.seal_submission(submission_id)
    return submission_id


async def test_an_entry_names_the_first_file_and_counts_files_and_results(ledger: Ledger) -> None:
    empty = await scenarios.opened(ledger)
    submission_id = await scenarios.opened(ledger)
    job_id = await scenarios.running(ledger, submission_id, "run 7/first.csv")
    await scenarios.queued(ledger, submission_id, "run 7/second.csv")
    await ledger.end_attempt(job_id, 1, replace(SUCCEEDED, results=(result("a"), result("b"))))
    filled, bare = await entries(ledger)
    assert filled.first_file is not None
    assert (filled.first_file.name, filled.first_file.path) == ("first.csv", "run 7/first.csv")
    assert (filled.first_file.state, filled.first_file.job_id, filled.first_file.error) == ("succeeded", job_id, None)
    assert (filled.submission.id, filled.submission.counts.total, filled.result_count) == (submission_id, 2, 2)
    assert filled.submission.client == CLIENT
    assert (filled.match, filled.submission.outcome) == (None, None)
    assert (bare.submission.id, bare.first_file, bare.result_count) == (empty, None, 0)
    assert await ledger.first_files([submission_id, empty]) == {submission_id: filled.first_file}


async def test_results_of_a_retried_and_of_a_removed_job_no_longer_count(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    job_id = await scenarios.running(ledger, submission_id)
    await ledger.end_attempt(job_id, 1, replace(FAILED, results=(result("a"), result("b"))))
    await ledger.seal_submission(submission_id)
    assert [entry.result_count for entry in await entries(ledger)] == [2]
    await ledger.retry_job(job_id)
    assert [entry.result_count for entry in await entries(ledger)] == [0]
    await scenarios.claimed(ledger)
    await ledger.end_attempt(job_id, 2, replace(SUCCEEDED, results=(result("c"),)))
    [entry] = await entries(ledger)
    assert entry.result_count == 1
    settled_at = entry.submission.settled_at
    assert settled_at is not None
    assert await ledger.begin_removal(submission_id, settled_at)
    assert [entry.result_count for entry in await entries(ledger)] == [0]


async def test_a_state_finds_the_submissions_in_it(ledger: Ledger) -> None:
    good = await settled(ledger, SUCCEEDED)
    bad = await settled(ledger, SUCCEEDED, CANCELLED, FAILED)
    gone = await settled(ledger, SUCCEEDED, None)
    stopped = await settled(ledger, SUCCEEDED, CANCELLED)
    empty = await settled(ledger)
    being_sent = await scenarios.opened(ledger)
    processing = await scenarios.opened(ledger)
    job_id = await scenarios.queued(ledger, processing)
    await ledger.seal_submission(processing)
    expected = {
        None: [processing, being_sent, empty, stopped, gone, bad, good],
        "running": [processing, being_sent],
        "open": [being_sent],
        "processing": [processing],
        "settled": [empty, stopped, gone, bad, good],
        "succeeded": [good],
        "failed": [gone, bad],
        "cancelled": [stopped],
    }
    assert set(expected) == {None, *HISTORY_STATES}
    for state, found in expected.items():
        assert await ids(ledger, HistoryFilter(state=state)) == found, state
        for entry in await entries(ledger, HistoryFilter(state=state)):
            if state in set(Outcome):
                assert entry.submission.outcome == state
    await ledger.request_cancel(job_id)
    assert await ids(ledger, HistoryFilter(state="cancelled")) == [processing, stopped]
    await ledger.retry_job(job_id)  # unsettles it
    assert await ids(ledger, HistoryFilter(state="cancelled")) == [stopped]
    assert await ids(ledger, HistoryFilter(state="running")) == [processing, being_sent]


async def test_a_text_finds_names_paths_clients_and_errors_and_says_in_which_file(ledger: Ledger) -> None:
    client = ClientIdentity(ip="203.0.113.9", host="pc9.lab.example", verified=True)
    submission_id = await scenarios.opened(ledger, client)
    for name in ("run/first.csv", "run/second.csv", "run/third.csv"):
        job_id = await scenarios.running(ledger, submission_id, name)
        await ledger.end_attempt(job_id, 1, FAILED if "second" in name else SUCCEEDED)
    await scenarios.queued(ledger, await scenarios.opened(ledger), "other.txt")
    for text, name in (("SECOND", "second.csv"), ("no such col", "second.csv"), ("run/", "first.csv")):
        [entry] = await entries(ledger, HistoryFilter(text=text))
        assert entry.submission.id == submission_id
        assert entry.match is not None, text
        assert entry.match.name == name
        assert entry.match.error == (FAILED.error.message if FAILED.error and name == "second.csv" else None)
    for text in ("203.0.113", "PC9.lab"):
        [entry] = await entries(ledger, HistoryFilter(text=text))
        assert (entry.submission.id, entry.match) == (submission_id, None)
    assert await ids(ledger, HistoryFilter(text="nowhere")) == []
    assert await ids(ledger, HistoryFilter(text="nul\0")) == []
    assert await ids(ledger, HistoryFilter(text="\udc80 x")) == []


async def test_a_text_in_running_submissions_says_in_which_file(ledger: Ledger) -> None:
    """They are few, so they are read one after the other: another way to the same answer."""
    submission_id = await scenarios.opened(ledger)
    for name in ("first.csv", "second.csv"):
        await scenarios.queued(ledger, submission_id, name)
    [entry] = await entries(ledger, HistoryFilter(text="second", state="running"))
    assert entry.match is not None
    assert (entry.submission.id, entry.match.name) == (submission_id, "second.csv")
    [entry] = await entries(ledger, HistoryFilter(text=CLIENT.ip, state="running"))
    assert entry.match is None


async def test_the_beginning_of_an_id_or_a_hash_finds_its_submission(ledger: Ledger) -> None:
    submission_id = await scenarios.opened(ledger)
    await scenarios.queued(ledger, submission_id, "first.txt")
    file_id, job_id = FileId("beef00" + "0" * 26), JobId("cafe00" + "0" * 26)
    await ledger.start_upload(file_id, submission_id, "meant.txt", "meant.txt", None)
    hashed = StoredBlob(key=new_file_id(), size=1, sha256=Sha256("decade" + "0" * 58))
    await ledger.store_upload(file_id, hashed, job_id)
    for _ in range(3):
        await scenarios.queued(ledger, await scenarios.opened(ledger), "other.txt")
    for text in ("beef00", "BEEF00", file_id, "cafe000", job_id, "decade", hashed.sha256, hashed.sha256.upper()):
        [entry] = await entries(ledger, HistoryFilter(text=text))
        assert entry.submission.id == submission_id, text
        assert entry.match is not None, text
        assert entry.match.id == file_id
    for text in (submission_id, submission_id[:8]):
        [entry] = await entries(ledger, HistoryFilter(text=text))
        assert (entry.submission.id, entry.match) == (submission_id, None)
    for text in ("beef0", "eef000", hashed.sha256[1:], f"{submission_id}0", "%" * 8, "beef00%"):
        assert await ids(ledger, HistoryFilter(text=text)) == [], text


async def test_a_hash_finds_every_submission_that_has_the_file_and_names_too(ledger: Ledger) -> None:
    digest = scenarios.blob().sha256
    sent = []
    for _ in range(3):
        sent.append(await scenarios.opened(ledger))
        await scenarios.queued(ledger, sent[-1], "a.txt")
    named = await scenarios.opened(ledger)
    await scenarios.receiving(ledger, named, f"{digest[:10]}.txt")
    assert await ids(ledger, HistoryFilter(text=digest[:10])) == [named, *sent[::-1]]
    assert await ids(ledger, HistoryFilter(text=digest)) == sent[::-1]


async def test_a_range_of_time_finds_what_was_opened_in_it(ledger: Ledger, opening: Callable[[datetime], None]) -> None:
    made = []
    for hours in range(6):
        opening(DAY + hours * HOUR)
        made.append(await scenarios.opened(ledger))

    def between(first: int | None, last: int | None) -> HistoryFilter:
        return HistoryFilter(
            opened_from=None if first is None else DAY + first * HOUR,
            opened_before=None if last is None else DAY + last * HOUR,
        )

    assert await ids(ledger, between(2, 4)) == made[2:4][::-1]
    assert await ids(ledger, between(None, 4)) == made[:4][::-1]
    assert await ids(ledger, between(2, None)) == made[2:][::-1]
    assert await ids(ledger, between(6, None)) == []
    assert await ids(ledger, between(None, 0)) == []
    assert await ids(ledger, between(4, 2)) == []


async def test_a_clock_that_was_set_back_a_little_hides_nothing(
    ledger: Ledger, opening: Callable[[datetime], None]
) -> None:
    made = []
    for seconds in (0, 50, 10, 55, 5, 60, 20):
        opening(DAY + timedelta(seconds=seconds))
        made.append((seconds, await scenarios.opened(ledger)))
    for first in range(0, 70, 5):
        for last in range(0, 70, 5):
            wanted = HistoryFilter(
                opened_from=DAY + timedelta(seconds=first), opened_before=DAY + timedelta(seconds=last)
            )
            assert await ids(ledger, wanted) == [one for at, one in made[::-1] if first <= at < last]


@pytest.mark.parametrize("seed", range(4))
async def test_pages_in_both_directions_are_the_whole_list(
    ledger: Ledger, opening: Callable[[datetime], None], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Random submissions and filters, against the same filter in Python; small chunks, so that every path is taken."""
    monkeypatch.setattr(search, "CHUNK", 3)
    monkeypatch.setattr(search, "BATCH", 2 + seed % 2 * 5)
    chance = random.Random(seed)
    for number in range(40):
        opening(DAY + number * HOUR / 2)
        submission_id = await scenarios.opened(
            ledger, ClientIdentity(ip=chance.choice(("192.0.2.7", "203.0.113.9")), user_agent="curl")
        )
        for _ in range(chance.randrange(4)):
            job_id = await scenarios.running(ledger, submission_id, chance.choice(("a/needle.txt", "b/hay.txt")))
            await ledger.end_attempt(job_id, 1, chance.choice((SUCCEEDED, SUCCEEDED, FAILED, CANCELLED)))
        if chance.random() < 0.8:
            await ledger.seal_submission(submission_id)
    texts = {}
    for entry in await entries(ledger):
        one = entry.submission
        files = (await ledger.view_submission(one.id, limit=9)).files
        texts[one.id] = [one.client.ip, *(f"{file.path} {file.job and file.job.error}" for file in files)]

    def holds(entry: HistoryEntry, wanted: HistoryFilter) -> bool:
        one = entry.submission
        state = "open" if one.is_open else "settled" if one.is_settled else "processing"
        states = {None, state, one.outcome and one.outcome.value, None if one.is_settled else "running"}
        return (
            wanted.state in states
            and (wanted.text is None or any(wanted.text in text for text in texts[one.id]))
            and (wanted.opened_from is None or one.opened_at >= wanted.opened_from)
            and (wanted.opened_before is None or one.opened_at < wanted.opened_before)
        )

    for _ in range(40):
        wanted = HistoryFilter(
            state=chance.choice((None, None, *HISTORY_STATES)),
            text=chance.choice((None, "needle", "hay.txt", "203.0.113", "no such column", "nowhere")),
            opened_from=chance.choice((None, None, DAY + chance.randrange(20) * HOUR)),
            opened_before=chance.choice((None, None, DAY + chance.randrange(20) * HOUR)),
        )
        expected = [entry.submission.id for entry in await entries(ledger) if holds(entry, wanted)]
        limit = chance.choice((1, 2, 5, 7, 100))
        pages = [await ledger.history(wanted, limit=limit)]
        assert pages[0].previous is None
        while pages[-1].next is not None:
            pages.append(await ledger.history(wanted, before=pages[-1].next, limit=limit))
        where = f"seed {seed}, {wanted}, {limit} a page"
        assert [one for page in pages for one in _ids_of(page)] == expected, where
        assert all(len(page.entries) == limit for page in pages[:-1]), where
        for newer, older in zip(pages[-2::-1], pages[:0:-1], strict=True):
            back = await ledger.history(wanted, after=older.previous, limit=limit)
            assert _ids_of(back) == _ids_of(newer), where
            assert (back.previous, back.next) == (newer.previous, newer.next), where


def _ids_of(page: HistoryPage) -> list[SubmissionId]:
    return [entry.submission.id for entry in page.entries]


async def test_an_empty_page_leads_back_to_where_it_was_asked_from(ledger: Ledger) -> None:
    """A cursor may lie at the end of a list, when a state changed meanwhile."""
    submission_id = await scenarios.opened(ledger)
    await scenarios.opened(ledger)
    first = await ledger.history(ALL, limit=1)
    await ledger.seal_submission(submission_id)
    running = HistoryFilter(state="running")
    empty = await ledger.history(running, before=first.next, limit=1)
    assert (empty.entries, empty.next) == ([], None)
    assert _ids_of(await ledger.history(running, after=empty.previous, limit=1)) == _ids_of(first)
    newer = await ledger.history(ALL, after=empty.previous, limit=5)
    assert newer.previous is None
    last = await ledger.history(ALL, after=str(2**62), limit=5)
    assert (last.entries, last.previous) == ([], None)
    assert await ids(ledger) == _ids_of(await ledger.history(ALL, before=last.next, limit=5))


async def test_an_owner_sees_only_its_own_whatever_is_searched(ledger: Ledger) -> None:
    ada, bob = Owner("account:1"), Owner("account:2")
    made = {}
    for owner in (ada, bob):
        made[owner] = new_submission_id()
        await ledger.open_submission(made[owner], CLIENT, None, owner=owner)
        job_id = new_job_id()
        file_id = await scenarios.receiving(ledger, made[owner], "same.txt")
        await ledger.store_upload(file_id, scenarios.blob(), job_id)
        await scenarios.claimed(ledger)
        await ledger.end_attempt(job_id, 1, SUCCEEDED)
        await ledger.seal_submission(made[owner])
    digest = scenarios.blob().sha256
    for owner, other in ((ada, bob), (bob, ada)):
        for wanted in (ALL, *(HistoryFilter(text=text) for text in ("same", digest, digest[:9], CLIENT.ip))):
            for state in (None, "settled", "succeeded"):
                page = await ledger.history(replace(wanted, state=state), limit=9, visible_to=owner)
                assert _ids_of(page) == [made[owner]], wanted
        page = await ledger.history(HistoryFilter(text=made[other]), limit=9, visible_to=owner)
        assert page.entries == []


@pytest.mark.parametrize("key", ["-1", "x", "\u0663", str(2**63), ""])
async def test_a_cursor_that_no_page_gave_is_a_bad_parameter(ledger: Ledger, key: str) -> None:
    with pytest.raises(BadParameter, match="`before` must be the `next`"):
        await ledger.history(ALL, before=key, limit=1)
    with pytest.raises(BadParameter, match="`after` must be the `previous`"):
        await ledger.history(ALL, after=key, limit=1)


async def test_two_directions_and_unknown_states_are_bad_parameters(ledger: Ledger) -> None:
    with pytest.raises(BadParameter, match="not both"):
        await ledger.history(ALL, before="1", after="1", limit=1)
    with pytest.raises(BadParameter, match="must be one of running, open"):
        await ledger.history(HistoryFilter(state="queued"), limit=1)


async def test_more_entries_than_a_query_has_parameters_have_their_first_files(engine: LedgerEngine) -> None:
    ledger = await engine.open()
    await scenarios.save(ledger)
    for _ in range(600):
        await scenarios.receiving(ledger, await scenarios.opened(ledger), "a.txt")
    page = await ledger.history(HistoryFilter(text="a.txt"), limit=1000)
    assert [entry.first_file and entry.first_file.name for entry in page.entries] == ["a.txt"] * 600
    assert [entry.match and entry.match.name for entry in page.entries] == ["a.txt"] * 600

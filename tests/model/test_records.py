"""The legal transitions, one by one, and what records say of themselves."""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import dropmill.model
from dropmill.model.client import ClientIdentity
from dropmill.model.clock import utc_now
from dropmill.model.errors import IllegalTransition
from dropmill.model.ids import FileId, JobId, SubmissionId
from dropmill.model.jobs import (
    ATTEMPT_TRANSITIONS,
    FINAL_JOB_STATES,
    JOB_TRANSITIONS,
    AttemptState,
    Job,
    JobState,
    ProcessorFile,
)
from dropmill.model.submissions import Counts, Submission
from dropmill.model.transitions import require_transition
from dropmill.model.uploads import UPLOAD_TRANSITIONS, UploadState

# Written out a second time, so that a table cannot change by a slip.
LEGAL = (
    {
        ("announced", "receiving"),
        ("announced", "aborted"),
        ("receiving", "stored"),
        ("receiving", "aborted"),
    },
    {
        ("queued", "running"),
        ("queued", "cancelled"),
        ("running", "queued"),
        ("running", "succeeded"),
        ("running", "failed"),
        ("running", "cancelled"),
        ("succeeded", "queued"),
        ("failed", "queued"),
        ("cancelled", "queued"),
    },
    {
        ("running", "succeeded"),
        ("running", "failed"),
        ("running", "cancelled"),
        ("running", "lost"),
    },
)
TABLES: list[tuple[Mapping[Any, frozenset[Any]], type[StrEnum], set[tuple[str, str]], str]] = [
    (UPLOAD_TRANSITIONS, UploadState, LEGAL[0], "announced"),
    (JOB_TRANSITIONS, JobState, LEGAL[1], "queued"),
    (ATTEMPT_TRANSITIONS, AttemptState, LEGAL[2], "running"),
]
PAIRS = [
    pytest.param(table, now, then, (now, then) in legal, id=f"{states.__name__}-{now}-{then}")
    for table, states, legal, _ in TABLES
    for now, then in product(states, states)
]
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(("table", "now", "then", "is_legal"), PAIRS)
def test_each_pair_of_states_is_allowed_or_refused_as_the_words_say(
    table: Mapping[Any, frozenset[Any]], now: StrEnum, then: StrEnum, is_legal: bool
) -> None:
    if is_legal:
        require_transition(table, now, then, "thing")
        return
    with pytest.raises(IllegalTransition) as refused:
        require_transition(table, now, then, "thing")
    assert refused.value.detail == f"The thing is {now}; it cannot become {then}."


@pytest.mark.parametrize(("table", "states", "legal", "first"), TABLES)
def test_every_state_can_be_reached_from_the_first_one(
    table: Mapping[Any, frozenset[Any]], states: type[StrEnum], legal: set[tuple[str, str]], first: str
) -> None:
    assert set(table) == set(states)
    reached, grown = {states(first)}, True
    while grown:
        more = reached.union(*(table[state] for state in reached))
        grown, reached = more != reached, more
    assert reached == set(states)


def test_what_is_final_leads_nowhere_or_for_a_job_only_back_in_line() -> None:
    assert {state for state in UploadState if not UPLOAD_TRANSITIONS[state]} == {"stored", "aborted"}
    assert {state for state in AttemptState if not ATTEMPT_TRANSITIONS[state]} == set(AttemptState) - {"running"}
    assert {state for state in JobState if state.is_final} == FINAL_JOB_STATES == set(JobState) - {"queued", "running"}
    assert all(JOB_TRANSITIONS[state] == {JobState.QUEUED} for state in FINAL_JOB_STATES)


def test_every_record_is_frozen_takes_keywords_only_and_has_no_dictionary() -> None:
    modules = [
        importlib.import_module(f"dropmill.model.{module.name}")
        for module in pkgutil.iter_modules(dropmill.model.__path__)
    ]
    things = {thing for module in modules for thing in vars(module).values() if isinstance(thing, type)}
    found = [thing for thing in things if is_dataclass(thing)]
    assert len(found) >= 23
    for record in found:
        parameters = record.__dataclass_params__  # type: ignore[attr-defined]
        assert parameters.frozen, record
        assert all(field.kw_only for field in fields(record)), record
        assert "__slots__" in vars(record), record
    with pytest.raises(FrozenInstanceError):
        Counts().queued = 1  # type: ignore[misc]


def test_a_file_is_counted_once_and_in_progress_until_its_end() -> None:
    for field in fields(Counts):
        one = Counts(**{field.name: 1})
        assert one.total == 1
        assert one.in_progress == (field.name in ("announced", "receiving", "queued", "running"))


@pytest.mark.parametrize(
    ("is_open", "counts", "is_settled"),
    [
        (True, Counts(), False),
        (True, Counts(succeeded=1), False),
        (False, Counts(), True),
        (False, Counts(succeeded=1, failed=2, cancelled=3, aborted=4), True),
        *[(False, Counts(**{state: 1}), False) for state in ("announced", "receiving", "queued", "running")],
    ],
)
def test_a_submission_is_settled_when_sealed_with_nothing_left_to_do(
    is_open: bool, counts: Counts, is_settled: bool
) -> None:
    submission = Submission(
        id=SubmissionId("s"),
        is_open=is_open,
        opened_at=AT,
        settled_at=None,
        times_settled=0,
        client=ClientIdentity(ip="::1"),
        account=None,
        counts=counts,
    )
    assert submission.is_settled is is_settled


@pytest.mark.parametrize(
    ("started_at", "settled_at", "duration"),
    [
        (None, None, None),
        (AT, None, None),
        (None, AT, None),
        (AT, AT + timedelta(seconds=1.5), 1.5),
        (AT, AT, 0.0),
        (AT, AT - timedelta(seconds=1), None),
    ],
    ids=["new", "running", "cancelled in line", "settled", "at once", "the clock was set back"],
)
def test_a_job_took_as_long_as_its_newest_attempt(
    started_at: datetime | None, settled_at: datetime | None, duration: float | None
) -> None:
    job = Job(
        id=JobId("j"),
        file_id=FileId("f"),
        submission_id=SubmissionId("s"),
        state=JobState.QUEUED,
        queued_at=AT,
        started_at=started_at,
        settled_at=settled_at,
        exit_code=None,
        error=None,
        value=None,
        output_size=0,
    )
    assert job.duration == duration


def test_the_clock_is_utc_and_cut_to_milliseconds() -> None:
    before = datetime.now(UTC)
    now = utc_now()
    assert now.tzinfo is UTC
    assert now.microsecond % 1000 == 0
    assert before - timedelta(milliseconds=1) < now <= datetime.now(UTC)


def test_a_processors_file_opens_like_a_path_and_hides_who_sent_it_from_its_text(tmp_path: Path) -> None:
    path = tmp_path / "stored.txt"
    path.write_bytes(b"content")
    file = ProcessorFile(
        name="a.txt",
        path=path,
        size=7,
        sha256="",
        job_id="j",
        submission_id="s",
        attempt=1,
        client=ClientIdentity(ip="192.0.2.1"),
    )
    with open(file, "rb") as opened:
        assert opened.read() == b"content"
    assert "192.0.2.1" not in repr(file)

"""The legal transitions of uploads, jobs and attempts, one by one."""

from collections.abc import Mapping
from enum import StrEnum
from itertools import product
from typing import Any

import pytest

from dropmill.model.errors import IllegalTransition
from dropmill.model.jobs import ATTEMPT_TRANSITIONS, FINAL_JOB_STATES, JOB_TRANSITIONS, AttemptState, JobState
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


def test_what_is_final_leads_nowhere_or_for_a_job_only_back_into_the_queue() -> None:
    assert {state for state in UploadState if not UPLOAD_TRANSITIONS[state]} == {"stored", "aborted"}
    assert {state for state in AttemptState if not ATTEMPT_TRANSITIONS[state]} == set(AttemptState) - {"running"}
    assert {state for state in JobState if state.is_final} == FINAL_JOB_STATES == set(JobState) - {"queued", "running"}
    assert all(JOB_TRANSITIONS[state] == {JobState.QUEUED} for state in FINAL_JOB_STATES)

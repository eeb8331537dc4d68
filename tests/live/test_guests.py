"""What those see who have followed a link."""

from typing import Any

import pytest
from tests.support.callers import ADA, VISITORS
from tests.support.scenarios import CLIENT, FAR_FUTURE

from dropmill.live.guests import View, event_as_seen, submission_as_seen, view_of
from dropmill.model.events import DATA_KEYS, Event, EventName, Subject
from dropmill.model.ids import Cursor, SubmissionId

COUNTS = {
    "announced": 1, "receiving": 2, "aborted": 3, "queued": 4,
    "running": 5, "succeeded": 6, "failed": 7, "cancelled": 8,
}  # fmt: skip


def event(name: EventName) -> Event:
    data: dict[str, Any] = {key: COUNTS if key == "counts" else f"the {key}" for key in DATA_KEYS[name]}
    subject = Subject(submission_id=SubmissionId("s"), account="ada", client=CLIENT)
    return Event(cursor=Cursor(1), at=FAR_FUTURE, name=name, subject=subject, data=data)


def test_each_caller_has_a_view() -> None:
    assert [view_of(each) for each in VISITORS.values()] == [View.GUEST, View.ARRIVALS, View.GUEST]
    assert view_of(ADA) is View.FULL


@pytest.mark.parametrize("name", EventName)
def test_no_event_says_who_sent_something_or_where_it_runs(name: EventName) -> None:
    told = event(name)
    assert event_as_seen(told, View.FULL) is told
    seen = event_as_seen(told, View.GUEST)
    assert seen is not None
    assert (seen.subject.client, seen.subject.account) == (None, None)
    assert {key for key in ("host", "domain", "verified", "config_revision") if seen.data.get(key) is not None} == set()
    assert set(seen.data) == set(told.data)


def test_who_sees_arrivals_hears_of_nothing_else() -> None:
    seen = {name: event_as_seen(event(name), View.ARRIVALS) for name in EventName}
    assert {name.value for name, one in seen.items() if one is not None} == {
        *("submission.opened", "submission.sealed", "upload.started", "upload.stored", "upload.aborted"),
    }
    sealed = seen[EventName.SUBMISSION_SEALED]
    assert sealed is not None
    assert sealed.data["counts"] == {
        **dict.fromkeys(COUNTS, 0), "announced": 1, "receiving": 2, "aborted": 3, "succeeded": 30,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("state", "on_the_way", "shown"),
    [("open", 0, "open"), ("processing", 1, "processing"), ("processing", 0, "settled"), ("settled", 0, "settled")],
)
def test_for_who_sees_arrivals_a_submission_has_settled_when_all_of_it_has_come(
    state: str, on_the_way: int, shown: str
) -> None:
    counts: Any = {**dict.fromkeys(COUNTS, 0), "receiving": on_the_way, "failed": 1}
    shape: Any = {
        "id": "s", "state": state, "opened_at": "", "settled_at": "then", "client": {"ip": "1"}, "account": "ada",
        "counts": counts, "aborted_as": {"cancelled": 0, "replaced": 0},
        "link": {"id": "l", "label": "x", "name": None},
    }  # fmt: skip
    seen = submission_as_seen(shape, View.ARRIVALS)
    assert (seen["state"], seen["settled_at"]) == (shown, None)
    assert (seen["counts"]["failed"], seen["counts"]["succeeded"]) == (0, 1)
    for view in (View.ARRIVALS, View.GUEST):
        seen = submission_as_seen(shape, view)
        assert (seen["client"], seen["account"], seen["link"]) == (None, None, None)
    assert submission_as_seen(shape, View.FULL) is shape

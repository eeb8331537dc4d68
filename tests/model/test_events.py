"""The event catalogue is complete, and one rule says who hears of what."""

import pytest

from dropmill.model.clock import utc_now
from dropmill.model.events import DATA_KEYS, Event, EventName, Subject, topics_of
from dropmill.model.ids import Cursor, SubmissionId

CONTRACT = {
    "client": ["identified"],
    "submission": ["opened", "sealed", "settled"],
    "upload": ["started", "stored", "aborted"],
    "job": ["queued", "settled"],
    "attempt": ["started", "succeeded", "failed", "cancelled", "lost"],
    "config": ["saved", "rejected", "purged"],
    "account": ["signed_in", "signed_out"],
}


def test_the_names_are_those_of_the_contract() -> None:
    assert [name.value for name in EventName] == [f"{what}.{how}" for what in CONTRACT for how in CONTRACT[what]]


def test_every_event_has_its_keys_in_the_catalogue_each_once() -> None:
    assert set(DATA_KEYS) == set(EventName)
    for name, keys in DATA_KEYS.items():
        assert len(set(keys)) == len(keys), name
        assert not set(keys) & {"cursor", "at", "name", "subject", "data"}, name


@pytest.mark.parametrize("name", EventName)
def test_topics_follow_from_name_and_subject(name: EventName) -> None:
    own = ["config"] if name.startswith("config.") else []
    assert topics_of(name, Subject()) == ("all", *own)
    subject = Subject(submission_id=SubmissionId("s1"), account="ada")
    assert topics_of(name, subject) == ("all", *own, "submission:s1", "account:ada")
    event = Event(cursor=Cursor(1), at=utc_now(), name=name, subject=subject)
    assert event.topics == topics_of(name, subject)

"""The event catalogue is complete, and one rule says who hears of what."""

import re

import pytest

from dropmill.model.clock import utc_now
from dropmill.model.events import AUDITED, CATALOGUE, DATA_KEYS, KIND_OF_AUDITED, Event, EventName, Subject, topics_of
from dropmill.model.ids import OPEN, Cursor, Owner, SubmissionId


@pytest.mark.parametrize("name", EventName)
def test_a_name_says_what_it_is_about_and_what_happened(name: EventName) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z_]+", name.value)


def test_every_event_has_its_keys_in_the_catalogue_each_once() -> None:
    assert list(CATALOGUE) == list(EventName)
    for name, keys in DATA_KEYS.items():
        assert len(set(keys)) == len(keys), name
        assert not set(keys) & {"cursor", "at", "name", "subject", "data"}, name


@pytest.mark.parametrize("name", EventName)
def test_topics_follow_from_name_and_subject(name: EventName) -> None:
    own = [topic for topic, kind in (("config", "config."), ("accounts", "account.")) if name.startswith(kind)]
    if name is EventName.ACCOUNT_REFUSED:
        own = []  # it changes no sign-in that a process remembers
    own += ["links"] if name is EventName.LINK_REVOKED else []
    own += ["audit"] if name in AUDITED else []
    assert topics_of(name, Subject()) == ("all", *own)
    subject = Subject(submission_id=SubmissionId("s1"), account="ada")
    assert topics_of(name, subject) == ("all", *own, "submission:s1")  # names are no owners
    for owner in (Owner("account:" + "a" * 32), Owner("browser:" + "b" * 64)):
        assert topics_of(name, subject, owner) == ("all", *own, "submission:s1", owner)
        event = Event(cursor=Cursor(1), at=utc_now(), name=name, subject=subject, owner=owner)
        assert event.topics == topics_of(name, subject, owner)
    for owner in (OPEN, Owner("link:" + "f" * 32 + ":" + "0" * 64), Owner("account:ada"), Owner("all")):
        assert topics_of(name, Subject(), owner) == ("all", *own)


def test_every_audited_event_has_a_kind_by_which_the_audit_is_narrowed_down() -> None:
    assert KIND_OF_AUDITED.keys() == AUDITED

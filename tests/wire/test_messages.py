"""What a client may say, and the shapes of what it is told."""

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone

import pytest

from dropmill.model.client import ClientIdentity
from dropmill.model.config import ConfigRevision
from dropmill.model.events import Event, EventName, Subject
from dropmill.model.ids import Cursor, FileId, JobId, Sha256, SubmissionId
from dropmill.model.jobs import Attempt, AttemptState, Job, JobError, JobState, Progress
from dropmill.model.results import Result
from dropmill.model.submissions import Counts, Submission
from dropmill.model.uploads import File, UploadState
from dropmill.wire import messages
from dropmill.wire.messages import BadMessage, Cancel, Join, Leave, Retry, RuntimeState, parse

AT = datetime(2026, 3, 1, 12, 0, 0, 123_456, timezone(timedelta(hours=2)))
TEXT = "2026-03-01T10:00:00.123Z"
CLIENT = ClientIdentity(ip="192.0.2.7", host="pc7.lab.example", verified=True, domain="lab.example", user_agent="curl")
CLIENT_JSON = {
    "ip": "192.0.2.7",
    "host": "pc7.lab.example",
    "verified": True,
    "domain": "lab.example",
    "user_agent": "curl",
}


# --- from the client -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"join","id":1,"topic":"all"}', Join(id=1, topic="all", after=None, attempt=None)),
        (
            '{"type":"join","id":"a","topic":"output:x","after":0,"attempt":2}',
            Join(id="a", topic="output:x", after=0, attempt=2),
        ),
        (
            '{"type":"join","topic":"all","after":9223372036854775807,"attempt":null}',
            Join(id=None, topic="all", after=2**63 - 1, attempt=None),
        ),
        ('{"type":"leave","id":2,"topic":"all"}', Leave(id=2, topic="all")),
        ('{"type":"cancel","id":3,"job_id":"j"}', Cancel(id=3, job_id="j")),
        ('{"type":"retry","id":4,"job_id":"j","more":[1]}', Retry(id=4, job_id="j")),
    ],
)
def test_a_message_of_the_contract_is_taken(text: str, message: object) -> None:
    assert parse(text) == message


@pytest.mark.parametrize(
    ("text", "re"),
    [
        (None, None),
        (b'{"type":"leave","topic":"all"}', None),
        ("", None),
        ("hello", None),
        ("null", None),
        ("1", None),
        ("[]", None),
        ("{}", None),
        ('{"id":7}', 7),
        ('{"type":"launch","id":7}', 7),
        ('{"type":{"$gt":""}}', None),
        ('{"type":["join"],"id":"x"}', "x"),
        ('{"type":"leave","type":"join","id":1,"topic":"all"}', None),
        ('{"type":"join","id":1,"topic":"all","x":{"a":1,"a":2}}', None),
        ('{"type":"join","id":1}', 1),
        ('{"type":"join","id":1,"topic":""}', 1),
        ('{"type":"join","id":1,"topic":null}', 1),
        ('{"type":"join","id":1,"topic":["all"]}', 1),
        ('{"type":"join","topic":"a\\u0000b"}', None),
        ('{"type":"join","topic":"a\\nb"}', None),
        ('{"type":"join","topic":"\\ud800"}', None),
        ('{"type":"join","topic":"' + "a" * 201 + '"}', None),
        ('{"type":"join","topic":"all","after":1.5}', None),
        ('{"type":"join","topic":"all","after":-1}', None),
        ('{"type":"join","topic":"all","after":true}', None),
        ('{"type":"join","topic":"all","after":"5"}', None),
        ('{"type":"join","topic":"all","after":NaN}', None),
        ('{"type":"join","topic":"all","after":1e400}', None),
        ('{"type":"join","topic":"all","after":9223372036854775808}', None),
        ('{"type":"join","topic":"all","after":' + "9" * 300 + "}", None),
        ('{"type":"join","topic":"all","after":' + "9" * 10_000 + "}", None),
        ('{"type":"join","topic":"output:x","attempt":1.5,"id":1}', 1),
        ('{"type":"leave","id":1}', 1),
        ('{"type":"cancel","id":1}', 1),
        ('{"type":"retry","id":1,"job_id":5}', 1),
        ('{"type":"leave","id":1.5,"topic":"all"}', None),
        ('{"type":"leave","id":true,"topic":"all"}', None),
        ('{"type":"leave","id":{},"topic":"all"}', None),
        ('{"type":"leave","id":"' + "x" * 201 + '","topic":"all"}', None),
        ('{"type":"leave","id":' + "9" * 4000 + ',"topic":"all"}', None),
        ("[" * 100_000, None),
        ("[" * 60_000, None),
        ('{"a":' * 12_000, None),
        ('{"type":"join","id":1,"topic":"all"}' + " " * 65536, None),
        ('{"type":"join","topic":"all"}{"type":"join","topic":"all"}', None),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_anything_else_is_a_bad_message_answered_by_its_id(text: object, re: object) -> None:
    with pytest.raises(BadMessage) as refused:
        parse(text)
    assert refused.value.re == re
    assert refused.value.detail.endswith(".")
    assert len(messages.dumps(messages.reply(refused.value.re, "bad_message", refused.value.detail))) < 600


@pytest.mark.parametrize("topic", ["x' OR 1=1--", "*", "account:../x", "\u00e9", "submission:" + "0" * 32])
def test_whether_a_topic_exists_is_not_the_parsers_question(topic: str) -> None:
    assert parse(json.dumps({"type": "join", "topic": topic})) == Join(id=None, topic=topic, after=None, attempt=None)


# --- to the client ---------------------------------------------------------------------------------------------------


def _job() -> Job:
    attempt = Attempt(
        job_id=JobId("j"),
        number=1,
        state=AttemptState.FAILED,
        exit_code=-9,
        config_revision=Sha256("cd" * 32),
        started_at=AT,
        settled_at=AT + timedelta(seconds=2),
        output_size=7,
        host="here",
    )
    return Job(
        id=JobId("j"),
        file_id=FileId("f"),
        submission_id=SubmissionId("s"),
        state=JobState.FAILED,
        queued_at=AT,
        started_at=AT,
        settled_at=AT + timedelta(seconds=2),
        exit_code=-9,
        error=JobError(type="signal", message="killed"),
        value=None,
        output_size=7,
        attempts=(attempt,),
        result_count=2,
        results=(Result(path="a b/%é?.txt", size=5, sha256=Sha256("ef" * 32), blob="key"),),
    )


def _file(state: UploadState, job: Job | None = None) -> File:
    return File(
        id=FileId("f"),
        submission_id=SubmissionId("s"),
        name="a.txt",
        path="folder/a.txt",
        size=12,
        received=12,
        sha256=Sha256("ab" * 32),
        state=state,
        blob="secret/place",
        error="the connection was cut" if state is UploadState.ABORTED else None,
        job=job,
    )


def test_a_submission_has_the_contracts_shape() -> None:
    submission = Submission(
        id=SubmissionId("s"),
        is_open=False,
        opened_at=AT,
        settled_at=None,
        times_settled=0,
        client=CLIENT,
        account="ada",
        counts=Counts(queued=1),
    )
    shape = messages.submission_json(submission)
    counts = {field.name: int(field.name == "queued") for field in fields(Counts)}
    assert shape == {
        "id": "s",
        "state": "processing",
        "opened_at": TEXT,
        "settled_at": None,
        "client": CLIENT_JSON,
        "account": "ada",
        "counts": counts,
    }
    assert messages.submission_json(submission, [{"id": "f"}], "7") == shape | {
        "files": [{"id": "f"}],
        "files_next": "7",
    }


def test_a_file_and_its_job_have_the_contracts_shape_and_no_path_of_the_server() -> None:
    shape = messages.file_json(_file(UploadState.STORED, _job()), RuntimeState())
    assert "secret" not in messages.dumps(shape)
    settled_at = "2026-03-01T10:00:02.123Z"
    assert shape == {
        "id": "f",
        "name": "a.txt",
        "path": "folder/a.txt",
        "size": 12,
        "received": 12,
        "sha256": "ab" * 32,
        "state": "stored",
        "removed_at": None,
        "job": {
            "id": "j",
            "file_id": "f",
            "submission_id": "s",
            "state": "failed",
            "queued_at": TEXT,
            "started_at": TEXT,
            "settled_at": settled_at,
            "duration": 2.0,
            "position": None,
            "not_before": None,
            "progress": None,
            "exit_code": -9,
            "error": {"type": "signal", "message": "killed"},
            "value": None,
            "output_size": 7,
            "result_count": 2,
            "results": [
                {
                    "path": "a b/%é?.txt",
                    "size": 5,
                    "sha256": "ef" * 32,
                    "url": "/api/v1/jobs/j/results/a%20b/%25%C3%A9%3F.txt",
                }
            ],
            "attempts": [
                {
                    "number": 1,
                    "state": "failed",
                    "exit_code": -9,
                    "config_revision": "cd" * 32,
                    "started_at": TEXT,
                    "settled_at": settled_at,
                    "output_size": 7,
                    "host": "here",
                }
            ],
        },
    }
    aborted = messages.file_json(_file(UploadState.ABORTED), RuntimeState())
    assert (aborted["error"], aborted["job"]) == ("the connection was cut", None)


def test_what_only_this_moment_knows_is_shown_with_it() -> None:
    progress = Progress(submission_id=SubmissionId("s"), file_id=FileId("f"), stage="process", value=3, total=10)
    momentary = RuntimeState(received=5, position=2, progress=progress)
    shape = messages.file_json(_file(UploadState.RECEIVING, _job()), momentary)
    assert (shape["received"], shape["job"]["position"]) == (5, 2)
    assert shape["job"]["progress"] == {"value": 3, "total": 10, "label": None}


def test_an_event_names_its_subject_with_null_for_what_is_absent() -> None:
    event = Event(cursor=Cursor(3), at=AT, name=EventName.SUBMISSION_OPENED, subject=Subject(client=CLIENT), data={})
    assert messages.event_json(event) == {
        "cursor": 3,
        "at": TEXT,
        "name": "submission.opened",
        "subject": {
            "submission_id": None,
            "file_id": None,
            "job_id": None,
            "attempt": None,
            "name": None,
            "account": None,
            "client": CLIENT_JSON,
        },
        "data": {},
    }


def test_a_revision_is_shown_without_its_text() -> None:
    revision = ConfigRevision(
        number=3,
        sha256=Sha256("ab" * 32),
        size=5,
        saved_at=AT,
        account=None,
        client=None,
        message="raise the limit",
    )
    assert messages.revision_json(revision) == {
        "sha256": "ab" * 32,
        "saved_at": TEXT,
        "size": 5,
        "message": "raise the limit",
        "account": None,
        "client": None,
        "is_purged": False,
    }


def test_the_servers_messages_have_the_contracts_fields() -> None:
    progress = Progress(submission_id=SubmissionId("s"), file_id=FileId("f"), stage="upload", value=3)
    assert messages.hello(AT, 15) == {"type": "hello", "protocol": 1, "server_time": TEXT, "heartbeat": 15}
    assert messages.snapshot("all", 3, None) == {"type": "snapshot", "topic": "all", "cursor": 3, "state": None}
    assert messages.events("all", 3, [{}]) == {"type": "events", "topic": "all", "cursor": 3, "events": [{}]}
    assert messages.progress(progress) == {
        "type": "progress",
        "file_id": "f",
        "stage": "upload",
        "value": 3,
        "total": None,
        "label": None,
    }
    output = {"type": "output", "job_id": "j", "attempt": 1, "offset": 2, "end": 4, "text": "\u00e9"}
    assert messages.output("j", 1, 2, 4, "\u00e9") == output
    assert messages.gap("all", 3) == {"type": "gap", "topic": "all", "cursor": 3}
    assert messages.reply(7) == {"type": "reply", "re": 7, "ok": True, "error": None}
    error = {"code": "not_found", "detail": "No."}
    assert messages.reply(7, "not_found", "No.") == {"type": "reply", "re": 7, "ok": False, "error": error}
    assert messages.tick(AT) == {"type": "tick", "at": TEXT}


def test_a_message_is_one_line_of_ascii_whatever_it_holds() -> None:
    text = messages.dumps({"name": "a\r\n\u2028\u0085\u202e\ud800</script>"})
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text)["name"] == "a\r\n\u2028\u0085\u202e\ud800</script>"


def test_times_are_utc_to_the_millisecond() -> None:
    assert messages.time_text(None) is None
    assert messages.time_text(AT) == TEXT
    assert messages.time_text(datetime(1999, 12, 31, 23, 59, 59, 999_999, UTC)) == "1999-12-31T23:59:59.999Z"

"""The socket's messages, in both directions."""

import json
from datetime import datetime, timedelta, timezone

import pytest

from dropmill.model.ids import FileId, SubmissionId
from dropmill.model.jobs import Progress
from dropmill.wire import socket
from dropmill.wire.encoding import dumps
from dropmill.wire.socket import BadMessage, Cancel, Editing, Join, Leave, Retry, parse

AT = datetime(2026, 3, 1, 12, 0, 0, 123_456, timezone(timedelta(hours=2)))
TEXT = "2026-03-01T10:00:00.123Z"


# --- from the client -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"join","id":1,"topic":"all"}', Join(id=1, topic="all", ledger=None, after=None, attempt=None)),
        (
            '{"type":"join","id":"a","topic":"output:x","after":0,"attempt":2}',
            Join(id="a", topic="output:x", ledger=None, after=0, attempt=2),
        ),
        (
            '{"type":"join","topic":"all","after":9223372036854775807,"attempt":null}',
            Join(id=None, topic="all", ledger=None, after=2**63 - 1, attempt=None),
        ),
        (
            '{"type":"join","topic":"all","after":5,"ledger":"l"}',
            Join(id=None, topic="all", ledger="l", after=5, attempt=None),
        ),
        ('{"type":"editing","id":5,"topic":"config","is_dirty":true}', Editing(id=5, topic="config", is_dirty=True)),
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
        ('{"type":"join","id":1,"topic":"all","ledger":5}', 1),
        ('{"type":"join","id":1,"topic":"all","ledger":""}', 1),
        ('{"type":"editing","id":1,"topic":"config"}', 1),
        ('{"type":"editing","id":1,"topic":"config","is_dirty":1}', 1),
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
    assert len(dumps(socket.reply(refused.value.re, "bad_message", refused.value.detail))) < 600


@pytest.mark.parametrize("topic", ["x' OR 1=1--", "*", "account:../x", "\u00e9", "submission:" + "0" * 32])
def test_whether_a_topic_exists_is_not_the_parsers_question(topic: str) -> None:
    assert parse(json.dumps({"type": "join", "topic": topic})) == Join(
        id=None, topic=topic, ledger=None, after=None, attempt=None
    )


# --- to the client ---------------------------------------------------------------------------------------------------


def test_the_servers_messages_have_the_contracts_fields() -> None:
    progress = Progress(submission_id=SubmissionId("s"), file_id=FileId("f"), stage="upload", value=3)
    assert socket.hello(AT, 15, "l", "1.2", 3) == {
        "type": "hello",
        "protocol": 1,
        "server_time": TEXT,
        "heartbeat": 15,
        "ledger": "l",
        "version": "1.2",
        "spread_s": 3,
    }
    assert socket.snapshot("all", 3, None) == {"type": "snapshot", "topic": "all", "cursor": 3, "state": None}
    assert socket.events("all", 3, []) == {"type": "events", "topic": "all", "cursor": 3, "events": []}
    report = {"file_id": "f", "stage": "upload", "value": 3, "total": None, "label": None}
    assert socket.progress([progress]) == {"type": "progress", "files": [report]}
    notice = {"type": "notice", "id": "n", "text": "Restart at six", "expires_at": TEXT}
    assert socket.notice("n", "Restart at six", AT) == notice
    assert socket.notice_withdrawn("n") == {"type": "notice_withdrawn", "id": "n"}
    presence = {"type": "presence", "topic": "config", "watching": 2, "names": None, "editing": True}
    assert socket.presence("config", 2, None, True) == presence
    assert socket.poll_end("s") == {"type": "poll", "seen": "s"}
    output = {"type": "output", "job_id": "j", "attempt": 1, "offset": 2, "end": 4, "text": "\u00e9"}
    assert socket.output("j", 1, 2, 4, "\u00e9") == output
    assert socket.gap("all", 3) == {"type": "gap", "topic": "all", "cursor": 3}
    assert socket.reply(7) == {"type": "reply", "re": 7, "ok": True, "error": None}
    error = {"code": "not_found", "detail": "No."}
    assert socket.reply(7, "not_found", "No.") == {"type": "reply", "re": 7, "ok": False, "error": error}
    assert socket.tick(AT, 1) == {"type": "tick", "at": TEXT, "spread_s": 1}

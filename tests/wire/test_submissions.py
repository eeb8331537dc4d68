"""A submission, its files and their jobs, as clients get them."""

from dataclasses import fields, replace
from datetime import datetime, timedelta, timezone

from dropmill.model.client import ClientIdentity
from dropmill.model.ids import FileId, JobId, LinkId, Sha256, SubmissionId
from dropmill.model.jobs import Attempt, AttemptState, Job, JobError, JobState, Progress
from dropmill.model.results import Result
from dropmill.model.submissions import ByLink, Counts, Submission
from dropmill.model.uploads import AbortCause, File, UploadState
from dropmill.wire.encoding import dumps
from dropmill.wire.jobs import RuntimeState
from dropmill.wire.submissions import Announcement, announcement_json, file_json, remote_file, submission_json

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
        cause=AbortCause.CUT_OFF if state is UploadState.ABORTED else None,
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
    shape = submission_json(submission)
    counts = {field.name: int(field.name == "queued") for field in fields(Counts)}
    assert shape == {
        "id": "s",
        "state": "processing",
        "opened_at": TEXT,
        "settled_at": None,
        "client": CLIENT_JSON,
        "account": "ada",
        "counts": counts,
        "aborted_as": {"cancelled": 0, "replaced": 0},
        "link": None,
    }
    by_link = ByLink(id=LinkId("l"), label="Drawings", name="Grace")
    named = submission_json(replace(submission, by_link=by_link))
    assert named["link"] == {"id": "l", "label": "Drawings", "name": "Grace"}
    file = file_json(_file(UploadState.STORED), RuntimeState())
    assert submission_json(submission, [file], "7") == {**shape, "files": [file], "files_next": "7"}


def test_a_file_and_its_job_have_the_contracts_shape_and_no_path_of_the_server() -> None:
    shape = file_json(_file(UploadState.STORED, _job()), RuntimeState())
    assert "secret" not in dumps(shape)
    settled_at = "2026-03-01T10:00:02.123Z"
    assert shape == {
        "id": "f",
        "name": "a.txt",
        "path": "folder/a.txt",
        "size": 12,
        "received": 12,
        "sha256": "ab" * 32,
        "state": "stored",
        "is_sending": False,
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
    aborted = file_json(_file(UploadState.ABORTED), RuntimeState())
    assert (aborted["error"], aborted["cause"], aborted["job"]) == ("the connection was cut", "cut_off", None)


def test_what_only_this_moment_knows_is_shown_with_it() -> None:
    progress = Progress(submission_id=SubmissionId("s"), file_id=FileId("f"), stage="process", value=3, total=10)
    runtime = RuntimeState(received=5, is_sending=True, position=2, progress=progress)
    shape = file_json(_file(UploadState.RECEIVING, _job()), runtime)
    job = shape["job"]
    assert job is not None
    assert (shape["received"], shape["is_sending"], job["position"]) == (5, True, 2)
    assert job["progress"] == {"value": 3, "total": 10, "label": None}


def test_a_client_reads_back_what_the_server_wrote() -> None:
    file = remote_file(file_json(_file(UploadState.ABORTED), RuntimeState()))
    assert (file.id, file.path, file.state, file.sha256) == ("f", "folder/a.txt", "aborted", "ab" * 32)
    assert file.error == "the connection was cut"
    assert remote_file(file_json(_file(UploadState.STORED, _job()), RuntimeState())).error is None


def test_an_announcement_names_each_file_by_its_path_and_its_last_part() -> None:
    files = [Announcement(path="folder/a.txt", size=3), Announcement(path="b", size=0)]
    assert announcement_json(files) == {
        "files": [{"name": "a.txt", "path": "folder/a.txt", "size": 3}, {"name": "b", "path": "b", "size": 0}]
    }

"""Submissions and their files, and the announcement of files to come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from dropmill.model.submissions import ByLink, Counts, Submission
from dropmill.model.uploads import File, UploadState
from dropmill.text import time_text
from dropmill.wire.clients import ClientJson, client_json
from dropmill.wire.jobs import JobJson, RuntimeState, job_json


class CountsJson(TypedDict):
    """How many files of a submission are in each state; a file counts once."""

    announced: int
    receiving: int
    aborted: int
    queued: int
    running: int
    succeeded: int
    failed: int
    cancelled: int


class AbortedJson(TypedDict):
    """How many of the aborted files are no failure; a file counts once."""

    cancelled: int
    replaced: int


class FileJson(TypedDict):
    """One file of a submission.

    `upload_url` is there while it may be resumed, `error` and `cause` if it was aborted, `fingerprint` if its
    client gave one.
    """

    id: str
    name: str
    path: str | None
    size: int | None
    received: int
    sha256: str | None
    state: str
    is_sending: bool
    removed_at: str | None
    job: JobJson | None
    fingerprint: NotRequired[str]
    upload_url: NotRequired[str]
    error: NotRequired[str | None]
    cause: NotRequired[str | None]


class ByLinkJson(TypedDict):
    """The link by which a submission came; `name` is who the sender said to be, which nobody has checked."""

    id: str
    label: str
    name: str | None


class SubmissionJson(TypedDict):
    """One press of Submit. Lists leave out `files` and `files_next`."""

    id: str
    state: str
    opened_at: str
    settled_at: str | None
    client: ClientJson | None
    account: str | None
    counts: CountsJson
    aborted_as: AbortedJson
    link: ByLinkJson | None
    files: NotRequired[list[FileJson]]
    files_next: NotRequired[str | None]


def counts_json(counts: Counts) -> CountsJson:
    """The counts of a submission."""
    return {
        "announced": counts.announced,
        "receiving": counts.receiving,
        "aborted": counts.aborted,
        "queued": counts.queued,
        "running": counts.running,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
    }


def aborted_json(submission: Submission) -> AbortedJson:
    """How many of a submission's aborted files are no failure."""
    return {"cancelled": submission.given_up, "replaced": submission.replaced}


def by_link_json(by_link: ByLink | None) -> ByLinkJson | None:
    """By which link a submission came; None stays None."""
    return None if by_link is None else {"id": by_link.id, "label": by_link.label, "name": by_link.name}


def submission_state(submission: Submission) -> str:
    """`open`, `processing` or `settled`."""
    if submission.is_open:
        return "open"
    return "settled" if submission.is_settled else "processing"


def submission_json(
    submission: Submission, files: Sequence[FileJson] | None = None, files_next: str | None = None
) -> SubmissionJson:
    """A submission.

    Args:
        submission: the record.
        files: the first of its files; None leaves them out, as in lists.
        files_next: where the next page of its files begins; None if there is none.
    """
    shape: SubmissionJson = {
        "id": submission.id,
        "state": submission_state(submission),
        "opened_at": time_text(submission.opened_at),
        "settled_at": time_text(submission.settled_at),
        "client": client_json(submission.client),
        "account": submission.account,
        "counts": counts_json(submission.counts),
        "aborted_as": aborted_json(submission),
        "link": by_link_json(submission.by_link),
    }
    if files is not None:
        shape["files"] = list(files)
        shape["files_next"] = files_next
    return shape


def file_json(file: File, runtime: RuntimeState, base_path: str = "") -> FileJson:
    """A file with its job; the paths of its URLs begin with `base_path`."""
    shape: FileJson = {
        "id": file.id,
        "name": file.name,
        "path": file.path,
        "size": file.size,
        "received": file.received if runtime.received is None else runtime.received,
        "sha256": file.sha256,
        "state": file.state.value,
        "is_sending": runtime.is_sending,
        "removed_at": time_text(file.removed_at),
        "job": None if file.job is None else job_json(file.job, runtime, base_path),
    }
    if file.fingerprint is not None:
        shape["fingerprint"] = file.fingerprint
    if file.is_resumable:
        shape["upload_url"] = f"{base_path}/api/v1/uploads/{file.id}"
    if file.state is UploadState.ABORTED:
        shape["error"] = file.error
        shape["cause"] = file.cause
    return shape


# --- for clients -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Announcement:
    """A file that will come.

    Attributes:
        path: relative, with `/` between folders.
        size: in bytes.
    """

    path: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteFile:
    """A file as the server's answer describes it.

    Attributes:
        state: `announced`, `receiving`, `stored` or `aborted`.
        sha256: in hexadecimal; None until stored.
        error: why it was aborted; None if it was not.
    """

    id: str
    path: str
    state: str
    sha256: str | None
    error: str | None


def announcement_json(files: Sequence[Announcement]) -> Mapping[str, Any]:
    """The body that announces files."""
    return {
        "files": [{"name": file.path.rpartition("/")[2], "path": file.path, "size": file.size} for file in files],
    }


def remote_file(file: Mapping[str, Any]) -> RemoteFile:
    """The file that `file_json` described.

    Raises:
        KeyError: a field is missing.
    """
    return RemoteFile(
        id=file["id"], path=file["path"], state=file["state"], sha256=file["sha256"], error=file.get("error")
    )

"""What callers see of topics and submissions who may not see all: above all those who have followed a link.

Nobody of these sees who sent it and from where, on which host the script ran, and with which config. A sender who is
not shown results sees files arrive and nothing of what becomes of them: what is stored counts as `succeeded` there, and
a submission as settled once it is sealed and nothing of it is on its way.
"""

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import Any, Final, TypeVar

from dropmill.model.caller import Caller
from dropmill.model.events import ABOUT_ACCOUNTS, Event, EventName
from dropmill.model.uploads import UploadState
from dropmill.wire.jobs import JobJson
from dropmill.wire.submissions import CountsJson, FileJson, SubmissionJson


class View(Enum):
    """What a caller gets to see of a topic or a submission."""

    FULL = "full"

    WORK = "work"
    """All but the events of accounts, which are for who may read the audit."""

    GUEST = "guest"
    """All but who did it, and where the script runs: for guests, and for viewers who may read the config."""

    ARRIVALS = "arrivals"
    """Of that, only the files that arrive."""


def view_of(caller: Caller) -> View:
    """What a caller gets to see of a submission; `Topics.view_of` says it of topics."""
    if caller.link is None:
        return View.FULL
    return View.GUEST if caller.sees_results else View.ARRIVALS


ARRIVAL_EVENTS: Final = frozenset(
    {
        *(EventName.SUBMISSION_OPENED, EventName.SUBMISSION_SEALED),
        *(EventName.UPLOAD_STARTED, EventName.UPLOAD_STORED, EventName.UPLOAD_ABORTED),
    }
)

_UNKNOWN: Final[Mapping[EventName, tuple[str, ...]]] = {
    EventName.CLIENT_IDENTIFIED: ("host", "verified", "domain"),
    EventName.ATTEMPT_STARTED: ("config_revision", "host"),
}
"""Keys of `data` that guests get as null."""

_JOBS: Final = ("queued", "running", "succeeded", "failed", "cancelled")


def event_as_seen(event: Event, view: View) -> Event | None:
    """An event; None if it is not for this view."""
    if view is View.FULL:
        return event
    if view is View.WORK:
        return None if event.name in ABOUT_ACCOUNTS else event
    if view is View.ARRIVALS and event.name not in ARRIVAL_EVENTS:
        return None
    data = {**event.data, **dict.fromkeys(_UNKNOWN.get(event.name, ()))}
    if view is View.ARRIVALS and "counts" in data:
        data["counts"] = _arrivals(data["counts"])
    return replace(event, subject=replace(event.subject, client=None, account=None), data=data)


def job_as_seen(job: JobJson, view: View) -> JobJson:
    """A job; nobody gets one who sees only arrivals."""
    if view is View.FULL:
        return job
    attempts = [{**attempt, "host": None, "config_revision": None} for attempt in job["attempts"]]
    return {**job, "attempts": attempts}  # type: ignore[typeddict-item]  # the same keys


def file_as_seen(file: FileJson, view: View) -> FileJson:
    """A file."""
    job = file["job"]
    if view is View.FULL or job is None:
        return file
    return {**file, "job": None if view is View.ARRIVALS else job_as_seen(job, view)}


_S = TypeVar("_S", bound=SubmissionJson)


def submission_as_seen(shape: _S, view: View) -> _S:
    """A submission, with the files that it has."""
    if view is View.FULL:
        return shape
    seen: Any = {**shape, "client": None, "account": None, "link": None}
    if "files" in shape:
        seen["files"] = [file_as_seen(file, view) for file in shape["files"]]
    if view is View.ARRIVALS and (first := seen.get("first_file")) and first["job_id"] is not None:
        seen["first_file"] = {**first, "state": UploadState.STORED.value, "job_id": None, "error": None}
    if view is View.ARRIVALS:
        seen["counts"] = counts = _arrivals(shape["counts"])
        is_arriving = counts["announced"] or counts["receiving"]
        seen["state"] = shape["state"] if shape["state"] == "open" or is_arriving else "settled"
        seen["settled_at"] = None
    found: _S = seen
    return found


def _arrivals(counts: CountsJson | Mapping[str, int]) -> CountsJson:
    """Counts of arrivals: what is stored counts as `succeeded`, whatever has become of it."""
    shown: Any = {**counts, **dict.fromkeys(_JOBS, 0), "succeeded": sum(int(counts[name]) for name in _JOBS)}
    found: CountsJson = shown
    return found

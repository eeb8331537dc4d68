"""The history: what is asked of it, and a submission as it is listed there."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dropmill.model.ids import FileId, JobId
from dropmill.model.submissions import Submission

HISTORY_STATES = ("running", "open", "processing", "settled", "succeeded", "failed", "cancelled")
"""What `HistoryFilter.state` may be: a state of submissions, `running` (open or processing), or an outcome."""

TEXT_MIN = 3
"""Characters of `HistoryFilter.text`; shorter texts have no trigram."""

ID_PREFIX_MIN = 6
"""Characters from which on a text is looked up as the beginning of an id or a SHA-256, too.

Shorter ones, such as "bad" or "2026", would find files by chance: their ids and hashes begin with anything.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryFilter:
    """Which submissions are read; every field narrows the list.

    Attributes:
        state: one of `HISTORY_STATES`; None: any.
        text: part of a file's name, path or error, or of the client's address or host, in any case; or the beginning
            of the id of a submission, file or job, or of a file's SHA-256. At least `TEXT_MIN` characters; None: any.
        opened_from: not opened before this time; None: no such limit.
        opened_before: opened before this time; None: no such limit.
    """

    state: str | None = None
    text: str | None = None
    opened_from: datetime | None = None
    opened_before: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryFile:
    """A file by which people recognise a submission.

    Attributes:
        state: of its job; of its upload while it has no job.
        job_id: None while it has no job.
        error: why its job failed, or its upload was aborted; None otherwise.
    """

    id: FileId
    name: str
    path: str
    state: str
    job_id: JobId | None
    error: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryEntry:
    """A submission as the history lists it.

    Attributes:
        first_file: None if none was announced yet.
        result_count: results of all its jobs that can still be downloaded.
        match: the file in which the text was found; None without a text, and if the client or the submission's id
            matched.
    """

    submission: Submission
    first_file: HistoryFile | None
    result_count: int
    match: HistoryFile | None


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryPage:
    """A page of the history, newest first.

    Attributes:
        previous: `after` of the page of newer submissions; None if there are none.
        next: `before` of the page of older submissions; None if there are none.
    """

    entries: Sequence[HistoryEntry]
    previous: str | None
    next: str | None

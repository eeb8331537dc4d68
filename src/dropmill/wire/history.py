"""The history: submissions with what people know them by, as JSON, and as CSV (RFC 4180)."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from dropmill.model.history import HistoryEntry, HistoryFile, HistoryPage
from dropmill.model.submissions import Submission
from dropmill.text import time_text
from dropmill.wire.clients import ClientJson, client_json
from dropmill.wire.submissions import (
    AbortedJson,
    ByLinkJson,
    CountsJson,
    SubmissionJson,
    aborted_json,
    by_link_json,
    counts_json,
    submission_json,
    submission_state,
)

CSV_COLUMNS = (
    "id",
    "state",
    "outcome",
    "opened_at",
    "settled_at",
    "first_file",
    "files",
    "announced",
    "receiving",
    "aborted",
    "queued",
    "running",
    "succeeded",
    "failed",
    "cancelled",
    "results",
    "ip",
    "host",
    "domain",
    "account",
    "match",
    "match_error",
)

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that spreadsheets would execute; names of files and hosts come from strangers."""


class HistoryFileJson(TypedDict):
    """A file by which people recognise a submission."""

    id: str
    name: str
    path: str
    state: str
    job_id: str | None
    error: str | None


class HistoryEntryJson(TypedDict):
    """A submission in the history."""

    id: str
    state: str
    outcome: str | None
    opened_at: str
    settled_at: str | None
    client: ClientJson | None
    account: str | None
    counts: CountsJson
    aborted_as: AbortedJson
    link: ByLinkJson | None
    first_file: HistoryFileJson | None
    file_count: int
    result_count: int
    match: HistoryFileJson | None


class ListedSubmissionJson(SubmissionJson):
    """A submission in a list: without its files but the first."""

    first_file: HistoryFileJson | None


class HistoryPageJson(TypedDict):
    """A page of the history."""

    items: list[HistoryEntryJson]
    previous: str | None
    next: str | None


def history_page_json(page: HistoryPage) -> HistoryPageJson:
    """A page of the history."""
    return {
        "items": [_entry_json(entry) for entry in page.entries],
        "previous": page.previous,
        "next": page.next,
    }


def listed_submission_json(submission: Submission, first_file: HistoryFile | None) -> ListedSubmissionJson:
    """A submission as lists show it.

    Args:
        submission: the record.
        first_file: None if none was announced yet.
    """
    return {**submission_json(submission), "first_file": _file_json(first_file)}


def _entry_json(entry: HistoryEntry) -> HistoryEntryJson:
    submission = entry.submission
    return {
        "id": submission.id,
        "state": submission_state(submission),
        "outcome": None if submission.outcome is None else submission.outcome.value,
        "opened_at": time_text(submission.opened_at),
        "settled_at": time_text(submission.settled_at),
        "client": client_json(submission.client),
        "account": submission.account,
        "counts": counts_json(submission.counts),
        "aborted_as": aborted_json(submission),
        "link": by_link_json(submission.by_link),
        "first_file": _file_json(entry.first_file),
        "file_count": submission.counts.total - submission.replaced,
        "result_count": entry.result_count,
        "match": _file_json(entry.match),
    }


def _file_json(file: HistoryFile | None) -> HistoryFileJson | None:
    if file is None:
        return None
    return {
        "id": file.id,
        "name": file.name,
        "path": file.path,
        "state": file.state,
        "job_id": file.job_id,
        "error": file.error,
    }


def history_csv(entries: Iterable[HistoryEntry], *, has_head: bool) -> str:
    """Entries as lines of CSV; texts that a spreadsheet would execute as a formula begin with an apostrophe.

    Args:
        entries: in their order.
        has_head: whether the names of the columns come first.
    """
    lines = io.StringIO()
    writer = csv.writer(lines)
    if has_head:
        writer.writerow(CSV_COLUMNS)
    writer.writerows(_cells(entry) for entry in entries)
    return lines.getvalue()


def _cells(entry: HistoryEntry) -> list[str | int | None]:
    shape = _entry_json(entry)
    client, first_file, match = entry.submission.client, entry.first_file, entry.match
    counts: Mapping[str, Any] = shape["counts"]
    cells: dict[str, str | int | None] = {
        **counts,
        "id": shape["id"],
        "state": shape["state"],
        "outcome": shape["outcome"],
        "opened_at": shape["opened_at"],
        "settled_at": shape["settled_at"],
        "first_file": _foreign(first_file.path if first_file is not None else None),
        "files": shape["file_count"],
        "results": shape["result_count"],
        "ip": client.ip,
        "host": _foreign(client.host),
        "domain": _foreign(client.domain),
        "account": _foreign(shape["account"]),
        "match": _foreign(match.path if match is not None else None),
        "match_error": _foreign(match.error if match is not None else None),
    }
    return [cells[name] for name in CSV_COLUMNS]


def _foreign(text: str | None) -> str | None:
    return f"'{text}" if text is not None and text.startswith(FORMULA) else text

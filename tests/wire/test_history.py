"""The history as clients get it."""

import csv
import io
from datetime import UTC, datetime

from dropmill.model.client import ClientIdentity
from dropmill.model.history import HistoryEntry, HistoryFile, HistoryPage
from dropmill.model.ids import FileId, JobId, SubmissionId
from dropmill.model.submissions import Counts, Submission
from dropmill.wire.history import CSV_COLUMNS, history_csv, history_page_json

AT = datetime(2026, 3, 1, 12, 0, 0, 123_456, UTC)
TEXT = "2026-03-01T12:00:00.123Z"


def entry(path: str = "run/a.csv", error: str | None = None, host: str | None = None) -> HistoryEntry:
    file = HistoryFile(
        id=FileId("f"), name=path.rpartition("/")[2], path=path, state="failed", job_id=JobId("j"), error=error
    )
    submission = Submission(
        id=SubmissionId("s"),
        is_open=False,
        opened_at=AT,
        settled_at=AT,
        times_settled=1,
        client=ClientIdentity(ip="192.0.2.7", host=host),
        account=None,
        counts=Counts(succeeded=2, failed=1),
    )
    return HistoryEntry(submission=submission, first_file=file, result_count=4, match=file if error else None)


def test_a_page_has_its_entries_and_both_cursors() -> None:
    page = HistoryPage(entries=[entry(error="no column")], previous="9", next=None)
    shape = history_page_json(page)
    file = {"id": "f", "name": "a.csv", "path": "run/a.csv", "state": "failed", "job_id": "j", "error": "no column"}
    assert (shape["previous"], shape["next"]) == ("9", None)
    [item] = shape["items"]
    assert item["client"] is not None
    assert item["client"]["ip"] == "192.0.2.7"
    assert item["counts"]["succeeded"] == 2
    assert {name: value for name, value in item.items() if name not in ("client", "counts")} == {
        "id": "s",
        "state": "settled",
        "outcome": "failed",
        "opened_at": TEXT,
        "settled_at": TEXT,
        "account": None,
        "aborted_as": {"cancelled": 0, "replaced": 0},
        "link": None,
        "first_file": file,
        "file_count": 3,
        "result_count": 4,
        "match": file,
    }


def test_csv_has_a_line_for_each_entry_and_the_names_once() -> None:
    path = 'a,b "c"\nd.csv'
    text = history_csv([entry(path)], has_head=True) + history_csv([entry()], has_head=False)
    names, first, second = csv.reader(io.StringIO(text, newline=""))
    assert names == list(CSV_COLUMNS)
    assert text.endswith("\r\n")
    row = dict(zip(names, first, strict=True))
    known = {"id": "s", "outcome": "failed", "first_file": path, "files": "3", "results": "4", "ip": "192.0.2.7"}
    assert row == {**row, **known, "succeeded": "2", "failed": "1", "host": "", "match": ""}
    assert second[names.index("first_file")] == "run/a.csv"


def test_a_text_that_a_spreadsheet_would_run_is_not_run() -> None:
    for begin in ("=", "+", "-", "@", "\t", "\r"):
        foreign = f"{begin}HYPERLINK(1)"
        text = history_csv([entry(foreign, error=foreign, host=foreign)], has_head=True)
        row = next(csv.DictReader(io.StringIO(text, newline="")))
        assert [row[name] for name in ("first_file", "match", "match_error", "host")] == [f"'{foreign}"] * 4
    text = history_csv([entry("a=b.csv", error="x")], has_head=True)
    assert next(csv.DictReader(io.StringIO(text, newline="")))["first_file"] == "a=b.csv"

"""The history: pages of submissions in both directions, by state, date and text, each with what people know it by."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, bindparam, func, select

from dropmill.engines.sql import search
from dropmill.engines.sql.clients import Row
from dropmill.engines.sql.paging import one_of, page_key
from dropmill.engines.sql.search import SEQ_MAX, Span
from dropmill.engines.sql.submissions import submission_of, wanted
from dropmill.engines.sql.tables import files, jobs, submissions
from dropmill.model.errors import BadParameter
from dropmill.model.history import HISTORY_STATES, HistoryEntry, HistoryFile, HistoryFilter, HistoryPage
from dropmill.model.ids import FileId, JobId, Owner, SubmissionId

T = TypeVar("T")

SOME = 500  # ids in one query; below both databases' limits on parameters

CLOCK_STEP = timedelta(minutes=1)
"""Submissions are in the order of their times, unless the clock was set back, or the clocks of two servers differ. A
date finds every submission of the range as long as that was less than this."""

_LAST_BEFORE = (
    select(submissions.c.seq)
    .where(submissions.c.opened_at < bindparam("at"))
    .order_by(submissions.c.opened_at.desc())
    .limit(1)
)
_FIRST_SINCE = (
    select(submissions.c.seq)
    .where(submissions.c.opened_at >= bindparam("at"))
    .order_by(submissions.c.opened_at)
    .limit(1)
)
_first_of = select(func.min(files.c.seq)).where(files.c.submission_id == submissions.c.id).scalar_subquery()
_FILES = select(
    files.c.id,
    files.c.submission_id,
    files.c.name,
    files.c.path,
    files.c.state,
    files.c.error,
    jobs.c.id.label("job_id"),
    jobs.c.state.label("job_state"),
    jobs.c.error_message,
).outerjoin(jobs, jobs.c.file_id == files.c.id)


def list_history(
    connection: Connection,
    asked: HistoryFilter,
    before: str | None,
    after: str | None,
    limit: int,
    visible_to: Owner | None,
) -> HistoryPage:
    """See `Ledger.history`."""
    if before is not None and after is not None:
        raise BadParameter("Give `before` or `after`, not both.", reason="two_pages")
    older_than, newer_than = page_key(before), page_key(after, "after", "previous")
    conditions = wanted(one_of(asked.state, HISTORY_STATES), visible_to)
    # As an expression, so that the order of `seq` is read, not the index of times, which would have to be sorted.
    opened_at = func.coalesce(submissions.c.opened_at, submissions.c.opened_at)
    if asked.opened_from is not None:
        conditions.append(opened_at >= asked.opened_from)
    if asked.opened_before is not None:
        conditions.append(opened_at < asked.opened_before)
    span = _span(connection, asked.opened_from, asked.opened_before, older_than, newer_than)
    found, match_of = _found(connection, asked, conditions, span, limit + 1, visible_to)
    page = sorted(found[:limit], key=lambda row: int(row["seq"]), reverse=True)
    has_more = len(found) > limit
    newest, oldest = (page[0]["seq"], page[-1]["seq"]) if page else (None, None)
    previous, following = None, None
    if newer_than is not None:
        following = str(newer_than + 1 if oldest is None else oldest)
        previous = str(newest) if has_more else None
    else:
        following = str(oldest) if has_more else None
        if older_than is not None:
            previous = str(max(older_than - 1, 0) if newest is None else newest)
    return HistoryPage(entries=_entries(connection, page, match_of), previous=previous, next=following)


def _span(
    connection: Connection,
    opened_from: datetime | None,
    opened_before: datetime | None,
    older_than: int | None,
    newer_than: int | None,
) -> Span:
    """Where the submissions lie that were opened in a range of time, on one side of a cursor."""
    first, last = 0, SEQ_MAX
    if opened_from is not None:
        found = connection.execute(_LAST_BEFORE, {"at": opened_from - CLOCK_STEP}).scalar_one_or_none()
        first = 0 if found is None else found + 1
    if opened_before is not None:
        found = connection.execute(_FIRST_SINCE, {"at": opened_before + CLOCK_STEP}).scalar_one_or_none()
        last = SEQ_MAX if found is None else found - 1
    if older_than is not None:
        last = min(last, older_than - 1)
    if newer_than is not None:
        first = max(first, min(newer_than + 1, SEQ_MAX))
    return Span(first, last, is_rising=newer_than is not None)


def _found(
    connection: Connection,
    asked: HistoryFilter,
    conditions: Sequence[ColumnElement[bool]],
    span: Span,
    limit: int,
    visible_to: Owner | None,
) -> tuple[Sequence[Row], Mapping[int, str]]:
    """The first submissions of a span that are asked for, and by their `seq` the file in which the text was found."""
    if span.first > span.last:
        return [], {}
    if asked.text is None:
        query = select(submissions).where(*span.holds(submissions.c.seq), *conditions)
        query = query.order_by(span.ordered(submissions.c.seq)).limit(limit)
        return connection.execute(query).mappings().all(), {}
    rows: dict[int, Row] = {}
    file_of: dict[int, str | None] = {}
    about = search.find_submissions(connection, asked.text, conditions, span, limit, visible_to)
    for row, file_id, is_known in about:
        rows[row["seq"]] = row
        file_of[row["seq"]] = file_id if is_known else search.matching_file(connection, asked.text, row["seq"])
    named = {
        seq: file_id
        for seq, file_id in search.with_prefix(connection, asked.text).items()
        if span.first <= seq <= span.last and seq not in rows
    }
    for some in _some(named):
        query = select(submissions).where(submissions.c.seq.in_(some), *conditions)
        rows |= {row["seq"]: row for row in connection.execute(query).mappings()}
    file_of |= named
    in_order = sorted(rows.values(), key=lambda row: int(row["seq"]), reverse=not span.is_rising)
    return in_order[:limit], {seq: file_id for seq, file_id in file_of.items() if file_id is not None}


def first_files(connection: Connection, submission_ids: Collection[SubmissionId]) -> Mapping[SubmissionId, HistoryFile]:
    """See `Ledger.first_files`."""
    first_seqs: list[int] = []
    for some in _some(submission_ids):
        found = connection.execute(select(_first_of).where(submissions.c.id.in_(some))).scalars()
        first_seqs += [seq for seq in found if seq is not None]
    return {
        SubmissionId(row["submission_id"]): _file_of(row)
        for some in _some(first_seqs)
        for row in connection.execute(_FILES.where(files.c.seq.in_(some))).mappings()
    }


def _entries(connection: Connection, page: Sequence[Row], match_of: Mapping[int, str]) -> Sequence[HistoryEntry]:
    first_of = first_files(connection, [SubmissionId(row["id"]) for row in page])
    matching = {
        row["id"]: _file_of(row)
        for some in _some([match_of[row["seq"]] for row in page if row["seq"] in match_of])
        for row in connection.execute(_FILES.where(files.c.id.in_(some))).mappings()
    }
    return [
        HistoryEntry(
            submission=submission_of(row),
            first_file=first_of.get(row["id"]),
            result_count=row["result_count"],
            match=matching.get(match_of.get(row["seq"], "")),
        )
        for row in page
    ]


def _file_of(row: Row) -> HistoryFile:
    return HistoryFile(
        id=FileId(row["id"]),
        name=row["name"],
        path=row["path"],
        state=row["job_state"] or row["state"],
        job_id=None if row["job_id"] is None else JobId(row["job_id"]),
        error=row["error_message"] or row["error"],
    )


def _some(keys: Collection[T]) -> Sequence[Sequence[T]]:
    """Keys in parts of at most `SOME`."""
    listed = list(keys)
    return [listed[start : start + SOME] for start in range(0, len(listed), SOME)]

"""Search for submissions and jobs by a part of a file's name, path or error, or of the client's address or host.

A row of `search_texts` is about a file, or about a submission's client. Its id says which: the high bits are the
submission's `seq`, the low ones the file's number in the submission, or `CLIENT`. So the order of ids is the order of
submissions, and a page of matches is read from an index of trigrams until it is full, however many more there are.
Python folds the stored texts and the search text, so that both databases find the same.

The engine makes the index of trigrams: on SQLite the table `search_index`, on Postgres an index of `search_texts`. A
text of less than three characters has no trigram; for it, rows are read one after the other, the newest first.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    bindparam,
    cast,
    column,
    exists,
    false,
    func,
    literal,
    select,
    table,
    update,
)

from dropmill.engines.sql.clients import Row
from dropmill.engines.sql.tables import files, jobs, owners, search_texts, submissions
from dropmill.engines.sql.transaction import COUNTS, Transaction
from dropmill.engines.sql.types import is_storable
from dropmill.model.ids import Owner, SubmissionId

BITS = 24  # of an id, for the file's number
CLIENT = (1 << BITS) - 1
TRIGRAM = 3
ERROR_MAX = 2000  # characters of an error that are searched; a script may write any number
FEW = 5000  # up to so many rows it is faster to read all of them than to use the index
CHUNK = 200  # matches read at once

SEQ_MAX = (1 << 63 - BITS) - 1
ID_MAX = (1 << 63) - 1

_SET = update(search_texts).where(search_texts.c.id == bindparam("key"))

_index = table("search_index", column("rowid", BigInteger), column("text"))


def fold(text: str) -> str:
    """A text without differences of case and of composed letters, for storing and searching."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def client_text(ip: str, host: str | None) -> str:
    """The text that a submission is found by, beside those of its files."""
    return fold(ip if host is None else f"{ip}\n{host}")


def file_text(name: str, path: str, error: str | None = None) -> str:
    """The text that a file is found by."""
    words = [path] if path.endswith(name) else [path, name]
    return fold("\n".join(words if error is None else [*words, error[:ERROR_MAX]]))


def id_of(submission_seq: int, number: int) -> int:
    """The id of the row about a file."""
    return submission_seq << BITS | number


def add_client(tx: Transaction, submission_id: str) -> None:
    """Add the text of a new submission."""
    row = tx.submission(submission_id)
    text = client_text(row["ip"], row["host"])
    tx.find_by(row["seq"] << BITS | CLIENT, None, text)


def set_client(tx: Transaction, submission_id: str) -> None:
    """Update the text of a submission whose client was identified."""
    row = tx.submission(submission_id)
    tx.find_by_now(_SET, row["seq"] << BITS | CLIENT, client_text(row["ip"], row["host"]))


def add_file(tx: Transaction, submission_id: str, file_id: str, number: int, name: str, path: str) -> None:
    """Add the text of a new file."""
    tx.find_by(id_of(tx.submission(submission_id)["seq"], number), file_id, file_text(name, path))


def set_error(tx: Transaction, row: Row, error: str | None) -> None:
    """Update the text of a job's file.

    Args:
        tx: the transaction.
        row: of the job, with its file's name, path and number.
        error: why the job failed; None if it did not, or is retried.
    """
    seq = tx.submission(row["submission_id"])["seq"]
    tx.find_by_now(_SET, id_of(seq, row["number"]), file_text(row["name"], row["path"], error))


# --- queries ---------------------------------------------------------------------------------------------------------


class _Needle(NamedTuple):
    """A search text, in the syntax of a database.

    Attributes:
        operator: compares a text with `pattern`.
        pattern: matches any text that contains the search text.
        has_index: whether a query must name an index table (SQLite, three characters or more).
    """

    operator: str
    pattern: str
    has_index: bool

    def occurs_in(self, texts: ColumnElement[Any]) -> ColumnElement[bool]:
        return texts.bool_op(self.operator)(literal(self.pattern))


def _needle(connection: Connection, text: str) -> _Needle:
    folded = fold(text)
    if connection.dialect.name == "sqlite":
        escaped = "".join(f"[{one}]" if one in "*?[" else one for one in folded)
        return _Needle("GLOB", f"*{escaped}*", has_index=len(folded) >= TRIGRAM)
    escaped = "".join(f"\\{one}" if one in "\\%_" else one for one in folded)
    return _Needle("LIKE", f"%{escaped}%", has_index=False)


def _counted(connection: Connection, visible_to: Owner | None, *names: str) -> int:
    """The sum of some columns of `owners`: how many submissions, files or jobs there are."""
    query = select(cast(func.coalesce(func.sum(_sum_of(names)), 0), BigInteger))
    if visible_to is not None:
        query = query.where(owners.c.owner == visible_to)
    return int(connection.execute(query).scalar_one())


def _sum_of(names: Sequence[str]) -> ColumnElement[int]:
    first, *others = (owners.c[name] for name in names)
    return sum(others, start=first)


class _Scope(NamedTuple):
    """What is searched: everything, one submission, or one owner's submissions.

    Attributes:
        first: lowest id.
        owner: None: all owners.
        is_little: whether the owner has sent so little that reading all of it is faster.
    """

    first: int = 0
    owner: Owner | None = None
    is_little: bool = False


def _scope_of(connection: Connection, owner: Owner | None) -> _Scope:
    is_little = owner is not None and _counted(connection, owner, "submissions", *COUNTS) < FEW
    return _Scope(owner=owner, is_little=is_little)


def _matching(connection: Connection, needle: _Needle, scope: _Scope, before: int) -> Sequence[Row]:
    """The `CHUNK` rows of a scope with the highest ids below `before` that contain a text."""
    key: ColumnElement[Any] = search_texts.c.id
    query = select(search_texts.c.id, search_texts.c.file_id)
    if scope.is_little:
        least = submissions.c.seq * (1 << BITS)
        query = query.join(submissions, key.between(least, least + CLIENT)).where(
            submissions.c.owner == scope.owner,
            submissions.c.seq <= before >> BITS,
            key + 0 < before,  # with the bare key, SQLite would rather read all texts below it, of all owners
            needle.occurs_in(search_texts.c.text),
        )
        query = query.order_by(submissions.c.seq.desc(), key.desc())
        return connection.execute(query.limit(CHUNK)).mappings().all()
    if needle.has_index and not scope.first:
        key = _index.c.rowid
        query = query.select_from(_index.join(search_texts, search_texts.c.id == key))
        query = query.where(needle.occurs_in(_index.c.text))
    else:
        query = query.where(needle.occurs_in(search_texts.c.text), key >= scope.first)
    if scope.owner is not None:
        query = query.join(submissions, submissions.c.seq == key // (1 << BITS))
        query = query.where(submissions.c.owner == scope.owner)
    return connection.execute(query.where(key < before).order_by(key.desc()).limit(CHUNK)).mappings().all()


def is_about(connection: Connection, text: str) -> ColumnElement[bool]:
    """A condition for lists of few submissions: whether a text is found in one."""
    if not is_storable(text):
        return false()
    first = submissions.c.seq * (1 << BITS)
    its = search_texts.c.id.between(first, first + CLIENT)
    return exists().where(its, _needle(connection, text).occurs_in(search_texts.c.text)).correlate(submissions)


def find_submissions(
    connection: Connection,
    text: str,
    conditions: Sequence[ColumnElement[bool]],
    before: int | None,
    limit: int,
    visible_to: Owner | None,
) -> Sequence[Row]:
    """The newest submissions in which a text is found.

    Args:
        connection: of the reader.
        text: the search text.
        conditions: further conditions.
        before: `seq` of the last one of the previous page; None: from the newest on.
        limit: most submissions.
        visible_to: their owner; None: all owners.
    """
    if not is_storable(text):
        return []
    needle = _needle(connection, text)
    scope = _scope_of(connection, visible_to)
    found: list[Row] = []
    start = min(before, SEQ_MAX) << BITS if before is not None else ID_MAX
    while len(found) < limit:
        matching = _matching(connection, needle, scope, start)
        seqs = list(dict.fromkeys(row["id"] >> BITS for row in matching))
        if seqs:
            query = select(submissions).where(submissions.c.seq.in_(seqs), *conditions)
            found.extend(connection.execute(query.order_by(submissions.c.seq.desc())).mappings())
            start = seqs[-1] << BITS  # skips further matches in the last of them
        if len(matching) < CHUNK:
            break
    return found[:limit]


_KEY = submissions.c.seq * (1 << BITS) + files.c.number
_JOBS = (
    select(jobs, _KEY.label("key"))
    .join(files, files.c.id == jobs.c.file_id)
    .join(submissions, submissions.c.id == jobs.c.submission_id)
)


def find_jobs(
    connection: Connection,
    text: str,
    state: str | None,
    submission_id: SubmissionId | None,
    before: int | None,
    limit: int,
    visible_to: Owner | None,
) -> Sequence[Row]:
    """The jobs in which a text is found, by submission and then by file, the newest first.

    Args:
        connection: of the reader.
        text: the search text.
        state: of the jobs; None: any.
        submission_id: of the jobs; None: any.
        before: `key` of the last one of the previous page; None: from the newest on.
        limit: most jobs.
        visible_to: their owner; None: all owners.
    """
    if not is_storable(text):
        return []
    needle = _needle(connection, text)
    scope, start = _scope_of(connection, visible_to), ID_MAX if before is None else before
    jobs_wanted = _JOBS
    if visible_to is not None:
        jobs_wanted = jobs_wanted.where(jobs.c.owner == visible_to)
    if submission_id is not None:
        seq = connection.execute(
            select(submissions.c.seq).where(submissions.c.id == submission_id)
        ).scalar_one_or_none()
        if seq is None:
            return []
        scope, start = _Scope(first=seq << BITS), min(start, (seq + 1) << BITS)
    if state is not None:
        jobs_wanted = jobs_wanted.where(jobs.c.state == state)
        if submission_id is None and _counted(connection, visible_to, state) < FEW:
            about = exists().where(
                search_texts.c.id.in_([_KEY, submissions.c.seq * (1 << BITS) + CLIENT]),
                needle.occurs_in(search_texts.c.text),
            )
            query = jobs_wanted.where(about, start > _KEY).order_by(_KEY.desc()).limit(limit)
            return connection.execute(query).mappings().all()
    found: list[Row] = []

    def add(query: Select[Any]) -> None:
        found.extend(connection.execute(query.limit(limit - len(found))).mappings())

    def add_some(ids: Sequence[str]) -> None:
        """Add the jobs of some files."""
        add(jobs_wanted.where(jobs.c.file_id.in_(ids)).order_by(_KEY.desc()))

    def add_all(seq: int, below: int) -> None:
        """Add all jobs of a submission whose client matches; the numbers of its files rise with their `seq`."""
        add(jobs_wanted.where(submissions.c.seq == seq, files.c.number < below).order_by(files.c.seq.desc()))

    seq, number = divmod(start, 1 << BITS)
    if number and before is not None:  # the previous page may have ended within a submission whose client matches
        client = select(search_texts.c.id).where(search_texts.c.id == seq << BITS | CLIENT)
        if connection.execute(client.where(needle.occurs_in(search_texts.c.text))).first() is not None:
            add_all(seq, number)
            start = seq << BITS
    while len(found) < limit:
        matching = _matching(connection, needle, scope, start)
        some: list[str] = []
        for row in matching:
            if row["id"] >= start:
                continue  # of a submission whose jobs were all added
            start = row["id"]
            if row["file_id"] is not None:
                some.append(row["file_id"])
                continue
            if some:
                add_some(some)
                some = []
            if len(found) < limit:
                add_all(start >> BITS, CLIENT)
            start = start >> BITS << BITS
        if some and len(found) < limit:
            add_some(some)
        if len(matching) < CHUNK:
            break
    return found[:limit]

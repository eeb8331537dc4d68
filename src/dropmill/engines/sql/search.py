"""Finding submissions and jobs by a part of a file's name or path, of the sender's address or host, or of an error.

A row of `search_texts` is about a file, or about a submission's client. Its id says which: the submission's `seq`, and
below it the file's number in the submission, or `CLIENT`. So rows in the order of ids are in the order of submissions,
and a page of matches is read from an index of trigrams until it is full, however many more there are. Texts are folded
here, in Python, so that every database finds the same whatever it knows of letters; what is asked for is folded alike.

The index of trigrams is the engine's: `search_index` on SQLite, of `search_texts` itself on Postgres. A text of less
than three characters has no trigram, and is looked for in row after row, the newest first.
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
ERROR_MAX = 2000  # characters of an error that are looked in; a script may say any number
FEW = 5000  # rows that are sooner read one by one than found among all that match
CHUNK = 200  # matches read at once

SEQ_MAX = (1 << 63 - BITS) - 1
ID_MAX = (1 << 63) - 1

_SET = update(search_texts).where(search_texts.c.id == bindparam("key"))

_index = table("search_index", column("rowid", BigInteger), column("text"))


def fold(text: str) -> str:
    """A text as it is stored and looked for: case and the ways to compose a letter make no difference."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


def client_text(ip: str, host: str | None) -> str:
    """What a submission is found by, besides its files."""
    return fold(ip if host is None else f"{ip}\n{host}")


def file_text(name: str, path: str, error: str | None = None) -> str:
    """What a file is found by."""
    words = [path] if path.endswith(name) else [path, name]
    return fold("\n".join(words if error is None else [*words, error[:ERROR_MAX]]))


def id_of(submission_seq: int, number: int) -> int:
    """The id of the row about a file."""
    return submission_seq << BITS | number


def add_client(tx: Transaction, submission_id: str) -> None:
    """Let a new submission be found."""
    row = tx.submission(submission_id)
    text = client_text(row["ip"], row["host"])
    tx.find_by(row["seq"] << BITS | CLIENT, None, text)


def set_client(tx: Transaction, submission_id: str) -> None:
    """Let a submission be found by what is known of its client now."""
    row = tx.submission(submission_id)
    tx.find_by_now(_SET, row["seq"] << BITS | CLIENT, client_text(row["ip"], row["host"]))


def add_file(tx: Transaction, submission_id: str, file_id: str, number: int, name: str, path: str) -> None:
    """Let a new file be found."""
    tx.find_by(id_of(tx.submission(submission_id)["seq"], number), file_id, file_text(name, path))


def set_error(tx: Transaction, row: Row, error: str | None) -> None:
    """Let a job's file be found by why it failed, and by what it was found by before; None: it did not.

    Args:
        tx: where.
        row: of the job, with its file's name, path and number.
        error: the text.
    """
    seq = tx.submission(row["submission_id"])["seq"]
    tx.find_by_now(_SET, id_of(seq, row["number"]), file_text(row["name"], row["path"], error))


# --- queries ---------------------------------------------------------------------------------------------------------


class _Needle(NamedTuple):
    """A text that is looked for, in the words of a database."""

    operator: str
    pattern: str
    has_index: bool  # of its own, which is to be named

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
    """How many submissions, files or jobs there are."""
    query = select(cast(func.coalesce(func.sum(_sum_of(names)), 0), BigInteger))
    if visible_to is not None:
        query = query.where(owners.c.owner == visible_to)
    return int(connection.execute(query).scalar_one())


def _sum_of(names: Sequence[str]) -> ColumnElement[int]:
    first, *others = (owners.c[name] for name in names)
    return sum(others, start=first)


class _Scope(NamedTuple):
    """Where is looked: everywhere, in one submission, or in what an owner has sent.

    Attributes:
        first: ids begin here.
        owner: None for anybody.
        is_little: whether the owner has sent so little that all of it is read.
    """

    first: int = 0
    owner: Owner | None = None
    is_little: bool = False


def _scope_of(connection: Connection, owner: Owner | None) -> _Scope:
    is_little = owner is not None and _counted(connection, owner, "submissions", *COUNTS) < FEW
    return _Scope(owner=owner, is_little=is_little)


def _matching(connection: Connection, needle: _Needle, scope: _Scope, before: int) -> Sequence[Row]:
    """The `CHUNK` highest rows of a scope with an id below `before` that a text occurs in."""
    key: ColumnElement[Any] = search_texts.c.id
    query = select(search_texts.c.id, search_texts.c.file_id)
    if needle.has_index and not scope.first and not scope.is_little:
        key = _index.c.rowid
        query = query.select_from(_index.join(search_texts, search_texts.c.id == key))
        query = query.where(needle.occurs_in(_index.c.text))
    else:
        query = query.where(needle.occurs_in(search_texts.c.text), key >= scope.first)
    if scope.owner is not None:
        least = submissions.c.seq * (1 << BITS)
        its = key.between(least, least + CLIENT) if scope.is_little else submissions.c.seq == key // (1 << BITS)
        query = query.join(submissions, its).where(submissions.c.owner == scope.owner)
    return connection.execute(query.where(key < before).order_by(key.desc()).limit(CHUNK)).mappings().all()


def is_about(connection: Connection, text: str) -> ColumnElement[bool]:
    """Whether a submission is one that a text is about: a condition for lists of few."""
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
    """The newest submissions that a text is about.

    Args:
        connection: where.
        text: what is looked for.
        conditions: what else must be true of them.
        before: `seq` of the one before; None: from the newest on.
        limit: most that are wanted.
        visible_to: their owner; None: anybody.
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
            start = seqs[-1] << BITS  # what else matches in the last of them does not count
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
    """The jobs that a text is about, in the order of their submissions, the newest first, and therein of their files.

    Args:
        connection: where.
        text: what is looked for.
        state: theirs; None: any.
        submission_id: theirs; None: any.
        before: `key` of the one before; None: from the newest on.
        limit: most that are wanted.
        visible_to: their owner; None: anybody.
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
        """Those of some files."""
        add(jobs_wanted.where(jobs.c.file_id.in_(ids)).order_by(_KEY.desc()))

    def add_all(seq: int, below: int) -> None:
        """Those of a submission whose client matches. Its files' numbers are in the order of their `seq`."""
        add(jobs_wanted.where(submissions.c.seq == seq, files.c.number < below).order_by(files.c.seq.desc()))

    seq, number = divmod(start, 1 << BITS)
    if number and before is not None:  # the page before may have ended among all those of one client
        client = select(search_texts.c.id).where(search_texts.c.id == seq << BITS | CLIENT)
        if connection.execute(client.where(needle.occurs_in(search_texts.c.text))).first() is not None:
            add_all(seq, number)
            start = seq << BITS
    while len(found) < limit:
        matching = _matching(connection, needle, scope, start)
        some: list[str] = []
        for row in matching:
            if row["id"] >= start:
                continue  # of a client whose jobs were added
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

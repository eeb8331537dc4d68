"""Search for submissions and jobs by a part of a file's name, path or error, or of the client's address or host.

A row of `search_texts` is about a file, or about a submission's client. Its id says which: the high bits are the
submission's `seq`, the low ones the file's number in the submission, or `CLIENT`. So the order of ids is the order of
submissions, and a page of matches is read from an index of trigrams until it is full, however many more there are.
Python folds the stored texts and the search text, so that both databases find the same.

The engine makes the index of trigrams: on SQLite the table `search_index`, on Postgres an index of `search_texts`. A
text of less than three characters has no trigram; for it, rows are read one after the other, the newest first.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
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
    func,
    literal,
    null,
    select,
    table,
    update,
)

from dropmill.engines.sql.clients import Row
from dropmill.engines.sql.tables import files, jobs, owners, search_texts, submissions
from dropmill.engines.sql.transaction import COUNTS, Transaction
from dropmill.engines.sql.types import is_storable
from dropmill.model.history import ID_PREFIX_MIN, TEXT_MIN
from dropmill.model.ids import Owner, SubmissionId

BITS = 24  # of an id, for the file's number
CLIENT = (1 << BITS) - 1
TRIGRAM = TEXT_MIN
ERROR_MAX = 2000  # characters of an error that are searched; a script may write any number
FEW = 5000  # up to so many rows it is faster to read all of them than to use the index
CHUNK = 200  # matches read at once, at first
CHUNK_MAX = 6400  # and at most: more than any page needs, if each submission has a hundred
BATCH = 60  # submissions whose texts are read at once; a page and a few
EQUAL_FILES_MAX = 1000  # with the same SHA-256; of more, the newest are found

SEQ_MAX = (1 << 63 - BITS) - 1
ID_MAX = (1 << 63) - 1

_PREFIX = re.compile(rf"[0-9a-f]{{{ID_PREFIX_MIN},64}}")

SET_TEXT = update(search_texts).where(search_texts.c.id == bindparam("key"))

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
    tx.find_by_now(SET_TEXT, row["seq"] << BITS | CLIENT, client_text(row["ip"], row["host"]))


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
    tx.find_by_now(SET_TEXT, id_of(seq, row["number"]), file_text(row["name"], row["path"], error))


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


class Span(NamedTuple):
    """Submissions between two of them by `seq`, both included, and the order in which they are read."""

    first: int = 0
    last: int = SEQ_MAX
    is_rising: bool = False

    def ordered(self, key: ColumnElement[Any]) -> ColumnElement[Any]:
        """The order by a key that rises with `seq`."""
        return key.asc() if self.is_rising else key.desc()

    def holds(self, seq: ColumnElement[int]) -> Sequence[ColumnElement[bool]]:
        """The conditions that keep to the span."""
        conditions = [seq >= self.first] if self.first > 0 else []
        return [*conditions, seq <= self.last] if self.last < SEQ_MAX else conditions


class _Ids(NamedTuple):
    """Ids of texts from `low` on and below `end`, and the order in which they are read."""

    low: int = 0
    end: int = ID_MAX
    is_rising: bool = False

    def hold(self, key: ColumnElement[int]) -> Sequence[ColumnElement[bool]]:
        """The conditions that keep to these ids."""
        return [key >= self.low, key < self.end] if self.low > 0 else [key < self.end]


class _Scope(NamedTuple):
    """Whose texts are searched, and how.

    Attributes:
        owner: None: all owners.
        is_little: whether the owner has sent so little that reading all of it is faster.
        is_one: whether only the texts of one submission are searched.
    """

    owner: Owner | None = None
    is_little: bool = False
    is_one: bool = False


def _scope_of(connection: Connection, owner: Owner | None) -> _Scope:
    is_little = owner is not None and _counted(connection, owner, "submissions", *COUNTS) < FEW
    return _Scope(owner=owner, is_little=is_little)


def _matching(connection: Connection, needle: _Needle, scope: _Scope, ids: _Ids, limit: int = CHUNK) -> Sequence[Row]:
    """The first rows of a scope, in the order of `ids`, that contain a text."""
    key: ColumnElement[Any] = search_texts.c.id
    query = select(search_texts.c.id, search_texts.c.file_id)
    if scope.is_little:
        least = submissions.c.seq * (1 << BITS)
        query = query.join(submissions, key.between(least, least + CLIENT)).where(
            submissions.c.owner == scope.owner,
            submissions.c.seq.between(ids.low >> BITS, ids.end >> BITS),
            *ids.hold(key + 0),  # with the bare key, SQLite would rather read all these texts, of all owners
            needle.occurs_in(search_texts.c.text),
        )
        both = (submissions.c.seq, key)
        query = query.order_by(*both) if ids.is_rising else query.order_by(*(one.desc() for one in both))
        return connection.execute(query.limit(limit)).mappings().all()
    if needle.has_index and not scope.is_one:
        key = _index.c.rowid
        query = query.select_from(_index.join(search_texts, search_texts.c.id == key))
        query = query.where(needle.occurs_in(_index.c.text))
    else:
        query = query.where(needle.occurs_in(search_texts.c.text))
    if scope.owner is not None:
        query = query.join(submissions, submissions.c.seq == key // (1 << BITS))
        query = query.where(submissions.c.owner == scope.owner)
    query = query.where(*ids.hold(key)).order_by(key if ids.is_rising else key.desc())
    return connection.execute(query.limit(limit)).mappings().all()


class Found(NamedTuple):
    """A submission in which a text was found.

    Attributes:
        row: of `submissions`.
        file_id: of a file whose text matches; None if it is the client's, or unknown.
        is_known: whether `file_id` is known; otherwise `matching_file` finds it.
    """

    row: Row
    file_id: str | None = None
    is_known: bool = False


def find_submissions(
    connection: Connection,
    text: str,
    conditions: Sequence[ColumnElement[bool]],
    span: Span,
    limit: int,
    visible_to: Owner | None,
) -> Sequence[Found]:
    """The first submissions of a span in which a text is found.

    Two ways lead there: the matches of the index, few for a rare text; and the submissions that meet the conditions,
    few for a rare state, and nearly all of them matches for a common text. Steps of both are made in turn, until one
    has found enough or is at its end; so the better one costs twice its time, whichever that is.

    Args:
        connection: of the reader.
        text: the search text.
        conditions: further conditions; one of them is for `visible_to`.
        span: where to look, and in which order.
        limit: most submissions.
        visible_to: their owner; None: all owners.
    """
    if not is_storable(text):
        return []
    needle = _needle(connection, text)
    scope = _scope_of(connection, visible_to)
    if not scope.is_little:
        scope = _Scope()  # `conditions` has the owner; here it would have the index skip all matches of others
    ways = [
        _by_matches(connection, needle, scope, conditions, span),
        _by_submissions(connection, needle, conditions, span),
    ]
    if scope.is_little:
        ways.pop()
    found: list[list[Found]] = [[] for _ in ways]
    while True:
        for way, its in zip(ways, found, strict=True):
            some = next(way, None)
            its.extend(some or ())
            if some is None or len(its) >= limit:
                return its[:limit]


def _by_matches(
    connection: Connection, needle: _Needle, scope: _Scope, conditions: Sequence[ColumnElement[bool]], span: Span
) -> Iterator[Sequence[Found]]:
    """The submissions of one chunk of matches after the other.

    Each is twice as long as the one before: where many neighbouring files match, few submissions are found in a chunk,
    and each chunk costs SQLite a search of its own in the index.
    """
    limit = CHUNK
    ids = _Ids(span.first << BITS, min(span.last + 1, SEQ_MAX) << BITS, span.is_rising)
    while ids.low < ids.end:
        matching = _matching(connection, needle, scope, ids, limit)
        file_of: dict[int, str | None] = {}
        for row in matching:
            seq = row["id"] >> BITS
            file_of[seq] = row["file_id"] or file_of.get(seq)
        if file_of:
            query = select(submissions).where(submissions.c.seq.in_(file_of), *conditions)
            rows = connection.execute(query.order_by(span.ordered(submissions.c.seq))).mappings()
            yield [Found(row, file_of[row["seq"]], is_known=True) for row in rows]
            # skips further matches in the last of them
            last = next(reversed(file_of))
            ids = ids._replace(low=(last + 1) << BITS) if ids.is_rising else ids._replace(end=last << BITS)
        if len(matching) < limit:
            return
        limit = min(2 * limit, CHUNK_MAX)


def _by_submissions(
    connection: Connection, needle: _Needle, conditions: Sequence[ColumnElement[bool]], span: Span
) -> Iterator[Sequence[Found]]:
    """Those in which the text is found, of one `BATCH` of submissions that meet the conditions after the other."""
    while span.first <= span.last:
        query = select(submissions).where(*span.holds(submissions.c.seq), *conditions)
        rows = connection.execute(query.order_by(span.ordered(submissions.c.seq)).limit(BATCH)).mappings().all()
        if rows:
            among = submissions.c.seq.in_([row["seq"] for row in rows])
            about = set(connection.execute(select(submissions.c.seq).where(among, _is_about(needle))).scalars())
            yield [Found(row) for row in rows if row["seq"] in about]
            last = int(rows[-1]["seq"])
            span = span._replace(first=last + 1) if span.is_rising else span._replace(last=last - 1)
        if len(rows) < BATCH:
            return


def _is_about(needle: _Needle) -> ColumnElement[bool]:
    """A condition for lists of few submissions: whether a text is found in one."""
    first = submissions.c.seq * (1 << BITS)
    its = search_texts.c.id.between(first, first + CLIENT)
    return exists().where(its, needle.occurs_in(search_texts.c.text)).correlate(submissions)


def matching_file(connection: Connection, text: str, seq: int) -> str | None:
    """The first file of a submission in which a text is found; None if it is found in no file."""
    needle = _needle(connection, text)
    its = search_texts.c.id.between(seq << BITS, seq << BITS | CLIENT)
    query = select(search_texts.c.file_id).where(its, needle.occurs_in(search_texts.c.text))
    return connection.execute(query.order_by(search_texts.c.id).limit(1)).scalar_one_or_none()


_FILE_WITH_ID = (
    select(submissions.c.seq, files.c.id)
    .join(submissions, submissions.c.id == files.c.submission_id)
    .where(files.c.id >= bindparam("first"), files.c.id < bindparam("end"))
)
_FILE_OF_JOB_WITH_ID = (
    select(submissions.c.seq, jobs.c.file_id)
    .join(submissions, submissions.c.id == jobs.c.submission_id)
    .where(jobs.c.id >= bindparam("first"), jobs.c.id < bindparam("end"))
)
_SUBMISSION_WITH_ID = select(submissions.c.seq, null()).where(
    submissions.c.id >= bindparam("first"), submissions.c.id < bindparam("end")
)
_files_with_hash = (
    select(files.c.id, files.c.submission_id)
    .where(files.c.sha256 >= bindparam("first"), files.c.sha256 < bindparam("end"))
    .order_by(files.c.sha256.desc(), files.c.seq.desc())
    .limit(EQUAL_FILES_MAX)
    .subquery()
)
_FILE_WITH_HASH = select(submissions.c.seq, _files_with_hash.c.id).join(
    submissions, submissions.c.id == _files_with_hash.c.submission_id
)
_BY_PREFIX = (_FILE_WITH_HASH, _FILE_OF_JOB_WITH_ID, _FILE_WITH_ID, _SUBMISSION_WITH_ID)


def with_prefix(connection: Connection, text: str) -> Mapping[int, str | None]:
    """Submissions, by `seq`, with an id or a SHA-256 that begins with a text, each with the file that it belongs to.

    None in place of a file: the id is the submission's own.
    """
    prefix = text.lower()
    if not _PREFIX.fullmatch(prefix):
        return {}
    ends = {"first": prefix, "end": f"{prefix}g"}  # the letter after all hexadecimal digits
    found: dict[int, str | None] = {}
    for query in _BY_PREFIX:
        found.update((seq, file_id) for seq, file_id in connection.execute(query, ends))
    return found


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
    scope, least, start = _scope_of(connection, visible_to), 0, ID_MAX if before is None else before
    jobs_wanted = _JOBS
    if visible_to is not None:
        jobs_wanted = jobs_wanted.where(jobs.c.owner == visible_to)
    if submission_id is not None:
        seq = connection.execute(
            select(submissions.c.seq).where(submissions.c.id == submission_id)
        ).scalar_one_or_none()
        if seq is None:
            return []
        scope, least, start = _Scope(is_one=True), seq << BITS, min(start, (seq + 1) << BITS)
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
        matching = _matching(connection, needle, scope, _Ids(least, start))
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

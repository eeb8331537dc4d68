"""One transaction on Postgres, in two round trips.

All that its changes read comes with the lock, and all that they write goes with the COMMIT.
Other processes wait while the lock is held, so what counts is the time between these trips, and how much client and
server do in it. `reads` says what is read beforehand. Changes are the functions of `dropmill.engines.sql`, which read
by `one` and write by `run`: here `one` answers from the rows that came, and `run` keeps the row, to be written together
with others of its table. A read that nobody foresaw sends what was kept and then asks: it is correct, and a round trip.

The statements are in the pipeline mode of libpq (https://www.postgresql.org/docs/15/libpq-pipeline-mode.html), in which
SQLAlchemy cannot work. A change that needs it takes `connection`, which ends the pipeline and forgets every row.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from sqlalchemy import Boolean, Column, Connection, Executable, Select, Table

from dropmill.engines.postgres.bulk import Bulk, bulk_insert, bulk_update
from dropmill.engines.postgres.reads import (
    ATTEMPTS,
    FILES,
    HEADS,
    JOBS_BY_ID,
    NEXT_JOBS,
    OWNERS_LOOKED_AT,
    QUOTAS,
    REVISIONS,
    SUBMISSIONS,
    TURNS,
    Reads,
)
from dropmill.engines.postgres.wire import Answer, Wire
from dropmill.engines.sql import prepared
from dropmill.engines.sql.attempts import ADD_RESULTS, ATTEMPT, SET_ATTEMPT
from dropmill.engines.sql.claim import ADD_ATTEMPT, BEFORE, NEXT, NEXT_OWNER
from dropmill.engines.sql.clients import Row
from dropmill.engines.sql.config import NEWEST, REVISION
from dropmill.engines.sql.jobs import ADD_JOB, JOB, SET_JOB
from dropmill.engines.sql.quotas import ADD_QUOTA, QUOTA, SET_QUOTA
from dropmill.engines.sql.search import SET_TEXT
from dropmill.engines.sql.submissions import ADD_SUBMISSION
from dropmill.engines.sql.tables import (
    attempts,
    deliveries,
    events,
    files,
    jobs,
    metadata,
    owners,
    queues,
    quotas,
    results,
    search_texts,
    submissions,
    turns,
)
from dropmill.engines.sql.transaction import (
    ADD_DELIVERY,
    ADD_EVENTS,
    ADD_TEXTS,
    NODE,
    SET_SUBMISSION,
    SUBMISSION,
    SUMS,
    Transaction,
)
from dropmill.engines.sql.turns import ADD_QUEUE, ADD_TURN, QUEUE, SET_QUEUE, SET_TURN, TURN
from dropmill.engines.sql.types import SafeText, is_storable, storable
from dropmill.engines.sql.uploads import ADD_FILE, FILE, SET_FILE
from dropmill.model.ids import Cursor
from dropmill.model.nodes import Node
from dropmill.model.quotas import Limits

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
LOCK = (
    "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0)), pg_current_xact_id()::text, "
    "EXTRACT(EPOCH FROM clock_timestamp() - statement_timestamp())::float8"
)
"""Waits for the other writers. Says the transaction's id and how many seconds it waited."""

_LOCK = LOCK.replace("%s", "$1").encode()

_ADDED: Mapping[Executable, Table] = {
    ADD_SUBMISSION: submissions,
    ADD_FILE: files,
    ADD_JOB: jobs,
    ADD_ATTEMPT: attempts,
    ADD_RESULTS: results,
    ADD_EVENTS: events,
    ADD_TEXTS: search_texts,
    ADD_DELIVERY: deliveries,
    ADD_QUEUE: queues,
    ADD_TURN: turns,
    ADD_QUOTA: quotas,
}
_ORDER = [table for table in metadata.sorted_tables if table in _ADDED.values()]  # what others refer to comes first


@dataclass(frozen=True, slots=True)
class _Target:
    """What an update by key changes: a table, and its key columns with their names among the parameters."""

    table: Table
    keys: tuple[tuple[str, str], ...]


_SET: Mapping[Executable, _Target] = {
    SET_SUBMISSION: _Target(submissions, (("seq", "key"),)),
    SET_FILE: _Target(files, (("seq", "key"),)),
    SET_JOB: _Target(jobs, (("seq", "key"),)),
    SET_ATTEMPT: _Target(attempts, (("job_id", "key"), ("number", "attempt_number"))),
    SET_TEXT: _Target(search_texts, (("id", "key"),)),
    SET_QUEUE: _Target(queues, (("name", "key"),)),
    SET_TURN: _Target(turns, (("queue", "key"), ("owner", "of"))),
    SET_QUOTA: _Target(quotas, (("holder", "key"),)),
}

_MISSING: Any = object()
_Found = Row | None


@dataclass(slots=True)
class _Known:
    """Rows as they are within the transaction. None: there is no such row; absent: not known."""

    submissions: dict[str, _Found] = field(default_factory=dict)
    files: dict[str, _Found] = field(default_factory=dict)
    file_ids: dict[int, str] = field(default_factory=dict)
    jobs: dict[str, _Found] = field(default_factory=dict)
    job_ids: dict[int, str] = field(default_factory=dict)
    attempts: dict[tuple[str, int], _Found] = field(default_factory=dict)
    revisions: dict[int, _Found] = field(default_factory=dict)
    newest: Any = _MISSING
    queues: dict[str, _Found] = field(default_factory=dict)
    turns: dict[tuple[str, str], _Found] = field(default_factory=dict)
    quotas: dict[str, _Found] = field(default_factory=dict)
    owner: str | None = None  # the only one in line; "" if there is none; None: several, or not known
    node: Any = _MISSING  # of this process, as it is recorded
    claims: dict[str, bool] = field(default_factory=dict)  # whether an attempt of it runs
    due: Any = _MISSING
    line: list[str] | None = None  # jobs without a queue that are next, in their order; None: not known
    is_whole_line: bool = False  # whether there were no more
    added: dict[str, tuple[int, int]] = field(default_factory=dict)  # jobs that joined the line since, with their turns


class PostgresTransaction(Transaction):
    """A transaction that reads ahead and writes at its end.

    Attributes:
        id: of the transaction in the database.
        newest: cursor of the newest event before it.
        waited_s: how long other writers held the lock.
        trips: how often it has waited for an answer so far, the lock's included.
    """

    def __init__(
        self,
        connection: Connection,
        reads: Reads,
        *,
        lock: str,
        node: Node | None,
        records_deliveries: bool,
        limits: Limits,
    ) -> None:
        """Begin: wait for the lock, and read.

        Args:
            connection: the writer's, in no transaction.
            reads: what will be needed.
            lock: the name of the writers' lock.
            node: as for `Transaction`.
            records_deliveries: as for `Transaction`.
            limits: as for `Transaction`.
        """
        super().__init__(connection, 0, node=node, records_deliveries=records_deliveries, limits=limits)
        self._driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        self._wire = Wire(self._driver)
        self._inserts: dict[Table, list[Mapping[str, Any]]] = {}
        self._updates: dict[_Target, dict[tuple[Any, ...], dict[str, Any]]] = {}
        self._sums: dict[str, dict[str, int]] = {}
        self._known = _Known()
        self._numbers: list[int] = []
        self._answers: Mapping[Executable, Callable[[Mapping[str, Any]], Any]] = {
            SUBMISSION: lambda given: self._known.submissions.get(given["key"], _MISSING),
            FILE: lambda given: self._known.files.get(given["key"], _MISSING),
            JOB: lambda given: self._known.jobs.get(given["key"], _MISSING),
            ATTEMPT: lambda given: self._known.attempts.get((given["key"], given["attempt_number"]), _MISSING),
            REVISION: lambda given: self._known.revisions.get(given["key"], _MISSING),
            NEWEST: lambda given: self._known.newest,
            QUEUE: lambda given: self._known.queues.get(given["key"], _MISSING),
            TURN: lambda given: self._known.turns.get((given["key"], given["of"]), _MISSING),
            QUOTA: lambda given: self._known.quotas.get(given["key"], _MISSING),
            NODE: lambda given: self._known.node,
            BEFORE: self._before,
            NEXT_OWNER: self._next_owner,
            NEXT: self._next,
        }
        self.id = ""
        self.waited_s = 0.0
        self.trips = 0
        self._begin(lock, reads)
        self.newest = Cursor(self.cursor)

    # --- beginning and end -------------------------------------------------------------------------------------------

    def _begin(self, lock: str, reads: Reads) -> None:
        self._wire.send_once(BEGIN.encode())
        locked = self._wire.send(_LOCK, [lock.encode()])
        parameters = {**reads.parameters, "node": "" if self.node is None else self.node.id}
        asked = {HEADS: self._ask(HEADS, parameters)}
        for query, is_needed in (
            (FILES, reads.files),
            (JOBS_BY_ID, reads.jobs),
            (ATTEMPTS, reads.jobs),
            (NEXT_JOBS, reads.most),
            (SUBMISSIONS, reads.needs_submissions),
            (TURNS, reads.needs_owners),
            (QUOTAS, reads.needs_owners),
            (REVISIONS, reads.needs_config),
        ):
            if is_needed:
                asked[query] = self._ask(query, parameters)
        self._sync()
        [(_, self.id, self.waited_s)] = locked.rows
        found = {query: [form.row(row) for row in answer.rows] for query, (form, answer) in asked.items()}
        self._keep(found, reads)

    def _ask(self, query: Select[Any], parameters: Mapping[str, Any]) -> tuple[prepared.Form, Answer]:
        form = prepared.form_of(self._connection, query, parameters)
        text, names = _on_the_wire(form)
        bound = form.bind(parameters)
        return form, self._wire.send(text, [_parameter(bound[name]) for name in names])

    def _keep(self, found: Mapping[Select[Any], Sequence[dict[str, Any]]], reads: Reads) -> None:
        known = self._known
        [heads] = found[HEADS]
        self.cursor = heads["cursor"] or 0
        self._numbers = list(heads["numbers"])
        known.queues[""] = None if heads["turn"] is None else {"name": "", "turn": heads["turn"]}
        known.due = heads["due"]
        known.node = {"id": self.node.id} if self.node is not None and heads["is_recorded"] else None
        known.claims = {claim: claim in heads["claimed"] for claim in reads.claims}
        known.submissions = dict.fromkeys(reads.submissions)
        known.submissions.update((row["id"], row) for row in found.get(SUBMISSIONS, ()))
        known.files = dict.fromkeys(reads.files)
        known.jobs = dict.fromkeys(reads.jobs)
        for row in found.get(FILES, ()):
            self._keep_file(row)
        for row in found.get(JOBS_BY_ID, ()):
            self._keep_job(row)
        for row in found.get(ATTEMPTS, ()):
            known.attempts[row["job_id"], row["number"]] = row
        for owner in {*reads.owners, *(row["owner"] for row in found.get(SUBMISSIONS, ()))}:
            known.turns["", owner] = known.quotas[owner] = None
        known.turns.update((("", row["owner"]), row) for row in found.get(TURNS, ()))
        known.quotas.update((row["holder"], row) for row in found.get(QUOTAS, ()))
        if reads.most:
            in_line = heads["owners"]
            known.owner = None if len(in_line) >= OWNERS_LOOKED_AT else in_line[0] if in_line else ""
            line = found[NEXT_JOBS]
            known.line = [row["id"] for row in line]
            known.is_whole_line = len(line) < reads.most
            for row in line:
                self._keep_job(row)
        if reads.needs_config:
            known.revisions = {row["number"]: row for row in found[REVISIONS]}
            known.newest = known.revisions[max(known.revisions)] if known.revisions else None

    def _keep_file(self, row: Row) -> None:
        self._known.files[row["id"]] = row
        self._known.file_ids[row["seq"]] = row["id"]

    def _keep_job(self, row: Row) -> None:
        self._known.jobs[row["id"]] = row
        self._known.job_ids[row["seq"]] = row["id"]

    def commit(self) -> None:
        """Write what was kept, and commit."""
        self._send()
        self._wire.send_once(b"COMMIT")
        self.trips += 1
        self._wire.leave()
        if self._connection.in_transaction():  # what SQLAlchemy began for a change that needed it
            self._connection.commit()

    def abandon(self) -> None:
        """Roll back, and leave the connection as it was."""
        self._inserts.clear()
        self._updates.clear()
        self._sums.clear()
        self._wire.roll_back()
        if self._connection.in_transaction():
            self._connection.rollback()

    def _sync(self) -> None:
        self.trips += 1
        self._wire.sync()

    # --- reading -----------------------------------------------------------------------------------------------------

    @property
    def connection(self) -> Connection:
        """The connection, out of the pipeline; whoever has it may change any row."""
        self._send()
        self.trips += 1
        self._wire.leave()
        self._known = _Known()
        return self._connection

    def one(self, query: Select[Any], **parameters: Any) -> Row | None:
        answer = self._answers.get(query)
        if answer is not None:
            found = answer(parameters)
            if found is not _MISSING:
                return found  # type: ignore[no-any-return]
        self._send()
        form, came = self._ask(query, parameters)
        self._sync()
        rows = came.rows
        row = form.row(rows[0]) if rows else None
        self._learn(query, parameters, row)
        return row

    def _learn(self, query: Executable, given: Mapping[str, Any], row: Row | None) -> None:
        """Keep a row that was read by its key."""
        known = self._known
        if query is FILE:
            known.files[given["key"]] = None
            if row is not None:
                self._keep_file(row)
        elif query in (JOB, NEXT):
            if row is not None:
                self._keep_job(row)
        elif query is SUBMISSION:
            known.submissions[given["key"]] = row
        elif query is ATTEMPT:
            known.attempts[given["key"], given["attempt_number"]] = row
        elif query is REVISION:
            known.revisions[given["key"]] = row

    def _before(self, given: Mapping[str, Any]) -> Any:
        again = self._known.claims.get(given["claim"])
        if again is None or self._known.due is _MISSING:
            return _MISSING
        return {"again": again, "due": self._known.due}

    def _next_owner(self, given: Mapping[str, Any]) -> Any:
        """Whose turn it is, if there is one owner in line and nothing limits how many of its jobs run."""
        owner = self._known.owner
        if owner is None or given["queue"]:
            return _MISSING
        read = self.turns.read(None)
        if any(waits for other, waits in read.items() if other != owner):
            return _MISSING  # another one joined the line in this transaction
        if not owner:
            return None
        if self.quotas.limits_running(owner):
            return _MISSING
        return {"owner": owner} if read.get(owner, True) else None

    def _next(self, given: Mapping[str, Any]) -> Any:
        """The next job without a queue of an owner.

        A job that joined the line in this transaction may come before those that were read. It is then read again,
        because nobody knows its number yet.
        """
        known = self._known
        if known.line is None or known.owner != given["of_owner"]:
            return _MISSING
        while known.line:
            row = known.jobs.get(known.line[0])
            if row is not None and row["tag"] is not None and known.line[0] not in known.added:
                break
            known.line.pop(0)  # claimed, cancelled, or behind others now
        else:
            row = None
        if row is None:
            return None if known.is_whole_line and not known.added else _MISSING
        turn = (row["tag"], row["queued_cursor"])
        return _MISSING if any(other < turn for other in known.added.values()) else row

    # --- writing -----------------------------------------------------------------------------------------------------

    def run(self, statement: Executable, **parameters: Any) -> None:
        self.run_all(statement, [parameters])

    def run_all(self, statement: Executable, several: Sequence[Mapping[str, Any]]) -> None:
        if not several:
            return
        if (table := _ADDED.get(statement)) is not None:
            if table is submissions:
                several = [self._numbered(row) for row in several]
            self._inserts.setdefault(table, []).extend(several)
            self._note_added(table, several)
        elif (target := _SET.get(statement)) is not None:
            rows = self._updates.setdefault(target, {})
            for given in several:
                values = dict(given)
                key = tuple(values.pop(name) for _, name in target.keys)
                rows.setdefault(key, {}).update(values)
                self._note_changed(target.table, key, values)
        else:
            prepared.run(self.connection, statement, several)

    def find_by_now(self, statement: Executable, row_id: int, text: str) -> None:
        self.run(statement, key=row_id, text=text)  # rows are added before any is changed

    def flush_submissions(self) -> None:
        super().flush_submissions()
        if self._updates:  # a change that asks for it adds a row that must not meet the old ones
            self._send()

    def _flush_sums(self, more: Mapping[str, Mapping[str, int]]) -> None:
        for owner, changed in more.items():
            sums = self._sums.setdefault(owner, dict.fromkeys(SUMS, 0))
            for name, by in changed.items():
                sums[name] += by

    def _numbered(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """A new submission with its number, if one was taken for it."""
        return {"seq": self._numbers.pop(), **row} if self._numbers else row

    def _note_added(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        known = self._known
        if table is submissions:
            for row in rows:
                known.submissions.pop(row["id"], None)
                if "seq" in row:
                    known.submissions[row["id"]] = {**_DEFAULTS[submissions], **_as_stored(submissions, row)}
        elif table is files:
            for row in rows:
                known.files.pop(row["id"], None)
        elif table is jobs:
            for row in rows:
                known.jobs.pop(row["id"], None)
                if row["tag"] is not None:
                    known.added[row["id"]] = (row["tag"], row["queued_cursor"])
        elif table is attempts:
            for row in rows:
                known.attempts.pop((row["job_id"], row["number"]), None)
                known.claims.pop(row["claim"], None)
        elif table is queues:
            for row in rows:
                known.queues.pop(row["name"], None)
        elif table is turns:
            for row in rows:
                known.turns.pop((row["queue"], row["owner"]), None)
        elif table is quotas:
            for row in rows:
                known.quotas.pop(row["holder"], None)

    def _note_changed(self, table: Table, key: tuple[Any, ...], values: Mapping[str, Any]) -> None:
        known = self._known
        if table is jobs:
            self._note_job(key[0], values)
        elif table is files:
            file_id = known.file_ids.get(key[0])
            row = None if file_id is None else known.files.get(file_id)
            if file_id is None or row is None:
                known.files.clear()
                known.jobs.clear()
                known.line = None
                return
            known.files[file_id] = {**row, **_as_stored(files, values)}
            for job_id in [job_id for job_id, job in known.jobs.items() if job and job["file_id"] == file_id]:
                del known.jobs[job_id]
        elif table is attempts and (row := known.attempts.get((key[0], key[1]))) is not None:
            known.attempts[key[0], key[1]] = {**row, **values}
        elif table is queues:
            known.queues.pop(key[0], None)
        elif table is turns:
            known.turns.pop((key[0], key[1]), None)
        elif table is quotas:
            known.quotas.pop(key[0], None)

    def _note_job(self, seq: int, values: Mapping[str, Any]) -> None:
        known = self._known
        job_id = known.job_ids.get(seq)
        row = None if job_id is None else known.jobs.get(job_id)
        if job_id is None or row is None:
            known.jobs.clear()
            known.line = None
            known.due = _MISSING
            return
        if values.get("not_before") != row["not_before"] and "not_before" in values:
            known.due = _MISSING
        row = known.jobs[job_id] = {**row, **_as_stored(jobs, values)}
        if "tag" in values:
            if row["tag"] is None:
                known.added.pop(job_id, None)
            elif row["queue"] is None:
                known.added[job_id] = (row["tag"], row["queued_cursor"])

    # --- sending -----------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        """Send what was kept; the answers come later."""
        for table in _ORDER:
            rows = self._inserts.pop(table, None)
            if rows and table is submissions:  # those without a number get one from the database
                self._send_rows(table, [row for row in rows if "seq" not in row])
                rows = [row for row in rows if "seq" in row]
            if rows:
                self._send_rows(table, rows)
        for target, changes in self._updates.items():
            groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
            for key, values in changes.items():
                of_key = {name: part for (_, name), part in zip(target.keys, key, strict=True)}
                groups.setdefault(tuple(sorted(values)), []).append({**values, **of_key})
            for names, some in groups.items():
                self._send_bulk(_update(target, names), some)
        self._updates.clear()
        self._send_bulk(_ADD_SUMS, [{"owner": owner, **sums} for owner, sums in self._sums.items()])
        self._sums.clear()

    def _send_rows(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert rows by one statement, so that they get their numbers in their order."""
        if rows:
            names = frozenset().union(*rows)
            defaults = _DEFAULTS[table]
            self._send_bulk(_insert(table, names), [{**defaults, **row} for row in rows])

    def _send_bulk(self, bulk: Bulk, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            self._wire.send(bulk.text, bulk.parameters(rows))


def _columns(table: Table) -> tuple[str, ...]:
    """The columns of a table, without the one that the database numbers."""
    return tuple(column.name for column in table.columns if column is not table.autoincrement_column)


def _default(column: Column[Any]) -> Any:
    """What a new row has where nothing is said."""
    if column.server_default is None:
        return None
    return False if isinstance(column.type, Boolean) else 0


_DEFAULTS: Mapping[Table, Mapping[str, Any]] = {
    table: {name: _default(table.columns[name]) for name in _columns(table)} for table in _ORDER
}
_MORE = ", ".join(f'"{name}" = owners."{name}" + excluded."{name}"' for name in SUMS)
_ADD_SUMS = bulk_insert(owners, ("owner", *SUMS), f"ON CONFLICT (owner) DO UPDATE SET {_MORE}")
_inserts: dict[tuple[Table, frozenset[str]], Bulk] = {}
_updates: dict[tuple[_Target, tuple[str, ...]], Bulk] = {}
"""By the columns that they write; there are as many as sets of columns that changes write."""


def _insert(table: Table, names: frozenset[str]) -> Bulk:
    found = _inserts.get((table, names))
    if found is None:
        found = _inserts[table, names] = bulk_insert(table, sorted(names))
    return found


def _update(target: _Target, names: tuple[str, ...]) -> Bulk:
    found = _updates.get((target, names))
    if found is None:
        found = _updates[target, names] = bulk_update(target.table, target.keys, names)
    return found


def _as_stored(table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as they would be read again."""
    return {
        name: storable(value)
        if isinstance(value, str) and isinstance(table.columns[name].type, SafeText) and not is_storable(value)
        else value
        for name, value in values.items()
    }


_PLACE = re.compile(r"%\((\w+)\)s|%%")
_texts: WeakKeyDictionary[prepared.Form, tuple[bytes, list[str]]] = WeakKeyDictionary()


def _on_the_wire(form: prepared.Form) -> tuple[bytes, list[str]]:
    """A statement's text with $1, $2, ... for its parameters, and their names in that order."""
    found = _texts.get(form)
    if found is None:
        names: list[str] = []

        def place(match: re.Match[str]) -> str:
            if match[1] is None:
                return "%"
            if match[1] not in names:
                names.append(match[1])
            return f"${names.index(match[1]) + 1}"

        found = _texts[form] = (_PLACE.sub(place, form.text).encode(), names)
    return found


def _parameter(value: Any) -> bytes | None:
    """A value as libpq takes it, in the text format."""
    if value is None:
        return None
    if isinstance(value, psycopg.Binary):
        return b"\\x" + bytes(value.obj).hex().encode()
    if isinstance(value, bool):
        return b"t" if value else b"f"
    return str(value).encode()

"""One transaction on the ledger: it gathers events and counters, and writes them once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, Connection, Executable, Select, bindparam, insert, select, update

from dropmill.engines.sql import prepared
from dropmill.engines.sql.clients import Row, client_of
from dropmill.engines.sql.paging import sees
from dropmill.engines.sql.quotas import QuotaBook, as_told_to, holders_of
from dropmill.engines.sql.tables import deliveries, events, nodes, owners, search_texts, submissions
from dropmill.engines.sql.turns import Turns
from dropmill.model.clock import utc_now
from dropmill.model.config import ConfigRevision
from dropmill.model.errors import NodeGone, NotFound
from dropmill.model.events import DATA_KEYS, EventName, Subject, topics_of
from dropmill.model.ids import Owner, SubmissionId
from dropmill.model.nodes import Node
from dropmill.model.quotas import Limits
from dropmill.model.submissions import Counts
from dropmill.ports.bus import DELIVERIES
from dropmill.wire.clients import client_json

# Built once: making a statement anew costs more than running it (1.5 ms of CPU a file's life against 0.7).
SUBMISSION = select(submissions).where(submissions.c.id == bindparam("key"))
SET_SUBMISSION = update(submissions).where(submissions.c.seq == bindparam("key"))
ADD_EVENTS = insert(events)
NODE = select(nodes.c.id).where(nodes.c.id == bindparam("key"))
ADD_DELIVERY = insert(deliveries)

NO_LIMITS = Limits()

COUNTS = ("announced", "receiving", "aborted", "queued", "running", "succeeded", "failed", "cancelled")

SUMS = ("submissions", *COUNTS, "kept_bytes")
_add_to_owner: dict[frozenset[str], Executable] = {}  # by the sums that are changed
_ADD_OWNER = insert(owners)
ADD_TEXTS = insert(search_texts)


def counts_of(row: Row) -> Counts:
    """The eight counters of a submission's row."""
    return Counts(**{name: row[name] for name in COUNTS})


class Transaction:
    """Gathers the events of one database transaction, and the submissions that it reads once and writes once.

    Events and counters of up to 256 changes are written by two statements instead of 256 each.
    """

    def __init__(
        self,
        connection: Connection,
        newest_cursor: int,
        *,
        node: Node | None = None,
        records_deliveries: bool = False,
        limits: Limits = NO_LIMITS,
    ) -> None:
        """Gather nothing yet.

        Args:
            connection: in a transaction that has begun.
            newest_cursor: of the newest event in the ledger.
            node: owns the work that begins here; None for a process that begins none.
            records_deliveries: whether to record a delivery to the webhook each time a submission settles.
            limits: of owners that have none of their own.
        """
        self._connection = connection
        self.quotas = QuotaBook(self, limits)
        self.turns = Turns(self)
        self.node = node
        self._records_deliveries = records_deliveries
        self.cursor = newest_cursor
        self.moved: dict[str, int] = {}
        self._events: list[dict[str, Any]] = []
        self._submissions: dict[str, dict[str, Any]] = {}
        self._changed: dict[str, set[str]] = {}  # columns
        self._owned: dict[str, Counter[str]] = {}  # to be added to each owner's sums
        self._subjects: dict[str, Subject] = {}
        self._texts: list[dict[str, Any]] = []
        self.revisions: dict[int, ConfigRevision] = {}  # those read so far; `config` fills both
        self.newest_revision: ConfigRevision | None = None

    @property
    def connection(self) -> Connection:
        """The connection, for statements that no job needs: SQLAlchemy executes them."""
        return self._connection

    def one(self, query: Select[Any], **parameters: Any) -> Row | None:
        """The row that a query finds; None if none."""
        return prepared.one(self._connection, query, parameters)

    def run(self, statement: Executable, **parameters: Any) -> None:
        """Run an insert or an update; parameters that the statement does not bind are columns to set."""
        prepared.run(self._connection, statement, [parameters])

    def run_all(self, statement: Executable, several: Sequence[Mapping[str, Any]]) -> None:
        """As `run`, once for each mapping, all with the same keys; does nothing without any."""
        if several:
            prepared.run(self._connection, statement, several)

    def emit(self, name: EventName, subject: Subject, /, owner: Owner | None = None, **data: Any) -> int:
        """Append an event; returns its cursor.

        Args:
            name: of the event.
            subject: what it is about.
            owner: whose that is; None: the submission's, or nobody's if it is about none.
            data: exactly the keys in `DATA_KEYS`.
        """
        if set(data) != set(DATA_KEYS[name]):
            raise AssertionError(f"{name} carries {sorted(DATA_KEYS[name])}, not {sorted(data)}")
        self.cursor += 1
        if owner is None and subject.submission_id is not None:
            owner = self.submission(subject.submission_id)["owner"]
        self._events.append(
            {
                "cursor": self.cursor,
                "at": utc_now(),
                "name": name.value,
                "submission_id": subject.submission_id,
                "file_id": subject.file_id,
                "job_id": subject.job_id,
                "attempt": subject.attempt,
                "file_name": subject.name,
                "account": subject.account,
                "client": client_json(subject.client),
                "data": data,
                "owner": owner,
            }
        )
        for topic in topics_of(name, subject, owner):
            self.moved[topic] = self.cursor
        return self.cursor

    def submission(self, submission_id: str, visible_to: Owner | None = None) -> dict[str, Any]:
        """A submission's row; `change` writes to it.

        Args:
            submission_id: its id.
            visible_to: one that this owner does not see is not found; None: all are.

        Raises:
            NotFound: there is none.
        """
        row = self._submissions.get(submission_id)
        if row is None:
            found = self.one(SUBMISSION, key=submission_id)
            if found is None:
                raise NotFound("There is no such submission.")
            row = self._submissions[submission_id] = dict(found)
        if not sees(visible_to, row):
            raise NotFound("There is no such submission.")
        return row

    def change(self, submission_id: str, **values: Any) -> None:
        """Set columns of a submission; `flush` writes them."""
        self.submission(submission_id).update(values)
        if "host" in values:
            self._subjects.pop(submission_id, None)
        self._changed.setdefault(submission_id, set()).update(values)

    def move(self, submission_id: str, before: str | None, after: str | None, files: int = 1) -> None:
        """Count files under their new state instead of their old one; None: they are new."""
        row = self.submission(submission_id)
        counted = {state: row[state] + by for state, by in ((before, -files), (after, files)) if state is not None}
        self.change(submission_id, **counted)
        if before is not None:
            self.count(row["owner"], before, -files)
        if after is not None:
            self.count(row["owner"], after, files)

    def count(self, owner: str, name: str, by: int) -> None:
        """Add to one of an owner's sums."""
        self._owned.setdefault(owner, Counter())[name] += by

    def settle(self, submission_id: str) -> bool:
        """Record that a submission settled (`submission.settled`), if it did; returns whether it did now."""
        row = self.submission(submission_id)
        counts = counts_of(row)
        if row["is_open"] or counts.in_progress or row["settled_at"] is not None:
            return False
        outcome = counts.outcome(row["given_up"], row["replaced"])
        self.change(
            submission_id,
            settled_at=utc_now(),
            times_settled=row["times_settled"] + 1,
            outcome=None if outcome is None else outcome.value,
        )
        data = {"number": row["times_settled"], "counts": {name: row[name] for name in COUNTS}}
        cursor = self.emit(EventName.SUBMISSION_SETTLED, self.subject(submission_id), **data)
        if self._records_deliveries:
            now = row["settled_at"]
            self.run(ADD_DELIVERY, submission_id=submission_id, settled_at=now, due_at=now, **data)
            self.moved[DELIVERIES] = cursor
        return True

    def next_tag(self, submission_id: str, queue: str | None) -> int:
        """The tag of a job that is queued now; see `next_tags`."""
        return self.next_tags(submission_id, queue, 1)[0]

    def next_tags(self, submission_id: str, queue: str | None, jobs: int) -> range:
        """The tags of jobs that wait from now on: after those of their submission, and after all claimed of the owner.

        Call it before the jobs are counted as queued. If no job of the submission is queued, its last tag does not
        count: otherwise ten thousand cancelled jobs would still delay the one that is retried.
        """
        row = self.submission(submission_id)
        owner = row["owner"]
        first: int = max(self.turns.newest(queue, owner), row["last_tag"] if row["queued"] else 0) + 1
        self.change(submission_id, last_tag=first + jobs - 1)
        self.turns.join(queue, owner, jobs, self.cursor)
        return range(first, first + jobs)

    def keep(self, submission_id: str, size: int) -> None:
        """Count bytes that the submission now holds on disk; negative once they are removed."""
        row = self.submission(submission_id)
        self.change(submission_id, kept_bytes=row["kept_bytes"] + size)
        self.count(row["owner"], "kept_bytes", size)

    def take(self, submission_id: str, *, files: int = 0, size: int) -> None:
        """Count files of a submission, and bytes that they hold, in the quotas of its holders.

        Raises:
            QuotaExceeded: more than a limit; nothing was counted.
        """
        more = {"files": files, "storage": size, "total_size": size}
        submission = self.submission(submission_id)
        holders = holders_of(submission)
        with as_told_to(submission):
            for holder in holders:
                self.quotas.require(holder, **more)
        for holder in holders:
            self.quotas.add(holder, **more)

    def give_back(self, submission_id: str, *, files: int = 0, size: int) -> None:
        """Take files and bytes that will not come out of the quotas again. Negative ones add, whatever the limits."""
        for holder in holders_of(self.submission(submission_id)):
            self.quotas.add(holder, files=-files, storage=-size, total_size=-size)

    def find_by(self, row_id: int, file_id: str | None, text: str) -> None:
        """Add a row of `search_texts`; `flush` writes it."""
        self._texts.append({"id": row_id, "file_id": file_id, "text": text})

    def find_by_now(self, statement: Executable, row_id: int, text: str) -> None:
        """Set the text of a row of `search_texts` at once, even if `flush` has not written the row yet."""
        self._flush_texts()
        self.run(statement, key=row_id, text=text)

    def subject(self, submission_id: str) -> Subject:
        """A subject that names the submission, its account and its client."""
        found = self._subjects.get(submission_id)
        if found is None:
            row = self.submission(submission_id)
            found = Subject(submission_id=SubmissionId(submission_id), account=row["account"], client=client_of(row))
            self._subjects[submission_id] = found
        return found

    def flush_submissions(self) -> None:
        """Write the changed submissions."""
        for submission_id, columns in self._changed.items():
            row = self._submissions[submission_id]
            self.run(SET_SUBMISSION, key=row["seq"], **{column: row[column] for column in sorted(columns)})
        self._changed.clear()

    def flush(self) -> None:
        """Write everything that was gathered.

        Raises:
            NodeGone: this node was struck off. Here, and not where a change begins: the writers' lock is held until
                the commit, so nobody can strike it off any more.
        """
        if self.node is not None and self.node.lease_s is not None and self.one(NODE, key=self.node.id) is None:
            raise NodeGone("This process was declared gone, because it did not renew its lease; it begins anew.")
        self.flush_submissions()
        self._flush_texts()
        self._flush_sums({owner: changed for owner, more in self._owned.items() if (changed := _not_zero(more))})
        self._owned.clear()
        self.turns.flush()
        self.turns.flush_queues()
        self.quotas.flush()
        self.run_all(ADD_EVENTS, self._events)

    def _flush_texts(self) -> None:
        if self._texts:
            self.run_all(ADD_TEXTS, self._texts)
            self._texts.clear()

    def _flush_sums(self, more: Mapping[str, Mapping[str, int]]) -> None:
        """Add to the sums of some owners."""
        for owner, changed in more.items():
            sums = {f"more_{name}": by for name, by in changed.items()}
            if not prepared.run(self._connection, _adding(frozenset(changed)), [{"key": owner, **sums}]):
                self.run(_ADD_OWNER, owner=owner, **changed)


def _not_zero(more: Mapping[str, int]) -> dict[str, int]:
    return {name: by for name, by in more.items() if by}


def _adding(names: frozenset[str]) -> Executable:
    statement = _add_to_owner.get(names)
    if statement is None:
        more = {name: owners.c[name] + bindparam(f"more_{name}", type_=BigInteger) for name in sorted(names)}
        statement = update(owners).where(owners.c.owner == bindparam("key")).values(more)
        _add_to_owner[names] = statement
    return statement

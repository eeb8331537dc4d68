"""Whose turn it is: how far each queue has come, and which owners have jobs that wait in it.

Owners take turns, and within an owner its submissions do. So nobody's ten thousand files delay another's one, and
nobody's large submission delays the same person's small one. A claim takes the owner with the least tag, then that
owner's job with the least tag: two look-ups by index, however many jobs wait.
"""

from typing import Any

from sqlalchemy import bindparam, insert, select, update

from dropmill.engines.sql.prepared import Statements
from dropmill.engines.sql.tables import queues, turns

QUEUE = select(queues).where(queues.c.name == bindparam("key"))
ADD_QUEUE = insert(queues)
SET_QUEUE = update(queues).where(queues.c.name == bindparam("key"))
TURN = select(turns).where(turns.c.queue == bindparam("key"), turns.c.owner == bindparam("of"))
ADD_TURN = insert(turns)
SET_TURN = update(turns).where(turns.c.queue == bindparam("key"), turns.c.owner == bindparam("of"))

_Key = tuple[str, str]


class Turns:
    """The turns that one transaction reads once, and writes before it looks who is next."""

    def __init__(self, statements: Statements) -> None:
        """Read nothing yet."""
        self._statements = statements
        self._queues: dict[str, int] = {}  # tag of the newest claim's owner, of each queue that was read
        self._in_table: dict[str, int] = {}
        self._rows: dict[_Key, dict[str, Any]] = {}
        self._changed: set[_Key] = set()
        self._new: set[_Key] = set()

    def newest(self, queue: str | None, owner: str) -> int:
        """Tag of the newest job of an owner that was claimed from a queue; 0 if none was."""
        tag: int = self._row(queue or "", owner)["turn"]
        return tag

    def join(self, queue: str | None, owner: str, jobs: int, cursor: int) -> None:
        """Count jobs of an owner that wait from now on.

        Args:
            cursor: of the newest event: those who join for the same turn have it in this order.
        """
        name = queue or ""
        row = self._row(name, owner)
        row["waiting"] += jobs
        if row["tag"] is None:
            row["tag"], row["since"] = self._queue(name) + 1, cursor
        self._changed.add((name, owner))

    def leave(self, queue: str | None, owner: str) -> None:
        """Count one waiting job less."""
        name = queue or ""
        row = self._row(name, owner)
        row["waiting"] -= 1
        if not row["waiting"]:
            row["tag"] = None
        self._changed.add((name, owner))

    def take(self, queue: str | None, owner: str, tag: int, cursor: int) -> None:
        """Note that an owner's job with this tag is claimed.

        Args:
            cursor: as for `join`.
        """
        name = queue or ""
        row = self._row(name, owner)
        row["turn"] = max(row["turn"], tag)
        newest = self._queues[name] = max(self._queue(name), row["tag"] or 0)
        self.leave(queue, owner)
        if row["waiting"]:
            # After everybody's turn now: an owner that was passed over, because enough of it ran, makes up for nothing.
            row["tag"], row["since"] = newest + 1, cursor

    def read(self, queue: str | None) -> dict[str, bool]:
        """Of the owners whose turns were read so far: whether jobs of theirs wait in a queue."""
        return {owner: row["tag"] is not None for (name, owner), row in self._rows.items() if name == (queue or "")}

    def flush(self) -> None:
        """Write what has changed."""
        for key in self._changed:
            row = self._rows[key]
            if key in self._new:
                self._new.discard(key)
                self._statements.run(ADD_TURN, **row)
            else:
                values = {name: row[name] for name in ("turn", "tag", "since", "waiting")}
                self._statements.run(SET_TURN, key=key[0], of=key[1], **values)
        self._changed.clear()

    def flush_queues(self) -> None:
        """Write how far the queues have come; nobody looks for that in the same transaction."""
        for name, turn in self._queues.items():
            if name not in self._in_table:
                self._statements.run(ADD_QUEUE, name=name, turn=turn)
            elif turn != self._in_table[name]:
                self._statements.run(SET_QUEUE, key=name, turn=turn)
            self._in_table[name] = turn

    def _queue(self, name: str) -> int:
        if name not in self._queues:
            row = self._statements.one(QUEUE, key=name)
            if row is not None:
                self._in_table[name] = row["turn"]
            self._queues[name] = self._in_table.get(name, 0)
        return self._queues[name]

    def _row(self, name: str, owner: str) -> dict[str, Any]:
        key = (name, owner)
        row = self._rows.get(key)
        if row is None:
            found = self._statements.one(TURN, key=name, of=owner)
            if found is not None:
                row = dict(found)
            else:
                self._new.add(key)
                row = {"queue": name, "owner": owner, "turn": 0, "tag": None, "since": 0, "waiting": 0}
            self._rows[key] = row
        return row

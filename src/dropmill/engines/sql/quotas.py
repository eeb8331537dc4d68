"""Quotas: what each holder has and may have. Checked and counted in the transaction that changes what it has.

Every change of a ledger sees what the changes before it left, of all processes. So two that come at once cannot both
get the last byte.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Connection, bindparam, func, insert, select, update

from dropmill.engines.sql.clients import Row
from dropmill.engines.sql.prepared import Statements
from dropmill.engines.sql.tables import quotas
from dropmill.model.clock import utc_now
from dropmill.model.errors import LinkUsedUp, QuotaExceeded, TooManySubmissions
from dropmill.model.ids import Owner
from dropmill.model.quotas import COUNT_MAX, LIMIT_NAMES, LimitChange, Limits, Quota, Usage, exceeded, holder_of

NO_LIMIT: Final = COUNT_MAX + 1
_MOST: Final = {name: f"most_{name}" for name in LIMIT_NAMES}  # column of the holder's own limit
_COUNTED: Final = ("storage", "total_size", "files", "submissions", "submissions_a_day", "open_submissions", "running")
_WHEN_OPEN_S: Final = 5  # a submission that is open may be sealed at any moment

QUOTA = select(quotas).where(quotas.c.holder == bindparam("key"))
_QUOTAS = select(quotas).where(quotas.c.holder.in_(bindparam("keys", expanding=True)))
ADD_QUOTA = insert(quotas)
SET_QUOTA = update(quotas).where(quotas.c.holder == bindparam("key"))
_SOME = 500  # holders in one query

may_run: ColumnElement[bool] = quotas.c.running.is_(None) | (
    quotas.c.running < func.coalesce(quotas.c.most_running, bindparam("default_running", type_=BigInteger))
)
"""Whether a job of an owner may start, where `quotas` is outer-joined by its owner; see `QuotaBook.default_running`."""


class QuotaBook:
    """The quotas that one transaction reads once and writes once."""

    def __init__(self, statements: Statements, defaults: Limits) -> None:
        """Read nothing yet.

        Args:
            statements: of the transaction.
            defaults: of holders without limits of their own.
        """
        self._statements = statements
        self._defaults = defaults
        self._rows: dict[str, dict[str, Any]] = {}
        self._changed: dict[str, set[str]] = {}
        self._new: set[str] = set()

    @property
    def default_running(self) -> int:
        """The server's limit of jobs that one owner has running, for `may_run`."""
        return NO_LIMIT if self._defaults.running is None else self._defaults.running

    def add(self, holder: str, **more: int) -> None:
        """Count more, or less, whatever the limits."""
        row = self._row(holder)
        for name, by in more.items():
            if by:
                self._set(holder, name, row[name] + by)

    def take(self, holder: str, **more: int) -> None:
        """Count more; what is not above 0 is never refused.

        Raises:
            QuotaExceeded: it would exceed a limit; nothing was counted.
        """
        self.require(holder, **more)
        self.add(holder, **more)

    def require(self, holder: str, **more: int) -> None:
        """Return if a holder may have so much more of each.

        Raises:
            QuotaExceeded: it may not.
        """
        row = self._row(holder)
        for name, by in more.items():
            most = self._most(row, name)
            if by > 0 and most is not None and row[name] + by > most:
                raise exceeded(holder, name, most, row[name])

    def require_kept(self, holder: str) -> None:
        """Return if a holder's files are within its limits.

        Raises:
            QuotaExceeded: they are not.
        """
        row = self._row(holder)
        for name in ("storage", "total_size"):
            most = self._most(row, name)
            if most is not None and row[name] > most:
                raise exceeded(holder, name, most, row[name])

    def room(self, holder: str) -> int | None:
        """How many more bytes a holder may send; None: any number. Negative if it has more than it may."""
        row = self._row(holder)
        rooms = [most - row[name] for name in ("storage", "total_size") if (most := self._most(row, name)) is not None]
        return min(rooms, default=None)

    def open_submission(self, holder: str, *, stays_open: bool) -> None:
        """Count one more submission, of today.

        Args:
            stays_open: whether it is open after this change.

        Raises:
            QuotaExceeded: it may open none any more.
            TooManySubmissions: it may open none now.
        """
        row = self._row(holder)
        now = utc_now()
        today = now.date().isoformat()
        if (row["day"] or "") < today:  # a clock that was set back opens no second day
            self._set(holder, "day", today)
            self._set(holder, "submissions_a_day", 0)
        self.require(holder, submissions=1)
        most = self._most(row, "submissions_a_day")
        if most is not None and row["submissions_a_day"] >= most:
            left = 86_400 - (now.hour * 3600 + now.minute * 60 + now.second)
            raise TooManySubmissions(
                f"Only {most} submissions may be opened a day; the next day begins at midnight UTC.",
                reason="submissions_a_day",
                limit=most,
                retry_after=left,
            )
        most = self._most(row, "open_submissions")
        if stays_open and most is not None and row["open_submissions"] >= most:
            raise TooManySubmissions(
                f"Only {most} submissions may be open at once; wait until one is sealed.",
                reason="open_submissions",
                limit=most,
                retry_after=_WHEN_OPEN_S,
            )
        self.add(holder, submissions=1, submissions_a_day=1, open_submissions=1)

    def set_limits(self, holder: str, change: LimitChange) -> None:
        """Give a holder limits of its own, or take some away. What it has stays, also above a limit."""
        for name, most in change.own.items():
            self._set(holder, _MOST[name], NO_LIMIT if most is None else most)
        for name in change.dropped:
            self._set(holder, _MOST[name], None)

    def flush(self) -> None:
        """Write what has changed."""
        for holder, columns in self._changed.items():
            row = self._rows[holder]
            if holder in self._new:
                self._new.discard(holder)
                self._statements.run(ADD_QUOTA, **row)
            else:
                values = {column: row[column] for column in sorted(columns)}
                self._statements.run(SET_QUOTA, key=holder, **values)
        self._changed.clear()

    def flush_running(self) -> None:
        """Write what `may_run` reads, of holders that have a limit of running jobs."""
        if any(self._most(self._rows[holder], "running") is not None for holder in self._changed):
            self.flush()

    def limits_running(self, holder: str) -> bool:
        """Whether a holder's jobs are limited in how many of them run."""
        return self._most(self._row(holder), "running") is not None

    def _most(self, row: Row, name: str) -> int | None:
        own: int | None = row[_MOST[name]]
        if own is None:
            found: int | None = getattr(self._defaults, name)
            return found
        return None if own == NO_LIMIT else own

    def _set(self, holder: str, column: str, value: Any) -> None:
        self._row(holder)[column] = value
        self._changed.setdefault(holder, set()).add(column)

    def _row(self, holder: str) -> dict[str, Any]:
        row = self._rows.get(holder)
        if row is None:
            found = self._statements.one(QUOTA, key=holder)
            if found is not None:
                row = dict(found)
            else:
                self._new.add(holder)
                row = {"holder": holder, "day": None, **dict.fromkeys(_COUNTED, 0), **dict.fromkeys(_MOST.values())}
            self._rows[holder] = row
        return row


def holders_of(submission: Row) -> tuple[str, ...]:
    """Whose quotas a submission's files count in."""
    link_id = submission["link_id"]
    return (submission["owner"],) if link_id is None else (submission["owner"], holder_of(link_id))


@contextlib.contextmanager
def as_told_to(submission: Row) -> Iterator[None]:
    """Tell whoever sends by a link nothing of the quotas of its maker.

    Raises:
        LinkUsedUp: instead of an error that says what the maker may have.
    """
    try:
        yield
    except (QuotaExceeded, TooManySubmissions) as error:
        if submission["link_id"] is None or isinstance(error, LinkUsedUp):
            raise
        raise LinkUsedUp("Whoever made this link can take no more now.", reason="maker", limit=None) from None


# --- queries ---------------------------------------------------------------------------------------------------------


def quotas_of(connection: Connection, holders: Collection[Owner], defaults: Limits) -> Mapping[Owner, Quota]:
    """See `QuotaLedger.quotas`."""
    wanted = list(dict.fromkeys(holders))
    rows: dict[str, Row] = {}
    for first in range(0, len(wanted), _SOME):
        found = connection.execute(_QUOTAS, {"keys": wanted[first : first + _SOME]}).mappings()
        rows |= {row["holder"]: row for row in found}
    return {holder: _quota_of(holder, rows.get(holder), defaults) for holder in wanted}


def _quota_of(holder: Owner, row: Row | None, defaults: Limits) -> Quota:
    if row is None:
        return Quota(holder=holder, limits=defaults, own={}, usage=Usage())
    own = {name: row[column] for name, column in _MOST.items() if row[column] is not None}
    own = {name: None if most == NO_LIMIT else most for name, most in own.items()}
    is_today = row["day"] is not None and row["day"] >= utc_now().date().isoformat()
    usage = {name: row[name] for name in _COUNTED} | ({} if is_today else {"submissions_a_day": 0})
    return Quota(holder=holder, limits=defaults.with_own(own), own=own, usage=Usage(**usage))

"""Deliveries to the webhook: changes, queries and rows."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, exists, select, update

from dropmill.engines.sql.clients import Row
from dropmill.engines.sql.tables import deliveries
from dropmill.engines.sql.transaction import Transaction
from dropmill.model.deliveries import Delivery
from dropmill.model.ids import SubmissionId
from dropmill.model.submissions import Counts

_DELIVERY = (
    deliveries.c.submission_id == bindparam("key"),
    deliveries.c.number == bindparam("delivery_number"),
)
_END_DELIVERY = delete(deliveries).where(*_DELIVERY)
_POSTPONE_DELIVERY = (
    update(deliveries).where(*_DELIVERY).values(tries=deliveries.c.tries + 1, due_at=bindparam("new_due_at"))
)
_earlier = deliveries.alias("earlier")
_DELIVERIES = (
    select(deliveries)
    .where(
        ~exists().where(_earlier.c.submission_id == deliveries.c.submission_id, _earlier.c.number < deliveries.c.number)
    )
    .order_by(deliveries.c.due_at)
    .limit(bindparam("limit"))
)


# --- changes ---------------------------------------------------------------------------------------------------------


def end_delivery(tx: Transaction, submission_id: SubmissionId, number: int) -> None:
    """See `Ledger.end_delivery`."""
    tx.run(_END_DELIVERY, key=submission_id, delivery_number=number)


def postpone_delivery(tx: Transaction, submission_id: SubmissionId, number: int, due_at: datetime) -> None:
    """See `Ledger.postpone_delivery`."""
    tx.run(_POSTPONE_DELIVERY, key=submission_id, delivery_number=number, new_due_at=due_at)


# --- queries ---------------------------------------------------------------------------------------------------------


def next_deliveries(connection: Connection, limit: int) -> Sequence[Delivery]:
    """See `Ledger.deliveries`."""
    return [_delivery_of(row) for row in connection.execute(_DELIVERIES, {"limit": limit}).mappings()]


def _delivery_of(row: Row) -> Delivery:
    return Delivery(
        submission_id=SubmissionId(row["submission_id"]),
        number=row["number"],
        settled_at=row["settled_at"],
        counts=Counts(**row["counts"]),
        tries=row["tries"],
        due_at=row["due_at"],
    )

"""Notices: changes, queries and rows."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from dropmill.engines.sql import accounts
from dropmill.engines.sql.clients import Row
from dropmill.engines.sql.tables import notices, submissions
from dropmill.engines.sql.transaction import Transaction
from dropmill.model.accounts import id_in, owner_of
from dropmill.model.client import ClientIdentity
from dropmill.model.errors import NotFound
from dropmill.model.events import EventName, Subject
from dropmill.model.ids import AccountId, NoticeId, Owner, SubmissionId
from dropmill.model.notices import Notice
from dropmill.ports.bus import NOTICES
from dropmill.text import time_text

_STANDING = select(notices).where(notices.c.expires_at > bindparam("now")).order_by(notices.c.seq)
_STANDING_FOR_OWNER = _STANDING.outerjoin(submissions, submissions.c.id == notices.c.submission_id).where(
    (notices.c.submission_id.is_(None) & notices.c.account_id.is_(None))
    | (submissions.c.owner == bindparam("visible_to"))
    | (notices.c.account_id == bindparam("account_id"))
)
_ONE = select(notices).where(notices.c.id == bindparam("key"), notices.c.expires_at > bindparam("now"))
_WITHDRAW = update(notices).where(notices.c.id == bindparam("key")).values(text="")
_DROP_EXPIRED = delete(notices).where(notices.c.expires_at <= bindparam("now"))


def post_notice(tx: Transaction, notice: Notice, client: ClientIdentity | None, visible_to: Owner | None) -> None:
    """See `Ledger.post_notice`."""
    if notice.submission_id is not None:
        tx.submission(notice.submission_id, visible_to)
    if notice.account_id is not None:
        accounts.require_existing(tx, notice.account_id)
    tx.connection.execute(_DROP_EXPIRED, {"now": notice.posted_at})
    tx.connection.execute(
        insert(notices).values(
            id=notice.id,
            text=notice.text,
            submission_id=notice.submission_id,
            posted_at=notice.posted_at,
            expires_at=notice.expires_at,
            account=notice.account,
            account_id=notice.account_id,
        )
    )
    tx.moved[NOTICES] = tx.emit(
        EventName.NOTICE_POSTED,
        Subject(submission_id=notice.submission_id, account=notice.account, client=client),
        owner=None if notice.account_id is None else owner_of(notice.account_id),
        id=notice.id,
        text=notice.text,
        expires_at=time_text(notice.expires_at),
    )


def withdraw_notice(
    tx: Transaction,
    notice_id: NoticeId,
    now: datetime,
    account: str | None,
    client: ClientIdentity | None,
    visible_to: Owner | None,
) -> None:
    """See `Ledger.withdraw_notice`."""
    row = tx.connection.execute(_ONE, {"key": notice_id, "now": now}).mappings().one_or_none()
    missing = NotFound("There is no such notice; it may have expired.")
    if row is None:
        raise missing
    notice = _notice_of(row)
    if notice.submission_id is not None:
        try:
            tx.submission(notice.submission_id, visible_to)
        except NotFound:  # the same answer, whether there is such a notice or not
            raise missing from None
    if notice.is_withdrawn:
        return
    tx.connection.execute(_WITHDRAW, {"key": notice_id})
    subject = Subject(submission_id=notice.submission_id, account=account, client=client)
    owner = None if notice.account_id is None else owner_of(notice.account_id)
    tx.moved[NOTICES] = tx.emit(EventName.NOTICE_WITHDRAWN, subject, owner=owner, id=notice_id)


def standing_notices(connection: Connection, now: datetime, visible_to: Owner | None) -> Sequence[Notice]:
    """See `Ledger.notices`."""
    query = _STANDING if visible_to is None else _STANDING_FOR_OWNER
    parameters = {"now": now, "visible_to": visible_to, "account_id": None if visible_to is None else id_in(visible_to)}
    return [_notice_of(row) for row in connection.execute(query, parameters).mappings()]


def _notice_of(row: Row) -> Notice:
    return Notice(
        id=NoticeId(row["id"]),
        text=row["text"],
        submission_id=None if row["submission_id"] is None else SubmissionId(row["submission_id"]),
        posted_at=row["posted_at"],
        expires_at=row["expires_at"],
        account=row["account"],
        account_id=None if row["account_id"] is None else AccountId(row["account_id"]),
    )

"""Links and visits: changes, queries and rows; and what each change of a submission asks of its link."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from dropmill.engines.sql import prepared
from dropmill.engines.sql.clients import Row
from dropmill.engines.sql.paging import page_key, page_of, seen_by
from dropmill.engines.sql.quotas import quotas_of
from dropmill.engines.sql.tables import accounts, links, submissions, visits
from dropmill.engines.sql.transaction import Transaction, counts_of
from dropmill.model.accounts import Account
from dropmill.model.by import By
from dropmill.model.caller import Role
from dropmill.model.client import ClientIdentity
from dropmill.model.clock import utc_now
from dropmill.model.errors import LinkEnded, NotFound
from dropmill.model.events import EventName, Subject
from dropmill.model.ids import AccountId, BrowserKey, LinkId, Owner, Sha256, SubmissionId, VisitId
from dropmill.model.links import Link, LinkKind, LinkLimits, LinkState, LinkUsage, Visit, link_in
from dropmill.model.quotas import LIMIT_NAMES, LimitChange, Limits, Quota, Usage, holder_of
from dropmill.ports.ledger.links import LinkLock
from dropmill.ports.ledger.page import Page
from dropmill.text import time_text
from dropmill.wire.clients import client_from_json, client_json

VISITS_MAX = 10_000  # of one link
VISITS_KEPT = timedelta(days=30)  # after the expiry: a body that arrives goes on, and depends on its visit
SOME = 500  # ids in one query: SQLite takes 32,766

_OF_MAKER = [
    accounts.c[name].label(f"maker_{name}")
    for name in ("id", "name", "role", "created_at", "disabled_at", "removed_at")
]
# Built once: making a statement anew costs more than running it.
_LINKS = select(links, *_OF_MAKER).outerjoin(accounts, accounts.c.id == links.c.account_id)
_LINK = _LINKS.where(links.c.id == bindparam("key"))
_ADD_LINK = insert(links)
_SET_LINK = update(links).where(links.c.seq == bindparam("key"))
_VISIT = select(visits).where(visits.c.secret_sha256 == bindparam("key"))
_ADD_VISIT = insert(visits)
_TOO_OLD = (
    select(visits.c.seq)
    .where(visits.c.link_id == bindparam("key"))
    .order_by(visits.c.seq.desc())
    .limit(1)
    .offset(VISITS_MAX)
)

_DROP_ENDED = delete(visits).where(
    visits.c.link_id.in_(
        select(links.c.id).where((links.c.expires_at <= bindparam("before")) | links.c.revoked_at.is_not(None))
    )
)


# --- what changes of submissions ask ---------------------------------------------------------------------------------


def opened_by(tx: Transaction, sender: Owner) -> tuple[Owner, dict[str, Any]]:
    """Whose a submission is that a link's visitor opens, and the columns that say how it came.

    Raises:
        LinkEnded: the link has ended.
    """
    found = link_in(sender)
    if found is None:
        raise AssertionError(f"{sender} is no link's visitor")
    row = _row(tx, found[0])
    if row["kind"] != LinkKind.REQUEST:
        raise LinkEnded("This link is for looking at a submission, not for sending.")
    _require_live(row)
    visit = tx.one(_VISIT, key=found[1])
    return Owner(row["owner"]), {
        "sender": sender,
        "link_id": row["id"],
        "link_label": row["label"],
        "said_name": None if visit is None else visit["name"],
    }


def require_live(tx: Transaction, submission_id: str, *, has_begun: bool = False) -> None:
    """Return if files may come to a submission, as far as the link is concerned by which it came, if any.

    Args:
        tx: where.
        submission_id: which.
        has_begun: whether the file's bytes are arriving; then a link that expires does not stop them, but one that is
            revoked does.

    Raises:
        LinkEnded: they may not.
    """
    link_id = tx.submission(submission_id)["link_id"]
    if link_id is not None:
        _require_live(_row(tx, link_id), has_begun=has_begun)


def give_back(tx: Transaction, submission_id: str) -> None:
    """Do not count a submission for its link if it settled without a stored file: its sender will try again."""
    submission = tx.submission(submission_id)
    counts = counts_of(submission)
    if submission["link_id"] is not None and counts.total == counts.aborted:
        tx.quotas.add(holder_of(submission["link_id"]), submissions=-1)


def _require_live(row: Row, *, has_begun: bool = False) -> None:
    state = _state_of(row, utc_now())
    if state is LinkState.REVOKED or (state is LinkState.EXPIRED and not has_begun):
        raise LinkEnded("The link has expired or was revoked; nothing more can be sent by it.")


def _row(tx: Transaction, link_id: str) -> Row:
    row = tx.one(_LINK, key=link_id)
    if row is None:
        raise LinkEnded("There is no such link.")
    return row


# --- changes ---------------------------------------------------------------------------------------------------------


def add_link(tx: Transaction, link: Link, lock: LinkLock, by: By, visible_to: Owner | None) -> None:
    """See `LinkLedger.add_link`."""
    if link.submission_id is not None:
        tx.submission(link.submission_id, visible_to)
    tx.connection.execute(_DROP_ENDED, {"before": link.made_at - VISITS_KEPT})
    tx.run(
        _ADD_LINK,
        id=link.id,
        kind=link.kind.value,
        owner=link.owner,
        account_id=link.account_id,
        made_by=link.made_by,
        secret_sha256=lock.secret,
        passphrase_hash=lock.passphrase_hash,
        label=link.label,
        text=link.text,
        submission_id=link.submission_id,
        asks_name=link.asks_name,
        shows_results=link.shows_results,
        made_at=link.made_at,
        expires_at=link.expires_at,
    )
    most = {"files": link.limits.files, "total_size": link.limits.size, "submissions": link.limits.submissions}
    tx.quotas.set_limits(holder_of(link.id), LimitChange(own={**dict.fromkeys(LIMIT_NAMES), **most}))
    expires_at = time_text(link.expires_at)
    _emit(tx, EventName.LINK_MADE, link, by.client, submission=link.submission_id, expires_at=expires_at, by=by.account)


def revoke_link(tx: Transaction, link_id: LinkId, by: By, visible_to: Owner | None) -> None:
    """See `LinkLedger.revoke_link`."""
    row = tx.one(_LINK, key=link_id)
    if row is None or row["revoked_at"] is not None or visible_to not in (None, row["owner"]):
        raise NotFound("There is no such link.")
    tx.run(_SET_LINK, key=row["seq"], revoked_at=utc_now())
    _emit(tx, EventName.LINK_REVOKED, _link_of(row, None), by.client, by=by.account)


def begin_visit(tx: Transaction, visit: Visit) -> None:
    """See `LinkLedger.begin_visit`."""
    row = tx.one(_LINK, key=visit.link_id)
    if row is None or _state_of(row, visit.began_at) is not LinkState.LIVE:
        raise NotFound("There is no such link.")
    tx.run(
        _ADD_VISIT,
        id=visit.id,
        link_id=visit.link_id,
        secret_sha256=visit.key,
        name=visit.name,
        began_at=visit.began_at,
        client=client_json(visit.client),
    )
    tx.run(_SET_LINK, key=row["seq"], last_used_at=visit.began_at, visits=row["visits"] + 1)
    too_old = tx.connection.execute(_TOO_OLD, {"key": visit.link_id}).scalar_one_or_none()
    if too_old is not None:
        tx.connection.execute(delete(visits).where(visits.c.link_id == visit.link_id, visits.c.seq <= too_old))
    _emit(tx, EventName.LINK_USED, _link_of(row, None), visit.client, said_name=visit.name)


def _emit(tx: Transaction, event: EventName, link: Link, client: ClientIdentity | None, **data: Any) -> None:
    # Without the submission of a result link: whoever follows that submission must not hear of its links.
    subject = Subject(account=link.made_by, client=client)
    tx.emit(event, subject, owner=link.owner, link=link.id, kind=link.kind.value, label=link.label, **data)


# --- queries ---------------------------------------------------------------------------------------------------------


def get_link(connection: Connection, link_id: LinkId) -> Link | None:
    """See `LinkReader.link`."""
    row = prepared.one(connection, _LINK, {"key": link_id})
    return None if row is None else _with_quotas(connection, [row])[0]


def lock_of(connection: Connection, link_id: LinkId) -> tuple[Link, LinkLock] | None:
    """See `LinkReader.lock_of`."""
    row = prepared.one(connection, _LINK, {"key": link_id})
    if row is None:
        return None
    return _with_quotas(connection, [row])[0], LinkLock(
        secret=Sha256(row["secret_sha256"]), passphrase_hash=row["passphrase_hash"]
    )


def visit_by(connection: Connection, secret: Sha256) -> tuple[Visit, Link] | None:
    """See `LinkReader.visit_by`."""
    row = prepared.one(connection, _VISIT, {"key": secret})
    link = None if row is None else get_link(connection, LinkId(row["link_id"]))
    return None if row is None or link is None else (visit_of(row), link)


def links_of(connection: Connection, visit_ids: Collection[VisitId]) -> Mapping[VisitId, Link]:
    """See `LinkReader.links_of`."""
    query = _LINKS.add_columns(visits.c.id.label("visit_id")).join(visits, visits.c.link_id == links.c.id)
    wanted = list(visit_ids)
    found: dict[VisitId, Link] = {}
    for first in range(0, len(wanted), SOME):
        rows = connection.execute(query.where(visits.c.id.in_(wanted[first : first + SOME]))).mappings().all()
        some = zip(rows, _with_quotas(connection, rows), strict=True)
        found |= {VisitId(row["visit_id"]): link for row, link in some}
    return found


def list_links(connection: Connection, before: str | None, limit: int, visible_to: Owner | None) -> Page[Link]:
    """See `LinkLedger.links`."""
    query = seen_by(_LINKS, links.c.owner, visible_to)
    start = page_key(before)
    if start is not None:
        query = query.where(links.c.seq < start)
    rows = connection.execute(query.order_by(links.c.seq.desc()).limit(limit + 1)).mappings().all()
    page, following = page_of(rows, limit)
    return Page(items=_with_quotas(connection, page), next=following)


_UNSEALED = (
    select(submissions.c.id)
    .join(links, links.c.id == submissions.c.link_id)
    .outerjoin(accounts, accounts.c.id == links.c.account_id)
    .where(submissions.c.settled_at.is_(None), submissions.c.is_open, submissions.c.is_announced)
    .where(
        or_(
            links.c.revoked_at.is_not(None),
            links.c.expires_at <= bindparam("now"),
            accounts.c.disabled_at.is_not(None),
            accounts.c.removed_at.is_not(None),
            accounts.c.role == Role.VIEWER.value,
        )
    )
    .limit(bindparam("limit"))
)


def unsealed_by_links(connection: Connection, now: datetime, limit: int) -> Sequence[SubmissionId]:
    """See `LinkLedger.unsealed_by_links`."""
    parameters: dict[str, Any] = {"now": now, "limit": limit}
    return [SubmissionId(found) for found in connection.execute(_UNSEALED, parameters).scalars()]


# --- rows ------------------------------------------------------------------------------------------------------------


def _with_quotas(connection: Connection, rows: Sequence[Row]) -> Sequence[Link]:
    """The links of some rows, each with its limits and what was sent by it."""
    found = quotas_of(connection, [holder_of(row["id"]) for row in rows], Limits())
    return [_link_of(row, found[holder_of(row["id"])]) for row in rows]


def _state_of(row: Row, now: datetime) -> LinkState:
    return _link_of(row, None).state(now)


def _link_of(row: Row, quota: Quota | None) -> Link:
    """A link, without what opens it; None: also without its limits and what was sent by it."""
    limits, usage = (Limits(), Usage()) if quota is None else (quota.limits, quota.usage)
    return Link(
        id=LinkId(row["id"]),
        kind=LinkKind(row["kind"]),
        owner=Owner(row["owner"]),
        made_by=row["made_by"],
        account_id=None if row["account_id"] is None else AccountId(row["account_id"]),
        label=row["label"],
        text=row["text"],
        submission_id=None if row["submission_id"] is None else SubmissionId(row["submission_id"]),
        made_at=row["made_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        is_backed=row["account_id"] is None or _may_make_links(row),
        has_passphrase=row["passphrase_hash"] is not None,
        asks_name=row["asks_name"],
        shows_results=row["shows_results"],
        limits=LinkLimits(files=limits.files, size=limits.total_size, submissions=limits.submissions),
        usage=LinkUsage(files=usage.files, size=usage.total_size, submissions=usage.submissions, visits=row["visits"]),
        last_used_at=row["last_used_at"],
    )


def _may_make_links(row: Row) -> bool:
    maker = Account(
        id=AccountId(row["maker_id"]),
        name=row["maker_name"],
        role=Role(row["maker_role"]),
        created_at=row["maker_created_at"],
        disabled_at=row["maker_disabled_at"],
        removed_at=row["maker_removed_at"],
    )
    return maker.is_usable and maker.role is not Role.VIEWER


def visit_of(row: Row) -> Visit:
    """A visit."""
    client = client_from_json(row["client"])
    assert client is not None  # noqa: S101  # the column is never NULL
    return Visit(
        id=VisitId(row["id"]),
        link_id=LinkId(row["link_id"]),
        key=BrowserKey(row["secret_sha256"]),
        name=row["name"],
        began_at=row["began_at"],
        client=client,
    )

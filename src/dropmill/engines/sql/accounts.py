"""Accounts, sessions and tokens: changes, queries and rows."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, select, true, update

from dropmill.engines.sql import prepared
from dropmill.engines.sql.clients import Row
from dropmill.engines.sql.tables import accounts, pending_sign_ins, sessions, tokens
from dropmill.engines.sql.transaction import Transaction
from dropmill.engines.sql.types import is_storable
from dropmill.model.accounts import (
    Account,
    AccountChange,
    Identity,
    PendingSignIn,
    Session,
    Token,
    name_key,
    owner_of,
)
from dropmill.model.by import By
from dropmill.model.caller import Credential, Role, Scope
from dropmill.model.client import ClientIdentity
from dropmill.model.clock import utc_now
from dropmill.model.errors import LastAdmin, NameTaken, NotFound
from dropmill.model.events import ChangeOfAccount, EventName, RefusalReason, SignInMethod, SignOutReason, Subject
from dropmill.model.ids import AccountId, SessionId, Sha256, TokenId, new_account_id
from dropmill.ports.ledger.accounts import PENDING_MAX, PENDING_PER_NETWORK
from dropmill.wire.clients import client_from_json, client_json

SOME = 500  # ids in one query: SQLite takes 32,766

_IS_THERE = accounts.c.removed_at.is_(None)
_OF_ACCOUNT = [column.label(f"account_{column.name}") for column in accounts.c]
# Built once: making a statement anew costs more than running it.
_ACCOUNT = select(accounts).where(accounts.c.id == bindparam("key"))
_NAMED = select(accounts).where(accounts.c.name_key == bindparam("key"), _IS_THERE)
_IDENTIFIED = select(accounts).where(
    accounts.c.issuer == bindparam("issuer"), accounts.c.subject == bindparam("subject"), _IS_THERE
)
_ACCOUNTS = select(accounts).order_by(accounts.c.seq.desc())
_ANY_ACCOUNT = select(accounts.c.id).where(_IS_THERE).limit(1)
_OTHER_ADMINS = select(func.count().label("others")).where(
    _IS_THERE,
    accounts.c.disabled_at.is_(None),
    accounts.c.role == Role.ADMIN.value,
    accounts.c.id != bindparam("key"),
)
_SET_ACCOUNT = update(accounts).where(accounts.c.id == bindparam("key"))
_REHASH = update(accounts).where(accounts.c.id == bindparam("key"), accounts.c.password_hash == bindparam("old"))
_SEEN = update(accounts).where(accounts.c.id == bindparam("key"))

_SESSION = (
    select(sessions, *_OF_ACCOUNT)
    .join(accounts, accounts.c.id == sessions.c.account_id)
    .where(sessions.c.secret_sha256 == bindparam("key"))
)
_SESSIONS = select(sessions).where(sessions.c.account_id == bindparam("key")).order_by(sessions.c.seq.desc())
_USE_SESSION = update(sessions).where(sessions.c.id == bindparam("key"))

_TOKEN = (
    select(tokens, *_OF_ACCOUNT)
    .join(accounts, accounts.c.id == tokens.c.account_id)
    .where(tokens.c.prefix == bindparam("key"))
)
_TOKENS = select(tokens).order_by(tokens.c.seq.desc())
_TOKENS_OF = _TOKENS.where(tokens.c.account_id == bindparam("key"))
_PENDING = select(pending_sign_ins).where(
    pending_sign_ins.c.state_sha256 == bindparam("state"), pending_sign_ins.c.browser_sha256 == bindparam("browser")
)
_USE_TOKEN = update(tokens).where(tokens.c.id == bindparam("key"))


# --- changes of accounts ---------------------------------------------------------------------------------------------


def add_account(tx: Transaction, account: Account, password_hash: str, by: By, is_first: bool) -> None:
    """See `AccountLedger.add_account`."""
    if is_first and tx.one(_ANY_ACCOUNT) is not None:
        raise NameTaken("There is an account already; sign in with it.")
    _add(tx, account, by, password_hash=password_hash)


def _add(tx: Transaction, account: Account, by: By, **values: str) -> None:
    if tx.one(_NAMED, key=name_key(account.name)) is not None:
        raise NameTaken(f"There is an account {account.name!r} already; case does not distinguish names.")
    tx.connection.execute(
        insert(accounts).values(
            id=account.id,
            name=account.name,
            name_key=name_key(account.name),
            role=account.role.value,
            created_at=account.created_at,
            **values,
        )
    )
    _changed(tx, account, ChangeOfAccount.ADDED, by, role=account.role)


def change_account(
    tx: Transaction, account_id: AccountId, change: AccountChange, by: By, keep: SessionId | None
) -> Account:
    """See `AccountLedger.change_account`."""
    account = require_existing(tx, account_id)
    is_disabled = account.disabled_at is not None if change.is_disabled is None else change.is_disabled
    role = change.role or account.role
    if is_disabled or role is not Role.ADMIN:
        _keep_an_admin(tx, account)
    values: dict[str, Any] = {}
    if role is not account.role:
        values["role"] = role.value
        _changed(tx, account, ChangeOfAccount.ROLE, by, role=role)
    if is_disabled != (account.disabled_at is not None):
        values["disabled_at"] = utc_now() if is_disabled else None
        _changed(tx, account, ChangeOfAccount.DISABLED if is_disabled else ChangeOfAccount.ENABLED, by)
        if is_disabled:
            _end_sessions(tx, account, None, SignOutReason.ENDED, by.client)
    if change.password_hash is not None:
        values["password_hash"] = change.password_hash
        _changed(tx, account, ChangeOfAccount.PASSWORD, by)
        _end_sessions(tx, account, keep, SignOutReason.PASSWORD_CHANGED, by.client)
    if change.limits is not None and (change.limits.own or change.limits.dropped):
        tx.quotas.set_limits(account.owner, change.limits)
        _changed(tx, account, ChangeOfAccount.LIMITS, by)
    if values:
        tx.connection.execute(update(accounts).where(accounts.c.id == account_id).values(values))
    return require_existing(tx, account_id)


def admit(
    tx: Transaction,
    identity: Identity,
    name: str,
    role: Role | None,
    client: ClientIdentity,
    method: SignInMethod,
    unseen_since: datetime | None,
) -> Account:
    """See `AccountReader.admit`."""
    row = tx.one(_IDENTIFIED, issuer=identity.issuer, subject=identity.subject)
    if row is None:
        account = Account(id=new_account_id(), name=name, role=role or Role.VIEWER, created_at=utc_now())
        _add(tx, account, By(account=name, client=client), issuer=identity.issuer, subject=identity.subject)
    else:
        account = account_of(row)
    if not account.is_usable:
        return account
    if role is not None and role is not account.role:
        tx.run(_SET_ACCOUNT, key=account.id, role=role.value)
        _changed(tx, account, ChangeOfAccount.ROLE, By(account=account.name, client=client), role=role)
    if unseen_since is not None and (account.last_seen_at is None or account.last_seen_at <= unseen_since):
        tx.run(_SEEN, key=account.id, last_seen_at=utc_now())
        subject = Subject(account=account.name, client=client)
        tx.emit(EventName.ACCOUNT_SIGNED_IN, subject, owner=account.owner, method=method.value)
    return require_existing(tx, account.id)


def link_account(tx: Transaction, account_id: AccountId, identity: Identity | None, by: By) -> Account:
    """See `AccountLedger.link_account`."""
    account = require_existing(tx, account_id)
    if identity is None and account.identity is None:
        raise NotFound(f"{account.name} belongs to nobody whom a proxy or another system vouches for.")
    if identity is not None and account.identity is not None:
        raise NameTaken(
            f"{account.name} belongs to {account.identity.subject!r} of {account.identity.issuer}; unlink it first."
        )
    other = None if identity is None else tx.one(_IDENTIFIED, issuer=identity.issuer, subject=identity.subject)
    if other is not None:
        raise NameTaken(f"They have the account {other['name']!r} already; remove or unlink that first.")
    issuer, subject = (None, None) if identity is None else (identity.issuer, identity.subject)
    tx.run(_SET_ACCOUNT, key=account_id, issuer=issuer, subject=subject)
    _changed(tx, account, ChangeOfAccount.UNLINKED if identity is None else ChangeOfAccount.LINKED, by)
    if identity is None:  # some of them may be of those from whom the account is taken
        _end_sessions(tx, account, None, SignOutReason.ENDED, by.client)
    return require_existing(tx, account_id)


def remove_account(tx: Transaction, account_id: AccountId, by: By) -> None:
    """See `AccountLedger.remove_account`."""
    account = require_existing(tx, account_id)
    _keep_an_admin(tx, account)
    _end_sessions(tx, account, None, SignOutReason.ENDED, by.client)
    tx.connection.execute(delete(tokens).where(tokens.c.account_id == account_id))
    gone = {"removed_at": utc_now(), "password_hash": None}
    tx.connection.execute(update(accounts).where(accounts.c.id == account_id).values(gone))
    _changed(tx, account, ChangeOfAccount.REMOVED, by)


def rehash(tx: Transaction, account_id: AccountId, old: str, new: str) -> None:
    """See `AccountLedger.rehash`."""
    tx.run(_REHASH, key=account_id, old=old, password_hash=new)


def require_existing(tx: Transaction, account_id: AccountId) -> Account:
    """An account that was not removed.

    Raises:
        NotFound: there is none.
    """
    row = tx.one(_ACCOUNT, key=account_id)
    if row is None or row["removed_at"] is not None:
        raise NotFound("There is no such account.")
    return account_of(row)


def _keep_an_admin(tx: Transaction, account: Account) -> None:
    """Return if somebody can administer the server without this account, or the account cannot either."""
    found = tx.one(_OTHER_ADMINS, key=account.id)
    if account.role is Role.ADMIN and account.is_usable and not (found and found["others"]):
        raise LastAdmin(f"{account.name} is the only admin; make another account an admin first.")


def _changed(
    tx: Transaction,
    account: Account,
    change: ChangeOfAccount,
    by: By,
    *,
    role: Role | None = None,
    token: str | None = None,
) -> None:
    tx.emit(
        EventName.ACCOUNT_CHANGED,
        Subject(account=account.name, client=by.client),
        owner=account.owner,
        change=change.value,
        role=None if role is None else role.value,
        token=token,
        by=by.account,
    )


# --- changes of sessions and tokens ----------------------------------------------------------------------------------


def record_refusal(
    tx: Transaction,
    account_id: AccountId | None,
    reason: RefusalReason,
    client: ClientIdentity,
    count: int,
    route: str | None,
) -> None:
    """See `AccountLedger.record_refusal`."""
    found = None if account_id is None else tx.one(_ACCOUNT, key=account_id)
    tx.emit(
        EventName.ACCOUNT_REFUSED,
        Subject(account=None if found is None else found["name"], client=client),
        owner=None if found is None else owner_of(found["id"]),
        reason=reason.value,
        count=count,
        route=route,
    )


def begin_session(tx: Transaction, session: Session, secret: Sha256, method: SignInMethod) -> None:
    """See `AccountLedger.begin_session`."""
    account = require_existing(tx, session.account_id)
    if not account.is_usable:
        raise NotFound("There is no such account.")
    is_over = (sessions.c.account_id == account.id) & (sessions.c.expires_at <= session.created_at)
    tx.connection.execute(delete(sessions).where(is_over))
    tx.connection.execute(
        insert(sessions).values(
            id=session.id,
            secret_sha256=secret,
            account_id=session.account_id,
            created_at=session.created_at,
            last_used_at=session.last_used_at,
            expires_at=session.expires_at,
            client=client_json(session.client),
        )
    )
    tx.run(_SEEN, key=account.id, last_seen_at=session.created_at)
    subject = Subject(account=account.name, client=session.client)
    tx.emit(EventName.ACCOUNT_SIGNED_IN, subject, owner=account.owner, method=method.value)


def end_session(
    tx: Transaction,
    session_id: SessionId,
    account_id: AccountId,
    reason: SignOutReason,
    client: ClientIdentity | None,
) -> None:
    """See `AccountLedger.end_session`."""
    is_it = (sessions.c.id == session_id) & (sessions.c.account_id == account_id)
    if not tx.connection.execute(delete(sessions).where(is_it)).rowcount:
        raise NotFound("There is no such session.")
    _signed_out(tx, require_existing(tx, account_id), reason, client)


def _end_sessions(
    tx: Transaction, account: Account, keep: SessionId | None, reason: SignOutReason, client: ClientIdentity | None
) -> None:
    is_one = (sessions.c.account_id == account.id) & (sessions.c.id != (keep or ""))
    for _ in range(tx.connection.execute(delete(sessions).where(is_one)).rowcount):
        _signed_out(tx, account, reason, client)


def _signed_out(tx: Transaction, account: Account, reason: SignOutReason, client: ClientIdentity | None) -> None:
    subject = Subject(account=account.name, client=client)
    tx.emit(EventName.ACCOUNT_SIGNED_OUT, subject, owner=account.owner, reason=reason.value)


def add_token(tx: Transaction, token: Token, secret: Sha256, by: By) -> None:
    """See `AccountLedger.add_token`."""
    account = require_existing(tx, token.account_id)
    tx.connection.execute(
        insert(tokens).values(
            id=token.id,
            prefix=token.prefix,
            secret_sha256=secret,
            account_id=token.account_id,
            name=token.name,
            scopes=sorted(token.scopes),
            created_at=token.created_at,
            expires_at=token.expires_at,
        )
    )
    _changed(tx, account, ChangeOfAccount.TOKEN_MADE, by, token=token.prefix)


def revoke_token(tx: Transaction, token_id: TokenId, account_id: AccountId | None, by: By) -> None:
    """See `AccountLedger.revoke_token`."""
    query = select(tokens.c.account_id, tokens.c.prefix).where(tokens.c.id == token_id)
    found = tx.connection.execute(query).one_or_none()
    if found is None or account_id not in (None, found.account_id):
        raise NotFound("There is no such token.")
    tx.connection.execute(delete(tokens).where(tokens.c.id == token_id))
    _changed(tx, require_existing(tx, found.account_id), ChangeOfAccount.TOKEN_REVOKED, by, token=found.prefix)


def add_pending_sign_in(tx: Transaction, pending: PendingSignIn, now: datetime) -> None:
    """See `PendingSignIns.add_pending_sign_in`."""
    table = pending_sign_ins
    tx.connection.execute(delete(table).where(table.c.expires_at <= now))
    for where, most in (((table.c.network == pending.network), PENDING_PER_NETWORK), (true(), PENDING_MAX)):
        oldest_kept = select(table.c.seq).where(where).order_by(table.c.seq.desc()).offset(most - 1).limit(1)
        tx.connection.execute(delete(table).where(where, table.c.seq <= oldest_kept.scalar_subquery()))
    tx.connection.execute(
        insert(table).values(
            state_sha256=pending.state,
            browser_sha256=pending.browser,
            network=pending.network,
            next=pending.next,
            expires_at=pending.expires_at,
        )
    )


def take_pending_sign_in(tx: Transaction, state: Sha256, browser: Sha256, now: datetime) -> PendingSignIn | None:
    """See `PendingSignIns.take_pending_sign_in`."""
    row = tx.one(_PENDING, state=state, browser=browser)
    if row is None:
        return None
    tx.connection.execute(delete(pending_sign_ins).where(pending_sign_ins.c.seq == row["seq"]))
    found = pending_sign_in_of(row)
    return found if found.expires_at > now else None


def note_use(
    tx: Transaction,
    used_sessions: Mapping[SessionId, datetime],
    used_tokens: Mapping[TokenId, datetime],
    seen: Mapping[AccountId, datetime],
) -> None:
    """See `AccountReader.note_use`."""
    tx.run_all(_USE_SESSION, [{"key": key, "last_used_at": at} for key, at in used_sessions.items()])
    tx.run_all(_USE_TOKEN, [{"key": key, "last_used_at": at} for key, at in used_tokens.items()])
    tx.run_all(_SEEN, [{"key": key, "last_seen_at": at} for key, at in seen.items()])


# --- queries ---------------------------------------------------------------------------------------------------------


def session_by(connection: Connection, secret: Sha256) -> tuple[Session, Account] | None:
    """See `AccountReader.session_by`."""
    row = prepared.one(connection, _SESSION, {"key": secret})
    return None if row is None else (session_of(row), account_of(_account_part(row)))


def token_by(connection: Connection, prefix: str) -> tuple[Token, Sha256, Account] | None:
    """See `AccountReader.token_by`."""
    row = prepared.one(connection, _TOKEN, {"key": prefix})
    return None if row is None else (token_of(row), Sha256(row["secret_sha256"]), account_of(_account_part(row)))


def account_by(connection: Connection, identity: Identity) -> Account | None:
    """See `AccountReader.account_by`."""
    row = prepared.one(connection, _IDENTIFIED, {"issuer": identity.issuer, "subject": identity.subject})
    return None if row is None else account_of(row)


def accounts_of(
    connection: Connection,
    session_ids: Collection[SessionId],
    token_ids: Collection[TokenId],
    account_ids: Collection[AccountId],
) -> Mapping[Credential, Account]:
    """See `AccountReader.accounts_of`."""
    found: dict[Credential, Account] = {}
    for account_id in account_ids:
        if (row := prepared.one(connection, _ACCOUNT, {"key": account_id})) is not None and row["issuer"] is not None:
            found[account_id] = account_of(row)
    for table, ids in ((sessions, session_ids), (tokens, token_ids)):
        query: Select[Any] = select(table.c.id, *_OF_ACCOUNT).join(accounts, accounts.c.id == table.c.account_id)
        wanted = list(ids)
        for first in range(0, len(wanted), SOME):
            rows = connection.execute(query.where(table.c.id.in_(wanted[first : first + SOME]))).mappings()
            found |= {row["id"]: account_of(_account_part(row)) for row in rows}
    return found


def list_accounts(connection: Connection) -> Sequence[Account]:
    """See `AccountLedger.accounts`."""
    return [account_of(row) for row in connection.execute(_ACCOUNTS).mappings()]


def get_account(connection: Connection, account_id: AccountId) -> Account:
    """See `AccountLedger.account`."""
    row = prepared.one(connection, _ACCOUNT, {"key": account_id})
    if row is None:
        raise NotFound("There is no such account.")
    return account_of(row)


def account_named(connection: Connection, name: str) -> Account | None:
    """See `AccountLedger.account_named`."""
    row = _named(connection, name)
    return None if row is None else account_of(row)


def has_accounts(connection: Connection) -> bool:
    """See `AccountLedger.has_accounts`."""
    return prepared.one(connection, _ANY_ACCOUNT, {}) is not None


def password_of(connection: Connection, name: str) -> tuple[Account, str] | None:
    """See `AccountLedger.password_of`."""
    row = _named(connection, name)
    return None if row is None or row["password_hash"] is None else (account_of(row), row["password_hash"])


def list_sessions(connection: Connection, account_id: AccountId) -> Sequence[Session]:
    """See `AccountLedger.sessions`."""
    return [session_of(row) for row in connection.execute(_SESSIONS, {"key": account_id}).mappings()]


def list_tokens(connection: Connection, account_id: AccountId | None) -> Sequence[Token]:
    """See `AccountLedger.tokens`."""
    query = _TOKENS if account_id is None else _TOKENS_OF
    return [token_of(row) for row in connection.execute(query, {"key": account_id}).mappings()]


def _named(connection: Connection, name: str) -> Row | None:
    # A name that no database can hold is nobody's; stored as escapes it might be somebody's.
    key = name_key(name)
    return prepared.one(connection, _NAMED, {"key": key}) if is_storable(key) else None


# --- rows ------------------------------------------------------------------------------------------------------------


def _account_part(row: Row) -> Row:
    return {column.name: row[f"account_{column.name}"] for column in accounts.c}


def account_of(row: Row) -> Account:
    """An account, without the hash of its password."""
    return Account(
        id=AccountId(row["id"]),
        name=row["name"],
        role=Role(row["role"]),
        created_at=row["created_at"],
        disabled_at=row["disabled_at"],
        removed_at=row["removed_at"],
        last_seen_at=row["last_seen_at"],
        has_password=row["password_hash"] is not None,
        identity=None if row["issuer"] is None else Identity(issuer=row["issuer"], subject=row["subject"]),
    )


def session_of(row: Row) -> Session:
    """A session, without the hash of its secret."""
    client = client_from_json(row["client"])
    assert client is not None  # noqa: S101  # the column is never NULL
    return Session(
        id=SessionId(row["id"]),
        account_id=AccountId(row["account_id"]),
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        expires_at=row["expires_at"],
        client=client,
    )


def pending_sign_in_of(row: Row) -> PendingSignIn:
    """A sign-in that has begun."""
    return PendingSignIn(
        state=Sha256(row["state_sha256"]),
        browser=Sha256(row["browser_sha256"]),
        network=row["network"],
        next=row["next"],
        expires_at=row["expires_at"],
    )


def token_of(row: Row) -> Token:
    """A token, without its hash."""
    return Token(
        id=TokenId(row["id"]),
        account_id=AccountId(row["account_id"]),
        name=row["name"],
        scopes=frozenset(Scope(scope) for scope in row["scopes"]),
        prefix=row["prefix"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"],
    )

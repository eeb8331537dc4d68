"""Accounts, sessions and tokens as clients get them. No secret is among the fields."""

from typing import TypedDict

from dropmill.model.accounts import Account, Session, Token
from dropmill.model.caller import Caller
from dropmill.model.quotas import Quota
from dropmill.text import time_text
from dropmill.wire.quotas import OwnLimitsJson, QuotaJson, own_limits_json, quota_json


class SignedInJson(TypedDict):
    """Who is signed in."""

    account: str | None
    id: str | None
    role: str
    expires_at: str | None


class AccountJson(TypedDict):
    """An account, for those who administer them."""

    id: str
    name: str
    role: str
    created_at: str
    disabled_at: str | None
    removed_at: str | None
    last_seen_at: str | None
    own_limits: OwnLimitsJson
    quota: QuotaJson


class SessionJson(TypedDict):
    """A browser that is signed in."""

    id: str
    created_at: str
    last_used_at: str
    expires_at: str
    client: str
    user_agent: str | None
    is_current: bool


class TokenJson(TypedDict):
    """A token, without the secret."""

    id: str
    name: str | None
    scopes: list[str]
    prefix: str
    created_at: str
    expires_at: str | None
    last_used_at: str | None


def signed_in_json(caller: Caller) -> SignedInJson:
    """Who is signed in; on a server that is open to all, nobody."""
    return {
        "account": caller.account,
        "id": caller.account_id,
        "role": caller.role.value,
        "expires_at": time_text(caller.expires_at),
    }


def account_json(account: Account, quota: Quota) -> AccountJson:
    """An account."""
    return {
        "id": account.id,
        "name": account.name,
        "role": account.role.value,
        "created_at": time_text(account.created_at),
        "disabled_at": time_text(account.disabled_at),
        "removed_at": time_text(account.removed_at),
        "last_seen_at": time_text(account.last_seen_at),
        "own_limits": own_limits_json(quota),
        "quota": quota_json(quota),
    }


def session_json(session: Session, caller: Caller) -> SessionJson:
    """A session of the caller's account."""
    return {
        "id": session.id,
        "created_at": time_text(session.created_at),
        "last_used_at": time_text(session.last_used_at),
        "expires_at": time_text(session.expires_at),
        "client": session.client.ip,
        "user_agent": session.client.user_agent,
        "is_current": session.id == caller.session_id,
    }


def token_json(token: Token) -> TokenJson:
    """A token."""
    return {
        "id": token.id,
        "name": token.name,
        "scopes": sorted(scope.value for scope in token.scopes),
        "prefix": token.prefix,
        "created_at": time_text(token.created_at),
        "expires_at": time_text(token.expires_at),
        "last_used_at": time_text(token.last_used_at),
    }

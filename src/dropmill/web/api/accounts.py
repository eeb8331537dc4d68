"""Accounts, for those who administer them."""

from typing import Any

from quart import Blueprint, Response, request

from dropmill.model.accounts import Account
from dropmill.model.caller import Role
from dropmill.model.errors import BadRequest
from dropmill.model.ids import AccountId
from dropmill.web.api.sessions import BODY_MAX, words
from dropmill.web.server import body
from dropmill.web.server.caller import current_caller
from dropmill.web.server.guard import require_private
from dropmill.web.services import services
from dropmill.wire.accounts import AccountJson, account_json
from dropmill.wire.encoding import Json
from dropmill.wire.quotas import limit_change_of

accounts = Blueprint("accounts", __name__, url_prefix="/api/v1/accounts")


@accounts.get("")
async def index() -> Any:
    """All accounts, the newest first; also those that were removed."""
    found, caller = services(), current_caller()
    listed = await found.accounts.list(caller)
    quotas = await found.quotas.of_accounts(caller, listed)
    return {"items": [account_json(account, quotas[account.id]) for account in listed]}


@accounts.post("")
async def add() -> Any:
    """Add an account."""
    require_private(request, services().settings)
    given = await body.read_json_object(limit=BODY_MAX)
    name, password = words(given, "name", "password")
    role = _role(given)
    if role is None:
        raise BadRequest(f"`role` must be one of {', '.join(Role)}.")
    return await _shown(await services().accounts.add(current_caller(), name, role, password)), 201


@accounts.patch("/<account_id>")
async def change(account_id: str) -> Any:
    """Change the role, the password or the limits of an account, or whether it is disabled."""
    given = await body.read_json_object(limit=BODY_MAX)
    limits = limit_change_of(given["limits"]) if "limits" in given else None
    is_disabled, password = given.get("is_disabled"), given.get("password")
    if not (is_disabled is None or isinstance(is_disabled, bool)):
        raise BadRequest("`is_disabled` must be true or false.")
    if password is not None:
        require_private(request, services().settings)
        (password,) = words(given, "password")
    changed = await services().accounts.change(
        current_caller(),
        AccountId(account_id),
        role=_role(given),
        is_disabled=is_disabled,
        password=password,
        limits=limits,
    )
    if limits is not None:
        services().jobs.wake()
    return await _shown(changed)


@accounts.delete("/<account_id>")
async def remove(account_id: str) -> Response:
    """Remove an account with its sessions and tokens."""
    await services().accounts.remove(current_caller(), AccountId(account_id))
    return Response(status=204)


async def _shown(account: Account) -> AccountJson:
    quotas = await services().quotas.of_accounts(current_caller(), [account])
    return account_json(account, quotas[account.id])


def _role(given: Json) -> Role | None:
    role = given.get("role")
    if role is not None and role not in list(Role):
        raise BadRequest(f"`role` must be one of {', '.join(Role)}.")
    return None if role is None else Role(role)

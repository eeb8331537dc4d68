"""One's own tokens."""

from typing import Any

from quart import Blueprint, Response

from dropmill.model.caller import Scope
from dropmill.model.errors import BadRequest
from dropmill.model.ids import TokenId
from dropmill.web.server import body
from dropmill.web.server.caller import current_caller
from dropmill.web.services import services
from dropmill.wire.accounts import token_json
from dropmill.wire.encoding import Json

tokens = Blueprint("tokens", __name__, url_prefix="/api/v1/tokens")

BODY_MAX = 16 * 1024


@tokens.get("")
async def index() -> Any:
    """The account's tokens, the newest first."""
    return {"items": [token_json(token) for token in await services().tokens.list(current_caller())]}


@tokens.post("")
async def make() -> Any:
    """Make a token; this answer is the only one that has it."""
    given = await body.read_json_object(limit=BODY_MAX)
    name, expires_in = given.get("name"), given.get("expires_in")
    if not (name is None or isinstance(name, str)):
        raise BadRequest("`name` must be a text.")
    if expires_in is not None and (not isinstance(expires_in, int | float) or isinstance(expires_in, bool)):
        raise BadRequest("`expires_in` must be a number of seconds, or null.")
    token, secret = await services().tokens.make(
        current_caller(), scopes=_scopes(given), expires_in_s=expires_in, name=name
    )
    return {"id": token.id, "token": secret}, 201


@tokens.delete("/<token_id>")
async def revoke(token_id: str) -> Response:
    """Revoke one of the account's tokens."""
    await services().tokens.revoke(current_caller(), TokenId(token_id))
    return Response(status=204)


def _scopes(given: Json) -> list[Scope] | None:
    scopes = given.get("scopes")
    if scopes is None:
        return None
    try:
        return [Scope(scope) for scope in scopes]
    except (TypeError, ValueError):
        raise BadRequest(f"`scopes` must be a list of {', '.join(Scope)}.") from None

"""One's own quota."""

from typing import Any

from quart import Blueprint

from dropmill.web.server.caller import current_caller
from dropmill.web.services import services
from dropmill.wire.quotas import quota_json

quotas = Blueprint("quotas", __name__, url_prefix="/api/v1")


@quotas.get("/quota")
async def own() -> Any:
    """What whoever asks may have, and has."""
    return quota_json(await services().quotas.own(current_caller()))

"""Is it alive, may it be sent to."""

from typing import Any

from quart import Blueprint

from dropmill.web.services import services

ops = Blueprint("ops", __name__)


@ops.get("/healthz")
async def healthz() -> Any:
    """The event loop answers."""
    return {"ok": True}


@ops.get("/readyz")
async def readyz() -> Any:
    """The ledger answers too, and the server is not stopping."""
    await services().ledger.newest_cursor()
    return {"ok": True}

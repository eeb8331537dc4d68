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
    """The ledger answers too, and the server is not stopping.

    `config_problem` says how the config file on disk differs from the newest revision, which is what scripts get.
    """
    await services().ledger.newest_cursor()
    problem = services().config.problem
    return {"ok": True, "config_problem": None if problem is None else problem.sentence}

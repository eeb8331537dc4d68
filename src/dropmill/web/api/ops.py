"""Probes: whether the server is alive, and whether it is ready for requests."""

from typing import Any

from quart import Blueprint

from dropmill.access.policy import Action
from dropmill.model.errors import OutOfSpace, Unavailable
from dropmill.web.server.caller import caller_if_known
from dropmill.web.services import Services, services

ops = Blueprint("ops", __name__)


@ops.get("/healthz")
async def healthz() -> Any:
    """Alive: the event loop answers."""
    return {"ok": True}


@ops.get("/readyz")
async def readyz() -> Any:
    """Ready: the ledger answers too, and the server is not stopping.

    `degraded` names the parts that fail now and are being retried; the log has the reasons. `config_problem` says how
    the config file on disk differs from the newest revision, which is the one that scripts use; it quotes the config,
    so it is only for who may see how the server is set up.
    """
    found, caller = services(), caller_if_known()
    if found.is_draining:
        raise Unavailable("The server is stopping.")
    if found.membership is not None and not found.membership.has_lease:
        raise Unavailable("This server could not renew its lease, so others may take its work over.")
    try:
        await found.topics.require_answer()
    except (OutOfSpace, Unavailable) as error:
        error.extra = {**error.extra, "degraded": found.health.degraded}
        raise
    sees_server = caller is not None and found.policy.may(caller, Action.SEE_SERVER)
    problem = found.config.problem(caller) if caller is not None and sees_server else None
    return {
        "ok": True,
        "degraded": sorted({*found.health.degraded, *await _room(found)}),
        "config_problem": None if problem is None else problem.sentence,
    }


async def _room(found: Services) -> tuple[str, ...]:
    """The parts that refuse uploads because of the disk, although nothing has failed yet."""
    try:
        return () if await found.blobs.free_bytes() >= found.settings.min_free else ("disk_space",)
    except (OutOfSpace, Unavailable):
        return ("file_store",)

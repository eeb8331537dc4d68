"""Jobs over HTTP: read, list, cancel and retry them, and read their output."""

from collections.abc import AsyncIterator
from typing import Any

from quart import Blueprint, Response

from dropmill.model.errors import Removed
from dropmill.model.ids import JobId, SubmissionId
from dropmill.model.output import OutputChunk
from dropmill.web.api import query
from dropmill.web.server.caller import current_caller
from dropmill.web.server.guard import EXACT
from dropmill.web.services import services

jobs = Blueprint("jobs", __name__, url_prefix="/api/v1/jobs")

PIECE_BYTES = 256 * 1024


@jobs.get("")
async def index() -> Any:
    """Jobs, newest first."""
    submission_id = query.text("submission")
    items, following = await services().views.jobs(
        current_caller(),
        before=query.text("before"),
        limit=query.limit(),
        state=query.text("state"),
        text=query.text("q"),
        submission_id=None if submission_id is None else SubmissionId(submission_id),
    )
    return {"items": items, "next": following}


@jobs.get("/<job_id>")
async def read(job_id: str) -> Any:
    """One job with its attempts."""
    return await services().views.job(current_caller(), JobId(job_id))


@jobs.post("/<job_id>/cancel")
async def cancel(job_id: str) -> Any:
    """Cancel a job."""
    await services().jobs.cancel(current_caller(), JobId(job_id))
    return await services().views.job(current_caller(), JobId(job_id)), 202


@jobs.post("/<job_id>/retry")
async def retry(job_id: str) -> Any:
    """Requeue a settled job, with the newest config."""
    await services().jobs.retry(current_caller(), JobId(job_id))
    return await services().views.job(current_caller(), JobId(job_id)), 202


@jobs.get("/<job_id>/output")
async def output(job_id: str) -> Response:
    """The output of an attempt from a byte offset on, as far as it exists now.

    The answer ends where bytes were not kept. A request from that offset returns what follows; `Dropmill-Offset` is
    where it begins.
    """
    caller = current_caller()
    reader = await services().topics.output(caller, JobId(job_id), query.number("attempt"))
    start = query.number("from") or 0
    headers = {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": EXACT,  # offsets count the original bytes
        "Dropmill-Offset": str(start),
    }
    first = await reader.read(start, PIECE_BYTES)
    if first is None:
        return Response(b"", headers=headers)
    if not first.data and reader.job.state.is_final:
        file = await services().views.file(caller, reader.job.file_id)
        if file.removed_at is not None:
            raise Removed("The output is no longer kept on this server.")
    headers["Dropmill-Offset"] = str(first.offset)

    async def pieces() -> AsyncIterator[bytes]:
        piece: OutputChunk | None = first
        while piece is not None and piece.data:
            yield piece.data
            end = piece.offset + len(piece.data)
            piece = await reader.read(end, PIECE_BYTES)
            if piece is None or piece.offset != end:
                return

    return Response(pieces(), headers=headers)

"""Submissions over HTTP: send, read, list, seal."""

from typing import Any

from quart import Blueprint, Response, jsonify, redirect, request, url_for

from dropmill.intake.receiving import Receipt
from dropmill.model.errors import BadRequest, DropmillError, NothingSent
from dropmill.model.ids import SubmissionId
from dropmill.model.uploads import AbortCause
from dropmill.web.api import query
from dropmill.web.server import body
from dropmill.web.server.caller import current_caller
from dropmill.web.server.guard import wants_html
from dropmill.web.server.headers import refuse_digests, refuse_resumable
from dropmill.web.services import services
from dropmill.wire.submissions import SubmissionJson

submissions = Blueprint("submissions", __name__, url_prefix="/api/v1/submissions")

KEY_MAX = 200  # characters of an Idempotency-Key


async def describe_submission(submission_id: str) -> SubmissionJson:
    """A Submission with its first files, as `GET /submissions/{id}` answers it.

    Raises:
        NotFound: there is none.
    """
    shape, _ = await services().views.submission(current_caller(), SubmissionId(submission_id))
    return shape


def idempotency_key() -> str | None:
    """The key that a repeat of this request has too; None without the header.

    Raises:
        BadRequest: it is too long, or not printable.
    """
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= KEY_MAX and key.isprintable()):
        raise BadRequest(f"Idempotency-Key must be 1 to {KEY_MAX} printable characters.")
    return key


async def created(receipt: Receipt) -> Response:
    """The answer to stored files: their submission, or for a browser's form a redirect to its page."""
    if receipt.submission_id is None:
        raise NothingSent("Nothing was sent.")
    if receipt.view is not None and not wants_html():
        return _answer(services().views.new_submission(current_caller(), receipt.view))
    return await _created(receipt.submission_id)


async def _created(submission_id: SubmissionId) -> Response:
    if wants_html():
        page = redirect(url_for("pages.submission", submission_id=submission_id), 303)
        return Response(await page.get_data(), status=303, headers=page.headers)  # type: ignore[misc]
    return _answer(await describe_submission(submission_id))


def _answer(shape: SubmissionJson) -> Response:
    response: Response = jsonify(shape)
    response.status_code = 201
    response.headers["Location"] = url_for("submissions.read", submission_id=shape["id"])
    return response


@submissions.post("")
async def create() -> Response:
    """Store the files of a form, or open a submission for announced files."""
    if request.mimetype == "application/json":
        announced = await body.read_json_object()
        found, caller = services(), current_caller()
        files = found.uploads.check_announcement(caller, announced.get("files"))
        key = idempotency_key()
        if files and key is None:  # a repeat brings nothing new
            await found.intake.require_quota(caller, sum(file.size or 0 for file in files))
        submission_id, is_new = await found.intake.open(caller, idempotency_key=key, announced=files)
        if is_new:
            try:
                await found.uploads.announce(caller, submission_id, announced.get("files"))
            except DropmillError:  # it stays empty, and nobody knows its id
                await found.intake.seal(caller, submission_id, AbortCause.REFUSED)
                raise
        return await _created(submission_id)
    _check_form_headers()
    receipt = await services().intake.receive_multipart(
        current_caller(),
        body.chunks(),
        request.headers.get("Content-Type", ""),
        size=request.content_length,
        idempotency_key=idempotency_key(),
    )
    return await created(receipt)


@submissions.post("/<submission_id>/files")
async def add_files(submission_id: str) -> Response:
    """Add the files of a form to an open submission; `?seal=1` seals it when the body ends, however it ends."""
    if request.mimetype == "application/json":
        announced = await body.read_json_object()
        await services().uploads.announce(current_caller(), SubmissionId(submission_id), announced.get("files"))
        return await _created(SubmissionId(submission_id))
    _check_form_headers()
    receipt = await services().intake.receive_multipart(
        current_caller(),
        body.chunks(),
        request.headers.get("Content-Type", ""),
        submission_id=SubmissionId(submission_id),
        then_seal=query.text("seal") == "1",
        size=request.content_length,
    )
    return await created(receipt)


def _check_form_headers() -> None:
    refuse_resumable(request.headers, request.content_length)
    refuse_digests(
        request.headers,
        why="is not supported for forms: files are processed as they arrive; send each by PUT to /send, or by tus.",
    )


@submissions.post("/<submission_id>/seal")
async def seal(submission_id: str) -> Any:
    """Seal a submission: no more files will come."""
    await services().intake.seal(current_caller(), SubmissionId(submission_id))
    return await describe_submission(submission_id)


@submissions.post("/<submission_id>/retry")
async def retry(submission_id: str) -> Any:
    """Requeue the failed and cancelled jobs, with the newest config."""
    await services().jobs.retry_submission(current_caller(), SubmissionId(submission_id))
    return await describe_submission(submission_id), 202


@submissions.post("/<submission_id>/cancel")
async def cancel(submission_id: str) -> Any:
    """Cancel the queued and running jobs."""
    await services().jobs.cancel_submission(current_caller(), SubmissionId(submission_id))
    return await describe_submission(submission_id), 202


@submissions.get("/<submission_id>")
async def read(submission_id: str) -> Any:
    """One submission with its first files."""
    return await describe_submission(submission_id)


@submissions.get("/<submission_id>/files")
async def files(submission_id: str) -> Any:
    """A submission's files, in their order."""
    items, following = await services().views.files(
        current_caller(),
        SubmissionId(submission_id),
        after=query.text("before"),
        limit=query.limit(),
        state=query.text("state"),
    )
    return {"items": items, "next": following}


@submissions.get("")
async def index() -> Any:
    """Submissions, newest first."""
    items, following = await services().views.submissions(
        current_caller(),
        before=query.text("before"),
        limit=query.limit(),
        state=query.text("state"),
        text=query.text("q"),
    )
    return {"items": items, "next": following}

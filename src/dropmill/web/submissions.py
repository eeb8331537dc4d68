"""Submissions over HTTP: send, read, list, seal."""

from typing import Any

from quart import Blueprint, Response, jsonify, redirect, request, url_for

from dropmill.identity.network import identify
from dropmill.live.messages import Json, submission_json
from dropmill.model.errors import BadRequest, NotFound
from dropmill.model.ids import SubmissionId
from dropmill.model.records import ClientIdentity
from dropmill.web import body, query
from dropmill.web.guard import wants_html
from dropmill.web.services import Services, services

submissions = Blueprint("submissions", __name__, url_prefix="/api/v1/submissions")


def client_of_request() -> ClientIdentity:
    """Who sends this request, as far as the network tells."""
    return identify(request.remote_addr, request.headers.get("User-Agent"))


async def describe_submission(found: Services, submission_id: str) -> Json:
    """A Submission with its first files, as `GET /submissions/{id}` answers it.

    Raises:
        NotFound: there is none.
    """
    shape, _ = await found.views.submission(SubmissionId(submission_id))
    return shape


async def _created(submission_id: SubmissionId) -> Response:
    if wants_html():
        page = redirect(url_for("pages.submission", submission_id=submission_id), 303)
        return Response(await page.get_data(), status=303, headers=page.headers)  # type: ignore[misc]
    response: Response = jsonify(await describe_submission(services(), submission_id))
    response.status_code = 201
    response.headers["Location"] = url_for("submissions.read", submission_id=submission_id)
    return response


@submissions.post("")
async def create() -> Response:
    """Take the files of a form, or open a submission for files to come."""
    if request.mimetype == "application/json":
        announced = await body.read_json_object()
        if announced.get("files") != []:
            raise BadRequest('Send {"files": []}; announcing files by name is not offered yet.')
        return await _created(await services().intake.open(client_of_request()))
    receipt = await services().intake.receive_multipart(
        aiter(request.body), request.headers.get("Content-Type", ""), client=client_of_request()
    )
    return await _created(_required(receipt.submission_id))


@submissions.post("/<submission_id>/files")
async def add_files(submission_id: str) -> Response:
    """Add the files of a form to an open submission; `?seal=1` seals it when the body ends, however it ends."""
    await services().ledger.view_submission(SubmissionId(submission_id), limit=1)
    receipt = await services().intake.receive_multipart(
        aiter(request.body),
        request.headers.get("Content-Type", ""),
        client=client_of_request(),
        submission_id=SubmissionId(submission_id),
        then_seal=query.text("seal") == "1",
    )
    return await _created(_required(receipt.submission_id))


@submissions.post("/<submission_id>/seal")
async def seal(submission_id: str) -> Any:
    """No more files will come."""
    await services().intake.seal(SubmissionId(submission_id))
    return await describe_submission(services(), submission_id)


@submissions.get("/<submission_id>")
async def read(submission_id: str) -> Any:
    """One submission with its first files."""
    return await describe_submission(services(), submission_id)


@submissions.get("/<submission_id>/files")
async def files(submission_id: str) -> Any:
    """A submission's files, in their order."""
    items, following = await services().views.files(
        SubmissionId(submission_id), after=query.text("before"), limit=query.limit(), state=query.text("state")
    )
    return {"items": items, "next": following}


@submissions.get("")
async def index() -> Any:
    """Submissions, newest first."""
    page = await services().ledger.submissions(
        before=query.text("before"), limit=query.limit(), state=query.text("state"), text=query.text("q")
    )
    return {"items": [submission_json(item) for item in page.items], "next": page.next}


def _required(submission_id: SubmissionId | None) -> SubmissionId:
    if submission_id is None:
        raise NotFound("Nothing was sent.")
    return submission_id

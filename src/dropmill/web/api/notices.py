"""Notices: an operator's messages to everybody, to those who follow one submission, or to one account."""

from collections.abc import Mapping
from typing import Any

from quart import Blueprint, Response

from dropmill.model.errors import BadRequest
from dropmill.model.ids import AccountId, NoticeId, SubmissionId
from dropmill.model.notices import EXPIRES_S
from dropmill.web.server import body
from dropmill.web.server.caller import current_caller
from dropmill.web.services import services
from dropmill.wire.notices import notice_json

notices = Blueprint("notices", __name__, url_prefix="/api/v1/notices")

BODY_MAX = 64 * 1024


@notices.post("")
async def post() -> Any:
    """Post a notice."""
    given = await body.read_json_object(limit=BODY_MAX)
    text = given.get("text")
    submission_id, account_id, account = (_id(given, name) for name in ("submission_id", "account_id", "account"))
    expires_in = given.get("expires_in", EXPIRES_S)
    if not isinstance(text, str):
        raise BadRequest("`text` must be the notice's text.")
    if not isinstance(expires_in, int | float) or isinstance(expires_in, bool):
        raise BadRequest("`expires_in` must be a number of seconds.")
    posted = await services().notices.post(
        current_caller(),
        text,
        submission_id=None if submission_id is None else SubmissionId(submission_id),
        account_id=None if account_id is None else AccountId(account_id),
        account_name=account,
        expires_in_s=expires_in,
    )
    return notice_json(posted), 201


def _id(given: Mapping[str, Any], name: str) -> str | None:
    found = given.get(name)
    if not (found is None or isinstance(found, str)):
        raise BadRequest(f"`{name}` must be a text.")
    return found


@notices.get("")
async def standing() -> Any:
    """The notices that have neither expired nor been withdrawn, the oldest first."""
    return {"items": [notice_json(notice) for notice in await services().notices.standing(current_caller())]}


@notices.delete("/<notice_id>")
async def withdraw(notice_id: str) -> Response:
    """Take a notice off every page."""
    await services().notices.withdraw(current_caller(), NoticeId(notice_id))
    return Response(status=204)

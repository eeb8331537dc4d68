"""Requests that are sent again under the same `Idempotency-Key`."""

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable

from dropmill.intake.multipart import PartBegins, PartEnds, PartEvent
from dropmill.model.errors import IdempotencyMismatch
from dropmill.model.ids import SubmissionId
from dropmill.model.uploads import File
from dropmill.ports.ledger.history import SubmissionReader
from dropmill.ports.ledger.submissions import RequestKey

COMPARED_MAX = 1000  # files of the first request that are read at once, to be compared with a repeat's


class Repeated(Exception):
    """The request's key was seen before.

    Attributes:
        submission_id: the first request's.
    """

    def __init__(self, submission_id: SubmissionId) -> None:
        super().__init__(submission_id)
        self.submission_id = submission_id


def request_key(text: str | None, *said: object) -> RequestKey | None:
    """The key of a request.

    Args:
        text: what the client gave; None if it gave none, and then there is no key.
        said: the route, and what the request says of itself before its body is read; JSON-able.
    """
    if text is None:
        return None
    fingerprint = hashlib.sha256(json.dumps(said).encode()).hexdigest()
    return RequestKey(text=text, fingerprint=fingerprint)


async def compare(
    ledger: SubmissionReader,
    first: SubmissionId,
    part: PartBegins,
    parts: AsyncIterator[PartEvent],
    *,
    size: int | None,
) -> None:
    """Return if a repeat brings the files of the first request: as many, of the same names and sizes, in order.

    Only its body says which files a form holds, so the body is read to its end. A file of the first request that was
    cut off has no size to compare. Bytes are not compared.

    Args:
        ledger: has the first request's files.
        first: the first request's submission.
        part: the first part of the repeat; its headers were read.
        parts: the rest of the repeat.
        size: of the repeat's only file, if it is known beforehand; then nothing is read.

    Raises:
        IdempotencyMismatch: it brings other files.
    """
    files = _files_of(ledger, first)
    arrived, expected = 0, await _size_of(anext(files, None), part, first)
    if size is not None:
        if expected not in (None, size):
            raise _mismatch(first)
        return
    async for event in parts:
        if isinstance(event, PartBegins):
            arrived, expected = 0, await _size_of(anext(files, None), event, first)
        elif isinstance(event, PartEnds):
            if expected not in (None, arrived):
                raise _mismatch(first)
        elif isinstance(event, bytes):
            arrived += len(event)
            if expected is not None and arrived > expected:
                raise _mismatch(first)  # at once, because the rest may have no end
    if await anext(files, None) is not None:
        raise _mismatch(first)


async def _files_of(ledger: SubmissionReader, submission_id: SubmissionId) -> AsyncGenerator[File, None]:
    after: str | None = None
    while True:
        view = await ledger.view_submission(submission_id, after=after, limit=COMPARED_MAX)
        for file in view.files:
            yield file
        after = view.files_next
        if after is None:
            return


async def _size_of(known: Awaitable[File | None], part: PartBegins, first: SubmissionId) -> int | None:
    """The size that a repeat's part must have; None if the first request's file was cut off.

    Raises:
        IdempotencyMismatch: the first request had no further file, or one of another path.
    """
    file = await known
    if file is None or file.path != part.path:
        raise _mismatch(first)
    return file.size if file.sha256 is not None else None


def _mismatch(first: SubmissionId) -> IdempotencyMismatch:
    return IdempotencyMismatch(
        "This Idempotency-Key came with other files before, or with these and was cut off; "
        "send what the first submission lacks with a key of its own.",
        submission=first,
    )

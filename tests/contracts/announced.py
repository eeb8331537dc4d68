"""Uploads that are announced first, for the contract tests of ledgers."""

from dataclasses import replace
from datetime import UTC, datetime

from tests.support.scenarios import CLIENT, blob

from dropmill.model.ids import Fingerprint, Sha256, SubmissionId, new_file_id, new_job_id, new_submission_id
from dropmill.model.uploads import UploadState
from dropmill.ports.ledger import Ledger
from dropmill.ports.ledger.uploads import ResumableUpload

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
TOMORROW = datetime(2100, 1, 1, tzinfo=UTC)


def upload_to(submission_id: SubmissionId, path: str = "folder/a.txt", size: int | None = 8) -> ResumableUpload:
    """An upload that has not been told to the ledger yet."""
    file_id = new_file_id()
    return ResumableUpload(
        file_id=file_id,
        submission_id=submission_id,
        name=path.rpartition("/")[2],
        path=path,
        state=UploadState.ANNOUNCED,
        size=size,
        received=0,
        partial=file_id + ".txt",
        metadata="filename YS50eHQ=",
        expected_sha256=Sha256("0" * 64),
        expires_at=TOMORROW,
        ip=CLIENT.ip,
        account=None,
        fingerprint=Fingerprint("f" * 64),
    )


async def announced(
    ledger: Ledger, submission_id: SubmissionId, path: str = "folder/a.txt", size: int | None = 8
) -> ResumableUpload:
    upload = upload_to(submission_id, path, size)
    await ledger.announce_uploads([upload])
    return upload


async def opened(ledger: Ledger) -> SubmissionId:
    """An open submission that waits for files to come."""
    submission_id = new_submission_id()
    await ledger.open_submission(submission_id, CLIENT, None, is_announced=True)
    return submission_id


async def stored(ledger: Ledger, upload: ResumableUpload) -> None:
    fence = await ledger.take_upload(upload.file_id)
    await ledger.store_upload(upload.file_id, replace(blob(), key=upload.partial or ""), new_job_id(), fence=fence)


# --- from announcement to end ----------------------------------------------------------------------------------------

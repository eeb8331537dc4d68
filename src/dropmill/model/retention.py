"""Bytes that the server removes to keep the disk free."""

from dataclasses import dataclass

from dropmill.model.ids import JobId, SubmissionId


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptBytes:
    """Everything on disk that belongs to one submission and is to be removed.

    Attributes:
        blobs: keys in the blob store: files and results.
        attempts: job and number of each attempt; they name its output.
    """

    submission_id: SubmissionId
    blobs: tuple[str, ...]
    attempts: tuple[tuple[JobId, int], ...]

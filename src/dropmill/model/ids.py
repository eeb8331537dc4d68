"""Identifiers: opaque, URL-safe, random.

Each kind has its own `NewType`, so that a job id cannot pass for a file id.
"""

import secrets
from typing import NewType

SubmissionId = NewType("SubmissionId", str)
FileId = NewType("FileId", str)
JobId = NewType("JobId", str)
LinkId = NewType("LinkId", str)
NodeId = NewType("NodeId", str)
ClaimId = NewType("ClaimId", str)

Owner = NewType("Owner", str)
"""Whose a submission and all of its files, jobs and events are. Made of ids, never of names.

`account:<id>`, `browser:<hash>`, `link:<id>:<hash of the browser>` (a link has many senders), or `OPEN`.
"""

OPEN = Owner("open")
"""The owner of what was sent to a server that asks nobody who they are."""

Sha256 = NewType("Sha256", str)
"""A SHA-256 in lower-case hexadecimal, 64 characters."""

BrowserKey = NewType("BrowserKey", str)
"""The SHA-256 of the secret in a browser's cookie, by which that browser is known again."""

Cursor = NewType("Cursor", int)
"""An event's place in the ledger: 1, 2, 3, ... without a hole. 0 stands before the first event."""

ID_BYTES = 16  # 128 random bits: not to be guessed, and a collision needs some 2**64 of them


def _random_id() -> str:
    # Hexadecimal rather than base64: never begins with "-", never differs by case alone on disk.
    return secrets.token_hex(ID_BYTES)


def new_submission_id() -> SubmissionId:
    """A fresh submission id."""
    return SubmissionId(_random_id())


def new_file_id() -> FileId:
    """A fresh file id."""
    return FileId(_random_id())


def new_job_id() -> JobId:
    """A fresh job id."""
    return JobId(_random_id())


def new_node_id() -> NodeId:
    """A fresh node id, one for each start of a process: none is ever used again."""
    return NodeId(_random_id())


def new_claim_id() -> ClaimId:
    """A fresh id of a claim."""
    return ClaimId(_random_id())

"""Identifiers: opaque, URL-safe, random.

Each kind has its own `NewType`, so that a job id cannot pass for a file id.
"""

import os
from typing import NewType

SubmissionId = NewType("SubmissionId", str)
FileId = NewType("FileId", str)
JobId = NewType("JobId", str)
LinkId = NewType("LinkId", str)
NodeId = NewType("NodeId", str)
ClaimId = NewType("ClaimId", str)
LedgerId = NewType("LedgerId", str)
NoticeId = NewType("NoticeId", str)
AccountId = NewType("AccountId", str)
SessionId = NewType("SessionId", str)
TokenId = NewType("TokenId", str)
VisitId = NewType("VisitId", str)

Owner = NewType("Owner", str)
"""The owner of a submission and of all its files, jobs and events. Made of ids, never of names.

`account:<id>`, `browser:<hash>`, or `OPEN`. Somebody who has followed a link owns nothing: `link:<id>:<hash of the
browser>` is who sent a submission, and `submission:<id>` who sees that one alone. See `dropmill.model.links`.
"""

OPEN = Owner("open")
"""The owner of everything that was sent to a server without accounts."""

Sha256 = NewType("Sha256", str)
"""A SHA-256 in lower-case hexadecimal, 64 characters."""

Fingerprint = NewType("Fingerprint", str)
"""What a client computes of a file's size, beginning and end, to know the file again; in the form of a `Sha256`."""

BrowserKey = NewType("BrowserKey", str)
"""The SHA-256 of the secret in a browser's cookie, which identifies that browser."""

Cursor = NewType("Cursor", int)
"""An event's position in the ledger: 1, 2, 3, ... without a gap. 0 is before the first event."""

ID_BYTES = 16  # 128 random bits cannot be guessed, and a collision needs some 2**64 ids


AT_ONCE = 64
"""Ids that are made of one read of the system's random numbers. A read gives up the interpreter lock, and a small
upload makes five ids: with other threads at work, single reads took it 0.25 ms."""

_ready: list[str] = []  # ids that nobody has yet; `pop` and `extend` are atomic
os.register_at_fork(after_in_child=_ready.clear)  # else parent and child would give out the same


def _random_id() -> str:
    try:
        return _ready.pop()
    except IndexError:
        # Hexadecimal, not base64: an id never begins with "-", and no two differ by case alone on disk.
        digits = os.urandom(ID_BYTES * AT_ONCE).hex()
        made = [digits[begin : begin + 2 * ID_BYTES] for begin in range(0, len(digits), 2 * ID_BYTES)]
        _ready.extend(made[1:])
        return made[0]


def new_submission_id() -> SubmissionId:
    """A new submission id."""
    return SubmissionId(_random_id())


def new_file_id() -> FileId:
    """A new file id."""
    return FileId(_random_id())


def new_job_id() -> JobId:
    """A new job id."""
    return JobId(_random_id())


def new_node_id() -> NodeId:
    """A new node id, one for each start of a process; none is ever reused."""
    return NodeId(_random_id())


def new_claim_id() -> ClaimId:
    """A new claim id."""
    return ClaimId(_random_id())


def new_notice_id() -> NoticeId:
    """A new notice id."""
    return NoticeId(_random_id())


def new_account_id() -> AccountId:
    """A new account id; none is ever reused, also not for the name of an account that was removed."""
    return AccountId(_random_id())


def new_session_id() -> SessionId:
    """A new session id. It names the session in lists; the secret in the cookie is another."""
    return SessionId(_random_id())


def new_token_id() -> TokenId:
    """A new token id. It names the token in lists; it is no part of the token."""
    return TokenId(_random_id())


def new_link_id() -> LinkId:
    """A new link id. It is part of the link's address; the secret in it is another."""
    return LinkId(_random_id())


def new_visit_id() -> VisitId:
    """A new visit id. It names the visit; the secret in the cookie is another."""
    return VisitId(_random_id())


WRITER_DIGITS = 12
"""Digits of a node's id in the keys of the blobs that it writes: enough that no two nodes share them."""


def new_blob_key(node: NodeId, extension: str = "") -> str:
    """A new key for a blob that a node writes: 32 hexadecimal digits, the last ones the node's, and an extension."""
    return _random_id()[: 2 * ID_BYTES - WRITER_DIGITS] + node[:WRITER_DIGITS] + extension


def writer_of(key: str) -> str:
    """The first `WRITER_DIGITS` digits of the id of the node that made a blob's key; any others for an older key."""
    return key[2 * ID_BYTES - WRITER_DIGITS : 2 * ID_BYTES]


def new_ledger_id() -> LedgerId:
    """A new ledger id; a cursor means nothing in a ledger with another one."""
    return LedgerId(_random_id())

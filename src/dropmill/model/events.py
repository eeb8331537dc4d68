"""The event catalogue: every name, what its `data` holds, what the event log says of it, which topics carry it.

An event is immutable and durable: the transaction that changes the state appends it, and gives it its cursor.
`docs/live.md` shows this table; a test holds the two equal.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from dropmill.model.client import ClientIdentity
from dropmill.model.ids import Cursor, FileId, JobId, Owner, SubmissionId


class EventName(StrEnum):
    """Every event there is."""

    CLIENT_IDENTIFIED = "client.identified"
    SUBMISSION_OPENED = "submission.opened"
    SUBMISSION_SEALED = "submission.sealed"
    SUBMISSION_SETTLED = "submission.settled"
    UPLOAD_STARTED = "upload.started"
    UPLOAD_STORED = "upload.stored"
    UPLOAD_ABORTED = "upload.aborted"
    JOB_QUEUED = "job.queued"
    JOB_CANCEL_REQUESTED = "job.cancel_requested"
    JOB_RETRY_REQUESTED = "job.retry_requested"
    JOB_SETTLED = "job.settled"
    ATTEMPT_STARTED = "attempt.started"
    ATTEMPT_SUCCEEDED = "attempt.succeeded"
    ATTEMPT_FAILED = "attempt.failed"
    ATTEMPT_CANCELLED = "attempt.cancelled"
    ATTEMPT_LOST = "attempt.lost"
    CONFIG_SAVED = "config.saved"
    CONFIG_REJECTED = "config.rejected"
    CONFIG_PURGED = "config.purged"
    NOTICE_POSTED = "notice.posted"
    NOTICE_WITHDRAWN = "notice.withdrawn"
    LINK_MADE = "link.made"
    LINK_USED = "link.used"
    LINK_REVOKED = "link.revoked"
    ACCOUNT_SIGNED_IN = "account.signed_in"
    ACCOUNT_SIGNED_OUT = "account.signed_out"
    ACCOUNT_REFUSED = "account.refused"
    ACCOUNT_CHANGED = "account.changed"


class SignInMethod(StrEnum):
    """How somebody signed in."""

    PASSWORD = "password"  # noqa: S105  # a word, no secret
    FIRST = "one_time_link"
    PROXY = "proxy"
    JWT = "jwt"
    OIDC = "oidc"


class SignOutReason(StrEnum):
    """Why a session ended."""

    SIGNED_OUT = "signed_out"
    ENDED = "ended"  # in the list of sessions
    REPLACED = "replaced"  # the same browser has signed in anew
    PASSWORD_CHANGED = "password_changed"  # noqa: S105  # a word, no secret


class RefusalReason(StrEnum):
    """Why somebody was refused. Whoever tries to sign in is not told which of the first three it was."""

    WRONG_PASSWORD = "wrong_password"  # noqa: S105  # a word, no secret
    UNKNOWN_NAME = "unknown_name"
    DISABLED = "disabled"
    WRONG_LINK = "wrong_one_time_link"
    THROTTLED = "throttled"  # too many sign-ins failed before
    WRONG_STATE = "wrong_state"  # of no sign-in that this browser has begun, or of one that expired or was answered
    PROVIDER_DENIED = "provider_denied"  # the identity provider let nobody in
    PROVIDER_FAILED = "provider_failed"  # its answer cannot be trusted, or there is none
    NAME_TAKEN = "name_taken"  # a provider, a proxy or another system vouches for somebody whose name an account has
    BAD_HEADER = "bad_proxy_header"  # what a trusted proxy says cannot be right: it is there twice, or no name
    BAD_CREDENTIALS = "bad_credentials"  # a cookie or a token that is nobody's, any more at least
    WRONG_PASSPHRASE = "wrong_passphrase"  # noqa: S105  # a word, no secret
    FORBIDDEN = "forbidden"  # a role or scope that does not suffice, also for a topic; or a page of another site


class ChangeOfAccount(StrEnum):
    """What `account.changed` says happened."""

    ADDED = "added"
    ROLE = "role"
    DISABLED = "disabled"
    ENABLED = "enabled"
    PASSWORD = "password"  # noqa: S105  # a word, no secret
    LIMITS = "limits"
    REMOVED = "removed"
    LINKED = "linked"  # to somebody whom a proxy or another system vouches for
    UNLINKED = "unlinked"
    TOKEN_MADE = "token_made"  # noqa: S105  # a word, no secret
    TOKEN_REVOKED = "token_revoked"  # noqa: S105  # a word, no secret


@dataclass(frozen=True, kw_only=True, slots=True)
class EventKind:
    """What all events of one name have in common.

    Attributes:
        message: a sentence for the event log; `{key}` is replaced by that value of `data`.
        keys: of `data`.
        state: of the subject after the event; None where `data` has it, or the subject has no state.
    """

    message: str
    keys: tuple[str, ...] = ()
    state: str | None = None


CATALOGUE: Mapping[EventName, EventKind] = {
    EventName.CLIENT_IDENTIFIED: EventKind(message="Client identified", keys=("host", "verified", "domain")),
    EventName.SUBMISSION_OPENED: EventKind(message="Submission opened", state="open"),
    EventName.SUBMISSION_SEALED: EventKind(message="No more files will come", keys=("counts",)),
    EventName.SUBMISSION_SETTLED: EventKind(message="Submission settled", keys=("number", "counts"), state="settled"),
    EventName.UPLOAD_STARTED: EventKind(message="Upload started", keys=("size", "path"), state="receiving"),
    EventName.UPLOAD_STORED: EventKind(message="Upload stored", keys=("size", "sha256"), state="stored"),
    EventName.UPLOAD_ABORTED: EventKind(message="Upload aborted: {reason}", keys=("cause", "reason"), state="aborted"),
    EventName.JOB_QUEUED: EventKind(message="Waiting for its turn ({reason})", keys=("reason",), state="queued"),
    EventName.JOB_CANCEL_REQUESTED: EventKind(message="Cancel requested, jobs: {count}", keys=("count",)),
    EventName.JOB_RETRY_REQUESTED: EventKind(message="Retry requested, jobs: {count}", keys=("count",)),
    EventName.JOB_SETTLED: EventKind(
        message="Job {state}",
        keys=("state", "exit_code", "error", "duration", "output_size", "result_count", "results"),
    ),
    EventName.ATTEMPT_STARTED: EventKind(
        message="Attempt started on {host}, config {config_revision:.12}",
        keys=("config_revision", "host"),
        state="running",
    ),
    EventName.ATTEMPT_SUCCEEDED: EventKind(
        message="Attempt succeeded", keys=("exit_code", "duration", "output_size"), state="succeeded"
    ),
    EventName.ATTEMPT_FAILED: EventKind(
        message="Attempt failed, exit code {exit_code}",
        keys=("exit_code", "error", "duration", "output_size"),
        state="failed",
    ),
    EventName.ATTEMPT_CANCELLED: EventKind(
        message="Attempt cancelled", keys=("exit_code", "duration", "output_size"), state="cancelled"
    ),
    EventName.ATTEMPT_LOST: EventKind(message="Attempt lost: its process vanished", state="lost"),
    EventName.CONFIG_SAVED: EventKind(message="Config saved", keys=("sha256", "size", "message")),
    EventName.CONFIG_REJECTED: EventKind(message="Config refused", keys=("errors",)),
    EventName.CONFIG_PURGED: EventKind(message="Config {sha256:.12} purged from the history", keys=("sha256",)),
    EventName.NOTICE_POSTED: EventKind(message="Notice: {text}", keys=("id", "text", "expires_at")),
    EventName.NOTICE_WITHDRAWN: EventKind(message="Notice withdrawn", keys=("id",)),
    EventName.LINK_MADE: EventKind(
        message="Link made ({kind}): {label}", keys=("link", "kind", "label", "submission", "expires_at", "by")
    ),
    EventName.LINK_USED: EventKind(
        message="Link entered ({kind}): {label}", keys=("link", "kind", "label", "said_name")
    ),
    EventName.LINK_REVOKED: EventKind(message="Link revoked ({kind}): {label}", keys=("link", "kind", "label", "by")),
    EventName.ACCOUNT_SIGNED_IN: EventKind(message="Signed in ({method})", keys=("method",)),
    EventName.ACCOUNT_SIGNED_OUT: EventKind(message="Signed out ({reason})", keys=("reason",)),
    EventName.ACCOUNT_REFUSED: EventKind(
        message="Refused ({reason}), times: {count}", keys=("reason", "count", "route")
    ),
    EventName.ACCOUNT_CHANGED: EventKind(
        message="Account changed: {change}, by {by}", keys=("change", "role", "token", "by")
    ),
}

DATA_KEYS: Mapping[EventName, tuple[str, ...]] = {name: kind.keys for name, kind in CATALOGUE.items()}
"""The keys of each event's `data`, always all present; a value may be None.

`size` bytes; `duration` seconds; `reason` of `job.queued` is `stored`, `retry` (someone asked), `retry_policy` (by
`--retry-exit-codes`) or `lost`; `reason` of `upload.aborted` is a sentence, and `cause` an `AbortCause` (events of
before schema 0011 have none); `counts` as in a Submission; `error` is `{"type", "message"}` or None; `number` counts
how often the submission has settled; `results` are the first `RESULTS_TOLD` of `result_count`, as `{"path", "size"}`.

`job.cancel_requested` and `job.retry_requested` say who asked: their client and account are not the sender's. They are
about one job, or without `subject.job_id` about `count` jobs of a submission; what becomes of each has its own events.

Of `account.*`: `method` is a `SignInMethod`, `reason` of `account.signed_out` a `SignOutReason` and of
`account.refused` a `RefusalReason`, `change` a `ChangeOfAccount`; `role` is the new one, for `added` and `role`;
`token` the prefix of the token that was made or revoked; `by` the name of the account that did it, None for the command
line. A refusal that goes on is recorded once in a while, `count` times, with the `route` that was first asked for, as
`dropmill.web.routes` names it. None of them is ever a secret.

Of `link.*`: `link` is its id, `kind` a `LinkKind`, `submission` the one that a result link shows, `name` who the
visitor said to be, None without, and `by` as above.
`link.used` is recorded once for each browser that enters; its client is that browser's.
"""

RESULTS_TOLD = 3  # results in one event: enough for a row of the page, and many events stay small


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What an event is about; None where it does not apply.

    Attributes:
        name: the client's name of the file.
        account: of the sender, of who asked (see `DATA_KEYS`), or, for `account.*`, the one that it is about.
        client: of the sender or of who asked, as known when the event happened.
    """

    submission_id: SubmissionId | None = None
    file_id: FileId | None = None
    job_id: JobId | None = None
    attempt: int | None = None
    name: str | None = None
    account: str | None = None
    client: ClientIdentity | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        owner: of the submission, or the account, that it is about; None if it is about neither. Decides who hears of
            it, and is not told.
    """

    cursor: Cursor
    at: datetime
    name: EventName
    subject: Subject
    data: Mapping[str, Any] = field(default_factory=dict)
    owner: Owner | None = None

    @property
    def topics(self) -> tuple[str, ...]:
        """Every topic that carries this event."""
        return topics_of(self.name, self.subject, self.owner)


TOPIC_ALL = "all"
TOPIC_CONFIG = "config"
TOPIC_ACCOUNTS = "accounts"
"""Moves with every change of accounts, sessions and tokens, so that processes hear of revocations. Clients cannot join
it. Refusals change nothing, and whoever is refused must not have everybody's sign-in read anew."""

TOPIC_LINKS = "links"
"""Moves when a link is revoked. Clients cannot join it."""

TOPIC_AUDIT = "audit"
"""The events of `AUDITED`, for who may read the audit."""

AUDITED = frozenset(
    {
        *(name for name in EventName if name.value.startswith(("account.", "config.", "link.", "notice."))),
        EventName.JOB_CANCEL_REQUESTED,
        EventName.JOB_RETRY_REQUESTED,
    }
)
"""What people did to the server, its accounts and links, and what others have sent, and what they were refused."""

ABOUT_ACCOUNTS = frozenset(name for name in EventName if name.value.startswith("account."))
"""What people did with accounts, sessions and tokens: for themselves, and for who may read the audit."""


class AuditKind(StrEnum):
    """What the audit can be narrowed down to."""

    SIGN_INS = "sign_ins"
    REFUSALS = "refusals"
    ACCOUNTS = "accounts"
    CONFIG = "config"
    JOBS = "jobs"
    NOTICES = "notices"
    LINKS = "links"


KIND_OF_AUDITED: Mapping[EventName, AuditKind] = {
    EventName.ACCOUNT_SIGNED_IN: AuditKind.SIGN_INS,
    EventName.ACCOUNT_SIGNED_OUT: AuditKind.SIGN_INS,
    EventName.ACCOUNT_REFUSED: AuditKind.REFUSALS,
    EventName.ACCOUNT_CHANGED: AuditKind.ACCOUNTS,
    EventName.CONFIG_SAVED: AuditKind.CONFIG,
    EventName.CONFIG_REJECTED: AuditKind.CONFIG,
    EventName.CONFIG_PURGED: AuditKind.CONFIG,
    EventName.JOB_CANCEL_REQUESTED: AuditKind.JOBS,
    EventName.JOB_RETRY_REQUESTED: AuditKind.JOBS,
    EventName.NOTICE_POSTED: AuditKind.NOTICES,
    EventName.NOTICE_WITHDRAWN: AuditKind.NOTICES,
    EventName.LINK_MADE: AuditKind.LINKS,
    EventName.LINK_USED: AuditKind.LINKS,
    EventName.LINK_REVOKED: AuditKind.LINKS,
}
"""Of each event in `AUDITED`."""

OWN_TOPIC = re.compile(r"account:[0-9a-f]{32}|browser:[0-9a-f]{64}")
"""The topics with all that is about one owner. Each is named as that owner."""


def topics_of(name: EventName, subject: Subject, owner: Owner | None = None) -> tuple[str, ...]:
    """Every topic that carries an event of this name about this subject.

    Args:
        name: of the event.
        subject: what it is about.
        owner: of that; None if it has none.
    """
    topics = [TOPIC_ALL]
    if name.value.startswith("config."):
        topics.append(TOPIC_CONFIG)
    if name.value.startswith("account.") and name is not EventName.ACCOUNT_REFUSED:
        topics.append(TOPIC_ACCOUNTS)
    if name is EventName.LINK_REVOKED:
        topics.append(TOPIC_LINKS)
    if name in AUDITED:
        topics.append(TOPIC_AUDIT)
    if subject.submission_id is not None:
        topics.append(f"submission:{subject.submission_id}")
    if owner is not None and OWN_TOPIC.fullmatch(owner):
        topics.append(owner)
    return tuple(topics)

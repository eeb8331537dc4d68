"""The ledger's tables.

Every list is paged by a rising integer key (`seq`, `number`, `cursor`), so that no page gets slower with history. On
SQLite `migrations/` makes these tables, and a test holds the two equal; Postgres gets them from here.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    false,
    true,
)

from dropmill.engines.sql.types import BigKey, Id, JsonText, PathBytes, SafeText, UtcTime
from dropmill.model.events import AUDITED
from dropmill.model.ids import OPEN
from dropmill.model.quotas import LIMIT_NAMES

SCHEMA_HEAD = "0022"
"""The newest migration. Repeated here, so that a start on a current database need not import the migration tool."""

OWNER_MAX = 160  # characters: a link's id, a hash of 64, and separators


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _count() -> Any:
    return {"nullable": False, "server_default": "0"}


def _partial_index(name: str, *columns: Column[Any], where: ColumnElement[bool]) -> None:
    """Declare an index of the rows that meet a condition, on both databases."""
    Index(name, *columns, sqlite_where=where, postgresql_where=where)


def _is_one_of(column: Column[str], *values: str) -> ColumnElement[bool]:
    """A condition with literal values in the query, because only then the partial index with it is used."""
    return column.in_(bindparam(f"{column.name}_written_out", values, expanding=True, literal_execute=True))


submissions = Table(
    "submissions",
    metadata,
    Column("seq", BigKey, primary_key=True),
    Column("id", Id(32), nullable=False, unique=True),
    Column("owner", Id(OWNER_MAX), nullable=False, server_default=OPEN),
    Column("is_open", Boolean, nullable=False),
    Column("opened_at", UtcTime, nullable=False),
    Column("settled_at", UtcTime),
    Column("times_settled", Integer, **_count()),
    Column("account", SafeText(200)),
    Column("ip", SafeText(45), nullable=False),
    Column("host", SafeText(253)),
    Column("verified", Boolean, nullable=False),
    Column("domain", SafeText(253)),
    Column("user_agent", SafeText(400)),
    Column("is_identified", Boolean, nullable=False),
    Column(
        "is_announced", Boolean, nullable=False
    ),  # opened before its files come: survives the request that opened it
    Column("idempotency_key", SafeText(400)),  # as the client sent it; see `submissions.key_of`
    Column("idempotency_fingerprint", Id(64)),
    Column("announced", Integer, **_count()),
    Column("receiving", Integer, **_count()),
    Column("aborted", Integer, **_count()),
    Column("queued", Integer, **_count()),
    Column("running", Integer, **_count()),
    Column("succeeded", Integer, **_count()),
    Column("failed", Integer, **_count()),
    Column("cancelled", Integer, **_count()),
    Column("given_up", Integer, **_count()),  # of its aborted files, those that their client cancelled
    Column("replaced", Integer, **_count()),  # of its aborted files, those that were stored when they were sent again
    Column("outcome", String(16)),  # set while it is settled
    Column("result_count", Integer, **_count()),  # of its jobs' newest attempts; 0 once they were removed
    Column("kept_bytes", BigInteger, **_count()),  # of files, results and output; 0 once they were removed
    Column("removed_at", UtcTime),
    Column("is_removing", Boolean, nullable=False, server_default=false()),
    Column("node", Id(32)),  # receives the one request; NULL if it was opened before nodes were recorded
    Column("last_tag", BigInteger, **_count()),  # highest tag of its jobs
    # of one that came by a link; the owner is the link's maker:
    Column("sender", Id(OWNER_MAX)),  # `model.links.sender_of`
    Column("link_id", Id(32)),
    Column("link_label", SafeText(200)),  # as the link has it
    Column("said_name", SafeText(64)),  # who the sender said to be
    # Reserved for servers with several processors; not used yet:
    Column("processor", SafeText()),
    Column("options", JsonText),
    UniqueConstraint("owner", "idempotency_key", name="uq_submissions_owner_key"),
)
Index("ix_submissions_owner", submissions.c.owner, submissions.c.seq)
Index("ix_submissions_opened_at", submissions.c.opened_at)
_partial_index(
    "ix_submissions_outcome", submissions.c.outcome, submissions.c.seq, where=submissions.c.outcome.is_not(None)
)
_partial_index(
    "ix_submissions_owner_outcome",
    submissions.c.owner,
    submissions.c.outcome,
    submissions.c.seq,
    where=submissions.c.outcome.is_not(None),
)
_is_by_link = submissions.c.sender.is_not(None)
_partial_index("ix_submissions_sender", submissions.c.sender, submissions.c.seq, where=_is_by_link)
_is_kept = submissions.c.removed_at.is_(None)
_partial_index("ix_submissions_unsettled", submissions.c.seq, where=submissions.c.settled_at.is_(None))
_partial_index("ix_submissions_kept", submissions.c.settled_at, submissions.c.kept_bytes, where=_is_kept)
_partial_index("ix_submissions_removing", submissions.c.seq, where=submissions.c.is_removing == true())

files = Table(
    "files",
    metadata,
    Column("seq", BigKey, primary_key=True),
    Column("id", Id(32), nullable=False, unique=True),
    Column("submission_id", Id(32), ForeignKey("submissions.id"), nullable=False),
    Column("number", Integer),  # its index in its submission, from 0; see `search_texts`
    Column("name", SafeText(), nullable=False),
    Column("path", SafeText(), nullable=False),
    Column("size", BigInteger),
    Column("received", BigInteger, **_count()),
    Column("sha256", Id(64)),
    Column("state", String(16), nullable=False),
    Column("blob", Text),
    Column("error", SafeText()),
    Column("cause", String(16)),  # set once it is aborted, and perhaps once more, see `Ledger.abort_upload`
    Column("removed_at", UtcTime),
    # of a resumable upload, until it is stored or aborted:
    Column("partial", Text),  # key of the growing blob; NULL for one that ends with its request
    Column("metadata", SafeText()),  # as the client sent it
    Column("expected_sha256", Id(64)),
    Column("expires_at", UtcTime),
    # which node has the turn:
    Column("node", Id(32)),
    Column("fence", Integer, **_count()),  # rises with each change of the node
    Column("fingerprint", Id(64)),  # as the client computed it
)
Index("ix_files_submission", files.c.submission_id, files.c.seq)
Index("ix_files_blob", files.c.blob)
_partial_index("ix_files_sha256", files.c.sha256, files.c.seq, where=files.c.sha256.is_not(None))
_partial_index("ix_files_partial", files.c.partial, where=files.c.partial.is_not(None))
_partial_index("ix_files_unfinished", files.c.seq, where=files.c.state.in_(["announced", "receiving"]))
is_unfinished = _is_one_of(files.c.state, "announced", "receiving")

jobs = Table(
    "jobs",
    metadata,
    Column("seq", BigKey, primary_key=True),
    Column("id", Id(32), nullable=False, unique=True),
    Column("file_id", Id(32), ForeignKey("files.id"), nullable=False, unique=True),
    Column("submission_id", Id(32), ForeignKey("submissions.id"), nullable=False),
    Column("state", String(16), nullable=False),
    Column("queued_at", UtcTime, nullable=False),
    Column("queued_cursor", BigKey, nullable=False),  # of its newest job.queued event; orders jobs of the same tag
    Column("started_at", UtcTime),
    Column("settled_at", UtcTime),
    Column("exit_code", Integer),
    Column("error_type", SafeText()),
    Column("error_message", SafeText()),
    Column("value", JsonText),
    Column("output_size", BigInteger, **_count()),
    Column("result_count", Integer, **_count()),
    Column("attempt", Integer, **_count()),  # number of the newest attempt: the fencing number
    Column("lost", Integer, **_count()),  # attempts lost since the job was first queued or last retried
    Column("tries", Integer, **_count()),  # attempts that the retry policy added since then
    Column("not_before", UtcTime),  # set while it waits for that time
    Column("config_number", BigKey, ForeignKey("config_revisions.number"), nullable=False),
    Column("owner", Id(OWNER_MAX), nullable=False, server_default=OPEN),
    Column("queue", Id(64)),
    Column("tag", BigInteger),  # its turn; set while it can be claimed
    Column("cancel_asked_at", UtcTime),  # set while it runs and is to be cancelled
)
Index("ix_jobs_owner", jobs.c.owner, jobs.c.seq)
Index("ix_jobs_owner_state", jobs.c.owner, jobs.c.state, jobs.c.seq)
# None of these conditions names the state: SQLite would then use the index of states, and read all queued jobs.
is_claimable = jobs.c.tag.is_not(None)
is_late = jobs.c.not_before.is_not(None)
is_to_be_cancelled = jobs.c.cancel_asked_at.is_not(None)
_partial_index("ix_jobs_line", jobs.c.queue, jobs.c.owner, jobs.c.tag, jobs.c.queued_cursor, where=is_claimable)
_partial_index("ix_jobs_late", jobs.c.not_before, where=is_late)
_partial_index("ix_jobs_to_cancel", jobs.c.id, where=is_to_be_cancelled)
Index("ix_jobs_submission", jobs.c.submission_id, jobs.c.seq)
Index("ix_jobs_state", jobs.c.state, jobs.c.seq)
Index("ix_jobs_submission_state", jobs.c.submission_id, jobs.c.state, jobs.c.seq)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", Id(32), ForeignKey("jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("exit_code", Integer),
    Column("config_revision", Id(64), nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("settled_at", UtcTime),
    Column("output_size", BigInteger, **_count()),
    Column("host", SafeText(), nullable=False),
    Column("node", Id(32)),  # runs it; NULL if it was started before nodes were recorded
    Column("claim", Id(32)),  # started it
)
_partial_index("ix_attempts_running", attempts.c.claim, where=attempts.c.state == "running")

nodes = Table(  # processes that may have work under way
    "nodes",
    metadata,
    Column("id", Id(32), primary_key=True),
    Column("host", SafeText(255), nullable=False),
    Column("lock", SafeText(255), nullable=False),
    Column("entered_at", UtcTime, nullable=False),
    Column("is_worker", Boolean, nullable=False, server_default=false()),
    Column("alive_until", BigInteger),  # by the database's clock, milliseconds since 1970; NULL: it has no lease
)

duties = Table(  # what one node at a time does for all
    "duties",
    metadata,
    Column("name", Id(32), primary_key=True),
    Column("node", Id(32), nullable=False),
)

queues = Table(  # how far each queue has come
    "queues",
    metadata,
    Column("name", SafeText(200), primary_key=True),  # "" of jobs without one
    Column("turn", BigInteger, nullable=False),  # tag of the owner of the newest claim
)

turns = Table(  # the owners that have, or had, jobs in a queue; see `turns`
    "turns",
    metadata,
    Column("queue", SafeText(200), primary_key=True),
    Column("owner", Id(OWNER_MAX), primary_key=True),
    Column("turn", BigInteger, nullable=False),  # tag of its newest job that was claimed
    Column("tag", BigInteger),  # its turn among the owners; NULL while none of its jobs waits
    Column("since", BigInteger, nullable=False),  # orders owners of the same tag
    Column("waiting", BigInteger, nullable=False),  # jobs that can be claimed
)
has_turn = turns.c.tag.is_not(None)
_partial_index("ix_turns_next", turns.c.queue, turns.c.tag, turns.c.since, where=has_turn)

results = Table(
    "results",
    metadata,
    Column("job_id", Id(32), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),  # from 0, in the order of paths: a list takes the first few by it
    Column("path", SafeText(), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Id(64), nullable=False),
    Column("blob", Text, nullable=False),
    ForeignKeyConstraint(["job_id", "attempt"], ["attempts.job_id", "attempts.number"], name="fk_results_attempt"),
)
Index("ix_results_path", results.c.job_id, results.c.attempt, results.c.path, unique=True)
Index("ix_results_blob", results.c.blob)

events = Table(
    "events",
    metadata,
    Column("cursor", BigKey, primary_key=True, autoincrement=False),
    Column("at", UtcTime, nullable=False),
    Column("name", String(32), nullable=False),
    Column("submission_id", Id(32)),
    Column("file_id", Id(32)),
    Column("job_id", Id(32)),
    Column("attempt", Integer),
    Column("file_name", SafeText()),
    Column("account", SafeText(200)),
    Column("client", JsonText),
    Column("data", JsonText, nullable=False),
    Column("owner", Id(OWNER_MAX)),  # of its submission or account; NULL if it is about neither
)
_partial_index("ix_events_owner", events.c.owner, events.c.cursor, where=events.c.owner.is_not(None))
Index("ix_events_submission", events.c.submission_id, events.c.cursor)
_ABOUT_CONFIG = ("config.saved", "config.rejected", "config.purged")
_partial_index("ix_events_config", events.c.cursor, where=events.c.name.in_(_ABOUT_CONFIG))
is_about_config = _is_one_of(events.c.name, *_ABOUT_CONFIG)
_AUDITED = sorted(AUDITED)  # another set needs a migration
_partial_index("ix_events_audited", events.c.cursor, where=events.c.name.in_(_AUDITED))
is_audited = _is_one_of(events.c.name, *_AUDITED)

owners = Table(  # what each has sent, summed up over all submissions
    "owners",
    metadata,
    Column("owner", Id(OWNER_MAX), primary_key=True),
    Column("submissions", BigInteger, **_count()),
    Column("announced", BigInteger, **_count()),
    Column("receiving", BigInteger, **_count()),
    Column("aborted", BigInteger, **_count()),
    Column("queued", BigInteger, **_count()),
    Column("running", BigInteger, **_count()),
    Column("succeeded", BigInteger, **_count()),
    Column("failed", BigInteger, **_count()),
    Column("cancelled", BigInteger, **_count()),
    Column("kept_bytes", BigInteger, **_count()),
)

quotas = Table(  # of owners, and of whatever else has limits
    "quotas",
    metadata,
    Column("holder", Id(OWNER_MAX), primary_key=True),
    Column("storage", BigInteger, **_count()),
    Column("total_size", BigInteger, **_count()),
    Column("files", BigInteger, **_count()),
    Column("submissions", BigInteger, **_count()),
    Column("day", Id(10)),  # to which the next column belongs, in UTC
    Column("submissions_a_day", BigInteger, **_count()),
    Column("open_submissions", BigInteger, **_count()),
    Column("running", BigInteger, **_count()),
    *(Column(f"most_{name}", BigInteger) for name in LIMIT_NAMES),  # its own limits; NULL: the server's counts
)

search_texts = Table(  # what is found by words; `search` says how
    "search_texts",
    metadata,
    Column("id", BigKey, primary_key=True, autoincrement=False),
    Column("file_id", Id(32)),  # NULL: about the submission itself
    Column("text", SafeText(), nullable=False),
)

deliveries = Table(  # calls of the webhook that are still to be made
    "deliveries",
    metadata,
    Column("submission_id", Id(32), ForeignKey("submissions.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("settled_at", UtcTime, nullable=False),
    Column("counts", JsonText, nullable=False),
    Column("tries", Integer, **_count()),
    Column("due_at", UtcTime, nullable=False),
)
Index("ix_deliveries_due", deliveries.c.due_at)

config_revisions = Table(
    "config_revisions",
    metadata,
    Column("number", BigKey, primary_key=True),
    Column("sha256", Id(64), nullable=False, index=True),
    Column("size", Integer, nullable=False),
    Column("text", LargeBinary, nullable=False),  # empty once it is purged
    Column("saved_at", UtcTime, nullable=False),
    Column("account", SafeText(200)),
    Column("client", JsonText),
    Column("message", SafeText()),
    Column("purged_at", UtcTime),
)
_partial_index("ix_config_revisions_kept", config_revisions.c.number, where=config_revisions.c.purged_at.is_(None))

ledgers = Table(  # the one row is this ledger
    "ledgers",
    metadata,
    Column("id", Id(32), primary_key=True),
)

notices = Table(  # those that have not expired, and some that have
    "notices",
    metadata,
    Column("seq", BigKey, primary_key=True),
    Column("id", Id(32), nullable=False, unique=True),
    Column("text", SafeText(), nullable=False),  # empty: withdrawn
    Column("submission_id", Id(32), ForeignKey("submissions.id")),
    Column("posted_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("account", SafeText(200)),
    Column("account_id", Id(32)),  # whom it is for, as `submission_id` is; `account` has posted it
)

accounts = Table(  # also those that were removed: submissions belong to their ids
    "accounts",
    metadata,
    Column("seq", BigKey, primary_key=True),
    Column("id", Id(32), nullable=False, unique=True),
    Column("name", SafeText(64), nullable=False),
    Column("name_key", SafeText(400), nullable=False),  # see `model.accounts.name_key`
    Column("role", String(16), nullable=False),
    Column("password_hash", Text),  # NULL once it is removed, and of those that only an identity opens
    Column("created_at", UtcTime, nullable=False),
    Column("disabled_at", UtcTime),
    Column("removed_at", UtcTime),
    Column("last_seen_at", UtcTime),
    Column("issuer", SafeText(400)),  # see `model.accounts.Identity`; NULL without one
    Column("subject", SafeText(400)),
)
_is_there = accounts.c.removed_at.is_(None)
Index("uq_accounts_name_key", accounts.c.name_key, unique=True, sqlite_where=_is_there, postgresql_where=_is_there)
_has_identity = _is_there & accounts.c.issuer.is_not(None)
Index(
    "uq_accounts_identity",
    accounts.c.issuer,
    accounts.c.subject,
    unique=True,
    sqlite_where=_has_identity,
    postgresql_where=_has_identity,
)

sessions = Table(  # those that have not ended, and some that have expired
    "sessions",
    metadata,
    Column("seq", BigKey, primary_key=True),
    Column("id", Id(32), nullable=False, unique=True),
    Column("secret_sha256", Id(64), nullable=False, unique=True),
    Column("account_id", Id(32), ForeignKey("accounts.id"), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("last_used_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("client", JsonText, nullable=False),
)
Index("ix_sessions_account", sessions.c.account_id, sessions.c.seq)

tokens = Table(
    "tokens",
    metadata,
    Column("seq", BigKey, primary_key=True),
    Column("id", Id(32), nullable=False, unique=True),
    Column("prefix", Id(32), nullable=False, unique=True),
    Column("secret_sha256", Id(64), nullable=False),  # of the whole token
    Column("account_id", Id(32), ForeignKey("accounts.id"), nullable=False),
    Column("name", SafeText(64)),
    Column("scopes", JsonText, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("last_used_at", UtcTime),
)
Index("ix_tokens_account", tokens.c.account_id, tokens.c.seq)

pending_sign_ins = Table(  # some have expired; see `model.accounts.PendingSignIn`
    "pending_sign_ins",
    metadata,
    Column("seq", BigKey, primary_key=True),
    Column("state_sha256", Id(64), nullable=False, unique=True),
    Column("browser_sha256", Id(64), nullable=False),
    Column("network", SafeText(64), nullable=False),
    Column("next", SafeText(), nullable=False),
    Column("expires_at", UtcTime, nullable=False),
)
Index("ix_pending_sign_ins_network", pending_sign_ins.c.network, pending_sign_ins.c.seq)

links = Table(  # also those that have ended: submissions name them; each is a holder in `quotas`
    "links",
    metadata,
    Column("seq", BigKey, primary_key=True),
    Column("id", Id(32), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("owner", Id(OWNER_MAX), nullable=False),
    Column("account_id", Id(32), ForeignKey("accounts.id")),  # that made it; NULL on a server without accounts
    Column("made_by", SafeText(200)),
    Column("secret_sha256", Id(64), nullable=False),
    Column("passphrase_hash", Text),
    Column("label", SafeText(200), nullable=False),
    Column("text", SafeText()),
    Column("submission_id", Id(32), ForeignKey("submissions.id")),
    Column("asks_name", Boolean, nullable=False),
    Column("shows_results", Boolean, nullable=False),
    Column("made_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("revoked_at", UtcTime),
    Column("last_used_at", UtcTime),
    Column("visits", BigInteger, **_count()),
)
Index("ix_links_owner", links.c.owner, links.c.seq)

visits = Table(  # browsers that have entered a link
    "visits",
    metadata,
    Column("seq", BigKey, primary_key=True),
    Column("id", Id(32), nullable=False, unique=True),
    Column("link_id", Id(32), ForeignKey("links.id"), nullable=False),
    Column("secret_sha256", Id(64), nullable=False, unique=True),  # the browser's key
    Column("name", SafeText(64)),  # who the visitor said to be
    Column("began_at", UtcTime, nullable=False),
    Column("client", JsonText, nullable=False),
)
Index("ix_visits_link", visits.c.link_id, visits.c.seq)

config_files = Table(  # those that servers edit, each with the newest revision that it is known to have held
    "config_files",
    metadata,
    Column("host", SafeText(255), primary_key=True),
    Column("path", PathBytes, primary_key=True),
    Column("data_folder", PathBytes, nullable=False),
    Column("revision", BigKey, ForeignKey("config_revisions.number")),
    Column("node", Id(32)),  # its server; NULL if it used the file before nodes were recorded here
)

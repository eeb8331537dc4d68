"""The ledger over a SQL database: each method of the port as a change or a read.

`database` runs both; the modules beside this one hold their statements.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from dropmill.engines.sql import (
    accounts,
    attempts,
    config,
    deliveries,
    events,
    jobs,
    links,
    nodes,
    notices,
    retention,
    submissions,
    uploads,
)
from dropmill.engines.sql.claim import claim_jobs, next_due, places
from dropmill.engines.sql.database import SqlDatabase
from dropmill.engines.sql.history import first_files, list_history
from dropmill.engines.sql.quotas import quotas_of
from dropmill.engines.sql.uploads import announce_uploads
from dropmill.model.accounts import Account, AccountChange, Identity, PendingSignIn, Session, Token
from dropmill.model.by import THIS_MACHINE, By
from dropmill.model.caller import Credential, Role
from dropmill.model.client import ClientIdentity
from dropmill.model.config import ConfigLocation, ConfigRevision
from dropmill.model.deliveries import Delivery
from dropmill.model.events import RefusalReason, SignInMethod, SignOutReason
from dropmill.model.history import HistoryFile, HistoryFilter, HistoryPage
from dropmill.model.ids import (
    OPEN,
    AccountId,
    Cursor,
    FileId,
    JobId,
    LinkId,
    NoticeId,
    Owner,
    SessionId,
    Sha256,
    SubmissionId,
    TokenId,
    VisitId,
)
from dropmill.model.jobs import AttemptOutcome, AttemptSpec, Claim, Ended, Job, JobState, RetryPolicy
from dropmill.model.links import Link, Visit
from dropmill.model.nodes import Node
from dropmill.model.notices import Notice
from dropmill.model.quotas import Quota
from dropmill.model.results import Result
from dropmill.model.retention import KeptBytes
from dropmill.model.submissions import Submission
from dropmill.model.uploads import AbortCause, File, StoredBlob
from dropmill.ports.ledger.config import ConfigPosition
from dropmill.ports.ledger.events import EventPage
from dropmill.ports.ledger.history import SubmissionView, Totals
from dropmill.ports.ledger.links import LinkLock
from dropmill.ports.ledger.nodes import Recovery
from dropmill.ports.ledger.page import Page
from dropmill.ports.ledger.submissions import RequestKey
from dropmill.ports.ledger.uploads import AwaitedFile, FormUploads, ResumableUpload, SubmissionUsage, WholeFile


class SqlLedger(SqlDatabase):
    """`dropmill.ports.ledger.Ledger` over a SQL database; a subclass knows which."""

    # --- changes -----------------------------------------------------------------------------------------------------

    async def open_submission(
        self,
        submission_id: SubmissionId,
        client: ClientIdentity,
        account: str | None,
        *,
        is_announced: bool = False,
        key: RequestKey | None = None,
        owner: Owner = OPEN,
    ) -> SubmissionId:
        return await self._change(submissions.open_submission, submission_id, client, account, is_announced, key, owner)

    async def identify_client(
        self, submission_id: SubmissionId, host: str | None, verified: bool, domain: str | None
    ) -> None:
        await self._change(submissions.identify_client, submission_id, host, verified, domain)

    async def start_upload(
        self, file_id: FileId, submission_id: SubmissionId, name: str, path: str, size: int | None
    ) -> None:
        await self._change(uploads.start_upload, file_id, submission_id, name, path, size)

    async def announce_uploads(self, uploads: Sequence[ResumableUpload]) -> None:
        await self._change(announce_uploads, uploads)

    async def open_for_upload(
        self, upload: ResumableUpload, client: ClientIdentity, account: str | None, *, owner: Owner = OPEN
    ) -> None:
        await self._change(submissions.open_for_upload, upload, client, account, owner)

    async def begin_upload(self, file_id: FileId) -> None:
        await self._change(uploads.begin_upload, file_id)

    async def take_upload(self, file_id: FileId) -> int:
        return await self._change(uploads.take_upload, file_id)

    async def extend_upload(
        self, file_id: FileId, *, size: int | None, received: int, expires_at: datetime | None, fence: int
    ) -> None:
        await self._change(uploads.extend_upload, file_id, size, received, expires_at, fence)

    async def hold_upload(self, file_id: FileId, received: int, *, is_kept: bool = True) -> int | None:
        return await self._change(uploads.hold_upload, file_id, received, is_kept)

    async def store_upload(self, file_id: FileId, blob: StoredBlob, job_id: JobId, *, fence: int | None = None) -> None:
        await self._change(uploads.store_upload, file_id, blob, job_id, fence)

    async def store_files(self, files: Sequence[WholeFile]) -> None:
        await self._change(uploads.store_files, files)

    async def abort_upload(self, file_id: FileId, cause: AbortCause, reason: str, *, fence: int | None = None) -> None:
        await self._change(uploads.abort_upload, file_id, cause, reason, fence)

    async def receive_one(
        self, client: ClientIdentity, account: str | None, file: WholeFile, *, owner: Owner = OPEN
    ) -> SubmissionView:
        return await self._change(submissions.receive_one, client, account, file, owner)

    async def seal_submission(self, submission_id: SubmissionId, cause: AbortCause = AbortCause.CANCELLED) -> None:
        await self._change(submissions.seal_submission, submission_id, cause)

    async def claim(self, claim: Claim) -> Sequence[AttemptSpec]:
        return await self._change(claim_jobs, claim)

    async def end_attempt(
        self,
        job_id: JobId,
        number: int,
        outcome: AttemptOutcome,
        retry: RetryPolicy | None = None,
        *,
        then_claim: Claim | None = None,
    ) -> Ended | None:
        return await self._change(attempts.end_attempt, job_id, number, outcome, retry, then_claim)

    async def lose_attempt(self, job_id: JobId, number: int, max_attempts: int) -> JobState | None:
        return await self._change(attempts.lose_attempt, job_id, number, max_attempts)

    async def request_cancel(
        self, job_id: JobId, *, visible_to: Owner | None = None, by: By = THIS_MACHINE
    ) -> JobState:
        return await self._change(jobs.request_cancel, job_id, visible_to, by)

    async def request_cancels(
        self,
        submission_id: SubmissionId,
        *,
        after: str | None,
        limit: int,
        visible_to: Owner | None = None,
        by: By = THIS_MACHINE,
    ) -> Page[JobId]:
        return await self._change(jobs.request_cancels, submission_id, after, limit, visible_to, by)

    async def retry_job(self, job_id: JobId, *, visible_to: Owner | None = None, by: By = THIS_MACHINE) -> None:
        await self._change(jobs.retry_job, job_id, visible_to, by)

    async def retry_failed(
        self,
        submission_id: SubmissionId,
        *,
        after: str | None,
        limit: int,
        visible_to: Owner | None = None,
        by: By = THIS_MACHINE,
    ) -> Page[JobId]:
        return await self._change(jobs.retry_failed, submission_id, after, limit, visible_to, by)

    async def begin_removal(self, submission_id: SubmissionId, settled_at: datetime) -> bool:
        return await self._change(retention.begin_removal, submission_id, settled_at)

    async def end_removal(self, submission_id: SubmissionId) -> None:
        await self._change(retention.end_removal, submission_id)

    async def remove_events(self, *, before: datetime, up_to: Cursor, limit: int) -> int:
        return await self._change(retention.remove_events, before, up_to, limit)

    async def end_delivery(self, submission_id: SubmissionId, number: int) -> None:
        await self._change(deliveries.end_delivery, submission_id, number)

    async def postpone_delivery(self, submission_id: SubmissionId, number: int, due_at: datetime) -> None:
        await self._change(deliveries.postpone_delivery, submission_id, number, due_at)

    async def post_notice(
        self, notice: Notice, client: ClientIdentity | None, *, visible_to: Owner | None = None
    ) -> None:
        await self._change(notices.post_notice, notice, client, visible_to)

    async def withdraw_notice(
        self,
        notice_id: NoticeId,
        now: datetime,
        account: str | None,
        client: ClientIdentity | None,
        *,
        visible_to: Owner | None = None,
    ) -> None:
        await self._change(notices.withdraw_notice, notice_id, now, account, client, visible_to)

    async def enter(self, node: Node) -> None:
        await self._change(nodes.enter, node)
        self._node = node

    async def recover(self, max_attempts: int, reason: str) -> Recovery:
        return await self._change(nodes.recover, max_attempts, reason)

    async def renew(self) -> bool:
        if self._node is None:
            raise AssertionError("only a node has a lease")
        return await self._beside(nodes.renew, self._node)

    async def lose_expired(self, max_attempts: int, reason: str) -> Recovery:
        return await self._change(nodes.lose_expired, max_attempts, reason)

    async def leave(self, reason: str) -> Recovery:
        return await self._change(nodes.leave, reason)

    async def take_duty(self, name: str) -> bool:
        return await self._change(nodes.take_duty, name)

    async def save_revision(
        self,
        text: bytes,
        *,
        base: Sha256 | None,
        client: ClientIdentity | None,
        account: str | None,
        message: str | None,
        found_at: ConfigLocation | None = None,
    ) -> ConfigRevision:
        return await self._change(
            config.save_revision,
            text,
            base=base,
            client=client,
            account=account,
            message=message,
            found_at=found_at,
            keep=self._keep_revisions,
        )

    async def use_config_file(self, location: ConfigLocation) -> None:
        await self._change(config.use_config_file, location)

    async def record_in_file(self, location: ConfigLocation, number: int) -> None:
        await self._change(config.record_in_file, location, number)

    async def reject_config(
        self, errors: Sequence[Mapping[str, Any]], client: ClientIdentity | None, account: str | None
    ) -> None:
        await self._change(config.reject_config, errors, client, account)

    async def purge_revision(self, sha256: Sha256, client: ClientIdentity | None, account: str | None) -> None:
        await self._change(config.purge_revision, sha256, client, account)
        # If the caller is cancelled before this, the next start or the next purge does it.
        await asyncio.get_running_loop().run_in_executor(self._writer_thread, self._forget_bytes)

    async def add_account(self, account: Account, password_hash: str, by: By, *, is_first: bool = False) -> None:
        await self._change(accounts.add_account, account, password_hash, by, is_first)

    async def change_account(
        self, account_id: AccountId, change: AccountChange, by: By, *, keep: SessionId | None = None
    ) -> Account:
        return await self._change(accounts.change_account, account_id, change, by, keep)

    async def link_account(self, account_id: AccountId, identity: Identity | None, by: By) -> Account:
        return await self._change(accounts.link_account, account_id, identity, by)

    async def remove_account(self, account_id: AccountId, by: By) -> None:
        await self._change(accounts.remove_account, account_id, by)

    async def admit(
        self,
        identity: Identity,
        name: str,
        role: Role | None,
        client: ClientIdentity,
        *,
        method: SignInMethod,
        unseen_since: datetime | None,
    ) -> Account:
        return await self._change(accounts.admit, identity, name, role, client, method, unseen_since)

    async def rehash(self, account_id: AccountId, *, old: str, new: str) -> None:
        await self._change(accounts.rehash, account_id, old, new)

    async def record_refusal(
        self,
        account_id: AccountId | None,
        reason: RefusalReason,
        client: ClientIdentity,
        *,
        count: int = 1,
        route: str | None = None,
    ) -> None:
        await self._change(accounts.record_refusal, account_id, reason, client, count, route)

    async def begin_session(self, session: Session, secret: Sha256, method: SignInMethod) -> None:
        await self._change(accounts.begin_session, session, secret, method)

    async def end_session(
        self, session_id: SessionId, account_id: AccountId, reason: SignOutReason, client: ClientIdentity | None
    ) -> None:
        await self._change(accounts.end_session, session_id, account_id, reason, client)

    async def add_token(self, token: Token, secret: Sha256, by: By) -> None:
        await self._change(accounts.add_token, token, secret, by)

    async def revoke_token(self, token_id: TokenId, account_id: AccountId | None, by: By) -> None:
        await self._change(accounts.revoke_token, token_id, account_id, by)

    async def add_pending_sign_in(self, pending: PendingSignIn, now: datetime) -> None:
        await self._change(accounts.add_pending_sign_in, pending, now)

    async def take_pending_sign_in(self, state: Sha256, browser: Sha256, now: datetime) -> PendingSignIn | None:
        return await self._change(accounts.take_pending_sign_in, state, browser, now)

    async def note_use(
        self,
        sessions: Mapping[SessionId, datetime],
        tokens: Mapping[TokenId, datetime],
        accounts_seen: Mapping[AccountId, datetime],
    ) -> None:
        await self._change(accounts.note_use, sessions, tokens, accounts_seen)

    async def add_link(self, link: Link, lock: LinkLock, by: By, *, visible_to: Owner | None = None) -> None:
        await self._change(links.add_link, link, lock, by, visible_to)

    async def revoke_link(self, link_id: LinkId, by: By, *, visible_to: Owner | None = None) -> None:
        await self._change(links.revoke_link, link_id, by, visible_to)

    async def begin_visit(self, visit: Visit) -> None:
        await self._change(links.begin_visit, visit)

    def _forget_bytes(self) -> None:
        with self._translated():
            self.forget_bytes()

    # --- reads -------------------------------------------------------------------------------------------------------

    async def view_submission(
        self,
        submission_id: SubmissionId,
        *,
        after: str | None = None,
        limit: int,
        state: str | None = None,
        visible_to: Owner | None = None,
    ) -> SubmissionView:
        return await self._read(submissions.view_submission, submission_id, after, limit, state, visible_to)

    async def submissions(
        self,
        *,
        before: str | None,
        limit: int,
        state: str | None = None,
        text: str | None = None,
        visible_to: Owner | None = None,
    ) -> Page[Submission]:
        return await self._read(submissions.list_submissions, before, limit, state, text, visible_to)

    async def history(
        self,
        wanted: HistoryFilter,
        *,
        before: str | None = None,
        after: str | None = None,
        limit: int,
        visible_to: Owner | None = None,
    ) -> HistoryPage:
        return await self._read(list_history, wanted, before, after, limit, visible_to)

    async def totals(self, *, visible_to: Owner | None = None) -> Totals:
        return await self._read(submissions.totals, visible_to)

    async def file(self, file_id: FileId, *, visible_to: Owner | None = None) -> File:
        return await self._read(uploads.get_file, file_id, visible_to)

    async def job(self, job_id: JobId, *, visible_to: Owner | None = None) -> Job:
        return await self._read(jobs.get_job, job_id, visible_to)

    async def result(self, job_id: JobId, path: str, attempt: int | None, *, visible_to: Owner | None = None) -> Result:
        return await self._read(jobs.get_result, job_id, path, attempt, visible_to)

    async def jobs(
        self,
        *,
        before: str | None,
        limit: int,
        state: str | None = None,
        text: str | None = None,
        submission_id: SubmissionId | None = None,
        visible_to: Owner | None = None,
    ) -> Page[Job]:
        return await self._read(jobs.list_jobs, before, limit, state, text, submission_id, visible_to)

    async def upload(self, file_id: FileId, *, visible_to: Owner | None = None) -> ResumableUpload:
        return await self._read(uploads.get_upload, file_id, visible_to, self._node_id)

    async def announced_upload(
        self, submission_id: SubmissionId, path: str, *, visible_to: Owner | None = None
    ) -> AwaitedFile | None:
        return await self._read(uploads.announced_upload, submission_id, path, visible_to)

    async def awaited_files(
        self, submission_id: SubmissionId, first: FileId, *, ahead: int, visible_to: Owner | None = None
    ) -> Sequence[AwaitedFile]:
        return await self._read(uploads.awaited_files, submission_id, first, ahead, visible_to)

    async def submission_usage(
        self, submission_id: SubmissionId, *, visible_to: Owner | None = None
    ) -> SubmissionUsage:
        return await self._read(uploads.submission_usage, submission_id, visible_to)

    async def unfinished_uploads(self) -> Sequence[ResumableUpload]:
        return await self._read(uploads.unfinished_uploads, self._node_id)

    async def form_uploads(self) -> FormUploads:
        return await self._read(uploads.form_uploads, self._node_id)

    async def expired_uploads(self, now: datetime, *, limit: int) -> Sequence[ResumableUpload]:
        return await self._read(uploads.expired_uploads, now, limit, self._node_id)

    async def stale_submissions(self, before: datetime, *, limit: int) -> Sequence[SubmissionId]:
        return await self._read(submissions.stale_submissions, before, limit)

    async def needed_blobs(self, keys: Collection[str]) -> Collection[str]:
        return await self._read(uploads.needed_blobs, list(keys))

    async def live_blobs(self, keys: Collection[str]) -> Collection[str]:
        return await self._read(uploads.live_blobs, list(keys))

    async def cancels_asked(self) -> Sequence[tuple[JobId, int]]:
        return await self._read(attempts.cancels_asked, self._node_id)

    async def has_expired(self) -> bool:
        return await self._read(nodes.has_expired, self._node_id)

    async def next_due(self) -> datetime | None:
        return await self._read(next_due)

    async def first_files(self, submission_ids: Collection[SubmissionId]) -> Mapping[SubmissionId, HistoryFile]:
        return await self._read(first_files, submission_ids)

    async def places(self, job_ids: Collection[JobId]) -> Mapping[JobId, int]:
        return await self._read(places, job_ids)

    async def removable(
        self, *, before: datetime | None, keep_bytes: int | None, limit: int
    ) -> Sequence[tuple[SubmissionId, datetime]]:
        return await self._read(retention.removable, before, keep_bytes, limit)

    async def removals(self, limit: int) -> Sequence[KeptBytes]:
        return await self._read(retention.removals, limit)

    async def deliveries(self, limit: int) -> Sequence[Delivery]:
        return await self._read(deliveries.next_deliveries, limit)

    async def notices(self, now: datetime, *, visible_to: Owner | None = None) -> Sequence[Notice]:
        return await self._read(notices.standing_notices, now, visible_to)

    async def events(self, topic: str, *, after: Cursor, limit: int, visible_to: Owner | None = None) -> EventPage:
        return await self._read(events.events_after, topic, after, limit, visible_to)

    async def events_before(
        self, topic: str, *, before: Cursor, limit: int, visible_to: Owner | None = None
    ) -> EventPage:
        return await self._read(events.events_before, topic, before, limit, visible_to)

    async def session_by(self, secret: Sha256) -> tuple[Session, Account] | None:
        return await self._read(accounts.session_by, secret)

    async def token_by(self, prefix: str) -> tuple[Token, Sha256, Account] | None:
        return await self._read(accounts.token_by, prefix)

    async def account_by(self, identity: Identity) -> Account | None:
        return await self._read(accounts.account_by, identity)

    async def accounts_of(
        self,
        sessions: Collection[SessionId],
        tokens: Collection[TokenId],
        accounts_too: Collection[AccountId] = (),
    ) -> Mapping[Credential, Account]:
        return await self._read(accounts.accounts_of, sessions, tokens, accounts_too)

    async def accounts(self) -> Sequence[Account]:
        return await self._read(accounts.list_accounts)

    async def account(self, account_id: AccountId) -> Account:
        return await self._read(accounts.get_account, account_id)

    async def account_named(self, name: str) -> Account | None:
        return await self._read(accounts.account_named, name)

    async def has_accounts(self) -> bool:
        return await self._read(accounts.has_accounts)

    async def password_of(self, name: str) -> tuple[Account, str] | None:
        return await self._read(accounts.password_of, name)

    async def sessions(self, account_id: AccountId) -> Sequence[Session]:
        return await self._read(accounts.list_sessions, account_id)

    async def tokens(self, account_id: AccountId | None) -> Sequence[Token]:
        return await self._read(accounts.list_tokens, account_id)

    async def quotas(self, holders: Collection[Owner]) -> Mapping[Owner, Quota]:
        return await self._read(quotas_of, holders, self._limits)

    async def link(self, link_id: LinkId) -> Link | None:
        return await self._read(links.get_link, link_id)

    async def lock_of(self, link_id: LinkId) -> tuple[Link, LinkLock] | None:
        return await self._read(links.lock_of, link_id)

    async def visit_by(self, secret: Sha256) -> tuple[Visit, Link] | None:
        return await self._read(links.visit_by, secret)

    async def links_of(self, visits: Collection[VisitId]) -> Mapping[VisitId, Link]:
        return await self._read(links.links_of, visits)

    async def links(self, *, before: str | None, limit: int, visible_to: Owner | None = None) -> Page[Link]:
        return await self._read(links.list_links, before, limit, visible_to)

    async def unsealed_by_links(self, now: datetime, *, limit: int) -> Sequence[SubmissionId]:
        return await self._read(links.unsealed_by_links, now, limit)

    async def newest_cursor(self) -> Cursor:
        return await self._read(events.newest_cursor)

    async def config_files(self) -> Sequence[ConfigLocation]:
        return await self._read(config.config_files_in_use)

    async def config_position(self, location: ConfigLocation) -> ConfigPosition:
        return await self._read(config.config_position, location)

    async def newest_revision(self) -> ConfigRevision | None:
        return await self._read(config.newest_revision)

    async def revisions(self, *, before: str | None, limit: int) -> Page[ConfigRevision]:
        return await self._read(config.list_revisions, before, limit)

    async def revision_text(self, sha256: Sha256) -> bytes:
        return await self._read(config.revision_text, sha256)

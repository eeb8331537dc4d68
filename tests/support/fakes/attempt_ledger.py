"""The ledger's part for attempts, in memory."""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from dropmill.model.client import ClientIdentity
from dropmill.model.clock import utc_now
from dropmill.model.config import ConfigRevision
from dropmill.model.ids import FileId, JobId, Sha256, new_job_id, new_submission_id
from dropmill.model.jobs import (
    AttemptOutcome,
    AttemptSpec,
    AttemptState,
    Claim,
    Ended,
    JobError,
    JobState,
    RetryPolicy,
)

LIVENESS_S = 10.0  # for what takes milliseconds on an idle machine
SUBMISSION = new_submission_id()  # of every job here


class FakeAttemptLedger:
    """`dropmill.ports.ledger.jobs.AttemptLedger` in memory; its transitions are guarded as the real ones are."""

    def __init__(self) -> None:
        self.config = b"greeting: hello\nnested: {n: 3}\n"
        self.orders: dict[JobId, AttemptSpec] = {}
        self.states: dict[JobId, JobState] = {}
        self.numbers: dict[JobId, int] = defaultdict(int)
        self.lost: dict[JobId, int] = defaultdict(int)
        self.outcomes: dict[tuple[JobId, int], AttemptOutcome] = {}
        self.running = 0
        self.most_running = 0
        self.started: list[JobId] = []
        self.on_start: Callable[[JobId], object] = lambda job_id: None  # called when an attempt has started
        self.problems: list[Exception] = []  # raised by the next changes, one each
        self.due: datetime | None = None  # when the first of the jobs that wait for their time is due
        self.claims = 0
        self.changes = 0
        self._to_cancel: set[JobId] = set()
        self._changed = asyncio.Event()

    def add(self, blob: Path, *, name: str = "a file.txt", client: ClientIdentity | None = None) -> JobId:
        job_id = new_job_id()
        data = blob.read_bytes()
        self.orders[job_id] = AttemptSpec(
            job_id=job_id,
            submission_id=SUBMISSION,
            file_id=FileId("f" + job_id),
            number=0,
            file_name=name,
            file_path=f"folder/{name}",
            blob=blob.name,
            size=len(data),
            sha256=Sha256(hashlib.sha256(data).hexdigest()),
            client=client or ClientIdentity(ip="192.0.2.7", host="pc7.lab.example", verified=True),
            config=self.revision(),
        )
        self.states[job_id] = JobState.QUEUED
        return job_id

    def revision(self) -> ConfigRevision:
        return ConfigRevision(
            number=1,
            sha256=Sha256(hashlib.sha256(self.config).hexdigest()),
            size=len(self.config),
            saved_at=utc_now(),
            account=None,
            client=None,
            message=None,
        )

    async def claim(self, claim: Claim) -> Sequence[AttemptSpec]:
        """First come, first served."""
        await self._commit()
        return self._claim(claim)

    def _claim(self, claim: Claim) -> Sequence[AttemptSpec]:
        self.claims += 1
        waiting = [job_id for job_id, state in self.states.items() if state is JobState.QUEUED]
        return [self._start(job_id) for job_id in waiting[: claim.most]]

    def _start(self, job_id: JobId) -> AttemptSpec:
        self.states[job_id] = JobState.RUNNING
        self.numbers[job_id] += 1
        self.started.append(job_id)
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        self.on_start(job_id)
        return replace(self.orders[job_id], number=self.numbers[job_id])

    async def end_attempt(
        self,
        job_id: JobId,
        number: int,
        outcome: AttemptOutcome,
        retry: RetryPolicy | None = None,
        *,
        then_claim: Claim | None = None,
    ) -> Ended | None:
        await self._commit()
        if self.states[job_id] is not JobState.RUNNING or self.numbers[job_id] != number:
            return None
        self._settle(job_id, outcome, JobState(outcome.state))
        return Ended(state=self.states[job_id], orders=() if then_claim is None else self._claim(then_claim))

    async def lose_attempt(self, job_id: JobId, number: int, max_attempts: int) -> JobState | None:
        await self._commit()
        if self.states[job_id] is not JobState.RUNNING or self.numbers[job_id] != number:
            return None
        self.lost[job_id] += 1
        state = JobState.QUEUED if self.lost[job_id] < max_attempts else JobState.FAILED
        error = JobError(type="lost", message="lost")
        self._settle(job_id, AttemptOutcome(state=AttemptState.LOST, exit_code=None, error=error), state)
        return state

    def request_cancel(self, job_id: JobId) -> None:
        """Ask for the end of a running job. No coroutine, so that `on_start` can call it."""
        self._to_cancel.add(job_id)

    async def cancels_asked(self) -> Sequence[tuple[JobId, int]]:
        running = [job_id for job_id in self._to_cancel if self.states[job_id] is JobState.RUNNING]
        return [(job_id, self.numbers[job_id]) for job_id in running]

    async def next_due(self) -> datetime | None:
        return self.due

    async def revision_text(self, sha256: Sha256) -> bytes:
        return self.config

    def _settle(self, job_id: JobId, outcome: AttemptOutcome, state: JobState) -> None:
        self.running -= 1
        self.outcomes[job_id, self.numbers[job_id]] = outcome
        self.states[job_id] = state
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _commit(self) -> None:
        self.changes += 1
        await asyncio.sleep(0)
        if self.problems:
            raise self.problems.pop(0)

    async def settled(self, job_id: JobId) -> AttemptOutcome:
        """The outcome of the newest attempt, once the job is in a final state."""
        async with asyncio.timeout(LIVENESS_S):
            while not self.states[job_id].is_final:
                await self._changed.wait()
        return self.outcomes[job_id, self.numbers[job_id]]

"""What runs attempts, on real processes and files, over a ledger in memory."""

import asyncio
import hashlib
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.support.fakes.bus import FakeBus

from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.local.executor import SlotExecutor
from dropmill.engines.local.outputs import FileOutputs
from dropmill.model.client import ClientIdentity
from dropmill.model.clock import utc_now
from dropmill.model.config import ConfigRevision
from dropmill.model.errors import BytesLost
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
from dropmill.model.uploads import FileIdentity, StoredBlob
from dropmill.processing.attempt import AttemptRunner
from dropmill.processing.hops import SharedHop
from dropmill.processing.limits import Limiter, Limits
from dropmill.processing.output import OutputRecorder
from dropmill.processing.pool import SlotPool
from dropmill.processing.processor import Processor
from dropmill.processing.results import ResultLimits
from dropmill.settings import Settings

LIVENESS_S = 10.0  # for what takes milliseconds on an idle machine
SUBMISSION = new_submission_id()  # of every job here


class FakeLedger:
    """`dropmill.ports.ledger.jobs.AttemptLedger` in memory; guarded like the real one."""

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
        self.due: datetime | None = None  # when the first of those comes into line that wait for their time
        self.claims = 0
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
        return Ended(state=self.states[job_id])

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
        """Of a job that runs; it is done at once, as this is called from other changes, too."""
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
        await asyncio.sleep(0)
        if self.problems:
            raise self.problems.pop(0)

    async def settled(self, job_id: JobId) -> AttemptOutcome:
        """The outcome of the newest attempt, once the job is in a final state."""
        async with asyncio.timeout(LIVENESS_S):
            while not self.states[job_id].is_final:
                await self._changed.wait()
        return self.outcomes[job_id, self.numbers[job_id]]


class FakeBlobs(DiskBlobStore):
    """A blob store whose files lie in another folder under their names; results go where they always do."""

    def __init__(self, folder: Path, files: Path) -> None:
        super().__init__(folder)
        self._folder = files

    def is_proven(self, key: str, identity: FileIdentity) -> bool:
        return False

    async def open_stored(self, blob: StoredBlob) -> tuple[int, FileIdentity]:
        try:
            descriptor = os.open(self._folder / blob.key, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise BytesLost("The file is gone.") from None
        if hashlib.sha256(os.pread(descriptor, blob.size + 1, 0)).hexdigest() != blob.sha256:
            os.close(descriptor)
            raise BytesLost("The file was changed.")
        return descriptor, FileIdentity.of(os.fstat(descriptor))

    def path(self, key: str) -> Path:
        file = self._folder / key
        return file if file.exists() else super().path(key)


class Bench:
    """A whole embedded engine around one processor, on real processes and a real folder."""

    def __init__(self, folder: Path, *, slots: int = 1, **options: Any) -> None:
        """Options are those of `Settings`; `module` is the text of a module `script` to be imported."""
        module = options.pop("module", None)
        if module is not None:
            (folder / "script.py").write_text(module)
        self.folder = folder
        self.ledger = FakeLedger()
        self.bus = FakeBus()
        self.failures: list[BaseException] = []
        settings = Settings(data=folder / "data", **options)
        self.processor = Processor.from_settings(settings, folder)
        self.pool = SlotPool(self.processor, slots)
        hop = SharedHop()
        self.outputs = OutputRecorder(FileOutputs(settings.data / "outputs", hop=hop), self.bus)
        (folder / "blobs").mkdir(exist_ok=True)
        self.store = FakeBlobs(settings.data, folder / "blobs")
        limiter = self.limiter = Limiter(Limits.from_settings(settings), settings.data)
        self.lacking = limiter.open()
        self.runner = AttemptRunner(
            ledger=self.ledger,
            blobs=self.store,
            bus=self.bus,
            pool=self.pool,
            outputs=self.outputs,
            processor=self.processor,
            limiter=limiter,
            result_limits=ResultLimits(count=settings.max_results, size=settings.max_results_size),
            folder=settings.data,
            copies_input=settings.copy_input,
            guesses_progress=settings.progress == "auto",
            timeout_s=settings.timeout,
            grace_s=settings.grace,
            max_attempts=settings.max_attempts,
            hop=hop,
        )
        self.executor = SlotExecutor(
            runner=self.runner, pool=self.pool, outputs=self.outputs, on_failure=self.failures.append
        )

    async def __aenter__(self) -> "Bench":
        await self.store.open()
        await self.executor.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.executor.close()
        await self.store.close()
        self.limiter.close()
        assert self.failures == []

    def add(self, content: bytes = b"content\n", *, name: str = "a file.txt") -> JobId:
        blob = self.folder / "blobs" / f"{new_job_id()}.txt"
        blob.write_bytes(content)
        blob.chmod(0o400)
        return self.ledger.add(blob, name=name)

    def submit(self, content: bytes = b"content\n", *, name: str = "a file.txt") -> JobId:
        job_id = self.add(content, name=name)
        self.executor.wake()
        return job_id

    def cancel(self, job_id: JobId) -> None:
        self.ledger.request_cancel(job_id)
        self.executor.cancel(job_id)

    async def run(self, content: bytes = b"content\n", *, name: str = "a file.txt") -> tuple[AttemptOutcome, str]:
        """One job to its end: its outcome and its output."""
        job_id = self.submit(content, name=name)
        outcome = await self.ledger.settled(job_id)
        return outcome, await self.output(job_id)

    async def output(self, job_id: JobId, number: int = 1) -> str:
        chunk = await self.outputs.read(job_id, number, 0, 1 << 20)
        return chunk.data.decode(errors="replace")

    async def output_has(self, job_id: JobId, text: str, number: int = 1) -> str:
        """Wait until a running attempt has written a text."""
        async with asyncio.timeout(LIVENESS_S):
            while text not in (output := await self.output(job_id, number)):  # noqa: ASYNC110 - as a page asks
                await asyncio.sleep(0.01)
        return output


def python(folder: Path, text: str) -> tuple[str, ...]:
    """An argv template that runs a Python script file with the path as its argument."""
    (folder / "tool.py").write_text(text)
    return (sys.executable, "tool.py", "{path}")


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something outside our reach has come true."""
    async with asyncio.timeout(LIVENESS_S):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


async def gone(pid: int) -> None:
    """Wait until a process is no more, not even as a zombie."""
    await until(lambda: not Path(f"/proc/{pid}").exists())

"""A bench: everything that runs attempts, around one processor, on real processes and files; the ledger is a fake."""

import asyncio
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

from tests.support.fakes.attempt_ledger import LIVENESS_S, FakeAttemptLedger
from tests.support.fakes.bus import FakeBus
from tests.support.waiting import eventually

from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.local.executor import SlotExecutor
from dropmill.engines.local.outputs import FileOutputs
from dropmill.health import Health
from dropmill.model.errors import BytesLost
from dropmill.model.ids import JobId, new_job_id
from dropmill.model.jobs import AttemptOutcome
from dropmill.model.uploads import FileIdentity, StoredBlob
from dropmill.processing.attempt import AttemptRunner, AttemptSettings
from dropmill.processing.limits import Limiter, Limits
from dropmill.processing.output import OutputRecorder
from dropmill.processing.pool import SlotPool
from dropmill.processing.processor import Processor
from dropmill.settings import Settings


class NamedBlobs(DiskBlobStore):
    """A blob store whose files lie in another folder under their names; results go where they always do."""

    def __init__(self, folder: Path, files: Path) -> None:
        super().__init__(folder)
        self._folder = files

    def proven(self, key: str) -> FileIdentity | None:
        return None

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
    """A pool, a runner and an executor around one processor."""

    def __init__(self, folder: Path, *, slots: int = 1, **options: Any) -> None:
        """Options are those of `Settings`; `module` is the text of a module `script` to be imported."""
        module = options.pop("module", None)
        if module is not None:
            (folder / "script.py").write_text(module)
        self.folder = folder
        self.ledger = FakeAttemptLedger()
        self.bus = FakeBus()
        self.failures: list[BaseException] = []
        settings = Settings(data=folder / "data", **options)
        self.processor = Processor.from_settings(settings, folder)
        self.health = Health()
        self.pool = SlotPool(self.processor, slots, self.health)
        self.outputs = OutputRecorder(FileOutputs(settings.data / "outputs"), self.bus)
        (folder / "blobs").mkdir(exist_ok=True)
        self.store = NamedBlobs(settings.data, folder / "blobs")
        limiter = self.limiter = Limiter(Limits.from_settings(settings), settings.data)
        self.lacking = limiter.open()
        self.runner = AttemptRunner(
            ledger=self.ledger,
            blobs=self.store,
            bus=self.bus,
            outputs=self.outputs,
            limiter=limiter,
            processor=self.processor,
            settings=AttemptSettings.from_settings(settings),
            health=self.health,
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


async def gone(pid: int) -> None:
    """Wait until a process is no more, not even as a zombie."""
    await eventually(lambda: not Path(f"/proc/{pid}").exists())

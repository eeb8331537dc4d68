"""Resumable uploads on a desk, and what is asked of them."""

import asyncio
import base64
import hashlib
from datetime import timedelta
from typing import Any

from tests.intake.desk import Body, Desk, sent
from tests.support.scenarios import CALLER, LIVENESS_S, all_events

from dropmill.intake.limits import Gate, UploadLimits
from dropmill.intake.resumable import UploadPosition, Uploads
from dropmill.intake.tus import Checksum
from dropmill.model.clock import utc_now
from dropmill.model.ids import SubmissionId
from dropmill.model.uploads import File, UploadState
from dropmill.ports.ledger.uploads import ResumableUpload

CONTENT = bytes(range(256)) * 4096  # 1 MiB


HALF = len(CONTENT) // 2


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


class Counter:
    """Uploads at a desk, and what is asked of them."""

    def __init__(self, desk: Desk, **limits: Any) -> None:
        self.desk = desk
        limits = {"idle_timeout_s": LIVENESS_S, "min_free": 0} | limits
        expiry_s = limits.pop("expiry_s", 86400.0)
        self.gate = Gate(UploadLimits(**limits), desk.blobs)
        desk.intake._gate = self.gate
        self.uploads = Uploads(
            ledger=desk.ledger,
            blobs=desk.blobs,
            bus=desk.bus,
            intake=desk.intake,
            gate=self.gate,
            expiry_s=expiry_s,
            clock=desk.clock,
            health=desk.health,
        )

    async def create(self, size: int | None = len(CONTENT), /, **values: str) -> ResumableUpload:
        metadata = ",".join(f"{key} {b64(value)}" for key, value in ({"filename": "a.bin"} | values).items())
        return await self.uploads.create(CALLER, size=size, metadata=metadata)

    async def append(self, upload: ResumableUpload, offset: int, *chunks: bytes, **options: Any) -> UploadPosition:
        return await self.uploads.append(CALLER, upload.file_id, sent(*chunks), offset=offset, **options)

    def begin(self, upload: ResumableUpload, offset: int, body: Body, **options: Any) -> asyncio.Task[UploadPosition]:
        return asyncio.create_task(self.uploads.append(CALLER, upload.file_id, aiter(body), offset=offset, **options))

    async def offset(self, upload: ResumableUpload) -> int:
        """What HEAD says; it must be what lies on disk."""
        offset = (await self.uploads.find(CALLER, upload.file_id)).offset
        assert offset == self.on_disk(upload)
        return offset

    def on_disk(self, upload: ResumableUpload) -> int:
        path = self.desk.blobs.incoming / (upload.partial or "")
        return path.stat().st_size if path.exists() else 0

    async def file(self, upload: ResumableUpload) -> File:
        return await self.desk.ledger.file(upload.file_id)

    async def require_stored(self, upload: ResumableUpload, content: bytes = CONTENT) -> None:
        """Stored once with these bytes; one job, queued once; nothing left of the transfer."""
        found = await self.file(upload)
        assert (found.state, found.size, found.received) == (UploadState.STORED, len(content), len(content))
        assert found.sha256 == hashlib.sha256(content).hexdigest()
        assert found.blob is not None
        async with self.desk.blobs.local(found.blob) as path:
            assert await asyncio.to_thread(path.read_bytes) == content
        assert found.job is not None
        assert self.desk.executor.wakes > 0
        assert list(self.desk.blobs.incoming.iterdir()) == []
        found_events = [
            event.name.value for event in await all_events(self.desk.ledger) if event.subject.file_id == found.id
        ]
        assert found_events == ["upload.started", "upload.stored", "job.queued"]
        assert self.uploads.received(upload.file_id) is None
        assert self.desk.bus.newest_progress(upload.file_id, "upload") is None


def digest(content: bytes, algorithm: str = "sha256") -> Checksum:
    return Checksum(algorithm=algorithm, digest=hashlib.new(algorithm, content).digest())


async def announce(counter: Counter, *files: object) -> tuple[SubmissionId, list[ResumableUpload]]:
    submission_id, _ = await counter.desk.intake.open(CALLER)
    return submission_id, list(await counter.uploads.announce(CALLER, submission_id, list(files)))


async def make_late(counter: Counter, upload: ResumableUpload) -> None:
    found = await counter.desk.ledger.upload(upload.file_id)
    await counter.desk.ledger.extend_upload(
        upload.file_id,
        size=found.size,
        received=found.received,
        expires_at=utc_now() - timedelta(seconds=1),
        fence=found.fence,
    )

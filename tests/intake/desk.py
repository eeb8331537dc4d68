"""An intake on the real ledger, store and bus, and bodies that a test sends piece by piece."""

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.fakes.executor import FakeExecutor
from tests.support.scenarios import CALLER, LIVENESS_S, names, recount
from tests.support.waiting import eventually

from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.disk.writer import WRITE_BYTES, DiskBlobWriter
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sql.ledger import SqlLedger
from dropmill.health import Health
from dropmill.intake.limits import Gate, UploadLimits
from dropmill.intake.receiving import Receipt
from dropmill.intake.submissions import Intake
from dropmill.model.clock import Clock
from dropmill.model.errors import OutOfSpace, Unavailable
from dropmill.model.events import EventName
from dropmill.model.submissions import Counts, Submission
from dropmill.model.uploads import File, UploadState
from dropmill.origin.resolver import HostName, Resolver

TYPE = "multipart/form-data; boundary=B"


END = b"--B--\r\n"


def head(name: str) -> bytes:
    return f'--B\r\nContent-Disposition: form-data; name="f"; filename="{name}"\r\n\r\n'.encode()


def part(name: str, content: bytes = b"content\n") -> bytes:
    return head(name) + content + b"\r\n"


FIRST, SECOND = part("first.txt"), part("second.txt", bytes(2 * WRITE_BYTES))


class Body:
    """A request's body, sent by the test piece by piece."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.taken = 0
        self._is_awaited = asyncio.Event()

    def send(self, *pieces: bytes) -> None:
        self._is_awaited.clear()
        for piece in pieces:
            self._pieces.put_nowait(piece)

    def end(self) -> None:
        self._pieces.put_nowait(None)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._pieces.empty():
            self._is_awaited.set()
        piece = await self._pieces.get()
        self._is_awaited.clear()
        if piece is None:
            raise StopAsyncIteration
        self.taken += 1
        return piece

    async def all_taken(self) -> None:
        """Wait until everything sent has been dealt with, and the reader waits for more."""
        await asyncio.sleep(0)
        async with asyncio.timeout(LIVENESS_S):
            await self._is_awaited.wait()


async def sent(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class Names(Resolver):
    """A resolver that answers at once, or never."""

    def __init__(self) -> None:
        super().__init__()
        self.is_dead = False

    async def resolve(self, ip: str) -> HostName:
        if self.is_dead:
            await asyncio.get_running_loop().create_future()
        return HostName(host="pc7.lab.example", verified=True, domain="lab.example")


class Desk:
    """An intake, its ports, and what a test asks of them."""

    def __init__(self, ledger: SqlLedger, blobs: DiskBlobStore, bus: LocalBus) -> None:
        self.ledger, self.blobs, self.bus = ledger, blobs, bus
        self.executor, self.names = FakeExecutor(), Names()
        self.clock, self.health = Clock(), Health()
        self.intake = self.intake_with()

    def intake_with(self, *, idle_timeout_s: float = LIVENESS_S, seal_after_s: float = 86400.0) -> Intake:
        return Intake(
            ledger=self.ledger,
            blobs=self.blobs,
            executor=self.executor,
            bus=self.bus,
            resolver=self.names,
            gate=Gate(UploadLimits(idle_timeout_s=idle_timeout_s, min_free=0), self.blobs),
            seal_after_s=seal_after_s,
            clock=self.clock,
            health=self.health,
        )

    def begin(self, body: Body, **options: Any) -> asyncio.Task[Receipt]:
        return asyncio.create_task(self.intake.receive_multipart(CALLER, aiter(body), TYPE, **options))

    async def receive(self, *pieces: bytes, account: str | None = None, **options: Any) -> Receipt:
        return await self.intake.receive_multipart(replace(CALLER, account=account), sent(*pieces), TYPE, **options)

    async def submission(self) -> Submission:
        """The newest submission."""
        return (await self.ledger.submissions(before=None, limit=1)).items[0]

    async def files(self) -> dict[str, File]:
        """Files of the newest submission by their paths."""
        view = await self.ledger.view_submission((await self.submission()).id, limit=1000)
        return {file.path: file for file in view.files}

    async def count(self, name: EventName) -> int:
        return (await names(self.ledger)).count(name.value)

    async def stored_on_disk(self) -> set[str]:
        return {path.name for path in self.blobs.blobs.rglob("*") if path.is_file()}

    async def settled(self, *, kept: list[str], aborted: list[str], is_open: bool = False) -> None:
        """All that an end of a body must have left, and nothing else, as soon as it can be."""

        async def is_settled() -> bool:
            submission = await self.submission()
            is_counted = submission.is_open is is_open and not submission.counts.receiving
            return is_counted and self.executor.wakes >= len(kept)

        await eventually(is_settled)
        files = await self.files()
        assert {path for path, file in files.items() if file.state is UploadState.STORED} == set(kept)
        assert {path for path, file in files.items() if file.state is UploadState.ABORTED} == set(aborted)
        assert await self.stored_on_disk() == {file.blob for file in files.values() if file.blob}
        assert list(self.blobs.incoming.iterdir()) == []
        assert await recount(self.ledger, (await self.submission()).id) == Counts(
            queued=len(kept), aborted=len(aborted)
        )
        for file in files.values():
            assert self.intake.received(file.id) is None
            assert self.bus.newest_progress(file.id, "upload") is None


@contextlib.contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, *methods: str) -> Iterator[None]:
    """While the ledger refuses these calls, and the disk every removal if `unlink` is among them."""

    async def away(*_: Any, **__: Any) -> None:
        raise Unavailable("The ledger is away.")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        for method in methods:
            if method == "unlink":
                patch.setattr(Path, "unlink", refuse)
            else:
                patch.setattr(SqlLedger, method, away)
        yield


async def on_disk(desk: Desk, size: int) -> Path:
    """The only file that is arriving, once it has this size."""
    found: list[Path] = []

    async def is_written() -> bool:
        found[:] = desk.blobs.incoming.iterdir()
        return [path.stat().st_size for path in found] == [size]

    await eventually(is_written)
    return found[0]


@contextlib.contextmanager
def full(monkeypatch: pytest.MonkeyPatch, *methods: str) -> Iterator[None]:
    async def fail(*_: Any, **__: Any) -> None:
        raise OutOfSpace("The disk is full.")

    with monkeypatch.context() as patch:
        for method in methods:
            owner = DiskBlobWriter if hasattr(DiskBlobWriter, method) else SqlLedger
            patch.setattr(owner, method, fail)
        yield

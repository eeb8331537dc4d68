"""The engines that the contract tests of blob stores run over. A further engine joins by an entry in `ENGINES`."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from dropmill.engines.disk.files import HashedFile
from dropmill.engines.disk.shared import SharedBlobWriter
from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.disk.syncing import Syncing
from dropmill.engines.disk.writer import DiskBlobWriter
from dropmill.ports.blobs import BlobStore


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How a kind of store is opened on a folder, and how it is made to take no more bytes."""

    open: Callable[[Path], AbstractAsyncContextManager[BlobStore]]
    fill: Callable[[pytest.MonkeyPatch, int], None]
    """Refuses every byte after so many more calls that write some."""


@asynccontextmanager
async def _disk(folder: Path, how: Syncing | None) -> AsyncIterator[BlobStore]:
    store = DiskBlobStore(folder, lambda _: how)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


class _SharedStore(DiskBlobStore):
    """A store in a shared folder; whoever creates or resumes a blob takes the turn at it."""

    async def resume(self, key: str, *, fence: int | None = None, received: int = 0) -> DiskBlobWriter:
        return await super().resume(key, fence=next(_fences) if fence is None else fence, received=received)

    def create(self, extension: str) -> DiskBlobWriter:
        writer = SharedBlobWriter(self._folders, super().create(extension).key, next(_fences))
        writer.find()
        return writer


_fences = count(1)


@asynccontextmanager
async def _shared(folder: Path) -> AsyncIterator[BlobStore]:
    store = _SharedStore(folder, lambda _: None, is_shared=True)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def _fill_disk(patch: pytest.MonkeyPatch, writes: int) -> None:
    append, left = HashedFile.append, writes

    def refuse(file: HashedFile, data: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(file, data)

    patch.setattr(HashedFile, "append", refuse)


ENGINES = {
    name: Engine(open=partial(_disk, how=how), fill=_fill_disk)
    for name, how in (
        ("disk", Syncing.WHOLE_DISK),
        ("disk without a journal", None),
    )
} | {"shared disk": Engine(open=_shared, fill=_fill_disk)}


async def keys(store: BlobStore) -> list[str]:
    """Every committed key, sorted."""
    return sorted([key async for some in store.keys() for key in some])  # noqa: SIM118 - it is no dictionary


async def content_of(store: BlobStore, key: str) -> bytes:
    """All bytes of a blob."""
    async with store.local(key) as path:
        return await asyncio.to_thread(path.read_bytes)

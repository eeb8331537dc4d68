"""Stores of processes that are gone, and what a power cut leaves of their files."""

import asyncio
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from dropmill.engines.disk.journal import Segment
from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.disk.syncing import Syncing


async def opened(folder: Path, how: Syncing | None = Syncing.WHOLE_DISK) -> DiskBlobStore:
    store = DiskBlobStore(folder, lambda _: how)
    await store.open()
    return store


async def kill(store: DiskBlobStore) -> None:
    """End a store as the kernel does: nothing is drained, locks are released."""
    small = store._small
    assert small is not None
    if small._draining is not None:
        small._draining.cancel()
        await asyncio.wait([small._draining])
    while small._segments:
        small._segments.pop().segment.close()
    await store.close()


class Live:
    """The ledger's answer about some keys."""

    def __init__(self, keys: Collection[str]) -> None:
        self._keys = set(keys)

    async def __call__(self, keys: Sequence[str]) -> Collection[str]:
        return self._keys & set(keys)


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "journal").glob("*.segment"))


def journalled(folder: Path) -> set[str]:
    """The keys that the segments of processes that are gone hold whole."""
    found = Segment.left_in(folder / "journal")
    keys = {record.key for segment in found for record in segment.records() if record.content is not None}
    for segment in found:
        segment.close()
    return keys


def rewrite(path: Path, content: bytes) -> None:
    """Leave other bytes under a name, as a power cut may."""
    os.chmod(path, 0o600)
    path.write_bytes(content)

"""The embedded blob store: one directory.

    incoming/<key>        being written; whatever stands here at start-up was interrupted and is removed
    blobs/<2>/<key>       committed: fsynced, renamed, directory fsynced, mode 0400

A key is 32 random hexadecimal digits and a checked extension. Both folders lie in one file system, so that the
rename is atomic. What a client called the file never reaches a path.
"""

import asyncio
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiofiles
from aiofiles.threadpool.binary import AsyncFileIO

from dropmill.model.errors import OutOfSpace
from dropmill.model.ids import Sha256
from dropmill.model.records import StoredBlob

WRITE_BYTES = 256 * 1024
"""Bytes gathered for one write. Measured: two to three times faster than 1-4 MiB, and faster than 64 KiB."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


class DiskBlobStore:
    """`dropmill.ports.BlobStore` in a directory."""

    def __init__(self, folder: Path) -> None:
        self.incoming = folder / "incoming"
        self.blobs = folder / "blobs"
        # Hashing and writing release the interpreter lock; a few threads let several uploads overlap their fsyncs.
        self._threads = ThreadPoolExecutor(8, "blob-store")

    async def open(self) -> None:
        """Make the folders."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._make_folders)

    async def close(self) -> None:
        """Wait for writes under way."""
        self._threads.shutdown()

    def _make_folders(self) -> None:
        self.incoming.mkdir(parents=True, exist_ok=True)
        for number in range(256):
            (self.blobs / f"{number:02x}").mkdir(parents=True, exist_ok=True)

    def create(self, extension: str) -> "DiskBlobWriter":
        return DiskBlobWriter(self, secrets.token_hex(16) + extension)

    def local(self, key: str) -> AbstractAsyncContextManager[Path]:
        return self._local(key)

    @asynccontextmanager
    async def _local(self, key: str) -> AsyncIterator[Path]:
        yield self.path(key)

    def path(self, key: str) -> Path:
        """Where a committed blob lies."""
        return self.blobs / key[:2] / key

    async def delete(self, key: str) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._delete, key)

    def _delete(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    async def sweep(self) -> int:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._sweep)

    def _sweep(self) -> int:
        left = list(self.incoming.iterdir())
        for path in left:
            path.unlink()
        return len(left)

    async def keys(self) -> AsyncIterator[Sequence[str]]:
        loop = asyncio.get_running_loop()
        for number in range(256):
            folder = self.blobs / f"{number:02x}"
            yield await loop.run_in_executor(self._threads, os.listdir, folder)

    async def free_bytes(self) -> int:
        usage = await asyncio.get_running_loop().run_in_executor(self._threads, shutil.disk_usage, self.blobs)
        return usage.free

    @property
    def threads(self) -> ThreadPoolExecutor:
        """Where this store's blocking calls run."""
        return self._threads


class DiskBlobWriter:
    """`dropmill.ports.BlobWriter` to a file in `incoming`.

    Bytes are gathered to `WRITE_BYTES`; then the gathered block is written by aiofiles while another thread hashes
    it. A file that fits one block is created, written, hashed, fsynced and renamed in one thread hop instead of five.
    """

    def __init__(self, store: DiskBlobStore, key: str) -> None:
        self._store = store
        self._key = key
        self._temporary = store.incoming / key
        self._gathered = bytearray()
        self._written = 0
        self._hash = hashlib.sha256()
        self._file: AsyncFileIO | None = None
        # What runs in a thread goes on when its caller is cancelled; `abort` waits for it, or a late write could
        # land in whatever reuses the descriptor's number.
        self._under_way: asyncio.Future[None] | None = None

    @property
    def size(self) -> int:
        return self._written + len(self._gathered)

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        self._gathered += data
        if len(self._gathered) >= WRITE_BYTES:
            block, self._gathered = self._gathered, bytearray()
            self._written += len(block)
            await self._run(self._write_block(block))

    async def commit(self) -> StoredBlob:
        await self._run(self._commit())
        return StoredBlob(key=self._key, size=self._written, sha256=Sha256(self._hash.hexdigest()))

    async def abort(self) -> None:
        if self._under_way is not None:
            await asyncio.wait([self._under_way])
            self._under_way.exception()  # seen, though a writer that was cancelled will never ask
        await self._close()
        await asyncio.get_running_loop().run_in_executor(self._store.threads, self._remove)

    async def _run(self, step: Coroutine[None, None, None]) -> None:
        self._under_way = asyncio.ensure_future(step)
        try:
            await asyncio.shield(self._under_way)
        except OSError as error:
            raise _translated(error) from error

    async def _write_block(self, block: bytearray) -> None:
        loop = asyncio.get_running_loop()
        if self._file is None:
            self._file = await aiofiles.open(
                self._temporary,
                "xb",
                buffering=0,
                opener=lambda path, flags: os.open(path, flags, 0o600),
                loop=loop,
                executor=self._store.threads,
            )
        hashing = loop.run_in_executor(self._store.threads, self._hash.update, block)
        try:
            view = memoryview(block)
            while view:
                view = view[await self._file.write(view) :]
        finally:
            await hashing

    async def _commit(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._store.threads, self._commit_in_thread)
        await self._close()

    async def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            await file.close()

    def _commit_in_thread(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        if self._file is None:
            flags |= os.O_CREAT | os.O_EXCL
        descriptor = os.open(self._temporary, flags, 0o600)
        try:
            view = memoryview(self._gathered)
            while view:
                view = view[os.write(descriptor, view) :]
            self._hash.update(self._gathered)
            self._written += len(self._gathered)
            self._gathered = bytearray()
            os.fchmod(descriptor, 0o400)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        final = self._store.path(self._key)
        os.rename(self._temporary, final)
        fsync_folder(final.parent)

    def _remove(self) -> None:
        self._temporary.unlink(missing_ok=True)
        self._store.path(self._key).unlink(missing_ok=True)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable; a rename is not until then."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _translated(error: OSError) -> Exception:
    if error.errno in _FULL:
        return OutOfSpace("The disk is full; this file was not stored. What was stored before is safe.")
    return error

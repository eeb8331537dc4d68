"""The blob store in a directory.

`folders` describes what lies on disk. A key is 32 random hexadecimal digits and a checked extension; the name that a
client gave a file never reaches a path.

The store does not trust the disk: a commit compares the file with what was received, and a read compares it with what
was committed. Every error of the disk leaves as `OutOfSpace`, `StorageUnavailable` or `BytesLost`.
"""

import asyncio
import hashlib
import os
import shutil
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from dropmill.engines.disk import adoption, files
from dropmill.engines.disk.files import READ_PLAIN, REREAD_BYTES, changed
from dropmill.engines.disk.folders import FOLDERS, Folders, ended
from dropmill.engines.disk.shared import SharedBlobWriter
from dropmill.engines.disk.small import SmallFiles
from dropmill.engines.disk.syncing import Syncing, syncing_for
from dropmill.engines.disk.writer import DiskBlobWriter
from dropmill.model.errors import StorageUnavailable
from dropmill.model.ids import NodeId, new_blob_key, new_node_id
from dropmill.model.uploads import FileIdentity, StoredBlob
from dropmill.ports.blobs import SMALL_BYTES, Needed, SmallPart, nobody_needs

SMALL_AT_ONCE = 8  # parts of one `store_small` whose fsyncs overlap, as many as there are threads for them
LISTED_AT_ONCE = 8  # folders of blobs for one call of a thread, which takes longer than listing an empty one
PROOFS_MAX = 2  # files read again at once, so that uploads get threads, too


class DiskBlobStore:
    """`dropmill.ports.blobs.BlobStore` in a directory."""

    def __init__(
        self,
        folder: Path,
        syncing: Callable[[Path], Syncing | None] = syncing_for,
        *,
        node: NodeId | None = None,
        is_shared: bool = False,
    ) -> None:
        """Touch nothing before `open`.

        Args:
            folder: the data folder; `incoming`, `blobs` and `journal` are made in it.
            syncing: says how the small files in a folder are synced; None: each when it is stored, without a journal.
            node: makes the keys of new blobs; None: one that no ledger knows.
            is_shared: whether other processes, perhaps of other hosts, use the folder at the same time.
        """
        self._node = node or new_node_id()
        self._is_shared = is_shared
        self._folders = Folders(folder, self._node, is_shared=is_shared)
        self._syncing = syncing
        self._small: SmallFiles | None = None
        self.incoming = self._folders.incoming
        self.blobs = self._folders.blobs
        self._proving: dict[str, asyncio.Task[None]] = {}
        self._proofs = asyncio.Semaphore(PROOFS_MAX)

    async def open(self) -> None:
        """Make the folders."""
        await self._folders.hop(self._folders.make)
        how = await self._folders.hop(self._syncing, self.blobs)
        if how is not None:
            self._small = SmallFiles(self._folders, how)

    async def close(self) -> None:
        """Wait for writes under way and sync what is not yet synced; cancel what only reads."""
        if self._small is not None:
            await self._small.close()
        await self._folders.close()

    def path(self, key: str) -> Path:
        """Where a committed blob lies."""
        return self._folders.path(key)

    # --- writing -----------------------------------------------------------------------------------------------------

    def create(self, extension: str) -> DiskBlobWriter:
        return DiskBlobWriter(self._folders, new_blob_key(self._node, extension))

    async def resume(self, key: str, *, fence: int | None = None, received: int = 0) -> DiskBlobWriter:
        is_shared = self._is_shared
        writer = SharedBlobWriter(self._folders, key, fence) if is_shared else DiskBlobWriter(self._folders, key)
        try:
            await self._folders.in_thread(writer.find)
        except OSError as error:
            raise await self._folders.translated(error) from error
        if is_shared and writer.size < received:  # a network file system shows what others wrote a little later
            raise StorageUnavailable("The bytes that came before cannot be seen here yet; try again in a moment.")
        return writer

    async def store_small(self, parts: Sequence[SmallPart]) -> Sequence[StoredBlob]:
        if any(len(part.data) > SMALL_BYTES for part in parts):
            raise ValueError(f"a small part has at most {SMALL_BYTES} bytes")
        if self._small is not None and parts:
            named = [(new_blob_key(self._node, part.extension), part.data) for part in parts]
            try:
                together = await self._small.store(named)
            except OSError as error:
                raise await self._folders.translated(error) from error
            if together is not None:
                return together
        return await self._store_each(parts)

    async def _store_each(self, parts: Sequence[SmallPart]) -> Sequence[StoredBlob]:
        stored: list[StoredBlob] = []
        writers = [self.create(part.extension) for part in parts]
        committing: list[asyncio.Task[StoredBlob]] = []
        try:
            for begin in range(0, len(parts), SMALL_AT_ONCE):
                some = slice(begin, begin + SMALL_AT_ONCE)
                for writer, part in zip(writers[some], parts[some], strict=True):
                    await writer.write(part.data)  # into memory
                committing = [asyncio.create_task(writer.commit()) for writer in writers[some]]
                stored += await asyncio.gather(*committing)
        except BaseException:
            if committing:
                await ended(*committing)
            folders = self._folders
            await ended(folders.in_thread(lambda: [folders.discard(writer.key) for writer in writers]))
            raise
        return stored

    async def adopt(self, folder: int, name: str, size_max: int | None = None) -> StoredBlob:
        adopting = adoption.Adoption(self._folders, folder, name, size_max)
        while True:
            # A thread continues when its caller is cancelled; wait for it, then undo what it did.
            hop = self._folders.in_thread(adopting.go_on)
            try:
                if await asyncio.shield(hop):
                    return adopting.stored
            except BaseException as error:
                await asyncio.wait([hop])
                await self._folders.in_thread(adopting.undo)
                if isinstance(error, OSError):
                    raise await self._folders.translated(error) from error
                raise

    # --- reading -----------------------------------------------------------------------------------------------------

    def local(self, key: str) -> AbstractAsyncContextManager[Path]:
        return self._local(key)

    @asynccontextmanager
    async def _local(self, key: str) -> AsyncIterator[Path]:
        yield self.path(key)

    async def open_stored(self, blob: StoredBlob) -> tuple[int, FileIdentity]:
        opening = self._folders.in_thread(self._open_stored, blob)
        try:
            descriptor, identity = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(lambda opened: None if opened.exception() else os.close(opened.result()[0]))
            raise
        except OSError as error:
            raise await self._folders.translated(error) from error
        try:
            if self._folders.proven.is_right(blob.key, identity) is None:
                await self._prove_once(blob)
            if not self._folders.proven.is_right(blob.key, identity):
                raise changed()
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, identity

    def proven(self, key: str) -> FileIdentity | None:
        return self._folders.proven.right(key)

    def _open_stored(self, blob: StoredBlob) -> tuple[int, FileIdentity]:
        descriptor = os.open(self.path(blob.key), READ_PLAIN)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size != blob.size:
                raise changed()
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, FileIdentity.of(found)

    async def _prove_once(self, blob: StoredBlob) -> None:
        """Read a file and compare its SHA-256; several callers at once share one reading."""
        proving = self._proving.get(blob.key)
        if proving is None:
            proving = self._proving[blob.key] = self._folders.read_beside(self._prove(blob))
            proving.add_done_callback(lambda _: self._proving.pop(blob.key, None))
        try:
            await asyncio.shield(proving)
        except OSError as error:
            raise await self._folders.translated(error) from error

    async def _prove(self, blob: StoredBlob) -> None:
        async with self._proofs:
            descriptor, identity = await self._folders.in_thread(self._open_stored, blob)
            piece = None
            try:
                digest, offset = hashlib.sha256(), 0
                while offset < blob.size:
                    piece = self._folders.in_thread(files.hash_piece, descriptor, offset, REREAD_BYTES, digest)
                    offset += await asyncio.shield(piece)
                if FileIdentity.of(os.fstat(descriptor)) != identity:
                    raise changed()
                self._folders.proven.add(blob.key, identity, digest.hexdigest() == blob.sha256)
            finally:
                if piece is not None and not piece.done():  # a thread continues when its caller is cancelled
                    await asyncio.wait([piece])
                os.close(descriptor)

    # --- removal -----------------------------------------------------------------------------------------------------

    async def delete(self, key: str) -> None:
        await self._folders.hop(self._folders.remove, key)

    async def discard(self, key: str) -> None:
        await self._folders.in_thread(self._folders.discard, key)

    async def retry_discards(self) -> int:
        return await self._folders.retry_discards()

    async def replay(self, live: Callable[[Sequence[str]], Awaitable[Collection[str]]]) -> int:
        # Also where no journal is used now: an earlier version of the system may have had one.
        small = self._small or SmallFiles(self._folders, Syncing.EACH_FILE)
        try:
            return await small.replay(live)
        except OSError as error:
            raise await self._folders.translated(error) from error
        finally:
            if small is not self._small:
                await small.close()

    async def sweep(self, needed: Needed = nobody_needs) -> int:
        found = await self._folders.hop(self._folders.unfinished)
        wanted = set(await needed(found)) if found else set()
        return await self._folders.hop(self._folders.discard_all, [key for key in found if key not in wanted])

    async def keys(self) -> AsyncIterator[Sequence[str]]:
        for first in range(0, FOLDERS, LISTED_AT_ONCE):
            for found in await self._folders.hop(self._folders.names_in, range(first, first + LISTED_AT_ONCE)):
                if found:
                    yield found

    async def free_bytes(self) -> int:
        return (await self._folders.hop(shutil.disk_usage, self.blobs)).free

"""The embedded blob store: one directory.

    incoming/<key>          being written; at start-up all that nobody may go on with is removed
    incoming/<key>.chunk    holds the offset at which a chunk began that counts only as a whole
    blobs/<2>/<key>         committed: fsynced, renamed, directory fsynced, mode 0400

A key is 32 random hexadecimal digits and a checked extension. Both folders lie in one file system, so that the
rename is atomic. What a client called the file never reaches a path.

Nothing on disk is taken for granted: a commit compares the file with what was received, and a read compares it with
what was committed. Every error of the disk leaves as `OutOfSpace`, `StorageUnavailable` or `BytesLost`.
"""

import asyncio
import errno
import hashlib
import io
import logging
import os
import secrets
import shutil
import stat
import struct
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from aiofiles.threadpool import wrap
from aiofiles.threadpool.binary import AsyncFileIO

from dropmill.model.errors import BytesLost
from dropmill.model.faults import fault_of, translated
from dropmill.model.ids import Sha256
from dropmill.model.uploads import FileIdentity, StoredBlob
from dropmill.ports.blobs import SMALL_BYTES, Inflow, SmallPart
from dropmill.private import FOLDER_MODE, opener

WRITE_BYTES = 256 * 1024
"""Bytes gathered for one thread hop. Measured: 192 KiB cost 12 % more CPU; 1 MiB 4 % less, and memory."""

PIECES_MAX = 256  # gathered at most: a byte that comes alone takes the memory of forty

REREAD_BYTES = 4 * 1024 * 1024  # hashed in one thread hop after a restart: 5 ms, so that other hops get their turn

CHUNK_SUFFIX = ".chunk"

SMALL_AT_ONCE = 8  # parts of one `store_small` whose fsyncs overlap, as many as there are threads for them
TAKES_MAX = 2  # inflows that are read at once, each by a thread; more only take the processor from one another

PROVEN_MAX = 50_000  # files whose bytes are known to match their SHA-256; some 250 bytes each, by tracemalloc
PROOFS_MAX = 2  # files read again at once, so that uploads get their turn
DISCARDED_MAX = 10_000  # keys whose removal is tried again; the next start finds any others

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

log = logging.getLogger(__name__)

_IDENTITY = struct.Struct("=QQQqq")
_READ_PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_STORE = "The file store"  # in the sentences of its errors


class DiskBlobStore:
    """`dropmill.ports.blobs.BlobStore` in a directory."""

    def __init__(self, folder: Path) -> None:
        self.incoming = folder / "incoming"
        self.blobs = folder / "blobs"
        # Hashing and writing release the interpreter lock; a few threads let several uploads overlap their fsyncs.
        self._threads = ThreadPoolExecutor(8, "blob-store")
        # Whoever takes from an inflow waits for the network, so it must not hold up an fsync. The threads start when
        # they are first needed.
        self._takers = ThreadPoolExecutor(TAKES_MAX, "blob-take")
        self._taking = 0
        self._readings: set[asyncio.Task[None]] = set()
        self._proven = _Proven()
        self._proving: dict[str, asyncio.Task[None]] = {}
        self._proofs = asyncio.Semaphore(PROOFS_MAX)
        self._discarded: dict[str, None] = {}  # in the order in which their removal failed

    async def open(self) -> None:
        """Make the folders."""
        await self._hop(self._make_folders)

    async def close(self) -> None:
        """Wait for writes under way; what is only read is given up."""
        for reading in self._readings:
            reading.cancel()
        if self._readings:
            await asyncio.wait(self._readings)
        self._takers.shutdown()
        self._threads.shutdown()

    def _make_folders(self) -> None:
        for folder in (self.incoming, self.blobs, *(self.blobs / f"{number:02x}" for number in range(256))):
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)

    async def _hop(self, call: Callable[..., T], *args: object) -> T:
        """Call what blocks in a thread; its errors are ours then."""
        with translated(_STORE):
            return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    def create(self, extension: str) -> "DiskBlobWriter":
        return DiskBlobWriter(self, secrets.token_hex(16) + extension)

    async def store_small(self, parts: Sequence[SmallPart]) -> Sequence[StoredBlob]:
        if any(len(part.data) > SMALL_BYTES for part in parts):
            raise ValueError(f"a small part has at most {SMALL_BYTES} bytes")
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
            await ended(self.in_thread(lambda: [self._discard(writer.key) for writer in writers]))
            raise
        return stored

    async def adopt(self, folder: int, name: str, size_max: int | None = None) -> StoredBlob:
        adoption = _Adoption(self, folder, name, size_max)
        while True:
            # A thread goes on when its caller is cancelled; what it does is waited for and undone.
            hop = self.in_thread(adoption.go_on)
            try:
                if await asyncio.shield(hop):
                    return adoption.stored
            except BaseException as error:
                await asyncio.wait([hop])
                await self.in_thread(adoption.undo)
                if isinstance(error, OSError):
                    raise await self.translated(error) from error
                raise

    async def open_stored(self, blob: StoredBlob) -> tuple[int, FileIdentity]:
        opening = self.in_thread(self._open_stored, blob)
        try:
            descriptor, identity = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(lambda opened: None if opened.exception() else os.close(opened.result()[0]))
            raise
        except OSError as error:
            raise await self.translated(error) from error
        try:
            if self._proven.is_right(blob.key, identity) is None:
                await self._prove_once(blob)
            if not self._proven.is_right(blob.key, identity):
                raise _changed()
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, identity

    def is_proven(self, key: str, identity: FileIdentity) -> bool:
        return bool(self._proven.is_right(key, identity))

    def _open_stored(self, blob: StoredBlob) -> tuple[int, FileIdentity]:
        descriptor = os.open(self.path(blob.key), _READ_PLAIN)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size != blob.size:
                raise _changed()
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, FileIdentity.of(found)

    async def _prove_once(self, blob: StoredBlob) -> None:
        """Read a file and compare its SHA-256; whoever asks meanwhile waits for the same reading."""
        proving = self._proving.get(blob.key)
        if proving is None:
            proving = self._proving[blob.key] = self.read_beside(self._prove(blob))
            proving.add_done_callback(lambda _: self._proving.pop(blob.key, None))
        try:
            await asyncio.shield(proving)
        except OSError as error:
            raise await self.translated(error) from error

    async def _prove(self, blob: StoredBlob) -> None:
        async with self._proofs:
            descriptor, identity = await self.in_thread(self._open_stored, blob)
            piece = None
            try:
                digest, offset = hashlib.sha256(), 0
                while offset < blob.size:
                    piece = self.in_thread(_hash_piece, descriptor, offset, REREAD_BYTES, digest)
                    offset += await asyncio.shield(piece)
                if FileIdentity.of(os.fstat(descriptor)) != identity:
                    raise _changed()
                self._proven.add(blob.key, identity, digest.hexdigest() == blob.sha256)
            finally:
                if piece is not None and not piece.done():  # a thread goes on when its caller is cancelled
                    await asyncio.wait([piece])
                os.close(descriptor)

    def local(self, key: str) -> AbstractAsyncContextManager[Path]:
        return self._local(key)

    @asynccontextmanager
    async def _local(self, key: str) -> AsyncIterator[Path]:
        yield self.path(key)

    def path(self, key: str) -> Path:
        """Where a committed blob lies."""
        return self.blobs / key[:2] / key

    async def delete(self, key: str) -> None:
        await self._hop(self._remove, key)

    async def discard(self, key: str) -> None:
        await self.in_thread(self._discard, key)

    async def retry_discards(self) -> int:
        if self._discarded:
            await self.in_thread(lambda: [self._discard(key) for key in tuple(self._discarded)])
        return len(self._discarded)

    def _discard(self, key: str) -> bool:
        """Remove a key's files, or note that it has to be tried again; whether they are gone. Blocks."""
        try:
            self._remove(key)
        except OSError as error:
            if key not in self._discarded and len(self._discarded) < DISCARDED_MAX:
                log.warning("%s could not be removed and is tried again: %s", key, error)
                self._discarded[key] = None
            return False
        self._discarded.pop(key, None)
        return True

    def _remove(self, key: str) -> None:
        self._proven.drop(key)
        for path in (self.incoming / key, self.incoming / (key + CHUNK_SUFFIX), self.path(key)):
            path.unlink(missing_ok=True)

    async def translated(self, error: OSError) -> Exception:
        """What callers are told of an error of the disk."""
        if error.errno in (errno.ENOENT, errno.ELOOP) and await self.in_thread(self.incoming.is_dir):
            return _changed()
        return fault_of(error, _STORE)

    async def resume(self, key: str) -> "DiskBlobWriter":
        writer = DiskBlobWriter(self, key)
        try:
            await self.in_thread(writer.find)
        except OSError as error:
            raise await self.translated(error) from error
        return writer

    async def sweep(self, resumable: Collection[str] = ()) -> int:
        return await self._hop(self._sweep, resumable)

    def _sweep(self, resumable: Collection[str]) -> int:
        removed = 0
        for path in list(self.incoming.iterdir()):
            key = path.name.removesuffix(CHUNK_SUFFIX)
            if key not in resumable:
                removed += self._discard(key)
        return removed

    async def keys(self) -> AsyncIterator[Sequence[str]]:
        for number in range(256):
            yield await self._hop(os.listdir, self.blobs / f"{number:02x}")

    async def free_bytes(self) -> int:
        return (await self._hop(shutil.disk_usage, self.blobs)).free

    def require_renamed(self, final: Path, written: os.stat_result, size: int) -> None:
        """Return if what was written under a descriptor is what has got its final name, and has this size. Blocks.

        Raises:
            BytesLost: somebody removed, replaced, cut or extended it.
        """
        found = os.lstat(final)
        if (found.st_ino, found.st_dev, found.st_size) != (written.st_ino, written.st_dev, size):
            raise _changed()
        self._proven.add(final.name, FileIdentity.of(found), True)

    def in_thread(self, call: Callable[[*Arguments], T], *args: *Arguments) -> asyncio.Future[T]:
        """What a blocking call returns, made in one of this store's threads; it goes on if the caller is cancelled."""
        return asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    @contextmanager
    def taker(self) -> Iterator[ThreadPoolExecutor | None]:
        """A thread that may wait for the network, until the end of the context; None if all are in use."""
        if self._taking == TAKES_MAX:
            yield None
            return
        self._taking += 1
        try:
            yield self._takers
        finally:
            self._taking -= 1

    @property
    def threads(self) -> ThreadPoolExecutor:
        """Where this store's blocking calls run."""
        return self._threads

    def read_beside(self, reading: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have something read in the background, at most until this store is closed."""
        task = asyncio.create_task(reading)
        self._readings.add(task)
        task.add_done_callback(self._has_read)
        return task

    def _has_read(self, reading: asyncio.Task[None]) -> None:
        self._readings.discard(reading)
        if not reading.cancelled():
            reading.exception()  # seen, though nobody may ever want the hash


class DiskBlobWriter:
    """`dropmill.ports.blobs.BlobWriter` to a file in `incoming`.

    What comes is gathered to `WRITE_BYTES`, uncopied, then written and hashed by aiofiles in one thread hop; copied
    into one block, with a hop for each of the two, it cost 8 % more CPU and was no sooner. A file that fits one
    gathering is created, written, hashed, fsynced and renamed in one thread hop instead of five.

    A hash's state cannot be saved. A resumed writer therefore reads again what is there, in the background and a
    piece at a time, and goes on reading what is written, behind the writing; `commit` waits for it.
    """

    def __init__(self, store: DiskBlobStore, key: str) -> None:
        self.key = key
        self._store = store
        self._temporary = store.incoming / key
        self._chunk_note = store.incoming / (key + CHUNK_SUFFIX)
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._written = 0
        self._on_disk = 0  # what the file must hold when it is opened again, or committed
        self._hash = hashlib.sha256()
        self._file: AsyncFileIO | None = None
        self._raw: _HashedFile | None = None  # what `_file` writes to
        self._exists = False
        self._before_chunk: tuple[int, Any] | None = None
        self._reader: _HashReader | None = None
        # What runs in a thread goes on when its caller is cancelled; `abort` waits for it, or a late write could
        # land in whatever reuses the descriptor's number.
        self._under_way: asyncio.Future[Any] | None = None

    @property
    def size(self) -> int:
        return self._written + self._gathered_bytes

    def find(self) -> None:
        """Take up what an earlier writer of this key left. Blocks; a chunk that was not whole is cut off."""
        with suppress(FileNotFoundError):
            # Killed between its rename and the ledger's commit: it was whole, and is stored once more.
            os.rename(self._store.path(self.key), self._temporary)
        with suppress(FileNotFoundError):
            os.chmod(self._temporary, 0o600)  # killed in its commit, it may be read-only already
            self._exists = True
            # A note without its end was cut off itself: no byte of its chunk was written.
            if (note := self._chunk_note.read_text()).endswith("\n"):
                _cut(self._temporary, int(note))
        self._chunk_note.unlink(missing_ok=True)
        if self._exists:
            self._written = self._on_disk = self._temporary.stat().st_size
        elif not self._store.incoming.is_dir():  # not this file alone is gone
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if self._written:
            self._reader = _HashReader(self._store, self._temporary, self._written)

    # --- writing -----------------------------------------------------------------------------------------------------

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        self._gathered.append(bytes(data))  # the same object, if it is bytes already
        self._gathered_bytes += len(data)
        if self._gathered_bytes >= WRITE_BYTES or len(self._gathered) >= PIECES_MAX:
            await self._write_gathered()

    async def take(self, inflow: Inflow, limit: int) -> int:
        before = self.size
        with self._store.taker() as thread:
            if thread is None:
                return 0
            if self._under_way is not None:  # a cancelled caller may have left a write running
                await self._run(self._under_way)
            await self._run(self._write_pieces(self._take_gathered()))  # opens the file, too
            if self._raw is None:
                raise AssertionError("a file that was just written to is not open")
            taking = asyncio.get_running_loop().run_in_executor(thread, self._take, self._raw, inflow, limit)
            try:
                await self._run(taking)
            except asyncio.CancelledError:
                inflow.stop()
                await ended(taking)
                raise
            finally:
                if self._reader is not None and self._before_chunk is None:
                    self._reader.read_to(self._on_disk)
        if (error := taking.result()) is not None:
            raise error
        return self.size - before

    def _take(self, file: "_HashedFile", inflow: Inflow, limit: int) -> Exception | None:
        """Write what comes in; returns what the inflow raised. Blocks; nobody else uses this writer meanwhile."""
        buffer = memoryview(bytearray(min(WRITE_BYTES, limit)))
        while limit:
            try:
                length = inflow.read_into(buffer[:limit])
            except Exception as error:  # the lender's, whatever it is: an error of its connection is none of the disk
                return error
            if not length:
                break
            limit -= length
            self._written += length
            file.write(buffer[:length])
            self._on_disk = self._written
        return None

    async def pause(self) -> None:
        try:
            if self._under_way is not None:  # a cancelled caller may have left a write running
                await self._run(self._under_way)
            if self._gathered or not self._exists:
                await self._write_gathered()
        finally:
            await self._run(self._close())

    async def verify(self) -> None:
        if self._exists:
            await self._run(self._in_thread(self._verify))

    def _verify(self) -> None:
        if self._temporary.stat().st_size != self._on_disk:
            raise _changed()

    async def commit(self) -> StoredBlob:
        if self._reader is not None:
            await self.pause()
            self._reader.read_to(self._written)
            try:
                self._hash = await self._reader.finish()
            except OSError as error:
                raise await self._store.translated(error) from error
        try:
            await self._run(self._commit())
        except asyncio.CancelledError:
            await self._settle()  # it cannot be stopped, and whoever comes next must find it still
            raise
        return StoredBlob(key=self.key, size=self._written, sha256=Sha256(self._hash.hexdigest()))

    async def abort(self) -> None:
        await self._settle()
        with suppress(OSError):  # closed it is all the same
            await self._close()
        if self._reader is not None:
            await self._reader.stop()
        await self._store.discard(self.key)

    async def _write_gathered(self) -> None:
        pieces = self._take_gathered()
        await self._run(self._write_pieces(pieces))
        if self._reader is not None and self._before_chunk is None:
            self._reader.read_to(self._written)

    async def _write_pieces(self, pieces: list[bytes]) -> None:
        if self._file is None:
            self._raw = await self._in_thread(self._open)
            self._file = wrap(self._raw, loop=asyncio.get_running_loop(), executor=self._store.threads)
        await self._file.writelines(pieces)
        self._on_disk = self._written

    def _take_gathered(self) -> list[bytes]:
        pieces, self._gathered = self._gathered, []
        self._written += self._gathered_bytes
        self._gathered_bytes = 0
        return pieces

    def _open(self) -> "_HashedFile":
        digest = self._hash if self._reader is None else None
        if not self._exists:
            file = _HashedFile(self._temporary, "xb", digest)
            self._exists = True
            return file
        file = _HashedFile(self._temporary, "ab", digest)
        if os.fstat(file.fileno()).st_size != self._on_disk:
            file.close()
            raise _changed()
        return file

    # --- chunks that count as a whole --------------------------------------------------------------------------------

    async def begin_chunk(self) -> None:
        await self.pause()
        self._before_chunk = (self._written, self._hash.copy())
        await self._run(self._in_thread(self._write_note, f"{self._written}\n"))

    def _write_note(self, text: str) -> None:
        with open(self._chunk_note, "w", opener=opener) as note:
            note.write(text)

    async def keep_chunk(self) -> None:
        await self.pause()
        await self._run(self._in_thread(self._chunk_note.unlink))
        self._before_chunk = None
        if self._reader is not None:
            self._reader.read_to(self._written)

    async def drop_chunk(self) -> None:
        if self._before_chunk is None:
            raise AssertionError("no chunk was begun")
        await self._settle()
        with translated(_STORE):
            await self._close()
        self._take_gathered()
        (self._written, self._hash), self._before_chunk = self._before_chunk, None
        self._on_disk = self._written
        await self._run(self._in_thread(self._cut_back))

    def _cut_back(self) -> None:
        _cut(self._temporary, self._written)
        self._chunk_note.unlink(missing_ok=True)

    # --- below -------------------------------------------------------------------------------------------------------

    def _in_thread(self, call: Callable[[*Arguments], T], *args: *Arguments) -> asyncio.Future[T]:
        return self._store.in_thread(call, *args)

    async def _run(self, step: Awaitable[object]) -> None:
        self._under_way = asyncio.ensure_future(step)
        try:
            await asyncio.shield(self._under_way)
        except OSError as error:
            raise await self._store.translated(error) from error

    async def _settle(self) -> None:
        """Wait for what a cancelled caller left running."""
        if self._under_way is not None:
            await asyncio.wait([self._under_way])
            if not self._under_way.cancelled():
                self._under_way.exception()  # seen, though a writer that was cancelled will never ask

    async def _close(self) -> None:
        file, self._file, self._raw = self._file, None, None
        if file is not None:
            await file.close()

    async def _commit(self) -> None:
        await self._in_thread(self._commit_in_thread)
        await self._close()

    def _commit_in_thread(self) -> None:
        with self._open() as file:
            file.writelines(self._take_gathered())
            self._on_disk = self._written
            os.fchmod(file.fileno(), 0o400)
            os.fsync(file.fileno())
            final = self._store.path(self.key)
            os.rename(self._temporary, final)
            self._store.require_renamed(final, os.fstat(file.fileno()), self._written)
        fsync_folder(final.parent)


class _HashedFile(io.FileIO):
    """A file that takes all it is given, however little the kernel takes at once, and hashes it while it is cached."""

    def __init__(self, path: Path, mode: str, digest: "hashlib._Hash | None") -> None:
        # Always at its end: a file that was cut behind our back would else get a hole and its old size. `O_CREAT` is
        # part of what Python makes of "ab", and would make a file that vanished anew.
        create = os.O_CREAT | os.O_EXCL if "x" in mode else 0
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | create
        super().__init__(path, mode, opener=lambda name, _: os.open(name, flags, 0o600))
        self._digest = digest

    def write(self, data: Any) -> int:
        view = memoryview(data)
        while view:
            view = view[super().write(view) :]
        if self._digest is not None:
            self._digest.update(data)
        return len(data)


class _HashReader:
    """Hashes a growing file from its beginning, in the background, a piece a thread hop, no further than it may.

    Opens the file for each piece: thousands of uploads may wait to be gone on with, and hold nothing open.
    """

    def __init__(self, store: DiskBlobStore, path: Path, limit: int) -> None:
        self._store = store
        self._path = path
        self._hash = hashlib.sha256()
        self._offset = 0
        self._limit = limit
        self._reading: asyncio.Task[None] | None = None

    def read_to(self, limit: int) -> None:
        """Go on; bytes up to here will not be cut off again."""
        self._limit = limit
        if self._reading is None or self._reading.done():
            self._reading = self._store.read_beside(self._read())

    async def finish(self) -> Any:
        """Wait until it has read as far as it may; the hash of it all."""
        if self._reading is not None:
            await asyncio.shield(self._reading)
        return self._hash

    async def stop(self) -> None:
        """Read no further."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _read(self) -> None:
        while self._offset < self._limit:
            size = min(self._limit - self._offset, REREAD_BYTES)
            self._offset += await self._store.in_thread(self._hash_piece, self._offset, size)

    def _hash_piece(self, offset: int, size: int) -> int:
        with open(self._path, "rb", buffering=0) as file:
            return _hash_piece(file.fileno(), offset, size, self._hash)


class _Adoption:
    """A file that becomes a blob by being renamed, in as many thread hops as its hash takes. All of it blocks."""

    def __init__(self, store: DiskBlobStore, folder: int, name: str, size_max: int | None) -> None:
        self._store = store
        self._folder = folder
        self._name = name
        self._size_max = size_max
        self._final = store.path(secrets.token_hex(16))
        self._descriptor = -1
        self._before: FileIdentity | None = None
        self._hash = hashlib.sha256()
        self._size = 0

    @property
    def stored(self) -> StoredBlob:
        """What it has become."""
        return StoredBlob(key=self._final.name, size=self._size, sha256=Sha256(self._hash.hexdigest()))

    def go_on(self) -> bool:
        """Take a step; whether it was the last."""
        if self._descriptor < 0:
            self._open()
        end = self._size + REREAD_BYTES
        while self._size < end:
            piece = os.pread(self._descriptor, WRITE_BYTES, self._size)
            if not piece:
                self._move()
                return True
            self._hash.update(piece)
            self._size += len(piece)
            if self._before is not None and self._size > self._before.size:
                raise ValueError("was still being written")
        return False

    def undo(self) -> None:
        """Leave no blob and nothing open."""
        self._close()
        self._store._discard(self._final.name)

    def _open(self) -> None:
        try:
            # Looked at before it is opened: opening a device may already do something.
            _require_plain(os.stat(self._name, dir_fd=self._folder, follow_symlinks=False))
            self._descriptor = os.open(self._name, _READ_PLAIN, dir_fd=self._folder)
        except PermissionError:
            raise ValueError("may not be read") from None
        except FileNotFoundError:
            raise ValueError("is gone") from None
        self._before = FileIdentity.of(os.fstat(self._descriptor))
        if self._size_max is not None and self._before.size > self._size_max:
            raise ValueError("was still being written")

    def _move(self) -> None:
        found = os.fstat(self._descriptor)
        _require_plain(found)
        if found.st_size != self._size or FileIdentity.of(found) != self._before:
            raise ValueError("was still being written")
        with suppress(PermissionError):  # another owner's, left by a container perhaps; our folder keeps it safe
            os.fchmod(self._descriptor, 0o400)
        os.fsync(self._descriptor)
        try:
            os.rename(self._name, self._final, src_dir_fd=self._folder)
        except PermissionError:
            raise ValueError("may not be moved") from None
        except FileNotFoundError:
            if self._final.parent.is_dir():
                raise ValueError("is gone") from None
            raise
        try:
            self._store.require_renamed(self._final, os.fstat(self._descriptor), self._size)
        except BytesLost:
            raise ValueError("was replaced while it was read") from None
        fsync_folder(self._final.parent)
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


_KINDS = {
    stat.S_IFLNK: "is a symbolic link",
    stat.S_IFDIR: "is a folder",
    stat.S_IFIFO: "is a named pipe",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
}


def _require_plain(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(_KINDS.get(stat.S_IFMT(found.st_mode), "is no regular file"))
    if found.st_nlink != 1:
        raise ValueError("is linked from elsewhere")


async def ended(*work: asyncio.Future[Any]) -> None:
    """Wait until work that cannot be stopped has ended, however often the caller is cancelled meanwhile."""
    while not all(one.done() for one in work):
        with suppress(asyncio.CancelledError):
            await asyncio.wait(work)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable; a rename is not until then."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cut(path: Path, size: int) -> None:
    """Shorten a file to a size; one that is shorter already would be filled with zeros, and is lost."""
    if path.stat().st_size < size:
        raise _changed()
    os.truncate(path, size)


def _changed() -> BytesLost:
    return BytesLost("What is on the disk is not what was received; send the file again.")


def _hash_piece(descriptor: int, offset: int, size: int, digest: "hashlib._Hash") -> int:
    """Hash the next piece of a file; how many bytes it had. Blocks."""
    data = os.pread(descriptor, size, offset)
    if not data:
        raise _changed()
    digest.update(data)
    return len(data)


def _digest(identity: FileIdentity) -> bytes:
    """An identity in a fifth of its memory."""
    return hashlib.blake2b(_IDENTITY.pack(*identity), digest_size=15).digest()


class _Proven:
    """Files that are known to hold the bytes of their SHA-256, or others, with the identity that each had then.

    Kept in memory alone: after a restart, or when a backup was restored, each file is read once before it is trusted.
    Beyond `PROVEN_MAX` the one that was asked for longest ago is forgotten. Used by several threads.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, key: str, identity: FileIdentity, is_right: bool) -> None:
        with self._lock:
            self._known[key] = _digest(identity) + bytes([is_right])
            self._known.move_to_end(key)
            if len(self._known) > PROVEN_MAX:
                self._known.popitem(last=False)

    def is_right(self, key: str, identity: FileIdentity) -> bool | None:
        """Whether the bytes are right; None if that has to be found out."""
        with self._lock:
            known = self._known.get(key)
            if known is None or known[:-1] != _digest(identity):
                return None
            self._known.move_to_end(key)
            return bool(known[-1])

    def drop(self, key: str) -> None:
        with self._lock:
            self._known.pop(key, None)

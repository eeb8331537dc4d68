"""The two folders of a disk store, the threads that touch them, and the removal of keys.

    incoming/<key>          being written; a sweep removes every file that nobody needs
    incoming/<key>.chunk    while a chunk with a checksum is written: the offset at which it began
    blobs/<2>/<key>         committed: fsynced, renamed, directory fsynced, mode 0400; a small one may be durable in
                            the journal first

Both lie in one file system, so that a rename from one to the other is atomic.
"""

import asyncio
import errno
import logging
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from dropmill.engines.disk.files import changed
from dropmill.engines.disk.pump import Pump
from dropmill.model.faults import fault_of, translated
from dropmill.model.ids import NodeId
from dropmill.model.uploads import FileIdentity
from dropmill.private import FOLDER_MODE

CHUNK_SUFFIX = ".chunk"
PARTS_SUFFIX = ".parts"
FOLDERS = 256  # of blobs, by the first two digits of the key

THREADS = 8  # hashing and writing release the interpreter lock; a few threads let uploads overlap their fsyncs
TAKES_MAX = 2  # inflows read at once, each by a pump of its own; more only compete for the processor
PROVEN_MAX = 50_000  # files whose bytes are known to match their SHA-256; some 250 bytes each, by tracemalloc
DISCARDED_MAX = 10_000  # keys whose removal is tried again; the next start finds any others

STORE = "The file store"
"""The subject of the sentences of its errors."""

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

log = logging.getLogger(__name__)

_IDENTITY = struct.Struct("=QQQqq")


class Folders:
    """The folders of one store.

    Attributes:
        incoming: holds what is being written.
        blobs: holds what is committed, in `FOLDERS` folders.
        node: makes the keys of new blobs.
        proven: which committed files are known to hold the right bytes.
        threads: where blocking calls run.
    """

    def __init__(self, folder: Path, node: NodeId, *, is_shared: bool) -> None:
        """Touch nothing yet.

        Args:
            folder: in which both lie.
            node: makes the keys of new blobs.
            is_shared: whether other processes may continue what this one has begun; see `shared`.
        """
        self.node = node
        self._is_shared = is_shared
        self.incoming = folder / "incoming"
        self.blobs = folder / "blobs"
        self.proven = Proven()
        self.threads = ThreadPoolExecutor(THREADS, "blob-store")
        # A thread that takes from an inflow waits for the network, so it must not hold up an fsync.
        self._pumps = [Pump() for _ in range(TAKES_MAX)]
        self._idle_pumps = list(self._pumps)
        self._readings: set[asyncio.Task[None]] = set()
        self._discarded: dict[str, None] = {}  # in the order in which their removal failed
        self.on_remove: Callable[[str], None] = lambda _: None
        """Called with each key that is being removed, before it is, in the thread that does it."""

    def make(self) -> None:
        """Make the folders. Blocks."""
        for folder in (self.incoming, self.blobs, *(self.blobs / f"{number:02x}" for number in range(FOLDERS))):
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)

    def names_in(self, numbers: Iterable[int]) -> list[list[str]]:
        """The names in each of these folders of blobs. Blocks."""
        return [os.listdir(self.blobs / f"{number:02x}") for number in numbers]

    async def close(self) -> None:
        """Wait for writes under way; cancel what only reads."""
        for reading in self._readings:
            reading.cancel()
        if self._readings:
            await asyncio.wait(self._readings)
        for pump in self._pumps:
            pump.threads.shutdown()
        self.threads.shutdown()

    def path(self, key: str) -> Path:
        """Where a committed blob lies."""
        return self.blobs / key[:2] / key

    def require_renamed(self, final: Path, written: os.stat_result, size: int) -> None:
        """Return if the file under its final name is the one that was written, and has this size. Blocks.

        Args:
            final: the name.
            written: what `fstat` says of the descriptor that was written to, or read.
            size: in bytes.

        Raises:
            BytesLost: somebody removed, replaced, cut or extended the file.
        """
        found = os.lstat(final)
        if (found.st_ino, found.st_dev, found.st_size) != (written.st_ino, written.st_dev, size):
            raise changed()
        self.proven.add(final.name, FileIdentity.of(found), True)

    # --- threads and errors ------------------------------------------------------------------------------------------

    async def hop(self, call: Callable[..., T], *args: object) -> T:
        """The result of a blocking call, made in a thread.

        Raises:
            OutOfSpace, StorageUnavailable: for its `OSError`.
        """
        with translated(STORE):
            return await asyncio.get_running_loop().run_in_executor(self.threads, call, *args)

    def in_thread(self, call: Callable[[*Arguments], T], *args: *Arguments) -> asyncio.Future[T]:
        """As `hop`, but its errors stay what they are, and the call continues if the caller is cancelled."""
        return asyncio.get_running_loop().run_in_executor(self.threads, call, *args)

    @contextmanager
    def pump(self) -> Iterator[Pump | None]:
        """A pump until the end of the context; None if all are in use."""
        if not self._idle_pumps:
            yield None
            return
        pump = self._idle_pumps.pop()  # the one that was used last: the other one may never need its memory
        try:
            yield pump
        finally:
            self._idle_pumps.append(pump)

    def read_beside(self, reading: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that only reads in the background; `close` cancels it."""
        task = asyncio.create_task(reading)
        self._readings.add(task)
        task.add_done_callback(self._has_read)
        return task

    def _has_read(self, reading: asyncio.Task[None]) -> None:
        self._readings.discard(reading)
        if not reading.cancelled():
            reading.exception()  # retrieved, though nobody may ever want the hash

    async def translated(self, error: OSError) -> Exception:
        """The error that callers get for an error of the disk.

        A missing file is `BytesLost`, unless the whole folder is missing: then nothing is lost, only unavailable.
        """
        if error.errno in (errno.ENOENT, errno.ELOOP) and await self.in_thread(self.incoming.is_dir):
            return changed()
        return fault_of(error, STORE)

    # --- removal -----------------------------------------------------------------------------------------------------

    def remove(self, key: str) -> None:
        """Remove all files of a key; none is no error. Blocks.

        Raises:
            OSError: the disk refuses.
        """
        self.proven.drop(key)
        self.on_remove(key)
        for path in (self.incoming / key, self.incoming / (key + CHUNK_SUFFIX), self.path(key)):
            path.unlink(missing_ok=True)
        if self._is_shared:
            self.remove_parts(key)

    def parts(self, key: str) -> Path:
        """The folder of the parts of a growing blob that several processes may continue."""
        return self.incoming / (key + PARTS_SUFFIX)

    def remove_parts(self, key: str) -> None:
        """Remove the parts of a growing blob; none is no error. Blocks.

        Raises:
            OSError: the disk refuses.
        """
        folder = self.parts(key)
        with suppress(FileNotFoundError):
            for name in os.listdir(folder):
                (folder / name).unlink(missing_ok=True)
            try:
                folder.rmdir()
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:  # one who has lost the turn writes to it still: the next sweep
                    raise

    def discard(self, key: str) -> bool:
        """Remove all files of a key, or note it for `retry_discards`; returns whether they are gone. Blocks."""
        try:
            self.remove(key)
        except OSError as error:
            if key not in self._discarded and len(self._discarded) < DISCARDED_MAX:
                log.warning("%s could not be removed and is tried again: %s", key, error)
                self._discarded[key] = None
            return False
        self._discarded.pop(key, None)
        return True

    async def retry_discards(self) -> int:
        """Remove what `discard` could not; returns how many keys are left."""
        if self._discarded:
            await self.in_thread(lambda: [self.discard(key) for key in tuple(self._discarded)])
        return len(self._discarded)

    def unfinished(self) -> list[str]:
        """The keys of everything in `incoming`. Blocks."""
        names = os.listdir(self.incoming)
        return sorted({name.removesuffix(CHUNK_SUFFIX).removesuffix(PARTS_SUFFIX) for name in names})

    def discard_all(self, keys: Iterable[str]) -> int:
        """Remove all files of some keys; returns of how many keys that was possible. Blocks."""
        return sum(self.discard(key) for key in keys)


class Proven:
    """Which files are known to hold the bytes of their SHA-256, or to hold others, and the identity each had then.

    In memory only: after a restart, or after a restore from a backup, each file is read once before it is trusted.
    Holds `PROVEN_MAX` files; beyond that it forgets the one that was asked for longest ago. Used by several threads.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, key: str, identity: FileIdentity, is_right: bool) -> None:
        """Remember what a reading, or a commit, has shown."""
        with self._lock:
            self._known[key] = _IDENTITY.pack(*identity) + bytes([is_right])
            self._known.move_to_end(key)
            if len(self._known) > PROVEN_MAX:
                self._known.popitem(last=False)

    def is_right(self, key: str, identity: FileIdentity) -> bool | None:
        """Whether the bytes are right; None if only a reading can show it."""
        with self._lock:
            known = self._known.get(key)
            if known is None or known[:-1] != _IDENTITY.pack(*identity):
                return None
            self._known.move_to_end(key)
            return bool(known[-1])

    def right(self, key: str) -> FileIdentity | None:
        """The identity with which the bytes are right; None if that is not known."""
        with self._lock:
            known = self._known.get(key)
            if known is None or not known[-1]:
                return None
            self._known.move_to_end(key)
            return FileIdentity(*_IDENTITY.unpack_from(known))

    def drop(self, key: str) -> None:
        """Forget a file."""
        with self._lock:
            self._known.pop(key, None)


async def ended(*work: asyncio.Future[Any]) -> None:
    """Wait until work that cannot be stopped has ended, however often the caller is cancelled meanwhile."""
    while not all(one.done() for one in work):
        with suppress(asyncio.CancelledError):
            await asyncio.wait(work)

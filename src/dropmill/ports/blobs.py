"""Immutable bytes under generated keys, and the writers that bring them in."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dropmill.model.uploads import FileIdentity, StoredBlob

SMALL_BYTES = 64 * 1024
"""Bytes of the largest part that `BlobStore.store_small` takes: a store may write it twice, first into a journal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallPart:
    """A whole file that is small enough to be stored together with others.

    Attributes:
        extension: "" or a checked one with its dot, as for `BlobStore.create`.
        data: all its bytes, at most `SMALL_BYTES`.
    """

    extension: str
    data: bytes


Needed = Callable[[Sequence[str]], Awaitable[Collection[str]]]
"""Of some keys, those whose bytes must stay."""


async def nobody_needs(_: Sequence[str]) -> Collection[str]:
    """The answer of a ledger that knows no key."""
    return ()


class Inflow(Protocol):
    """Bytes on their way in, lent to a thread, so that they need not pass through the event loop.

    `BlobWriter.take` calls `read_into` in one thread at a time, and no more once `take` has returned or raised. The
    lender also decides where the bytes end: at a delimiter, after some time, or when none come.
    """

    def read_into(self, buffer: memoryview) -> int:
        """Put the next bytes at the beginning of `buffer`; returns how many. Blocks until there are some.

        0 means that the loan is over; the lender knows why. Bytes that were read from the connection and do not belong
        to the blob stay with the lender.
        """

    def stop(self) -> None:
        """End the loan: a call that waits returns 0 at once, and so does every later one.

        May be called from any thread, while nobody reads, and more than once.
        """


class BlobWriter(Protocol):
    """One blob on its way in. Invisible until `commit` has returned; one task at a time uses it."""

    @property
    def key(self) -> str:
        """What the blob will be stored under, and what `BlobStore.resume` takes until then."""

    @property
    def size(self) -> int:
        """Bytes given to `write` so far."""

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes; returns when the writer may be given more (back-pressure).

        The caller may reuse the buffer once this returns.

        Raises:
            OutOfSpace: the disk is full; the blob can only be aborted.
        """

    async def take(self, inflow: Inflow, limit: int) -> int:
        """Append bytes in a thread, from an inflow, until it ends or `limit` bytes were taken.

        `size` may rise meanwhile, and counts all of them afterwards. Once this has returned or raised, the store
        reads no more from the inflow.

        Args:
            inflow: lent until then.
            limit: most bytes to take, above 0. Bytes beyond it stay in the inflow.

        Returns:
            How many bytes were taken. 0 also if the store has no thread free now: then nothing was read, and the
            caller uses `write` instead.

        Raises:
            OutOfSpace: as for `write`. What was read from the inflow is lost, like the blob.

        Cancelling stops the inflow; bytes taken until then count. An exception of `Inflow.read_into` is raised here,
        and bytes taken before it count, too.
        """

    async def pause(self) -> None:
        """Put all bytes on disk, so that they survive this process (not a power cut), and close the file."""

    async def begin_chunk(self) -> None:
        """Begin a chunk that counts only as a whole: after a kill, `resume` finds none of it."""

    async def keep_chunk(self) -> None:
        """End the chunk: its bytes count from now on, and survive this process."""

    async def drop_chunk(self) -> None:
        """Remove the bytes written since `begin_chunk`."""

    async def verify(self) -> None:
        """Return if the file that `pause` left still exists and has its size.

        Raises:
            BytesLost: it does not; the blob can only be aborted.
        """

    async def commit(self) -> StoredBlob:
        """Make the blob durable and visible: written, compared in size, fsynced, renamed, its folder fsynced.

        Raises:
            OutOfSpace: as for `write`.
            BytesLost: the bytes on disk are not those given to `write`. A vanished file is never made anew.
        """

    async def abort(self) -> None:
        """Remove what was written, as `BlobStore.discard` does. Safe after a failed call, and to call twice."""


class BlobStore(Protocol):
    """Immutable bytes under generated keys.

    Any call that touches bytes raises `OutOfSpace` or `StorageUnavailable` when the disk refuses.
    """

    def create(self, extension: str) -> BlobWriter:
        """A writer for a new blob; `extension` is "" or a checked one with its dot, such as ".tar.gz"."""

    async def store_small(self, parts: Sequence[SmallPart]) -> Sequence[StoredBlob]:
        """Store small files together: all of them are durable and visible when this returns, in the order of `parts`.

        Parts of several callers may share an fsync. All parts of one call are stored or none, except that a kill may
        leave some; nothing refers to those, and the next start removes them by `keys`.

        Cancelling removes them all.

        Raises:
            ValueError: a part is larger than `SMALL_BYTES`.
            OutOfSpace, BytesLost: as for `BlobWriter.commit`.
        """

    async def resume(self, key: str, *, fence: int | None = None, received: int = 0) -> BlobWriter:
        """A writer that continues a paused blob, also one of an earlier process; an unknown key begins a new one.

        Args:
            key: of the blob.
            fence: of the turn at it; whoever had an earlier one may still be writing, and that does not count. None:
                the caller has no turn. It may read `size` and `commit` what is there, but not write.
            received: bytes that were answered for. If a folder that is shared does not show all of them yet, this
                raises `StorageUnavailable`.

        The store hashes the bytes that are there in the background; `commit` waits for that.
        """

    async def adopt(self, folder: int, name: str, size_max: int | None = None) -> StoredBlob:
        """Move a file of this machine into the store: it becomes a durable blob, and leaves its folder.

        Only a readable regular file with one link is taken; no link is followed. Cancelling removes the blob.

        Args:
            folder: descriptor of the directory that holds it; the caller keeps it open until this has returned.
            name: the file's name in there.
            size_max: a larger file is refused without being read, in bytes; None means no limit.

        Raises:
            ValueError: the file cannot be taken; the text says why ("is a symbolic link"). It stays where it is.
            OutOfSpace: as for `BlobWriter.write`.
        """

    def local(self, key: str) -> AbstractAsyncContextManager[Path]:
        """A real local path to the bytes, valid inside the context. Read-only."""

    async def open_stored(self, blob: StoredBlob) -> tuple[int, FileIdentity]:
        """A descriptor of a blob whose bytes have its size and SHA-256; the caller closes it.

        The store reads and compares them first, unless nothing has touched the file since it last did. While the
        descriptor has the returned identity, its bytes are right; compare it after each read.

        Raises:
            BytesLost: they vanished, or somebody changed them.
        """

    def proven(self, key: str) -> FileIdentity | None:
        """The identity with which the file of `local` is known to hold the blob's bytes; touches no disk.

        None: only `open_stored` can say.
        """

    async def delete(self, key: str) -> None:
        """Remove a blob; none is no error."""

    async def discard(self, key: str) -> None:
        """Remove a blob that nothing refers to. If the disk refuses, note it for `retry_discards` and raise nothing."""

    async def retry_discards(self) -> int:
        """Remove what `discard` could not; returns how many keys are left."""

    async def replay(self, live: Callable[[Sequence[str]], Awaitable[Collection[str]]]) -> int:
        """At start-up, before anything is removed: complete small files that an earlier process stored together.

        Args:
            live: of some keys, returns those whose bytes must be there. A deleted blob that is named comes back.

        Returns:
            How many files had to be written anew.

        Raises:
            OutOfSpace, StorageUnavailable: the store is incomplete; the next call continues.
        """

    async def sweep(self, needed: Needed = nobody_needs) -> int:
        """Remove unfinished blobs that nobody needs; returns how many.

        Args:
            needed: asked after the unfinished blobs were listed, so that none can begin in between.
        """

    def keys(self) -> AsyncIterator[Sequence[str]]:
        """Every committed key, in several groups."""

    async def free_bytes(self) -> int:
        """Bytes that may still be written."""

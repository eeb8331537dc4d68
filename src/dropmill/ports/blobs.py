"""Immutable bytes under generated keys, and how they come in."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dropmill.model.uploads import FileIdentity, StoredBlob

SMALL_BYTES = 64 * 1024
"""Largest part that `BlobStore.store_small` takes: a store may write it twice, first into a journal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SmallPart:
    """A whole file that is small enough to be stored together with others.

    Attributes:
        extension: "" or a checked one with its dot, as for `BlobStore.create`.
        data: all its bytes, at most `SMALL_BYTES`.
    """

    extension: str
    data: bytes


class Inflow(Protocol):
    """Bytes on their way in, lent to a thread, so that they need not pass through the event loop.

    `BlobWriter.take` calls `read_into` in one thread at a time, and not at all once it has returned or raised. Where
    the bytes end is the lender's decision, too: at a delimiter, after some time, when none come.
    """

    def read_into(self, buffer: memoryview) -> int:
        """Put the next bytes at the beginning of `buffer`; returns how many. Blocks until there are some.

        0 means that the loan is over, for whatever reason; the lender finds out why a connection broke. Bytes that
        were read from the connection and do not belong to the blob stay with the lender.
        """

    def stop(self) -> None:
        """End the loan: a call that waits returns 0 at once, and so does every later one.

        Called from any thread, also when nobody reads, and more than once.
        """


class BlobWriter(Protocol):
    """One blob on its way in. Invisible until `commit` has returned; used by one task at a time."""

    @property
    def key(self) -> str:
        """What the blob will be stored under, and what `BlobStore.resume` takes until then."""

    @property
    def size(self) -> int:
        """Bytes given to `write` so far."""

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes; returns when the writer may be given more (back-pressure).

        The buffer may be reused by the caller once this returns.

        Raises:
            OutOfSpace: the disk is full; the blob can only be aborted.
        """

    async def take(self, inflow: Inflow, limit: int) -> int:
        """Append bytes in a thread, from where they come in, until the inflow ends or `limit` bytes were taken.

        `size` may rise meanwhile, and counts all of them afterwards. Nobody reads from the inflow any more when this
        has returned or raised, however it ended.

        Args:
            inflow: lent until then.
            limit: most bytes to take, above 0. What lies beyond them stays in the inflow.

        Returns:
            How many bytes were taken. 0 also if the store has no thread free now: nothing was read then, and the
            bytes go to `write`.

        Raises:
            OutOfSpace: as for `write`. What was read from the inflow is lost, like the blob.

        Cancelling stops the inflow; what was taken until then counts. What `Inflow.read_into` raises is passed on,
        and what was taken before counts, too.
        """

    async def pause(self) -> None:
        """Put down what was written so far, so that it survives this process (not a power cut); hold nothing open."""

    async def begin_chunk(self) -> None:
        """What is written from here on counts only as a whole: after a kill, `resume` finds none of it."""

    async def keep_chunk(self) -> None:
        """The chunk is whole: it counts from now on, and survives this process."""

    async def drop_chunk(self) -> None:
        """Forget the chunk."""

    async def verify(self) -> None:
        """Return if what was put down by `pause` is still there, as far as its size tells.

        Raises:
            BytesLost: it vanished or has another size; the blob can only be aborted.
        """

    async def commit(self) -> StoredBlob:
        """Make the blob durable and visible: written, compared in size, fsynced, renamed, its folder fsynced.

        Raises:
            OutOfSpace: as for `write`.
            BytesLost: what is on disk is not what was given to `write`. A vanished file is never made anew.
        """

    async def abort(self) -> None:
        """Remove what was written, as `BlobStore.discard` does. Safe after a failed call, and to call twice."""


class BlobStore(Protocol):
    """Immutable bytes under generated keys.

    Any call that touches bytes raises `OutOfSpace` or `StorageUnavailable` when the disk refuses.
    """

    def create(self, extension: str) -> BlobWriter:
        """Begin a blob; `extension` is "" or a checked one with its dot, such as ".tar.gz"."""

    async def store_small(self, parts: Sequence[SmallPart]) -> Sequence[StoredBlob]:
        """Store small files together: all of them are durable and visible when this returns, in the order of `parts`.

        Parts of several callers may share what makes them durable. All parts of one call are stored or none, except
        that a kill may leave some, which nothing refers to and which the next start removes by `keys`.

        Cancelling undoes it: there are no blobs then.

        Raises:
            ValueError: a part is larger than `SMALL_BYTES`.
            OutOfSpace, BytesLost: as for `BlobWriter.commit`.
        """

    async def resume(self, key: str) -> BlobWriter:
        """Go on with a blob that was paused, also in an earlier process; an unknown key begins it.

        The hash of what is there already is made in the background; `commit` waits for it.
        """

    async def adopt(self, folder: int, name: str, size_max: int | None = None) -> StoredBlob:
        """Take a file of this machine into the store: its bytes become a blob, durable, and it is gone from its folder.

        Only a regular file with one link that may be read is taken; no link is followed. Cancelling undoes it: there
        is no blob then.

        Args:
            folder: descriptor of the directory that holds it; stays open until this has returned.
            name: the file's name in there.
            size_max: bytes beyond which it is not even read; None means no limit.

        Raises:
            ValueError: it is something else, which the text says ("is a symbolic link"). It stays where it is.
            OutOfSpace: as for `BlobWriter.write`.
        """

    def local(self, key: str) -> AbstractAsyncContextManager[Path]:
        """A real local path to the bytes, valid inside the context. Read-only."""

    async def open_stored(self, blob: StoredBlob) -> tuple[int, FileIdentity]:
        """A descriptor of a blob's bytes, which are known to have its size and SHA-256; the caller closes it.

        They are read once before, unless nothing touched them since they were last known to be right. While the
        descriptor has the identity that is returned, its bytes are right; compare it after each read.

        Raises:
            BytesLost: they vanished or were changed.
        """

    def is_proven(self, key: str, identity: FileIdentity) -> bool:
        """Whether a file of this identity is known to hold the blob's bytes; if not, `open_stored` finds out."""

    async def delete(self, key: str) -> None:
        """Remove a blob; none is no error."""

    async def discard(self, key: str) -> None:
        """Remove what nothing refers to. What the disk refuses to remove is noted for `retry_discards`, not raised."""

    async def retry_discards(self) -> int:
        """Remove what `discard` could not; returns how many keys are still left."""

    async def sweep(self, resumable: Collection[str] = ()) -> int:
        """Remove what writers of an earlier process left, except `resumable` keys; returns how many. At start-up."""

    def keys(self) -> AsyncIterator[Sequence[str]]:
        """Every committed key, some at a time."""

    async def free_bytes(self) -> int:
        """Bytes that may still be written."""

"""Immutable bytes under generated keys, and how they come in."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from dropmill.model.records import FileIdentity, StoredBlob


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

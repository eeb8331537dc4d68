"""Growing blobs in a folder that several processes share, perhaps on several hosts.

    incoming/<key>.parts/<fence>.<offset>         what came in one turn, from that offset of the blob on
    incoming/<key>.parts/<fence>.<offset>.chunk   while a chunk with a checksum is written: the offset at which it began
    incoming/<key>.parts/<fence>.whole            all parts, while they are copied together

Nobody can keep a process that has lost its turn from writing to a file that it has open: it may be suspended in the
middle of a call, on another host. So each turn has a file of its own. A part counts up to the offset at which the next
one begins; what a late writer appends behind that is never read. A blob that came in one turn is renamed; one that came
in several is copied together.

Files are closed before an offset is answered: on NFS, others see the bytes from then on.
"""

import asyncio
import errno
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dropmill.engines.disk.files import READ_PLAIN, REREAD_BYTES, HashedFile, changed, cut, fsync_folder
from dropmill.engines.disk.folders import CHUNK_SUFFIX, Folders
from dropmill.engines.disk.writer import DiskBlobWriter, HashReader
from dropmill.model.errors import BytesLost
from dropmill.model.ids import Sha256
from dropmill.model.uploads import StoredBlob
from dropmill.private import FOLDER_MODE


class Part(NamedTuple):
    """Bytes of a blob in a file.

    Attributes:
        fence: of the turn in which they came.
        begin: offset of the first one.
        end: offset after the last one that counts.
        path: the file.
    """

    fence: int
    begin: int
    end: int
    path: Path


def parts_in(folder: Path) -> list[Part]:
    """The parts of a blob, in their order. Blocks.

    Raises:
        BytesLost: bytes are missing between two of them, or at the beginning.
    """
    found: list[tuple[int, int, Path]] = []
    with suppress(FileNotFoundError):
        for name in os.listdir(folder):
            of_fence, _, from_offset = name.partition(".")
            if of_fence.isdecimal() and from_offset.isdecimal():
                found.append((int(of_fence), int(from_offset), folder / name))
    found.sort()
    parts: list[Part] = []
    for index, (fence, begin, path) in enumerate(found):
        if begin > (parts[-1].end if parts else 0):
            raise changed()
        is_last = index == len(found) - 1
        size = path.stat().st_size if is_last else found[index + 1][1] - begin
        if is_last and (chunk := _begun_chunk(path)) is not None:
            size = chunk - begin
        if not is_last and path.stat().st_size < size:
            raise changed()
        parts.append(Part(fence, begin, begin + max(size, 0), path))
    return parts


def _begun_chunk(path: Path) -> int | None:
    """The offset at which the chunk began that is being written to a part; None if there is none."""
    with suppress(FileNotFoundError):
        # A note without its line end was itself cut off: then no byte of its chunk was written.
        if (note := path.with_name(path.name + CHUNK_SUFFIX).read_text()).endswith("\n"):
            return int(note)
    return None


class SharedBlobWriter(DiskBlobWriter):
    """`dropmill.ports.blobs.BlobWriter` to a part of its own."""

    def __init__(self, folders: Folders, key: str, fence: int | None) -> None:
        """Touch nothing yet; call `find`.

        Args:
            folders: of the store.
            key: of the blob.
            fence: of the turn; None for somebody without it, who must not write.
        """
        super().__init__(folders, key)
        self._fence = fence
        self._folder = folders.parts(key)
        self._earlier: list[Part] = []
        self._is_whole = False  # whether a file under the final name has all of it

    def find(self) -> None:
        """Find what earlier turns have brought; touches nothing of theirs. Blocks."""
        self._earlier, self._is_whole, self._exists, self._reader, self._is_hashed = [], False, False, None, True
        final = self._folders.path(self.key)
        with suppress(FileNotFoundError):
            # Whoever renamed it has not recorded it: it was killed, or another process has taken its turn.
            size = final.stat().st_size
            self._earlier, self._is_whole = [Part(0, 0, size, final)], True
        if not self._is_whole:
            parts = parts_in(self._folder)
            if parts and parts[-1].fence == self._fence:
                own = parts.pop()
                self._continue(own)
            self._earlier = [part for part in parts if part.end > part.begin]
            if not parts and not self._folders.incoming.is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if not self._exists:
            self._base = self._earlier[-1].end if self._earlier else 0
            self._written = self._on_disk = self._base
            self._name_part()
        self._is_hashed = not self._base

    def _name_part(self) -> None:
        self._temporary = self._folder / f"{self._fence}.{self._base}"
        self._chunk_note = self._folder / f"{self._temporary.name}{CHUNK_SUFFIX}"

    def _continue(self, own: Part) -> None:
        """Continue the file of this turn."""
        self._base = own.begin
        self._name_part()
        cut(own.path, own.end - own.begin)
        self._chunk_note.unlink(missing_ok=True)
        os.chmod(own.path, 0o600)
        self._exists = True
        self._written = self._on_disk = own.end
        if not own.begin and own.end:
            self._reader = HashReader(self._folders, own.path, own.end)

    def _open(self) -> HashedFile:
        if self._fence is None:
            raise AssertionError("only who has the turn writes")
        if not self._exists:
            self._folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        return super()._open()

    async def pause(self) -> None:
        if self._fence is not None and self.size > self._base:
            await super().pause()

    async def commit(self) -> StoredBlob:
        if not self._earlier and self._fence is not None:
            if not self._exists:
                await self._run(self._in_thread(lambda: self._folder.mkdir(mode=FOLDER_MODE, exist_ok=True)))
            stored = await super().commit()
            await self._run(self._in_thread(self._folders.remove_parts, self.key))
            return stored
        await self.pause()
        digest = hashlib.sha256()
        try:
            await self._run(self._put_together(digest))
        except BytesLost:
            # Another process may have renamed its part meanwhile, because it had all bytes: then the file is there.
            size = self._written
            await self._run(self._in_thread(self.find))
            if not self._is_whole or self._written != size:
                raise
            digest = hashlib.sha256()
            await self._run(self._put_together(digest))
        return StoredBlob(key=self.key, size=self._written, sha256=Sha256(digest.hexdigest()))

    async def _put_together(self, digest: "hashlib._Hash") -> None:
        """Hash all bytes, and copy them together unless they are. In pieces, so that others get a thread."""
        parts = list(self._earlier)
        if self._exists:
            parts.append(Part(self._fence or 0, self._base, self._written, self._temporary))
        whole = None if self._is_whole else self._folder / f"{self._fence}.whole"
        target = None if whole is None else await self._in_thread(self._new, whole)
        try:
            for part in parts:
                at = part.begin
                while at < part.end:
                    size = min(part.end - at, REREAD_BYTES)
                    at += await asyncio.shield(self._in_thread(_copy, part, at, size, digest, target))
            if target is not None and whole is not None:
                await asyncio.shield(self._in_thread(self._put_in_place, target, whole))
        finally:
            if target is not None:
                target.close()
        await self._in_thread(self._folders.remove_parts, self.key)

    def _new(self, whole: Path) -> HashedFile:
        self._folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        whole.unlink(missing_ok=True)
        return HashedFile(whole, "xb", None)

    def _put_in_place(self, target: HashedFile, whole: Path) -> None:
        os.fchmod(target.fileno(), 0o400)
        os.fsync(target.fileno())
        final = self._folders.path(self.key)
        os.rename(whole, final)
        self._folders.require_renamed(final, os.fstat(target.fileno()), self._written)
        fsync_folder(final.parent)


def _copy(part: Part, at: int, size: int, digest: "hashlib._Hash", target: HashedFile | None) -> int:
    descriptor = os.open(part.path, READ_PLAIN)
    try:
        data = os.pread(descriptor, size, at - part.begin)
    finally:
        os.close(descriptor)
    if not data:
        raise changed()
    digest.update(data)
    if target is not None:
        target.append(data)
    return len(data)

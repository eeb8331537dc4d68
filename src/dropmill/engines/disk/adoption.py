"""A file of this machine that becomes a blob by a rename, or on another file system by a copy."""

import errno
import hashlib
import os
import stat
from contextlib import suppress

from dropmill.engines.disk.files import READ_PLAIN, REREAD_BYTES, HashedFile, fsync_folder
from dropmill.engines.disk.folders import Folders
from dropmill.model.errors import BytesLost
from dropmill.model.ids import Sha256, new_blob_key
from dropmill.model.uploads import FileIdentity, StoredBlob

PIECE_BYTES = 256 * 1024  # read and hashed at once


class Adoption:
    """Takes one file over. Each call is one thread hop, and all of them block."""

    def __init__(self, folders: Folders, folder: int, name: str, size_max: int | None) -> None:
        """Touch nothing yet; the arguments are those of `BlobStore.adopt`."""
        self._folders = folders
        self._folder = folder
        self._name = name
        self._size_max = size_max
        self._final = folders.path(new_blob_key(folders.node))
        self._descriptor = -1
        self._before: FileIdentity | None = None
        self._hash = hashlib.sha256()
        self._size = 0
        self._copy: HashedFile | None = None  # on the store's file system; None: the file itself is renamed
        self._copied = hashlib.sha256()
        self._at = 0

    @property
    def stored(self) -> StoredBlob:
        """The blob; complete after the last step."""
        return StoredBlob(key=self._final.name, size=self._size, sha256=Sha256(self._hash.hexdigest()))

    def go_on(self) -> bool:
        """Open, hash or copy `REREAD_BYTES`, or rename; returns whether that was the last step.

        Raises:
            ValueError: see `BlobStore.adopt`.
        """
        if self._copy is not None:
            return self._copy_on()
        if self._descriptor < 0:
            self._open()
        end = self._size + REREAD_BYTES
        while self._size < end:
            piece = os.pread(self._descriptor, PIECE_BYTES, self._size)
            if not piece:
                return self._move()
            self._hash.update(piece)
            self._size += len(piece)
            if self._before is not None and self._size > self._before.size:
                raise ValueError("was still being written")
        return False

    def undo(self) -> None:
        """Remove the blob, if there is one, and close what is open."""
        self._close()
        self._folders.discard(self._final.name)

    def _open(self) -> None:
        try:
            # `stat` before `open`: opening a device may already have an effect.
            _require_plain(os.stat(self._name, dir_fd=self._folder, follow_symlinks=False))
            self._descriptor = os.open(self._name, READ_PLAIN, dir_fd=self._folder)
        except PermissionError:
            raise ValueError("may not be read") from None
        except FileNotFoundError:
            raise ValueError("is gone") from None
        self._before = FileIdentity.of(os.fstat(self._descriptor))
        if self._size_max is not None and self._before.size > self._size_max:
            raise ValueError("was still being written")

    def _move(self) -> bool:
        """Rename the file, or begin to copy it; returns whether the blob is in its place."""
        found = os.fstat(self._descriptor)
        _require_plain(found)
        if found.st_size != self._size or FileIdentity.of(found) != self._before:
            raise ValueError("was still being written")
        with suppress(PermissionError):  # another user's file; the mode of our folder protects it
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
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._begin_copy()
            return False
        self._finish()
        return True

    def _begin_copy(self) -> None:
        self._copy = HashedFile(self._folders.incoming / self._final.name, "xb", None)
        self._copied = hashlib.sha256()

    def _copy_on(self) -> bool:
        """Copy `REREAD_BYTES` more; returns whether the blob is in its place."""
        if self._copy is None:
            raise AssertionError("no copy was begun")
        end = min(self._at + REREAD_BYTES, self._size)
        while self._at < end:
            piece = os.pread(self._descriptor, min(PIECE_BYTES, end - self._at), self._at)
            if not piece:
                raise ValueError("was still being written")
            self._copied.update(piece)
            self._copy.append(piece)
            self._at += len(piece)
        if self._at < self._size:
            return False
        if self._copied.digest() != self._hash.digest():
            raise ValueError("was still being written")
        os.fchmod(self._copy.fileno(), 0o400)
        os.fsync(self._copy.fileno())
        os.rename(self._folders.incoming / self._final.name, self._final)
        os.close(self._descriptor)
        self._descriptor = os.dup(self._copy.fileno())
        self._copy.close()
        self._finish()
        with suppress(OSError):  # the folder of the attempt is removed in any case
            os.unlink(self._name, dir_fd=self._folder)
        return True

    def _finish(self) -> None:
        try:
            self._folders.require_renamed(self._final, os.fstat(self._descriptor), self._size)
        except BytesLost:
            raise ValueError("was replaced while it was read") from None
        fsync_folder(self._final.parent)
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        if self._copy is not None:
            self._copy.close()


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

"""The file on disk that mirrors the newest revision: read, and replaced whole or not at all.

Everything here blocks and is called in threads; `OSError` is the caller's to explain. Nothing here knows the ledger.
Order of a replacement: written beside, fsynced, exchanged with the old one, folder fsynced, the old one removed. The
exchange shows what was replaced: a save that an editor makes at the same moment is not lost.
"""

import contextlib
import ctypes
import errno
import hashlib
import os
import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, overload

from dropmill.configfile.document import MAX_BYTES
from dropmill.model.ids import Sha256

REJECTED_SUFFIX: Final = ".rejected"  # what is replaced although no revision holds it is kept under this name

_TEMPORARY_SUFFIX: Final = ".dropmill"
_AT_FDCWD: Final = -100  # fcntl.h
_RENAME_EXCHANGE: Final = 2  # linux/fs.h
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """The new text, safely on disk beside the file that it is going to replace."""

    temporary: Path
    target: Path

    def put_in_place(self, disk: Sha256 | None) -> bool:
        """Replace the target and fsync its folder, if the target still holds what was seen. The temporary is gone then.

        Args:
            disk: SHA-256 of the target when it was last looked at; None if there was none.

        Returns:
            False, and nothing changed, if somebody wrote to it since.
        """
        try:
            if sha256_of(read(self.target)) != disk:
                return False
            if disk is None or not _exchange(self.temporary, self.target):
                os.replace(self.temporary, self.target)
            elif not _holds(self.temporary, disk):  # written between the look and the exchange: that goes back
                os.replace(self.temporary, self.target)
                return False
            _sync_folder(self.target.parent)
            return True
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the temporary file; none is no error."""
        self.temporary.unlink(missing_ok=True)


@overload
def sha256_of(text: bytes) -> Sha256: ...
@overload
def sha256_of(text: bytes | None) -> Sha256 | None: ...
def sha256_of(text: bytes | None) -> Sha256 | None:
    """The SHA-256 of a text; None for none."""
    return None if text is None else Sha256(hashlib.sha256(text).hexdigest())


def read(path: Path) -> bytes | None:
    """The file's bytes, at most one more than a config may have; None if there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a pipe would wait for ever
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)


def write_beside(path: Path, text: bytes, *, keep: bool) -> Written:
    """Write and fsync a temporary file beside the one that `path` leads to, with that one's mode and owner.

    Args:
        path: followed if it is a symbolic link, so that the link stays.
        text: what to write.
        keep: whether to copy the present file aside: its bytes are in no revision.
    """
    target = Path(os.path.realpath(path))
    try:
        old = os.stat(target)
    except FileNotFoundError:
        old = None
    if keep:
        shutil.copy2(target, target.with_name(target.name + REJECTED_SUFFIX))
    temporary = target.with_name(_temporary_prefix(target) + secrets.token_hex(8) + _TEMPORARY_SUFFIX)
    mode = 0o666 if old is None else 0o600  # a new one obeys the umask; one with secrets is never readable meanwhile
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    written = Written(temporary=temporary, target=target)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            if old is not None:
                _take_owner_and_mode(descriptor, old)
            os.fsync(descriptor)
    except BaseException:
        written.discard()
        raise
    return written


def _take_owner_and_mode(descriptor: int, old: os.stat_result) -> None:
    for owner in (old.st_uid, -1):  # giving a file away needs a privilege; keeping its group may still be allowed
        try:
            os.fchown(descriptor, owner, old.st_gid)
        except PermissionError:
            continue
        break
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def drop_rejected(path: Path, sha256: Sha256) -> None:
    """Remove what was kept aside, if it has this SHA-256."""
    target = Path(os.path.realpath(path))
    rejected = target.with_name(target.name + REJECTED_SUFFIX)
    if sha256_of(read(rejected)) == sha256:
        rejected.unlink(missing_ok=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap what two names lead to, in one step (renameat2(2)); False where that is not known."""
    swap = getattr(_LIBC, "renameat2", None)
    if swap is None:
        return False
    if swap(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL):  # some file systems, such as NFS
        return False
    raise OSError(number, os.strerror(number))


def _holds(path: Path, sha256: Sha256) -> bool:
    try:
        return sha256_of(read(path)) == sha256
    except OSError:
        return False


def create(path: Path, text: bytes) -> None:
    """Write a file where none was, whole or not at all."""
    if not write_beside(path, text, keep=False).put_in_place(None):
        raise FileExistsError(errno.EEXIST, "Somebody else is writing this file")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary_prefix(target: Path) -> str:
    return f".{target.name[:100]}."  # a name may have 255 bytes in all


def sweep(path: Path) -> None:
    """Remove what killed saves left. A folder that cannot be listed is told of by whoever writes there."""
    target = Path(os.path.realpath(path))
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if entry.name.startswith(_temporary_prefix(target)) and entry.name.endswith(_TEMPORARY_SUFFIX):
                os.unlink(entry.path)


def folders(path: Path) -> tuple[Path, ...]:
    """The folders in which an edit shows: the link's and the target's."""
    return tuple(sorted({path.absolute().parent, Path(os.path.realpath(path)).parent}))

"""The file on disk that mirrors the newest revision: reads it, and replaces it whole or not at all.

Everything here blocks: call it in threads. It raises `OSError`, and knows nothing of the ledger.

A replacement writes a new file beside the old one, fsyncs it, exchanges the two, fsyncs the folder and removes the old
file. The exchange shows what was replaced, so a save that an editor makes at the same moment is not lost.

A file that nothing can be renamed over (a mount point, a folder that takes no new files) is overwritten in place. This
writes the old bytes to the `aside` folder and fsyncs them, overwrites the file, fsyncs it, reads it back and compares,
and removes the old bytes. A kill in between leaves a torn file, which `is_torn` recognises by the bytes kept aside.
"""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import re
import secrets
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, overload

from dropmill.configfile.yaml.findings import MAX_BYTES
from dropmill.model.ids import Sha256

REJECTED_SUFFIX: Final = ".rejected"  # of the copy of a text that no revision holds, made before it is replaced

_TEMPORARY_SUFFIX: Final = ".dropmill"
_BEFORE_SUFFIX: Final = ".before"  # in the aside folder: the old bytes, named after the SHA-256 of the new ones
_AT_FDCWD: Final = -100  # fcntl.h
_RENAME_EXCHANGE: Final = 2  # linux/fs.h
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_NO_NEW_FILES: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})  # the folder's, not the file's
_NO_RENAMING: Final = _NO_NEW_FILES | {errno.EBUSY, errno.EXDEV}
_SECTOR: Final = 512  # bytes that a disk writes whole or not at all
_LEASE_TRIES: Final = 10
_TRY_AGAIN_S: Final = 0.01
_BUSY_TRIES: Final = 500  # 5 s: overwriting a file takes milliseconds


class CannotBeWritten(OSError):
    """The file can be neither replaced nor overwritten, for a reason of its own: the disk is not full or read-only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Replacement:
    """A text that is ready to replace the target's.

    Attributes:
        temporary: a file beside the target that holds the text, fsynced; None if the target must be overwritten.
        aside: the folder where the target's old bytes are kept while it is written in place.
    """

    target: Path
    text: bytes
    temporary: Path | None
    aside: Path

    def put_in_place(self, disk: Sha256 | None) -> bool:
        """Replace the target durably if it still holds what was seen, and remove the temporary file.

        Args:
            disk: SHA-256 of the target when it was last read; None if there was no file.

        Returns:
            False if another process wrote to it since, or is overwriting it now; then it keeps their content.

        Raises:
            OSError: it cannot be written now. It holds the old bytes again, or these are kept aside for `is_torn`.
        """
        try:
            if self.temporary is None:
                return self._overwrite(disk)
            try:
                return self._rename(self.temporary, disk)
            except OSError as error:
                if disk is None or error.errno not in _NO_RENAMING:
                    raise
            return self._overwrite(disk)
        finally:
            self._drop_temporary()

    def discard(self) -> None:
        """Remove the temporary file and the bytes kept aside. The next start sweeps what cannot be removed now."""
        self._drop_temporary()
        with contextlib.suppress(OSError):
            self._before.unlink(missing_ok=True)

    @property
    def _before(self) -> Path:
        return _before_path(self.aside, sha256_of(self.text))

    def _drop_temporary(self) -> None:
        if self.temporary is not None:
            with contextlib.suppress(OSError):
                self.temporary.unlink(missing_ok=True)

    def _rename(self, temporary: Path, disk: Sha256 | None) -> bool:
        if sha256_of(read(self.target)) != disk:
            return False
        if disk is None or not _exchange(temporary, self.target):
            os.replace(temporary, self.target)
        elif not _holds(temporary, disk):  # somebody wrote between read and exchange: put that back
            os.replace(temporary, self.target)
            return False
        _sync_folder(self.target.parent)
        return True

    def _overwrite(self, disk: Sha256 | None) -> bool:
        with open_for_writing(self.target) as descriptor:
            try:
                fcntl.flock(
                    descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB
                )  # against another process of Dropmill; a kill releases it
            except BlockingIOError:
                return False
            with _without_others(descriptor):
                old = _content(descriptor)
                if sha256_of(old) != disk:
                    self._before.unlink(missing_ok=True)
                    return False
                _keep_before(self._before, old)
                try:
                    _write_whole(descriptor, self.text)
                except OSError:
                    with contextlib.suppress(
                        OSError
                    ):  # its blocks are allocated, so even a full disk takes the old bytes
                        _write_whole(descriptor, old)
                    raise
                is_there = _content(descriptor) == self.text and _leads_to(self.target, descriptor)
        self._before.unlink(missing_ok=True)
        return is_there


@overload
def sha256_of(text: bytes) -> Sha256: ...
@overload
def sha256_of(text: bytes | None) -> Sha256 | None: ...
def sha256_of(text: bytes | None) -> Sha256 | None:
    """The SHA-256 of a text; None for None."""
    return None if text is None else Sha256(hashlib.sha256(text).hexdigest())


def read(path: Path) -> bytes | None:
    """The file's bytes, at most one more than a config may have; None if there is no file."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # opening a pipe would otherwise block forever
    try:
        descriptor = _open_when_free(path, flags)
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        return _content(descriptor)
    finally:
        os.close(descriptor)


def prepare(path: Path, text: bytes, *, aside: Path, keep: bool) -> Replacement:
    """Write and fsync what is needed to replace the file that `path` leads to; it keeps its mode and owner.

    That is a temporary file beside it, or, where none can replace it, the old bytes in `aside`.

    Args:
        path: followed if it is a symbolic link, so that the link stays.
        text: what to write.
        aside: folder on a disk that can be written; created if missing.
        keep: whether to copy the present file aside first, because no revision holds its bytes.

    Raises:
        CannotBeWritten: nothing can be renamed over it, and it cannot be overwritten.
        OSError: the disk is full, read-only or broken. Nothing was changed.
    """
    target = Path(os.path.realpath(path))
    try:
        old = os.stat(target)
    except FileNotFoundError:
        old = None
    if keep:
        _keep_rejected(target, aside)
    if old is not None and _is_mount_point(target):
        return _prepare_in_place(target, text, aside, None)
    temporary = _temporary_path(target)
    mode = (
        0o666 if old is None else 0o600
    )  # a new file obeys the umask; a copy of an old one is never readable by others
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as error:
        if old is None or error.errno not in _NO_NEW_FILES:
            raise
        return _prepare_in_place(target, text, aside, error)
    replacement = Replacement(target=target, text=text, temporary=temporary, aside=aside)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            if old is not None:
                _take_owner_and_mode(descriptor, old)
            os.fsync(descriptor)
    except BaseException:
        replacement.discard()
        raise
    return replacement


def _prepare_in_place(target: Path, text: bytes, aside: Path, cause: OSError | None) -> Replacement:
    """A replacement without a temporary file.

    Args:
        cause: why none can be created; None for a mount point.
    """
    try:
        with open_for_writing(target) as descriptor:
            old = _content(descriptor)
    except OSError as error:
        if cause is not None and cause.errno == errno.EROFS:
            raise cause from error  # the disk is read-only, not this file
        reason = "it is a mount point" if cause is None else "its folder takes no new files"
        raise CannotBeWritten(error.errno, f"{error.strerror} ({reason}, so it has to be written in place)") from error
    replacement = Replacement(target=target, text=text, temporary=None, aside=aside)
    _keep_before(_before_path(aside, sha256_of(text)), old)
    return replacement


def _take_owner_and_mode(descriptor: int, old: os.stat_result) -> None:
    for owner in (old.st_uid, -1):  # changing the owner needs a privilege; keeping the group may be allowed without
        try:
            os.fchown(descriptor, owner, old.st_gid)
        except PermissionError:
            continue
        break
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def create(path: Path, text: bytes) -> None:
    """Write a new file, whole or not at all."""
    if not prepare(path, text, aside=path.parent, keep=False).put_in_place(None):
        raise FileExistsError(errno.EEXIST, "Somebody else is writing this file")


def sweep(path: Path, aside: Path, *, unfinished: Sha256 | None) -> None:
    """Remove the leftovers of killed saves. Listing errors are ignored here; the next save reports them.

    Args:
        path: of the config file.
        aside: as given to `prepare`.
        unfinished: SHA-256 of a text of which the file may hold a part; the bytes kept aside for it stay. None if
            there is none.
    """
    target = Path(os.path.realpath(path))
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if entry.name.startswith(_temporary_prefix(target)) and entry.name.endswith(_TEMPORARY_SUFFIX):
                os.unlink(entry.path)
    with contextlib.suppress(OSError):
        for before in aside.glob(f"*{_BEFORE_SUFFIX}*"):
            if unfinished is None or before != _before_path(aside, unfinished):
                before.unlink(missing_ok=True)


def drop_before(aside: Path, sha256: Sha256) -> None:
    """Remove the bytes kept aside for the text with this SHA-256, because the file holds that text whole now."""
    _before_path(aside, sha256).unlink(missing_ok=True)


def drop_copies(path: Path, aside: Path, sha256: Sha256) -> None:
    """Remove every copy of the file, made here, that has this SHA-256."""
    target = Path(os.path.realpath(path))
    for copy in (*_rejected_paths(target, aside), *aside.glob(f"*{_BEFORE_SUFFIX}*")):
        if sha256_of(read(copy)) == sha256:
            copy.unlink(missing_ok=True)


def is_torn(found: bytes, text: bytes, aside: Path) -> bool:
    """Whether the file holds the result of an interrupted overwriting with `text`.

    After a kill it holds the beginning of the new text and the rest of the old one; after a power cut any sectors of
    the two, or zeros. Neither makes the file shorter than both texts: somebody else did that.

    Args:
        found: what the file holds.
        text: what it should hold.
        aside: as given to `prepare`.
    """
    before = read(_before_path(aside, sha256_of(text)))
    if before is None or not (len(found) in (len(before), len(text)) or len(before) < len(found) < len(text)):
        return False
    pairs = zip(found, text, strict=False)
    written = next((index for index, (one, other) in enumerate(pairs) if one != other), min(len(found), len(text)))
    if found[written:] == before[written:]:
        return True
    sectors = ((start, found[start : start + _SECTOR]) for start in range(0, len(found), _SECTOR))
    return all(
        text.startswith(sector, start) or before.startswith(sector, start) or not any(sector)
        for start, sector in sectors
    )


def folders(path: Path) -> tuple[Path, ...]:
    """The folders to watch for edits: the link's and the target's."""
    return tuple(sorted({path.absolute().parent, Path(os.path.realpath(path)).parent}))


# --- renaming --------------------------------------------------------------------------------------------------------


def _exchange(one: Path, other: Path) -> bool:
    """Swap the files behind two names in one step (renameat2(2)); False where the system cannot do that."""
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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary_path(target: Path) -> Path:
    return target.with_name(_temporary_prefix(target) + secrets.token_hex(8) + _TEMPORARY_SUFFIX)


def _temporary_prefix(target: Path) -> str:
    return f".{target.name[:100]}."  # a name may have 255 bytes in all


def _is_mount_point(target: Path) -> bool:
    """Whether the file itself is a mount point, as in containers: then nothing can be renamed over it."""
    return _mount_of(target) != _mount_of(target.parent)


def _mount_of(path: Path) -> bytes | None:
    """The id of the mount that a path leads into; None where the system does not say (other than Linux)."""
    if not hasattr(os, "O_PATH"):
        return None
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        found = re.search(rb"(?m)^mnt_id:\s*(\d+)", Path(f"/proc/self/fdinfo/{descriptor}").read_bytes())
    except OSError:
        return None  # no /proc
    finally:
        os.close(descriptor)
    return found.group(1) if found is not None else None


# --- writing in place ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_for_writing(target: Path) -> Iterator[int]:
    """A descriptor of an existing file, open for reading and writing."""
    descriptor = _open_when_free(target, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_when_free(path: Path, flags: int) -> int:
    """Open a file; waits while another process holds a lease on it."""
    for _ in range(_BUSY_TRIES):
        try:
            return os.open(path, flags)
        except BlockingIOError:
            time.sleep(_TRY_AGAIN_S)
    return os.open(path, flags)


@contextlib.contextmanager
def _without_others(descriptor: int) -> Iterator[None]:
    """Make other processes wait when they open the file, so that no editor writes between our read and our last byte.

    This is a write lease (fcntl(2)). The kernel refuses it while another process has the file open, for files of other
    users, and on some file systems; then a gap of some microseconds between read and write remains.
    """
    is_leased = False
    if hasattr(fcntl, "F_SETLEASE"):
        for _ in range(_LEASE_TRIES):
            try:
                # The kernel signals us when a process waits. SIGIO would end the process; SIGURG is ignored.
                fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
                fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            except BlockingIOError:  # open elsewhere
                time.sleep(_TRY_AGAIN_S)
            except OSError:
                break
            else:
                is_leased = True
                break
    try:
        yield
    finally:
        if is_leased:
            with contextlib.suppress(OSError):  # the kernel revoked it after 45 s
                fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def _content(descriptor: int) -> bytes:
    """The file's bytes, at most one more than a config may have."""
    pieces: list[bytes] = []
    length = 0
    while piece := os.pread(descriptor, MAX_BYTES + 1 - length, length):
        pieces.append(piece)
        length += len(piece)
    return b"".join(pieces)


def _write_whole(descriptor: int, text: bytes) -> None:
    """Overwrite the file durably. Meanwhile it is never shorter than the shorter of both texts."""
    written = 0
    while written < len(text):
        written += os.pwrite(descriptor, text[written:], written)
    os.ftruncate(descriptor, len(text))
    os.fsync(descriptor)


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


# --- what is kept aside ----------------------------------------------------------------------------------------------


def _before_path(aside: Path, sha256: Sha256) -> Path:
    return aside / f"{sha256}{_BEFORE_SUFFIX}"


def _keep_before(path: Path, old: bytes) -> None:
    if read(path) != old:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _write_durably(path, old, None)


def _keep_rejected(target: Path, aside: Path) -> None:
    """Copy a text that no revision holds: beside the file, or into the aside folder if the folder takes no files."""
    beside, elsewhere = _rejected_paths(target, aside)
    text, old = target.read_bytes(), os.stat(target)  # of any size: its size may be why it was refused
    try:
        _write_durably(beside, text, old)
    except OSError as error:
        if error.errno not in _NO_NEW_FILES:
            raise
        aside.mkdir(mode=0o700, exist_ok=True)
        _write_durably(elsewhere, text, old)


def _rejected_paths(target: Path, aside: Path) -> tuple[Path, Path]:
    name = target.name + REJECTED_SUFFIX
    return target.with_name(name), aside / name


def _write_durably(path: Path, text: bytes, like: os.stat_result | None) -> None:
    """Create or replace a file, whole or not at all.

    Args:
        path: of the file.
        text: what to write.
        like: the file whose mode and owner it gets; None: only this user may read it.
    """
    draft = _temporary_path(path)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            if like is not None:
                _take_owner_and_mode(descriptor, like)
            os.fsync(descriptor)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)

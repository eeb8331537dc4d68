"""How files that were written without fsync are made durable together, and on which file systems that works."""

import ctypes
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path

from dropmill.engines.disk.files import READ_PLAIN, fsync_folder

SYNCFS_SINCE = (5, 8)  # Linux; before, `syncfs` returned 0 after an error of the disk
SYNCFS_ON = frozenset({"ext4", "xfs"})
UNFIT = frozenset({"9p", "afs", "ceph", "cifs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "virtiofs"})
"""Network file systems: locks of other machines prove nothing there."""
IN_MEMORY = frozenset({"ramfs", "tmpfs"})  # an fsync costs nothing there


class Syncing(Enum):
    """How files are synced together."""

    WHOLE_DISK = auto()
    EACH_FILE = auto()


def syncing_for(folder: Path) -> Syncing | None:
    """How files in a folder are synced together; None if a journal is of no use there."""
    if not hasattr(os, "fdatasync"):
        return None
    kind = _file_system(folder)
    if kind in UNFIT or kind in IN_MEMORY or kind.startswith("fuse"):
        return None
    match = re.match(r"(\d+)\.(\d+)", os.uname().release)
    is_recent = match is not None and (int(match[1]), int(match[2])) >= SYNCFS_SINCE
    return Syncing.WHOLE_DISK if kind in SYNCFS_ON and is_recent else Syncing.EACH_FILE


def _file_system(folder: Path) -> str:
    """The kind of file system that a folder is on; "" if unknown."""
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.split(" ", 3)[2] == wanted:
                return line.partition(" - ")[2].partition(" ")[0]
    return ""


def syncfs(descriptor: int) -> None:
    """Write everything that a descriptor's file system has not yet written (Linux manual, section 2).

    Raises:
        OSError: something could not be written since the descriptor was opened, or since the last such error.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def fsync_all(paths: Iterable[Path], threads: ThreadPoolExecutor) -> None:
    """Make files and their names durable; one that is missing was deleted.

    Raises:
        OSError: one of them could not be written.
    """
    found = list(paths)
    list(threads.map(_fsync, found))
    list(threads.map(fsync_folder, {path.parent for path in found}))


def _fsync(path: Path) -> None:
    with suppress(FileNotFoundError):
        descriptor = os.open(path, READ_PLAIN)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

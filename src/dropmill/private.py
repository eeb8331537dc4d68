"""Files and folders that belong to one user: folders 0700, files 0600, whatever the umask.

A umask takes bits away and adds none, so a mode is named where something is created. Setting the process's umask
instead would reach the scripts and the config file, whose modes are their owner's business.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600
OTHERS = 0o077  # the bits of group and others


def opener(path: str, flags: int) -> int:
    """For `open`: a file that is created gets mode 0600."""
    return os.open(path, flags, FILE_MODE)


def tighten(folder: Path, names: Iterable[str], *, shallow: Iterable[str] = ()) -> int:
    """Take the rights of group and others from a folder and from what is ours in it; returns how many were changed.

    Links are neither followed nor changed.

    Args:
        folder: itself, too.
        names: files and folders in it, at any depth; a missing one is no error.
        shallow: those of the folders of which only the folders below are looked at: their files are too many, and are
            created with the right mode.

    Raises:
        OSError: a mode cannot be changed: the folder is another user's.
    """
    changed = _tighten(folder)
    for name in names:
        for path in _below(folder / name, has_files=name not in shallow):
            changed += _tighten(path)
    return changed


def _below(path: Path, *, has_files: bool) -> Iterator[Path]:
    yield path
    for parent, folders, files in os.walk(path):
        for name in (*folders, *(files if has_files else ())):
            yield Path(parent, name)


def _tighten(path: Path) -> int:
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or not mode & OTHERS:
            return 0
        path.chmod(stat.S_IMODE(mode) & ~OTHERS)
    except FileNotFoundError:
        return 0
    return 1

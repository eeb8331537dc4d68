"""Files and folders that belong to one user: folders 0700, files 0600, whatever the umask.

A umask only removes bits, so each call that creates something names the mode. The process's umask stays as it is,
because scripts inherit it and the config file is created with it.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600
OTHERS = 0o077  # the mode bits of group and others


def opener(path: str, flags: int) -> int:
    """The `opener` of `open` for private files: a new file gets mode 0600."""
    return os.open(path, flags, FILE_MODE)


def close_to_others(folder: Path, names: Iterable[str], *, shallow: Iterable[str] = ()) -> str | None:
    """Take the rights of group and others from a folder and from what the server keeps in it.

    Links are neither followed nor changed.

    Args:
        folder: loses these rights, too.
        names: of files and folders in it, at any depth; a missing one is no error.
        shallow: the folders of which only the folders below are checked: their files are too many, and are created with
            the right mode.

    Returns:
        A sentence for the person who starts the server, if others had rights or have them still; else None.
    """
    try:
        changed = tighten(folder, names, shallow=shallow)
    except OSError as error:
        return f"Other users of this machine may read {folder}: its modes cannot be changed ({error.strerror})."
    if not changed:
        return None
    return (
        f"Other users of this machine could read {folder}; the modes of {changed} files and folders in it "
        "were tightened to 0600 and 0700."
    )


def tighten(folder: Path, names: Iterable[str], *, shallow: Iterable[str] = ()) -> int:
    """As `close_to_others`; returns how many modes were changed.

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

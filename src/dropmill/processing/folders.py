"""Removes folders that a script has filled, whatever it put there.

`shutil.rmtree` follows no link, but it recurses (a thousand nested folders exceed the recursion limit of Python 3.11)
and fails at a folder without rights. Here every call is relative to the descriptor of a folder that was opened without
following a link, and nested folders are moved up before they are emptied. So neither depth nor length of a path
matters, and at most two descriptors are open.
"""

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

NAMES_MAX = 1000  # read at once from a folder: a script may leave millions

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HANDLE = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(folder: Path) -> None:
    """Remove a folder and everything in it. A missing folder is no error; of a link only the link is removed. Blocks.

    Raises:
        OSError: something in it cannot be removed; the rest may be gone.
    """
    try:
        parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _remove(parent, folder.name)
    finally:
        os.close(parent)


def _remove(parent: int, name: str) -> None:
    try:
        root = _open_folder(parent, name)
    except FileNotFoundError:
        return
    except NotADirectoryError:  # a file or a link
        os.unlink(name, dir_fd=parent)
        return
    try:
        numbers = itertools.count()
        for entry in _entries(root):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=root)
                continue
            below = _open_folder(root, entry.name)
            try:
                for nested in _entries(below):
                    if nested.is_dir(follow_symlinks=False):
                        _move_up(below, nested.name, root, numbers)
                    else:
                        os.unlink(nested.name, dir_fd=below)
            finally:
                os.close(below)
            os.rmdir(entry.name, dir_fd=root)
    finally:
        os.close(root)
    os.rmdir(name, dir_fd=parent)


def _entries(folder: int) -> Iterator["os.DirEntry[str]"]:
    """The entries of a folder, until it is empty; the caller removes each entry or raises."""
    while True:
        with os.scandir(folder) as entries:
            some = list(itertools.islice(entries, NAMES_MAX))
        if not some:
            return
        yield from some


def _open_folder(parent: int, name: str) -> int:
    """A descriptor of a folder below another, with the rights to empty it.

    Raises:
        NotADirectoryError: it is a file or a link.
    """
    handle = os.open(name, _HANDLE, dir_fd=parent)
    try:
        with contextlib.suppress(OSError):  # another user's; emptying it may still work
            # Through /proc, because fchmod(2) takes no O_PATH descriptor, and chmod(2) by name would follow a link.
            os.chmod(f"/proc/self/fd/{handle}", 0o700)
        return os.open(".", _FOLDER, dir_fd=handle)
    finally:
        os.close(handle)


def _move_up(parent: int, name: str, root: int, numbers: Iterator[int]) -> None:
    os.close(_open_folder(parent, name))  # to move a folder needs the right to write to it
    while True:
        free = f"moved-{next(numbers)}"
        try:
            os.stat(free, dir_fd=root, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(name, free, src_dir_fd=parent, dst_dir_fd=root)
            return

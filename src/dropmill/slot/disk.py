"""What an attempt needs of the disk, done by the slot: its folders, and the identity of its input.

In the server each of these calls would need a thread, which costs more than the calls do.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:  # each import makes the slot larger, and every fork of it slower
    from typing import Any

# Error numbers that concern the named file. All others are a failure of the machine and say nothing about the file.
_OF_THE_FILE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EINVAL, errno.ENXIO}
)


class InputTouched(Exception):
    """The input is not the file that the server knows: gone, or its bytes, size, links or rights were changed."""


def prepare(order: Mapping[str, Any]) -> None:
    """Check the input and make the attempt's folders.

    The input comes first, so that a disk that is full is not taken for a changed file.

    Raises:
        InputTouched: nothing was made.
        OSError: the disk refuses; some folders may be made.
    """
    if not is_same(order):
        raise InputTouched
    if order["makes_folders"]:
        for folder in order["folders"]:
            os.mkdir(folder, 0o700)


def tidy(order: Mapping[str, Any]) -> bool:
    """Remove the attempt's folders if they are empty, as they nearly always are; returns whether they are gone."""
    try:
        for folder in reversed(order["folders"]):
            os.rmdir(folder)
    except OSError:
        return False
    return True


def is_same(order: Mapping[str, Any]) -> bool:
    """Whether the input has the identity that the server has named.

    Raises:
        OSError: the disk fails, which says nothing about the file.
    """
    try:
        found = os.lstat(order["input"]["path"])
    except OSError as error:
        if error.errno in _OF_THE_FILE:
            return False
        raise
    identity = [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    return bool(identity == order["input"]["identity"])


def after(order: Mapping[str, Any]) -> dict[str, bool | None]:
    """What the server is told when nothing of an attempt runs any more (`dropmill.slot.protocol`)."""
    is_input_same: bool | None = None
    is_tidy = tidy(order)
    with contextlib.suppress(OSError):
        is_input_same = is_same(order)
    return {"is_tidy": is_tidy, "is_input_same": is_input_same}

"""Errors of the operating system, translated into errors that a caller may see.

An engine wraps each system call in `translated`. So an engine raises `OutOfSpace` (507) or `StorageUnavailable` (503),
both temporary: the server refuses the request, and repeats background work. Every other exception is a broken invariant
of our own.
"""

import contextlib
import errno
from collections.abc import Iterator

from dropmill.model.errors import OutOfSpace, StorageUnavailable, Unavailable

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""Error numbers of a disk that takes no more bytes. A read-only file system counts as full."""

OF_THE_FILE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EINVAL, errno.ENXIO}
)
"""Error numbers that concern the named file. All others are a shortage or failure of the machine."""

TEMPORARY = (OSError, OutOfSpace, Unavailable)
"""Errors after which background work is repeated."""


def fault_of(error: OSError, what: str) -> OutOfSpace | StorageUnavailable:
    """The error to raise for an error of the system.

    Args:
        error: its path does not appear, because clients may see the sentence.
        what: the subject of the sentence: "The file store".
    """
    reason = error.strerror or type(error).__name__
    if error.errno in FULL:
        return OutOfSpace(f"{what} cannot write: the disk is full ({reason}). What was stored before is safe.")
    return StorageUnavailable(f"{what} is not available now: {reason}. Try again in a moment.")


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise `fault_of` for each `OSError` inside the context."""
    try:
        yield
    except OSError as error:
        raise fault_of(error, what) from error

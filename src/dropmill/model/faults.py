"""Errors of the machine below us, as errors that a caller may see: the disk is full, or something is away for now.

An engine wraps each call of the system in `translated`. So what leaves an engine is `OutOfSpace` (507) or
`StorageUnavailable` (503), both temporary: a request is refused, background work is repeated. Every other exception
is a broken invariant of our own.
"""

import contextlib
import errno
from collections.abc import Iterator

from dropmill.model.errors import OutOfSpace, StorageUnavailable, Unavailable

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""Error numbers that mean: this disk takes no more bytes. A read-only file system counts as full."""

OF_THE_FILE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EINVAL, errno.ENXIO}
)
"""Error numbers that are a property of the named file. All others are a shortage or failure of the machine."""

TEMPORARY = (OSError, OutOfSpace, Unavailable)
"""What background work survives and repeats."""


def fault_of(error: OSError, what: str) -> OutOfSpace | StorageUnavailable:
    """The error of ours for an error of the system.

    Args:
        error: its path is left out: clients may see the sentence.
        what: names what failed, at the beginning of a sentence: "The file store".
    """
    reason = error.strerror or type(error).__name__
    if error.errno in FULL:
        return OutOfSpace(f"{what} cannot write: the disk is full ({reason}). What was stored before is safe.")
    return StorageUnavailable(f"{what} is not available now: {reason}. Try again in a moment.")


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise `fault_of` each `OSError` inside."""
    try:
        yield
    except OSError as error:
        raise fault_of(error, what) from error

"""The operating system's limit of open files for this process.

Every connection, upload and download takes one. The soft limit, often 1,024, protects programs that use select(2). The
server does not, but a script may: each child gets the limit with which the server was started.
"""

import os
import resource

_at_start: tuple[int, int] | None = None


def raise_limit() -> None:
    """Raise the soft limit to the hard one, or as far as the system allows."""
    global _at_start
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    _at_start = _at_start or (soft, hard)
    if soft == hard:
        return
    for wanted in (hard, 10_240):  # macOS reports no hard limit, and allows no more than this
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            continue
        return


def give_back_limit(pid: int) -> None:
    """Set a child's limits to ours before `raise_limit`; does nothing on a system without prlimit(2)."""
    if _at_start is not None and hasattr(resource, "prlimit"):
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, _at_start)
        except ProcessLookupError:
            return


def limit() -> int:
    """How many descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


def lowest_free() -> int:
    """The number of the next descriptor. It is the lowest unused one, so at least this many are open.

    Raises:
        OSError: all are in use (EMFILE), or standard error is closed (EBADF).
    """
    descriptor = os.dup(2)  # takes a tenth of the time of opening a file
    os.close(descriptor)
    return descriptor

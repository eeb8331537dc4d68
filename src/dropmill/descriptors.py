"""The limit of open files that the operating system sets this process.

Every connection, upload and download takes one. The soft limit, often 1,024, is for programs that cannot count
further (`select`); we can, but a script that we start may not: it gets the limit back with which we were started.
"""

import os
import resource

_at_start: tuple[int, int] | None = None


def raise_limit() -> None:
    """Raise the soft limit to the hard one, as far as the system allows it."""
    global _at_start
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    _at_start = _at_start or (soft, hard)
    if soft == hard:
        return
    for wanted in (hard, 10_240):  # the second: macOS has no hard limit, and takes no more
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            continue
        return


def give_back_limit(pid: int) -> None:
    """Set a child's soft limit to what ours was before `raise_limit`; does nothing where a system cannot."""
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
    """The number that the next descriptor gets. Numbers are given from below, so that as many are open at least.

    Raises:
        OSError: there is none (EMFILE), or standard error is closed (EBADF).
    """
    descriptor = os.dup(2)  # a tenth of what opening anything costs
    os.close(descriptor)
    return descriptor

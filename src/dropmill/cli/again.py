"""How a process begins anew whose node was declared gone: as another node, with nothing of what it had in memory."""

import os
import sys


def begin_anew() -> None:
    """Run the command line again in this process; does not return. Everything must be closed."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command line

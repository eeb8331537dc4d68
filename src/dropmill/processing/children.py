"""The server's child processes: starting slots, and reaping them with the orphans that they leave.

A script may kill its own slot. Its descendants then become children of this process, which is a subreaper, too. They
differ from other children in their session: every descendant of a slot is in a session that is not ours, because
slots start in one of their own and no process can enter a foreign one. So a child of this process that was not started
here and is not in our session is a dead slot's orphan. Any other code that starts children must keep them in our
session, as `subprocess` and `asyncio` do by default.
"""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from dropmill.descriptors import give_back_limit
from dropmill.slot.processes import kill_below, processes

# Any thread may start a child or search for orphans; between start and entry a new slot would be taken for an orphan.
_children_lock = threading.Lock()
_own_pids: set[int] = set()


def start_child(
    arguments: Sequence[str], *, inherited: int, directory: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own; `reap` ends it. Blocks.

    Args:
        arguments: the program and its arguments.
        inherited: the one descriptor that it gets beside the standard ones.
        directory: its working directory.
        environment: its variables.

    Raises:
        OSError: it could not be started.
    """
    with _children_lock:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=2,  # what a module prints while it is imported is for whoever started the server
            cwd=directory,
            env=environment,
            pass_fds=(inherited,),
            start_new_session=True,  # Ctrl-C on the terminal is for the server, which then ends the slots
        )
        _own_pids.add(process.pid)
    give_back_limit(process.pid)
    return process


def reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a child, and kill the orphans that it left to us. Blocks until they are gone."""
    process.wait()
    with _children_lock:
        _own_pids.discard(process.pid)
    _end_orphans()


def _end_orphans() -> None:
    """Kill and reap the descendants of dead slots, which are our children now."""
    own_pid, own_session = os.getpid(), os.getsid(0)
    while True:
        with _children_lock:
            killed = []
            for pid, parent, session in processes():
                if parent == own_pid and session != own_session and pid not in _own_pids:
                    with contextlib.suppress(ProcessLookupError, PermissionError):  # it may run as another user now
                        os.kill(pid, signal.SIGSTOP)
                        kill_below(pid)
                        os.kill(pid, signal.SIGKILL)
                        killed.append(pid)
        if not killed:
            return
        for pid in killed:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

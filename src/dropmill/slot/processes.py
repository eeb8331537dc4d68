"""The processes of a machine that supports prctl(2) and /proc: finding, killing and reaping descendants."""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Collection, Iterator

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Make orphaned descendants of this process its children, instead of init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def keep_memory_private() -> None:
    """Keep other processes of the same user from reading this process's environment and memory, and from tracing it.

    It dumps no core either. A fork inherits this, an exec undoes it: programs that this process starts can be debugged.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def signal_when_parent_dies(number: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent dies; replaces the signal set before."""
    _prctl(_PR_SET_PDEATHSIG, number)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


def processes() -> Iterator[tuple[int, int, int]]:
    """Every process of the machine as (pid, parent's pid, session id), zombies included."""
    for pid, fields in _stats():
        yield pid, int(fields[1]), int(fields[3])


def _stats() -> Iterator[tuple[int, list[bytes]]]:
    """Every process of the machine: its pid, and the fields of proc(5)'s `stat` from the third, the state, on."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stat:
                    # The command in brackets may hold anything, a closing bracket too: count from the last one.
                    fields = stat.read().rpartition(b")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            yield int(name), fields


def end_descendants() -> dict[int, int]:
    """Kill and reap every descendant of this process, but those that it may not kill (they run as another user).

    Call it only in a process that needs none of its descendants any more.

    Returns:
        How each ended, by pid: the exit code, or -n for signal n.
    """
    codes: dict[int, int] = {}
    while True:
        try:
            pid, outcome = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return codes
        if pid:
            codes[pid] = os.waitstatus_to_exitcode(outcome)
            continue
        if not kill_below(os.getpid()):
            return codes
        time.sleep(0.001)  # a killed process needs a moment to die; its own children then become ours


def kill_below(root: int) -> bool:
    """Send SIGKILL to every process below `root`; False if none of them may be killed."""
    below: set[int] = set()
    # Stop them all before killing any, and search again until none is new: a process that still forks would otherwise
    # replace each one that is killed.
    while new := _below(root) - below:
        below |= new
        _send_all(new, signal.SIGSTOP)
    return _send_all(below, signal.SIGKILL)


def descendants(root: int, apart: Collection[tuple[int, int]] = ()) -> frozenset[tuple[int, int]]:
    """The living processes below `root`, each as its pid and when it was started, which no later process shares.

    Args:
        root: a pid.
        apart: of these, and of what is below them, none is listed.
    """
    return _living(root, apart, [])


def _living(root: int, apart: Collection[tuple[int, int]], zombies: list[int]) -> frozenset[tuple[int, int]]:
    """As `descendants`; adds the pids of dead children of `root` to `zombies`. One walk through /proc takes a while."""
    children: dict[int, list[tuple[int, int]]] = {}
    for pid, fields in _stats():
        one, parent = (pid, int(fields[19])), int(fields[1])
        is_dead = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1  # other threads may outlive the first one
        if is_dead and parent == root:
            zombies.append(pid)
        elif not is_dead and one not in apart:
            children.setdefault(parent, []).append(one)
    found = list(children.get(root, ()))
    for pid, _ in found:  # grows during the loop
        found.extend(children.get(pid, ()))
    return frozenset(found)


def end_others(kept: int, apart: Collection[tuple[int, int]]) -> None:
    """Kill the descendants of this process, but one child and those that are set apart.

    As `end_descendants`, it leaves those that it may not kill.

    Args:
        kept: pid of the child, whose own descendants are killed.
        apart: as for `descendants`.
    """
    root = os.getpid()
    while True:
        others: set[int] = set()
        zombies: list[int] = []
        while new := {pid for pid, _ in _living(root, apart, zombies)} - others - {kept}:  # as in `kill_below`
            others |= new
            _send_all(new, signal.SIGSTOP)
        for pid in {*zombies} - {kept}:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if not others or not _send_all(others, signal.SIGKILL):
            return
        time.sleep(0.001)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to a child's process group."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:  # just forked: it makes its group a moment later
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    except PermissionError:
        pass  # all of it runs as another user now


def _below(root: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, parent, _ in processes():
        children.setdefault(parent, []).append(pid)
    found = list(children.get(root, ()))
    for pid in found:  # grows during the loop, until it holds the whole tree
        found.extend(children.get(pid, ()))
    return set(found)


def _send_all(pids: set[int], number: signal.Signals) -> bool:
    """Send a signal; False if this process may signal none of them (they run as another user)."""
    may_signal = False
    for pid in pids:
        with contextlib.suppress(PermissionError):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            may_signal = True
    return may_signal

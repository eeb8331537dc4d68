"""The program: `python -P -m dropmill.slot FD TARGET [reload] [reuse=N] [silence=MS]`.

FD is the slot's end of a SOCK_SEQPACKET pair, TARGET the callable as `module:function`, or "" if attempts run
executables or fresh interpreters. With `reload` the first message lists the files that the callable was imported from.
With `reuse=N` a process that stays runs up to N attempts: `python -P -m dropmill.slot resident FD TARGET PID [reload]`.
FD is its end of a socket to the slot, which is the process PID. With `silence=MS` a slot ends when the server sends
nothing for so many milliseconds.

`python -P -m dropmill.slot attempt ORDER REPORT`, two descriptors, is the fresh interpreter of one attempt.
"""

from __future__ import annotations

import _socket
import json
import os
import resource
import select
import signal
import sys
import time
import warnings

from dropmill.slot.attempt import AttemptProcess
from dropmill.slot.callable import Unusable, files_of_modules
from dropmill.slot.channel import send_unusable
from dropmill.slot.forking import Slot
from dropmill.slot.processes import become_subreaper, end_descendants, signal_when_parent_dies

TYPE_CHECKING = False
if TYPE_CHECKING:  # each import makes the slot larger, and every fork of it slower
    from typing import NoReturn


def main(descriptor: int, target: str, *, with_files: bool, reuse: int | None, silence_ms: int | None) -> None:
    """Be a slot until the server is gone or silent, or for `reuse` attempts in one process (None: each is forked)."""
    channel = _socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    # While the import runs, which may hang, we do not watch the socket; the kernel kills us when the server dies.
    signal_when_parent_dies(signal.SIGKILL)
    poller = select.poll()
    poller.register(channel, select.POLLIN)
    if poller.poll(0):
        return  # the server died before the kernel was asked
    become_subreaper()
    if reuse is not None:
        run_reused(channel, target, reuse, with_files=with_files, silence_ms=silence_ms)
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Whether a module starts threads while it is imported is the user's decision; Python would warn on each start.
    warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
    sys.argv = [target]
    sys.path.insert(0, os.getcwd())
    began_ns = time.time_ns()
    try:
        slot = Slot(channel, target)
    except Unusable as error:
        send_unusable(channel, error)
        return
    # A script may have stopped its slot. When the server dies the slot must continue, to notice that and clean up.
    signal_when_parent_dies(signal.SIGCONT)
    channel.send(json.dumps({"ready": files_of_modules(began_ns) if with_files else {}}).encode())
    try:
        slot.serve(silence_ms)
    finally:
        end_descendants()


def run_reused(
    channel: _socket.socket, target: str, attempts: int, *, with_files: bool, silence_ms: int | None
) -> None:
    """Be a slot whose attempts run in one process."""
    from dropmill.slot.resident import ResidentSlot

    signal_when_parent_dies(signal.SIGCONT)  # as below; this process imports nothing and always watches its socket
    try:
        ResidentSlot(channel, target, attempts, with_files=with_files).serve(silence_ms)
    finally:
        end_descendants()


def run_fresh(order: int, report: int) -> NoReturn:
    """Be the fresh interpreter of one attempt.

    Args:
        order: inherited descriptor of a file with the order, as JSON.
        report: inherited descriptor of the report pipe.
    """
    os.set_inheritable(report, False)
    with open(order, "rb") as file:
        attempt = json.load(file)
    sys.argv = [attempt["target"]]
    sys.path.insert(0, attempt["directory"])
    AttemptProcess(attempt, 1, report, f"/proc/{os.getppid()}/fd/{report}").run_fresh()


if __name__ == "__main__":
    if sys.argv[1] == "attempt":
        run_fresh(int(sys.argv[2]), int(sys.argv[3]))
    if sys.argv[1] == "resident":
        from dropmill.slot.resident import run_resident

        run_resident(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), with_files="reload" in sys.argv[5:])
    numbers = {name: int(number) for name, _, number in (word.partition("=") for word in sys.argv[3:]) if number}
    main(
        int(sys.argv[1]),
        sys.argv[2],
        with_files="reload" in sys.argv[3:],
        reuse=numbers.get("reuse"),
        silence_ms=numbers.get("silence"),
    )
    os._exit(0)  # the user's threads and exit functions must neither delay nor follow a slot's end

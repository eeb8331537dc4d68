"""A slot for `--reuse`: attempts run one after the other in one process, which keeps what it has loaded.

The slot itself imports nothing and watches, as it does for forked attempts. The *resident* is its only child: a fresh
interpreter that imports the callable, so that devices which no fork survives (CUDA) work. All that an attempt starts is
killed at its end, except the resident and what its import has started. The slot ends, and the pool starts another,
after a number of attempts, after one that failed, and after one that the server has ended.
"""

import _socket
import contextlib
import copy
import faulthandler
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from dropmill.slot.attempt import AttemptProcess
from dropmill.slot.callable import Unusable, bind, files_of_modules, find_callable
from dropmill.slot.channel import answer, receive, send_unusable
from dropmill.slot.config import load_config
from dropmill.slot.disk import InputTouched, after, prepare
from dropmill.slot.interpreter import Loaded
from dropmill.slot.processes import (
    descendants,
    end_descendants,
    end_others,
    kill_below,
    signal_group,
    signal_when_parent_dies,
)
from dropmill.slot.protocol import MESSAGE_BYTES


class ResidentSlot:
    """The watching process."""

    def __init__(self, channel: _socket.socket, target: str, attempts: int, *, with_files: bool) -> None:
        """Start the resident.

        Args:
            channel: the slot's end of the socket to the server.
            target: the callable as `module:function`.
            attempts: after how many the slot ends.
            with_files: whether the first message lists the files that the callable was imported from.
        """
        self._channel = channel
        self._left = attempts
        self._spared: frozenset[tuple[int, int]] = frozenset()  # what the import has started
        self._order: Mapping[str, Any] | None = None  # of the attempt that runs
        self._report = -1
        self._is_stopped = False  # whether the server has ended the attempt
        self._resident, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        slot_pid = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            os.setsid()
            theirs.set_inheritable(True)
            words = ["-P", "-m", "dropmill.slot", "resident", str(theirs.fileno()), target, str(slot_pid)]
            words = [*(["-B"] if with_files else []), *words, *(["reload"] if with_files else [])]
            try:
                os.execv(sys.executable, [sys.executable, *words])  # noqa: S606 - our own interpreter
            finally:
                os._exit(127)
        theirs.close()

    def serve(self, silence_ms: int | None = None) -> None:
        """Run attempts until the slot ends, the server is gone, or it says nothing for so long (None: however long)."""
        poller = select.poll()
        pidfd = os.pidfd_open(self._pid)
        for descriptor in (self._channel.fileno(), self._resident.fileno(), pidfd):
            poller.register(descriptor, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll(silence_ms)}
            if not ready:
                return  # as in `forking.Slot.serve`
            if pidfd in ready:
                self._resident_ended()
                return
            if self._resident.fileno() in ready and not self._hear():
                poller.unregister(self._resident)  # it has closed its end, and will end
            if self._channel.fileno() in ready and not self._obey():
                return
            if self._left <= 0 and self._order is None:
                return

    # --- the server ---------------------------------------------------------------------------------------------------

    def _obey(self) -> bool:
        """Take a message of the server; False if it is gone."""
        try:
            data, descriptors = receive(self._channel)
        except ConnectionError:
            return False
        if not data:
            return False
        message = json.loads(data)
        if "run" in message:
            output, self._report = descriptors
            self._begin(message["run"], output)
            os.close(output)
        elif "alive" in message:
            pass
        elif self._order is None:
            pass  # the attempt ended while the signal was on its way
        elif message["signal"] == "terminate":
            self._is_stopped = True
            signal_group(self._pid, signal.SIGTERM)
            signal_group(self._pid, signal.SIGCONT)  # a stopped process handles no signal
        else:
            self._is_stopped = True
            signal_group(self._pid, signal.SIGKILL)
            kill_below(os.getpid())
        return True

    def _begin(self, order: Mapping[str, Any], output: int) -> None:
        try:
            prepare(order)
        except InputTouched:
            self._refuse(None)
            return
        except OSError as error:
            self._refuse([error.errno, error.strerror, error.filename])
            return
        self._order = order
        self._is_stopped = False
        data = json.dumps({**order, "report": self._report}).encode()
        with contextlib.suppress(OSError):  # it is dead, as its pidfd shows
            socket.send_fds(self._resident, [data], [output, self._report])

    def _refuse(self, why: list[Any] | None) -> None:
        os.close(self._report)
        answer(self._channel, {"refused": why})

    # --- the resident -------------------------------------------------------------------------------------------------

    def _hear(self) -> bool:
        """Take a message of the resident; False if there will be no more."""
        try:
            data = self._resident.recv(MESSAGE_BYTES)
        except OSError:
            return False
        if not data:
            return False
        message = json.loads(data)
        if "code" not in message:  # its first message
            self._spared = descendants(self._pid)
            self._channel.send(data)
        elif self._order is not None:
            self._end(message["code"])
        return True

    def _end(self, code: int) -> None:
        """Answer the end of an attempt that the resident has survived."""
        self._left -= 1
        if code != 0 or self._is_stopped:
            self._left = 0
        if self._left > 0:
            end_others(self._pid, self._spared)
        else:
            end_descendants()
        self._answer(code)

    def _resident_ended(self) -> None:
        """Answer the end of an attempt that the resident has not survived, or whose answer nobody has read yet."""
        if self._order is not None:
            self._hear()
        self._left = 0
        codes = end_descendants()
        if self._order is not None:
            self._answer(codes.get(self._pid, 127))

    def _answer(self, code: int) -> None:
        order, self._order = self._order, None
        os.close(self._report)
        if order is not None:
            answer(self._channel, {"ended": code, **after(order), "is_last": self._left <= 0})


# --- the resident's process -------------------------------------------------------------------------------------------


class Resident:
    """The process in which attempts run."""

    def __init__(self, channel: socket.socket, slot_pid: int, function: Callable[..., Any]) -> None:
        """Take the callable.

        Args:
            channel: the resident's end of the socket to its slot.
            slot_pid: of the slot.
            function: the callable.

        Raises:
            Unusable: the callable cannot be a processor.
        """
        self._channel = channel
        self._identity = _identity(channel.fileno())
        self._slot_pid = slot_pid
        self._function = function
        self._plan = bind(function)
        self._directory = os.getcwd()
        self._config: tuple[str, dict[Any, Any]] | None = None
        self._loaded = Loaded()

    def serve(self) -> NoReturn:
        """Run attempts until killed."""
        pid = os.getpid()
        own = os.dup(1), os.dup(2)
        while True:
            data, descriptors = receive(self._channel)
            if not data:
                os._exit(0)
            order = json.loads(data)
            output, report = descriptors
            code = self._run(order, output, report, own)
            if os.getpid() != pid:  # a child that the script has forked, and that has returned from the callable, too
                os._exit(code)
            if _identity(self._channel.fileno()) != self._identity:  # the script has closed it (`os.closerange`)
                os._exit(code)
            answer(self._channel, {"code": code})

    def _run(self, order: Mapping[str, Any], output: int, report: int, own: tuple[int, int]) -> int:
        attempt = AttemptProcess(order, output, report, f"/proc/{self._slot_pid}/fd/{order['report']}")
        code = attempt.run_here(self._function, lambda: self._config_of(order), self._plan)
        self._loaded.flush()
        attempt.end_here()
        for kept, number in zip(own, (1, 2), strict=True):
            with contextlib.suppress(OSError):  # closed by the script: what threads print from now on is lost
                os.dup2(kept, number)
        with contextlib.suppress(OSError):
            os.chdir(self._directory)
        return code

    def _config_of(self, order: Mapping[str, Any]) -> dict[Any, Any] | None:
        """The config as plain data, which the callable may change; None if it does not take it."""
        if "config" not in self._plan.values():
            return None
        if self._config is None or self._config[0] != order["config_sha256"]:
            self._config = (order["config_sha256"], load_config(order["config"]))
        return copy.deepcopy(self._config[1])


def run_resident(descriptor: int, target: str, slot_pid: int, *, with_files: bool) -> NoReturn:
    """Be the resident of a slot.

    Args:
        descriptor: the resident's end of its socket, inherited.
        target: the callable as `module:function`.
        slot_pid: of the slot.
        with_files: whether the first message lists the files that the callable was imported from.
    """
    signal_when_parent_dies(signal.SIGKILL)
    if os.getppid() != slot_pid:  # it died before the kernel was asked
        os._exit(0)
    channel = socket.socket(fileno=descriptor)
    channel.set_inheritable(False)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.argv = [target]
    sys.path.insert(0, os.getcwd())
    began_ns = time.time_ns()
    try:
        resident = Resident(channel, slot_pid, find_callable(target))
    except Unusable as error:
        send_unusable(channel, error)
        os._exit(0)
    faulthandler.enable(2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    channel.send(json.dumps({"ready": files_of_modules(began_ns) if with_files else {}}).encode())
    resident.serve()


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino

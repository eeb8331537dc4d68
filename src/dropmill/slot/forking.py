"""The slot's loop: it takes orders from the socket, forks, watches the attempt and cleans up after it."""

import array
import contextlib
import faulthandler
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from dropmill.slot.attempt import AttemptProcess
from dropmill.slot.callable import bind, explain, find_callable
from dropmill.slot.config import load_config
from dropmill.slot.disk import InputTouched, after, prepare
from dropmill.slot.interpreter import Imported, exit_functions_kept, pipe_for_output, standard_streams
from dropmill.slot.processes import end_descendants, kill_below
from dropmill.slot.protocol import MESSAGE_BYTES, error_line

_DESCRIPTORS_BYTES = socket.CMSG_SPACE(2 * array.array("i").itemsize)
CONFIGS_KEPT = 4  # parsed configs; attempts use the newest one or, after a retry, its neighbours


class Slot:
    """The warm process, from the import of the callable on; one attempt at a time."""

    def __init__(self, channel: socket.socket, target: str) -> None:
        """Import the callable, so that every fork starts with it.

        Args:
            channel: the slot's end of the socket to the server.
            target: the callable as `module:function`; "" if attempts run executables or fresh interpreters.

        Raises:
            Unusable: the callable cannot be a processor.
        """
        self._channel = channel
        self._pid = os.getpid()
        self._function: Callable[..., Any] | None = None
        self._plan: Mapping[str | None, str] = {}
        self._configs: dict[str, dict[Any, Any]] = {}
        exit_functions: list[Any] = []
        with pipe_for_output():
            streams: tuple[TextIO, TextIO] = standard_streams()
        if target:
            with exit_functions_kept() as exit_functions:
                self._function = find_callable(target)
            self._plan = bind(self._function)
            # What the callable's parameters need is imported once, before the fork.
            if "config" in self._plan.values():
                importlib.import_module("ruamel.yaml")
            if "file" in self._plan.values():
                importlib.import_module("dropmill.slot.file")
            # What every attempt inherits: a segmentation fault prints a traceback, SIGINT raises KeyboardInterrupt.
            faulthandler.enable(2)
            signal.signal(signal.SIGINT, signal.default_int_handler)
        # The import may have changed how SIGCHLD is handled, which would hide an attempt's end.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Children that the import started would die with the first attempt: without them, all attempts run alike.
        end_descendants()
        self._imported = Imported(streams, exit_functions)

    def serve(self) -> None:
        """Run attempts until the server's end of the socket is closed."""
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        pid = pidfd = report = -1
        order: Mapping[str, Any] = {}
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if pidfd in ready:
                poller.unregister(pidfd)
                os.close(pidfd)
                os.close(report)
                self._answer({"ended": end_descendants()[pid], **after(order)})
                pid = pidfd = report = -1
            if self._channel.fileno() not in ready:
                continue
            try:
                data, descriptors = self._receive()
            except ConnectionError:  # the server was killed before it had read our last message
                return
            if not data:
                return
            message = json.loads(data)
            if "run" in message:
                output, report = descriptors
                order = message["run"]
                pid = self._begin(order, output, report)
                if pid == -1:
                    os.close(report)
                else:
                    pidfd = os.pidfd_open(pid)
                    poller.register(pidfd, select.POLLIN)
            elif pid == -1:
                pass  # the attempt ended while the signal was on its way
            elif message["signal"] == "terminate":
                _signal_group(pid, signal.SIGTERM)
                _signal_group(pid, signal.SIGCONT)  # a stopped process handles no signal
            else:
                _signal_group(pid, signal.SIGKILL)
                kill_below(os.getpid())

    def _answer(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the next poll finds the socket closed
            self._channel.send(json.dumps(message).encode())

    def _receive(self) -> tuple[bytes, "array.array[int]"]:
        """The next message, and the descriptors that came with it. `socket.recv_fds` would make them inheritable."""
        descriptors = array.array("i")
        data, sent, _, _ = self._channel.recvmsg(MESSAGE_BYTES, _DESCRIPTORS_BYTES, socket.MSG_CMSG_CLOEXEC)
        for _, _, numbers in sent:
            descriptors.frombytes(numbers[: len(numbers) - len(numbers) % descriptors.itemsize])
        return data, descriptors

    def _begin(self, order: Mapping[str, Any], output: int, report: int) -> int:
        """Start an attempt: the child's pid, or -1 if that failed and was answered. Keeps `report` open."""
        try:
            prepare(order)
        except InputTouched:
            self._answer({"refused": None})
        except OSError as error:
            self._answer({"refused": [error.errno, error.strerror, error.filename]})
        else:
            return self._fork(order, output, report)
        os.close(output)
        return -1

    def _fork(self, order: Mapping[str, Any], output: int, report: int) -> int:
        attempt = AttemptProcess(order, output, report, self._pid)
        environment: Mapping[str, str] = {}
        try:
            if self._function is None:
                environment = {**os.environ, **order["environment"]}
            else:
                os.environ.update(order["environment"])  # each attempt has the same variables
                attempt.fill(self._plan, self._config(order) if "config" in self._plan.values() else None)
        except Exception as error:
            self._give_up(order, report, 1, error_line("config", f"The config cannot be read: {explain(error)}"))
            os.close(output)
            return -1
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as error:
            self._give_up(
                order, report, 127, error_line("cannot_start", f"No process could be started: {error.strerror}.")
            )
            pid = -1
        if pid == 0:
            attempt.run(self._function, self._imported, environment, self._channel.fileno())
        os.close(output)
        return pid  # an attempt that has closed its report pipe opens it again through the slot's descriptor

    def _give_up(self, order: Mapping[str, Any], report: int, code: int, line: bytes) -> None:
        """Answer an attempt that has no process."""
        with contextlib.suppress(BrokenPipeError):
            os.write(report, line)
        self._answer({"ended": code, **after(order)})

    def _config(self, order: Mapping[str, Any]) -> dict[Any, Any]:
        """The config as plain data, parsed before the fork and kept, so that not every attempt parses it."""
        sha256 = order["config_sha256"]
        if sha256 not in self._configs:
            loaded = load_config(order["config"])
            while len(self._configs) >= CONFIGS_KEPT:
                del self._configs[next(iter(self._configs))]
            self._configs[sha256] = loaded
            gc.freeze()
        return self._configs[sha256]


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:  # just forked: it makes its group a moment later
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    except PermissionError:
        pass  # all of it runs as another user now

"""The slot's loop: it takes orders from the socket, forks, watches the attempt and cleans up after it."""

from __future__ import annotations

import _socket
import contextlib
import faulthandler
import importlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from gc import freeze

from dropmill.slot.attempt import AttemptProcess, config_error_line
from dropmill.slot.callable import bind, find_callable
from dropmill.slot.channel import answer, receive
from dropmill.slot.config import load_config
from dropmill.slot.disk import InputTouched, after, prepare
from dropmill.slot.interpreter import Imported, exit_functions_kept, pipe_for_output, standard_streams
from dropmill.slot.processes import end_descendants, kill_below, signal_group
from dropmill.slot.protocol import error_line

TYPE_CHECKING = False
if TYPE_CHECKING:  # each import makes the slot larger, and every fork of it slower
    from typing import Any, TextIO

CONFIGS_KEPT = 4  # parsed configs; attempts use the newest one or, after a retry, its neighbours


class Slot:
    """The warm process, from the import of the callable on; one attempt at a time."""

    def __init__(self, channel: _socket.socket, target: str) -> None:
        """Import the callable, so that every fork starts with it.

        Args:
            channel: the slot's end of the socket to the server.
            target: the callable as `module:function`; "" if attempts run executables or fresh interpreters.

        Raises:
            Unusable: the callable cannot be a processor.
        """
        self._channel = channel
        self._report_folder = f"/proc/{os.getpid()}/fd"
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
            if not {"path", "results", "work"}.isdisjoint(self._plan.values()):
                importlib.import_module("pathlib")
            # What every attempt inherits: a segmentation fault prints a traceback, SIGINT raises KeyboardInterrupt.
            faulthandler.enable(2)
            signal.signal(signal.SIGINT, signal.default_int_handler)
        # The import may have changed how SIGCHLD is handled, which would hide an attempt's end.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Children that the import started would die with the first attempt: without them, all attempts run alike.
        end_descendants()
        self._imported = Imported(streams, exit_functions)

    def serve(self, silence_ms: int | None = None) -> None:
        """Run attempts until the server's end of the socket is closed, or it says nothing for so long (None: ever)."""
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        pid = pidfd = report = -1
        order: Mapping[str, Any] = {}
        while True:
            ready = {fd for fd, _ in poller.poll(silence_ms)}
            if not ready:
                return  # the server is suspended; others may have taken its work over
            if pidfd in ready:
                poller.unregister(pidfd)
                os.close(pidfd)
                os.close(report)
                answer(self._channel, {"ended": end_descendants()[pid], **after(order)})
                pid = pidfd = report = -1
            if self._channel.fileno() not in ready:
                continue
            try:
                data, descriptors = receive(self._channel)
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
            elif "alive" in message:
                pass
            elif pid == -1:
                pass  # the attempt ended while the signal was on its way
            elif message["signal"] == "terminate":
                signal_group(pid, signal.SIGTERM)
                signal_group(pid, signal.SIGCONT)  # a stopped process handles no signal
            else:
                signal_group(pid, signal.SIGKILL)
                kill_below(os.getpid())

    def _begin(self, order: Mapping[str, Any], output: int, report: int) -> int:
        """Start an attempt: the child's pid, or -1 if that failed and was answered. Keeps `report` open."""
        try:
            prepare(order)
        except InputTouched:
            answer(self._channel, {"refused": None})
        except OSError as error:
            answer(self._channel, {"refused": [error.errno, error.strerror, error.filename]})
        else:
            return self._fork(order, output, report)
        os.close(output)
        return -1

    def _fork(self, order: Mapping[str, Any], output: int, report: int) -> int:
        attempt = AttemptProcess(order, output, report, f"{self._report_folder}/{report}")
        environment: Mapping[str, str] = {}
        try:
            if self._function is None:
                environment = {**os.environ, **order["environment"]}
            else:
                os.environ.update(order["environment"])  # each attempt has the same variables
                attempt.fill(self._plan, self._config(order) if "config" in self._plan.values() else None)
        except Exception as error:
            self._give_up(order, report, 1, config_error_line(error))
            os.close(output)
            return -1
        sys.stdout.flush()
        sys.stderr.flush()
        freeze()  # what the garbage collector lists in the child is then the job's alone
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
        answer(self._channel, {"ended": code, **after(order)})

    def _config(self, order: Mapping[str, Any]) -> dict[Any, Any]:
        """The config as plain data, parsed before the fork and kept, so that not every attempt parses it."""
        sha256 = order["config_sha256"]
        if sha256 not in self._configs:
            loaded = load_config(order["config"])
            while len(self._configs) >= CONFIGS_KEPT:
                del self._configs[next(iter(self._configs))]
            self._configs[sha256] = loaded
        return self._configs[sha256]

"""One attempt, from inside its own process: the forked child, or the fresh interpreter that the child turned into.

What needs no child is done before the fork: each page of memory that a child is the first to touch costs a page fault.
For the same reason the child runs as little of our code as it can, and imports nothing. The functions that it needs to
report an outcome are bound here, because the script may replace those of the standard library.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the functions of `signal` make enums: 100 page faults in a child
import errno
import json
import os
import resource
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from os import _exit, execve, fstat, write
from os import open as open_descriptor

from dropmill.slot.callable import NothingRun, bind, explain, find_callable, run_to_end
from dropmill.slot.config import load_config
from dropmill.slot.interpreter import Imported, report_waiting, standard_streams
from dropmill.slot.protocol import LABEL_CHARACTERS, VALUE_BYTES, error_line, report_line, value_line

TYPE_CHECKING = False
if TYPE_CHECKING:  # each import makes the slot larger, and every fork of it slower
    from typing import Any, NoReturn

CPU_GRACE_S = 1  # between SIGXCPU and SIGKILL

_OUR_FILES = os.path.join(os.path.dirname(__file__), "")


class AttemptProcess:
    """One attempt in its own process. `run` and `run_fresh` never return."""

    def __init__(self, order: Mapping[str, Any], output: int, report: int, slot_report: str) -> None:
        """Change nothing yet.

        Args:
            order: what the server sent as `run`.
            output: descriptor that stdout and stderr are to be.
            report: descriptor of the report pipe.
            slot_report: path of the slot's descriptor of it.
        """
        self._order = order
        self._output = output
        self._report = report
        self._slot_report = slot_report
        self._pipe = _identity(report)
        self._newest_label = ""
        self._is_over = False
        self._code = 127
        self._arguments: list[Any] = []
        self._named: dict[str, Any] = {}

    def fill(self, plan: Mapping[str | None, str], config: dict[Any, Any] | None) -> None:
        """Make the callable's arguments.

        Args:
            plan: what `bind` found for the callable.
            config: the config as plain data, if the callable takes it.
        """
        for name, what in plan.items():
            value = config if what == "config" else self._value(what)
            if name is None:
                self._arguments = [value]
            else:
                self._named[name] = value

    def run(
        self, function: Callable[..., Any] | None, imported: Imported, environment: Mapping[str, str], channel: int
    ) -> NoReturn:
        """Be the attempt, right after the fork.

        Args:
            function: the callable, its arguments made; None if the attempt runs an executable or a fresh interpreter.
            imported: what belongs to the slot.
            environment: all variables of an executable; a callable has them already.
            channel: descriptor of the slot's socket.
        """
        try:
            os.close(channel)
            os.setsid()
            for processes_file in self._order["groups"]:
                with open(processes_file, "w") as file:
                    file.write("0")  # 0 is this process
            self._adopt_output()
            if "argv" in self._order:
                self._execute(self._order["argv"], environment)
            elif function is None:
                self._exec_fresh(environment)
            self._limit()
        except BaseException as error:
            self._send(error_line("cannot_start", f"The script cannot be started: {_message(error)}."))
            _exit(self._code)
        try:
            imported.adopt_streams()
            self._call(function)
            report_waiting(self._label)
            imported.end()
        finally:
            _exit(self._code)  # this process must run neither the slot's loop nor its clean-up

    def run_fresh(self) -> NoReturn:
        """Go on with the attempt in this fresh interpreter, all of which belongs to the job."""
        import faulthandler

        try:
            function = find_callable(self._order["target"])
            plan = bind(function)
            self.fill(plan, load_config(self._order["config"]) if "config" in plan.values() else None)
        except Exception as error:
            self._send(error_line("cannot_start", f"The callable cannot be run: {_message(error)}."))
            sys.exit(self._code)
        sys.stdout, sys.stderr = standard_streams()
        faulthandler.enable(2)  # a segmentation fault prints a traceback
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        self._call(function)
        report_waiting(self._label)
        sys.exit(self._code)

    def run_here(self, function: Callable[..., Any], config: Callable[[], Any], plan: Mapping[str | None, str]) -> int:
        """Run the attempt in this process, which stays. Descriptors 1 and 2 remain the attempt's; others are closed.

        Args:
            function: the callable.
            config: returns the config as plain data, or None if the callable does not take it.
            plan: what `bind` found for the callable.

        Returns:
            The exit code.
        """
        try:
            self._adopt_output()
            os.environ.update(self._order["environment"])
            sys.stdout, sys.stderr = standard_streams()
        except OSError as error:
            self._send(error_line("cannot_start", f"The script cannot be started: {_message(error)}."))
            return self._code
        try:
            self.fill(plan, config())
        except Exception as error:
            self._code = 1
            self._send(config_error_line(error))
        else:
            self._call(function)
        return self._code

    def end_here(self) -> None:
        """Close the report pipe: what threads of the attempt still report is dropped."""
        self._is_over = True
        if _identity(self._report) == self._pipe:
            os.close(self._report)

    def _adopt_output(self) -> None:
        os.dup2(self._output, 1)
        os.dup2(self._output, 2)
        os.close(self._output)
        os.chdir(self._order["work"])

    def _limit(self) -> None:
        """Set the limits of each process. The last step before the script's own code: they are meant for it alone."""
        limits = self._order["limits"]
        if limits["memory"] is not None:
            _lower(resource.RLIMIT_AS, limits["memory"])
        if limits["max_write"] is not None:
            _lower(resource.RLIMIT_FSIZE, limits["max_write"])
        if limits["cpu_time"] is not None:
            _lower(resource.RLIMIT_CPU, limits["cpu_time"], limits["cpu_time"] + CPU_GRACE_S)

    def _execute(self, argv: list[str], environment: Mapping[str, str]) -> NoReturn:
        for number in (_signal.SIGPIPE, _signal.SIGXFSZ):  # Python ignores them, and exec keeps that
            _signal.signal(number, _signal.SIG_DFL)
        self._limit()
        execve(argv[0], argv, environment)  # noqa: S606 - no shell on purpose

    def _exec_fresh(self, environment: Mapping[str, str]) -> NoReturn:
        """Become a fresh interpreter, which reads the order from an anonymous file."""
        order = os.memfd_create("order", 0)
        with open(order, "wb", closefd=False) as file:
            file.write(json.dumps(self._order).encode())
        os.lseek(order, 0, os.SEEK_SET)
        os.set_inheritable(self._report, True)
        module = ["-P", "-m", "dropmill.slot", "attempt", str(order), str(self._report)]
        self._limit()
        execve(sys.executable, [sys.executable, *module], environment)  # noqa: S606 - our own interpreter

    def _call(self, function: Callable[..., Any]) -> None:
        self._code = 1
        # This frame must keep nothing of the call alive: the objects must die before the interpreter's end.
        try:
            returned = function(*self._arguments, **self._named)
            line = value_line(run_to_end(returned, self._label), VALUE_BYTES)
            del returned
        except SystemExit as end:
            self._code = _exit_code(end)
            if self._code == 0:
                self._send(value_line(None, VALUE_BYTES))
            elif not isinstance(end.code, int) and (sentence := _message(end).strip()):
                self._send(error_line("SystemExit", sentence))
        except BaseException as error:  # KeyboardInterrupt, too: it ends this attempt alone
            self._fail(error)
        else:
            self._code = 0
            self._send(line)

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, NothingRun):
            _print_error(f"dropmill: {error}")  # a traceback would show only our own code
            self._send(error_line("nothing_run", str(error)))
            return
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OUR_FILES):
            trace = trace.tb_next  # the traceback begins in the user's code
        with suppress(Exception):
            sys.stdout.flush()
        with suppress(Exception):  # the callable may have closed stderr
            traceback.print_exception(type(error), error, trace)
        self._send(error_line(*self._named_error(error)))

    def _named_error(self, error: BaseException) -> tuple[str, str]:
        limits = self._order["limits"]
        if isinstance(error, MemoryError) and limits["memory"] is not None:
            return "out_of_memory", "used more memory than --memory allows"
        if isinstance(error, OSError) and error.errno == errno.EFBIG and limits["max_write"] is not None:
            return "file_size_exceeded", "wrote a file larger than --max-write allows"
        return type(error).__name__, _message(error)

    def _value(self, what: str) -> Any:
        if what == "str":
            return self._order["file"]["path"]
        from pathlib import Path  # the slot has imported it if the callable takes one

        if what == "path":
            return Path(self._order["file"]["path"])
        if what == "report":
            return self.report
        if what == "file":
            from dropmill.slot.file import ProcessorClient, ProcessorFile

            record = dict(self._order["file"])
            record["path"] = Path(record["path"])
            record["client"] = ProcessorClient(**record["client"])
            return ProcessorFile(**record)
        return Path(self._order[what])

    def report(self, value: float, total: float | None = None, label: str | None = None) -> None:
        """Report progress: what a callable gets as its `report` parameter. The pages show about four reports a second.

        Args:
            value: how much is processed.
            total: of how much; None: unknown.
            label: a few words; longer ones are cut to `LABEL_CHARACTERS`.
        """
        # float() turns other kinds of numbers, such as numpy's, into one that JSON can hold.
        self._newest_label = ""
        numbers = [n if n is None or isinstance(n, int) else float(n) for n in (value, total)]
        self._send(report_line("p", [*numbers, None if label is None else str(label)[:LABEL_CHARACTERS]]))

    def _label(self, label: str) -> None:
        """Report what the script is doing now; the numbers stay as they are."""
        if label != self._newest_label:
            self._newest_label = label
            self._send(report_line("p", [None, None, label[:LABEL_CHARACTERS]]))

    def _send(self, line: bytes) -> None:
        """Write a line to the report pipe (`dropmill.slot.protocol`)."""
        if self._is_over:
            return
        if _identity(self._report) != self._pipe:
            # The script closed our descriptor (`os.closerange`), and the number may be another file's now.
            try:
                self._report = open_descriptor(self._slot_report, os.O_WRONLY)
            except OSError as error:
                _print_error(f"dropmill: the report pipe was closed by the script: {error}")
                return
        data = memoryview(line)
        while data:
            data = data[write(self._report, data) :]


def config_error_line(error: Exception) -> bytes:
    """The line that reports why the config cannot be read."""
    return error_line("config", f"The config cannot be read: {explain(error)}")


def _exit_code(end: SystemExit) -> int:
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return 0 if end.code == 0 else end.code & 0xFF or 1
    _print_error(end.code)  # what Python itself does with sys.exit("sentence")
    return 1


def _print_error(what: object) -> None:
    with suppress(Exception):  # the callable may have closed stderr
        print(what, file=sys.stderr)  # noqa: T201


def _identity(descriptor: int) -> tuple[int, int] | None:
    """Device and inode of an open file; None if the descriptor is closed."""
    try:
        found = fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _lower(kind: int, soft: int, hard: int | None = None) -> None:
    """Set a limit of this process, never above the one that it already has."""
    allowed = resource.getrlimit(kind)[1]
    wanted = [soft, soft if hard is None else hard]
    if allowed != resource.RLIM_INFINITY:
        wanted = [min(value, allowed) for value in wanted]
    resource.setrlimit(kind, (wanted[0], wanted[1]))


def _message(error: BaseException) -> str:
    try:
        return str(error)[:4000]
    except Exception:  # the script's own __str__ may fail
        return ""

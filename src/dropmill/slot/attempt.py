"""One attempt, from inside its own process: the forked child, or the fresh interpreter that the child turned into."""

import contextlib
import errno
import faulthandler
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from dropmill.slot.callable import NothingRun, bind, find_callable, run_to_end
from dropmill.slot.config import load_config
from dropmill.slot.interpreter import Imported, report_waiting
from dropmill.slot.protocol import LABEL_CHARACTERS, VALUE_BYTES, report_line

CPU_GRACE_S = 1  # between SIGXCPU and SIGKILL

_OUR_FILES = os.path.join(os.path.dirname(__file__), "")


class AttemptProcess:
    """One attempt in its own process. `run` and `run_fresh` never return."""

    def __init__(self, order: Mapping[str, Any], output: int, report: int) -> None:
        """Change nothing yet.

        Args:
            order: what the server sent as `run`.
            output: descriptor that stdout and stderr are to be.
            report: descriptor of the report pipe; the parent has it open under the same number.
        """
        self._order = order
        self._output = output
        self._report = report
        self._slot_report = f"/proc/{os.getppid()}/fd/{report}"
        self._pipe = _identity(report)
        self._newest_label = ""
        self._code = 127

    def run(
        self,
        function: Callable[..., Any] | None,
        plan: Mapping[str | None, str],
        config: dict[Any, Any] | None,
        problem: list[str] | None,
        imported: Imported,
    ) -> NoReturn:
        """Be the attempt, right after the fork.

        Args:
            function: the callable; None if the attempt runs an executable or a fresh interpreter.
            plan: what `bind` found for the callable.
            config: the config as plain data, if the callable takes it.
            problem: type and message of an error that was found before the fork; None: none was.
            imported: what belongs to the slot.
        """
        try:
            os.setsid()
            for processes_file in self._order["groups"]:
                Path(processes_file).write_text("0")  # 0 is this process
            os.dup2(self._output, 1)
            os.dup2(self._output, 2)
            os.close(self._output)
            os.chdir(self._order["work"])
            os.environ.update(self._order["environment"])
            if problem is not None:
                self._send("e", problem)
                self._code = 1
            elif "argv" in self._order:
                self._execute(self._order["argv"])
            elif function is None:
                self._exec_fresh()
            else:
                imported.disown()
                self._limit()
                self._call(function, plan, config)
                imported.end()
        except Exception as error:
            self._send("e", ["cannot_start", f"The script cannot be started: {_message(error)}."])
        finally:
            os._exit(self._code)  # this process must run neither the slot's loop nor its clean-up

    def run_fresh(self) -> NoReturn:
        """Go on with the attempt in this fresh interpreter, all of which belongs to the job."""
        try:
            function = find_callable(self._order["target"])
            plan = bind(function)
            config = load_config(self._order["config"]) if "config" in plan.values() else None
            self._call(function, plan, config)
        except Exception as error:
            self._send("e", ["cannot_start", f"The callable cannot be run: {_message(error)}."])
        sys.exit(self._code)

    def _limit(self) -> None:
        """Set the limits of each process. The last step before the script's own code: they are meant for it alone."""
        limits = self._order["limits"]
        if limits["memory"] is not None:
            _lower(resource.RLIMIT_AS, limits["memory"])
        if limits["max_write"] is not None:
            _lower(resource.RLIMIT_FSIZE, limits["max_write"])
        if limits["cpu_time"] is not None:
            _lower(resource.RLIMIT_CPU, limits["cpu_time"], limits["cpu_time"] + CPU_GRACE_S)

    def _execute(self, argv: list[str]) -> NoReturn:
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec keeps that
            signal.signal(number, signal.SIG_DFL)
        self._limit()
        os.execve(argv[0], argv, os.environ)  # noqa: S606 - no shell on purpose

    def _exec_fresh(self) -> NoReturn:
        """Become a fresh interpreter, which reads the order from an anonymous file."""
        order = os.memfd_create("order", 0)
        with open(order, "wb", closefd=False) as file:
            file.write(json.dumps(self._order).encode())
        os.lseek(order, 0, os.SEEK_SET)
        os.set_inheritable(self._report, True)
        module = ["-P", "-m", "dropmill.slot", "attempt", str(order), str(self._report)]
        self._limit()
        os.execve(sys.executable, [sys.executable, *module], os.environ)  # noqa: S606 - our own interpreter

    def _call(
        self, function: Callable[..., Any], plan: Mapping[str | None, str], config: dict[Any, Any] | None
    ) -> None:
        # Line buffered, so that each line is shown when it is printed; no file name can make `print` fail.
        sys.stdout = open(1, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
        faulthandler.enable(sys.stderr)  # a segmentation fault prints a traceback
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._code = 1
        # This frame must keep nothing of the call alive: the objects must die before the interpreter's end.
        try:
            returned = function(*self._arguments(plan, config, None), **dict(self._named(plan, config)))
            value = _jsonable(run_to_end(returned, self._label))
            del returned
        except SystemExit as end:
            self._code = self._exit_code(end)
            if self._code == 0:
                self._send("v", None)
            elif not isinstance(end.code, int) and (sentence := _message(end).strip()):
                self._send("e", ["SystemExit", sentence])
        except BaseException as error:  # KeyboardInterrupt, too: it ends this attempt alone
            self._fail(error)
        else:
            self._code = 0
            self._send("v", value)
        report_waiting(self._label)

    def _fail(self, error: BaseException) -> None:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        if isinstance(error, NothingRun):
            print(f"dropmill: {error}", file=sys.stderr)  # noqa: T201 - a traceback would show only our own code
            self._send("e", ["nothing_run", str(error)])
            return
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OUR_FILES):
            trace = trace.tb_next  # the traceback begins in the user's code
        with contextlib.suppress(Exception):  # the callable may have closed stderr
            traceback.print_exception(type(error), error, trace)
        self._send("e", self._named_error(error))

    def _named_error(self, error: BaseException) -> list[str]:
        limits = self._order["limits"]
        if isinstance(error, MemoryError) and limits["memory"] is not None:
            return ["out_of_memory", "used more memory than --memory allows"]
        if isinstance(error, OSError) and error.errno == errno.EFBIG and limits["max_write"] is not None:
            return ["file_size_exceeded", "wrote a file larger than --max-write allows"]
        return [type(error).__name__, _message(error)]

    def _arguments(self, plan: Mapping[str | None, str], config: Any, key: None) -> list[Any]:
        return [self._fill(plan[key], config)] if key in plan else []

    def _named(self, plan: Mapping[str | None, str], config: Any) -> Iterator[tuple[str, Any]]:
        for name, what in plan.items():
            if name is not None:
                yield name, self._fill(what, config)

    def _fill(self, what: str, config: dict[Any, Any] | None) -> Any:
        if what == "str":
            return self._order["file"]["path"]
        if what == "path":
            return Path(self._order["file"]["path"])
        if what == "config":
            return config
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
        self._send("p", [*numbers, None if label is None else str(label)[:LABEL_CHARACTERS]])

    def _label(self, label: str) -> None:
        """Report what the script is doing now; the numbers stay as they are."""
        if label != self._newest_label:
            self._newest_label = label
            self._send("p", [None, None, label[:LABEL_CHARACTERS]])

    def _exit_code(self, end: SystemExit) -> int:
        if end.code is None:
            return 0
        if isinstance(end.code, int):
            return 0 if end.code == 0 else end.code & 0xFF or 1
        print(end.code, file=sys.stderr)  # noqa: T201 - what Python itself does with sys.exit("sentence")
        return 1

    def _send(self, kind: str, what: Any) -> None:
        """Write a line to the report pipe (`dropmill.slot.protocol`)."""
        if _identity(self._report) != self._pipe:
            # The script closed our descriptor (`os.closerange`), and the number may be another file's now.
            try:
                self._report = os.open(self._slot_report, os.O_WRONLY)
            except OSError as error:
                print(f"dropmill: the report pipe was closed by the script: {error}", file=sys.stderr)  # noqa: T201
                return
        data = memoryview(report_line(kind, what))
        while data:
            data = data[os.write(self._report, data) :]


def _identity(descriptor: int) -> tuple[int, int] | None:
    """Device and inode of an open file; None if the descriptor is closed."""
    try:
        found = os.fstat(descriptor)
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


def _jsonable(value: Any) -> Any:
    """The value; None if JSON cannot hold it or it is longer than `VALUE_BYTES`."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
    return value if len(text) <= VALUE_BYTES else None

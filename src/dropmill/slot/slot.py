"""The slot: a small warm process that forks one process for each attempt and leaves none behind.

Run by the pool as `python -P -m dropmill.slot.slot FD TARGET [reload]`: FD is its end of a SOCK_SEQPACKET pair,
TARGET the callable as `module:function`, or empty if attempts run executables or fresh interpreters. Standard library
only, so that starting one is cheap and a fork carries nothing but what the callable imports itself. Linux only (pidfd,
child subreaper, /proc). With `attempt ORDER REPORT`, two descriptors, it is the fresh interpreter of one attempt.

    server to slot    {"run": {...}} with two descriptors, the output pipe and the report pipe
                      {"signal": "terminate"}   SIGTERM to the attempt's group
                      {"signal": "kill"}        SIGKILL to it and to every descendant
                      end of the socket: kill everything and exit
    slot to server    {"ready": {...}} or {"error": "..."}   once, when the callable is imported and fits; with `reload`
                                                what `files_of_modules` found
                      {"ended": -9}             after the last descendant is gone
    attempt to server, on the report pipe: lines of one letter and JSON
                      p[3, 10, "label"]  progress; p[null, null, "label"] keeps the numbers
                      v{...}  the value returned    e["Type", "message"]  an error

What it does not do: decide. Time limits, results and states are the server's.
"""

import contextlib
import ctypes
import errno
import faulthandler
import gc
import importlib
import inspect
import json
import os
import re
import resource
import select
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, NoReturn

from dropmill.slot.interpreter import Imported, exit_functions_kept, report_waiting, user_modules

MESSAGE_BYTES = (
    128 * 1024
)  # under the default socket buffer (208 KiB); names are bounded, a real message is about 2 KiB
VALUE_BYTES = 64 * 1024  # what a callable returns beyond this is not kept: large things belong into the results folder
CPU_GRACE_S = 1  # between SIGXCPU and SIGKILL
LABEL_CHARACTERS = 200  # keeps a progress line under PIPE_BUF (4 KiB), so that lines of several processes never mix
FILES_BYTES = MESSAGE_BYTES // 2  # of the list of files in the first message; a project with more has its first ones
CONFIGS_KEPT = 4  # parsed configs; attempts use the newest one or, after a retry, its neighbours
BY_NAME = ("file", "config", "results", "work", "report")
USED_BY = ("close", "cleanup", "release", "shutdown")  # what a context manager has that is a resource, such as a file

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


class Unusable(Exception):
    """The callable cannot be a processor, told in half a sentence."""


class NothingRun(Exception):
    """The callable returned work that nobody has begun, told in a sentence."""


# --- processes -------------------------------------------------------------------------------------------------------


def become_subreaper() -> None:
    """Make orphaned descendants of this process its children, instead of init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def keep_memory_private() -> None:
    """Let no other process of the same user read this one's environment and memory, trace it, or get its core dump.

    Inherited by a fork, undone by an exec: what this process starts can be debugged as ever.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl failed")


def processes() -> Iterator[tuple[int, int, int]]:
    """Every process of the machine as (pid, parent's pid, session id), zombies included."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stat:
                    # The command in brackets may hold anything, a closing bracket too: count from the last one.
                    fields = stat.read().rpartition(b")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            yield int(name), int(fields[1]), int(fields[3])


def end_descendants() -> dict[int, int]:
    """Kill every descendant of this process, reap them all, and say how each ended (exit code, or -n for signal n).

    Only for a process whose descendants are all to go. One that may not be killed (it runs as another user) is left.
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
        time.sleep(0.001)  # the killed need a moment to die; their own children then become ours


def kill_below(root: int) -> bool:
    """Send SIGKILL to every process below `root`; False if none of them may be killed."""
    below: set[int] = set()
    # First they are stopped, and looked for again until there is none more: the room that a killed one leaves would be
    # filled by those that are still forking.
    while new := _below(root) - below:
        below |= new
        _send_all(new, signal.SIGSTOP)
    return _send_all(below, signal.SIGKILL)


def _below(root: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, parent, _ in processes():
        children.setdefault(parent, []).append(pid)
    found = list(children.get(root, ()))
    for pid in found:  # grows while it is walked: the whole tree
        found.extend(children.get(pid, ()))
    return set(found)


def _send_all(pids: set[int], number: signal.Signals) -> bool:
    """Send a signal; False if none of them may be sent it (they run as another user)."""
    has_hope = False
    for pid in pids:
        with contextlib.suppress(PermissionError):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            has_hope = True
    return has_hope


# --- the callable ----------------------------------------------------------------------------------------------------


def find_callable(target: str) -> Callable[..., Any]:
    """The callable that `module:function` names; importing it runs the user's module.

    Raises:
        Unusable: it cannot be imported, is not there, or is no function that can be run.
    """
    module_name, _, path = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise Unusable(_explain(error)) from error
        raise Unusable(
            f"there is no module named {error.name!r} in {sys.path[0]} or among the installed ones"
        ) from None
    except BaseException as error:  # SystemExit and whatever else a module may raise while it is imported
        raise Unusable(_explain(error)) from error
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise Unusable(f"the module {module_name} has no {path!r}") from None
    if not callable(found):
        raise Unusable(f"{path!r} is a {type(found).__name__}, not a function")
    for one in (found, getattr(found, "__call__", None)):  # noqa: B004 - an object may have an async __call__
        if inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one):
            raise Unusable(f"{path} is an async function; a processor is a plain one, it runs in its own process")
    return found  # type: ignore[no-any-return]


def bind(function: Callable[..., Any]) -> dict[str | None, str]:
    """How the callable wants to be called: parameter name to what it gets (None: the first positional argument).

    What it gets is one of `path` (pathlib.Path), `str` (the path as text), `file`, `config`, `results`, `work`,
    `report`. The first parameter without a default gets the path, whatever its name; only if it bears one of the other
    names and a later one without a default does not, that one gets the path.

    Raises:
        Unusable: a parameter without a default cannot be filled, or none of its parameters would be.
    """
    try:
        try:
            signature = inspect.signature(function, eval_str=True)
        except (NameError, SyntaxError, AttributeError, TypeError):  # an annotation that only a type checker can read
            signature = inspect.signature(function)
    except (ValueError, TypeError):  # some functions written in C do not tell
        return {None: "str"}
    parameters = list(signature.parameters.values())
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    required = [p for p in named if p.default is p.empty]
    for_path = next((p for p in required if p.name not in BY_NAME[1:]), required[0] if required else None)
    plan: dict[str | None, str] = {}
    for parameter in named:
        name = parameter.name
        key = None if parameter.kind is parameter.POSITIONAL_ONLY else name
        if name == "file" or (name in BY_NAME and parameter is not for_path):
            filler = name
        elif parameter is for_path or name == "path":
            filler = _path_type(parameter)
        elif parameter.default is parameter.empty:
            raise Unusable(
                f"its parameter {name!r} cannot be filled; beside the file there are, by name, {', '.join(BY_NAME)}"
            )
        else:
            continue
        if key is None and None in plan:
            raise Unusable("only its first parameter may be positional-only")
        plan[key] = filler
    if not plan and any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return {None: "str"}
    if not plan and named:
        raise Unusable("it takes no file: give it a parameter without a default, which gets the path")
    return plan


def _path_type(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    if isinstance(annotation, type) and issubclass(annotation, PurePath):
        return "path"
    if annotation in ("Path", "pathlib.Path") or (parameter.name == "path" and annotation not in (str, "str")):
        return "path"
    return "str"


def files_of_modules(began_ns: int) -> dict[str, list[int]]:
    """The files of all imported modules but the installed ones, each with time of change (ns) and size.

    Args:
        began_ns: when importing began, since the epoch; what changed later may have been read before, and counts as
            changed.
    """
    import sysconfig

    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    installed = tuple(os.path.join(folder, "") for folder in [*folders, str(Path(__file__).parents[1])])
    found: dict[str, list[int]] = {}
    room = FILES_BYTES
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if not isinstance(path, str) or path.startswith(installed) or "/site-packages/" in path:
            continue
        room -= len(path) + 40
        if room < 0:
            break
        with contextlib.suppress(OSError):
            stat = os.stat(path)
            changed_ns = 0 if began_ns <= stat.st_mtime_ns <= time.time_ns() else stat.st_mtime_ns
            found[path] = [changed_ns, stat.st_size]
    return found


def load_config(path: str) -> dict[Any, Any]:
    """The config file as plain data; the pure loader speaks YAML 1.2, the one in C would read `no` as False.

    Application tags, which a server that keeps them has accepted, construct nothing: what they stand beside is given as
    text, list or mapping. Of keys that Python takes for one (`1` and `true`) the later ones are text.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import SafeConstructor
    from ruamel.yaml.nodes import MappingNode, ScalarNode

    core = "tag:yaml.org,2002:"
    names = ("null", "bool", "int", "float", "str", "timestamp", "seq", "map")

    def plain(constructor: Any, node: Any) -> Any:
        if isinstance(node, ScalarNode):
            return node.value
        is_mapping = isinstance(node, MappingNode)
        return constructor.construct_yaml_map(node) if is_mapping else constructor.construct_yaml_seq(node)

    class Plain(SafeConstructor):
        def flatten_mapping(self, node: Any) -> None:
            numbers: dict[str, Callable[[Any], float]] = {
                "bool": self.construct_yaml_bool,
                "int": self.construct_yaml_int,
                "float": self.construct_yaml_float,
            }
            found = set()
            for key, value in node.value:
                kind = str(key.tag).removeprefix(core)
                if kind == "merge" and isinstance(value, ScalarNode):
                    key.tag = f"{core}str"
                elif kind in numbers:
                    number = numbers[kind](key)
                    key.tag = f"{core}str" if number in found else key.tag
                    found.add(number)
            super().flatten_mapping(node)

    Plain.yaml_constructors = {core + name: SafeConstructor.yaml_constructors[core + name] for name in names}
    Plain.yaml_constructors[None] = plain
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = Plain
    yaml.composer.warn_double_anchors = False  # an anchor may be used again (YAML 1.2.2, section 7.1)
    loaded = yaml.load(Path(path).read_bytes())
    return loaded if loaded is not None else {}


def run_to_end(value: Any, on_text: Callable[[str], None]) -> Any:
    """What a callable's return value comes to: a generator is run to its end, and what it returns is the value.

    `map` and `filter` are run, too: they call their function only when they are asked for the next item.

    Args:
        value: what the callable returned.
        on_text: called with each text that a generator yields; whatever else it yields is ignored.

    Raises:
        NothingRun: the value is work that only an event loop or a `with` statement would run.
    """
    while isinstance(value, (Generator, map, filter)) and not inspect.isawaitable(value):
        value = _exhaust(iter(value), on_text)
    kind = type(value)
    is_used = any(hasattr(kind, name) for name in USED_BY)
    if inspect.isawaitable(value) and (isinstance(value, (Coroutine, Generator)) or not is_used):
        if inspect.iscoroutine(value):
            value.close()  # never begun: no warning about that beside the sentence
        raise NothingRun(f"The function returned a {kind.__name__} that nothing awaits; call asyncio.run() in it.")
    if isinstance(value, AsyncIterator):
        raise NothingRun(f"The function returned an {kind.__name__} that nothing iterates; call asyncio.run() in it.")
    # Much that is no work to be done can be entered, a Path for one: only contextlib's and the user's own count.
    is_manager = hasattr(kind, "__enter__") or hasattr(kind, "__aenter__")
    is_unused = is_manager and not is_used and (kind.__module__ == "contextlib" or user_modules([kind.__module__]))
    if is_unused and not _was_entered(value):
        raise NothingRun(f"The function returned a context manager ({kind.__name__}) that nothing enters; use `with`.")
    return value


def _exhaust(items: Iterator[Any], on_text: Callable[[str], None]) -> Any:
    while True:
        try:
            item = next(items)
        except StopIteration as end:
            return end.value
        if isinstance(item, str):
            on_text(item)


def _was_entered(manager: Any) -> bool:
    """Whether a context manager that a generator function made has begun; of others nothing is known."""
    made_of = getattr(manager, "gen", None)
    return inspect.isgenerator(made_of) and inspect.getgeneratorstate(made_of) != inspect.GEN_CREATED


def _explain(error: BaseException) -> str:
    """An exception in one line, with the place in the user's own files."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    if len(frames) > 1 and not isinstance(error, SyntaxError):  # the first frame is this module's; a syntax error tells
        text += f" ({frames[-1].filename}, line {frames[-1].lineno})"
    return text


# --- the slot --------------------------------------------------------------------------------------------------------


class Slot:
    """The warm process: waits for an order, forks, watches, cleans up."""

    def __init__(self, channel: socket.socket, target: str) -> None:
        """Import the callable, so that every attempt begins with it.

        Raises:
            Unusable: the callable is no processor.
        """
        self._channel = channel
        self._function: Callable[..., Any] | None = None
        self._plan: Mapping[str | None, str] = {}
        self._configs: dict[str, dict[Any, Any]] = {}
        exit_functions: list[Any] = []
        if target:
            with exit_functions_kept() as exit_functions:
                self._function = find_callable(target)
            self._plan = bind(self._function)
            # What attempts will need is loaded once, before the fork, and only if it is wanted.
            if "config" in self._plan.values():
                importlib.import_module("ruamel.yaml")
            if "file" in self._plan.values():
                importlib.import_module("dropmill.model.jobs")
        # What the module did to these while it was imported must not hide an attempt's end.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        end_descendants()  # an import's children would die with the first attempt: better every time alike
        self._imported = Imported(exit_functions)

    def serve(self) -> None:
        """Run attempts until the server's end of the socket is closed."""
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        pid = pidfd = report = -1
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if pidfd in ready:
                poller.unregister(pidfd)
                os.close(pidfd)
                os.close(report)
                self._answer({"ended": end_descendants()[pid]})
                pid = pidfd = report = -1
            if self._channel.fileno() not in ready:
                continue
            try:
                data, descriptors, _, _ = socket.recv_fds(self._channel, MESSAGE_BYTES, 2)
            except ConnectionError:  # the server was killed before it had read our last message
                return
            if not data:
                return
            for descriptor in descriptors:  # received ones are inheritable, whatever recv_fds is told
                os.set_inheritable(descriptor, False)
            message = json.loads(data)
            if "run" in message:
                output, report = descriptors
                pid = self._fork(message["run"], output, report)
                if pid == -1:
                    os.close(report)
                else:
                    pidfd = os.pidfd_open(pid)
                    poller.register(pidfd, select.POLLIN)
            elif pid == -1:
                pass  # it ended by itself while the order to end it was under way
            elif message["signal"] == "terminate":
                _signal_group(pid, signal.SIGTERM)
                _signal_group(pid, signal.SIGCONT)  # one that has stopped itself would not notice
            else:
                _signal_group(pid, signal.SIGKILL)
                kill_below(os.getpid())

    def _answer(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the next poll tells that the server is gone
            self._channel.send(json.dumps(message).encode())

    def _fork(self, order: Mapping[str, Any], output: int, report: int) -> int:
        """Start an attempt: the child's pid, or -1 if none could be made (already answered). Leaves `report` open."""
        config: dict[Any, Any] | None = None
        problem: list[str] | None = None
        if "config" in self._plan.values():
            try:
                config = self._config(order["config"], order["config_sha256"])
            except Exception as error:  # ruamel also raises RecursionError, KeyError, ValueError
                problem = ["config", f"The config cannot be read: {_explain(error)}"]
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as error:
            with contextlib.suppress(BrokenPipeError):
                os.write(report, _report_line("e", ["cannot_start", f"No process could be started: {error.strerror}."]))
            self._answer({"ended": 127})
            pid = -1
        if pid == 0:
            self._channel.close()
            _Attempt(order, output, report).run(self._function, self._plan, config, problem, self._imported)
        os.close(output)
        return pid  # the report pipe stays open until its end: an attempt that closed it opens it again

    def _config(self, path: str, sha256: str) -> dict[Any, Any]:
        """The config as plain data. Read before the fork and kept, so that not every attempt pays for it."""
        if sha256 not in self._configs:
            loaded = load_config(path)
            while len(self._configs) >= CONFIGS_KEPT:
                del self._configs[next(iter(self._configs))]
            self._configs[sha256] = loaded
            gc.freeze()
        return self._configs[sha256]


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:  # just forked: its group is made a moment later
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    except PermissionError:
        pass  # all of it runs as another user now


def _report_line(kind: str, what: Any) -> bytes:
    return f"{kind}{json.dumps(what)}\n".encode()


# --- the forked child ------------------------------------------------------------------------------------------------


class _Attempt:
    """One attempt, from inside its own process. `run` never returns."""

    def __init__(self, order: Mapping[str, Any], output: int, report: int) -> None:
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
        try:
            os.setsid()
            for processes_file in self._order["groups"]:
                Path(processes_file).write_text("0")  # this process
            os.dup2(self._output, 1)
            os.dup2(self._output, 2)
            os.close(self._output)
            os.chdir(self._order["work"])
            os.environ.update(self._order["environment"])
            if problem is not None:
                self._tell("e", problem)
                self._code = 1
            elif "argv" in self._order:
                self._execute(self._order["argv"])
            elif function is None:
                self._begin_anew()
            else:
                imported.disown()
                self._limit()
                self._call(function, plan, config)
                imported.end()
        except Exception as error:
            self._tell("e", ["cannot_start", f"The script cannot be started: {_message(error)}."])
        finally:
            os._exit(self._code)  # neither the slot's clean-up nor its loop is this process's business

    def run_fresh(self) -> NoReturn:
        """The rest of an attempt that has begun anew in this interpreter, all of which is the job's."""
        try:
            function = find_callable(self._order["target"])
            plan = bind(function)
            config = load_config(self._order["config"]) if "config" in plan.values() else None
            self._call(function, plan, config)
        except Exception as error:
            self._tell("e", ["cannot_start", f"The callable cannot be run: {_message(error)}."])
        sys.exit(self._code)

    def _limit(self) -> None:
        """Set the limits that hold for each process, as the last thing before the script's own code."""
        limits = self._order["limits"]
        if limits["memory"] is not None:
            _lower(resource.RLIMIT_AS, limits["memory"])
        if limits["max_write"] is not None:
            _lower(resource.RLIMIT_FSIZE, limits["max_write"])
        if limits["cpu_time"] is not None:
            _lower(resource.RLIMIT_CPU, limits["cpu_time"], limits["cpu_time"] + CPU_GRACE_S)

    def _execute(self, argv: list[str]) -> NoReturn:
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by Python, and an ignored signal survives exec
            signal.signal(number, signal.SIG_DFL)
        self._limit()
        os.execve(argv[0], argv, os.environ)  # noqa: S606 - no shell on purpose

    def _begin_anew(self) -> NoReturn:
        """Go on in a fresh interpreter, which finds the order in a file without a name."""
        order = os.memfd_create("order", 0)
        with open(order, "wb", closefd=False) as file:
            file.write(json.dumps(self._order).encode())
        os.lseek(order, 0, os.SEEK_SET)
        os.set_inheritable(self._report, True)
        module = ["-P", "-m", "dropmill.slot.slot", "attempt", str(order), str(self._report)]
        self._limit()
        os.execve(sys.executable, [sys.executable, *module], os.environ)  # noqa: S606 - our own interpreter

    def _call(
        self, function: Callable[..., Any], plan: Mapping[str | None, str], config: dict[Any, Any] | None
    ) -> None:
        # Line by line, so that lines are seen as they are printed; and no name can make `print` fail.
        sys.stdout = open(1, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
        faulthandler.enable(sys.stderr)  # a segmentation fault leaves a traceback in the output
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._code = 1
        # Nothing of the call may live on in this frame: what it held must be gone when the interpreter ends.
        try:
            returned = function(*self._arguments(plan, config, None), **dict(self._named(plan, config)))
            value = _jsonable(run_to_end(returned, self._label))
            del returned
        except SystemExit as end:
            self._code = self._exit_code(end)
            if self._code == 0:
                self._tell("v", None)
            elif not isinstance(end.code, int) and (sentence := _message(end).strip()):
                self._tell("e", ["SystemExit", sentence])
        except BaseException as error:  # KeyboardInterrupt too: whatever it is, it ends this attempt alone
            self._fail(error)
        else:
            self._code = 0
            self._tell("v", value)
        report_waiting(self._label)

    def _fail(self, error: BaseException) -> None:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        if isinstance(error, NothingRun):
            print(f"dropmill: {error}", file=sys.stderr)  # noqa: T201 - there is no traceback that would help
            self._tell("e", ["nothing_run", str(error)])
            return
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == self._fail.__code__.co_filename:
            trace = trace.tb_next  # from the user's own frame on
        with contextlib.suppress(Exception):  # closed by the callable
            traceback.print_exception(type(error), error, trace)
        self._tell("e", self._published_cursor(error))

    def _published_cursor(self, error: BaseException) -> list[str]:
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
            from dropmill.model.client import ClientIdentity
            from dropmill.model.jobs import ProcessorFile

            record = dict(self._order["file"])
            record["path"] = Path(record["path"])
            record["client"] = ClientIdentity(**record["client"])
            return ProcessorFile(**record)
        return Path(self._order[what])

    def report(self, value: float, total: float | None = None, label: str | None = None) -> None:
        """Tell how far the script is; the newest counts, and only about four a second are shown."""
        # float() for what counts in its own kind of number, such as numpy's.
        self._newest_label = ""
        numbers = [n if n is None or isinstance(n, int) else float(n) for n in (value, total)]
        self._tell("p", [*numbers, None if label is None else str(label)[:LABEL_CHARACTERS]])

    def _label(self, label: str) -> None:
        """Tell what the script is doing now and leave the numbers as they are."""
        if label != self._newest_label:
            self._newest_label = label
            self._tell("p", [None, None, label[:LABEL_CHARACTERS]])

    def _exit_code(self, end: SystemExit) -> int:
        if end.code is None:
            return 0
        if isinstance(end.code, int):
            return 0 if end.code == 0 else end.code & 0xFF or 1
        print(end.code, file=sys.stderr)  # noqa: T201 - what Python itself does with sys.exit("sentence")
        return 1

    def _tell(self, kind: str, what: Any) -> None:
        if _identity(self._report) != self._pipe:
            # The script has closed our descriptor (`os.closerange`), and a file of its own may have the number now.
            try:
                self._report = os.open(self._slot_report, os.O_WRONLY)
            except OSError as error:
                print(f"dropmill: the report pipe was closed by the script: {error}", file=sys.stderr)  # noqa: T201
                return
        data = memoryview(_report_line(kind, what))
        while data:
            data = data[os.write(self._report, data) :]


def _identity(descriptor: int) -> tuple[int, int] | None:
    """What tells an open file from another one; None if the descriptor is closed."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _lower(kind: int, soft: int, hard: int | None = None) -> None:
    """Set a limit on this process, never above the one it has already."""
    allowed = resource.getrlimit(kind)[1]
    wanted = [soft, soft if hard is None else hard]
    if allowed != resource.RLIM_INFINITY:
        wanted = [min(value, allowed) for value in wanted]
    resource.setrlimit(kind, (wanted[0], wanted[1]))


def _message(error: BaseException) -> str:
    try:
        return str(error)[:4000]
    except Exception:  # a broken __str__ is the script's, too
        return ""


def _jsonable(value: Any) -> Any:
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
    return value if len(text) <= VALUE_BYTES else None


# --- start -----------------------------------------------------------------------------------------------------------


def main(descriptor: int, target: str, *, with_files: bool) -> None:
    """Be a slot until the server is gone."""
    channel = socket.socket(fileno=descriptor)
    channel.set_inheritable(False)
    # An import that hangs cannot watch the socket; the kernel watches for it.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    poller = select.poll()
    poller.register(channel, select.POLLIN)
    if poller.poll(0):
        return  # the server went before the kernel knew
    become_subreaper()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A module that starts threads while it is imported is the user's business, not a line on each restart.
    warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
    sys.argv = [target]
    sys.path.insert(0, os.getcwd())
    began_ns = time.time_ns()
    try:
        slot = Slot(channel, target)
    except Unusable as error:
        channel.send(json.dumps({"error": re.sub(r"\s+", " ", str(error))[:2000]}).encode())
        return
    # A script may have stopped its slot; when the server is gone it must go on, to see that and to clean up.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)
    channel.send(json.dumps({"ready": files_of_modules(began_ns) if with_files else {}}).encode())
    try:
        slot.serve()
    finally:
        end_descendants()


def go_on(order: int, report: int) -> NoReturn:
    """Be the fresh interpreter of an attempt; both descriptors were left open for it."""
    os.set_inheritable(report, False)
    with open(order, "rb") as file:
        attempt = json.load(file)
    sys.argv = [attempt["target"]]
    sys.path.insert(0, attempt["directory"])
    _Attempt(attempt, 1, report).run_fresh()


if __name__ == "__main__":
    if sys.argv[1] == "attempt":
        go_on(int(sys.argv[2]), int(sys.argv[3]))
    main(int(sys.argv[1]), sys.argv[2], with_files="reload" in sys.argv[3:])
    os._exit(0)  # threads and exit functions of the user's module have no part in a slot's end

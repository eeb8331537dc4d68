"""Ends the job's part of the interpreter as `python script.py` would end it, and leaves the slot's part untouched.

A forked attempt exits with `os._exit`. That alone would skip everything a script expects of the interpreter's end: open
files are closed, `atexit` functions run, threads are joined, buffered log records are written. Running the whole end
instead would also run what the module registered while it was imported, once for each job: the first job would delete
the temporary folder that the second one needs, and every job would write the buffers of the import again.

So `Imported` takes, once after the import, what belongs to the slot out of the registries that `end` runs; no slot ever
runs those itself. `end` does the rest in the order of CPython's `Py_FinalizeEx`. It does not exit: the caller does.
This module imports nothing that a user's module might not need; least of all `threading`, which does a quarter of the
work of a small attempt after each fork.

CPython has no public interface for some of this. `missing_private_names` lists the private names that a Python lacks;
without them `end` does what the public ones allow: it waits for threads and flushes files.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import io
import operator
import os
import sys
import time
import traceback
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from gc import collect, freeze, get_objects, is_finalized

TYPE_CHECKING = False
if TYPE_CHECKING:  # each import makes the slot larger, and every fork of it slower
    from typing import Any, TextIO

PRIVATE_NAMES = (
    ("atexit", "_clear"),
    ("atexit", "_run_exitfuncs"),
    ("logging", "_handlerList"),
    ("multiprocessing.process", "_children"),
    ("multiprocessing.util", "_exit_function"),
    ("threading", "_shutdown"),
    ("weakref", "finalize._registered_with_atexit"),
    ("weakref", "finalize._registry"),
)
THREAD_CHECK_S = 0.3  # between counts of the threads that keep the job alive; a pool of idle ones ends within it

_BUFFERED = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom, io.BufferedRWPair)  # outermost first
_PLAIN = frozenset(
    map(
        id,
        (
            *(dict, list, tuple, set, frozenset, type, types.FunctionType, types.MethodType, types.BuiltinFunctionType),
            *(types.CellType, types.FrameType, types.TracebackType, types.ModuleType, staticmethod, classmethod),
        ),
    )
)
"""Types, by id, of objects that need neither a flush nor a finalizer."""
_WITHOUT_THREADS = types.SimpleNamespace(_shutdown=None)
_CODE = (types.ModuleType, types.FunctionType, type)
_ABSENT = object()
_fflush = ctypes.CDLL(None).fflush
_finalized: list[Any] = []  # by `_finalize_living`
_INSTALLED = (
    os.path.join(os.path.dirname(os.__file__), ""),
    os.path.join(os.path.dirname(os.path.dirname(__file__)), ""),
)


def missing_private_names() -> list[str]:
    """The private names of the standard library that this Python lacks, as `module.name`; normally none."""
    missing = []
    for module, name in PRIVATE_NAMES:
        try:
            operator.attrgetter(name)(importlib.import_module(module))
        except (ImportError, AttributeError):
            missing.append(f"{module}.{name}")
    return missing


@contextmanager
def exit_functions_kept() -> Iterator[list[Any]]:
    """Collect what is registered with `atexit` inside the context.

    `Imported` clears the registry, and an object that only the registry holds would then die: a
    `tempfile.TemporaryDirectory` whose `cleanup` was registered would delete its folder in the first job.
    """
    kept: list[Any] = []
    register = atexit.register

    def keep(function: Callable[..., Any], *arguments: Any, **named: Any) -> Callable[..., Any]:
        kept.append((function, arguments, named))
        return register(function, *arguments, **named)

    atexit.register = keep  # type: ignore[assignment]
    try:
        yield kept
    finally:
        atexit.register = register


class Imported:
    """What exists once the user's module is imported. It belongs to the slot and outlives every job."""

    def __init__(self, streams: tuple[TextIO, TextIO], exit_functions: Iterable[Any] = ()) -> None:
        """Flush what the import buffered, so that no job writes it again, and freeze all objects (`gc.freeze`).

        The slot freezes its own later objects before each fork. The exit functions and finalizers of the import are
        removed from their registries; new ones can be registered
        as usual.

        Args:
            streams: what `sys.stdout` and `sys.stderr` will be in each job.
            exit_functions: what was registered with `atexit` during the import; kept alive.
        """
        self._exit_functions = list(exit_functions)
        self._streams = streams
        self._has_private_names = all(
            hasattr(owner, name)
            for owner, name in (
                (atexit, "_clear"),
                (atexit, "_run_exitfuncs"),
                (sys.modules.get("threading", _WITHOUT_THREADS), "_shutdown"),
                (weakref.finalize, "_registry"),
                (weakref.finalize, "_registered_with_atexit"),
            )
        )
        self._children: object = None
        if self._has_private_names:
            self._disown()
        collect()
        self._handlers = _log_handlers()
        for reference in self._handlers:
            with suppress(Exception):
                reference().flush()
        self._files: list[weakref.ref[Any]] = []
        for file in _buffered_files():
            with suppress(Exception):
                file.flush()
                if file.writable():
                    self._files.append(weakref.ref(file))
        _flush_c_streams()
        self._module_names = set(sys.modules)
        self._names = [(vars(module), dict(vars(module))) for module in user_modules(self._module_names)]
        freeze()

    def _disown(self) -> None:
        """Remove the import's exit functions and finalizers."""
        atexit._clear()
        for entry in weakref.finalize._registry.values():  # type: ignore[attr-defined]
            entry.atexit = False
        weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
        multiprocessing = sys.modules.get("multiprocessing.util")
        if multiprocessing is not None and hasattr(multiprocessing, "_exit_function"):
            # The import registered it, but it ends the processes that the job starts. Its own finalizers compare the
            # process id; its list of children does not.
            atexit.register(multiprocessing._exit_function)
            process = sys.modules["multiprocessing.process"]
            self._children, process._children = process._children, set()  # type: ignore[attr-defined]

    def adopt_streams(self) -> None:
        """Make `sys.stdout` and `sys.stderr` write to the descriptors 1 and 2 of this process."""
        sys.stdout, sys.stderr = self._streams

    def end(self) -> None:
        """End the job's part of the interpreter. Never raises: an error is printed, as CPython prints it.

        Waits for all threads but daemons, and as long as the exit functions wait.
        """
        first: list[Callable[[], object]] = [self._end_threads, self._run_exit_functions, self._end_logging]
        for step in first:
            with _reported(step):
                step()
        # Most jobs leave nothing that has to be flushed or finalized; a look at the types of what they left shows it.
        steps: list[Callable[[], object]] = [collect, self._drop_names, self._flush]
        if _left_something():
            # Files are flushed before a collection: in a cycle, the collector may close a raw file before its buffer.
            steps = [self._flush_quietly, collect, self._finalize, self._drop_names, self._flush]
        for step in steps:
            with _reported(step):
                step()

    def _end_threads(self) -> None:
        threading: Any = sys.modules.get("threading")
        if threading is None:
            return
        if self._has_private_names:
            threading._shutdown()
        else:
            for thread in _waited_for():
                thread.join()

    def _run_exit_functions(self) -> None:
        if self._has_private_names:
            atexit._run_exitfuncs()

    def _end_logging(self) -> None:
        """What `logging.shutdown` does, but handlers that the import made are flushed, not closed."""
        known = {id(reference) for reference in self._handlers}
        for reference in reversed(_log_handlers()):
            handler = reference()
            if handler is None:
                continue
            with _reported(handler), suppress(OSError, ValueError), handler.lock or nullcontext():
                if getattr(handler, "flushOnClose", True):
                    handler.flush()
                if id(reference) not in known:
                    handler.close()

    def _drop_names(self) -> None:
        """Remove the names that the user's modules have bound since the fork; objects that only they hold die here."""
        namespaces = list(self._names)
        if len(sys.modules) != len(self._module_names):
            namespaces += [(vars(module), {}) for module in user_modules(sys.modules.keys() - self._module_names)]
        has_dropped = False
        for names, before in namespaces:
            if len(names) == len(before) and all(map(operator.is_, names.values(), before.values())):
                continue  # nothing was bound; the comparison below would cost more than the rest of the end
            bound = [
                name
                for name, value in names.items()
                if before.get(name, _ABSENT) is not value
                and not issubclass(type(value), _CODE)
                and not name.startswith("__")
            ]
            has_dropped = has_dropped or bool(bound)
            for name in reversed(bound):  # the newest first, because it may use older ones
                if name in before:
                    names[name] = before[name]
                else:
                    names.pop(name, None)
        if has_dropped:
            collect()

    def _finalize(self) -> None:
        _finalize_living(self._flush_quietly)

    def _flush_quietly(self) -> None:
        for file in [*self._streams, *_outermost_first(_buffered_files())]:
            with suppress(OSError, ValueError):  # the last step tries again and reports
                file.flush()

    def _flush(self) -> None:
        files = [file for reference in self._files if (file := reference()) is not None]
        for file in _outermost_first([*files, *_buffered_files()]):
            with _reported(file), suppress(ValueError):  # closed or detached
                file.flush()
        _flush_c_streams()


class Loaded:
    """What a process has loaded that stays from attempt to attempt: frozen, but for its files."""

    def __init__(self) -> None:
        """Freeze all objects (`gc.freeze`), so that `flush` need not look at them."""
        collect()
        self._files = [weakref.ref(file) for file in _buffered_files()]
        freeze()

    def flush(self) -> None:
        """Flush every file, log handler and C stream, as the end of an attempt's interpreter would."""
        handlers = [handler for reference in _log_handlers() if (handler := reference()) is not None]
        files = [file for reference in self._files if (file := reference()) is not None]
        for one in [*handlers, *_outermost_first([*files, *_buffered_files()])]:
            with _reported(one), suppress(ValueError):  # closed or detached
                one.flush()
        _flush_c_streams()


def report_waiting(report: Callable[[str], None]) -> None:
    """Start a thread that reports how many threads the end waits for, if it waits for any. Call it before the end.

    Args:
        report: called with a label, in the started thread.
    """

    def watch() -> None:
        reported = 0
        while True:
            time.sleep(THREAD_CHECK_S)
            count = len(_waited_for())
            if count == 0:
                return
            if count != reported:
                report(f"waiting for {count} thread{'s' if count > 1 else ''}")
                reported = count

    threading: Any = sys.modules.get("threading")
    if threading is not None and _waited_for():
        threading.Thread(target=watch, name="dropmill: waiting", daemon=True).start()


def _waited_for() -> list[Any]:
    """The threads that the end waits for; `threading` is imported."""
    threading: Any = sys.modules["threading"]
    if threading.active_count() == 1:
        return []
    main = threading.main_thread()
    return [thread for thread in threading.enumerate() if not thread.daemon and thread is not main]


class _reported:  # noqa: N801 - used like contextlib.suppress
    """Print an error as CPython does at this stage, and go on; also after SystemExit from a signal handler."""

    def __init__(self, where: object) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if error is not None:
            with suppress(Exception):
                print(f"Exception ignored in: {self._where!r}", file=sys.stderr)  # noqa: T201
                traceback.print_exception(error)
        return True


def _log_handlers() -> list[Any]:
    """Weak references to the handlers of `logging`, in the order in which they were made."""
    return list(getattr(sys.modules.get("logging"), "_handlerList", ()))


def user_modules(names: Iterable[str]) -> list[types.ModuleType]:
    """Those of the named modules that are neither installed nor part of Dropmill."""
    found = []
    for name in names:
        module = sys.modules.get(name)
        path = getattr(module, "__file__", None)
        if not isinstance(path, str) or path.startswith(_INSTALLED):
            continue
        if "/site-packages/" not in path and "/dist-packages/" not in path and isinstance(module, types.ModuleType):
            found.append(module)
    return found


# `issubclass(type(one), ...)` instead of `isinstance`, which reads `__class__`: a lazy proxy would run code for that.


def _buffered_files() -> list[Any]:
    """Every open file with a buffer that was made since the last `gc.freeze`."""
    return [one for one in get_objects() if issubclass(type(one), _BUFFERED)]


def _outermost_first(files: list[Any]) -> list[Any]:
    return sorted(files, key=lambda file: not issubclass(type(file), io.TextIOWrapper))


def _left_something() -> bool:
    """Whether an object that was made since the last `gc.freeze` may have to be flushed or finalized."""
    return any(id(kind) not in _PLAIN for kind in map(type, get_objects()))  # a metaclass may forbid hashing


def _finalize_living(flush: Callable[[], None]) -> None:
    """Finalize the objects that were made since the fork and are still alive: globals, caches, attributes.

    The end of an interpreter finalizes them while every name is still bound, so this runs before names are dropped.
    Finalized objects are then kept alive, so that they are not finalized again. Finalizers written in Python run first,
    because they may use files; then buffers above compressed files are flushed, before those are closed and write their
    last bytes.

    Args:
        flush: flushes files.
    """
    for finisher in (_finalizer, _closer):
        # Types are checked first: mostly none has a finalizer, and a check of each object takes long.
        kinds = {id(kind): kind for kind in map(type, get_objects())}  # a metaclass may forbid hashing
        finishers = {key: finish for key, kind in kinds.items() if (finish := finisher(kind)) is not None}
        if not finishers:
            continue
        for one in get_objects():
            finish = finishers.get(id(type(one)))
            if finish is not None and not is_finalized(one):
                _finalized.append(one)
                with _reported(finish):
                    finish(one)
        flush()


def _finalizer(kind: type) -> Callable[[Any], object] | None:
    finalizer = getattr(kind, "__del__", None)
    return finalizer if isinstance(finalizer, types.FunctionType) else None


def _closer(kind: type) -> Callable[[Any], object] | None:
    """For files that are written in Python, such as gzip's: closing them writes the end of their format."""
    is_python = io.IOBase in kind.__mro__ and not issubclass(kind, _BUFFERED) and _finalizer(kind) is None
    return operator.methodcaller("close") if is_python else None


def standard_streams() -> tuple[TextIO, TextIO]:
    """Text files over the descriptors 1 and 2, whatever these are; for output that goes to a pipe.

    Line buffered, so that each line is shown when it is printed; no file name can make `print` fail.
    """
    return (
        open(1, "w", 1, "utf-8", "backslashreplace", closefd=False),
        open(2, "w", 1, "utf-8", "backslashreplace", closefd=False),
    )


@contextmanager
def pipe_for_output() -> Iterator[None]:
    """Have the descriptors 1 and 2 be a pipe inside the context: a file remembers whether it could seek when opened."""
    kept = os.dup(1), os.dup(2)
    reading, writing = os.pipe()
    try:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        yield
    finally:
        os.dup2(kept[0], 1)
        os.dup2(kept[1], 2)
        for descriptor in (*kept, reading, writing):
            os.close(descriptor)


def _flush_c_streams() -> None:
    """Flush what C code has printed with stdio."""
    _fflush(None)

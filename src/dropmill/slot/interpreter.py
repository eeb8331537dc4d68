"""The job's own part of the interpreter: it ends as `python script.py` would end, while the slot's part stays.

A forked attempt leaves with `os._exit`. That alone would lose what a script leaves to the end of the interpreter: files
that nobody closed, `atexit` functions, threads, buffered log records. Running the whole end instead would run what the
module set up while it was imported, once for each job: the first job would delete the temporary folder that the second
one needs, and every job would write the buffers of the import again.

So `Imported` records, once after the import, what belongs to the slot; `disown` takes it out of the attempt's hands
right after the fork; `end` does the rest in CPython's order (`Py_FinalizeEx`). It does not exit: the caller does.
Standard library only, and nothing imported that the user's module might not need.

CPython offers no public way to do some of this. `missing_private_names` lists what a Python lacks of the names used
here; without them `end` does what the public ones allow: it waits for threads and flushes files.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import operator
import os
import sys
import threading
import time
import traceback
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

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
THREAD_CHECK_S = 0.3  # between counts of the threads that are waited for; a pool of idle ones ends within it

_BUFFERED = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom, io.BufferedRWPair)  # outermost first
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


@contextlib.contextmanager
def exit_functions_kept() -> Iterator[list[Any]]:
    """Collect what is registered with `atexit` meanwhile.

    `disown` clears the registry, and an object that only the registry holds would die of it: a
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

    def __init__(self, exit_functions: Iterable[Any] = ()) -> None:
        """Flush what the import buffered, so that no job writes it again, and hide all objects from the collector.

        Args:
            exit_functions: what was registered with `atexit` during the import; kept alive.
        """
        self._exit_functions = list(exit_functions)
        self._has_private_names = all(
            hasattr(owner, name)
            for owner, name in (
                (atexit, "_clear"),
                (atexit, "_run_exitfuncs"),
                (threading, "_shutdown"),
                (weakref.finalize, "_registry"),
                (weakref.finalize, "_registered_with_atexit"),
            )
        )
        gc.collect()
        self._handlers = _log_handlers()
        for reference in self._handlers:
            with contextlib.suppress(Exception):
                reference().flush()
        self._files: list[weakref.ref[Any]] = []
        for file in _buffered_files():
            with contextlib.suppress(Exception):
                file.flush()
                if file.writable():
                    self._files.append(weakref.ref(file))
        _flush_c_streams()
        self._module_names = set(sys.modules)
        self._names = [(vars(module), dict(vars(module))) for module in user_modules(self._module_names)]
        self._children: object = None
        gc.freeze()

    def disown(self) -> None:
        """Take the slot's exit functions and finalizers out of this process; new ones register as ever.

        To be called in the forked child, before any of the job's code.
        """
        if not self._has_private_names:
            return
        atexit._clear()
        for entry in weakref.finalize._registry.values():  # type: ignore[attr-defined]
            entry.atexit = False
        weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
        multiprocessing = sys.modules.get("multiprocessing.util")
        if multiprocessing is not None and hasattr(multiprocessing, "_exit_function"):
            # It was registered while it was imported, but looks after whatever processes the job starts. Its own
            # finalizers compare the process id; its list of children does not.
            atexit.register(multiprocessing._exit_function)
            process = sys.modules["multiprocessing.process"]
            self._children, process._children = process._children, set()  # type: ignore[attr-defined]

    def end(self) -> None:
        """End the job's part of the interpreter. Never raises: an error is printed, as CPython prints it.

        Waits for threads that are not daemons, and for whatever the exit functions wait for.
        """
        steps: list[Callable[[], object]] = [_join_threads]
        if self._has_private_names:
            steps = [threading._shutdown, atexit._run_exitfuncs]  # type: ignore[attr-defined]
        # Files are flushed before each collection: of one in a cycle the collector may close the lower half first.
        steps += [self._end_logging, _flush_quietly, gc.collect, _finalize_living, self._drop_names, self._flush]
        for step in steps:
            with _reported(step):
                step()

    def _end_logging(self) -> None:
        """What `logging.shutdown` does, but what was made while the module was imported is flushed, not closed."""
        known = {id(reference) for reference in self._handlers}
        for reference in reversed(_log_handlers()):
            handler = reference()
            if handler is None:
                continue
            with _reported(handler), contextlib.suppress(OSError, ValueError), handler.lock or contextlib.nullcontext():
                if getattr(handler, "flushOnClose", True):
                    handler.flush()
                if id(reference) not in known:
                    handler.close()

    def _drop_names(self) -> None:
        """Drop what the user's modules have bound since the fork; what is held by such a name alone dies here."""
        namespaces = list(self._names)
        if len(sys.modules) != len(self._module_names):
            namespaces += [(vars(module), {}) for module in user_modules(sys.modules.keys() - self._module_names)]
        has_dropped = False
        for names, before in namespaces:
            if len(names) == len(before) and all(map(operator.is_, names.values(), before.values())):
                continue  # nothing was bound, and comparing one by one would cost more than the rest of the end
            bound = [
                name
                for name, value in names.items()
                if before.get(name, _ABSENT) is not value
                and not issubclass(type(value), _CODE)
                and not name.startswith("__")
            ]
            has_dropped = has_dropped or bool(bound)
            for name in reversed(bound):  # the newest first, because it may use what is older
                if name in before:
                    names[name] = before[name]
                else:
                    names.pop(name, None)
        if has_dropped:
            gc.collect()

    def _flush(self) -> None:
        files = [file for reference in self._files if (file := reference()) is not None]
        for file in _outermost_first([*files, *_buffered_files()]):
            with _reported(file), contextlib.suppress(ValueError):  # closed or detached
                file.flush()
        _flush_c_streams()


def report_waiting(report: Callable[[str], None]) -> None:
    """Have a thread report how many threads the end waits for, if there are any. Call it before the end.

    Args:
        report: called with a label, in that thread.
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

    if threading.active_count() > 1 and _waited_for():
        threading.Thread(target=watch, name="dropmill: waiting", daemon=True).start()


def _waited_for() -> list[threading.Thread]:
    main = threading.main_thread()
    return [thread for thread in threading.enumerate() if not thread.daemon and thread is not main]


def _join_threads() -> None:
    for thread in _waited_for():
        thread.join()


class _reported:  # noqa: N801 - used like contextlib.suppress
    """Print an error as CPython does at this stage, and go on: SystemExit from a signal handler included."""

    def __init__(self, where: object) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if error is not None:
            with contextlib.suppress(Exception):
                print(f"Exception ignored in: {self._where!r}", file=sys.stderr)  # noqa: T201
                traceback.print_exception(error)
        return True


def _log_handlers() -> list[Any]:
    """Weak references to the handlers of `logging`, in the order in which they were made."""
    return list(getattr(sys.modules.get("logging"), "_handlerList", ()))


def user_modules(names: Iterable[str]) -> list[types.ModuleType]:
    """Those of the named modules that are neither installed nor our own."""
    found = []
    for name in names:
        module = sys.modules.get(name)
        path = getattr(module, "__file__", None)
        if not isinstance(path, str) or path.startswith(_INSTALLED):
            continue
        if "/site-packages/" not in path and "/dist-packages/" not in path and isinstance(module, types.ModuleType):
            found.append(module)
    return found


# Objects are judged by their type: `isinstance` asks an object's `__class__`, and a lazy proxy would run code for it.


def _buffered_files() -> list[Any]:
    """Every open file with a buffer that was made since the last `gc.freeze`."""
    return [one for one in gc.get_objects() if issubclass(type(one), _BUFFERED)]


def _outermost_first(files: list[Any]) -> list[Any]:
    return sorted(files, key=lambda file: not issubclass(type(file), io.TextIOWrapper))


def _flush_quietly() -> None:
    for file in _outermost_first(_buffered_files()):
        with contextlib.suppress(OSError, ValueError):  # the last step tries again and reports
            file.flush()


def _finalize_living() -> None:
    """Finalize what was made since the fork and is still alive: as a global, in a cache, in an object of the import's.

    The end of an interpreter finalizes all of that while every name is still bound, so this comes before names are
    dropped. What is finalized is then kept alive, so that it is not finalized again. Finalizers written in Python come
    first, because they may use files; then what is buffered above a compressed file, before that is closed and writes
    its last bytes.
    """
    for finisher in (_finalizer, _closer):
        # Type by type first: mostly there is none to finalize, and looking at each object costs.
        kinds = {id(kind): kind for kind in map(type, gc.get_objects())}  # a metaclass may forbid hashing
        finishers = {key: finish for key, kind in kinds.items() if (finish := finisher(kind)) is not None}
        if not finishers:
            continue
        for one in gc.get_objects():
            finish = finishers.get(id(type(one)))
            if finish is not None and not gc.is_finalized(one):
                _finalized.append(one)
                with _reported(finish):
                    finish(one)
        _flush_quietly()


def _finalizer(kind: type) -> Callable[[Any], object] | None:
    finalizer = getattr(kind, "__del__", None)
    return finalizer if isinstance(finalizer, types.FunctionType) else None


def _closer(kind: type) -> Callable[[Any], object] | None:
    """For files that are written in Python, as gzip's: they end their format when they are closed."""
    is_python = io.IOBase in kind.__mro__ and not issubclass(kind, _BUFFERED) and _finalizer(kind) is None
    return operator.methodcaller("close") if is_python else None


def _flush_c_streams() -> None:
    """Flush what code in C has printed with stdio."""
    _fflush(None)

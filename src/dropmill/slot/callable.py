"""The processor as a Python callable: importing it, binding its parameters, running what it returns to the end."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
import traceback
import types
from collections import namedtuple
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator

from dropmill.slot.interpreter import user_modules
from dropmill.slot.protocol import MESSAGE_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:  # each import makes the slot larger, and every fork of it slower
    from typing import Any

FILES_BYTES = MESSAGE_BYTES // 2  # of the list of files in the first message; of a larger project it holds only a part
BY_NAME = ("file", "config", "results", "work", "report")
# Bits of `co_flags` (inspect module, "Code objects bit flags").
_VARARGS, _VARKEYWORDS, _COROUTINE, _ITERABLE_COROUTINE, _ASYNC_GENERATOR = 0x4, 0x8, 0x80, 0x100, 0x200
_FINISHED = (bool, int, float, str, bytes, list, tuple, dict)  # types of values that hold no work
# A context manager with one of these methods is a resource, such as a file, and need not be entered.
RESOURCE_METHODS = ("close", "cleanup", "release", "shutdown")


class Unusable(Exception):
    """The callable cannot be a processor; the text, half a sentence, says why."""


class NothingRun(Exception):
    """The callable returned work that has not begun; the text is a sentence."""


def find_callable(target: str) -> Callable[..., Any]:
    """The callable that `module:function` names; importing it runs the user's module.

    Raises:
        Unusable: it cannot be imported, does not exist, or is not a synchronous function.
    """
    module_name, _, path = target.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise Unusable(explain(error)) from error
        raise Unusable(
            f"there is no module named {error.name!r} in {sys.path[0]} or among the installed ones"
        ) from None
    except BaseException as error:  # SystemExit and whatever else a module may raise while it is imported
        raise Unusable(explain(error)) from error
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise Unusable(f"the module {module_name} has no {path!r}") from None
    if not callable(found):
        raise Unusable(f"{path!r} is a {type(found).__name__}, not a function")
    if _is_async(found):
        raise Unusable(f"{path} is an async function; a processor is a plain one, it runs in its own process")
    return found  # type: ignore[no-any-return]


def bind(function: Callable[..., Any]) -> dict[str | None, str]:
    """What to pass for each parameter of the callable, by its name; None is the key of a positional-only one.

    The values are `path` (pathlib.Path), `str` (the path as text), `file`, `config`, `results`, `work`, `report`.
    The path goes to the first parameter without a default whose name is none of the last five, or, if there is none,
    to the first without a default.

    Raises:
        Unusable: nothing can be passed for a parameter without a default, or no parameter takes the file.
    """
    parameters = _parameters(function)
    if parameters is None:
        return {None: "str"}
    named = [p for p in parameters if p.kind not in (_STAR, _DOUBLE_STAR)]
    required = [p for p in named if not p.has_default]
    for_path = next((p for p in required if p.name not in BY_NAME[1:]), required[0] if required else None)
    plan: dict[str | None, str] = {}
    for parameter in named:
        name = parameter.name
        key = None if parameter.kind == _BY_PLACE else name
        if name == "file" or (name in BY_NAME and parameter is not for_path):
            filler = name
        elif parameter is for_path or name == "path":
            filler = _path_type(parameter, getattr(function, "__globals__", {}))
        elif not parameter.has_default:
            raise Unusable(
                f"its parameter {name!r} cannot be filled; beside the file there are, by name, {', '.join(BY_NAME)}"
            )
        else:
            continue
        if key is None and None in plan:
            raise Unusable("only its first parameter may be positional-only")
        plan[key] = filler
    if not plan and any(p.kind == _STAR for p in parameters):
        return {None: "str"}
    if not plan and named:
        raise Unusable("it takes no file: give it a parameter without a default, which gets the path")
    return plan


_Parameter = namedtuple("_Parameter", "name kind has_default annotation")
# What `kind` says of it: as in `def f(by_place, /, named, *star, **double_star)`.
_BY_PLACE, _NAMED, _STAR, _DOUBLE_STAR = range(4)


def _parameters(function: Callable[..., Any]) -> list[_Parameter] | None:
    """The parameters of a callable; None if nobody can say."""
    if not _is_plain(function):
        return _inspected(function)
    code: types.CodeType = function.__code__
    positional, by_name = code.co_argcount, code.co_kwonlyargcount
    without_default = positional - len(function.__defaults__ or ())
    kinds = [_BY_PLACE] * code.co_posonlyargcount + [_NAMED] * (positional + by_name - code.co_posonlyargcount)
    kinds += [_STAR] * bool(code.co_flags & _VARARGS) + [_DOUBLE_STAR] * bool(code.co_flags & _VARKEYWORDS)
    return [
        _Parameter(
            name,
            kind,
            name in (function.__kwdefaults__ or ()) if index >= positional else index >= without_default,
            function.__annotations__.get(name),
        )
        for index, (name, kind) in enumerate(zip(code.co_varnames, kinds, strict=False))
    ]


def _inspected(function: Callable[..., Any]) -> list[_Parameter] | None:
    """As `_parameters`, for callables that are no plain functions: classes, objects, wrapped and partial functions."""
    import inspect

    try:
        try:
            signature = inspect.signature(function, eval_str=True)
        except (NameError, SyntaxError, AttributeError, TypeError):  # an annotation that only a type checker can read
            signature = inspect.signature(function)
    except (ValueError, TypeError):  # some functions written in C have no signature
        return None
    kinds: dict[Any, int] = {
        inspect.Parameter.POSITIONAL_ONLY: _BY_PLACE,
        inspect.Parameter.VAR_POSITIONAL: _STAR,
        inspect.Parameter.VAR_KEYWORD: _DOUBLE_STAR,
    }
    return [
        _Parameter(p.name, kinds.get(p.kind, _NAMED), p.default is not p.empty, p.annotation)
        for p in signature.parameters.values()
    ]


def _is_plain(function: object) -> bool:
    """Whether it is a `def` that no decorator has marked or wrapped, which is known without `inspect` (1 MiB)."""
    return type(function) is types.FunctionType and not function.__dict__


def _is_async(function: Any) -> bool:
    if _is_plain(function):
        return bool(function.__code__.co_flags & (_COROUTINE | _ASYNC_GENERATOR))
    import inspect

    both = (function, getattr(function, "__call__", None))  # noqa: B004 - an object may have an async __call__
    return any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in both)


def _path_type(parameter: _Parameter, names: dict[str, Any]) -> str:
    annotation = parameter.annotation
    if isinstance(annotation, str):
        with contextlib.suppress(Exception):  # perhaps only a type checker can read it
            annotation = eval(annotation, names)  # noqa: S307 - the user's code in the user's module
    pathlib = sys.modules.get("pathlib")
    if pathlib is not None and isinstance(annotation, type) and issubclass(annotation, pathlib.PurePath):
        return "path"
    if annotation in ("Path", "pathlib.Path") or (parameter.name == "path" and annotation not in (str, "str")):
        return "path"
    return "str"


def files_of_modules(began_ns: int) -> dict[str, list[int]]:
    """The files of all imported modules that are not installed ones, each with modification time (ns) and size.

    Args:
        began_ns: when importing began, in nanoseconds since the epoch. A file modified since then may have been read
            before that; its time is given as 0, so that it counts as changed.
    """
    import sysconfig

    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    installed = tuple(os.path.join(folder, "") for folder in [*folders, os.path.dirname(os.path.dirname(__file__))])
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


def run_to_end(value: Any, on_text: Callable[[str], None]) -> Any:
    """Run a returned generator to its end and return its value; any other value is returned unchanged.

    `map` and `filter` are run, too, because they call their function only when the next item is requested.

    Args:
        value: what the callable returned.
        on_text: called with each string that a generator yields; other items are ignored.

    Raises:
        NothingRun: only an event loop or a `with` statement would run the value.
    """
    if value is None or type(value) in _FINISHED:
        return value  # the checks below would touch many more pages of memory, all of which a fork has to copy
    while isinstance(value, (Generator, map, filter)) and not _is_awaitable(value):
        value = _exhaust(iter(value), on_text)
    kind = type(value)
    is_resource = any(hasattr(kind, name) for name in RESOURCE_METHODS)
    if _is_awaitable(value) and (isinstance(value, (Coroutine, Generator)) or not is_resource):
        if isinstance(value, types.CoroutineType):
            value.close()  # else Python would warn that it was never awaited, beside our sentence
        raise NothingRun(f"The function returned a {kind.__name__} that nothing awaits; call asyncio.run() in it.")
    if isinstance(value, AsyncIterator):
        raise NothingRun(f"The function returned an {kind.__name__} that nothing iterates; call asyncio.run() in it.")
    # Many objects that hold no work have __enter__, a Path for one: only contextlib's and the user's own classes count.
    is_manager = hasattr(kind, "__enter__") or hasattr(kind, "__aenter__")
    is_unused = is_manager and not is_resource and (kind.__module__ == "contextlib" or user_modules([kind.__module__]))
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


def _is_awaitable(value: object) -> bool:
    """As `inspect.isawaitable`."""
    is_marked = isinstance(value, types.GeneratorType) and value.gi_code.co_flags & _ITERABLE_COROUTINE
    return bool(is_marked) or isinstance(value, Awaitable)


def _was_entered(manager: Any) -> bool:
    """Whether a context manager made from a generator function was entered; False for any other."""
    made_of = getattr(manager, "gen", None)
    if not isinstance(made_of, types.GeneratorType):
        return False
    return made_of.gi_running or made_of.gi_suspended or made_of.gi_frame is None


def explain(error: BaseException) -> str:
    """An exception in one line, with file and line number in the user's code."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    # The first frame is this module's. The text of a syntax error already names the place.
    if len(frames) > 1 and not isinstance(error, SyntaxError):
        text += f" ({frames[-1].filename}, line {frames[-1].lineno})"
    return text


# --- the slot --------------------------------------------------------------------------------------------------------

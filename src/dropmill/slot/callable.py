"""The processor as a Python callable: importing it, binding its parameters, running what it returns to the end."""

import contextlib
import importlib
import inspect
import os
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from pathlib import Path, PurePath
from typing import Any

from dropmill.slot.interpreter import user_modules
from dropmill.slot.protocol import MESSAGE_BYTES

FILES_BYTES = MESSAGE_BYTES // 2  # of the list of files in the first message; of a larger project it holds only a part
BY_NAME = ("file", "config", "results", "work", "report")
# A context manager with one of these methods is a resource, such as a file, and need not be entered.
_FINISHED = (bool, int, float, str, bytes, list, tuple, dict)  # types of values that hold no work
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
    for one in (found, getattr(found, "__call__", None)):  # noqa: B004 - an object may have an async __call__
        if inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one):
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
    try:
        try:
            signature = inspect.signature(function, eval_str=True)
        except (NameError, SyntaxError, AttributeError, TypeError):  # an annotation that only a type checker can read
            signature = inspect.signature(function)
    except (ValueError, TypeError):  # some functions written in C have no signature
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
    """The files of all imported modules that are not installed ones, each with modification time (ns) and size.

    Args:
        began_ns: when importing began, in nanoseconds since the epoch. A file modified since then may have been read
            before that; its time is given as 0, so that it counts as changed.
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
    while isinstance(value, (Generator, map, filter)) and not inspect.isawaitable(value):
        value = _exhaust(iter(value), on_text)
    kind = type(value)
    is_resource = any(hasattr(kind, name) for name in RESOURCE_METHODS)
    if inspect.isawaitable(value) and (isinstance(value, (Coroutine, Generator)) or not is_resource):
        if inspect.iscoroutine(value):
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


def _was_entered(manager: Any) -> bool:
    """Whether a context manager made from a generator function was entered; False for any other."""
    made_of = getattr(manager, "gen", None)
    return inspect.isgenerator(made_of) and inspect.getgeneratorstate(made_of) != inspect.GEN_CREATED


def explain(error: BaseException) -> str:
    """An exception in one line, with file and line number in the user's code."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    # The first frame is this module's. The text of a syntax error already names the place.
    if len(frames) > 1 and not isinstance(error, SyntaxError):
        text += f" ({frames[-1].filename}, line {frames[-1].lineno})"
    return text


# --- the slot --------------------------------------------------------------------------------------------------------

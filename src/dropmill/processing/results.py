"""Moves the files of an attempt's results folder into the blob store.

This runs after the attempt's last process is gone. The folder's content is not trusted: the walk goes through directory
descriptors, follows no link, and the store takes only regular files with a single link. Files are moved, not copied.
The attempt's output lists every file that is refused.

A path is recorded as text and never used as a path again: names joined by `/`, with control characters and bytes that
are not UTF-8 written as `%0A`.
"""

import asyncio
import os
import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from dropmill.model.faults import TEMPORARY
from dropmill.model.jobs import JobError
from dropmill.model.results import Result
from dropmill.ports.blobs import BlobStore

DEPTH_MAX = 32  # nested folders; each level holds a descriptor open during the walk
PATH_MAX_BYTES = 1024  # of a path as text; a URL needs up to three times as many, which servers still take
REFUSED_NAMED = 20  # refused files that are named; the rest are counted

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultLimits:
    """How much an attempt may leave.

    Attributes:
        count: most files, and most folders.
        size: bytes of all files together; None means no limit.
    """

    count: int
    size: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenOver:
    """What became of the results folder.

    Attributes:
        results: the files in the store now, in the order of their paths.
        refused: a sentence for each file that was not taken.
        error: why nothing was taken at all; None if files could be taken.
    """

    results: tuple[Result, ...] = ()
    refused: tuple[str, ...] = ()
    error: JobError | None = None

    @property
    def note(self) -> str:
        """Lines for the attempt's output; "" if there is nothing to say."""
        lines = [*self.refused[:REFUSED_NAMED]]
        if len(self.refused) > REFUSED_NAMED:
            lines.append(f"{len(self.refused) - REFUSED_NAMED:,} more were not taken as results.")
        if self.error is not None:
            lines.append(self.error.message)
        return "".join(f"dropmill: {line}\n" for line in lines)


class _Refused(Exception):
    """No result is taken; `error` says why."""

    def __init__(self, type_: str, message: str) -> None:
        super().__init__(message)
        self.error = JobError(type=type_, message=message)


@dataclass(frozen=True, slots=True)
class _Found:
    """An entry that is no folder, and the folders on the way to it."""

    folders: tuple[str, ...]
    name: str


async def take_over(folder: Path, blobs: BlobStore, limits: ResultLimits) -> TakenOver:
    """Move the files of a results folder into the store: all of them, or none if they exceed the limits.

    Cancelling removes those from the store that it has already.
    """
    taken: dict[str, Result] = {}
    refused: list[str] = []
    try:
        root = await _opened(os.open, folder, _FOLDER)
    except FileNotFoundError:
        return TakenOver()  # the script has removed the folder
    except OSError as error:
        return TakenOver(refused=(f"The results folder cannot be opened: {error.strerror}.",))
    try:
        found, refused = await asyncio.to_thread(_scan, root, limits)
        await _adopt(root, found, blobs, limits, taken, refused)
    except _Refused as error:
        return TakenOver(refused=tuple(refused), error=error.error)
    except TEMPORARY as error:
        await remove(taken.values(), blobs)
        message = f"The results could not be stored: {error}"
        return TakenOver(refused=tuple(refused), error=JobError(type="results_not_stored", message=message))
    except BaseException:
        await remove(taken.values(), blobs)
        raise
    finally:
        os.close(root)
    return TakenOver(results=tuple(taken[path] for path in sorted(taken)), refused=tuple(refused))


async def remove(results: Collection[Result], blobs: BlobStore) -> None:
    """Remove results from the store that the ledger has not recorded."""
    for result in results:
        await blobs.discard(result.blob)


async def _adopt(
    root: int,
    found: Sequence[_Found],
    blobs: BlobStore,
    limits: ResultLimits,
    taken: dict[str, Result],
    refused: list[str],
) -> None:
    left = limits.size  # counted again, because a process of another program may still write
    folders: tuple[str, ...] = ()
    descriptor = root
    try:
        for one in found:
            if one.folders != folders:
                if descriptor != root:
                    os.close(descriptor)
                descriptor, folders = root, ()
                descriptor = await _opened(_descend, root, one.folders)
                folders = one.folders
            try:
                blob = await blobs.adopt(descriptor, one.name, left)
            except ValueError as error:
                refused.append(_sentence(one, str(error)))
                continue
            left = None if left is None else left - blob.size
            path = _unique("/".join(map(_text, (*one.folders, one.name))), taken)
            taken[path] = Result(path=path, size=blob.size, sha256=blob.sha256, blob=blob.key)
    finally:
        if descriptor != root:
            os.close(descriptor)


async def _opened(call: Callable[..., int], *args: object) -> int:
    """The descriptor that a call opens in a thread. If the caller is cancelled, it is closed as soon as it is open."""
    opening = asyncio.get_running_loop().run_in_executor(None, call, *args)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(lambda opened: None if opened.exception() else os.close(opened.result()))
        raise


def _unique(path: str, taken: Collection[str]) -> str:
    """The path, with a number if it is taken: two names may be equal once their characters are escaped."""
    unique, number = path, 1
    while unique in taken:
        number += 1
        unique = f"{path} ({number})"
    return unique


def _sentence(one: _Found, why: str) -> str:
    return f"{'/'.join(map(_text, (*one.folders, one.name)))} was not taken as a result: it {why}."


# --- the walk; blocks ------------------------------------------------------------------------------------------------


def _scan(root: int, limits: ResultLimits) -> tuple[list[_Found], list[str]]:
    """All entries below a folder that are no folders, and a sentence for each that is refused.

    Raises:
        _Refused: they exceed the limits.
    """
    found: list[_Found] = []
    refused: list[str] = []
    folders = size = 0

    def enter(descriptor: int, path: tuple[str, ...]) -> None:
        nonlocal folders, size
        inside: list[str] = []
        with os.scandir(descriptor) as entries:
            for entry in entries:
                one = _Found(path, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    folders += 1
                    inside.append(entry.name)
                else:
                    found.append(one)
                    size += entry.stat(follow_symlinks=False).st_size
                if max(len(found), folders) > limits.count:
                    raise _Refused(
                        "too_many_results",
                        f"The script left more than {limits.count:,} results (--max-results); none was taken.",
                    )
                if limits.size is not None and size > limits.size:
                    raise _Refused(
                        "results_too_large",
                        f"The script left more than {limits.size:,} bytes of results (--max-results-size); "
                        "none was taken.",
                    )
        for name in inside:
            one = _Found(path, name)
            if len(path) >= DEPTH_MAX:
                refused.append(_sentence(one, "lies too deep"))
                continue
            try:
                below = os.open(name, _FOLDER, dir_fd=descriptor)
            except OSError as error:
                refused.append(_sentence(one, f"cannot be opened ({error.strerror})"))
                continue
            try:
                enter(below, (*path, name))
            finally:
                os.close(below)

    enter(root, ())
    kept: list[_Found] = []
    for one in found:
        if len("/".join(map(_text, (*one.folders, one.name))).encode()) > PATH_MAX_BYTES:
            refused.append(_sentence(_Found(one.folders[:1], one.name[:50] + "..."), "has too long a path"))
        else:
            kept.append(one)
    return kept, refused


def _descend(root: int, folders: Sequence[str]) -> int:
    """A new descriptor of a folder below another."""
    descriptor = os.dup(root)
    for name in folders:
        try:
            below = os.open(name, _FOLDER, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def _text(name: str) -> str:
    """A file's name as text that every database, JSON and a page can hold."""
    if name.isascii() and name.isprintable():
        return name
    decoded = os.fsencode(name).decode("utf-8", "surrogateescape")
    return "".join(_shown(character) for character in decoded)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in ("Cc", "Cs"):
        return character
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))

"""Outputs in files of one folder, as `dropmill.ports.outputs.Outputs`. Any process that sees the folder can read them.

    FOLDER/ab/ab12....1.out     the head; missing for an attempt that wrote nothing. Its modification time is when the
                                first byte was written, so that most attempts need no file for their marks
    FOLDER/ab/ab12....1.tail    8 bytes, the offset of the rest (big-endian); then the tail, if it is not in .out.
                                Replaced as a whole, so that a reader never sees half of it
    FOLDER/ab/ab12....1.marks   16 bytes for each mark but the first: microseconds since 1970, offset (big-endian)

It knows nothing of lines, encodings or running attempts. Nothing is fsynced: a power cut may lose the newest bytes.
"""

import asyncio
import contextlib
import logging
import os
import struct
import threading
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dropmill.model.faults import translated
from dropmill.model.ids import JobId
from dropmill.model.output import OutputBounds, OutputChunk, OutputMark, OutputPiece, kept_marks
from dropmill.private import FILE_MODE, FOLDER_MODE
from dropmill.processing.hops import SharedHop

_OFFSET_BYTES = 8
_MARK = struct.Struct(">qQ")
_SUFFIXES = (".out", ".tail", ".tail.new", ".marks")
_STORE = "The store of outputs"  # in the sentences of its errors
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

logger = logging.getLogger(__name__)


class FileOutputs:
    """`dropmill.ports.outputs.Outputs` in a folder. Keeps no file open and nothing in memory."""

    def __init__(self, folder: Path, bounds: OutputBounds | None = None) -> None:
        """Touch nothing yet.

        Args:
            folder: of the files; created when needed.
            bounds: how much of each output is kept; None: the default.
        """
        self._folder = folder
        self._hop = SharedHop()  # the ends of several attempts share a thread
        self._bounds = bounds or OutputBounds()
        self._replacing = threading.Lock()  # of a tail; two pieces of one attempt may be stored at once

    @property
    def bounds(self) -> OutputBounds:
        return self._bounds

    async def append(self, pieces: Sequence[OutputPiece]) -> Collection[tuple[JobId, int]]:
        return await self._hop.run(self._append, pieces)

    async def end(self, piece: OutputPiece) -> bool:
        if not piece.data and not piece.marks:
            return True  # everything is stored; these files need no mark for the end
        return not await self._hop.run(self._append, [piece])

    async def read(self, job_id: JobId, number: int, start: int, limit: int) -> OutputChunk:
        with translated(_STORE):
            return await asyncio.to_thread(_read, self._path(job_id, number), max(0, start), limit)

    async def marks(self, job_id: JobId, number: int) -> Sequence[OutputMark]:
        with translated(_STORE):
            return await asyncio.to_thread(_marks, self._path(job_id, number))

    async def remove(self, attempts: Sequence[tuple[JobId, int]]) -> None:
        with translated(_STORE):
            await asyncio.to_thread(_remove, [self._path(job_id, number) for job_id, number in attempts])

    def _path(self, job_id: JobId, number: int) -> Path:
        return self._folder / job_id[:2] / f"{job_id}.{number}"

    # --- below, everything blocks ------------------------------------------------------------------------------------

    def _append(self, pieces: Sequence[OutputPiece]) -> Collection[tuple[JobId, int]]:
        refused = set()
        for piece in pieces:
            path = self._path(piece.job_id, piece.number)
            try:
                if piece.data:
                    self._put(path, piece)
                if piece.marks:
                    _add_marks(path, piece.marks)
            except OSError as error:
                logger.warning("output of %s is lost from byte %d on: %s", path.name, piece.offset, error)
                refused.add((piece.job_id, piece.number))
        return refused

    def _put(self, path: Path, piece: OutputPiece) -> None:
        in_head = piece.data[: max(0, self._bounds.head - piece.offset)]
        if in_head and _put_head(path, piece.offset, in_head, piece.began_at):
            beyond = OutputChunk(
                offset=piece.offset + len(in_head),
                data=piece.data[len(in_head) :],
                end=piece.offset + len(piece.data),
            )
        else:
            beyond = OutputChunk(offset=piece.offset, data=piece.data, end=piece.offset + len(piece.data))
        if beyond.data:
            with self._replacing:
                _put_tail(path, beyond, self._bounds.tail, piece.began_at)


def _named(path: Path, suffix: str) -> str:
    return f"{path}{suffix}"


def _put_head(path: Path, start: int, data: bytes, began_at: datetime) -> bool:
    """Write a piece of the head; returns False, and writes nothing, if bytes before it are missing."""
    # Written at its own offset, not appended: a second write of the piece changes nothing.
    descriptor = _open(path, ".out", os.O_CREAT if start == 0 else 0)
    if descriptor is None:
        return False
    try:
        if start and os.fstat(descriptor).st_size < start:
            return False
        _write_at(descriptor, start, data)
        _set_time(descriptor, began_at)
    finally:
        os.close(descriptor)
    return True


def _put_tail(path: Path, new: OutputChunk, kept: int, began_at: datetime) -> None:
    """Replace the tail by one that ends with this piece; a late older piece changes nothing."""
    data = new.data
    with _Tail(path) as old:
        if old.end >= new.end:
            return
        if len(data) < kept and old.offset <= new.offset <= old.end:
            data = old.read(old.offset, new.offset - old.offset) + data
    data = data[-kept:]
    descriptor = _open(path, ".tail.new", os.O_CREAT | os.O_TRUNC)
    if descriptor is None:
        raise AssertionError("a file that is created was not found")
    try:
        _write_at(descriptor, 0, (new.end - len(data)).to_bytes(_OFFSET_BYTES, "big") + data)
        _set_time(descriptor, began_at)
    finally:
        os.close(descriptor)
    os.rename(_named(path, ".tail.new"), _named(path, ".tail"))


def _add_marks(path: Path, marks: Sequence[OutputMark]) -> None:
    descriptor = _open(path, ".marks", os.O_CREAT)
    if descriptor is None:
        raise AssertionError("a file that is created was not found")
    try:
        # Half a mark, left by a full disk or a kill, is overwritten. A mark that is stored twice counts once.
        start = os.fstat(descriptor).st_size // _MARK.size * _MARK.size
        _write_at(descriptor, start, b"".join(_MARK.pack(_microseconds(mark.at), mark.offset) for mark in marks))
    finally:
        os.close(descriptor)


def _open(path: Path, suffix: str, flags: int) -> int | None:
    """A descriptor to write to; None if the file does not exist and `flags` do not create it."""
    name = _named(path, suffix)
    try:
        return os.open(name, os.O_WRONLY | os.O_CLOEXEC | flags, FILE_MODE)
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            return None
    for folder in (path.parent.parent, path.parent):  # mkdir gives parents the default mode
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    return os.open(name, os.O_WRONLY | os.O_CLOEXEC | flags, FILE_MODE)


def _write_at(descriptor: int, start: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, start)
        view, start = view[count:], start + count


def _set_time(descriptor: int, at: datetime) -> None:
    nanoseconds = _microseconds(at) * 1000
    os.utime(descriptor, ns=(nanoseconds, nanoseconds))


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _time(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        for suffix in _SUFFIXES:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_named(path, suffix))


class _Tail:
    """The tail of an output at the moment it was opened; empty if there is none."""

    def __init__(self, path: Path) -> None:
        self._name = _named(path, ".tail")
        self._descriptor = -1
        self.offset = self.end = 0
        self.began_ns = 0

    def __enter__(self) -> "_Tail":
        with contextlib.suppress(FileNotFoundError):
            self._descriptor = os.open(self._name, os.O_RDONLY | os.O_CLOEXEC)
            found = os.fstat(self._descriptor)
            self.offset = int.from_bytes(os.pread(self._descriptor, _OFFSET_BYTES, 0), "big")
            self.end = self.offset + found.st_size - _OFFSET_BYTES
            self.began_ns = found.st_mtime_ns
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(self, start: int, limit: int) -> bytes:
        return os.pread(self._descriptor, limit, _OFFSET_BYTES + start - self.offset)


def _stat_head(path: Path) -> tuple[int, int]:
    """Size and modification time (ns) of the head; zeros if there is none."""
    try:
        found = os.stat(_named(path, ".out"))
    except FileNotFoundError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _read_head(path: Path, start: int, limit: int) -> bytes:
    with open(_named(path, ".out"), "rb") as file:
        file.seek(start)
        return file.read(limit)


def _read(path: Path, start: int, limit: int) -> OutputChunk:
    # The tail first: the head only grows, so the bytes between the two now are cut out for good.
    with _Tail(path) as tail:
        head, _ = _stat_head(path)
        end = max(head, tail.end)
        if start < head:
            return OutputChunk(offset=start, data=_read_head(path, start, min(limit, head - start)), end=end)
        start = min(max(start, tail.offset), end)
        return OutputChunk(offset=start, data=tail.read(start, limit) if start < tail.end else b"", end=end)


def _marks(path: Path) -> list[OutputMark]:
    with _Tail(path) as tail:
        head, began_ns = _stat_head(path)
        end = max(head, tail.end)
        if not end:
            return []
        marks = [OutputMark(at=_time((began_ns or tail.began_ns) // 1000), offset=0)]
        with contextlib.suppress(FileNotFoundError), open(_named(path, ".marks"), "rb") as file:
            stored = file.read()
            whole = len(stored) // _MARK.size * _MARK.size
            marks += [OutputMark(at=_time(at), offset=offset) for at, offset in _MARK.iter_unpack(stored[:whole])]
        return kept_marks(marks, head=head, tail=tail.offset if tail.end else end, end=end)

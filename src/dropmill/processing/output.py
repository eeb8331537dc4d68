"""What attempts write to stdout and stderr: one stream an attempt, addressed by byte offset.

The first 16 MiB and the last 1 MiB are kept. While an attempt runs, its newest MiB is in memory, so that those who
follow it cost no disk access; the beginning is written behind, all attempts together in one thread hop. On disk:

    FOLDER/ab/ab12....1.out     the beginning; none for an attempt that wrote nothing
    FOLDER/ab/ab12....1.tail    8 bytes, the offset of what follows (big-endian); then the end, if it is not in .out

It knows nothing of lines, encodings or progress. Output is not fsynced: a power cut may take the newest.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dropmill.model.faults import translated
from dropmill.model.ids import JobId
from dropmill.ports.bus import Bus
from dropmill.private import FILE_MODE, FOLDER_MODE

HEAD_BYTES = 16 * 1024 * 1024  # kept of the beginning
TAIL_BYTES = 1024 * 1024  # kept of the end
PENDING_BYTES = TAIL_BYTES // 2  # unwritten bytes of the beginning at which the script has to wait for the disk
URGENT_BYTES = 64 * 1024  # unwritten bytes at which writing does not wait for more
WRITE_BEHIND_S = 0.05  # under what a person notices; bounds hints to 20 a second

_OFFSET_BYTES = 8
_STORE = "The store of outputs"  # in the sentences of its errors

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputChunk:
    """A piece of a stream.

    Attributes:
        offset: where `data` begins; beyond what was asked for if the bytes between were not kept.
        data: at most as much as asked for; empty if there is nothing behind the start yet, or ever.
        end: bytes written by the attempt so far.
        is_over: whether the attempt writes no more.
    """

    offset: int
    data: bytes
    end: int
    is_over: bool


class OutputStream:
    """The output of one running attempt, while it is written. Touches memory only; used on the event loop."""

    def __init__(self, path: Path, changed: Callable[["OutputStream"], None]) -> None:
        """Begin an empty stream.

        Args:
            path: of its files, without their endings.
            changed: told on every write; must be cheap.
        """
        self.path = path
        self.end = 0
        self._changed = changed
        self._recent = bytearray()
        self._head_bytes = HEAD_BYTES
        self._written = 0
        self._when_room: Callable[[], None] | None = None

    def write(self, data: bytes) -> bool:
        """Append; False if the writer should wait for `when_room` (the disk is behind)."""
        self._recent += data
        self.end += len(data)
        del self._recent[: max(0, len(self._recent) - TAIL_BYTES)]
        self._changed(self)
        return self.has_room

    @property
    def has_room(self) -> bool:
        """Whether the writer may go on. What is not yet on disk always stays in memory."""
        return self._written >= self._head_bytes or self.end - self._written < PENDING_BYTES

    def when_room(self, resume: Callable[[], None]) -> None:
        """Call `resume` once, on the loop, when the disk has caught up."""
        self._when_room = resume

    @property
    def recent_from(self) -> int:
        """Offset of the first byte still in memory."""
        return self.end - len(self._recent)

    @property
    def written(self) -> int:
        """Bytes of the beginning that are on disk."""
        return self._written

    def recent(self, start: int, limit: int) -> bytes:
        """Bytes from memory; `start` not before `recent_from`."""
        begin = start - self.recent_from
        return bytes(memoryview(self._recent)[begin : begin + limit])

    @property
    def pending(self) -> int:
        """Bytes of the beginning that are still to be written."""
        return max(0, min(self.end, self._head_bytes) - self._written)

    def take_pending(self) -> tuple[int, bytes]:
        """What is to be written, and where it belongs."""
        return self._written, self.recent(self._written, self.pending)

    def has_written(self, end: int) -> None:
        """The beginning is on disk up to `end`."""
        self._written = max(self._written, end)
        self._call_resume()

    def stop_keeping(self) -> None:
        """The disk takes no more: the script goes on, what it writes is kept only as far as memory holds it."""
        self._head_bytes = self._written
        self._call_resume()

    def _call_resume(self) -> None:
        if self._when_room is not None and self.has_room:
            resume, self._when_room = self._when_room, None
            resume()

    def save(self) -> None:
        """Write all that is kept and not yet on disk. Runs in a thread, after the last `write`."""
        if self.end == self._written:
            return
        try:
            start, data = self.take_pending()
            if data:
                _write_at(self.path.with_name(self.path.name + ".out"), start, data)
            kept = start + len(data)
            if self.end > kept:
                begin = max(kept, self.recent_from)
                _write_at(
                    self.path.with_name(self.path.name + ".tail"),
                    0,
                    begin.to_bytes(_OFFSET_BYTES, "big") + self.recent(begin, TAIL_BYTES),
                )
        except OSError as error:
            logger.warning("output of %s could not be kept: %s", self.path.name, error)


class OutputStore:
    """The output of every attempt: running ones from memory and disk, ended ones from disk."""

    def __init__(self, folder: Path, bus: Bus) -> None:
        """Keep streams below `folder`, made when needed; say on `bus` (`output:<job_id>`) how far they are."""
        self._folder = folder
        self._bus = bus
        self._live: dict[tuple[JobId, int], OutputStream] = {}
        self._dirty: dict[OutputStream, JobId] = {}
        self._has_dirty = asyncio.Event()
        self._is_urgent = asyncio.Event()

    def open(self, job_id: JobId, number: int) -> OutputStream:
        """Begin the stream of an attempt that starts."""

        def changed(stream: OutputStream) -> None:
            self._dirty[stream] = job_id
            self._has_dirty.set()
            if stream.pending >= URGENT_BYTES:
                self._is_urgent.set()

        stream = OutputStream(self._path(job_id, number), changed)
        self._live[job_id, number] = stream
        return stream

    def close(self, job_id: JobId, number: int) -> None:
        """The stream is over and saved (`OutputStream.save`); from now on it is read from disk."""
        stream = self._live.pop((job_id, number), None)
        if stream is not None:
            self._dirty.pop(stream, None)
            self._bus.moved({f"output:{job_id}": stream.end})

    async def read(self, job_id: JobId, number: int, start: int, limit: int) -> OutputChunk:
        """A piece of an attempt's output, also while it runs.

        Args:
            job_id: whose.
            number: of the attempt. One that never wrote, or never was, reads as empty and over.
            start: offset of the first byte wanted; what was not kept behind it is skipped.
            limit: most bytes wanted, above 0.
        """
        start = max(0, start)
        stream = self._live.get((job_id, number))
        if stream is None:
            with translated(_STORE):
                return await asyncio.to_thread(_read_saved, self._path(job_id, number), start, limit)
        if start < stream.recent_from and start < stream.written:
            path = stream.path.with_name(stream.path.name + ".out")
            with translated(_STORE):
                data = await asyncio.to_thread(_read_at, path, start, min(limit, stream.written - start))
            return OutputChunk(offset=start, data=data, end=stream.end, is_over=False)
        start = min(max(start, stream.recent_from), stream.end)
        return OutputChunk(offset=start, data=stream.recent(start, limit), end=stream.end, is_over=False)

    async def remove(self, attempts: Sequence[tuple[JobId, int]]) -> None:
        """Delete the output of attempts that are over; none is no error."""
        with translated(_STORE):
            await asyncio.to_thread(_remove, [self._path(job_id, number) for job_id, number in attempts])

    async def write_behind(self) -> None:
        """Save what running attempts write and tell the bus, until cancelled. One such task a store."""
        while True:
            await self._has_dirty.wait()
            try:
                async with asyncio.timeout(WRITE_BEHIND_S):
                    await self._is_urgent.wait()
            except TimeoutError:
                pass
            self._has_dirty.clear()
            self._is_urgent.clear()
            dirty, self._dirty = self._dirty, {}
            if dirty:
                self._bus.moved({f"output:{job_id}": stream.end for stream, job_id in dirty.items()})
            pieces = [(stream, *stream.take_pending()) for stream in dirty if stream.pending]
            if pieces:
                failed = await asyncio.to_thread(_write_pieces, pieces)
                for stream, start, data in pieces:
                    if stream in failed:
                        stream.stop_keeping()
                    else:
                        stream.has_written(start + len(data))

    def _path(self, job_id: JobId, number: int) -> Path:
        return self._folder / job_id[:2] / f"{job_id}.{number}"


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        for suffix in (".out", ".tail"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _write_pieces(pieces: list[tuple[OutputStream, int, bytes]]) -> set[OutputStream]:
    failed = set()
    for stream, start, data in pieces:
        try:
            _write_at(stream.path.with_name(stream.path.name + ".out"), start, data)
        except OSError as error:
            logger.warning("output of %s is not kept from byte %d on: %s", stream.path.name, start, error)
            failed.add(stream)
    return failed


def _write_at(path: Path, start: int, data: bytes) -> None:
    # At its own offset, never appended: writing a piece a second time changes nothing.
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    except FileNotFoundError:
        for folder in (path.parent.parent, path.parent):  # with `parents` only the last one would get the mode
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        view = memoryview(data)
        while view:
            count = os.pwrite(descriptor, view, start)
            view, start = view[count:], start + count
    finally:
        os.close(descriptor)


def _read_at(path: Path, start: int, limit: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(limit)


def _read_saved(path: Path, start: int, limit: int) -> OutputChunk:
    head, tail = path.with_name(path.name + ".out"), path.with_name(path.name + ".tail")
    head_end = head.stat().st_size if head.exists() else 0
    if tail.exists():
        tail_from = int.from_bytes(_read_at(tail, 0, _OFFSET_BYTES), "big")
        end = tail_from + tail.stat().st_size - _OFFSET_BYTES
    else:
        tail_from = end = head_end
    if start < head_end:
        return OutputChunk(
            offset=start, data=_read_at(head, start, min(limit, head_end - start)), end=end, is_over=True
        )
    start = min(max(start, tail_from), end)
    data = _read_at(tail, _OFFSET_BYTES + start - tail_from, limit) if start < end else b""
    return OutputChunk(offset=start, data=data, end=end, is_over=True)

"""The output of attempts that run in this process, on its way to the store.

The newest MiB of each is in memory, so that followers cost no disk access. The store gets it a moment later, the pieces
of all attempts in one call. Bytes that were cut out between the head and the tail are never read back.

It knows nothing of files, lines, encodings or progress.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from dropmill.model.clock import utc_now
from dropmill.model.ids import JobId
from dropmill.model.output import OutputBounds, OutputChunk, OutputMark, OutputPiece, kept_marks
from dropmill.ports.bus import Bus
from dropmill.ports.outputs import Outputs

URGENT_BYTES = 64 * 1024  # unwritten bytes at which writing does not wait for more
WRITE_BEHIND_S = 0.05  # a delay that nobody notices; at most 20 hints a second
TAIL_EVERY_S = 1.0  # the store replaces the whole tail of an attempt, so not for each write

MARK_EVERY_S = 1.0
MARKS_FINE = 65_536  # marks of one attempt, 1 MiB and 18 hours, after which their spacing doubles, and so on
MARKS_PENDING = 4096  # unwritten marks at which those of cut-out bytes are dropped


class OutputStream:
    """The output of one running attempt. Touches memory only; used on the event loop."""

    def __init__(
        self,
        job_id: JobId,
        number: int,
        bounds: OutputBounds,
        changed: Callable[["OutputStream"], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin an empty stream.

        Args:
            job_id: of the attempt.
            number: of the attempt.
            bounds: how much of the output is kept.
            changed: called on every write; must be cheap.
            monotonic: the clock that spaces marks, in seconds.
        """
        self.job_id = job_id
        self.number = number
        self.end = 0
        self.published = 0
        self._changed = changed
        self._monotonic = monotonic
        self._recent = bytearray()
        self._kept = bounds.tail
        self._head = bounds.head
        self._may_wait = bounds.tail // 2  # unwritten bytes of the head at which the script waits for the disk
        self._written = 0
        self._tail_end = 0
        self._tail_at = 0.0
        self._is_refused = False
        self._when_room: Callable[[], None] | None = None
        self._began_at: datetime | None = None
        self._marks: list[OutputMark] = []
        self._mark_count = 0
        self._mark_at = 0.0

    def write(self, data: bytes) -> bool:
        """Append; False if the writer should wait for `when_room` (the disk is behind)."""
        if (now := self._monotonic()) >= self._mark_at:
            self._mark(now)
        self._recent += data
        self.end += len(data)
        del self._recent[: max(0, len(self._recent) - self._kept)]
        self._changed(self)
        return self.has_room

    @property
    def has_room(self) -> bool:
        """Whether the writer may continue. Bytes of the head stay in memory until they are stored."""
        return self._written >= self._head or self.end - self._written < self._may_wait

    def when_room(self, resume: Callable[[], None]) -> None:
        """Call `resume` once, on the loop, when the disk has caught up."""
        self._when_room = resume

    @property
    def recent_from(self) -> int:
        """Offset of the first byte still in memory."""
        return self.end - len(self._recent)

    @property
    def written(self) -> int:
        """Bytes of the head that are stored."""
        return self._written

    def recent(self, start: int, limit: int) -> bytes:
        """Bytes from memory; `start` not before `recent_from`."""
        begin = start - self.recent_from
        return bytes(memoryview(self._recent)[begin : begin + limit])

    # --- when bytes were written -------------------------------------------------------------------------------------

    def _mark(self, now: float) -> None:
        at = utc_now()
        if self._began_at is None:
            self._began_at = at
        else:
            self._marks.append(OutputMark(at=at, offset=self.end))
            if len(self._marks) > MARKS_PENDING:
                self._marks = kept_marks(self._marks, head=self._written, tail=self.recent_from, end=self.end + 1)
        self._mark_count += 1
        self._mark_at = now + MARK_EVERY_S * (1 << self._mark_count // MARKS_FINE)

    def marks(self, stored: Sequence[OutputMark]) -> Sequence[OutputMark]:
        """All marks of the bytes that can be read now, given the stored marks."""
        if self._began_at is None:
            return []
        return kept_marks(
            [OutputMark(at=self._began_at, offset=0), *stored, *self._marks],
            head=self._written,
            tail=max(self._written, self.recent_from),
            end=self.end,
        )

    # --- on its way to the store -------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Bytes of the head that are not stored yet."""
        return max(0, min(self.end, self._head) - self._written)

    @property
    def has_new_tail(self) -> bool:
        """Whether there are bytes beyond the head that the store should get while the attempt runs."""
        return not self._is_refused and self.end > max(self._head, self._tail_end)

    def take_due(self) -> OutputPiece | None:
        """The piece to be stored now, while the attempt runs; None: nothing."""
        if self.pending:
            return self._piece(self._written, self.pending)
        if self.has_new_tail and (now := self._monotonic()) >= self._tail_at:
            self._tail_at = now + TAIL_EVERY_S
            return self._piece(max(self._head, self.recent_from), self._kept)
        return None

    def take_rest(self) -> OutputPiece | None:
        """Everything that is not stored yet; empty if all is stored, None if nothing was ever written."""
        if self._began_at is None:
            return None
        start = self._written if self.pending else max(self._written, self.recent_from)
        return self._piece(start, self.end - start if self.end > max(self._written, self._tail_end) else 0)

    def _piece(self, start: int, size: int) -> OutputPiece:
        if self._began_at is None:
            raise AssertionError("a stream that was never written to has nothing to store")
        return OutputPiece(
            job_id=self.job_id,
            number=self.number,
            offset=start,
            data=self.recent(start, size),
            began_at=self._began_at,
            marks=tuple(self._marks),
        )

    def has_stored(self, piece: OutputPiece) -> None:
        """Note that a piece of this stream is in the store."""
        end = piece.offset + len(piece.data)
        if piece.data and piece.offset <= self._written:
            self._written = max(self._written, min(end, self._head))
        if end > self._head:
            self._tail_end = max(self._tail_end, end)
        if piece.marks:
            newest = piece.marks[-1].offset
            self._marks = [mark for mark in self._marks if mark.offset > newest]
        self._call_resume()

    def stop_keeping(self) -> None:
        """Note that the store refuses more: the script continues, and only memory keeps its newest output."""
        self._head = self._written
        self._is_refused = True
        self._call_resume()

    def _call_resume(self) -> None:
        if self._when_room is not None and self.has_room:
            resume, self._when_room = self._when_room, None
            resume()


class OutputRecorder:
    """Stores the output of this process's attempts, and reads any output (`dropmill.ports.outputs.OutputReader`).

    It reads running attempts from memory and the store, others from the store.
    """

    def __init__(self, store: Outputs, bus: Bus, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Record nothing yet.

        Args:
            store: keeps the output.
            bus: gets the end of each stream, as the position of the topic `output:<job_id>`.
            monotonic: the clock that spaces marks, in seconds.
        """
        self._monotonic = monotonic
        self._store = store
        self._bus = bus
        self._live: dict[tuple[JobId, int], OutputStream] = {}
        self._dirty: dict[OutputStream, None] = {}
        self._has_dirty = asyncio.Event()
        self._is_urgent = asyncio.Event()

    def open(self, job_id: JobId, number: int) -> OutputStream:
        """Begin the stream of a new attempt."""

        def changed(stream: OutputStream) -> None:
            self._dirty[stream] = None
            self._has_dirty.set()
            if stream.pending >= URGENT_BYTES:
                self._is_urgent.set()

        stream = self._live[job_id, number] = OutputStream(job_id, number, self._store.bounds, changed, self._monotonic)
        return stream

    async def save(self, stream: OutputStream) -> None:
        """Store the rest of a stream whose process is gone. May be called again when more was written.

        If the store refuses it, it logs that, and the bytes are lost when the stream is closed.
        """
        if (rest := stream.take_rest()) is not None and await self._store.end(rest):
            stream.has_stored(rest)

    def close(self, job_id: JobId, number: int) -> None:
        """End a stream that is saved; from now on it is read from the store."""
        stream = self._live.pop((job_id, number), None)
        if stream is not None:
            self._dirty.pop(stream, None)
            self._bus.publish({f"output:{job_id}": stream.end})

    async def read(self, job_id: JobId, number: int, start: int, limit: int) -> OutputChunk:
        """As `OutputReader.read`."""
        start = max(0, start)
        stream = self._live.get((job_id, number))
        if stream is None:
            return await self._store.read(job_id, number, start, limit)
        if start < stream.recent_from and start < stream.written:
            stored = await self._store.read(job_id, number, start, min(limit, stream.written - start))
            return OutputChunk(offset=start, data=stored.data, end=stream.end)
        start = min(max(start, stream.recent_from), stream.end)
        return OutputChunk(offset=start, data=stream.recent(start, limit), end=stream.end)

    async def marks(self, job_id: JobId, number: int) -> Sequence[OutputMark]:
        """As `OutputReader.marks`."""
        stored = await self._store.marks(job_id, number)
        stream = self._live.get((job_id, number))
        return stored if stream is None else stream.marks(stored)

    async def write_behind(self) -> None:
        """Store and publish the output of running attempts, until cancelled. One task a recorder runs this."""
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
            self._publish(dirty)
            due = [(stream, piece) for stream in dirty if (piece := stream.take_due()) is not None]
            if due:
                refused = await self._store.append([piece for _, piece in due])
                for stream, piece in due:
                    if (stream.job_id, stream.number) in refused:
                        stream.stop_keeping()
                    else:
                        stream.has_stored(piece)
            for stream in dirty:
                if stream.has_new_tail and (stream.job_id, stream.number) in self._live:  # not due yet
                    self._dirty[stream] = None
                    self._has_dirty.set()

    def _publish(self, streams: Iterable[OutputStream]) -> None:
        moved = [stream for stream in streams if stream.end > stream.published]
        for stream in moved:
            stream.published = stream.end
        if moved:
            self._bus.publish({f"output:{stream.job_id}": stream.end for stream in moved})

"""Outputs in memory. It passes the port's contract tests."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dropmill.model.ids import JobId
from dropmill.model.output import OutputBounds, OutputChunk, OutputMark, OutputPiece, kept_marks


@dataclass
class _Output:
    began_at: datetime
    data: dict[int, int] = field(default_factory=dict)  # each byte at its offset
    marks: list[OutputMark] = field(default_factory=list)

    def regions(self, bounds: OutputBounds) -> tuple[int, int, int]:
        """Where the beginning ends, where the end begins, and where that ends; the rest is dropped."""
        end = max(self.data, default=-1) + 1
        head = 0
        while head in self.data and head < bounds.head:
            head += 1
        tail = end
        while tail - 1 in self.data and tail > max(head, end - bounds.tail):
            tail -= 1
        self.data = {at: byte for at, byte in self.data.items() if at < head or at >= tail}
        return head, tail, end


class FakeOutputs:
    """`dropmill.ports.outputs.Outputs` in memory; refuses everything while `is_full`."""

    def __init__(self, bounds: OutputBounds | None = None) -> None:
        self.is_full = False
        self._bounds = bounds or OutputBounds()
        self._outputs: dict[tuple[JobId, int], _Output] = {}

    @property
    def bounds(self) -> OutputBounds:
        return self._bounds

    async def append(self, pieces: Sequence[OutputPiece]) -> Collection[tuple[JobId, int]]:
        if self.is_full:
            return {(piece.job_id, piece.number) for piece in pieces}
        for piece in pieces:
            output = self._outputs.setdefault((piece.job_id, piece.number), _Output(piece.began_at))
            _, _, end = output.regions(self._bounds)
            if piece.offset + len(piece.data) > end or piece.offset < self._bounds.head:
                output.data |= {piece.offset + at: byte for at, byte in enumerate(piece.data)}
            output.marks += piece.marks
            output.regions(self._bounds)
        return set()

    async def end(self, piece: OutputPiece) -> bool:
        return (not piece.data and not piece.marks) or not await self.append([piece])

    async def read(self, job_id: JobId, number: int, start: int, limit: int) -> OutputChunk:
        output = self._outputs.get((job_id, number))
        if output is None:
            return OutputChunk(offset=0, data=b"", end=0)
        head, tail, end = output.regions(self._bounds)
        start = max(0, start)
        if start >= head:
            start = min(max(start, tail), end)
        stop = min(start + limit, head if start < head else end)
        return OutputChunk(offset=start, data=bytes(output.data[at] for at in range(start, stop)), end=end)

    async def marks(self, job_id: JobId, number: int) -> Sequence[OutputMark]:
        output = self._outputs.get((job_id, number))
        if output is None or not output.data:
            return []
        head, tail, end = output.regions(self._bounds)
        return kept_marks([OutputMark(at=output.began_at, offset=0), *output.marks], head=head, tail=tail, end=end)

    async def remove(self, attempts: Sequence[tuple[JobId, int]]) -> None:
        for attempt in attempts:
            self._outputs.pop(attempt, None)

"""Outputs in memory. It passes the port's contract tests."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dropmill.model.ids import JobId
from dropmill.model.output import OutputBounds, OutputChunk, OutputMark, OutputPiece, kept_marks


@dataclass
class _Output:
    began_at: datetime
    head: bytes = b""
    tail: bytes = b""
    tail_from: int = 0
    marks: list[OutputMark] = field(default_factory=list)

    @property
    def end(self) -> int:
        return max(len(self.head), self.tail_from + len(self.tail))

    def add(self, start: int, data: bytes, bounds: OutputBounds) -> None:
        if start <= len(self.head) and (in_head := data[: max(0, bounds.head - start)]):
            self.head = self.head[:start] + in_head + self.head[start + len(in_head) :]
            start, data = start + len(in_head), data[len(in_head) :]
        if not data or start + len(data) <= self.end:
            return
        is_joined = self.tail_from <= start <= self.tail_from + len(self.tail)
        before = self.tail[: start - self.tail_from] if is_joined else b""
        data = before + data
        self.tail = data[-bounds.tail :]
        self.tail_from = start - len(before) + len(data) - len(self.tail)


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
            output.add(piece.offset, piece.data, self._bounds)
            output.marks += piece.marks
        return set()

    async def end(self, piece: OutputPiece) -> bool:
        return (not piece.data and not piece.marks) or not await self.append([piece])

    async def read(self, job_id: JobId, number: int, start: int, limit: int) -> OutputChunk:
        output = self._outputs.get((job_id, number))
        if output is None:
            return OutputChunk(offset=0, data=b"", end=0)
        start = max(0, start)
        if start < len(output.head):
            data = output.head[start : start + limit]
        else:
            start = min(max(start, output.tail_from), output.end)
            data = output.tail[start - output.tail_from :][:limit]
        return OutputChunk(offset=start, data=data, end=output.end)

    async def marks(self, job_id: JobId, number: int) -> Sequence[OutputMark]:
        output = self._outputs.get((job_id, number))
        if output is None or not output.end:
            return []
        return kept_marks(
            [OutputMark(at=output.began_at, offset=0), *output.marks],
            head=len(output.head),
            tail=output.tail_from if output.tail else output.end,
            end=output.end,
        )

    async def remove(self, attempts: Sequence[tuple[JobId, int]]) -> None:
        for attempt in attempts:
            self._outputs.pop(attempt, None)

"""What attempts write: one stream of bytes for each attempt, addressed by byte offset, readable from any process."""

from collections.abc import Collection, Sequence
from typing import Protocol

from dropmill.model.ids import JobId
from dropmill.model.output import OutputBounds, OutputChunk, OutputMark, OutputPiece


class OutputReader(Protocol):
    """Reads output, also of attempts that run now."""

    async def read(self, job_id: JobId, number: int, start: int, limit: int) -> OutputChunk:
        """A piece of an attempt's output.

        Args:
            job_id: whose.
            number: of the attempt. One that never wrote, or never was, reads as empty.
            start: offset of the first byte wanted; what was not kept behind it is skipped.
            limit: most bytes wanted, above 0.

        Raises:
            StorageUnavailable: the store refuses now.
        """

    async def marks(self, job_id: JobId, number: int) -> Sequence[OutputMark]:
        """When the bytes that are kept were written, in order of offset; none if the attempt never wrote.

        The first mark is that of the first byte. A further one follows at most once a second, where something was
        written. Of bytes that were cut out there is none; the first byte behind them has one.

        Raises:
            StorageUnavailable: the store refuses now.
        """


class Outputs(OutputReader, Protocol):
    """Keeps the first and the last bytes of each attempt's output, with their marks.

    What a call has stored survives `kill -9` and is readable from any process; a power cut may take the newest.
    Only the process that runs an attempt appends to its output; offsets make it harmless to do so twice.
    """

    @property
    def bounds(self) -> OutputBounds:
        """How much is kept of each output."""

    async def append(self, pieces: Sequence[OutputPiece]) -> Collection[tuple[JobId, int]]:
        """Store pieces of running attempts, at most one of each.

        Of what lies beyond the head only the newest bytes without a gap are kept; a piece may repeat bytes that were
        stored before. A piece that begins behind the end leaves a gap: the bytes between count as cut out.

        Returns:
            The attempts, as (job, number), whose piece the store refuses, for example because the disk is full. Why,
            is logged. What was stored before stays, and a later piece is tried again.
        """

    async def end(self, piece: OutputPiece) -> bool:
        """Store the last piece of an attempt, which writes no more; whether the store has taken it.

        The piece is what is not stored yet; its data may be empty. Twice is harmless.
        """

    async def remove(self, attempts: Sequence[tuple[JobId, int]]) -> None:
        """Delete the output of attempts that are over, and its marks; none is no error.

        Raises:
            StorageUnavailable: the store refuses now; some may be deleted.
        """

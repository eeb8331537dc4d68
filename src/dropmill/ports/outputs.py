"""The output of attempts: a stream of bytes for each, addressed by byte offset, readable from any process."""

from collections.abc import Collection, Sequence
from typing import Protocol

from dropmill.model.ids import JobId
from dropmill.model.output import OutputBounds, OutputChunk, OutputMark, OutputPiece


class OutputReader(Protocol):
    """Reads output, also of running attempts."""

    async def read(self, job_id: JobId, number: int, start: int, limit: int) -> OutputChunk:
        """A piece of an attempt's output.

        Args:
            job_id: of the attempt.
            number: of the attempt. One that wrote nothing, or does not exist, reads as empty.
            start: offset of the first byte wanted. If that byte was cut out, the piece begins with the next kept one.
            limit: most bytes wanted, above 0.

        Raises:
            StorageUnavailable: the store fails now.
        """

    async def marks(self, job_id: JobId, number: int) -> Sequence[OutputMark]:
        """When the kept bytes were written, in order of offset; empty if the attempt wrote nothing.

        The first byte has a mark. More follow, at most one a second, for later writes. Cut-out bytes have none; the
        first byte after them has one.

        Raises:
            StorageUnavailable: the store fails now.
        """


class Outputs(OutputReader, Protocol):
    """Keeps the head and the tail of each attempt's output, with their marks.

    Stored bytes survive `kill -9` and can be read from any process; a power cut may lose the newest. Only the process
    that runs an attempt appends to its output; because of the offsets, a repeated piece is harmless.
    """

    @property
    def bounds(self) -> OutputBounds:
        """How much is kept of each output."""

    async def append(self, pieces: Sequence[OutputPiece]) -> Collection[tuple[JobId, int]]:
        """Store pieces of running attempts, at most one of each.

        Beyond the head only the newest bytes without a gap are kept. A piece may repeat stored bytes. A piece that
        begins after the end leaves a gap: the bytes in between count as cut out.

        Returns:
            The attempts, as (job, number), whose piece the store refuses, for example because the disk is full; the
            store logs why. Bytes stored before are kept, and the store tries again with a later piece.
        """

    async def end(self, piece: OutputPiece) -> bool:
        """Store the last piece of an attempt that has ended; returns whether the store has taken it.

        Its data may be empty, if everything else is stored. A second call is harmless.
        """

    async def remove(self, attempts: Sequence[tuple[JobId, int]]) -> None:
        """Delete the output and the marks of ended attempts; no error if there are none.

        Raises:
            StorageUnavailable: the store fails now; some may be deleted.
        """

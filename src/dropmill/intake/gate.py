"""What an upload may be and take: sizes, numbers, pace, disk. Each limit refuses with a sentence and keeps the rest.

Bytes are counted as they arrive: a `Content-Length` may be absent, and is no promise.
"""

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from dropmill.model.errors import FileTooLarge, OutOfSpace, RequestTooSlow, TooLarge, TooManyFiles, TooManyUploads
from dropmill.ports.blobs import BlobStore
from dropmill.ports.ledger.uploads import SubmissionUsage
from dropmill.settings import size_in_words

LOOK_EVERY_BYTES = 64 * 1024 * 1024  # of one request between two looks at the free disk: 0.1 s at full speed


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadLimits:
    """What people set; None is no limit.

    Attributes:
        idle_timeout_s: seconds without a byte.
        min_rate: bytes a second of waiting for them, over `idle_timeout_s`; 0 asks for none.
        min_free: bytes that uploads leave free on the disk.
        max_per_client: requests with files of one address at once.
    """

    idle_timeout_s: float
    min_free: int
    min_rate: int = 0
    max_file_size: int | None = None
    max_submission_size: int | None = None
    max_files: int | None = None
    max_per_client: int | None = None

    @property
    def are_for_submissions(self) -> bool:
        """Whether what a submission holds already matters."""
        return self.max_files is not None or self.max_submission_size is not None


class Gate:
    """Lets requests in as far as the limits allow."""

    def __init__(self, limits: UploadLimits, blobs: BlobStore) -> None:
        self.limits = limits
        self._blobs = blobs
        self._under_way: collections.Counter[str] = collections.Counter()

    @contextlib.contextmanager
    def admit(self, ip: str) -> Iterator[None]:
        """Count one more request of an address while inside.

        Raises:
            TooManyUploads: it has as many as it may.
        """
        most = self.limits.max_per_client
        if most is not None and self._under_way[ip] >= most:
            raise TooManyUploads(f"{ip} has {most} uploads under way already; send the next when one has ended.")
        self._under_way[ip] += 1
        try:
            yield
        finally:
            self._under_way[ip] -= 1
            if not self._under_way[ip]:
                del self._under_way[ip]

    def check_size(self, size: int | None) -> None:
        """Refuse a file that is announced too large.

        Raises:
            FileTooLarge: it is.
        """
        most = self.limits.max_file_size
        if most is not None and size is not None and size > most:
            raise FileTooLarge(f"The file is larger than the {most} bytes that are accepted.")

    def check_submission(self, usage: SubmissionUsage) -> None:
        """Refuse what would make a submission hold too much.

        Args:
            usage: what it would hold.

        Raises:
            TooManyFiles, TooLarge: it would.
        """
        most_files, most = self.limits.max_files, self.limits.max_submission_size
        if most_files is not None and usage.files > most_files:
            raise TooManyFiles(f"A submission may have {most_files} files.")
        if most is not None and usage.size > most:
            raise TooLarge(f"The submission is larger than the {most} bytes that are accepted.")

    async def check_room(self, size: int) -> None:
        """Refuse what would leave too little of the disk.

        Raises:
            OutOfSpace: it would.
        """
        if await self._blobs.free_bytes() - size < self.limits.min_free:
            kept = self.limits.min_free
            why = f"; {size_in_words(kept)} of it is kept free" if kept else ""
            raise OutOfSpace(f"The disk has too little room for this{why}. What was stored before is safe.")

    def meter(self, usage: SubmissionUsage) -> "Meter":
        """A meter for one request, to whose submission `usage` counts already."""
        return Meter(self, usage)

    async def pace(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same chunks, as long as they keep coming.

        Raises:
            RequestTooSlow: none came for the idle limit, or they bring less than the least rate.
        """
        iterator = aiter(chunks)
        loop = asyncio.get_running_loop()
        limits = self.limits
        # Only waiting counts: what our own disk takes its time with is not the client's doing.
        waited, brought = 0.0, 0
        while True:
            since = loop.time()
            try:
                async with asyncio.timeout(limits.idle_timeout_s):
                    chunk = await anext(iterator)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise RequestTooSlow(f"No byte arrived for {limits.idle_timeout_s:g} s.") from None
            waited += loop.time() - since
            brought += len(chunk)
            if limits.min_rate and waited >= limits.idle_timeout_s:
                if brought < limits.min_rate * waited:
                    raise RequestTooSlow(f"The body brings less than {limits.min_rate} bytes a second.")
                waited, brought = 0.0, 0
            yield chunk


class Meter:
    """Counts what one request brings."""

    def __init__(self, gate: Gate, usage: SubmissionUsage) -> None:
        self._gate = gate
        self._files = usage.files
        self._bytes = usage.size
        self._unseen = 0

    def begin_file(self) -> None:
        """One more file.

        Raises:
            TooManyFiles: the submission has as many as it may.
        """
        self._gate.check_submission(SubmissionUsage(files=self._files + 1))
        self._files += 1

    def begin_announced_file(self, size: int | None) -> None:
        """A file that counts already, with `size` bytes; None if its size is not known."""
        self._bytes -= size or 0

    async def take(self, file_size: int, length: int) -> None:
        """`length` more bytes, with which the file has `file_size`.

        Raises:
            FileTooLarge, TooLarge, OutOfSpace: over a limit.
        """
        self._gate.check_size(file_size)
        self._gate.check_submission(SubmissionUsage(size=self._bytes + length))
        self._bytes += length
        self._unseen += length
        if self._unseen >= LOOK_EVERY_BYTES:
            self._unseen = 0
            await self._gate.check_room(0)

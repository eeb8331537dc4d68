"""What an upload may be and take: sizes, numbers, pace, disk. Each limit refuses with a sentence and keeps the rest.

Bytes are counted as they arrive: a `Content-Length` may be absent, and is no promise.
"""

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from dropmill.model.errors import FileTooLarge, OutOfSpace, RequestTooSlow, TooLarge, TooManyFiles, TooManyUploads
from dropmill.ports import BlobStore

LOOK_EVERY_BYTES = 64 * 1024 * 1024  # of one request between two looks at the free disk: 0.1 s at full speed


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadLimits:
    """What people set; None is no limit.

    Attributes:
        idle_timeout_s: seconds without a byte.
        min_rate: bytes a second, over `idle_timeout_s`; 0 asks for none.
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

    async def check_room(self, size: int) -> None:
        """Refuse what would leave too little of the disk.

        Raises:
            OutOfSpace: it would.
        """
        if await self._blobs.free_bytes() - size < self.limits.min_free:
            raise OutOfSpace(
                f"The disk has too little room: {self.limits.min_free} bytes are kept free. "
                "What was stored before is safe."
            )

    def meter(self, bytes_before: int = 0, files_before: int = 0) -> "Meter":
        """A meter for one request; what its submission holds already counts too."""
        return Meter(self, bytes_before, files_before)

    async def pace(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same chunks, as long as they keep coming.

        Raises:
            RequestTooSlow: none came for the idle limit, or they bring less than the least rate.
        """
        iterator = aiter(chunks)
        loop = asyncio.get_running_loop()
        limits = self.limits
        since, brought = loop.time(), 0
        while True:
            try:
                async with asyncio.timeout(limits.idle_timeout_s):
                    chunk = await anext(iterator)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise RequestTooSlow(f"No byte arrived for {limits.idle_timeout_s:g} s.") from None
            brought += len(chunk)
            if limits.min_rate and loop.time() - since >= limits.idle_timeout_s:
                if brought < limits.min_rate * limits.idle_timeout_s:
                    raise RequestTooSlow(f"The body brings less than {limits.min_rate} bytes a second.")
                since, brought = loop.time(), 0
            yield chunk


class Meter:
    """Counts what one request brings."""

    def __init__(self, gate: Gate, bytes_before: int, files_before: int) -> None:
        self._gate = gate
        self._bytes = bytes_before
        self._files = files_before
        self._unseen = 0

    def begin_file(self) -> None:
        """One more file.

        Raises:
            TooManyFiles: the submission has as many as it may.
        """
        most = self._gate.limits.max_files
        if most is not None and self._files >= most:
            raise TooManyFiles(f"A submission may have {most} files.")
        self._files += 1

    async def take(self, file_size: int, length: int) -> None:
        """`length` more bytes, with which the file has `file_size`.

        Raises:
            FileTooLarge, TooLarge, OutOfSpace: over a limit.
        """
        limits = self._gate.limits
        self._gate.check_size(file_size)
        self._bytes += length
        if limits.max_submission_size is not None and self._bytes > limits.max_submission_size:
            raise TooLarge(f"The submission is larger than the {limits.max_submission_size} bytes that are accepted.")
        self._unseen += length
        if self._unseen >= LOOK_EVERY_BYTES:
            self._unseen = 0
            await self._gate.check_room(0)

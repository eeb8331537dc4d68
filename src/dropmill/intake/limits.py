"""The limits of uploads: sizes, numbers, pace, disk. A limit refuses what exceeds it; what came before is kept.

Bytes are counted as they arrive: a `Content-Length` may be absent or wrong.
"""

import asyncio
import collections
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from dropmill.intake import file_types
from dropmill.intake.loans import Loan, Pieces
from dropmill.intake.multipart import shown
from dropmill.model.errors import (
    FileTooLarge,
    FileTypeNotAccepted,
    OutOfSpace,
    RequestTooSlow,
    TooLarge,
    TooManyFiles,
    TooManyUploads,
)
from dropmill.ports.blobs import BlobStore
from dropmill.ports.ledger.uploads import SubmissionUsage
from dropmill.settings import size_in_words

SIZE_MAX = 2**63 - 1  # bytes of a file: what the ledger can store
HOLD_EVERY_BYTES = 8 * 1024 * 1024
"""Bytes of a file between two looks at its owner's quota: by so much each upload of unknown size may exceed it on the
disk, until it is stopped. A look is a commit."""
CHECK_DISK_EVERY_BYTES = 64 * 1024 * 1024  # of one request between two checks of the free disk: 0.1 s at full speed


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadLimits:
    """The limits as they were set; None means no limit.

    Attributes:
        idle_timeout_s: seconds without a byte after which a request ends.
        min_free: bytes that uploads leave free on the disk.
        min_rate: minimum upload rate in bytes per second, averaged over `idle_timeout_s`; 0 means none.
        max_file_size: bytes of one file.
        max_submission_size: bytes of all files of a submission.
        max_files: files of a submission.
        max_per_client: requests with files that one address may have under way.
        accept: types of files; empty: every type. See `file_types.accepts`.
    """

    idle_timeout_s: float
    min_free: int
    min_rate: int = 0
    max_file_size: int | None = None
    max_submission_size: int | None = None
    max_files: int | None = None
    max_per_client: int | None = None
    accept: Sequence[str] = ()

    @property
    def are_for_submissions(self) -> bool:
        """Whether a limit depends on what a submission holds already."""
        return self.max_files is not None or self.max_submission_size is not None


class Gate:
    """Checks requests, and what they bring, against the limits."""

    def __init__(self, limits: UploadLimits, blobs: BlobStore) -> None:
        self.limits = limits
        self._blobs = blobs
        self._under_way: collections.Counter[str] = collections.Counter()

    @contextlib.contextmanager
    def admit(self, ip: str) -> Iterator[None]:
        """Count one more request of an address until the context ends.

        Raises:
            TooManyUploads: it has as many as the limit allows.
        """
        most = self.limits.max_per_client
        if most is not None and self._under_way[ip] >= most:
            raise TooManyUploads(
                f"{ip} has {most} uploads under way, the most that are allowed; wait until one has ended."
            )
        self._under_way[ip] += 1
        try:
            yield
        finally:
            self._under_way[ip] -= 1
            if not self._under_way[ip]:
                del self._under_way[ip]

    def check_type(self, path: str, media_type: str) -> None:
        """Refuse a file of a type that is not accepted.

        Args:
            path: what the client calls it.
            media_type: as the client declared it; "" if it did not.

        Raises:
            FileTypeNotAccepted: it is of none of the types.
        """
        accept = self.limits.accept
        if not file_types.accepts(accept, path, media_type):
            raise FileTypeNotAccepted(
                f"{shown(path)} is of no type that is accepted here ({', '.join(accept)}).",
                file=path,
                accept=list(accept),
            )

    def check_size(self, size: int | None, path: str) -> None:
        """Refuse a file over the limit.

        Args:
            size: in bytes; None, if unknown, passes.
            path: what the client calls it.

        Raises:
            FileTooLarge: it is over the limit.
        """
        most = self.limits.max_file_size
        if most is not None and size is not None and size > most:
            raise FileTooLarge(
                f"{shown(path)} is over the limit of {size_in_words(most)} for one file.", file=path, limit=most
            )

    def check_submission(self, usage: SubmissionUsage) -> None:
        """Refuse a submission over the limits.

        Args:
            usage: what it would hold.

        Raises:
            TooManyFiles, TooLarge: that is over a limit.
        """
        most_files, most = self.limits.max_files, self.limits.max_submission_size
        if most_files is not None and usage.files > most_files:
            raise TooManyFiles(f"A submission may have at most {most_files} files.", limit=most_files)
        if most is not None and usage.size > most:
            raise TooLarge(f"The submission is over the limit of {size_in_words(most)}.", limit=most)

    async def check_room(self, size: int) -> None:
        """Refuse bytes that would leave too little of the disk.

        Args:
            size: how many bytes will come; 0, if unknown, checks the disk as it is.

        Raises:
            OutOfSpace: less than `min_free` would be left.
        """
        if await self._blobs.free_bytes() - size < self.limits.min_free:
            kept = self.limits.min_free
            why = f"; {size_in_words(kept)} of it is kept free" if kept else ""
            raise OutOfSpace(f"The disk has too little room for this{why}. What was stored before is safe.")

    def meter(self, usage: SubmissionUsage, path: str = "") -> "Meter":
        """A meter for one request whose submission holds `usage` already.

        Args:
            path: what the client calls its only file; "" if several may come.
        """
        return Meter(self, usage, path)

    async def pace(self, pieces: Pieces) -> Pieces:
        """The same pieces, as long as they come fast enough.

        Raises:
            RequestTooSlow: no piece came for `idle_timeout_s`, or they come slower than `min_rate`.
        """
        iterator = aiter(pieces)
        loop = asyncio.get_running_loop()
        limits = self.limits
        # Only waiting for the client counts, not the time that our own disk takes.
        waited, brought = 0.0, 0
        while True:
            since = loop.time()
            try:
                async with asyncio.timeout(limits.idle_timeout_s):
                    piece = await anext(iterator)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise RequestTooSlow(f"No byte arrived for {limits.idle_timeout_s:g} s.") from None
            waited += loop.time() - since
            if isinstance(piece, Loan):
                yield piece
                waited += piece.waited_s
                brought += piece.brought
            else:
                brought += len(piece)
            if limits.min_rate and waited >= limits.idle_timeout_s:
                if brought < limits.min_rate * waited:
                    raise RequestTooSlow(f"The body came slower than the minimum of {limits.min_rate} bytes a second.")
                waited, brought = 0.0, 0
            if not isinstance(piece, Loan):
                yield piece


Hold = Callable[[int], Awaitable[int | None]]
"""Tells the ledger how many bytes of a file came; see `UploadLedger.hold_upload`."""


class Meter:
    """Counts the files and bytes of one request."""

    def __init__(self, gate: Gate, usage: SubmissionUsage, path: str) -> None:
        self._gate = gate
        self._path = path
        self._files = usage.files
        self._bytes = usage.size
        self._unchecked = 0
        self._hold: Hold | None = None
        self._may_reach = 0  # size of the file up to which its owner's quota need not be looked at

    def watch_quota(self, hold: Hold, file_size: int = 0) -> None:
        """Have the owner's quota watched while the bytes of a file come that may be more than the ledger knows of.

        Args:
            hold: raises once they are too many.
            file_size: bytes of the file that have come before.
        """
        self._hold = hold
        self._may_reach = file_size + HOLD_EVERY_BYTES

    def check_type(self, path: str, media_type: str) -> None:
        """Refuse a file of a type that is not accepted; see `Gate.check_type`."""
        self._gate.check_type(path, media_type)

    def begin_file(self, path: str, media_type: str) -> None:
        """Count one more file.

        Raises:
            FileTypeNotAccepted: it is of none of the types.
            TooManyFiles: the submission has as many as the limit allows.
        """
        self.check_type(path, media_type)
        self._gate.check_submission(SubmissionUsage(files=self._files + 1))
        self._files += 1
        self._path = path

    def begin_announced_file(self, size: int | None, path: str) -> None:
        """Begin a file whose `size` bytes count already; None if its size is unknown."""
        self._path = path
        self._bytes -= size or 0

    def room(self, file_size: int) -> int:
        """How many more bytes a file of `file_size` bytes may be given before `take` is asked about the next one."""
        limits, room = self._gate.limits, CHECK_DISK_EVERY_BYTES - self._unchecked
        if limits.max_file_size is not None:
            room = min(room, limits.max_file_size - file_size)
        if limits.max_submission_size is not None:
            room = min(room, limits.max_submission_size - self._bytes)
        if self._hold is not None:
            room = min(room, self._may_reach - file_size)
        return max(room, 0)

    async def take(self, file_size: int, length: int) -> None:
        """Count `length` more bytes, with which the file has `file_size`.

        Raises:
            FileTooLarge, TooLarge, QuotaExceeded, OutOfSpace: over a limit.
        """
        self._gate.check_size(file_size, self._path)
        self._gate.check_submission(SubmissionUsage(size=self._bytes + length))
        if self._hold is not None and file_size > self._may_reach:
            room = await self._hold(file_size)
            if room is None:
                self._hold = None
            else:
                self._may_reach = file_size + min(room, HOLD_EVERY_BYTES)
        self._bytes += length
        self._unchecked += length
        if self._unchecked >= CHECK_DISK_EVERY_BYTES:
            self._unchecked = 0
            await self._gate.check_room(0)

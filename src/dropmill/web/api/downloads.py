"""Bytes over HTTP: an uploaded file, one result, or all results of a submission as one zip.

A result is looked up by its recorded path, which is never joined to a folder's name. Every file is sent as an
attachment, sandboxed, with a type from a short list, so that a script's HTML cannot act as ours.

No byte is sent under a wrong SHA-256: the store verifies that a file is the one it stored, and the identity of the file
is compared after each read. If the file changes meanwhile, the answer is cut off.

When its caller is signed out or its token is revoked, a download is cut off as well; it outlives an expiry, as uploads
do.

A client can ask for one range of a file (RFC 9110, section 14); several or malformed ranges get the whole file, as the
RFC allows. A zip is made while it is sent and never stored. Its entries are not compressed, so its length is known in
advance (most large results are compressed already).
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from quart import Blueprint, Response, request
from quart.wrappers.response import ResponseBody
from zipstream import ZipStream

from dropmill.access.sign_ins import SignIns
from dropmill.model.caller import Caller
from dropmill.model.errors import BytesLost, NotFound, RangeNotSatisfiable, Removed, SignInRequired, TooLarge
from dropmill.model.ids import FileId, JobId, Sha256, SubmissionId
from dropmill.model.results import Result
from dropmill.model.uploads import File, FileIdentity, StoredBlob
from dropmill.ports.blobs import BlobStore
from dropmill.web.api import query
from dropmill.web.api.filenames import ArchiveNames, attachment, content_type
from dropmill.web.server.caller import current_caller
from dropmill.web.server.guard import EXACT
from dropmill.web.services import services

downloads = Blueprint("downloads", __name__, url_prefix="/api/v1")

PIECE_BYTES = 256 * 1024  # read and sent at a time; what one download holds in memory
ENTRIES_MAX = 100_000  # of one zip: each needs about a KiB of memory until the end


@downloads.get("/jobs/<job_id>/results/<path:path>")
async def result(job_id: str, path: str) -> Response:
    """The result with this path, of the newest attempt or of `?attempt=`."""
    found = await services().views.result(current_caller(), JobId(job_id), path, query.number("attempt"))
    return await _download(StoredBlob(key=found.blob, size=found.size, sha256=found.sha256), found.path)


@downloads.get("/files/<file_id>/content")
async def content(file_id: str) -> Response:
    """An uploaded file as it was stored."""
    file = await services().views.file(current_caller(), FileId(file_id))
    if file.removed_at is not None:
        raise Removed("The file was removed; only its record is kept.")
    if file.blob is None or file.size is None or file.sha256 is None:
        raise NotFound("The file has not been stored.")
    return await _download(StoredBlob(key=file.blob, size=file.size, sha256=file.sha256), file.name)


@downloads.get("/submissions/<submission_id>/results.zip")
async def archive(submission_id: str) -> Response:
    """All results of the newest attempts, in a folder for each uploaded file."""
    blobs = services().blobs
    zip_stream = ZipStream(sized=True)
    entries = await _entries(SubmissionId(submission_id), zip_stream)
    sign_ins, caller = services().sign_ins, current_caller()
    body = () if request.method == "HEAD" else _while_signed_in(sign_ins, caller, _zipped(zip_stream, entries, blobs))
    response = Response(body, headers=_headers(f"results-{submission_id[:8]}.zip"))
    response.content_length = len(zip_stream)
    return response


async def _while_signed_in(
    sign_ins: SignIns, caller: Caller, pieces: AsyncGenerator[bytes, None]
) -> AsyncIterator[bytes]:
    """The pieces of a body as long as the caller is not signed out.

    Raises:
        SignInRequired: it was; the answer is cut off.
    """
    is_over = False

    async def end() -> None:
        nonlocal is_over
        is_over = True

    with sign_ins.held(caller, end, outlives_session=True):
        async with aclosing(pieces):
            async for piece in pieces:
                if is_over:
                    raise SignInRequired("You were signed out; the rest was not sent.")
                yield piece


# --- one file --------------------------------------------------------------------------------------------------------


def _headers(name: str) -> dict[str, str]:
    return {
        "Content-Type": content_type(name),
        "Content-Disposition": attachment(name),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": EXACT,
    }


async def _download(blob: StoredBlob, name: str) -> Response:
    """The answer with a blob, or with the requested range of it."""
    size, sha256 = blob.size, blob.sha256
    if request.if_none_match.contains_weak(sha256):
        response = Response((), status=304)
        del response.headers["Content-Type"]
        response.headers["Cache-Control"] = EXACT
        response.set_etag(sha256)
        return response
    span = _span(size, sha256)
    start, end = span or (0, size)
    body = BlobBody(services().blobs, blob, start, end, services().sign_ins, current_caller())
    await body.open()
    headers = _headers(name) | {"Accept-Ranges": "bytes"}
    if request.method == "HEAD":
        await body.close()
        response = Response((), headers=headers)
    else:
        response = Response(body, headers=headers)
    response.set_etag(sha256)
    response.content_length = end - start
    if span is not None:
        response.status_code = 206
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return response


def _span(size: int, sha256: Sha256) -> tuple[int, int] | None:
    """Start and end of the requested range, the end not included; None for the whole blob.

    Raises:
        RangeNotSatisfiable: the range begins after the end.
    """
    wanted = request.range
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1 or size == 0:
        return None
    # Compared as strings: a weak ETag, or one with a coding appended, names bytes that a proxy has compressed.
    if request.headers.get("If-Range", f'"{sha256}"') != f'"{sha256}"':
        return None
    start, end = wanted.ranges[0]
    if start < 0:  # the last bytes
        return max(0, size + start), size
    if start >= size:
        raise RangeNotSatisfiable(f"The file has {size} bytes; the range begins after them.", size=size)
    return start, size if end is None else min(end, size)


class BlobBody(ResponseBody):
    """A blob's bytes as the body of an answer. Opened before the answer begins, so that a lost file is an error."""

    def __init__(
        self, blobs: BlobStore, blob: StoredBlob, start: int, end: int, sign_ins: SignIns, caller: Caller
    ) -> None:
        self._sign_ins = sign_ins
        self._caller = caller
        self._blobs = blobs
        self._blob = blob
        self._at = start
        self._end = end
        self._file: _StoredFile | None = None
        self._reading: asyncio.Future[bytes] | None = None

    async def open(self) -> None:
        """Open the file.

        Raises:
            Removed: it is gone, or not what was stored.
            StorageUnavailable: it cannot be opened now.
        """
        try:
            self._file = _StoredFile(*await self._blobs.open_stored(self._blob))
        except BytesLost:
            raise Removed("The stored bytes are gone or were changed.") from None

    async def close(self) -> None:
        """Close the file; twice is harmless."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            if self._reading is not None:  # cancelling does not stop the thread
                await asyncio.wait([self._reading])
        finally:
            file.close()

    async def __aenter__(self) -> "BlobBody":
        """Nothing to do: it is already open."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes, some at a time."""
        return _while_signed_in(self._sign_ins, self._caller, self._pieces())

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        while self._at < self._end and self._file is not None:
            size = min(PIECE_BYTES, self._end - self._at)
            self._reading = loop.run_in_executor(None, self._file.read, self._at, size)
            piece = await asyncio.shield(self._reading)
            self._at += len(piece)
            yield piece


class _StoredFile:
    """A descriptor from `BlobStore.open_stored`, read in threads until its file changes."""

    def __init__(self, descriptor: int, identity: FileIdentity) -> None:
        self._descriptor = descriptor
        self._identity = identity

    def read(self, offset: int, size: int) -> bytes:
        """The next bytes, at least one. Blocks.

        Raises:
            BytesLost: the file was changed since it was opened.
        """
        piece = os.pread(self._descriptor, size, offset)
        if not piece or FileIdentity.of(os.fstat(self._descriptor)) != self._identity:
            raise BytesLost("A stored file was changed while it was sent.")
        return piece

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


# --- all results as a zip --------------------------------------------------------------------------------------------


class _Entry:
    """One result that goes into a zip; iterated in a thread while `file` is open."""

    def __init__(self, stored: Result) -> None:
        self.blob = StoredBlob(key=stored.blob, size=stored.size, sha256=stored.sha256)
        self.file: _StoredFile | None = None

    def __iter__(self) -> Iterator[bytes]:
        if self.file is None:
            raise AssertionError("an entry of a zip was read before it was opened")
        at = 0
        while at < self.blob.size:
            piece = self.file.read(at, min(PIECE_BYTES, self.blob.size - at))
            at += len(piece)
            yield piece


async def _entries(submission_id: SubmissionId, zip_stream: ZipStream) -> Sequence[_Entry]:
    """The entries of a submission's zip, added to it in this order.

    Raises:
        NotFound: there is no such submission, or it has no results.
        Removed: its results were removed.
        TooLarge: there are more than `ENTRIES_MAX`.
    """
    entries: list[_Entry] = []
    names = ArchiveNames()
    is_removed = False
    async with aclosing(services().views.results(current_caller(), submission_id)) as pages:
        async for page in pages:
            left = [(file, results) for file, results in page if file.removed_at is None]
            is_removed = is_removed or len(left) < len(page)
            if len(entries) + sum(len(results) for _, results in left) > ENTRIES_MAX:
                raise TooLarge(f"There are more than {ENTRIES_MAX:,} results; download them file by file.")
            entries += await asyncio.to_thread(_announce, left, names, zip_stream)
    if not entries and is_removed:
        raise Removed("The results were removed; only their record is kept.")
    if not entries:
        raise NotFound("There are no results.")
    return entries


def _announce(
    left: Sequence[tuple[File, Sequence[Result]]], names: ArchiveNames, zip_stream: ZipStream
) -> list[_Entry]:
    entries = []
    for file, results in left:
        folder = names.folder(file.path or file.name)
        for one in results:
            entry = _Entry(one)
            zip_stream.add(entry, names.file(folder, one.path), size=one.size)
            entries.append(entry)
    return entries


async def _zipped(zip_stream: ZipStream, entries: Sequence[_Entry], blobs: BlobStore) -> AsyncGenerator[bytes, None]:
    """The zip, piece by piece, each made in a thread."""
    for entry in entries:
        entry.file = _StoredFile(*await blobs.open_stored(entry.blob))
        gathering = None
        try:
            made = zip_stream.file()
            while True:
                gathering = asyncio.ensure_future(asyncio.to_thread(_gather, made))
                if not (piece := await asyncio.shield(gathering)):
                    break
                yield piece
        finally:
            if gathering is not None:  # cancelling does not stop the thread
                await asyncio.wait([gathering])
            entry.file.close()
    made = zip_stream.footer()
    while piece := await asyncio.to_thread(_gather, made):
        yield piece


def _gather(made: Iterator[Any]) -> bytes:
    """The next bytes of a zip, about `PIECE_BYTES` together; none at its end."""
    gathered = bytearray()
    for piece in made:
        gathered += piece
        if len(gathered) >= PIECE_BYTES:
            break
    return bytes(gathered)

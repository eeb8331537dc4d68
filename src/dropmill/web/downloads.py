"""Bytes over HTTP: an uploaded file, one result, or all results of a submission as one zip.

A result is looked up by its recorded path; nothing from outside ever meets a folder's name. Whatever the bytes are,
they come as an attachment, sandboxed, under a type from a short list: a script's HTML must not act as ours.

One range of a file can be asked for (RFC 9110, section 14); several, or what cannot be read, get the whole file, as
the RFC has it. A zip is made while it is sent and stored nowhere; its entries are not compressed, so that its length
is known before (most results worth their size are compressed already).
"""

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiofiles
from aiofiles.threadpool.binary import AsyncFileIO
from quart import Blueprint, Response, request
from quart.wrappers.response import ResponseBody
from zipstream import ZipStream

from dropmill.model.errors import NotFound, RangeNotSatisfiable, Removed, TooLarge
from dropmill.model.ids import FileId, JobId, Sha256, SubmissionId
from dropmill.model.records import File, Result
from dropmill.ports import BlobStore
from dropmill.web import query
from dropmill.web.filenames import ArchiveNames, attachment, content_type
from dropmill.web.guard import EXACT
from dropmill.web.services import services

downloads = Blueprint("downloads", __name__, url_prefix="/api/v1")

PIECE_BYTES = 256 * 1024  # read and sent at a time; what one download holds in memory
FILES_READ = 500  # of a submission, from the ledger at a time
ENTRIES_MAX = 100_000  # of one zip: each costs about a KiB of memory until the end


@downloads.get("/jobs/<job_id>/results/<path:path>")
async def result(job_id: str, path: str) -> Response:
    """What a job's newest attempt, or `?attempt=`, left under this path."""
    found = await services().ledger.result(JobId(job_id), path, query.number("attempt"))
    return await _download(found.blob, found.size, found.sha256, found.path)


@downloads.get("/files/<file_id>/content")
async def content(file_id: str) -> Response:
    """An uploaded file as it was stored."""
    file = await services().ledger.file(FileId(file_id))
    if file.removed_at is not None:
        raise Removed("The file was removed; what is known of it stays.")
    if file.blob is None or file.size is None or file.sha256 is None:
        raise NotFound("The file has not been stored.")
    return await _download(file.blob, file.size, file.sha256, file.name)


@downloads.get("/submissions/<submission_id>/results.zip")
async def archive(submission_id: str) -> Response:
    """All results of the newest attempts, in a folder for each uploaded file."""
    blobs = services().blobs
    zip_stream = ZipStream(sized=True)
    entries = await _entries(SubmissionId(submission_id), zip_stream)
    body = () if request.method == "HEAD" else _zipped(zip_stream, entries, blobs)
    response = Response(body, headers=_headers(f"results-{submission_id[:8]}.zip"))
    response.content_length = len(zip_stream)
    return response


# --- one file --------------------------------------------------------------------------------------------------------


def _headers(name: str) -> dict[str, str]:
    return {
        "Content-Type": content_type(name),
        "Content-Disposition": attachment(name),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": EXACT,
    }


async def _download(key: str, size: int, sha256: Sha256, name: str) -> Response:
    """The answer that carries a blob, or the range of it that was asked for."""
    if request.if_none_match.contains_weak(sha256):
        response = Response((), status=304)
        del response.headers["Content-Type"]
        response.headers["Cache-Control"] = EXACT
        response.set_etag(sha256)
        return response
    span = _span(size, sha256)
    start, end = span or (0, size)
    body = BlobBody(services().blobs, key, size, start, end)
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
    """The bytes that the request asks for, the end not included; None for all of them.

    Raises:
        RangeNotSatisfiable: it asks for what lies behind the end.
    """
    wanted = request.range
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1 or size == 0:
        return None
    # Compared as strings: a weak ETag, or one with a coding appended, belongs to bytes that a proxy has compressed.
    if request.headers.get("If-Range", f'"{sha256}"') != f'"{sha256}"':
        return None
    start, end = wanted.ranges[0]
    if start < 0:  # the last bytes
        return max(0, size + start), size
    if start >= size:
        raise RangeNotSatisfiable(f"The file has {size} bytes; the range begins behind them.", size=size)
    return start, size if end is None else min(end, size)


class BlobBody(ResponseBody):
    """A blob's bytes as the body of an answer; opened before the answer begins, so that a lost file can be told."""

    def __init__(self, blobs: BlobStore, key: str, size: int, start: int, end: int) -> None:
        self._blobs = blobs
        self._key = key
        self._size = size
        self._start = start
        self._left = end - start
        self._stack = AsyncExitStack()
        self._file: AsyncFileIO | None = None

    async def open(self) -> None:
        """Open the file.

        Raises:
            Removed: it is no more, or is not what was stored.
        """
        try:
            path = await self._stack.enter_async_context(self._blobs.local(self._key))
            opening = aiofiles.open(path, "rb", buffering=0, opener=self._open)
            self._file = await self._stack.enter_async_context(opening)
        except (NotFound, OSError) as error:
            await self.close()
            if isinstance(error, NotFound) or error.errno in (errno.ENOENT, errno.ELOOP):
                raise Removed("The bytes are no longer there as they were stored.") from None
            raise

    def _open(self, path: str, flags: int) -> int:
        descriptor = open_plain(path, self._size)
        os.lseek(descriptor, self._start, os.SEEK_SET)
        return descriptor

    async def close(self) -> None:
        """Close the file; twice is harmless."""
        await self._stack.aclose()

    async def __aenter__(self) -> "BlobBody":
        """Begin; it is open already."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close, however it ended."""
        await self.close()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes, some at a time."""
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        while self._left and self._file is not None:
            piece = await self._file.read(min(PIECE_BYTES, self._left))
            if not piece:
                raise OSError(errno.EIO, "a stored file has become shorter while it was sent")
            self._left -= len(piece)
            yield piece


def open_plain(path: str | Path, size: int) -> int:
    """A descriptor of a stored file: a regular one of this size, reached by no link.

    A script knows where its input lies and may have put something else there.

    Raises:
        FileNotFoundError: it is something else.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size != size:
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return descriptor


# --- all results as a zip --------------------------------------------------------------------------------------------


class _Entry:
    """One result on its way into a zip; iterated in a thread, when `path` is known."""

    def __init__(self, stored: Result) -> None:
        self.key = stored.blob
        self.size = stored.size
        self.path = Path()

    def __iter__(self) -> Iterator[bytes]:
        descriptor = open_plain(self.path, self.size)
        try:
            left = self.size
            while left:
                piece = os.read(descriptor, min(PIECE_BYTES, left))
                if not piece:
                    raise OSError(errno.EIO, "a stored file has become shorter while it was sent")
                left -= len(piece)
                yield piece
        finally:
            os.close(descriptor)


async def _entries(submission_id: SubmissionId, zip_stream: ZipStream) -> Sequence[_Entry]:
    """The entries of a submission's zip, announced to it in this order.

    Raises:
        NotFound: there is no such submission, or it has no results.
        Removed: it had some.
        TooLarge: there are more than one zip should have.
    """
    ledger = services().ledger
    entries: list[_Entry] = []
    names = ArchiveNames()
    is_removed = False
    after: str | None = None
    while True:
        view = await ledger.view_submission(submission_id, after=after, limit=FILES_READ)
        left: list[tuple[File, Sequence[Result]]] = []
        for file in view.files:
            job = file.job
            if job is None or job.result_count == 0:
                continue
            if file.removed_at is not None:
                is_removed = True
                continue
            if job.result_count > len(job.results):
                job = await ledger.job(job.id)
            left.append((file, job.results))
        if len(entries) + sum(len(results) for _, results in left) > ENTRIES_MAX:
            raise TooLarge(f"There are more than {ENTRIES_MAX:,} results; download them file by file.")
        entries += await asyncio.to_thread(_announce, left, names, zip_stream)
        after = view.files_next
        if after is None:
            break
    if not entries and is_removed:
        raise Removed("The results were removed; what is known of them stays.")
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


async def _zipped(zip_stream: ZipStream, entries: Sequence[_Entry], blobs: BlobStore) -> AsyncIterator[bytes]:
    """The zip, piece by piece, each made in a thread."""
    for entry in entries:
        async with blobs.local(entry.key) as entry.path:
            made = zip_stream.file()
            while piece := await asyncio.to_thread(_gather, made):
                yield piece
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

"""The bytes of one file, sent as a resumable upload (tus 1.0) in chunks that the server verifies.

The file is read once, by a thread that reads the next chunk while one is sent, and hashed on the way.
"""

import base64
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO, Final

import httpx

from dropmill.client.connection import TRY_AGAIN, Connection, Retry
from dropmill.client.errors import ClientError, SourceChanged, refusal
from dropmill.model.numbers import whole_number

CHUNK_MIN: Final = 256 * 1024
CHUNK_MAX: Final = 16 * 1024 * 1024
CHUNK_FIRST: Final = 1024 * 1024  # the default body limit of nginx: many proxies accept it
CHUNK_S: Final = 2.0
"""Chunks grow while one takes less than this, and shrink when one takes several times as long. The server keeps nothing
of a chunk that is cut off; between two chunks the connection is idle for a round trip."""

TUS: Final = {"Tus-Resumable": "1.0.0"}
"""Headers of every request about an upload."""

_PIECE: Final = 256 * 1024  # bytes handed to the connection at once; also how often progress is reported
_CHECKSUM_TRIES: Final = 5  # of one chunk whose bytes arrive as others
_CHECKSUM_MISMATCH: Final = 460
_OFFSET_MISMATCH: Final = 409
_TOO_LARGE: Final = 413

OnProgress = Callable[[int], None]
OnKept = Callable[[int, datetime | None], None]


class Sender:
    """Sends files over one connection; remembers the largest chunk that its proxies let through."""

    def __init__(self, connection: Connection) -> None:
        """Send nothing yet."""
        self._connection = connection
        self._chunk_max = CHUNK_MAX

    def send(self, file_id: str, path: Path, size: int, on_progress: OnProgress, on_kept: OnKept) -> str:
        """Send what the server lacks of a file; see `ApiClient.upload`."""
        with path.open("rb") as file, ThreadPoolExecutor(1, "read ahead") as reader:
            source = _Source(file, size)
            url = f"/api/v1/uploads/{file_id}"
            length, mismatches = min(CHUNK_FIRST, self._chunk_max), 0
            retry = Retry(self._connection)
            offset = self._offset(url, on_kept)
            ahead = reader.submit(source.read, offset, length)
            while offset < size:
                chunk = ahead.result()
                if chunk.offset != offset:  # the server expects bytes from another offset
                    ahead = reader.submit(source.read, offset, length)
                    continue
                source.check()
                ahead = reader.submit(source.read, offset + len(chunk.data), length)
                begun = time.monotonic()
                try:
                    response = self._connection.http.patch(
                        url,
                        content=_pieces(chunk, on_progress),
                        headers=TUS
                        | {
                            "Content-Type": "application/offset+octet-stream",
                            "Content-Length": str(len(chunk.data)),
                            "Upload-Offset": str(offset),
                            "Upload-Checksum": f"sha256 {chunk.checksum}",
                        },
                    )
                except httpx.TransportError as error:
                    retry.wait(self._connection.address.unreachable(error))
                    offset = self._offset(url, on_kept)
                    continue
                taken_s = time.monotonic() - begun
                if response.is_success:
                    offset = _kept(response, on_kept)
                    retry, mismatches = Retry(self._connection), 0
                    length = _next_length(length, taken_s, self._chunk_max)
                    continue
                refused = refusal(response)
                if response.status_code == _CHECKSUM_MISMATCH:
                    mismatches += 1
                    if mismatches == _CHECKSUM_TRIES:
                        raise refused
                elif response.status_code == _TOO_LARGE and refused.code is None and length > CHUNK_MIN:
                    # A proxy has a limit of its own. Smaller chunks may pass, of this file and the next.
                    length = self._chunk_max = max(CHUNK_MIN, length // 2)
                elif response.status_code in TRY_AGAIN:
                    retry.wait(refused, response)
                elif response.status_code != _OFFSET_MISMATCH:
                    raise refused
                offset = self._offset(url, on_kept)
            on_progress(size)
            return reader.submit(source.digest).result()

    def _offset(self, url: str, on_kept: OnKept) -> int:
        return _kept(self._connection.patiently("HEAD", url, headers=TUS), on_kept)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chunk:
    offset: int
    data: bytes
    checksum: str


class _Source:
    """A file that is read once, in order, and hashed on the way. Only `check` may be called by another thread."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._changed_ns = os.fstat(file.fileno()).st_mtime_ns
        self._whole = hashlib.sha256()
        self._hashed = 0

    def check(self) -> None:
        """Check that the file is still what was announced.

        Raises:
            SourceChanged: it has another size, or was written to since it was opened.
        """
        about = os.fstat(self._file.fileno())
        if (about.st_size, about.st_mtime_ns) != (self._size, self._changed_ns):
            raise SourceChanged(f"{self._file.name} was changed while it was sent.")

    def read(self, offset: int, length: int) -> _Chunk:
        """The next chunk: `length` bytes from an offset on, fewer at the end of the file."""
        self._hash_up_to(min(offset, self._size))
        data = self._bytes(offset, min(length, max(self._size - offset, 0)))
        self._whole.update(data[self._hashed - offset :])
        self._hashed = max(self._hashed, offset + len(data))
        digest = hashlib.sha256(data).digest()
        return _Chunk(offset=offset, data=data, checksum=base64.b64encode(digest).decode())

    def digest(self) -> str:
        """The SHA-256 of the whole file, in hexadecimal."""
        self._hash_up_to(self._size)
        return self._whole.hexdigest()

    def _hash_up_to(self, offset: int) -> None:
        while self._hashed < offset:
            data = self._bytes(self._hashed, min(CHUNK_FIRST, offset - self._hashed))
            self._whole.update(data)
            self._hashed += len(data)

    def _bytes(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        data = self._file.read(length)
        if len(data) < length:
            raise SourceChanged(f"{self._file.name} became shorter while it was sent.")
        return data


def sha256_of(path: Path, size: int) -> str:
    """The SHA-256 of a file's first `size` bytes, in hexadecimal.

    Raises:
        SourceChanged: it has fewer.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return _Source(file, size).digest()


def _pieces(chunk: _Chunk, on_progress: OnProgress) -> Iterator[bytes]:
    for begin in range(0, len(chunk.data), _PIECE):
        on_progress(chunk.offset + begin)
        yield chunk.data[begin : begin + _PIECE]


def _next_length(length: int, taken_s: float, most: int) -> int:
    if taken_s < CHUNK_S:
        length *= 2
    elif taken_s > 4 * CHUNK_S:
        length //= 2
    return min(max(length, CHUNK_MIN), most)


def _kept(response: httpx.Response, on_kept: OnKept) -> int:
    """The offset in an answer about an upload; passes it to `on_kept`."""
    offset = whole_number(response.headers.get("Upload-Offset", ""))
    if offset is None:
        raise ClientError(f"{response.request.url} answered without an Upload-Offset.")
    expires_at = None
    with suppress(ValueError):
        expires_at = parsedate_to_datetime(response.headers.get("Upload-Expires", ""))
    on_kept(offset, expires_at)
    return offset

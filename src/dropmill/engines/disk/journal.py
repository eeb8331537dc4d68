"""The journal of small files: segments on disk, and the records in them. All of it blocks.

    journal/<32 digits>.segment     `SEGMENT_BYTES`, zeros where no record is

A record is `_HEAD`, the key, the content. It begins with the segment's number, which is the segment's name and random:
no content that a client sends can be taken for a record. The checksum covers head and key, the SHA-256 the content.

A process holds a lock (`flock`) on each of its segments. Whoever gets the lock knows that the process is gone.
`docs/decisions/small-files.md` has the order of durability.
"""

import fcntl
import hashlib
import os
import secrets
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dropmill.engines.disk.files import fsync_folder
from dropmill.private import FILE_MODE, FOLDER_MODE

SEGMENT_BYTES = 8 * 1024 * 1024
"""Bytes of a segment: some 6,000 files of 1 KiB that come together, or 2,000 that come alone."""

BLOCK_BYTES = 4096
"""Each append begins in a block of its own, so that a torn write damages no earlier record."""

SUFFIX = ".segment"
KEY_MAX = 128  # bytes of a key; 71 with the longest extension
_ZEROS = bytes(1024 * 1024)

# The segment's number; checksum of the rest and the key; bytes of the content and of the key; SHA-256 of the content.
_HEAD = struct.Struct(">16sIIH32s")
_CHECKED_FROM = 20  # the offset of what the checksum covers


class Record(NamedTuple):
    """A small file in a segment.

    Attributes:
        key: of the blob.
        digest: SHA-256 of the content.
        size: of the content, in bytes.
        content: None if it is damaged.
    """

    key: str
    digest: bytes
    size: int
    content: bytes | None


def record(number: bytes, key: str, digest: bytes, content: bytes) -> bytes:
    """A record of the segment with this number."""
    name = key.encode()
    rest = struct.pack(">IH32s", len(content), len(name), digest) + name
    return number + zlib.crc32(rest).to_bytes(4) + rest + content


def records_in(number: bytes, content: bytes) -> Iterator[Record]:
    """The records in a segment's bytes, whatever is between them.

    A record whose content is damaged or cut off has None as its content. After a damaged head the next record is found
    by the segment's number.
    """
    at = content.find(number)
    while at >= 0:
        end = at + len(number)  # where to look for the next one
        if len(content) - at >= _HEAD.size:
            _, checksum, size, name_size, digest = _HEAD.unpack_from(content, at)
            begin = at + _HEAD.size + name_size
            if zlib.crc32(content[at + _CHECKED_FROM : begin]) == checksum:
                data = content[begin : begin + size]
                is_whole = hashlib.sha256(data).digest() == digest
                key = content[at + _HEAD.size : begin].decode()
                yield Record(key, digest, size, data if is_whole else None)
                if is_whole:
                    end = begin + size
        at = content.find(number, end)


class Segment:
    """A segment that this process has locked.

    Attributes:
        path: its file.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        """Take a file that is open and locked."""
        self.path = path
        self._descriptor = descriptor
        self._number = bytes.fromhex(path.name.removesuffix(SUFFIX))
        self._used = 0

    @classmethod
    def make(cls, folder: Path) -> "Segment":
        """A new one, full of zeros and durable.

        Raises:
            OSError: the disk refuses; nothing of it is left.
        """
        path = folder / (secrets.token_hex(16) + SUFFIX)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_zeros(descriptor, SEGMENT_BYTES)
            os.fsync(descriptor)
            fsync_folder(folder)
            fsync_folder(folder.parent)
        except BaseException:
            os.close(descriptor)
            with suppress(OSError):
                path.unlink()
            raise
        return cls(path, descriptor)

    @classmethod
    def left_in(cls, folder: Path) -> list["Segment"]:
        """Those of processes that are gone, locked for this one."""
        found = []
        with suppress(FileNotFoundError):
            for path in sorted(folder.glob("*" + SUFFIX)):
                descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    found.append(cls(path, descriptor))
                except (BlockingIOError, ValueError):  # another process's, or no segment
                    os.close(descriptor)
        return found

    def has_room(self, contents: int, files: int) -> bool:
        """Whether so many files with so many bytes in all fit."""
        return self._used + contents + files * (_HEAD.size + KEY_MAX) <= SEGMENT_BYTES

    def append(self, files: Sequence[tuple[str, bytes, bytes]]) -> None:
        """Make files durable here: the key, the SHA-256 and the content of each.

        Raises:
            OSError: the disk refuses. The segment can only be drained then.
        """
        data = memoryview(b"".join(record(self._number, *file) for file in files))
        at = self._used
        self._used += -(-len(data) // BLOCK_BYTES) * BLOCK_BYTES
        while data:
            length = os.pwrite(self._descriptor, data, at)
            at, data = at + length, data[length:]
        os.fdatasync(self._descriptor)

    def records(self) -> Iterator[Record]:
        """Everything that can be read from it."""
        return records_in(self._number, self.path.read_bytes())

    def clear(self) -> None:
        """Overwrite its records with zeros; then it may be appended to from its beginning.

        Raises:
            OSError: the disk refuses; it can only be removed then.
        """
        _write_zeros(self._descriptor, min(self._used, SEGMENT_BYTES))
        os.fdatasync(self._descriptor)
        self._used = 0

    def remove(self) -> None:
        """Delete it."""
        try:
            self.path.unlink(missing_ok=True)
        finally:
            self.close()

    def close(self) -> None:
        """Leave it to the next process."""
        os.close(self._descriptor)


def _write_zeros(descriptor: int, size: int) -> None:
    at = 0
    while at < size:
        at += os.pwrite(descriptor, memoryview(_ZEROS)[: size - at], at)

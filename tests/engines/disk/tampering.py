"""Changes to a file that somebody else makes on the server's disk."""

import os
from pathlib import Path


def remove(path: Path) -> None:
    """Delete it."""
    path.unlink()


def shorten(path: Path) -> None:
    """Leave one byte."""
    os.truncate(path, 1)


def empty(path: Path) -> None:
    """Leave no byte."""
    os.truncate(path, 0)


def extend(path: Path) -> None:
    """Add one byte."""
    os.truncate(path, path.stat().st_size + 1)


def replace(path: Path) -> None:
    """Put a shorter file with another inode in its place."""
    content = path.read_bytes()
    path.unlink()
    path.with_name("keeps-the-inode").touch()
    path.write_bytes(content[:-1])


def change_in_place(path: Path, content: bytes) -> None:
    """Write other bytes, and restore its mode and its modification time."""
    before = path.stat()
    path.chmod(0o600)
    path.write_bytes(content)
    path.chmod(before.st_mode & 0o777)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

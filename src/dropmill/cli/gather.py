"""Finds the files that `dropmill send` was asked to send, and names those that cannot be sent."""

import errno
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from dropmill.cli.format import printable
from dropmill.cli.resume_file import LocalFile


class LeftOut:
    """Names the files that cannot be sent, so that the rest can.

    Attributes:
        count: how many there are.
    """

    def __init__(self) -> None:
        self.count = 0

    def add(self, path: object, reason: str) -> None:
        """Name and count one; `reason` follows its path in the sentence."""
        self.count += 1
        print(f"dropmill: {printable(path)} {printable(reason)} and is left out.", file=sys.stderr, flush=True)


def gather(paths: Sequence[Path], left_out: LeftOut) -> Sequence[LocalFile]:
    """The files to send: those named, and all below the folders named, in the order of their names.

    A folder's files keep their path from that folder on. A file that is named twice is sent once. `left_out`
    gets what cannot be read; a socket, a device or the like is only printed.
    """
    found: list[LocalFile] = []
    for path in paths:
        top = Path(os.path.abspath(path))
        if not os.path.isdir(top):  # also False for what may not be read; `_local_file` names it
            found += _local_file(top, top.name, left_out)
            continue
        for folder, inner, names in os.walk(top, onerror=lambda error: left_out.add(error.filename, why(error))):
            inner.sort()
            for name in inner:
                if Path(folder, name).is_symlink():
                    left_out.add(Path(folder, name), "is a link to a folder")  # it may lead anywhere, even back up
            for name in sorted(names):
                source = Path(folder, name)
                found += _local_file(source, source.relative_to(top.parent).as_posix(), left_out)
    return tuple(dict.fromkeys(found))


def why(error: OSError) -> str:
    """The reason that `LeftOut.add` takes for a file that cannot be read."""
    return f"cannot be read ({error.strerror or error})"


def _local_file(source: Path, path: str, left_out: LeftOut) -> Sequence[LocalFile]:
    try:
        about = source.stat()
    except OSError as error:
        left_out.add(source, "is a broken link" if source.is_symlink() else why(error))
        return ()
    if not stat.S_ISREG(about.st_mode):
        print(f"dropmill: {printable(source)} is not a regular file and is left out.", file=sys.stderr)
        return ()
    if not os.access(source, os.R_OK):
        left_out.add(source, why(PermissionError(errno.EACCES, os.strerror(errno.EACCES))))
        return ()
    # A name may hold bytes that are not UTF-8; JSON and forms cannot carry them.
    path = os.fsencode(path).decode("utf-8", "replace")
    return [LocalFile(source=source, path=path, size=about.st_size, changed_ns=about.st_mtime_ns)]

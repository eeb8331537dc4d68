"""What `dropmill send` needs to go on after it was interrupted: one small file for each submission that is not sealed.

They lie in the user's cache folder; losing them only means that a file is sent again from its beginning. A file is
known again by where it is sent, its absolute and its relative path; it is the same file only if its size and the time
of its last change are, too.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

KEPT_S = 7 * 86400.0  # the server gives up earlier; a server whose uploads live longer is rare


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalFile:
    """A file of this machine that is to be sent.

    Attributes:
        source: where its bytes are.
        path: what it is called in the submission: relative, with `/` between folders.
        size: in bytes.
        changed_ns: when it was last changed, in nanoseconds since 1970.
    """

    source: Path
    path: str
    size: int
    changed_ns: int

    def key(self, server: str) -> str:
        """What it is known by again, whatever has become of its bytes."""
        what = json.dumps([server, os.path.abspath(self.source), self.path])
        return hashlib.sha256(what.encode()).hexdigest()

    @property
    def version(self) -> str:
        """Another one once its bytes are others."""
        return f"{self.size}-{self.changed_ns}"


@dataclass(frozen=True, kw_only=True, slots=True)
class NotedFile:
    """A file as it was announced.

    Attributes:
        id: the server's, of the announced file.
        version: of the local file at that time.
    """

    id: str
    version: str


class Unfinished:
    """The note of one submission; nobody else goes on with it while this process holds it."""

    def __init__(self, note: IO[str], path: Path, submission_id: str, files: Mapping[str, NotedFile]) -> None:
        """Hold a note that is open and locked.

        Args:
            note: the open file.
            path: where it is.
            submission_id: of the open submission.
            files: those announced, by key.
        """
        self._note = note
        self._path = path
        self.submission_id = submission_id
        self.files = dict(files)

    def save(self, files: Mapping[str, NotedFile]) -> None:
        """Note further files, or those known anew.

        Raises:
            OSError: it cannot be written. What it holds now may not be readable.
        """
        self.files |= files
        noted = {key: [file.id, file.version] for key, file in self.files.items()}
        text = json.dumps({"submission": self.submission_id, "files": noted})
        self._note.seek(0)
        self._note.write(text)
        self._note.truncate()
        self._note.flush()

    def forget(self) -> None:
        """There is nothing to go on with any more."""
        with suppress(OSError):
            self._path.unlink()
        self.close()

    def close(self) -> None:
        """Let go of it."""
        with suppress(OSError):  # what could not be written is tried once more, and then given up
            self._note.close()


def begin(submission_id: str) -> Unfinished:
    """A note of a new submission.

    Raises:
        OSError: the cache folder cannot be written.
    """
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{hashlib.sha256(submission_id.encode()).hexdigest()[:32]}.json"
    note = path.open("w+", encoding="utf-8")
    _lock(note)
    return Unfinished(note, path, submission_id, {})


def find(keys: set[str]) -> Iterator[Unfinished]:
    """Notes that know some of these files, the newest first; each is held until it is closed or forgotten."""
    notes = sorted(_folder().glob("*.json"), key=_changed_at, reverse=True)
    for path in notes:
        try:
            note = path.open("r+", encoding="utf-8")
        except OSError:
            continue
        try:
            is_free = _lock(note)
            text = note.read() if is_free else ""
        except OSError:
            note.close()
            continue
        if not is_free:
            note.close()
            continue
        try:
            found = json.loads(text)
            files = {key: NotedFile(id=file_id, version=version) for key, (file_id, version) in found["files"].items()}
            unfinished = Unfinished(note, path, str(found["submission"]), files)
        except (ValueError, KeyError, TypeError, AttributeError):
            unfinished = Unfinished(note, path, "", {})
        if not unfinished.submission_id or time.time() - _changed_at(path) > KEPT_S:
            unfinished.forget()
        elif keys.isdisjoint(unfinished.files):
            unfinished.close()
        else:
            yield unfinished


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or ""
    # XDG base directories: a relative path must be ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "dropmill" / "unfinished"


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _lock(note: IO[str]) -> bool:
    """Whether nobody else holds it; let go when it is closed, or the process ends."""
    try:
        if sys.platform == "win32":
            import msvcrt

            note.seek(1 << 30)  # a byte that is never there: on Windows others could not read one that is
            msvcrt.locking(note.fileno(), msvcrt.LK_NBLCK, 1)
            note.seek(0)
        else:
            import fcntl

            fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

"""What `dropmill send` needs to continue after an interruption: one small file for each submission that is not sealed.

These files are in the user's cache folder; without them `send` sends every file from its beginning. A file to send is
identified by the server, its absolute path and its path in the submission. It counts as unchanged if its size and the
time of its last change are the same.
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

KEPT_S = 7 * 86400.0  # few servers keep unfinished uploads longer


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalFile:
    """A file of this machine to be sent.

    Attributes:
        source: where its bytes are.
        path: its path in the submission: relative, with `/` between folders.
        size: in bytes.
        changed_ns: when it was last changed, in nanoseconds since 1970.
    """

    source: Path
    path: str
    size: int
    changed_ns: int

    def key(self, server: str) -> str:
        """What identifies it in a later run, whether its content has changed or not."""
        what = json.dumps([server, os.path.abspath(self.source), self.path])
        return hashlib.sha256(what.encode()).hexdigest()

    @property
    def version(self) -> str:
        """A text that changes with the content."""
        return f"{self.size}-{self.changed_ns}"


@dataclass(frozen=True, kw_only=True, slots=True)
class NotedFile:
    """A file as it was announced.

    Attributes:
        id: the server's id of the announced file.
        version: that of the local file at that time.
    """

    id: str
    version: str


class Unfinished:
    """The resume file of one submission, locked: no other process continues the submission meanwhile."""

    def __init__(self, note: IO[str], path: Path, submission_id: str, files: Mapping[str, NotedFile]) -> None:
        """Take over a file that is open and locked.

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
        """Add files, or replace what was noted of them.

        Raises:
            OSError: it cannot be written; its content may be unreadable now.
        """
        self.files |= files
        noted = {key: [file.id, file.version] for key, file in self.files.items()}
        text = json.dumps({"submission": self.submission_id, "files": noted})
        self._note.seek(0)
        self._note.write(text)
        self._note.truncate()
        self._note.flush()

    def forget(self) -> None:
        """Delete it: there is nothing to continue."""
        with suppress(OSError):
            self._path.unlink()
        self.close()

    def close(self) -> None:
        """Close and unlock it; it stays on disk."""
        with suppress(OSError):  # closing may write again what failed before
            self._note.close()


def begin(submission_id: str) -> Unfinished:
    """The resume file of a new submission.

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
    """The resume files that name some of these files, the newest first; the caller closes or forgets each."""
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
    """Lock a file; False if another process holds it. Closing it, or the end of the process, unlocks it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            note.seek(1 << 30)  # a byte beyond its end: on Windows a locked byte cannot be read
            msvcrt.locking(note.fileno(), msvcrt.LK_NBLCK, 1)
            note.seek(0)
        else:
            import fcntl

            fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

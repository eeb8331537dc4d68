"""`dropmill send`: files and folders as one submission, resumed where an earlier run was interrupted.

All files are announced at first. Small ones go together in forms: one request for hundreds of them. Large ones, and
whatever a form did not bring, go by resumable uploads in chunks that the server verifies. At the end the server's
SHA-256 of every file is compared with what was read here, and the submission is sealed.
"""

import hashlib
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from dropmill.api_client import (
    WAIT_S,
    Announcement,
    ApiClient,
    ClientError,
    Refused,
    RemoteFile,
    UploadLost,
    sha256_of,
)
from dropmill.cli import unfinished
from dropmill.cli.unfinished import LocalFile, Unfinished
from dropmill.cli.wording import event_line, printable, say_wait, size_text, stop_with

SMALL = 8 * 1024 * 1024  # bytes; from here on a file is worth requests of its own, and being resumed
FORM_BYTES = 32 * 1024 * 1024  # of files that go together in one request; read into memory
FORM_FILES = 250
NAME_COLUMNS = 40  # of a progress bar's line

INTERRUPTED = 130  # exit code: 128 + SIGINT, as shells have it

_UNSAFE_IN_FORM = re.compile(r'[\x00-\x1f"\\%]')  # clients and servers disagree on how a form writes these in a name


def run(paths: Sequence[Path], server: str, token: str | None, *, is_watching: bool) -> None:
    """Send, say how it goes, and end the process with 1 unless all went well.

    Args:
        paths: files and folders of this machine.
        server: its URL.
        token: who sends; None without sign-in.
        is_watching: follow the submission until it has settled; then well means that every job succeeded.
    """
    try:
        files = gather(paths)
        if not files:
            stop_with("There is no file to send.")
        with ApiClient(server, token=token, on_wait=say_wait) as client:
            sending = _Sending(client, files)
            is_well = sending.send()
            print(f"{client.url}/submissions/{sending.submission_id}", flush=True)
            if is_watching:
                is_well = _watch(client, sending.submission_id, len(files)) and is_well
        if not is_well:
            sys.exit(1)
    except ClientError as error:
        stop_with(str(error))
    except OSError as error:
        stop_with(f"{error.filename}: {error.strerror}." if error.filename else f"{error}.")
    except KeyboardInterrupt:
        stop_with("Interrupted; the same command goes on where this stopped.", INTERRUPTED)


def gather(paths: Sequence[Path]) -> Sequence[LocalFile]:
    """The files to send: those named, and all below the folders named, in the order of their names.

    A folder's files keep their path from that folder on. What is neither file nor folder is named and left out.

    Raises:
        OSError: one cannot be looked at.
    """
    found: list[LocalFile] = []
    for path in paths:
        top = Path(os.path.abspath(path))
        if not top.is_dir():
            found += _look_at(top, top.name)
            continue
        for folder, inner, names in os.walk(top, onerror=_raise):
            inner.sort()
            for name in sorted(names):
                source = Path(folder, name)
                found += _look_at(source, source.relative_to(top.parent).as_posix())
    return found


def _look_at(source: Path, path: str) -> Sequence[LocalFile]:
    about = source.stat()
    if not stat.S_ISREG(about.st_mode):
        print(f"dropmill: {printable(source)} is no file and is left out.", file=sys.stderr)
        return ()
    # A name may hold bytes that are no text; no wire takes those.
    path = os.fsencode(path).decode("utf-8", "replace")
    return [LocalFile(source=source, path=path, size=about.st_size, changed_ns=about.st_mtime_ns)]


def _raise(error: OSError) -> None:
    raise error


class _Sending:
    """One run. `ids` says which file of the server each of ours is."""

    def __init__(self, client: ApiClient, files: Sequence[LocalFile]) -> None:
        self._client = client
        self._files = files
        self._keys = {file: file.key(client.url) for file in files}
        self._ids: dict[LocalFile, str] = {}
        self._sha256: dict[LocalFile, str] = {}
        self._note: Unfinished | None = None
        self.submission_id = ""

    def send(self) -> bool:
        """Bring every file over; whether the server has of each what was read here.

        Raises:
            ClientError: the server refuses something, or is away. What has arrived stays, to go on from.
            OSError: a file cannot be read.
        """
        try:
            if not self._go_on():
                self._begin()
            self._announce([file for file in self._files if file not in self._ids])
            states = self._states()
            lost = [file for file in self._files if states[file].state == "aborted"]
            self._announce(lost)
            waiting = [file for file in self._files if file in lost or states[file].state in ("announced", "receiving")]
            if len(waiting) < len(self._files):
                print(f"{len(self._files) - len(waiting)} of {len(self._files)} files are there already.", flush=True)
            self._send_small([file for file in waiting if file.size < SMALL])
            states = self._states()
            for file in self._files:
                if states[file].state != "stored":
                    self._send_one(file)
            is_well = self._compare(self._wait_stored())
            self._client.seal(self.submission_id)
            if self._note is not None:
                self._note.forget()
            return is_well
        finally:
            if self._note is not None:
                self._note.close()

    # --- which submission --------------------------------------------------------------------------------------------

    def _go_on(self) -> bool:
        """Take up the newest submission that knows some of the files and is still open."""
        for note in unfinished.find(set(self._keys.values())):
            try:
                is_open = self._client.submission(note.submission_id)["state"] == "open"
            except Refused as error:
                if error.status not in (404, 410):
                    note.close()
                    raise
                is_open = False
            except BaseException:
                note.close()
                raise
            if not is_open:
                note.forget()
                continue
            self._note, self.submission_id = note, note.submission_id
            there = {remote.id for remote in self._client.files(self.submission_id)}
            for file, key in self._keys.items():
                if note.file_ids.get(key) in there:
                    self._ids[file] = note.file_ids[key]
            return True
        return False

    def _begin(self) -> None:
        self.submission_id = self._client.open_submission([])
        try:
            self._note = unfinished.begin(self.submission_id)
        except OSError as error:
            print(f"dropmill: {error.filename} cannot be written; this cannot be resumed.", file=sys.stderr)

    def _announce(self, files: Sequence[LocalFile]) -> None:
        """Have the server expect files; of those it has lost, anew."""
        if not files:
            return
        known = {remote.id for remote in self._client.files(self.submission_id)}
        self._client.announce(self.submission_id, [Announcement(path=file.path, size=file.size) for file in files])
        added = [remote.id for remote in self._client.files(self.submission_id) if remote.id not in known]
        self._ids |= zip(files, added, strict=True)
        if self._note is not None:
            self._note.save({self._keys[file]: self._ids[file] for file in files})

    def _states(self) -> dict[LocalFile, RemoteFile]:
        remotes = {remote.id: remote for remote in self._client.files(self.submission_id)}
        return {file: remotes[file_id] for file, file_id in self._ids.items()}

    # --- bytes -------------------------------------------------------------------------------------------------------

    def _send_small(self, files: Sequence[LocalFile]) -> None:
        for group in self._groups(files):
            contents = [(file, self._read(file)) for file in group]
            with _bar(f"{len(group)} small files", sum(file.size for file in group)) as progress:
                try:
                    self._client.send_form(self.submission_id, [(file.path, content) for file, content in contents])
                except ClientError:
                    return  # each that is missing now is sent by itself, which is resumed, or says what is wrong
                progress(sum(file.size for file in group))
            self._say_sent(group)

    def _groups(self, files: Sequence[LocalFile]) -> Iterator[Sequence[LocalFile]]:
        """Files that go together in one form.

        Not in a form go: an empty one, which is stored as it is announced; one whose path another has too, because a
        form could not tell whose bytes come; and one whose path a form may change.
        """
        of_path = Counter(file.path for file in self._files)
        group: list[LocalFile] = []
        size = 0
        for file in files:
            if file.size == 0 or of_path[file.path] > 1 or _UNSAFE_IN_FORM.search(file.path):
                continue
            if group and (size + file.size > FORM_BYTES or len(group) == FORM_FILES):
                yield group
                group, size = [], 0
            group.append(file)
            size += file.size
        if group:
            yield group

    def _read(self, file: LocalFile) -> bytes:
        content = file.source.read_bytes()
        if len(content) != file.size:
            raise ClientError(f"{file.source} was changed while it was sent.")
        self._sha256[file] = hashlib.sha256(content).hexdigest()
        return content

    def _send_one(self, file: LocalFile) -> None:
        with _bar(file.path, file.size) as progress:
            try:
                try:
                    self._sha256[file] = self._client.upload(self._ids[file], file.source, file.size, progress)
                except UploadLost:
                    self._announce([file])
                    self._sha256[file] = self._client.upload(self._ids[file], file.source, file.size, progress)
            except Refused as error:
                raise ClientError(f"{file.path}: {error}") from None
        self._say_sent([file])

    def _say_sent(self, files: Sequence[LocalFile]) -> None:
        if not sys.stdout.isatty():
            for file in files:
                print(f"sent {printable(file.path)} ({size_text(file.size)})", flush=True)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _wait_stored(self) -> dict[LocalFile, RemoteFile]:
        """The files once the server has stored each, or given it up; it may have to read some again for their hash."""
        topic = f"submission:{self.submission_id}"
        cursor = self._client.newest_cursor()
        while True:
            states = self._states()
            if all(remote.state in ("stored", "aborted") for remote in states.values()):
                return states
            cursor = self._client.events(topic, cursor, wait_s=WAIT_S).cursor

    def _compare(self, states: dict[LocalFile, RemoteFile]) -> bool:
        is_well = True
        for file, remote in states.items():
            trouble = None
            if remote.state == "aborted":
                trouble = f"was not stored: {remote.error or 'the server gave it up'}"
            elif remote.sha256 != (self._sha256.get(file) or sha256_of(file.source, file.size)):
                trouble = "arrived with other bytes than were read here (SHA-256); send it again"
            if trouble is not None:
                print(f"dropmill: {printable(file.path)} {printable(trouble)}.", file=sys.stderr)
                is_well = False
        return is_well


@contextmanager
def _bar(label: str, size: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on its own line of a terminal, nothing elsewhere; told how many bytes are over."""
    if not sys.stdout.isatty():
        yield lambda reached: None
        return
    shown = printable(label)
    shown = shown if len(shown) <= NAME_COLUMNS else "…" + shown[1 - NAME_COLUMNS :]
    with click.progressbar(length=size, label=f"{shown:<{NAME_COLUMNS}}", show_pos=False) as bar:
        yield lambda reached: bar.update(reached - bar.pos)


def _watch(client: ApiClient, submission_id: str, count: int) -> bool:
    """Print a submission's events until it has settled; whether each of so many jobs succeeded."""
    for event in client.follow(f"submission:{submission_id}", 0):
        print(event_line(event), flush=True)
        if event["name"] == "submission.settled":
            counts = event["data"]["counts"]
            return bool(counts["succeeded"] >= count and not counts["failed"] and not counts["cancelled"])
    raise AssertionError("events end only by an error")

"""`dropmill send`: files and folders as one submission, resumed where an earlier run was interrupted.

All files are announced at first. Small ones go together in forms: one request for hundreds of them. Large ones, and
whatever a form did not bring, go by resumable uploads in chunks that the server verifies. At the end the server's
SHA-256 of every file is compared with what was read here, and the submission is sealed.
"""

import errno
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
    TRY_AGAIN,
    WAIT_S,
    Announcement,
    ApiClient,
    ClientError,
    Refused,
    RemoteFile,
    SourceChanged,
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

CHANGED = "was changed while it was sent"

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
    left_out = LeftOut()
    sending: _Sending | None = None
    try:
        files = gather(paths, left_out)
        if not files:
            stop_with("There is no file to send.")
        with ApiClient(server, token=token, on_wait=say_wait) as client:
            sending = _Sending(client, files, left_out)
            is_well = sending.send() and not left_out.count
            print(f"{client.url}/submissions/{sending.submission_id}", flush=True)
            if is_watching:
                is_well = _watch(client, sending.submission_id, sending.sent) and is_well
        if not is_well:
            sys.exit(1)
    except ClientError as error:
        stop_with(str(error))
    except OSError as error:
        stop_with(f"{error.filename}: {error.strerror}." if error.filename else f"{error}.")
    except KeyboardInterrupt:
        can_go_on = sending is not None and sending.can_go_on
        rest = "the same command goes on where this stopped." if can_go_on else "nothing was sent."
        stop_with(f"Interrupted; {rest}", INTERRUPTED)


class LeftOut:
    """Names the files that cannot be sent, so that the rest can.

    Attributes:
        count: how many there are.
    """

    def __init__(self) -> None:
        self.count = 0

    def add(self, path: object, reason: str) -> None:
        """Leave one out; `reason` follows its path in the sentence."""
        self.count += 1
        print(f"dropmill: {printable(path)} {printable(reason)} and is left out.", file=sys.stderr, flush=True)


def gather(paths: Sequence[Path], left_out: LeftOut) -> Sequence[LocalFile]:
    """The files to send: those named, and all below the folders named, in the order of their names.

    A folder's files keep their path from that folder on. What cannot be read is left out; so is what is neither file
    nor folder, which is named and is no failure.
    """
    found: list[LocalFile] = []
    for path in paths:
        top = Path(os.path.abspath(path))
        if not os.path.isdir(top):  # says no where it may not look; what comes next names it
            found += _look_at(top, top.name, left_out)
            continue
        for folder, inner, names in os.walk(top, onerror=lambda error: left_out.add(error.filename, _why(error))):
            inner.sort()
            for name in inner:
                if Path(folder, name).is_symlink():
                    left_out.add(Path(folder, name), "is a link to a folder")  # may lead anywhere, also back up
            for name in sorted(names):
                source = Path(folder, name)
                found += _look_at(source, source.relative_to(top.parent).as_posix(), left_out)
    return found


def _why(error: OSError) -> str:
    return f"cannot be read ({error.strerror or error})"


def _look_at(source: Path, path: str, left_out: LeftOut) -> Sequence[LocalFile]:
    try:
        about = source.stat()
    except OSError as error:
        left_out.add(source, "is a dead link" if source.is_symlink() else _why(error))
        return ()
    if not stat.S_ISREG(about.st_mode):
        print(f"dropmill: {printable(source)} is no file and is left out.", file=sys.stderr)
        return ()
    if not os.access(source, os.R_OK):
        left_out.add(source, _why(PermissionError(errno.EACCES, os.strerror(errno.EACCES))))
        return ()
    # A name may hold bytes that are no text; no wire takes those.
    path = os.fsencode(path).decode("utf-8", "replace")
    return [LocalFile(source=source, path=path, size=about.st_size, changed_ns=about.st_mtime_ns)]


class _Sending:
    """One run. `ids` says which file of the server each of ours is."""

    def __init__(self, client: ApiClient, files: Sequence[LocalFile], left_out: LeftOut) -> None:
        self._client = client
        self._files = list(files)
        self._left_out = left_out
        self._has_begun = False  # bytes have gone out that a second run need not send
        self._keys = {file: file.key(client.url) for file in files}
        self._ids: dict[LocalFile, str] = {}
        self._sha256: dict[LocalFile, str] = {}
        self._note: Unfinished | None = None
        self.submission_id = ""

    def send(self) -> bool:
        """Bring every file over; whether the server has of each what was read here.

        Raises:
            ClientError: the server refuses something, or is away.

        What stops it leaves the submission open only if a second run can go on with it; otherwise it is sealed.
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
            for file in tuple(self._files):
                if states[file].state != "stored":
                    self._send_one(file)
            is_well = self._compare(self._wait_stored())
            self._client.seal(self.submission_id)
            if self._note is not None:
                self._note.forget()
            return is_well
        except BaseException as error:
            is_refused = isinstance(error, Refused) and error.status not in TRY_AGAIN
            if self.submission_id and (is_refused or not self.can_go_on):
                if self._note is not None:
                    self._note.forget()
                self._client.give_up(self.submission_id)
            raise
        finally:
            if self._note is not None:
                self._note.close()

    @property
    def can_go_on(self) -> bool:
        """Whether a second run could go on where this one stops."""
        return self._note is not None and self._has_begun

    @property
    def sent(self) -> int:
        """How many files were not left out."""
        return len(self._files)

    def _leave_out(self, file: LocalFile, reason: str) -> None:
        self._left_out.add(file.source, reason)
        self._files.remove(file)
        self._client.terminate(self._ids.pop(file))

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
            self._note, self.submission_id, self._has_begun = note, note.submission_id, True
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
            contents = [(file.path, content) for file in group if (content := self._read(file)) is not None]
            if not contents:
                continue
            self._has_begun = True
            with _bar(f"{len(contents)} small files", sum(len(content) for _, content in contents)) as progress:
                try:
                    self._client.send_form(self.submission_id, contents)
                except ClientError:
                    return  # each that is missing now is sent by itself, which is resumed, or says what is wrong
                progress(sum(len(content) for _, content in contents))
            self._say_sent([file for file in group if file in self._ids])

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

    def _read(self, file: LocalFile) -> bytes | None:
        """A small file's bytes; None if it cannot be sent, and then it is left out."""
        try:
            with file.source.open("rb") as source:
                content = source.read(file.size + 1)
            if not _is_as_announced(file) or len(content) != file.size:
                self._leave_out(file, CHANGED)
                return None
        except OSError as error:
            self._leave_out(file, _why(error))
            return None
        self._sha256[file] = hashlib.sha256(content).hexdigest()
        return content

    def _send_one(self, file: LocalFile) -> None:
        try:
            if not _is_as_announced(file):
                self._leave_out(file, CHANGED)
                return
            with _bar(file.path, file.size) as progress:

                def moved(reached: int) -> None:
                    self._has_begun = self._has_begun or reached > 0
                    progress(reached)

                try:
                    self._sha256[file] = self._client.upload(self._ids[file], file.source, file.size, moved)
                except UploadLost:
                    self._announce([file])
                    self._sha256[file] = self._client.upload(self._ids[file], file.source, file.size, moved)
        except SourceChanged:
            self._leave_out(file, CHANGED)
        except OSError as error:
            self._leave_out(file, _why(error))
        except Refused as error:
            error.args = (f"{file.path}: {error}",)
            raise
        else:
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
            elif remote.sha256 != self._sha256_of(file):
                trouble = "arrived with other bytes than were read here (SHA-256); send it again"
            elif not _is_as_announced(file):
                trouble = "was changed after it was sent; what arrived is how it was before"
            if trouble is not None:
                print(f"dropmill: {printable(file.path)} {printable(trouble)}.", file=sys.stderr)
                is_well = False
        return is_well

    def _sha256_of(self, file: LocalFile) -> str | None:
        """What was read of a file here, also in an earlier run; None if it cannot be read any more."""
        try:
            return self._sha256.get(file) or sha256_of(file.source, file.size)
        except (OSError, SourceChanged):
            return None


def _is_as_announced(file: LocalFile) -> bool:
    try:
        about = file.source.stat()
    except FileNotFoundError:
        return False
    return (about.st_size, about.st_mtime_ns) == (file.size, file.changed_ns)


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

"""`dropmill send`: sends files and folders as one submission, and continues where an earlier run was interrupted.

A run announces all files first. It sends small files together in forms, hundreds in one request; it sends large files,
and whatever a form did not bring, as resumable uploads in chunks that the server verifies. At the end it compares the
server's SHA-256 of every file with what it read, and seals the submission.
"""

import hashlib
import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import click

from dropmill.cli import resume_file
from dropmill.cli.format import event_line, printable, say_wait, size_text, stop_with
from dropmill.cli.gather import LeftOut, gather, why
from dropmill.cli.options import client_options
from dropmill.cli.resume_file import LocalFile, NotedFile, Unfinished
from dropmill.client import (
    TRY_AGAIN,
    WAIT_S,
    ApiClient,
    ClientError,
    Refused,
    SourceChanged,
    UploadLost,
    sha256_of,
)
from dropmill.wire.submissions import Announcement, RemoteFile

SMALL = 8 * 1024 * 1024  # bytes; larger files get requests of their own, and are resumed
FORM_BYTES = 32 * 1024 * 1024  # of the files in one form; the run reads them into memory
FORM_FILES = 250
NAME_COLUMNS = 40  # in the line of a progress bar

CHANGED = "was changed while it was sent"

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

_GONE = (404, 410)
_SERVER_ERRORS = 500  # and above: errors that may pass

_UNSAFE_IN_FORM = re.compile(r'[\x00-\x1f"\\%]')  # clients and servers disagree on how to escape these in a form


@click.command("send")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@client_options
@click.option("--watch", "is_watching", is_flag=True, help="Follow to the end; exit 0 only if every job succeeded.")
@click.option(
    "--abandon",
    "is_abandoned",
    is_flag=True,
    help="Send nothing; seal what an interrupted run with these files left open.",
)
def command(
    paths: tuple[Path, ...],
    server: str,
    token: str | None,
    insecure_http: bool,
    is_watching: bool,
    is_abandoned: bool,
) -> None:
    """Send files and folders as one submission.

    After an interruption, run the same command again: it continues where it stopped.
    """
    if is_abandoned and is_watching:
        raise click.UsageError("--abandon sends nothing, so there is nothing to --watch.")
    try:
        client = ApiClient(server, token=token, insecure_http=insecure_http, on_wait=say_wait)
    except ClientError as error:
        stop_with(str(error))
    if is_abandoned:
        _abandon(paths, client)
    else:
        _run(paths, client, is_watching=is_watching)


def _run(paths: Sequence[Path], client: ApiClient, *, is_watching: bool) -> None:
    """Send, print progress, and end the process with 1 unless every file arrived (and, watching, was processed)."""
    left_out = LeftOut()
    sending: _Sending | None = None
    _stop_at_signals()
    try:
        files = gather(paths, left_out)
        if not files:
            stop_with("There is no file to send.")
        with client:
            sending = _Sending(client, files, left_out)
            is_well = sending.send() and not left_out.count
            print(f"{client.url}/submissions/{sending.submission_id}", flush=True)
            if is_watching:
                is_well = _watch(client, sending.submission_id, sending.sent) and is_well
        if not is_well:
            sys.exit(1)
    except ClientError as error:
        stop_with(_with_rest(str(error), sending))
    except OSError as error:
        sentence = f"{error.filename}: {error.strerror}." if error.filename else f"{error}."
        stop_with(_with_rest(sentence, sending))
    except Stopped as stopped:
        stop_with(_interrupted(sending), 128 + stopped.number)  # the exit code that shells use


def _abandon(paths: Sequence[Path], client: ApiClient) -> None:
    """Seal what interrupted runs with some of these files left open; end the process with 1 if there is none."""
    is_any = False
    try:
        with client:
            for note in resume_file.find({file.key(client.url) for file in gather(paths, LeftOut())}):
                try:
                    client.abandon(note.submission_id)
                except Refused as error:
                    if error.status not in _GONE:
                        note.close()
                        raise
                    note.forget()
                    continue
                except BaseException:
                    note.close()
                    raise
                note.forget()
                is_any = True
                print(
                    f"{client.url}/submissions/{note.submission_id} is sealed; what had not arrived is discarded.",
                    flush=True,
                )
    except ClientError as error:
        stop_with(str(error))
    if not is_any:
        stop_with("No interrupted run with these files is recorded here.")


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _stop_at_signals() -> None:
    """Make the first signal that ends a process raise `Stopped`; a second one ends the process at once.

    Ignored signals stay ignored: `nohup` ignores SIGHUP.
    """
    caught = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

    def stop(number: int, _frame: object) -> None:
        for each in caught:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped(number)

    for number in caught:
        signal.signal(number, stop)


def _with_rest(sentence: str, sending: "_Sending | None") -> str:
    return sentence if sending is None or not sending.is_open else f"{sentence} {sending.rest()}"


def _interrupted(sending: "_Sending | None") -> str:
    if sending is None or not sending.submission_id:
        return "Interrupted; nothing was sent."
    if sending.is_open:
        return f"Interrupted. {sending.rest()}"
    if sending.is_over:
        return "Interrupted; everything was sent, and the server continues to process it."
    if sending.has_arrived:
        return "Interrupted; the submission is sealed with what had arrived."
    return "Interrupted; nothing was sent."


class _Sending:
    """One run.

    Attributes:
        submission_id: empty until one is opened or continued.
        is_open: whether the submission is open, as far as this run knows.
        is_over: whether this run has sent everything and sealed it.
        has_arrived: whether the server has, or may have, bytes of it that a second run need not send.
    """

    def __init__(self, client: ApiClient, files: Sequence[LocalFile], left_out: LeftOut) -> None:
        self._client = client
        self._files = list(files)
        self._left_out = left_out
        self._keys = {file: file.key(client.url) for file in files}
        self._ids: dict[LocalFile, str] = {}
        self._sha256: dict[LocalFile, str] = {}
        self._note: Unfinished | None = None
        self._kept_until: datetime | None = (
            None  # when the partial upload of the current file expires; None without one
        )
        self.submission_id = ""
        self.is_open = False
        self.is_over = False
        self.has_arrived = False

    def send(self) -> bool:
        """Send every file; whether the server has of each what was read here.

        Raises:
            ClientError: the server refuses something, or is away.

        After an error the submission stays open only if bytes have arrived that a second run can continue from;
        otherwise this seals it. If the server cannot seal it now, the resume file is kept.
        """
        try:
            if not self._continue():
                self._begin()
            self._announce([file for file in self._files if file not in self._ids])
            states = self._states()
            lost = [file for file in self._files if states[file].state == "aborted"]
            self._announce(lost)
            waiting = [file for file in self._files if file in lost or states[file].state in ("announced", "receiving")]
            if len(waiting) < len(self._files):
                print(
                    f"{len(self._files) - len(waiting)} of {len(self._files)} files have already arrived.", flush=True
                )
            self._send_small([file for file in waiting if file.size < SMALL])
            states = self._states()
            for file in tuple(self._files):
                if states[file].state != "stored":
                    self._send_one(file)
            is_well = self._compare(self._wait_stored())
            self._client.seal(self.submission_id)
            self._has_sealed()
            self.is_over = True
            return is_well
        except BaseException as error:
            if self.is_open and (is_final(error) or not self._can_continue()):
                with suppress(ClientError):
                    self._client.abandon(self.submission_id)
                    self._has_sealed()
            raise
        finally:
            if self._note is not None:
                self._note.close()

    def rest(self) -> str:
        """A sentence about what happens to the submission, which is still open."""
        if self._note is None:
            return "The submission stays open until the server seals it."
        until = "the server seals it, by default after a day"
        if self._kept_until is not None:
            until = f"{self._kept_until.astimezone():%Y-%m-%d %H:%M}"
        return (
            f"The submission stays open until {until}; "
            "the same command continues where this stopped, or seals it with --abandon."
        )

    def _can_continue(self) -> bool:
        """Whether a second run could continue where this one stops, and would save anything by it."""
        if not self.has_arrived:
            try:
                self.has_arrived = self._client.has_arrived(self.submission_id)
            except ClientError:
                self.has_arrived = True
        return self._note is not None and self.has_arrived

    def _has_sealed(self) -> None:
        self.is_open = False
        self._forget_note()

    def _forget_note(self) -> None:
        if self._note is not None:
            self._note.forget()
            self._note = None

    @property
    def sent(self) -> int:
        """How many files were not left out."""
        return len(self._files)

    def _leave_out(self, file: LocalFile, reason: str) -> None:
        self._left_out.add(file.source, reason)
        self._files.remove(file)
        self._kept_until = None
        self._client.terminate(self._ids.pop(file), "unreadable")

    # --- which submission --------------------------------------------------------------------------------------------

    def _continue(self) -> bool:
        """Continue the newest open submission that has some of the files; whether there is one.

        One whose files have all changed since is sealed: this run sends them in a new submission.
        """
        for note in resume_file.find(set(self._keys.values())):
            try:
                is_open = self._client.submission(note.submission_id)["state"] == "open"
            except Refused as error:
                if error.status not in _GONE:
                    note.close()
                    raise
                is_open = False
            except BaseException:
                note.close()
                raise
            same = {file: note.files[key].id for file, key in self._keys.items() if _is_noted(note, key, file)}
            if not is_open:
                note.forget()
            elif same:
                self._resume(note, same)
                return True
            elif note.files.keys() <= set(self._keys.values()):
                try:
                    self._client.abandon(note.submission_id)
                    note.forget()
                except ClientError:
                    note.close()
            else:
                note.close()
        return False

    def _resume(self, note: Unfinished, ids: Mapping[LocalFile, str]) -> None:
        self._note, self.submission_id = note, note.submission_id
        self.is_open = self.has_arrived = True
        there = {remote.id for remote in self._client.files(self.submission_id)}
        self._ids = {file: file_id for file, file_id in ids.items() if file_id in there}

    def _begin(self) -> None:
        self.submission_id = self._client.open_submission([])
        self.is_open = True
        try:
            self._note = resume_file.begin(self.submission_id)
        except OSError as error:
            self._cannot_note(error)

    def _cannot_note(self, error: OSError) -> None:
        self._forget_note()
        where = error.filename or "The cache folder"
        print(
            f"dropmill: {printable(where)} cannot be written; this run cannot be resumed.", file=sys.stderr, flush=True
        )

    def _announce(self, files: Sequence[LocalFile]) -> None:
        """Announce files, or announce again those whose upload the server lost."""
        if not files:
            return
        known = {remote.id for remote in self._client.files(self.submission_id)}
        self._client.announce(self.submission_id, [Announcement(path=file.path, size=file.size) for file in files])
        added = [remote.id for remote in self._client.files(self.submission_id) if remote.id not in known]
        self._ids |= zip(files, added, strict=True)
        if self._note is not None:
            noted = {self._keys[file]: NotedFile(id=self._ids[file], version=file.version) for file in files}
            try:
                self._note.save(noted)
            except OSError as error:
                self._cannot_note(error)

    def _states(self) -> dict[LocalFile, RemoteFile]:
        remotes = {remote.id: remote for remote in self._client.files(self.submission_id)}
        return {file: remotes[file_id] for file, file_id in self._ids.items()}

    # --- bytes -------------------------------------------------------------------------------------------------------

    def _send_small(self, files: Sequence[LocalFile]) -> None:
        for group in self._groups(files):
            contents = [(file.path, content) for file in group if (content := self._read(file)) is not None]
            if not contents:
                continue
            with _bar(f"{len(contents)} small files", sum(len(content) for _, content in contents)) as progress:
                try:
                    self._client.send_form(self.submission_id, contents)
                except ClientError:
                    return  # the files that are missing now are sent one by one, which resumes or says what is wrong
                progress(sum(len(content) for _, content in contents))
            self.has_arrived = True
            self._say_sent([file for file in group if file in self._ids])

    def _groups(self, files: Sequence[LocalFile]) -> Iterator[Sequence[LocalFile]]:
        """Groups of files, each for one form.

        Left out are: empty files, which the server stores at their announcement; files that share a path, because a
        form cannot distinguish them; and files whose path a form may change.
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
        """A small file's bytes; None if it was left out because it cannot be sent."""
        try:
            with file.source.open("rb") as source:
                content = source.read(file.size + 1)
            if not _is_as_announced(file) or len(content) != file.size:
                self._leave_out(file, CHANGED)
                return None
        except OSError as error:
            self._leave_out(file, why(error))
            return None
        self._sha256[file] = hashlib.sha256(content).hexdigest()
        return content

    def _send_one(self, file: LocalFile) -> None:
        try:
            if not _is_as_announced(file):
                self._leave_out(file, CHANGED)
                return
            with _bar(file.path, file.size) as progress:
                try:
                    self._upload(file, progress)
                except UploadLost:
                    self._announce([file])
                    self._upload(file, progress)
        except SourceChanged:
            self._leave_out(file, CHANGED)
        except OSError as error:
            self._leave_out(file, why(error))
        except Refused as error:
            error.args = (f"{file.path}: {error}",)
            raise
        else:
            self._say_sent([file])

    def _upload(self, file: LocalFile, progress: Callable[[int], None]) -> None:
        def kept(offset: int, expires_at: datetime | None) -> None:
            self.has_arrived = self.has_arrived or offset > 0
            self._kept_until = expires_at if 0 < offset < file.size else None

        self._sha256[file] = self._client.upload(self._ids[file], file.source, file.size, progress, kept)

    def _say_sent(self, files: Sequence[LocalFile]) -> None:
        if not sys.stdout.isatty():
            for file in files:
                print(f"sent {printable(file.path)} ({size_text(file.size)})", flush=True)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _wait_stored(self) -> dict[LocalFile, RemoteFile]:
        """The files, once the server has stored or aborted each; it may have to read some again for their hash."""
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
                trouble = f"was not stored: {remote.error or 'the server aborted it'}"
            elif remote.sha256 != self._sha256_of(file):
                trouble = "did not arrive as it was read here (SHA-256 differs); send it again"
            elif not _is_as_announced(file):
                trouble = "was changed after it was sent; the server has the earlier content"
            if trouble is not None:
                print(f"dropmill: {printable(file.path)} {printable(trouble)}.", file=sys.stderr)
                is_well = False
        return is_well

    def _sha256_of(self, file: LocalFile) -> str | None:
        """The SHA-256 of a file as this run or an earlier one read it; None if it can no longer be read."""
        try:
            return self._sha256.get(file) or sha256_of(file.source, file.size)
        except (OSError, SourceChanged):
            return None


def is_final(error: BaseException) -> bool:
    """Whether the same command, run again, would get the same refusal."""
    return isinstance(error, Refused) and error.status < _SERVER_ERRORS and error.status not in TRY_AGAIN


def _is_noted(note: Unfinished, key: str, file: LocalFile) -> bool:
    noted = note.files.get(key)
    return noted is not None and noted.version == file.version


def _is_as_announced(file: LocalFile) -> bool:
    try:
        about = file.source.stat()
    except FileNotFoundError:
        return False
    return (about.st_size, about.st_mtime_ns) == (file.size, file.changed_ns)


@contextmanager
def _bar(label: str, size: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, nothing elsewhere. Yields a function to call with the number of bytes sent."""
    if not sys.stdout.isatty():
        yield lambda reached: None
        return
    shown = printable(label)
    shown = shown if len(shown) <= NAME_COLUMNS else "…" + shown[1 - NAME_COLUMNS :]
    with click.progressbar(length=size, label=f"{shown:<{NAME_COLUMNS}}", show_pos=False) as bar:
        yield lambda reached: bar.update(reached - bar.pos)


def _watch(client: ApiClient, submission_id: str, count: int) -> bool:
    """Print a submission's events until it has settled; whether `count` jobs succeeded and none failed."""
    for event in client.follow(f"submission:{submission_id}", 0):
        print(event_line(event), flush=True)
        if event["name"] == "submission.settled":
            counts = event["data"]["counts"]
            return bool(counts["succeeded"] >= count and not counts["failed"] and not counts["cancelled"])
    raise AssertionError("events end only by an error")

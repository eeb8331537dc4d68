"""The config as one truth with a mirror: the newest revision in the ledger is the truth, the file is its mirror.

A save is checked, written beside the file, committed to the ledger and exchanged with the file; then the ledger records
that the file holds it. Killed anywhere, file and ledger hold the old or the new text whole, and the next start finishes
what is left. A file that cannot be replaced is overwritten, at the same place in this order: there a kill may leave it
torn, which the next start recognises and repairs. An edit made with any editor is noticed and becomes a revision. A
file that cannot be used never replaces the last good revision: it is kept aside when a save replaces it. Whatever
makes the file differ from the newest revision is reported as a `problem`.

YAML is read in a child process (`parser`), the file in threads (`mirror`). Nothing here decides who may save, nor
speaks HTTP.
"""

import asyncio
import contextlib
import errno
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from watchfiles import awatch
from watchfiles._rust_notify import WatchfilesRustInternalError

from dropmill import assets
from dropmill.configfile import file_sync
from dropmill.configfile.parser import Edit, Form, ParserProcess
from dropmill.configfile.schema.file import SchemaFile
from dropmill.configfile.yaml.document import Finding, Report
from dropmill.configfile.yaml.edits import Operation
from dropmill.health import Health
from dropmill.model.caller import Caller
from dropmill.model.config import ConfigLocation, ConfigRevision
from dropmill.model.errors import (
    ConfigConflict,
    ConfigInvalid,
    DropmillError,
    OutOfSpace,
    PreconditionRequired,
    RevisionInUse,
    SettingsError,
    Unavailable,
)
from dropmill.model.faults import OF_THE_FILE, TEMPORARY, fault_of
from dropmill.model.ids import Sha256
from dropmill.model.internal import AnyCaller
from dropmill.ports.ledger.config import ConfigLedger
from dropmill.ports.ledger.page import Page

T = TypeVar("T")

AT_START_UP: Final = "at start-up"
CHANGED_OUTSIDE: Final = "changed outside of Dropmill"

_SETTLE_S: Final = 0.2  # editors empty a file before they write it: believe what stays for this long
_SETTLE_ROUNDS: Final = 10
_LOOK_S: Final = 2.0  # for what raises no notification: network file systems, and the command line's own saves
_RECORDED_ERRORS: Final = 20  # of a refused text go into the ledger
_HISTORY: Final = 50  # revisions read at once, to find one that the file may still hold
_FULL_OR_READ_ONLY: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigProblem:
    """How the file on disk differs from the newest revision, which is what scripts get.

    Attributes:
        sha256: of the bytes on disk; None when there is no file or it cannot be read.
        sentence: what is wrong, without a full stop.
        is_refused: whether the bytes on disk cannot be used; no revision holds them.
    """

    sha256: Sha256 | None
    sentence: str
    is_refused: bool = False

    @classmethod
    def refused(cls, sha256: Sha256 | None, findings: Sequence[Finding]) -> "ConfigProblem":
        """That of a text that was checked, or a file that cannot be read; the first of its findings is told."""
        first = findings[0]
        sentence = f"line {first.line}, column {first.column}: {first.message}"
        return cls(sha256=sha256, sentence=sentence, is_refused=True)


def etag(revision: ConfigRevision) -> str:
    """The strong entity tag of a revision's bytes, quoted (RFC 9110 section 8.8.3)."""
    return f'"{revision.sha256}"'


class ConfigFile:
    """The config: read, checked, saved and watched. One instance for one file; safe for many tasks at once.

    Attributes:
        on_purge: awaited with what was purged, to remove the copies that others have made of it.
    """

    def __init__(
        self,
        location: ConfigLocation,
        ledger: ConfigLedger,
        parser: ParserProcess,
        *,
        aside: Path,
        health: Health | None = None,
    ) -> None:
        """Touch nothing yet.

        Args:
            location: the file; followed if it is a symbolic link.
            ledger: where the revisions are.
            parser: checks texts.
            aside: folder for what the file held while it is written in place; made when needed.
            health: shows whether the file can be watched; None: nobody asks.
        """
        self.path: Final = Path(location.path)
        self._location: Final = location
        self._aside: Final = aside
        self._problem: ConfigProblem | None = None
        self.on_purge: Callable[[Sha256], Awaitable[None]] = _keep_no_copies
        self._health = health or Health()
        self._ledger = ledger
        self._schema_file = SchemaFile(self.path, parser)
        self._lock = asyncio.Lock()
        self._warned_of: str | None = None

    async def open(self) -> str | None:
        """Bring file and ledger together at the server's start; before anything else is called.

        From then on the ledger names this file as the one that the server edits. Whoever only helps a server, as the
        command line does, does not call this.

        Returns:
            A sentence for the terminal if a file had to be written where none was, else None.

        Raises:
            SettingsError: there is no usable config: none in the ledger, and the file cannot be used (the sentence
                names file, line and column), read or written.
        """
        async with self._lock:
            await self._ledger.use_config_file(self._location)
            newest, in_file = await self._ledger.config_position(self._location)
            unfinished = newest.sha256 if newest is not None and newest.number != in_file else None
            await asyncio.to_thread(file_sync.sweep, self.path, self._aside, unfinished=unfinished)
            if newest is None:
                return await self._open_first()
            try:
                disk = (await self._reconcile()).disk
            except TEMPORARY as error:
                _log.warning("%s", error)
                return None
            if disk is None and await self._mirror(newest, disk):
                return f"{self.path} was missing; the newest revision of the config was written there."
            return None

    def problem(self, caller: Caller) -> ConfigProblem | None:
        """How the file on disk differs from the newest revision; None if it does not."""
        return self._problem

    async def read(self, caller: AnyCaller) -> tuple[bytes, ConfigRevision]:
        """The config as it is now, edits made outside included; the last good revision while there is a `problem`."""
        async with self._lock:
            try:
                newest = (await self._reconcile()).newest
            except TEMPORARY as error:
                self._warn(str(error))
                newest = await self._newest()
        return await self._ledger.revision_text(newest.sha256), newest

    async def newest(self, caller: Caller) -> ConfigRevision | None:
        """The newest revision as it was last taken over; None before the first one. The file is not looked at."""
        return await self._ledger.newest_revision()

    async def revisions(self, caller: Caller, *, before: str | None, limit: int) -> Page[ConfigRevision]:
        """The history, newest first; `before` is the `next` of the page before, None for the first."""
        return await self._ledger.revisions(before=before, limit=limit)

    async def revision_text(self, caller: Caller, sha256: Sha256) -> bytes:
        """A revision's exact bytes.

        Raises:
            NotFound: there is no such revision.
            Removed: its text was purged.
        """
        return await self._ledger.revision_text(sha256)

    async def check(self, caller: Caller, text: bytes) -> Report:
        """What there is to say about a text; changes nothing."""
        return await self._schema_file.check(text)

    async def form(self, caller: Caller, text: bytes, operations: Sequence[Operation]) -> Form:
        """A text, saved or not, as a form shows it, edited if there are operations; changes nothing.

        Raises:
            ConfigInvalid, ConfigEditRefused, Unavailable: as for `edit`.
        """
        return await self._schema_file.form(text, operations)

    async def schema(self, caller: Caller) -> bytes | None:
        """The exact bytes of the JSON Schema beside the config; None if there is none.

        Raises:
            SchemaUnusable: there is one, but it cannot be used; configs are checked without it.
        """
        return await self._schema_file.read()

    async def save(
        self, caller: AnyCaller, text: bytes, if_match: Sha256 | None, message: str | None
    ) -> ConfigRevision:
        """Replace the config with exactly these bytes.

        Cancelling leaves the old or the new config, whole, in file and ledger alike. Once it is in the ledger it is
        saved: a file that cannot be replaced then is logged, and tried again at the next look.

        Args:
            caller: its author.
            text: the whole new text.
            if_match: SHA-256 of the text that the author saw.
            message: the author's word on it; None if there is none.

        Returns:
            The new revision, or the newest one if it holds the same bytes.

        Raises:
            PreconditionRequired: `if_match` is None.
            ConfigConflict: the config is another by now; with `current_etag` and `current`, its text.
            ConfigInvalid: the text is refused (`config.rejected` is recorded); with `errors`.
            OutOfSpace: the disk is full or read-only.
            Unavailable: the file can be neither read nor written, or texts cannot be checked now.
        """
        base = _required(if_match)
        report = await self._schema_file.check(text)  # before the lock: readers need not wait for it
        return await self._save(caller, text, report, base, message)

    async def edit(
        self, caller: Caller, operations: Sequence[Operation], if_match: Sha256 | None, message: str | None
    ) -> tuple[ConfigRevision, Edit]:
        """Change values of the newest revision in place and save what comes of it; like `save`.

        Args:
            caller: the author.
            operations: all of them are made, or none.
            if_match: as for `save`.
            message: as for `save`.

        Returns:
            The new revision, or the newest one if nothing changed; and the edit.

        Raises:
            ConfigEditRefused: the edit cannot be exact; with `reason` and `path`.
        """
        base = _required(if_match)
        text, newest = await self.read(caller)
        if base != newest.sha256:
            raise await self._conflict(newest)
        edit = await self._schema_file.edit(text, operations)
        return await self._save(caller, edit.text, edit.report, base, message), edit

    async def restore(
        self, caller: AnyCaller, sha256: Sha256, if_match: Sha256 | None, message: str | None
    ) -> ConfigRevision:
        """Save the text of an older revision as the newest one; like `save`, the checks of today included.

        Args:
            caller: the author.
            sha256: of the older revision.
            if_match: as for `save`.
            message: None says which one was restored.

        Raises:
            NotFound: there is no such revision.
            Removed: its text was purged.
        """
        _required(if_match)
        text = await self._ledger.revision_text(sha256)
        return await self.save(caller, text, if_match, message or f"restored {sha256[:12]}")

    async def purge(self, caller: Caller, sha256: Sha256) -> None:
        """Remove a text from the history, and every copy of it that Dropmill has made. Twice is no error.

        Cut off by a kill, it is finished by the next start or by purging again.

        Raises:
            NotFound: there is no such revision.
            RevisionInUse: it is the newest one, jobs are bound to it, or the file on disk still holds it.
            Unavailable: the file cannot be read, or some copy cannot be removed now; purge it again.
        """
        async with self._lock:
            seen = await self._reconcile()
            if sha256 == seen.disk != seen.newest.sha256:
                raise RevisionInUse(f"{self.path} still holds it; mend or replace the file, then purge it.")
            await _to_the_end(self._purge(caller, sha256))

    async def _save(
        self, caller: AnyCaller, text: bytes, report: Report, base: Sha256, message: str | None
    ) -> ConfigRevision:
        """The one way in which a text that was checked becomes the newest revision, whoever made it."""
        async with self._lock:
            seen = await self._reconcile()
            if base != seen.newest.sha256:
                raise await self._conflict(seen.newest)
            if not report.is_valid:
                errors = [finding.as_json() for finding in report.errors]
                await self._ledger.reject_config(errors[:_RECORDED_ERRORS], caller.client, caller.account)
                raise ConfigInvalid("The text cannot be used; nothing was saved.", errors=errors)
            if file_sync.sha256_of(text) == seen.newest.sha256:
                if seen.disk != seen.newest.sha256:
                    await self._mirror(seen.newest, seen.disk)
                return seen.newest
            return await _to_the_end(self._commit(caller, text, seen, message))

    async def watch(self) -> None:
        """Notice edits made outside until cancelled, within about two seconds. An unusable edit does not end it.

        A file system that cannot be watched is polled instead. Faults of disk and ledger are survived.
        """
        while True:
            folders = await asyncio.to_thread(file_sync.folders, self.path)
            await self._poll()
            try:
                changes = awatch(
                    *folders,
                    watch_filter=None,  # an editor may rename, a symlink on the way may be swapped: look at any change
                    recursive=False,
                    rust_timeout=int(_LOOK_S * 1000),
                    yield_on_timeout=True,
                )
                async with contextlib.aclosing(changes):
                    async for _ in changes:
                        self._health.works("config_watch")
                        await self._poll()
                        if await asyncio.to_thread(file_sync.folders, self.path) != folders:
                            break
            # The folder is gone, or the system has no more watches or descriptors.
            except (OSError, WatchfilesRustInternalError) as error:
                self._health.failed("config_watch", error)
                await asyncio.sleep(_LOOK_S)

    async def _poll(self) -> None:
        async def reconcile() -> None:
            async with self._lock:
                await self._reconcile()

        await self._health.insist(
            "config", reconcile, first_s=_SETTLE_S, most_s=_LOOK_S, errors=(DropmillError, OSError)
        )

    def _warn(self, sentence: str) -> None:
        """Log once what would otherwise repeat with every look."""
        if sentence != self._warned_of:
            self._warned_of = sentence
            _log.warning("%s", sentence)

    # --- below: with the lock held -----------------------------------------------------------------------------------

    async def _open_first(self) -> str | None:
        note = None
        try:
            text = await asyncio.to_thread(file_sync.read, self.path)
            if text is None:
                text = await asyncio.to_thread(lambda: assets.default_config().read_bytes())
                await asyncio.to_thread(file_sync.create, self.path, text)
                note = f"{self.path} was missing; the packaged config was written there."
        except OSError as error:
            raise SettingsError(f"--config {self.path}: {error.strerror or error}.") from error
        report = await self._schema_file.check(text)
        if not report.is_valid:
            problem = ConfigProblem.refused(file_sync.sha256_of(text), report.errors)
            raise SettingsError(f"--config {self.path}, {problem.sentence}.")
        await self._ledger.save_revision(
            text, base=None, client=None, account=None, message=AT_START_UP, found_at=self._location
        )
        return note

    async def _newest(self) -> ConfigRevision:
        return (await self._position())[0]

    async def _position(self) -> tuple[ConfigRevision, int | None]:
        """The newest revision, and the number of the one that the file was last recorded to hold."""
        newest, in_file = await self._ledger.config_position(self._location)
        if newest is None:
            raise Unavailable("The config is not open yet.")
        return newest, in_file

    async def _reconcile(self) -> "_Seen":
        """Take over what was edited outside, finish what a crash left; then say how things stand.

        Raises:
            Unavailable: the file cannot be read, or cannot be checked now.
            OutOfSpace: the ledger cannot be written.
        """
        before: Sha256 | None = None
        is_first = True
        for _ in range(_SETTLE_ROUNDS):
            newest, in_file = await self._position()
            try:
                text = await asyncio.to_thread(file_sync.read, self.path)
            except OSError as error:
                if error.errno not in OF_THE_FILE:  # a shortage of the server says nothing about the config
                    raise fault_of(error, "The config file") from error
                await self._reject(None, (_unreadable(error),))
                raise Unavailable(f"{self.path} cannot be read: {error.strerror or error}.") from error
            disk = file_sync.sha256_of(text)
            if (seen := await self._without_edit(newest, in_file, text, disk)) is not None:
                return seen
            if disk == before and not is_first:
                if text is None:
                    self._differs(None, "it is missing")
                    return _Seen(newest=newest, disk=None)
                with contextlib.suppress(ConfigConflict):  # another process saved meanwhile: look again
                    return await self._take_over(text, newest)
            before, is_first = disk, False
            await asyncio.sleep(_SETTLE_S)
        raise Unavailable(f"{self.path} is being written to all the time; try again when that has stopped.")

    async def _without_edit(
        self, newest: ConfigRevision, in_file: int | None, text: bytes | None, disk: Sha256 | None
    ) -> "_Seen | None":
        """How things stand if nobody edited the file since it was last looked at; else None."""
        if disk == newest.sha256:
            self._problem = None
            if newest.number != in_file:
                await self._ledger.record_in_file(self._location, newest.number)
                with contextlib.suppress(OSError):  # the next start's sweep removes it
                    await asyncio.to_thread(file_sync.drop_before, self._aside, newest.sha256)
            return _Seen(newest=newest, disk=disk)
        if newest.number != in_file and await self._is_unfinished(newest, in_file, text, disk):
            is_written = await self._mirror(newest, disk)
            return _Seen(newest=newest, disk=newest.sha256 if is_written else disk)
        # Gone or refused, and reported already. Just gone is no problem yet: some editors do that for a moment.
        is_known = self._problem is not None and self._problem.sha256 == disk
        return _Seen(newest=newest, disk=disk) if is_known else None

    async def _take_over(self, text: bytes, newest: ConfigRevision) -> "_Seen":
        """Make a revision of what somebody wrote into the file, if it can be used."""
        disk = file_sync.sha256_of(text)
        report = await self._schema_file.check(text)
        if not report.is_valid:
            await self._reject(disk, report.errors)
            return _Seen(newest=newest, disk=disk)
        revision = await self._ledger.save_revision(
            text, base=newest.sha256, client=None, account=None, message=CHANGED_OUTSIDE, found_at=self._location
        )
        self._problem = None
        return _Seen(newest=revision, disk=disk)

    async def _reject(self, disk: Sha256 | None, findings: tuple[Finding, ...]) -> None:
        problem = ConfigProblem.refused(disk, findings)
        if problem == self._problem:
            return
        errors = [finding.as_json() for finding in findings[:_RECORDED_ERRORS]]
        await self._ledger.reject_config(errors, None, None)
        self._problem = problem
        _log.warning("%s, %s; the last good revision stays in use.", self.path, problem.sentence)

    def _differs(self, disk: Sha256 | None, sentence: str) -> None:
        """Report, once, that the file does not hold the newest revision although nobody edited it."""
        problem = ConfigProblem(sha256=disk, sentence=sentence)
        if problem != self._problem:
            self._problem = problem
            _log.warning("%s does not hold the newest config, which is in use: %s.", self.path, sentence)

    async def _is_unfinished(
        self, newest: ConfigRevision, in_file: int | None, text: bytes | None, disk: Sha256 | None
    ) -> bool:
        """Whether the newest revision did not reach the file or did so in part; it was not recorded to be there."""
        if text is None or disk is None:
            return in_file is not None  # nothing is known of a file that never held a revision
        if in_file is not None and await self._is_behind(newest, in_file, disk):
            return True
        wanted = await self._ledger.revision_text(newest.sha256)
        return await asyncio.to_thread(file_sync.is_torn, text, wanted, self._aside)

    async def _is_behind(self, newest: ConfigRevision, in_file: int, disk: Sha256) -> bool:
        """Whether the file still holds the revision that was last recorded, or one between that and the newest."""
        before: str | None = None
        while True:
            page = await self._ledger.revisions(before=before, limit=_HISTORY)
            for revision in page.items:
                if revision.number < in_file:
                    return False
                if revision.sha256 == disk and revision.number < newest.number:
                    return True
            before = page.next
            if before is None:
                return False

    async def _conflict(self, newest: ConfigRevision) -> ConfigConflict:
        current = await self._ledger.revision_text(newest.sha256)
        return ConfigConflict(
            "The config was changed since you opened it; compare the two texts, then save again.",
            current_etag=etag(newest),
            current=current.decode(),
        )

    async def _purge(self, caller: Caller, sha256: Sha256) -> None:
        await self._ledger.purge_revision(sha256, caller.client, caller.account)
        try:
            await self.on_purge(sha256)
            await asyncio.to_thread(file_sync.drop_copies, self.path, self._aside, sha256)
        except OSError as error:
            raise Unavailable(
                f"It is purged from the history, but a copy cannot be removed ({error}); purge it again."
            ) from error

    async def _commit(self, caller: AnyCaller, text: bytes, seen: "_Seen", message: str | None) -> ConfigRevision:
        try:
            written = await self._prepare(text, seen.disk)
        except OSError as error:
            sentence = f"{self.path} cannot be written: {error.strerror or error}. Nothing was saved."
            is_disk = error.errno in _FULL_OR_READ_ONLY and not isinstance(error, file_sync.CannotBeWritten)
            raise (OutOfSpace if is_disk else Unavailable)(sentence) from error
        try:
            revision = await self._ledger.save_revision(
                text,
                base=seen.newest.sha256,
                client=caller.client,
                account=caller.account,
                message=message,
            )
        except ConfigConflict:
            await asyncio.to_thread(written.discard)
            raise await self._conflict(await self._newest()) from None
        except BaseException:
            await asyncio.to_thread(written.discard)
            raise
        await self._swap(written, revision, seen.disk)
        return revision

    async def _mirror(self, revision: ConfigRevision, disk: Sha256 | None) -> bool:
        """Write a revision that the ledger holds into the file; False if that cannot be done now."""
        return await _to_the_end(self._write_mirror(revision, disk))

    async def _write_mirror(self, revision: ConfigRevision, disk: Sha256 | None) -> bool:
        text = await self._ledger.revision_text(revision.sha256)
        try:
            written = await self._prepare(text, disk)
        except OSError as error:
            self._differs(disk, f"it cannot be written: {error.strerror or error}")
            return False
        return await self._swap(written, revision, disk)

    async def _prepare(self, text: bytes, disk: Sha256 | None) -> file_sync.Replacement:
        problem = self._problem
        keep = problem is not None and problem.is_refused and disk is not None and problem.sha256 == disk
        return await asyncio.to_thread(file_sync.prepare, self.path, text, aside=self._aside, keep=keep)

    async def _swap(self, written: file_sync.Replacement, revision: ConfigRevision, disk: Sha256 | None) -> bool:
        try:
            is_there = await asyncio.to_thread(written.put_in_place, disk)
        except OSError as error:
            self._differs(disk, f"it cannot be replaced: {error.strerror or error}")
            return False
        if is_there:
            self._problem = None
            try:
                await self._ledger.record_in_file(self._location, revision.number)
            except TEMPORARY as error:  # the file is right; the next look records it
                self._warn(f"{self.path} is replaced, but that is not recorded yet: {error}")
        return is_there


def _required(if_match: Sha256 | None) -> Sha256:
    if if_match is None:
        raise PreconditionRequired("Say which revision this replaces: send its ETag as If-Match.")
    return if_match


async def _keep_no_copies(_: Sha256) -> None:
    """What `on_purge` is until somebody has copies."""


def _unreadable(error: OSError) -> Finding:
    return Finding(line=1, column=1, path="", message=f"The file cannot be read: {error.strerror or error}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """How ledger and file stand. `disk` is the SHA-256 of the file; None if there is no file."""

    newest: ConfigRevision
    disk: Sha256 | None


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Run short work to its end even if the caller is cancelled meanwhile; then the cancellation goes on."""
    running = asyncio.create_task(work)
    interruption: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            interruption = error
    if interruption is not None:
        if not running.cancelled() and (failure := running.exception()) is not None:
            _log.warning("While saving the config for somebody who left: %s", failure)
        raise interruption
    return running.result()

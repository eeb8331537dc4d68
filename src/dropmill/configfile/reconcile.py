"""Keeps the config file in step with the ledger: takes over edits, writes revisions into the file.

The newest revision in the ledger is the truth, the file is its mirror. A save is written beside the file, committed to
the ledger and exchanged with the file; then the ledger records that the file holds it. After a kill at any point, file
and ledger hold the old or the new text whole, and the next start finishes the rest. A file that cannot be replaced is
overwritten instead, at the same point of this order: a kill may leave that file torn, which the next start recognises
and repairs. An edit by any editor becomes a revision. A file that cannot be used never replaces the last good revision:
the next save keeps its bytes aside.

Nothing here locks: callers make sure that one call runs at a time.
"""

import asyncio
import contextlib
import errno
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from dropmill import assets
from dropmill.configfile import file_sync
from dropmill.configfile.schema.file import SchemaFile
from dropmill.configfile.yaml.findings import Finding
from dropmill.model.config import ConfigLocation, ConfigRevision
from dropmill.model.errors import ConfigConflict, OutOfSpace, SettingsError, Unavailable
from dropmill.model.faults import OF_THE_FILE, TEMPORARY, fault_of
from dropmill.model.ids import Sha256
from dropmill.model.internal import AnyCaller
from dropmill.ports.ledger.config import ConfigLedger

T = TypeVar("T")

AT_START_UP: Final = "at start-up"
CHANGED_OUTSIDE: Final = "changed outside of Dropmill"
RECORDED_ERRORS: Final = 20  # of a refused text; the ledger stores no more
SETTLE_S: Final = 0.2  # editors empty a file before they write it, so a content counts once it has lasted this long

_SETTLE_ROUNDS: Final = 10
_HISTORY: Final = 50  # revisions read at once, to find one that the file may still hold
_FULL_OR_READ_ONLY: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigProblem:
    """How the file on disk differs from the newest revision, which is what scripts get.

    Attributes:
        sha256: of the bytes on disk; None when there is no file or it cannot be read.
        sentence: what is wrong, without a full stop.
        is_refused: whether the bytes on disk cannot be used; then no revision holds them.
    """

    sha256: Sha256 | None
    sentence: str
    is_refused: bool = False

    @classmethod
    def refused(cls, sha256: Sha256 | None, findings: Sequence[Finding]) -> "ConfigProblem":
        """The problem of a text that a check refused, or of an unreadable file. Its sentence is the first finding."""
        first = findings[0]
        sentence = f"line {first.line}, column {first.column}: {first.message}"
        return cls(sha256=sha256, sentence=sentence, is_refused=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """The newest revision, and the SHA-256 of the file's content (`disk`); None if there is no file."""

    newest: ConfigRevision
    disk: Sha256 | None


class Reconciler:
    """The file of one server, and its place in the ledger.

    Attributes:
        path: the file; followed if it is a symbolic link.
        aside: folder for what the file held while it is written in place.
        problem: how the file differs from the newest revision; None if it does not.
    """

    def __init__(self, location: ConfigLocation, ledger: ConfigLedger, schema_file: SchemaFile, aside: Path) -> None:
        """Touch nothing yet. The arguments are those of `ConfigFile`."""
        self.path: Final = Path(location.path)
        self.aside: Final = aside
        self.problem: ConfigProblem | None = None
        self._location: Final = location
        self._ledger = ledger
        self._schema_file = schema_file
        self._warned_of: str | None = None

    async def open(self) -> str | None:
        """Bring file and ledger together at the server's start; see `ConfigFile.open`."""
        await self._ledger.use_config_file(self._location)
        newest, in_file = await self._ledger.config_position(self._location)
        unfinished = newest.sha256 if newest is not None and newest.number != in_file else None
        await asyncio.to_thread(file_sync.sweep, self.path, self.aside, unfinished=unfinished)
        if newest is None:
            return await self._open_first()
        try:
            disk = (await self.reconcile()).disk
        except TEMPORARY as error:
            _log.warning("%s", error)
            return None
        if disk is None and await self.mirror(newest, disk):
            return f"{self.path} was missing; the newest revision of the config was written there."
        return None

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

    async def newest(self) -> ConfigRevision:
        """The newest revision in the ledger; the file is not read.

        Raises:
            Unavailable: `open` has not succeeded yet.
        """
        return (await self._position())[0]

    async def _position(self) -> tuple[ConfigRevision, int | None]:
        """The newest revision, and the number of the one that the file was last recorded to hold."""
        newest, in_file = await self._ledger.config_position(self._location)
        if newest is None:
            raise Unavailable("The config is not open yet.")
        return newest, in_file

    async def reconcile(self) -> Seen:
        """Take over an edit of the file, finish what a crash left; return the state of both.

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
                if error.errno not in OF_THE_FILE:  # a shortage on the server's side says nothing about the config
                    raise fault_of(error, "The config file") from error
                await self._reject(None, (_unreadable(error),))
                raise Unavailable(f"{self.path} cannot be read: {error.strerror or error}.") from error
            disk = file_sync.sha256_of(text)
            if (seen := await self._without_edit(newest, in_file, text, disk)) is not None:
                return seen
            if disk == before and not is_first:
                if text is None:
                    self._differs(None, "it is missing")
                    return Seen(newest=newest, disk=None)
                with contextlib.suppress(ConfigConflict):  # another process saved meanwhile: read again
                    return await self._take_over(text, newest)
            before, is_first = disk, False
            await asyncio.sleep(SETTLE_S)
        raise Unavailable(f"{self.path} is written to continuously; try again when that has stopped.")

    async def _without_edit(
        self, newest: ConfigRevision, in_file: int | None, text: bytes | None, disk: Sha256 | None
    ) -> Seen | None:
        """The state if nobody edited the file since it was last read; else None."""
        if disk == newest.sha256:
            self.problem = None
            if newest.number != in_file:
                await self._ledger.record_in_file(self._location, newest.number)
                with contextlib.suppress(OSError):  # the sweep at the next start removes it
                    await asyncio.to_thread(file_sync.drop_before, self.aside, newest.sha256)
            return Seen(newest=newest, disk=disk)
        if newest.number != in_file and await self._is_unfinished(newest, in_file, text, disk):
            is_written = await self.mirror(newest, disk)
            return Seen(newest=newest, disk=newest.sha256 if is_written else disk)
        # Missing or refused, and already reported. A file may be missing for a moment: some editors do that.
        is_known = self.problem is not None and self.problem.sha256 == disk
        return Seen(newest=newest, disk=disk) if is_known else None

    async def _take_over(self, text: bytes, newest: ConfigRevision) -> Seen:
        """Make a revision of an edit of the file, if it can be used."""
        disk = file_sync.sha256_of(text)
        report = await self._schema_file.check(text)
        if not report.is_valid:
            await self._reject(disk, report.errors)
            return Seen(newest=newest, disk=disk)
        revision = await self._ledger.save_revision(
            text, base=newest.sha256, client=None, account=None, message=CHANGED_OUTSIDE, found_at=self._location
        )
        self.problem = None
        return Seen(newest=revision, disk=disk)

    async def _reject(self, disk: Sha256 | None, findings: tuple[Finding, ...]) -> None:
        problem = ConfigProblem.refused(disk, findings)
        if problem == self.problem:
            return
        errors = [finding.as_json() for finding in findings[:RECORDED_ERRORS]]
        await self._ledger.reject_config(errors, None, None)
        self.problem = problem
        _log.warning("%s, %s; the last good revision stays in use.", self.path, problem.sentence)

    def _differs(self, disk: Sha256 | None, sentence: str) -> None:
        """Report, once, that the file does not hold the newest revision although nobody edited it."""
        problem = ConfigProblem(sha256=disk, sentence=sentence)
        if problem != self.problem:
            self.problem = problem
            _log.warning("%s does not hold the newest config, which is in use: %s.", self.path, sentence)

    async def _is_unfinished(
        self, newest: ConfigRevision, in_file: int | None, text: bytes | None, disk: Sha256 | None
    ) -> bool:
        """Whether the newest revision, not recorded to be in the file, did not reach it or did so in part."""
        if text is None or disk is None:
            return in_file is not None  # a file that never held a revision has no unfinished save
        if in_file is not None and await self._is_behind(newest, in_file, disk):
            return True
        wanted = await self._ledger.revision_text(newest.sha256)
        return await asyncio.to_thread(file_sync.is_torn, text, wanted, self.aside)

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

    async def commit(self, caller: AnyCaller, text: bytes, seen: Seen, message: str | None) -> ConfigRevision:
        """Save a checked text as the newest revision, and put it into the file. Run this with `to_the_end`.

        Raises:
            ConfigConflict: the newest revision is not that of `seen` any more. Nothing was changed.
            OutOfSpace, Unavailable: the file or the ledger cannot be written. Nothing was changed.
        """
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
        except BaseException:
            await asyncio.to_thread(written.discard)
            raise
        await self._swap(written, revision, seen.disk)
        return revision

    async def mirror(self, revision: ConfigRevision, disk: Sha256 | None) -> bool:
        """Write a revision that the ledger holds into the file; False if that is not possible now."""
        return await to_the_end(self._write_mirror(revision, disk))

    async def _write_mirror(self, revision: ConfigRevision, disk: Sha256 | None) -> bool:
        text = await self._ledger.revision_text(revision.sha256)
        try:
            written = await self._prepare(text, disk)
        except OSError as error:
            self._differs(disk, f"it cannot be written: {error.strerror or error}")
            return False
        return await self._swap(written, revision, disk)

    async def _prepare(self, text: bytes, disk: Sha256 | None) -> file_sync.Replacement:
        problem = self.problem
        keep = problem is not None and problem.is_refused and disk is not None and problem.sha256 == disk
        return await asyncio.to_thread(file_sync.prepare, self.path, text, aside=self.aside, keep=keep)

    async def _swap(self, written: file_sync.Replacement, revision: ConfigRevision, disk: Sha256 | None) -> bool:
        try:
            is_there = await asyncio.to_thread(written.put_in_place, disk)
        except OSError as error:
            self._differs(disk, f"it cannot be replaced: {error.strerror or error}")
            return False
        if is_there:
            self.problem = None
            try:
                await self._ledger.record_in_file(self._location, revision.number)
            except TEMPORARY as error:  # the file is right; the next poll records it
                self.warn(f"{self.path} is replaced, but that is not recorded yet: {error}")
        return is_there

    def warn(self, sentence: str) -> None:
        """Log a warning, unless it was the last one logged: every poll would repeat it."""
        if sentence != self._warned_of:
            self._warned_of = sentence
            _log.warning("%s", sentence)


def _unreadable(error: OSError) -> Finding:
    return Finding(line=1, column=1, path="", message=f"The file cannot be read: {error.strerror or error}")


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Run short work to its end even if the caller is cancelled meanwhile; then raise the cancellation."""
    running = asyncio.create_task(work)
    interruption: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            interruption = error
    if interruption is not None:
        if not running.cancelled() and (failure := running.exception()) is not None:
            _log.warning("Saving the config failed after its caller had left: %s", failure)
        raise interruption
    return running.result()

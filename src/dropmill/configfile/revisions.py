"""The config: read, checked, saved and watched, with its history.

The newest revision in the ledger is the truth; the file is its mirror (`reconcile`). Texts are read in a child process
(`parser`), the file in threads (`file_sync`). Nothing here decides who may save, or knows HTTP.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from watchfiles import awatch
from watchfiles._rust_notify import WatchfilesRustInternalError

from dropmill.configfile import file_sync
from dropmill.configfile.parser import Changes, Edit, Form, ParserProcess
from dropmill.configfile.reconcile import RECORDED_ERRORS, SETTLE_S, ConfigProblem, Reconciler, to_the_end
from dropmill.configfile.schema.file import SchemaFile
from dropmill.configfile.yaml.edits import Operation
from dropmill.configfile.yaml.findings import Report
from dropmill.health import Health
from dropmill.model.caller import Caller
from dropmill.model.config import ConfigLocation, ConfigRevision
from dropmill.model.errors import (
    ConfigConflict,
    ConfigInvalid,
    DropmillError,
    NotFound,
    PreconditionRequired,
    RevisionInUse,
    Unavailable,
)
from dropmill.model.faults import TEMPORARY
from dropmill.model.ids import Sha256
from dropmill.model.internal import AnyCaller
from dropmill.ports.ledger.config import ConfigLedger
from dropmill.ports.ledger.page import Page

POLL_INTERVAL_S: Final = 2.0  # for changes without a notification: network file systems, the command line's own saves


def etag(revision: ConfigRevision) -> str:
    """The strong entity tag of a revision's bytes, quoted (RFC 9110 section 8.8.3)."""
    return f'"{revision.sha256}"'


class ConfigFile:
    """The config of one server. Many tasks may call it at once.

    Attributes:
        path: of the file; followed if it is a symbolic link.
        on_purge: awaited with the SHA-256 of a purged text, to remove copies that other parts have made of it.
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
            aside: folder for what the file held while it is written in place; created when needed.
            health: gets the faults of watching the file; None: they are not reported.
        """
        self.path: Final = Path(location.path)
        self.on_purge: Callable[[Sha256], Awaitable[None]] = _keep_no_copies
        self._health = health or Health()
        self._ledger = ledger
        self._parser = parser
        self._schema_file = SchemaFile(self.path, parser)
        self._file = Reconciler(location, ledger, self._schema_file, aside)
        self._lock = asyncio.Lock()  # held for each call of `_file`

    async def open(self) -> str | None:
        """Bring file and ledger together at the server's start; the server calls it before anything else.

        From then on the ledger names this file as the one that the server edits. The command line does not call this.

        Returns:
            A sentence for the terminal if the file was missing and has been written, else None.

        Raises:
            SettingsError: there is no usable config: none in the ledger, and the file cannot be used (the sentence
                names file, line and column), read or written.
        """
        async with self._lock:
            return await self._file.open()

    def problem(self, caller: Caller) -> ConfigProblem | None:
        """How the file on disk differs from the newest revision; None if it does not."""
        return self._file.problem

    async def read(self, caller: AnyCaller) -> tuple[bytes, ConfigRevision]:
        """The config as it is now, edits of the file included; the last good revision while there is a `problem`."""
        async with self._lock:
            try:
                newest = (await self._file.reconcile()).newest
            except TEMPORARY as error:
                self._file.warn(str(error))
                newest = await self._file.newest()
        return await self._ledger.revision_text(newest.sha256), newest

    async def newest(self, caller: Caller) -> ConfigRevision | None:
        """The newest revision in the ledger; None before the first one. Does not read the file."""
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

    async def changes(self, caller: Caller, before: Sha256, after: Sha256 | None) -> tuple[Sha256, Changes]:
        """The keys whose values differ between two revisions.

        Args:
            caller: who asks.
            before: the older one.
            after: the newer one; None: the newest in the ledger.

        Returns:
            The newer revision's SHA-256, and the keys.

        Raises:
            NotFound: there is no such revision, or none at all.
            Removed: the text of one of them was purged.
            ConfigInvalid: a text that was accepted once is no longer readable; with `errors`.
            Unavailable: texts cannot be read now.
        """
        if after is None:
            newest = await self._ledger.newest_revision()
            if newest is None:
                raise NotFound("There is no config yet.")
            after = newest.sha256
        texts = [await self._ledger.revision_text(sha256) for sha256 in (before, after)]
        return after, await self._parser.changes(*texts)

    async def check(self, caller: Caller, text: bytes) -> Report:
        """What a check finds in a text; changes nothing."""
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
            SchemaUnusable: there is one that cannot be used; configs are checked without it.
        """
        return await self._schema_file.read()

    async def save(
        self, caller: AnyCaller, text: bytes, if_match: Sha256 | None, message: str | None
    ) -> ConfigRevision:
        """Replace the config with exactly these bytes.

        Cancelling leaves the old or the new config, whole, in both file and ledger. Once the ledger has the text, it is
        saved: if the file cannot be replaced then, that is logged, and the next poll tries again.

        Args:
            caller: the author.
            text: the whole new text.
            if_match: SHA-256 of the text that the author saw.
            message: the author's note for the history; None without one.

        Returns:
            The new revision, or the newest one if it holds the same bytes.

        Raises:
            PreconditionRequired: `if_match` is None.
            ConfigConflict: somebody else saved first; with `current_etag` and `current`, the newest text.
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
        """Change values of the newest revision in place and save the result; like `save`.

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
        """Save the text of an older revision as the newest one; like `save`, with its checks.

        Args:
            caller: the author.
            sha256: of the older revision.
            if_match: as for `save`.
            message: as for `save`; None records which revision was restored.

        Raises:
            NotFound: there is no such revision.
            Removed: its text was purged.
        """
        _required(if_match)
        text = await self._ledger.revision_text(sha256)
        return await self.save(caller, text, if_match, message or f"restored {sha256[:12]}")

    async def purge(self, caller: Caller, sha256: Sha256) -> None:
        """Remove a text from the history, and every copy of it that Dropmill has made. Purging it again is no error.

        After a kill, the next start or another purge finishes it.

        Raises:
            NotFound: there is no such revision.
            RevisionInUse: it is the newest one, jobs are bound to it, or the file on disk still holds it.
            Unavailable: the file cannot be read, or some copy cannot be removed now; purge it again.
        """
        async with self._lock:
            seen = await self._file.reconcile()
            if sha256 == seen.disk != seen.newest.sha256:
                raise RevisionInUse(f"{self.path} still holds it; fix or replace the file, then purge it.")
            await to_the_end(self._purge(caller, sha256))

    async def _save(
        self, caller: AnyCaller, text: bytes, report: Report, base: Sha256, message: str | None
    ) -> ConfigRevision:
        """Make a checked text the newest revision. Every save, edit and restore passes through here."""
        async with self._lock:
            seen = await self._file.reconcile()
            if base != seen.newest.sha256:
                raise await self._conflict(seen.newest)
            if not report.is_valid:
                errors = [finding.as_json() for finding in report.errors]
                await self._ledger.reject_config(errors[:RECORDED_ERRORS], caller.client, caller.account)
                raise ConfigInvalid("The text cannot be used; nothing was saved.", errors=errors)
            if file_sync.sha256_of(text) == seen.newest.sha256:
                if seen.disk != seen.newest.sha256:
                    await self._file.mirror(seen.newest, seen.disk)
                return seen.newest
            try:
                return await to_the_end(self._file.commit(caller, text, seen, message))
            except ConfigConflict:  # another process saved meanwhile
                raise await self._conflict(await self._file.newest()) from None

    async def watch(self) -> None:
        """Take over edits of the file within about two seconds, until cancelled. An unusable edit does not end it.

        Polls a file system that cannot be watched. Survives faults of disk and ledger.
        """
        while True:
            folders = await asyncio.to_thread(file_sync.folders, self.path)
            await self._poll()
            try:
                changes = awatch(
                    *folders,
                    watch_filter=None,  # an editor may rename, a symlink on the way may be swapped: react to any change
                    recursive=False,
                    rust_timeout=int(POLL_INTERVAL_S * 1000),
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
                await asyncio.sleep(POLL_INTERVAL_S)

    async def _poll(self) -> None:
        async def reconcile() -> None:
            async with self._lock:
                await self._file.reconcile()

        await self._health.insist(
            "config", reconcile, first_s=SETTLE_S, most_s=POLL_INTERVAL_S, errors=(DropmillError, OSError)
        )

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
            await asyncio.to_thread(file_sync.drop_copies, self.path, self._file.aside, sha256)
        except OSError as error:
            raise Unavailable(
                f"It is purged from the history, but a copy cannot be removed ({error}); purge it again."
            ) from error


def _required(if_match: Sha256 | None) -> Sha256:
    if if_match is None:
        raise PreconditionRequired("Say which revision this replaces: send its ETag as If-Match.")
    return if_match


async def _keep_no_copies(_: Sha256) -> None:
    """The default of `on_purge`."""

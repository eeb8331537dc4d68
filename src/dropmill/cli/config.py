"""`dropmill config`: check, show, history and restore, on the ledger and the file, whether or not a server runs.

These commands open the ledger without the data folder's lock, and never create or migrate it. The ledger names the file
that the server edits; they read and write no other config. A running server notices a restore as it notices an edit of
the file.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import click

from dropmill.cli.format import printable, size_text, stop_with
from dropmill.cli.offline import ledger_of
from dropmill.cli.options import folder_options
from dropmill.configfile.parser import ParserProcess
from dropmill.configfile.revisions import ConfigFile
from dropmill.configfile.schema.file import SchemaFile
from dropmill.configfile.yaml.findings import MAX_BYTES, Finding
from dropmill.model.config import ConfigLocation, ConfigRevision
from dropmill.model.errors import ConfigInvalid, DropmillError, NotFound, SettingsError
from dropmill.model.ids import Sha256
from dropmill.model.internal import Internal
from dropmill.ports.ledger.config import ConfigLedger
from dropmill.settings import Settings, environment_name
from dropmill.wire.config import revision_json

STDIN: Final = "-"
SHOWN: Final = 12  # digits of a SHA-256: enough to distinguish revisions, and to restore one
_PAGE: Final = 1000
_PREFIX: Final = re.compile(r"[0-9a-f]{6,64}")

Work = Callable[[Settings, bool], Coroutine[Any, Any, int]]
"""Takes the settings, and whether `--config` or its variable was given. Returns the exit code."""


@click.group("config")
def command() -> None:
    """Check the script's config, show it and its history, restore it.

    All of this works with or without a running server.
    """


@command.command()
@click.argument("file", required=False)
@folder_options
def check(file: str | None, **flags: Any) -> None:
    """Check FILE as a save would.

    FILE is a path or - for standard input; by default it is the config itself. Exit 0 if it is valid, 1 if not. The
    schema is config.schema.json in the same folder.
    """
    _run(flags, lambda settings, is_named: _check(settings, is_named, file))


@command.command()
@click.argument("revision", required=False)
@folder_options
def show(revision: str | None, **flags: Any) -> None:
    """Write a revision byte for byte.

    It is the newest one, or the one whose SHA-256 begins with REVISION.
    """
    _run(flags, lambda settings, is_named: _show(settings, is_named, revision))


@command.command()
@folder_options
@click.option("--limit", type=click.IntRange(1), default=50, metavar="N", help="Print at most N lines. Default: 50.")
@click.option("--json", "as_json", is_flag=True, help="Print each revision as one line of JSON.")
def history(limit: int, as_json: bool, **flags: Any) -> None:
    """List the revisions, newest first.

    Each line has the SHA-256, time, size, who saved it, and the message.
    """
    _run(flags, lambda settings, is_named: _history(settings, is_named, limit, as_json=as_json))


@command.command()
@click.argument("revision")
@folder_options
def restore(revision: str, **flags: Any) -> None:
    """Save an older revision as the newest one.

    It is the one whose SHA-256 begins with REVISION.
    """
    _run(flags, lambda settings, is_named: _restore(settings, is_named, revision))


def _run(flags: Mapping[str, Any], work: Work) -> None:
    is_named = bool(flags.get("config") or os.environ.get(environment_name("config")))
    try:
        code = asyncio.run(work(Settings.load(flags, os.environ), is_named))
        sys.stdout.flush()
    except ConfigInvalid as error:
        for found in error.extra["errors"]:
            print(f"line {found['line']}, column {found['column']}: {printable(found['message'])}", file=sys.stderr)
        stop_with(error.detail)
    except SettingsError as error:
        stop_with(error.detail, 2)
    except DropmillError as error:
        stop_with(error.detail)
    except BrokenPipeError:
        # The reader has enough (`dropmill config history | head`). Python would report the pipe again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


async def _check(settings: Settings, is_named: bool, name: str | None) -> int:
    path = await _config_path(settings, is_named) if name is None or name == STDIN else Path(name)
    try:
        text = sys.stdin.buffer.read(MAX_BYTES + 1) if name == STDIN else await asyncio.to_thread(_read, path)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}.") from error
    parser = ParserProcess(keeps_tags=settings.keeps_config_tags)
    try:
        report = await SchemaFile(path.absolute(), parser).check(text)
    finally:
        await parser.close()
    shown = "<stdin>" if name == STDIN else printable(path)
    findings = [(finding, "error") for finding in report.errors] + [(finding, "warning") for finding in report.warnings]
    for finding, kind in sorted(findings, key=_place):
        print(f"{shown}:{finding.line}:{finding.column}: {kind}: {printable(finding.message)}")
    if report.is_valid:
        print(f"{shown}: ok")
    return 0 if report.is_valid else 1


async def _config_path(settings: Settings, is_named: bool) -> Path:
    """The config that the ledger names; without a usable ledger, that of the settings."""
    async with AsyncExitStack() as stack:
        try:
            ledger = await stack.enter_async_context(ledger_of(settings))
        except (SettingsError, OSError):
            return settings.config
        location = await _location(settings, is_named, ledger)
    if location is None or await asyncio.to_thread(_is_same, settings.config, location.path):
        return settings.config
    return Path(location.path)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _place(found: tuple[Finding, str]) -> tuple[int, int]:
    return found[0].line, found[0].column


async def _show(settings: Settings, is_named: bool, revision: str | None) -> int:
    async with ledger_of(settings) as ledger:
        await _location(settings, is_named, ledger)
        sha256 = (await _newest(ledger)).sha256 if revision is None else await _find(ledger, revision)
        text = await ledger.revision_text(sha256)
    sys.stdout.buffer.write(text)
    return 0


async def _history(settings: Settings, is_named: bool, limit: int, *, as_json: bool) -> int:
    async with ledger_of(settings) as ledger:
        await _location(settings, is_named, ledger)
        newest = await _newest(ledger)
        before: str | None = None
        while limit > 0:
            page = await ledger.revisions(before=before, limit=min(limit, _PAGE))
            for revision in page.items:
                print(json.dumps(revision_json(revision)) if as_json else _line(revision, newest))
            limit -= len(page.items)
            before = page.next
            if before is None:
                break
    return 0


async def _restore(settings: Settings, is_named: bool, revision: str) -> int:
    parser = ParserProcess(keeps_tags=settings.keeps_config_tags)
    async with ledger_of(settings) as ledger:
        location = await _location(settings, is_named, ledger)
        if location is None:
            raise await _not_here(ledger)
        try:
            sha256 = await _find(ledger, revision)
            config = ConfigFile(location, ledger, parser, aside=settings.config_aside)
            _, newest = await config.read(
                Internal.COMMAND_LINE
            )  # takes over an edit that the server has not noticed yet
            message = f"restored {sha256[:SHOWN]} on the command line"
            saved = await config.restore(Internal.COMMAND_LINE, sha256, newest.sha256, message)
        finally:
            await parser.close()
    if saved.number == newest.number:
        print(f"{sha256[:SHOWN]} is the newest revision already; nothing was changed.")
    else:
        print(f"{sha256[:SHOWN]} is the newest revision now; before, it was {newest.sha256[:SHOWN]}.")
    return 0


async def _location(settings: Settings, is_named: bool, ledger: ConfigLedger) -> ConfigLocation | None:
    """The file that the server on this data folder edits; None if the ledger names none for this host.

    Raises:
        SettingsError: `--config` was given and is another file.
    """
    here = await asyncio.to_thread(lambda: settings.config_location)
    location = next((file for file in await ledger.config_files() if _is_used_here(file, here)), None)
    if is_named and location is not None and not await asyncio.to_thread(_is_same, here.path, location.path):
        raise SettingsError(
            f"--config {settings.config}: the server on this data folder edits {location.path}; leave --config out, "
            "or name that file."
        )
    return location


def _is_used_here(file: ConfigLocation, here: ConfigLocation) -> bool:
    """Whether a server on this host used this file from this data folder, so that the path is valid here."""
    return (file.host, file.data_folder) == (here.host, here.data_folder)


def _is_same(path: str | Path, other: str | Path) -> bool:
    """Whether two paths lead to one file; the file need not exist."""
    return os.path.realpath(path) == os.path.realpath(other)


async def _not_here(ledger: ConfigLedger) -> SettingsError:
    """The reason why no file can be written here, with what to do."""
    for file in await ledger.config_files():
        return SettingsError(
            f"This data folder was used by a server on {file.host}, with --data {file.data_folder} and --config "
            f"{file.path}. Run this there, or start `dropmill serve` here first."
        )
    return SettingsError(
        "No server has recorded its config in this data folder yet; start `dropmill serve` on it first."
    )


async def _newest(ledger: ConfigLedger) -> ConfigRevision:
    newest = await ledger.newest_revision()
    if newest is None:
        raise NotFound("There is no revision of the config yet; start `dropmill serve` first.")
    return newest


async def _find(ledger: ConfigLedger, prefix: str) -> Sha256:
    """The one SHA-256 in the history that begins like this."""
    if _PREFIX.fullmatch(prefix.lower()) is None:
        raise SettingsError(f"{prefix!r} is not a revision: give at least the first 6 digits of its SHA-256.")
    found: set[Sha256] = set()
    before: str | None = None
    while True:
        page = await ledger.revisions(before=before, limit=_PAGE)
        found.update(item.sha256 for item in page.items if item.sha256.startswith(prefix.lower()))
        before = page.next
        if before is None:
            break
    if len(found) > 1:
        raise SettingsError(f"{prefix} matches {len(found)} revisions; give more digits.")
    if not found:
        raise NotFound(f"There is no revision {prefix}; `dropmill config history` lists them.")
    return found.pop()


def _line(revision: ConfigRevision, newest: ConfigRevision) -> str:
    at = revision.saved_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    client = revision.client
    who = [revision.account, *([] if client is None else [client.ip, client.host])]
    mark = "newest" if revision.number == newest.number else "purged" if revision.purged_at is not None else ""
    columns = [
        revision.sha256[:SHOWN],
        at,
        f"{size_text(revision.size):>9}",
        f"{mark:<6}",
        " ".join(printable(word) for word in who if word) or "-",
        printable(revision.message or ""),
    ]
    return "  ".join(columns).rstrip()

"""The config's file and its history, with a real file and a real parser process."""

import asyncio
import contextlib
import errno
import itertools
import os
import random
import stat
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.support.fakes.config_ledger import FakeLedger, location_of
from tests.support.waiting import eventually
from watchfiles import awatch
from watchfiles._rust_notify import WatchfilesRustInternalError

from dropmill import assets
from dropmill.configfile import file_sync, revisions
from dropmill.configfile.parser import Changes, Edit, ParserProcess
from dropmill.configfile.revisions import ConfigFile, etag
from dropmill.configfile.schema.schema import SchemaUnusable
from dropmill.configfile.yaml.document import examine
from dropmill.configfile.yaml.edits import Operation
from dropmill.configfile.yaml.findings import MAX_BYTES
from dropmill.model.caller import Caller
from dropmill.model.client import ClientIdentity
from dropmill.model.config import ConfigRevision
from dropmill.model.errors import (
    ConfigConflict,
    ConfigEditRefused,
    ConfigInvalid,
    NotFound,
    OutOfSpace,
    PreconditionRequired,
    Removed,
    RevisionInUse,
    SettingsError,
    StorageUnavailable,
    Unavailable,
)
from dropmill.model.ids import Sha256

FIRST = b"# kept\na: 1 # one\n"
SECOND = b"# kept\na: 2 # two\n"
THIRD = b"# kept\na: 3 # three\n"
INVALID = b"# typo\na: !x 3\n"
CLIENT = ClientIdentity(ip="192.0.2.7")
CALLER = replace(Caller.everyone(CLIENT), account="ann")
LIVENESS_S = 20.0

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def parser() -> AsyncIterator[ParserProcess]:
    """One for all tests here: it keeps nothing between two checks."""
    parser = ParserProcess()
    yield parser
    await parser.close()


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_bytes(FIRST)
    return path


@pytest.fixture
def config(path: Path, ledger: FakeLedger, parser: ParserProcess) -> ConfigFile:
    return ConfigFile(location_of(path), ledger, parser, aside=path.parent / "aside")


async def save(config: ConfigFile, text: bytes, base: bytes | Sha256 | None) -> ConfigRevision:
    if_match = file_sync.sha256_of(base) if isinstance(base, bytes) else base
    return await config.save(CALLER, text, if_match, "why")


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# --- opening ---------------------------------------------------------------------------------------------------------


async def test_the_first_start_makes_the_file_the_first_revision(config: ConfigFile, ledger: FakeLedger) -> None:
    assert await config.open() is None
    text, revision = await config.read(CALLER)
    assert text == FIRST
    assert (revision.client, revision.message) == (None, "at start-up")
    assert (len(ledger.history), ledger.in_file) == (1, 1)


async def test_a_missing_file_becomes_the_packaged_one_and_that_is_said(config: ConfigFile, path: Path) -> None:
    path.unlink()
    sentence = await config.open()
    assert sentence is not None
    assert str(path) in sentence
    packaged = assets.default_config().read_bytes()
    assert path.read_bytes() == packaged
    assert (await config.read(CALLER))[0] == packaged


async def test_a_first_start_with_an_invalid_file_stops_naming_the_place(
    config: ConfigFile, path: Path, ledger: FakeLedger
) -> None:
    path.write_bytes(INVALID)
    with pytest.raises(SettingsError, match=r"config\.yaml, line 2, column 4: The tag !x"):
        await config.open()
    assert ledger.history == []
    assert path.read_bytes() == INVALID


@pytest.mark.parametrize("kind", ["folder", "pipe", "no folder"])
async def test_a_first_start_with_an_unusable_path_stops_with_a_sentence(
    tmp_path: Path, ledger: FakeLedger, parser: ParserProcess, kind: str
) -> None:
    path = tmp_path / "sub" / "config.yaml"
    if kind != "no folder":
        path.parent.mkdir()
        path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(SettingsError, match=r"--config .*config\.yaml"):
        await ConfigFile(location_of(path), ledger, parser, aside=path.parent / "aside").open()


async def test_a_later_start_with_the_same_file_changes_nothing(config: ConfigFile, ledger: FakeLedger) -> None:
    await config.open()
    assert await config.open() is None
    assert len(ledger.history) == 1


async def test_a_file_edited_while_the_server_was_down_becomes_a_revision(
    config: ConfigFile, path: Path, ledger: FakeLedger
) -> None:
    await config.open()
    path.write_bytes(SECOND)
    await config.open()
    assert ledger.history[-1].message == "changed outside of Dropmill"
    assert ledger.history[-1].client is None
    assert (await config.read(CALLER))[0] == SECOND


async def test_a_file_removed_while_the_server_was_down_is_written_again(config: ConfigFile, path: Path) -> None:
    await config.open()
    path.unlink()
    sentence = await config.open()
    assert sentence is not None
    assert path.read_bytes() == FIRST


async def test_a_start_with_a_broken_file_goes_on_with_the_last_good_revision(
    config: ConfigFile, path: Path, ledger: FakeLedger
) -> None:
    await config.open()
    path.write_bytes(INVALID)
    await config.open()
    problem = config.problem(CALLER)
    assert problem is not None
    assert problem.sentence.startswith("line 2, column 4: The tag !x")
    for _ in range(3):
        assert (await config.read(CALLER))[0] == FIRST
    assert [errors[0]["line"] for errors, _, _ in ledger.rejections] == [2]
    assert path.read_bytes() == INVALID


@pytest.mark.parametrize("on_disk", [FIRST, SECOND, None])
async def test_a_save_that_was_killed_after_its_commit_reaches_the_file_at_the_next_start(
    config: ConfigFile, path: Path, ledger: FakeLedger, on_disk: bytes | None
) -> None:
    await config.open()
    await ledger.save_revision(SECOND, base=file_sync.sha256_of(FIRST), client=CLIENT, account=None, message=None)
    path.unlink()
    if on_disk is not None:
        path.write_bytes(on_disk)
    await config.open()
    assert path.read_bytes() == SECOND
    assert (len(ledger.history), ledger.in_file) == (2, 2)


async def test_two_saves_that_never_reached_the_file_are_finished_too(
    config: ConfigFile, path: Path, ledger: FakeLedger
) -> None:
    await config.open()
    for base, text in ((FIRST, SECOND), (SECOND, THIRD)):
        await ledger.save_revision(text, base=file_sync.sha256_of(base), client=None, account=None, message=None)
    await config.read(CALLER)
    assert path.read_bytes() == THIRD
    assert len(ledger.history) == 3


async def test_an_outside_edit_beats_a_save_that_never_reached_the_file(
    config: ConfigFile, path: Path, ledger: FakeLedger
) -> None:
    """Both are in the history; the edit is what somebody has before their eyes."""
    await config.open()
    await ledger.save_revision(SECOND, base=file_sync.sha256_of(FIRST), client=CLIENT, account=None, message=None)
    path.write_bytes(THIRD)
    await config.open()
    assert path.read_bytes() == THIRD
    texts = [await ledger.revision_text(revision.sha256) for revision in ledger.history]
    assert texts == [FIRST, SECOND, THIRD]


async def test_point_8_however_many_saves_never_reached_the_file_it_is_behind_and_not_edited(
    config: ConfigFile, path: Path, ledger: FakeLedger
) -> None:
    """Each was answered: a disk that takes no bytes for long must not undo them in the end."""
    await config.open()
    base = FIRST
    for number in range(120):
        text = b"number: %d\n" % number
        await ledger.save_revision(text, base=file_sync.sha256_of(base), client=CLIENT, account=None, message=None)
        base = text
    await config.open()
    assert path.read_bytes() == base
    assert (len(ledger.history), ledger.in_file) == (121, 121)


def moved_to(path: Path, ledger: FakeLedger, parser: ParserProcess) -> ConfigFile:
    """The config of a server that is started with another path."""
    return ConfigFile(location_of(path), ledger, parser, aside=path.parent / "aside")


async def test_point_8_a_start_with_another_file_takes_over_what_it_holds_each_time(
    config: ConfigFile, path: Path, ledger: FakeLedger, parser: ParserProcess
) -> None:
    """Two files taking turns: neither is overwritten with the other's text."""
    await config.open()
    other = path.with_name("other.yaml")
    other.write_bytes(SECOND)
    for file, text in ((other, SECOND), (path, FIRST), (other, SECOND)):
        opened = moved_to(file, ledger, parser)
        assert await opened.open() is None
        assert (await opened.read(CALLER))[0] == text
        assert (path.read_bytes(), other.read_bytes()) == (FIRST, SECOND)
        assert ledger.in_file == len(ledger.history)
    texts = [await ledger.revision_text(revision.sha256) for revision in ledger.history]
    assert texts == [FIRST, SECOND, FIRST, SECOND]


@pytest.mark.parametrize("on_disk", [INVALID, None])
async def test_point_8_a_start_with_another_file_that_cannot_be_used_goes_on_with_the_newest_revision(
    config: ConfigFile, path: Path, ledger: FakeLedger, parser: ParserProcess, on_disk: bytes | None
) -> None:
    await config.open()
    other = path.with_name("other.yaml")
    if on_disk is not None:
        other.write_bytes(on_disk)
    opened = moved_to(other, ledger, parser)
    sentence = await opened.open()
    assert (await opened.read(CALLER))[0] == FIRST
    if on_disk is None:
        assert sentence == f"{other} was missing; the newest revision of the config was written there."
        assert other.read_bytes() == FIRST
    else:
        problem = opened.problem(CALLER)
        assert problem is not None
        assert other.read_bytes() == INVALID
    assert len(ledger.history) == 1


async def test_point_8_a_save_that_was_killed_after_its_commit_reaches_the_same_file_under_another_path(
    config: ConfigFile, path: Path, ledger: FakeLedger, parser: ParserProcess
) -> None:
    """As with a new release folder, or a mount that was moved: the file is the one that is behind."""
    await config.open()
    await ledger.save_revision(SECOND, base=file_sync.sha256_of(FIRST), client=CLIENT, account=None, message=None)
    other = path.rename(path.with_name("other.yaml"))
    await moved_to(other, ledger, parser).open()
    assert other.read_bytes() == SECOND
    assert (len(ledger.history), ledger.in_file) == (2, 2)


async def test_point_8_who_began_before_the_server_moved_adds_no_text_of_the_file_that_it_left(
    config: ConfigFile, path: Path, ledger: FakeLedger, parser: ParserProcess
) -> None:
    """The command line has read where the file is; then the server is started with another."""
    await config.open()
    other = path.with_name("other.yaml")
    other.write_bytes(FIRST)
    await moved_to(other, ledger, parser).open()
    path.write_bytes(THIRD)
    assert (await config.read(CALLER))[0] == FIRST
    with pytest.raises(Unavailable, match="edits another config file"):
        await restore(config, FIRST, FIRST)
    assert len(ledger.history) == 1
    assert (path.read_bytes(), other.read_bytes()) == (THIRD, FIRST)


async def test_opening_removes_what_killed_saves_left_and_nothing_else(config: ConfigFile, path: Path) -> None:
    (path.parent / ".config.yaml.0123456789abcdef.dropmill").write_bytes(b"half")
    (path.parent / ".other.yaml.0123456789abcdef.dropmill").write_bytes(b"not ours")
    (path.parent / ".config.yaml.swp").write_bytes(b"an editor's")
    await config.open()
    assert names_in(path.parent) == [".config.yaml.swp", ".other.yaml.0123456789abcdef.dropmill", "config.yaml"]


# --- saving ----------------------------------------------------------------------------------------------------------


async def test_a_save_replaces_file_and_newest_revision_with_exactly_these_bytes(
    config: ConfigFile, path: Path, ledger: FakeLedger
) -> None:
    await config.open()
    text = b"\xef\xbb\xbf# caf\xc3\xa9\r\na:   1   # \tx \r\n\r\n# end without newline"
    revision = await save(config, text, FIRST)
    assert path.read_bytes() == text
    assert await config.read(CALLER) == (text, revision)
    assert (revision.client, revision.account, revision.message) == (CLIENT, "ann", "why")
    assert ledger.in_file == revision.number
    assert etag(revision) == f'"{file_sync.sha256_of(text)}"'
    assert ledger.history[-1] == revision
    assert names_in(path.parent) == ["config.yaml"]


async def test_a_save_without_a_base_is_refused(config: ConfigFile, path: Path) -> None:
    await config.open()
    with pytest.raises(PreconditionRequired):
        await save(config, SECOND, None)
    assert path.read_bytes() == FIRST


async def test_a_stale_save_is_refused_with_the_current_text(
    config: ConfigFile, path: Path, ledger: FakeLedger
) -> None:
    await config.open()
    await save(config, SECOND, FIRST)
    for text in (THIRD, INVALID):
        with pytest.raises(ConfigConflict) as caught:
            await save(config, text, FIRST)
        assert caught.value.extra == {"current_etag": f'"{file_sync.sha256_of(SECOND)}"', "current": SECOND.decode()}
    assert path.read_bytes() == SECOND
    assert len(ledger.history) == 2
    assert ledger.rejections == []


async def test_an_invalid_save_is_refused_with_its_lines_and_recorded(
    config: ConfigFile, path: Path, ledger: FakeLedger
) -> None:
    await config.open()
    with pytest.raises(ConfigInvalid) as caught:
        await save(config, b"".join(b"k%d: !x 1\n" % i for i in range(30)), FIRST)
    assert [error["line"] for error in caught.value.extra["errors"]] == list(range(1, 31))
    ((errors, client, account),) = ledger.rejections
    assert ([error["line"] for error in errors], client, account) == (list(range(1, 21)), CLIENT, "ann")
    assert path.read_bytes() == FIRST
    assert config.problem(CALLER) is None


async def test_saving_the_same_bytes_makes_no_revision(config: ConfigFile, ledger: FakeLedger) -> None:
    await config.open()
    assert (await save(config, FIRST, FIRST)).number == 1
    assert len(ledger.history) == 1


async def test_a_text_over_the_limit_is_refused(config: ConfigFile, path: Path) -> None:
    await config.open()
    with pytest.raises(ConfigInvalid):
        await save(config, b"#" * (MAX_BYTES + 1), FIRST)
    assert path.read_bytes() == FIRST


async def test_an_edit_made_outside_is_never_overwritten_by_a_save(config: ConfigFile, path: Path) -> None:
    await config.open()
    path.write_bytes(SECOND)
    with pytest.raises(ConfigConflict) as caught:
        await save(config, THIRD, FIRST)
    assert caught.value.extra["current"] == SECOND.decode()
    assert path.read_bytes() == SECOND


async def test_an_edit_made_between_commit_and_rename_is_not_overwritten(
    config: ConfigFile, path: Path, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await config.open()
    commit = ledger.save_revision

    async def commit_while_somebody_writes(*args: Any, **named: Any) -> ConfigRevision:
        revision = await commit(*args, **named)
        path.write_bytes(THIRD)
        monkeypatch.undo()
        return revision

    monkeypatch.setattr(ledger, "save_revision", commit_while_somebody_writes)
    await save(config, SECOND, FIRST)
    assert ledger.in_file == 1
    assert path.read_bytes() == THIRD
    assert (await config.read(CALLER))[0] == THIRD
    texts = [await ledger.revision_text(revision.sha256) for revision in ledger.history]
    assert texts == [FIRST, SECOND, THIRD]
    assert names_in(path.parent) == ["config.yaml"]


async def test_mode_and_owner_of_the_file_stay(config: ConfigFile, path: Path) -> None:
    await config.open()
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 23456)
    before = path.stat()
    await save(config, SECOND, FIRST)
    after = path.stat()
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


async def test_a_symbolic_link_stays_and_its_target_is_replaced(
    tmp_path: Path, ledger: FakeLedger, parser: ParserProcess
) -> None:
    target = tmp_path / "elsewhere" / "real.yaml"
    target.parent.mkdir()
    target.write_bytes(FIRST)
    link = tmp_path / "config.yaml"
    link.symlink_to("elsewhere/real.yaml")
    config = ConfigFile(location_of(link), ledger, parser, aside=link.parent / "aside")
    await config.open()
    await save(config, SECOND, FIRST)
    assert link.is_symlink()
    assert target.read_bytes() == SECOND
    assert names_in(target.parent) == ["real.yaml"]


async def test_saving_over_a_broken_file_keeps_a_copy_of_it(config: ConfigFile, path: Path) -> None:
    """Its bytes are in no revision: whoever wrote them must not lose them."""
    await config.open()
    path.write_bytes(INVALID)
    assert (await config.read(CALLER))[0] == FIRST
    await save(config, SECOND, FIRST)
    assert path.read_bytes() == SECOND
    assert path.with_name("config.yaml.rejected").read_bytes() == INVALID
    assert config.problem(CALLER) is None


async def test_saving_the_last_good_text_fixes_a_broken_file(
    config: ConfigFile, path: Path, ledger: FakeLedger
) -> None:
    await config.open()
    path.write_bytes(INVALID)
    assert (await save(config, FIRST, FIRST)).number == 1
    assert path.read_bytes() == FIRST
    assert config.problem(CALLER) is None
    assert len(ledger.history) == 1


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, OutOfSpace), (errno.EDQUOT, OutOfSpace), (errno.EROFS, OutOfSpace), (errno.EACCES, Unavailable)],
)
async def test_a_disk_that_takes_nothing_refuses_the_save_and_changes_nothing(
    config: ConfigFile,
    path: Path,
    ledger: FakeLedger,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    error: type[Exception],
) -> None:
    await config.open()

    def fail(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(error, match="Nothing was saved"):
            await save(config, SECOND, FIRST)
    assert path.read_bytes() == FIRST
    assert names_in(path.parent) == ["config.yaml"]
    assert len(ledger.history) == 1
    assert (await save(config, SECOND, FIRST)).number == 2


async def test_a_write_that_the_kernel_cuts_off_leaves_no_temporary_file(config: ConfigFile, path: Path) -> None:
    """RLIMIT_FSIZE stands for the full disk: the write is refused in the middle of the text."""
    script = f"""
import asyncio, errno, pathlib, resource, signal
from dropmill.configfile import file_sync
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
path = pathlib.Path({str(path)!r})
try:
    file_sync.prepare(path, b"#" * 100_000, aside=path.parent, keep=False)
except OSError as error:
    print(errno.errorcode[error.errno], sorted(entry.name for entry in path.parent.iterdir()))
"""
    run = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert run.stdout == "EFBIG ['config.yaml']\n"
    assert path.read_bytes() == FIRST


async def test_a_ledger_that_refuses_leaves_the_file_as_it_was(
    config: ConfigFile, path: Path, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await config.open()

    async def away(*_: object, **__: object) -> ConfigRevision:
        raise Unavailable("The ledger is away.")

    monkeypatch.setattr(ledger, "save_revision", away)
    with pytest.raises(Unavailable):
        await save(config, SECOND, FIRST)
    assert path.read_bytes() == FIRST
    assert names_in(path.parent) == ["config.yaml"]


async def test_point_2_a_file_that_cannot_be_renamed_over_is_written_in_place(
    config: ConfigFile, path: Path, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be known before the commit: the exchange itself fails."""
    await config.open()

    def fail(*_: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    inode = path.stat().st_ino
    monkeypatch.setattr(file_sync, "_exchange", fail)
    revision = await save(config, SECOND, FIRST)
    assert (revision.number, ledger.in_file) == (2, 2)
    assert path.read_bytes() == SECOND
    assert path.stat().st_ino == inode
    assert names_in(path.parent) == ["aside", "config.yaml"]
    assert names_in(path.parent / "aside") == []


async def test_point_2_a_file_that_cannot_be_written_after_the_commit_is_a_problem_until_it_can(
    config: ConfigFile,
    path: Path,
    ledger: FakeLedger,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await config.open()

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(file_sync, "_exchange", fail)
        revision = await save(config, SECOND, FIRST)
        assert (revision.number, ledger.in_file) == (2, 1)
        assert path.read_bytes() == FIRST
        for _ in range(3):
            assert (await config.read(CALLER))[0] == SECOND
        problem = config.problem(CALLER)
        assert problem is not None
        assert problem.sentence == "it cannot be replaced: Input/output error"
        assert caplog.text.count("it cannot be replaced") == 1
    assert (await config.read(CALLER))[0] == SECOND
    assert path.read_bytes() == SECOND
    assert config.problem(CALLER) is None
    assert ledger.in_file == ledger.history[-1].number
    assert names_in(path.parent) == ["config.yaml"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
async def test_point_2_a_write_in_place_that_fails_gives_the_old_bytes_back(
    config: ConfigFile, path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    await config.open()
    monkeypatch.setattr(file_sync, "_is_mount_point", lambda _: True)
    whole = os.pwrite

    def fail_in_the_middle(descriptor: int, text: bytes, at: int) -> int:
        if text.startswith(b"# kept") and b"two" in text:
            whole(descriptor, text[:9], at)
            raise OSError(number, os.strerror(number))
        return whole(descriptor, text, at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail_in_the_middle)
        await save(config, SECOND, FIRST)
        assert path.read_bytes() == FIRST
        problem = config.problem(CALLER)
        assert problem is not None
    assert (await config.read(CALLER))[0] == SECOND
    assert path.read_bytes() == SECOND
    assert config.problem(CALLER) is None
    assert names_in(path.parent / "aside") == []


@pytest.mark.parametrize("cut", [0, 5, 9, 15])
@pytest.mark.parametrize("second", [b"b: [2, 3]\n# other\n", b"b: 2\n" + b"# longer\n" * 200, b"b: 2\n"])
async def test_point_2_a_torn_file_is_written_again_at_the_next_start_and_is_no_edit(
    config: ConfigFile,
    path: Path,
    ledger: FakeLedger,
    parser: ParserProcess,
    monkeypatch: pytest.MonkeyPatch,
    cut: int,
    second: bytes,
) -> None:
    await config.open()
    monkeypatch.setattr(file_sync, "_is_mount_point", lambda _: True)

    class Killed(BaseException):
        """Nothing catches it, as nothing catches a kill."""

    whole = os.pwrite

    def die(descriptor: int, text: bytes, at: int) -> int:
        whole(descriptor, text[:cut], at)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", die)
        with pytest.raises(Killed):
            await save(config, second, FIRST)
    again = ConfigFile(location_of(path), ledger, parser, aside=path.parent / "aside")
    await again.open()
    assert path.read_bytes() == second
    assert [revision.sha256 for revision in ledger.history] == [file_sync.sha256_of(FIRST), file_sync.sha256_of(second)]
    assert ledger.in_file == ledger.history[-1].number
    assert ledger.rejections == []
    assert names_in(path.parent / "aside") == []


async def test_point_2_an_edit_made_after_a_kill_is_an_edit_though_a_save_was_unfinished(
    config: ConfigFile, path: Path, ledger: FakeLedger, parser: ParserProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last line is taken away by hand: that is no state that a torn write leaves."""
    first = FIRST + b"b: 1\n"
    path.write_bytes(first)
    await config.open()
    monkeypatch.setattr(file_sync, "_is_mount_point", lambda _: True)

    def die(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(file_sync, "_write_whole", die)
        with contextlib.suppress(asyncio.CancelledError):
            await save(config, b"a: 2\n", first)
    assert path.read_bytes() == first
    path.write_bytes(FIRST)
    again = ConfigFile(location_of(path), ledger, parser, aside=path.parent / "aside")
    await again.open()
    assert path.read_bytes() == FIRST
    assert ledger.history[-1].sha256 == file_sync.sha256_of(FIRST)


async def test_point_2_a_refused_text_is_kept_aside_before_it_is_written_over(
    config: ConfigFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await config.open()
    monkeypatch.setattr(file_sync, "_is_mount_point", lambda _: True)
    path.write_bytes(INVALID)
    await save(config, SECOND, FIRST)
    assert path.read_bytes() == SECOND
    assert path.with_name("config.yaml.rejected").read_bytes() == INVALID


async def test_a_client_that_leaves_at_any_moment_leaves_old_or_new_whole(
    config: ConfigFile, path: Path, ledger: FakeLedger
) -> None:
    await config.open()
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    outcomes = {"old": 0, "new": 0}
    span_s = 0.01  # kept so that about every second save is cut off, however busy the machine is
    for i in range(40):  # each cut costs a new parser process
        before, newest = await config.read(CALLER)
        text = f"# save {i}\na: {'x' * 5000}\n".encode()
        saving = asyncio.create_task(save(config, text, newest.sha256))
        await asyncio.sleep(rng.random() * span_s)
        saving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await saving
        on_disk = path.read_bytes()
        assert on_disk in (before, text)
        assert names_in(path.parent) == ["config.yaml"]
        assert ledger.history[-1].sha256 == file_sync.sha256_of(on_disk)
        assert ledger.in_file == ledger.history[-1].number
        outcomes["new" if on_disk == text else "old"] += 1
        span_s *= 0.8 if on_disk == text else 1.25
    print(outcomes)
    assert min(outcomes.values()) > 0


async def test_of_two_writers_with_the_same_base_exactly_one_wins(
    config: ConfigFile, path: Path, ledger: FakeLedger, parser: ParserProcess
) -> None:
    """In one instance, and with two instances on one file and ledger."""
    await config.open()
    other = ConfigFile(location_of(path), ledger, parser, aside=path.parent / "aside")
    for i in range(100):
        base = (await config.read(CALLER))[1].sha256
        texts = [f"# race {i}\nwriter: {writer}\n".encode() for writer in "ab"]
        answers = await asyncio.gather(
            save(config, texts[0], base),
            save(other if i % 5 == 0 else config, texts[1], base),
            return_exceptions=True,
        )
        winners = [text for text, answer in zip(texts, answers, strict=True) if isinstance(answer, ConfigRevision)]
        losers = [answer for answer in answers if isinstance(answer, ConfigConflict)]
        assert (len(winners), len(losers)) == (1, 1), answers
        assert losers[0].extra["current"] == winners[0].decode()
        assert (await config.read(CALLER))[0] == path.read_bytes() == winners[0]
    assert len(ledger.history) == 101


# --- value edits -----------------------------------------------------------------------------------------------------


def replacing(value: object) -> tuple[Operation, ...]:
    return (Operation(kind="replace", path=("a",), value=value),)


async def edit(config: ConfigFile, value: object, base: bytes | None) -> tuple[ConfigRevision, Edit]:
    if_match = None if base is None else file_sync.sha256_of(base)
    return await config.edit(CALLER, replacing(value), if_match, "why")


async def test_an_edit_is_saved_as_a_save_is(config: ConfigFile, path: Path, ledger: FakeLedger) -> None:
    await config.open()
    revision, edited = await edit(config, 7, FIRST)
    assert path.read_bytes() == edited.text == b"# kept\na: 7 # one\n"
    assert (revision.number, revision.client, revision.account, revision.message) == (2, CLIENT, "ann", "why")
    assert ledger.in_file == revision.number
    assert (await config.read(CALLER))[1] == revision
    assert names_in(path.parent) == ["config.yaml"]


async def test_an_edit_reads_the_old_and_the_new_text_once_each(
    config: ConfigFile, parser: ParserProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an edit made is not checked once more: the parser process is asked once."""
    await config.open()
    calls: list[str] = []

    def watch(name: str) -> None:
        call = getattr(parser, name)

        async def watched(*args: Any) -> Any:
            calls.append(name)
            return await call(*args)

        monkeypatch.setattr(parser, name, watched)

    watch("check")
    watch("edit")
    await edit(config, 7, FIRST)
    assert calls == ["edit"]


async def test_an_edit_names_what_it_changes_as_a_save_does(config: ConfigFile, path: Path) -> None:
    await config.open()
    with pytest.raises(PreconditionRequired):
        await edit(config, 7, None)
    path.write_bytes(SECOND)
    with pytest.raises(ConfigConflict) as caught:
        await edit(config, 7, FIRST)
    assert caught.value.extra["current"] == SECOND.decode()
    assert path.read_bytes() == SECOND


async def test_an_edit_that_is_refused_changes_nothing(config: ConfigFile, path: Path, ledger: FakeLedger) -> None:
    await config.open()
    with pytest.raises(ConfigEditRefused):
        await config.edit(CALLER, (Operation(kind="remove", path=("b",)),), file_sync.sha256_of(FIRST), None)
    assert (path.read_bytes(), len(ledger.history)) == (FIRST, 1)


async def test_an_edit_that_changes_nothing_makes_no_revision(config: ConfigFile, ledger: FakeLedger) -> None:
    await config.open()
    assert (await edit(config, 1, FIRST))[0].number == 1
    assert len(ledger.history) == 1


async def test_the_keys_that_changed_between_two_revisions(config: ConfigFile, path: Path, ledger: FakeLedger) -> None:
    await config.open()
    first = await config.newest(CALLER)
    assert first is not None
    second = await save(config, b"name: x\nsize: {w: 1}\n", first.sha256)
    third = await save(config, b"name: x # why\nsize: {w: 2}\n", second.sha256)
    assert await config.changes(CALLER, second.sha256, third.sha256) == (
        third.sha256,
        Changes(keys=("size.w",), is_cut=False),
    )
    assert await config.changes(CALLER, second.sha256, None) == (
        third.sha256,
        Changes(keys=("size.w",), is_cut=False),
    )
    assert (await config.changes(CALLER, third.sha256, third.sha256))[1].keys == ()
    for pair in ((Sha256("0" * 64), third.sha256), (third.sha256, Sha256("0" * 64))):
        with pytest.raises(NotFound):
            await config.changes(CALLER, *pair)
    await config.purge(CALLER, second.sha256)
    with pytest.raises(Removed):
        await config.changes(CALLER, second.sha256, third.sha256)


async def test_of_two_edits_of_the_same_revision_one_wins(config: ConfigFile, path: Path, ledger: FakeLedger) -> None:
    await config.open()
    answers = await asyncio.gather(*(edit(config, value, FIRST) for value in range(2, 7)), return_exceptions=True)
    winners = [answer for answer in answers if isinstance(answer, tuple)]
    assert len(winners) == 1
    assert all(isinstance(answer, ConfigConflict) for answer in answers if answer is not winners[0])
    assert path.read_bytes() == winners[0][1].text
    assert len(ledger.history) == 2


async def test_an_edit_cut_off_at_any_moment_leaves_old_or_new_whole(
    config: ConfigFile, path: Path, ledger: FakeLedger
) -> None:
    await config.open()
    rng = random.Random(7)
    span_s = 0.01
    outcomes = {"old": 0, "new": 0}
    for value in range(20):
        before, newest = await config.read(CALLER)
        editing = asyncio.create_task(config.edit(CALLER, replacing(1000 + value), newest.sha256, None))
        await asyncio.sleep(rng.random() * span_s)
        editing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await editing
        on_disk = path.read_bytes()
        assert on_disk in (before, b"# kept\na: %d # one\n" % (1000 + value))
        assert names_in(path.parent) == ["config.yaml"]
        assert ledger.history[-1].sha256 == file_sync.sha256_of(on_disk)
        outcomes["old" if on_disk == before else "new"] += 1
        span_s *= 1.25 if on_disk == before else 0.8
    print(outcomes)
    assert min(outcomes.values()) > 0


# --- the schema ------------------------------------------------------------------------------------------------------

SMALL = b'{"properties": {"a": {"maximum": 2}}}'


async def test_every_way_in_obeys_the_schema(config: ConfigFile, path: Path, ledger: FakeLedger) -> None:
    await config.open()
    assert await config.schema(CALLER) is None
    path.with_name("config.schema.json").write_bytes(SMALL)
    assert await config.schema(CALLER) == SMALL
    assert (await config.check(CALLER, THIRD)).errors[0].line == 2
    with pytest.raises(ConfigInvalid):
        await save(config, THIRD, FIRST)
    with pytest.raises(ConfigInvalid):
        await edit(config, 3, FIRST)
    path.write_bytes(THIRD)
    assert (await config.read(CALLER))[0] == FIRST
    problem = config.problem(CALLER)
    assert problem is not None
    assert problem.sentence.startswith("line 2, column 4: a must be")
    assert len(ledger.rejections) == 3
    await save(config, SECOND, FIRST)
    assert path.read_bytes() == SECOND
    form = await config.form(CALLER, FIRST, replacing(2))
    assert form.text == b"# kept\na: 2 # one\n"
    assert form.fields[1]["schema"] == {"maximum": 2}


async def test_a_first_start_obeys_the_schema(config: ConfigFile, path: Path) -> None:
    path.with_name("config.schema.json").write_bytes(b'{"required": ["b"]}')
    with pytest.raises(SettingsError, match=r"config\.yaml, line 2, column 1: "):
        await config.open()


async def test_a_config_that_a_newer_schema_forbids_stays_in_use(config: ConfigFile, path: Path) -> None:
    """The schema judges what comes, not what is there: a typing error in it must not stop anything."""
    await config.open()
    path.with_name("config.schema.json").write_bytes(b'{"required": ["b"]}')
    await config.open()
    assert (await config.read(CALLER))[0] == FIRST
    assert config.problem(CALLER) is None


@pytest.mark.parametrize("content", [b"{", b'{"type": "objekt"}', b" " * (MAX_BYTES + 1), None])
async def test_a_schema_that_cannot_be_used_is_a_warning(config: ConfigFile, path: Path, content: bytes | None) -> None:
    schema = path.with_name("config.schema.json")
    schema.mkdir() if content is None else schema.write_bytes(content)
    await config.open()
    for report in (
        await config.check(CALLER, SECOND),
        (await config.form(CALLER, SECOND, ())).report,
        (await edit(config, 2, FIRST))[1].report,
    ):
        assert report.is_valid
        (warning,) = report.warnings
        assert "config.schema.json cannot be" in warning.message
        assert warning.message.endswith("the config is checked without it")
    with pytest.raises(SchemaUnusable, match="cannot be"):
        await config.schema(CALLER)


# --- going back ------------------------------------------------------------------------------------------------------


async def restore(config: ConfigFile, text: bytes, base: bytes | None, message: str | None = None) -> ConfigRevision:
    if_match = None if base is None else file_sync.sha256_of(base)
    return await config.restore(CALLER, file_sync.sha256_of(text), if_match, message)


async def test_a_restored_revision_is_the_newest_with_its_own_author(
    config: ConfigFile, path: Path, ledger: FakeLedger
) -> None:
    await config.open()
    await save(config, SECOND, FIRST)
    restored = await restore(config, FIRST, SECOND)
    assert path.read_bytes() == FIRST
    assert (restored.number, restored.sha256) == (3, file_sync.sha256_of(FIRST))
    assert (restored.client, restored.account) == (CLIENT, "ann")
    assert restored.message == f"restored {restored.sha256[:12]}"
    assert (await restore(config, SECOND, FIRST, "back to two")).message == "back to two"
    assert [revision.number for revision in ledger.history] == [1, 2, 3, 4]


async def test_a_restore_names_what_it_replaces_as_a_save_does(config: ConfigFile, path: Path) -> None:
    await config.open()
    await save(config, SECOND, FIRST)
    with pytest.raises(PreconditionRequired):
        await restore(config, FIRST, None)
    with pytest.raises(ConfigConflict) as caught:
        await restore(config, FIRST, FIRST)
    assert caught.value.extra["current"] == SECOND.decode()
    with pytest.raises(NotFound):
        await restore(config, THIRD, SECOND)
    assert path.read_bytes() == SECOND


async def test_restoring_the_newest_changes_nothing(config: ConfigFile, ledger: FakeLedger) -> None:
    await config.open()
    assert (await restore(config, FIRST, FIRST)).number == 1
    assert len(ledger.history) == 1


# --- purging ---------------------------------------------------------------------------------------------------------


async def purge(config: ConfigFile, text: bytes) -> None:
    await config.purge(CALLER, file_sync.sha256_of(text))


async def test_a_purged_revision_cannot_be_restored_but_saved_again(config: ConfigFile, ledger: FakeLedger) -> None:
    await config.open()
    await save(config, SECOND, FIRST)
    forgotten: list[str] = []

    async def forget(sha256: Sha256) -> None:
        forgotten.append(sha256)

    config.on_purge = forget
    await purge(config, FIRST)
    assert ledger.purges == [(file_sync.sha256_of(FIRST), CLIENT, "ann")]
    assert forgotten == [file_sync.sha256_of(FIRST)]
    with pytest.raises(Removed):
        await restore(config, FIRST, SECOND)
    assert (await save(config, FIRST, SECOND)).number == 3
    assert (await config.read(CALLER))[0] == FIRST


async def test_what_is_in_use_or_unknown_is_not_purged(config: ConfigFile, path: Path, ledger: FakeLedger) -> None:
    await config.open()
    with pytest.raises(RevisionInUse):
        await purge(config, FIRST)
    with pytest.raises(NotFound):
        await purge(config, SECOND)
    path.write_bytes(SECOND)  # not noticed yet: it is the newest now
    with pytest.raises(RevisionInUse):
        await purge(config, SECOND)
    assert ledger.purges == []


async def test_a_text_that_the_file_still_holds_is_not_purged(
    config: ConfigFile, path: Path, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest revision could not be written into the file: a purge would say more than it has done."""
    await config.open()

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(file_sync, "_exchange", fail)
        await save(config, SECOND, FIRST)
        with pytest.raises(RevisionInUse, match="still holds it"):
            await purge(config, FIRST)
    await purge(config, FIRST)
    assert path.read_bytes() == SECOND


async def test_purging_removes_the_copy_kept_aside(config: ConfigFile, path: Path, ledger: FakeLedger) -> None:
    await config.open()
    await save(config, SECOND, FIRST)
    aside = path.with_name("config.yaml.rejected")
    aside.write_bytes(THIRD)
    await purge(config, FIRST)
    assert aside.read_bytes() == THIRD
    aside.write_bytes(FIRST)
    await purge(config, FIRST)
    assert not aside.exists()


async def test_a_copy_that_cannot_be_removed_is_told_and_purging_again_removes_it(
    config: ConfigFile, path: Path
) -> None:
    await config.open()
    await save(config, SECOND, FIRST)
    aside = path.with_name("config.yaml.rejected")
    aside.mkdir()
    with pytest.raises(Unavailable, match="purge it again"):
        await purge(config, FIRST)
    aside.rmdir()
    await purge(config, FIRST)


# --- edits made outside ----------------------------------------------------------------------------------------------


async def test_an_edit_found_while_another_process_saves_is_still_taken_over(
    config: ConfigFile, path: Path, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await config.open()
    commit = ledger.save_revision
    path.write_bytes(THIRD)

    async def commit_after_another(*args: Any, **named: Any) -> ConfigRevision:
        monkeypatch.undo()
        await commit(SECOND, base=file_sync.sha256_of(FIRST), client=None, account=None, message=None)
        return await commit(*args, **named)

    monkeypatch.setattr(ledger, "save_revision", commit_after_another)
    assert (await config.read(CALLER))[0] == THIRD
    texts = [await ledger.revision_text(revision.sha256) for revision in ledger.history]
    assert texts == [FIRST, SECOND, THIRD]


async def test_reading_notices_an_edit_made_outside(config: ConfigFile, path: Path) -> None:
    await config.open()
    path.write_bytes(SECOND)
    text, revision = await config.read(CALLER)
    assert (text, revision.message) == (SECOND, "changed outside of Dropmill")


async def test_a_file_that_an_editor_empties_before_it_writes_is_not_taken_for_an_empty_config(
    config: ConfigFile, path: Path, ledger: FakeLedger
) -> None:
    await config.open()
    path.write_bytes(b"")
    reading = asyncio.create_task(config.read(CALLER))
    await asyncio.sleep(0.05)
    path.write_bytes(SECOND)
    assert (await reading)[0] == SECOND
    assert len(ledger.history) == 2


async def test_a_file_that_vanishes_while_the_server_runs_changes_nothing(config: ConfigFile, path: Path) -> None:
    await config.open()
    path.unlink()
    assert (await config.read(CALLER))[0] == FIRST
    assert not path.exists()
    problem = config.problem(CALLER)
    assert problem is not None
    assert problem.sentence == "it is missing"
    await save(config, SECOND, FIRST)
    assert path.read_bytes() == SECOND
    assert config.problem(CALLER) is None


async def test_an_unreadable_file_is_a_problem_that_stops_saves_but_not_reads(
    config: ConfigFile, path: Path, ledger: FakeLedger
) -> None:
    await config.open()
    path.unlink()
    path.mkdir()
    assert (await config.read(CALLER))[0] == FIRST
    problem = config.problem(CALLER)
    assert problem is not None
    assert "Not a regular file" in problem.sentence
    with pytest.raises(Unavailable):
        await save(config, SECOND, FIRST)
    path.rmdir()
    path.write_bytes(FIRST)
    await config.read(CALLER)
    assert config.problem(CALLER) is None
    assert len(ledger.rejections) == 1


SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ENOSPC, errno.EROFS)


@pytest.mark.parametrize("code", SHORTAGES)
async def test_a_shortage_of_the_server_is_never_recorded_as_a_fault_of_the_config(
    config: ConfigFile, path: Path, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    await config.open()
    watching = asyncio.create_task(config.watch())
    with monkeypatch.context() as patch:

        def fail(_: Path) -> bytes:
            raise OSError(code, os.strerror(code))

        patch.setattr(file_sync, "read", fail)
        assert (await config.read(CALLER))[0] == FIRST
        with pytest.raises((StorageUnavailable, OutOfSpace)):
            await save(config, SECOND, FIRST)
        await asyncio.sleep(0.3)
        assert not watching.done()
    assert config.problem(CALLER) is None
    assert ledger.rejections == []
    path.write_bytes(SECOND)  # once it is over, the watch notices edits again
    async with asyncio.timeout(LIVENESS_S):
        while len(ledger.history) < 2:  # noqa: ASYNC110 - a ledger has no event for it
            await asyncio.sleep(0.01)
    watching.cancel()
    await asyncio.wait([watching])
    assert ledger.rejections == []


@pytest.mark.parametrize("code", SHORTAGES)
async def test_a_shortage_of_the_server_does_not_leave_a_config_unchecked(
    config: ConfigFile, path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A schema that cannot be read now might refuse the text."""
    await config.open()
    read = file_sync.read

    def fail(asked: Path) -> bytes | None:
        if asked.name == "config.schema.json":
            raise OSError(code, os.strerror(code))
        return read(asked)

    monkeypatch.setattr(file_sync, "read", fail)
    with pytest.raises((StorageUnavailable, OutOfSpace)):
        await save(config, SECOND, FIRST)
    assert path.read_bytes() == FIRST


async def test_watching_survives_faults_of_the_ledger_and_of_the_watch_itself(
    config: ConfigFile, path: Path, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await config.open()
    faults = [StorageUnavailable("away"), OutOfSpace("full"), OSError(errno.EIO, "Input/output error")]
    newest_revision = ledger.newest_revision

    async def failing() -> ConfigRevision | None:
        if faults:
            raise faults.pop()
        return await newest_revision()

    def no_more_watches(*_: object, **__: object) -> None:
        monkeypatch.setattr(revisions, "awatch", awatch)
        raise WatchfilesRustInternalError("Too many open files")

    monkeypatch.setattr(revisions, "POLL_INTERVAL_S", 0.05)
    monkeypatch.setattr(ledger, "newest_revision", failing)
    monkeypatch.setattr(revisions, "awatch", no_more_watches)
    watching = asyncio.create_task(config.watch())
    await asyncio.sleep(0.3)
    path.write_bytes(SECOND)
    async with asyncio.timeout(LIVENESS_S):
        while len(ledger.history) < 2:  # noqa: ASYNC110 - a ledger has no event for it
            await asyncio.sleep(0.01)
    assert not watching.done()
    watching.cancel()
    await asyncio.wait([watching])


@pytest.mark.parametrize("how", ["in place", "renamed over", "removed and made again", "through a link"])
async def test_watching_notices_every_way_of_editing(
    config: ConfigFile, path: Path, ledger: FakeLedger, tmp_path_factory: pytest.TempPathFactory, how: str
) -> None:
    if how == "through a link":
        target = tmp_path_factory.mktemp("elsewhere") / "real.yaml"
        path.rename(target)
        path.symlink_to(target)
    await config.open()
    watching = asyncio.create_task(config.watch())
    await asyncio.sleep(0.2)
    if how == "renamed over":
        new = path.with_name("config.yaml~")
        new.write_bytes(SECOND)
        new.rename(path)
    else:
        if how == "removed and made again":
            path.unlink()
            await asyncio.sleep(0.1)
        path.write_bytes(SECOND)
    await eventually(lambda: len(ledger.history) == 2)
    assert await ledger.revision_text(ledger.history[-1].sha256) == SECOND
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_watching_outlives_a_bad_edit_and_its_fix(config: ConfigFile, path: Path, ledger: FakeLedger) -> None:
    await config.open()
    watching = asyncio.create_task(config.watch())
    await asyncio.sleep(0.2)
    path.write_bytes(INVALID)
    await eventually(lambda: config.problem(CALLER) is not None)
    path.write_bytes(SECOND)
    await eventually(lambda: config.problem(CALLER) is None)
    assert not watching.done()
    assert (len(ledger.history), len(ledger.rejections)) == (2, 1)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_watching_outlives_its_folder(tmp_path: Path, ledger: FakeLedger, parser: ParserProcess) -> None:
    path = tmp_path / "folder" / "config.yaml"
    path.parent.mkdir()
    path.write_bytes(FIRST)
    config = ConfigFile(location_of(path), ledger, parser, aside=path.parent / "aside")
    await config.open()
    watching = asyncio.create_task(config.watch())
    await asyncio.sleep(0.2)
    path.unlink()
    path.parent.rmdir()
    await asyncio.sleep(0.2)
    path.parent.mkdir()
    path.write_bytes(SECOND)
    await eventually(lambda: len(ledger.history) == 2)
    assert not watching.done()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_watching_mirrors_what_another_process_saved_into_the_ledger(
    config: ConfigFile, path: Path, ledger: FakeLedger
) -> None:
    await config.open()
    watching = asyncio.create_task(config.watch())
    await ledger.save_revision(SECOND, base=file_sync.sha256_of(FIRST), client=None, account=None, message=None)
    await eventually(lambda: path.read_bytes() == SECOND)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


# --- real files ------------------------------------------------------------------------------------------------------


def real_files() -> list[Path]:
    """Commented YAML files that happen to be on this machine."""
    folders = [
        Path(sysconfig.get_paths()["purelib"]),
        Path(sys.prefix),
        Path("/usr/share"),
        Path("/usr/lib"),
        Path("/etc"),
    ]
    files = itertools.chain.from_iterable(folder.glob("**/*.y*ml") for folder in folders if folder.is_dir())
    found: dict[bytes, Path] = {}
    for file in files:
        try:
            if file.suffix in (".yaml", ".yml") and file.is_file() and file.stat().st_size <= 100 * 1024:
                text = file.read_bytes()
                if b"#" in text:
                    found.setdefault(text, file)
        except OSError:
            continue
        if len(found) == 50:
            break
    return list(found.values())


async def test_real_commented_files_are_saved_byte_for_byte(config: ConfigFile, path: Path) -> None:
    files = await asyncio.to_thread(real_files)
    if not files:
        pytest.skip("no commented YAML file on this machine")
    await config.open()
    saved = 0
    for file in files:
        text = file.read_bytes()
        _, newest = await config.read(CALLER)
        if examine(text).report.is_valid:
            await save(config, text, newest.sha256)
            assert path.read_bytes() == text, file
            saved += 1
        else:
            with pytest.raises(ConfigInvalid):
                await save(config, text, newest.sha256)
            assert file_sync.sha256_of(path.read_bytes()) == newest.sha256
    print(f"{saved} of {len(files)} real files saved, the others refused")
    assert saved > 0

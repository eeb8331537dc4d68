"""`data/configs` holds what running attempts read, and at most one file more."""

import asyncio
import hashlib
import random
from pathlib import Path

import pytest

from dropmill.model.errors import Removed
from dropmill.model.ids import Sha256
from dropmill.processing.configs import ConfigFiles


class Revisions:
    """Texts by their SHA-256."""

    def __init__(self) -> None:
        self.texts: dict[Sha256, bytes] = {}

    def add(self, text: bytes) -> Sha256:
        sha256 = Sha256(hashlib.sha256(text).hexdigest())
        self.texts[sha256] = text
        return sha256

    async def text(self, sha256: Sha256) -> bytes:
        await asyncio.sleep(0)
        if sha256 not in self.texts:
            raise Removed("This revision was purged.")
        return self.texts[sha256]


@pytest.fixture
def revisions() -> Revisions:
    return Revisions()


@pytest.fixture
def configs(tmp_path: Path, revisions: Revisions) -> ConfigFiles:
    made = ConfigFiles(tmp_path / "configs", revisions.text)
    made.prepare()
    return made


def kept(tmp_path: Path) -> set[str]:
    return {path.stem for path in (tmp_path / "configs").iterdir()}


async def test_configs_of_ended_attempts_are_removed_but_for_the_newest(
    tmp_path: Path, revisions: Revisions, configs: ConfigFiles
) -> None:
    """As many revisions as a busy editor saves in ten minutes."""
    for number in range(434):
        sha256 = revisions.add(b"a: %d\n" % number)
        async with configs.lent(sha256) as path:
            assert path.read_bytes() == revisions.texts[sha256]
            assert path.stat().st_mode & 0o777 == 0o400
        assert kept(tmp_path) == {sha256}


async def test_a_config_stays_until_its_last_reader_has_ended(
    tmp_path: Path, revisions: Revisions, configs: ConfigFiles
) -> None:
    old, new = revisions.add(b"old: 1\n"), revisions.add(b"new: 1\n")
    async with configs.lent(old) as first:
        async with configs.lent(old), configs.lent(new):
            assert kept(tmp_path) == {old, new}
        assert kept(tmp_path) == {old, new}
        assert first.read_bytes() == b"old: 1\n"
    assert kept(tmp_path) == {new}


async def test_a_config_that_cannot_be_written_leaves_nothing_and_is_written_by_the_next_attempt(
    tmp_path: Path, revisions: Revisions, configs: ConfigFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = revisions.add(b"a: 1\n")

    def refuse(*_: object) -> None:
        raise OSError("input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(OSError, match="input/output"):
            async with configs.lent(sha256):
                pass
    assert kept(tmp_path) == set()
    async with configs.lent(sha256) as path:
        assert path.read_bytes() == b"a: 1\n"


async def test_a_config_that_cannot_be_removed_is_removed_by_a_sweep(
    tmp_path: Path, revisions: Revisions, configs: ConfigFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("input/output error")

    old, new = revisions.add(b"old: 1\n"), revisions.add(b"new: 1\n")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        for sha256 in (old, new):
            async with configs.lent(sha256):
                pass
        assert await configs.sweep() == 1
    assert kept(tmp_path) == {old, new}
    assert await configs.sweep() == 0
    assert kept(tmp_path) == {new}


async def test_a_start_begins_without_the_configs_of_a_crashed_run(
    tmp_path: Path, revisions: Revisions, configs: ConfigFiles
) -> None:
    async with configs.lent(revisions.add(b"a: 1\n")):
        assert len(kept(tmp_path)) == 1
        ConfigFiles(tmp_path / "configs", revisions.text).prepare()
        assert kept(tmp_path) == set()


async def test_however_attempts_and_purges_interleave_each_reads_its_own_revision(
    tmp_path: Path, revisions: Revisions, configs: ConfigFiles
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    known = [revisions.add(b"n: %d\n" % number) for number in range(4)]

    async def attempt() -> None:
        for _ in range(40):
            sha256 = chance.choice(known)
            async with configs.lent(sha256) as path:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0.0005)
                    assert path.read_bytes() == revisions.texts[sha256]
            if chance.random() < 0.2:
                await configs.forget(chance.choice(known))

    await asyncio.gather(*(attempt() for _ in range(6)))
    await configs.sweep()
    assert len(kept(tmp_path)) <= 1


async def test_a_config_that_another_process_has_purged_is_removed_when_nobody_reads_it(
    tmp_path: Path, revisions: Revisions, configs: ConfigFiles
) -> None:
    old, newest = revisions.add(b"a: 1\n"), revisions.add(b"a: 2\n")
    async with configs.lent(old) as path:
        async with configs.lent(newest):
            pass
        del revisions.texts[old], revisions.texts[newest]
        await configs.forget_purged()
        assert kept(tmp_path) == {old}
        assert path.read_bytes() == b"a: 1\n"
    assert kept(tmp_path) == set()

"""The file's replacement, where it meets somebody else's."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dropmill.configfile import file_sync

OLD, NEW, EDITED = b"a: 1\n", b"a: 2\n", b"a: 3 # by hand\n"


def by_renaming(path: Path) -> None:
    beside = path.with_name("4913~")
    beside.write_bytes(EDITED)
    beside.rename(path)


def in_place(path: Path) -> None:
    path.write_bytes(EDITED)


@pytest.mark.parametrize("edit", [by_renaming, in_place])
def test_an_edit_between_the_last_look_and_the_replacement_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: Callable[[Path], None]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(OLD)
    written = file_sync.prepare(path, NEW, aside=tmp_path / "aside", keep=False)
    look = file_sync.read

    def look_and_be_overtaken(looked_at: Path) -> bytes | None:
        monkeypatch.undo()
        text = look(looked_at)
        edit(path)
        return text

    monkeypatch.setattr(file_sync, "read", look_and_be_overtaken)
    assert not written.put_in_place(file_sync.sha256_of(OLD))
    assert path.read_bytes() == EDITED
    assert os.listdir(tmp_path) == ["config.yaml"]


def test_where_names_cannot_be_exchanged_the_file_is_replaced_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(OLD)
    monkeypatch.setattr(file_sync, "_exchange", lambda one, other: False)
    assert file_sync.prepare(path, NEW, aside=tmp_path / "aside", keep=False).put_in_place(file_sync.sha256_of(OLD))
    assert path.read_bytes() == NEW
    assert os.listdir(tmp_path) == ["config.yaml"]

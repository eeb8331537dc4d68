"""Folders that a script has filled go, whatever is in them, and nothing outside is touched."""

import os
from pathlib import Path

import pytest

from dropmill.processing import folders
from dropmill.processing.folders import NAMES_MAX, remove_tree


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    made = tmp_path / "outside"
    made.mkdir(mode=0o755)
    (made / "kept").write_text("kept")
    return made


def is_untouched(outside: Path) -> bool:
    return (outside / "kept").read_text() == "kept" and outside.stat().st_mode & 0o777 == 0o755


def test_more_names_and_deeper_folders_than_a_path_or_a_recursion_takes_are_removed(tmp_path: Path) -> None:
    """Two thousand folders in one another, as a script that changes into each makes them."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "wide").mkdir()
    for number in range(NAMES_MAX + 1):
        (tree / "wide" / f"{number}").touch()
        (tree / f"moved-{number}").mkdir()
    descriptor = os.open(tree, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    remove_tree(tree)
    assert not tree.exists()


def test_a_link_in_the_place_of_the_folder_is_removed_and_not_followed(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "tree").symlink_to(outside)
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").is_symlink()
    assert is_untouched(outside)


@pytest.mark.parametrize("swapped", ["tree", "inner"])
def test_a_folder_that_is_swapped_for_a_link_while_it_is_removed_is_not_followed(
    tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    """The swap comes right before the folder is opened, when its name was already seen to be a folder's."""
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    open_folder = folders._open_folder

    def swap_first(parent: int, name: str) -> int:
        if name == swapped:
            os.rename(name, "elsewhere", src_dir_fd=parent, dst_dir_fd=parent)
            os.symlink(outside, name, dir_fd=parent)
        return open_folder(parent, name)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "_open_folder", swap_first)
        try:
            remove_tree(tree)
        except NotADirectoryError:
            assert swapped == "inner"  # the next sweep finds a link there
    assert is_untouched(outside)
    remove_tree(tree)
    assert is_untouched(outside)
    assert not tree.exists()


def test_what_cannot_be_removed_is_an_error_and_what_is_gone_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").touch()

    def refuse(*_: object, **__: object) -> None:
        raise OSError("input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(OSError, match="input/output"):
            remove_tree(tree)
    remove_tree(tree)
    remove_tree(tree)
    remove_tree(tree / "not" / "there")

"""Point 14: folders 0700 and files 0600, whatever the umask."""

import os
from pathlib import Path

import pytest

from dropmill.private import opener, tighten


def modes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.lstat().st_mode & 0o777
        for path in folder.rglob("*")
        if not path.is_symlink()
    }


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_a_new_file_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with open(tmp_path / "file", "w", opener=opener):
            pass
    finally:
        os.umask(before)
    assert modes(tmp_path) == {"file": 0o600}


def test_what_is_ours_is_tightened_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    outside = tmp_path / "outside"
    for path in (folder / "log", folder / "blobs" / "ab", outside):
        path.mkdir(parents=True)
        path.chmod(0o755)
    for path in (folder / "log" / "a", folder / "blobs" / "ab" / "b", folder / "foreign", outside / "c"):
        path.touch()
        path.chmod(0o644)
    (folder / "blobs" / "ab" / "b").chmod(0o444)
    (folder / "log" / "link").symlink_to(outside / "c")
    (folder / "attempts").symlink_to(outside)
    folder.chmod(0o775)
    assert tighten(folder, ("log", "blobs", "none", "attempts"), shallow=("blobs", "attempts")) == 5
    assert folder.stat().st_mode & 0o777 == 0o700
    assert modes(folder) == {
        "log": 0o700,
        "log/a": 0o600,
        "blobs": 0o700,
        "blobs/ab": 0o700,
        "blobs/ab/b": 0o444,
        "foreign": 0o644,
    }
    assert (outside / "c").stat().st_mode & 0o777 == 0o644
    assert tighten(folder, ("log", "blobs", "none"), shallow=("blobs",)) == 0

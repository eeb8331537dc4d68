"""What the slot does on the disk before and after an attempt."""

import os
from pathlib import Path
from typing import Any

import pytest

from dropmill.model.uploads import FileIdentity
from dropmill.slot.disk import InputTouched, after, prepare


def an_order(folder: Path) -> dict[str, Any]:
    file = folder / "file.txt"
    file.write_text("content")
    attempt = folder / "attempt"
    return {
        "input": {"path": str(file), "identity": list(FileIdentity.of(file.lstat()))},
        "folders": [str(attempt), str(attempt / "work"), str(attempt / "results")],
        "makes_folders": True,
    }


def test_folders_are_made_for_their_owner_alone_and_removed_when_empty(tmp_path: Path) -> None:
    order = an_order(tmp_path)
    prepare(order)
    assert [os.stat(folder).st_mode & 0o777 for folder in order["folders"]] == [0o700] * 3
    assert after(order) == {"is_tidy": True, "is_input_same": True}
    assert not (tmp_path / "attempt").exists()


def test_a_result_keeps_the_folders(tmp_path: Path) -> None:
    order = an_order(tmp_path)
    prepare(order)
    (tmp_path / "attempt" / "results" / "one.txt").touch()
    assert after(order)["is_tidy"] is False
    assert (tmp_path / "attempt" / "results" / "one.txt").exists()


@pytest.mark.parametrize("change", ["chmod", "append", "unlink", "link"])
def test_an_input_of_another_identity_is_refused_before_anything_is_made(tmp_path: Path, change: str) -> None:
    order = an_order(tmp_path)
    file = tmp_path / "file.txt"
    match change:
        case "chmod":
            file.chmod(0o600)
            file.chmod(0o400)
        case "append":
            file.write_text("content and more")
        case "unlink":
            file.unlink()
        case "link":
            file.rename(tmp_path / "elsewhere")
            file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputTouched):
        prepare(order)
    assert not (tmp_path / "attempt").exists()
    order["makes_folders"] = False
    assert after(order)["is_input_same"] is False


def test_a_disk_that_takes_no_folder_says_nothing_about_the_input(tmp_path: Path) -> None:
    order = an_order(tmp_path)
    (tmp_path / "attempt").touch()
    with pytest.raises(FileExistsError):
        prepare(order)
    assert after(order)["is_input_same"] is True


def test_a_disk_that_cannot_say_whether_the_input_was_changed_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = an_order(tmp_path)
    prepare(order)

    def fail(path: str) -> os.stat_result:
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(os, "lstat", fail)
    with pytest.raises(OSError, match="Input/output error"):
        prepare(order)
    assert after(order) == {"is_tidy": True, "is_input_same": None}

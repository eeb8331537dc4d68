"""What `dropmill send` keeps to go on with."""

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dropmill.cli import resume_file
from dropmill.cli.resume_file import KEPT_S, LocalFile, NotedFile

F1, F2, F3 = (NotedFile(id=f"f{number}", version="3-5") for number in (1, 2, 3))
FILE = LocalFile(source=Path("/a/b.txt"), path="b.txt", size=3, changed_ns=5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "dropmill" / "unfinished"


def test_what_was_noted_is_found_by_any_of_its_files(folder: Path) -> None:
    note = resume_file.begin("s1")
    note.save({"k1": F1})
    note.save({"k2": F2, "k1": F3})
    note.close()
    (found,) = resume_file.find({"k2", "other"})
    assert (found.submission_id, found.files) == ("s1", {"k1": F3, "k2": F2})
    found.forget()
    assert list(resume_file.find({"k2"})) == []
    assert list(folder.iterdir()) == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_nobody_goes_on_with_what_another_process_is_sending(folder: Path) -> None:
    note = resume_file.begin("s1")
    note.save({"k1": F1})
    assert list(resume_file.find({"k1"})) == []
    note.close()
    (found,) = resume_file.find({"k1"})
    found.close()


def test_the_newest_comes_first(folder: Path) -> None:
    for number in range(3):
        note = resume_file.begin(f"s{number}")
        note.save({"k1": F1})
        note.close()
    for path in folder.iterdir():
        at = path.stat().st_mtime - (100 if '"s1"' in path.read_text() else 200)
        os.utime(path, (at, at))
    found = list(resume_file.find({"k1"}))
    assert found[0].submission_id == "s1"
    for note in found:
        note.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"submission": "s1"}',
        '{"submission": "s1", "files": 5}',
        '{"submission": "s1", "files": {"k1": 5}}',
    ],
)
def test_a_note_that_cannot_be_read_is_removed(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / "note.json").write_text(text)
    assert list(resume_file.find({"k1"})) == []
    assert list(folder.iterdir()) == []


def test_an_old_note_is_removed(folder: Path) -> None:
    note = resume_file.begin("s1")
    note.save({"k1": F1})
    note.close()
    (path,) = folder.iterdir()
    at = path.stat().st_mtime - KEPT_S - 1
    os.utime(path, (at, at))
    assert list(resume_file.find({"k1"})) == []
    assert not path.exists()


@pytest.mark.parametrize("change", [{"path": "c.txt"}, {"source": Path("/b.txt")}])
def test_a_file_is_known_again_by_where_it_is_and_goes(change: dict[str, Any]) -> None:
    assert FILE.key("http://a") == replace(FILE, size=4, changed_ns=6).key("http://a")
    assert FILE.key("http://a") != FILE.key("http://b")
    assert FILE.key("http://a") != replace(FILE, **change).key("http://a")


@pytest.mark.parametrize("change", [{"size": 4}, {"changed_ns": 6}])
def test_a_file_that_was_changed_has_another_version(change: dict[str, Any]) -> None:
    assert replace(FILE, **change).version != FILE.version

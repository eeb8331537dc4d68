"""The built-in processor, run as every other."""

import hashlib
from pathlib import Path

import pytest

from dropmill.processing.default import PREVIEW_CHARACTERS, process
from dropmill.slot.file import ProcessorClient, ProcessorFile


def record(path: Path, name: str = "name.txt") -> ProcessorFile:
    data = path.read_bytes()
    return ProcessorFile(
        name=name,
        path=path,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        job_id="j",
        submission_id="s",
        attempt=1,
        client=ProcessorClient(ip="192.0.2.7"),
    )


def test_it_prints_name_size_and_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "stored"
    path.write_bytes(b"x" * 1234)
    process(record(path), {})
    assert capsys.readouterr().out == f"Name: name.txt\nSize: 1234 bytes\nPath: {path}\n"


def test_names_cannot_forge_lines_or_turn_the_writing_around(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "stored"
    path.touch()
    process(record(path, "a\nSize: 9 bytes\x1b[2J\u202etxt.exe\udc80 ä 漢"), {})
    assert capsys.readouterr().out.splitlines()[0] == ("Name: a\\nSize: 9 bytes\\x1b[2J\\u202etxt.exe\\udc80 ä 漢")


def test_the_config_adds_a_greeting_and_the_first_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "stored"
    path.write_bytes(b"one\r\ntwo\xff\nthree\n" + b"y" * 5000)
    process(record(path), {"greeting": "Hello", "preview_lines": 2})
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[-2:]) == ("Hello", ["one", "two\ufffd"])
    process(record(path), {"preview_lines": 4})
    assert capsys.readouterr().out.splitlines()[-1] == "y" * PREVIEW_CHARACTERS


@pytest.mark.parametrize("config", [{"preview_lines": "two"}, {"preview_lines": None}, {"greeting": ""}])
def test_values_it_cannot_use_are_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: dict[str, object]
) -> None:
    path = tmp_path / "stored"
    path.write_bytes(b"line\n")
    process(record(path), config)
    assert len(capsys.readouterr().out.splitlines()) == 3

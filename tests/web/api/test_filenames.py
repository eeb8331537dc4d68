"""Names are fit for every machine, whatever somebody called a file."""

import re
import string
import unicodedata
from pathlib import PureWindowsPath
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropmill.web.api.filenames import NAME_BYTES, ArchiveNames, attachment, content_type, fit_name

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain.txt", 'attachment; filename="plain.txt"'),
        ("sub/folder/plain.txt", 'attachment; filename="plain.txt"'),
        ("naïve file.txt", "attachment; filename=\"naive file.txt\"; filename*=UTF-8''na%C3%AFve%20file.txt"),
        ("漢字.webp", "attachment; filename=\"download.webp\"; filename*=UTF-8''%E6%BC%A2%E5%AD%97.webp"),
        ("漢字", "attachment; filename=\"download\"; filename*=UTF-8''%E6%BC%A2%E5%AD%97"),
        ('a"b\\c;d.txt', 'attachment; filename="c;d.txt"'),
        ("100%.txt", "attachment; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"),
        ("a\r\nSet-Cookie: x=1", 'attachment; filename="a__Set-Cookie_ x=1"'),
        ("..", 'attachment; filename="_"'),
    ],
)
def test_a_name_is_offered_for_saving(name: str, expected: str) -> None:
    assert attachment(name) == expected


@given(TEXT)
def test_an_offer_is_one_header_of_ascii_that_says_the_name(name: str) -> None:
    header = attachment(name)
    assert re.fullmatch(r"attachment; filename=\"[ -!#-\[\]-~]+\"(; filename\*=UTF-8''[\w.~%-]+)?", header, re.ASCII)
    if "filename*" in header:
        assert unquote(header.rpartition("''")[2]) == fit_name(re.split(r"[/\\]", name)[-1])


@given(TEXT)
def test_a_fit_name_can_be_saved_on_every_system(name: str) -> None:
    fit = fit_name(name)
    assert 0 < len(fit.encode()) <= NAME_BYTES + 1
    assert not set(fit) & set('<>:"/\\|?*\0\n\r')
    assert fit not in (".", "..")
    assert not fit.endswith((".", " "))
    assert PureWindowsPath(fit).drive == ""
    assert fit_name(fit) == fit


@pytest.mark.parametrize("name", ["CON", "con.txt", "aux.tar.gz", "LPT1", "nul"])
def test_device_names_are_no_longer_device_names(name: str) -> None:
    assert fit_name(name) == f"_{name}"
    assert fit_name(f"{name}x"[:3] + "fig.txt") == f"{name}x"[:3] + "fig.txt"


def test_a_long_name_keeps_its_extension() -> None:
    assert fit_name("é" * 300 + ".tar").endswith("é.tar")
    assert fit_name("x" * 300 + "." + "y" * 300) == "x" * NAME_BYTES


def test_types_come_from_a_list_and_nothing_in_it_can_act() -> None:
    assert content_type("a.PNG") == "image/png"
    assert content_type("a.b.csv") == "text/csv"
    for ending in ("html", "htm", "xhtml", "svg", "xml", "js", "mjs", "css", "swf", "wasm", "", "x" * 1000):
        assert content_type(f"a.{ending}") == "application/octet-stream"


def test_each_uploaded_file_has_a_folder_of_its_own() -> None:
    names = ArchiveNames()
    assert names.folder("scans/a.pdf") == "scans/a.pdf/"
    assert names.folder("scans/a.pdf") == "scans/a (2).pdf/"
    assert names.folder("Scans/A.PDF") == "Scans/A (3).PDF/"
    assert names.folder("scans/b.pdf") == "scans/b.pdf/"
    assert names.folder("../../etc/passwd") == "etc/passwd/"
    assert names.folder("C:\\Windows\\x") == "C_/Windows/x/"
    assert names.folder("/") == "_/"
    assert names.folder("a/../b") == "a/b/"


def test_no_name_is_used_twice_nor_as_a_file_and_a_folder() -> None:
    names = ArchiveNames()
    first = names.folder("a")
    assert names.file(first, "b") == "a/b"
    assert names.file(first, "B") == "a/B (2)"
    assert names.file(first, "out.txt") == "a/out.txt"
    assert names.file(first, "OUT.txt") == "a/OUT (2).txt"
    assert names.file(first, "sub/x") == "a/sub/x"
    assert names.file(first, "sub/y") == "a/sub/y"
    assert names.file(first, "sub") == "a/sub (2)"
    assert names.folder("a/b") == "a/b (3)/"
    assert names.folder("a/b/c") == "a/b (4)/c/"
    assert names.folder("a/out.txt/z") == "a/out (3).txt/z/"


@given(st.lists(st.tuples(st.text("aAbB/.\\", max_size=6), st.lists(st.text("aAbB/.\\", max_size=6), max_size=4))))
def test_an_archive_can_be_unpacked_whatever_the_names(files: list[tuple[str, list[str]]]) -> None:
    names = ArchiveNames()
    made = []
    for path, results in files:
        folder = names.folder(path)
        made += [names.file(folder, result) for result in results]
    folded = [unicodedata.normalize("NFC", name).casefold() for name in made]
    assert len(set(folded)) == len(folded)
    parents = {"/".join(name.split("/")[:depth]) for name in folded for depth in range(1, name.count("/") + 1)}
    assert not parents & set(folded)
    for name in made:
        assert not name.startswith("/")
        assert all(part not in ("", ".", "..") for part in name.split("/"))
        assert set(name) <= {*string.ascii_letters, *string.digits, "/", ".", "_", " ", "(", ")"}

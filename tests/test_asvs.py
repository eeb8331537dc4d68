"""`docs/asvs.md` has every requirement of ASVS 5.0, levels 1 and 2, names what exists alone, and counts right."""

import ast
import re
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "asvs.md"


def numbers_of(text: str) -> list[str]:
    """The numbers between blanks."""
    return text.split()


LEVEL_1: Final = numbers_of("""
1.2.1 1.2.2 1.2.3 1.2.4 1.2.5 1.3.1 1.3.2 1.5.1 2.1.1 2.2.1 2.2.2 2.3.1 3.2.1 3.2.2 3.3.1 3.4.1 3.4.2 3.5.1
3.5.2 3.5.3 4.1.1 4.4.1 5.2.1 5.2.2 5.3.1 5.3.2 6.1.1 6.2.1 6.2.2 6.2.3 6.2.4 6.2.5 6.2.6 6.2.7 6.2.8 6.3.1
6.3.2 6.4.1 6.4.2 7.2.1 7.2.2 7.2.3 7.2.4 7.4.1 7.4.2 8.1.1 8.2.1 8.2.2 8.3.1 9.1.1 9.1.2 9.1.3 9.2.1 10.4.1
10.4.2 10.4.3 10.4.4 10.4.5 11.3.1 11.3.2 11.4.1 12.1.1 12.2.1 12.2.2 13.4.1 14.2.1 14.3.1 15.1.1 15.2.1 15.3.1
""")

LEVEL_2: Final = numbers_of("""
1.1.1 1.1.2 1.2.6 1.2.7 1.2.8 1.2.9 1.3.3 1.3.4 1.3.5 1.3.6 1.3.7 1.3.8 1.3.9 1.3.10 1.3.11 1.4.1 1.4.2 1.4.3
1.5.2 2.1.2 2.1.3 2.2.3 2.3.2 2.3.3 2.3.4 2.4.1 3.3.2 3.3.3 3.3.4 3.4.3 3.4.4 3.4.5 3.4.6 3.5.4 3.5.5 3.7.1
3.7.2 4.1.2 4.1.3 4.2.1 4.3.1 4.3.2 4.4.2 4.4.3 4.4.4 5.1.1 5.2.3 5.4.1 5.4.2 5.4.3 6.1.2 6.1.3 6.2.9 6.2.10
6.2.11 6.2.12 6.3.3 6.3.4 6.4.3 6.4.4 6.5.1 6.5.2 6.5.3 6.5.4 6.5.5 6.6.1 6.6.2 6.6.3 6.8.1 6.8.2 6.8.3 6.8.4
7.1.1 7.1.2 7.1.3 7.3.1 7.3.2 7.4.3 7.4.4 7.4.5 7.5.1 7.5.2 7.6.1 7.6.2 8.1.2 8.2.3 8.4.1 9.2.2 9.2.3 9.2.4
10.1.1 10.1.2 10.2.1 10.2.2 10.3.1 10.3.2 10.3.3 10.3.4 10.4.6 10.4.7 10.4.8 10.4.9 10.4.10 10.4.11 10.5.1
10.5.2 10.5.3 10.5.4 10.5.5 10.6.1 10.6.2 10.7.1 10.7.2 10.7.3 11.1.1 11.1.2 11.2.1 11.2.2 11.2.3 11.3.3 11.4.2
11.4.3 11.4.4 11.5.1 11.6.1 12.1.2 12.1.3 12.3.1 12.3.2 12.3.3 12.3.4 13.1.1 13.2.1 13.2.2 13.2.3 13.2.4 13.2.5
13.3.1 13.3.2 13.4.2 13.4.3 13.4.4 13.4.5 14.1.1 14.1.2 14.2.2 14.2.3 14.2.4 14.3.2 14.3.3 15.1.2 15.1.3 15.2.2
15.2.3 15.3.2 15.3.3 15.3.4 15.3.5 15.3.6 15.3.7 16.1.1 16.2.1 16.2.2 16.2.3 16.2.4 16.2.5 16.3.1 16.3.2 16.3.3
16.3.4 16.4.1 16.4.2 16.4.3 16.5.1 16.5.2 16.5.3 17.1.1 17.2.1 17.2.2 17.2.3 17.2.4 17.3.1 17.3.2
""")
"""The numbers of OWASP's ASVS 5.0.0, by the level from which they apply."""

KINDS: Final = ("test", "decision", "not met")


class Row(NamedTuple):
    """One requirement as the document has it."""

    number: str
    level: str
    words: str
    shown: str

    @property
    def kind(self) -> str:
        """How it is met."""
        found = re.match(r"(test|decision): |\*\*(not met)( yet \(\w+\))?\*\*", self.shown)
        assert found is not None, self
        return found[1] or found[2]

    @property
    def tests(self) -> list[str]:
        return re.findall(r"`([^`]+::[^`]+)`", self.shown)

    @property
    def sections(self) -> list[tuple[str, str]]:
        """Documents, as the page links to them, each with the title of a section."""
        return re.findall(r"\[[^\]]+\]\(([^)]+)\) § ([^;,|]+)", self.shown)


def rows() -> list[Row]:
    found = re.findall(r"^\| (\d+\.\d+\.\d+) \| (\d) \| (.+?) \| (.+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    return [Row(*cells) for cells in found]


def not_applicable() -> list[str]:
    (end,) = re.findall(r"^## What does not apply$(.*)", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^\| V(\d+) \| ([\d., ]+) \| .{10,} \|$", end, re.MULTILINE)
    assert all(number.startswith(f"{chapter}.") for chapter, numbers in lines for number in numbers.split(", "))
    return [number for _, numbers in lines for number in numbers.split(", ")]


ROWS = rows()


def test_every_requirement_is_there_once_with_its_level() -> None:
    assert Counter([row.number for row in ROWS] + not_applicable()) == Counter(LEVEL_1 + LEVEL_2)
    assert (len(LEVEL_1), len(LEVEL_2)) == (70, 183)
    for row in ROWS:
        assert row.level == ("1" if row.number in LEVEL_1 else "2"), row


def test_each_is_in_its_chapter_and_in_order() -> None:
    chapters = re.split(r"^## V(\d+) .*$", DOCUMENT.read_text(), flags=re.MULTILINE)[1:]
    for chapter, text in zip(chapters[::2], chapters[1::2], strict=True):
        numbers = re.findall(r"^\| (\d+\.\d+\.\d+) \|", text, re.MULTILINE)
        assert numbers == sorted(numbers, key=lambda number: [int(part) for part in number.split(".")])
        assert {number.partition(".")[0] for number in numbers} == {chapter}


@pytest.mark.parametrize("row", ROWS, ids=[row.number for row in ROWS])
def test_what_shows_a_requirement_exists(row: Row) -> None:
    if row.kind == "test":
        assert row.tests
    if row.kind == "decision":
        assert row.sections
    for named in row.tests:
        path, _, function = named.partition("::")
        assert function in named_in(ROOT / path), named
    for document, title in row.sections:
        assert title.strip() in titles_of((DOCUMENT.parent / document).resolve()), (document, title)


def named_in(path: Path) -> set[str]:
    """The tests in a file: functions of Python, parametrised ones too, or titles of Node.js's test runner."""
    text = path.read_text()
    if path.suffix == ".js":
        return set(re.findall(r"^test\(\"([^\"]+)\"", text, re.MULTILINE))
    return {
        node.name
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def titles_of(path: Path) -> set[str]:
    """Headlines of a document, and the bold words with which a paragraph begins."""
    text = path.read_text()
    return set(re.findall(r"^#+ (.+)$", text, re.MULTILINE)) | set(re.findall(r"^\*\*(.+?)\.\*\*", text, re.MULTILINE))


def test_the_counts_are_right() -> None:
    counted = Counter((row.level, row.kind) for row in ROWS)
    told = re.findall(r"^\| (1|2|both) \| (\d+) \| (\d+) \| (\d+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    levels = {"1": ["1"], "2": ["2"], "both": ["1", "2"]}
    for name, *numbers in told:
        expected = [sum(counted[level, kind] for level in levels[name]) for kind in KINDS]
        assert [int(number) for number in numbers] == expected, (name, expected)
    assert [name for name, *_ in told] == ["1", "2", "both"]


def test_what_is_not_met_is_named_at_the_top() -> None:
    top = " ".join(DOCUMENT.read_text().partition("\n## ")[0].split())
    for beginning, is_coming in (("Not met: ", False), ("Not met yet, because it is being built: ", True)):
        expected = [row.number for row in ROWS if row.kind == "not met" and ("not met yet" in row.shown) is is_coming]
        found = re.search(re.escape(beginning) + r"([\d., ]+)\.(?: |$)", top)
        assert (found[1].split(", ") if found else []) == expected, (beginning, ", ".join(expected))

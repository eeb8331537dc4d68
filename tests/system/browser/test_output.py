"""The live view of output: what a terminal would show of it, and no more than a page can bear."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from tests.support.server import Server

RECORDED = Path(__file__).parents[2] / "processing" / "recorded"
WRITE = """async pieces => {
  const { Screen } = await import("/static/js/output.js");
  const screen = new Screen();
  let longest = 0;
  for (const piece of pieces) {
    screen.write(piece);
    longest = Math.max(longest, screen.text.length);
  }
  return [screen.text, longest];
}"""

Shown = Callable[..., list[Any]]


@pytest.fixture
def shown(page: Page, site: Server) -> Shown:
    """The text on the screen after these pieces, and the longest that it ever was."""

    def write(*pieces: str) -> list[Any]:
        told: list[Any] = page.evaluate(WRITE, list(pieces))
        return told

    return write


def cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


@pytest.mark.parametrize("size", [1, 5, 10_000])
def test_redrawn_lines_replace_each_other(shown: Shown, size: int) -> None:
    """Real bars: each leaves one line, and the page never grows beyond it."""
    for tool, lines in (("tqdm", 2), ("curl_bar", 1)):
        with (RECORDED / f"{tool}.txt").open(encoding="utf-8", newline="") as recorded:
            text, longest = shown(*cut(recorded.read(), size))
        assert len(text.splitlines()) == lines, text
        assert "100" in text.splitlines()[-1]
        assert longest < 400
    text, longest = shown(*cut("".join(f"\r{n} of 9999" for n in range(9999)), size * 100))
    assert text == "9998 of 9999"
    assert longest < 30


def test_line_ends_of_windows_are_line_ends(shown: Shown) -> None:
    assert shown("one\r\ntwo\r", "\nthree\r\n")[0] == "one\ntwo\nthree\n"


def test_colours_are_no_text(shown: Shown) -> None:
    assert shown("\x1b[31mred\x1b[0m \x1b]0;title\x07<b>\x1b[2J")[0] == "red <b>"


@pytest.mark.parametrize("ends", ["", "\n"])
def test_a_flood_is_shown_from_its_end(shown: Shown, ends: str) -> None:
    """Also one endless line."""
    text, longest = shown(*[f"{n:06}" + "x" * 9994 + ends for n in range(200)])
    assert "000199xxx" in text
    assert longest < 500_000

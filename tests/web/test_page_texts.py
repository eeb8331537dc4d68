import pytest

from dropmill.web import pages
from dropmill.web.pages import moment_text, size_text, visible_text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, ""),
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1,023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1023 * 1024, "1,023 KiB"),
        (200 * 1024**2, "200 MiB"),
        (5 * 1024**6, "5,120 PiB"),
    ],
)
def test_sizes_are_told_in_binary_units(size: int | None, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "language", lambda: "en")
    assert size_text(size) == text


def test_sizes_are_written_as_the_language_of_the_page_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "language", lambda: "de")
    assert size_text(1536) == "1,5 KiB"


def test_characters_that_hide_or_turn_text_are_made_visible() -> None:
    assert visible_text("a\nb\x7f\u202ec\u200bé") == "a\u240ab\u2421\u27e8U+202E\u27e9c\u27e8U+200B\u27e9é"


def test_a_time_is_told_in_utc() -> None:
    assert moment_text("2026-11-20T14:02:07.412Z") == "2026-11-20 14:02:07 UTC"

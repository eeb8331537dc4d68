"""Times, sizes and foreign text as people and programs read them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from dropmill.text import size_text, time_text, visible, whole_characters

AT = datetime(2026, 3, 1, 12, 0, 0, 123_456, timezone(timedelta(hours=2)))


def test_times_are_utc_to_the_millisecond() -> None:
    assert time_text(None) is None
    assert time_text(AT) == "2026-03-01T10:00:00.123Z"
    assert time_text(datetime(1999, 12, 31, 23, 59, 59, 999_999, UTC)) == "1999-12-31T23:59:59.999Z"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1300, "1.27 KiB"),
        (1023 * 1024, "1023 KiB"),
        (5 * 2**40, "5 TiB"),
        (3 * 2**60, "3072 PiB"),
    ],
)
def test_sizes_have_three_digits_and_binary_units(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", "a b"),
        ("é日", "é日"),
        ("a\n", "a\\n"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202e", "\\u202e"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_does_not_print_is_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize("character", ["é", "日", "🙂"])
def test_an_incomplete_character_is_left_out(character: str) -> None:
    data = character.encode()
    for length in range(1, len(data)):
        assert whole_characters(b"ab" + data[:length]) == b"ab"
    assert whole_characters(b"ab" + data) == b"ab" + data


@pytest.mark.parametrize("data", [b"", b"\x80\x80\x80\x80", b"ab", b"\xff"])
def test_bytes_that_begin_no_character_stay(data: bytes) -> None:
    assert whole_characters(data) == data

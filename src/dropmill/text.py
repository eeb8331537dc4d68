"""Times, sizes and text from outside, written so that people and programs can read them. Standard library only."""

from datetime import UTC, datetime
from typing import overload

UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


@overload
def time_text(at: datetime) -> str: ...
@overload
def time_text(at: None) -> None: ...
def time_text(at: datetime | None) -> str | None:
    """A time as RFC 3339: UTC, milliseconds (the rest is cut off), `Z`. None stays None.

    Args:
        at: with a time zone.
    """
    return None if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def size_text(size: int) -> str:
    """A number of bytes, rounded to three digits: `12 bytes`, `1.21 GiB`. `core/format.js` rounds the same way."""
    if size < 1024:
        return f"{size} byte" if size == 1 else f"{size} bytes"
    power = min((size.bit_length() - 1) // 10, len(UNITS))
    value = size / 1024**power
    return f"{value:.3g} {UNITS[power - 1]}" if value < 1000 else f"{value:.0f} {UNITS[power - 1]}"


def visible(text: str) -> str:
    """The text with each character that does not print (controls, escapes, bidirectional overrides) as an escape.

    Safe for a terminal or a log: an escape is a backslash and ASCII letters and digits.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def whole_characters(data: bytes) -> bytes:
    """The data without an incomplete UTF-8 character at its end (at most three bytes); the rest need not be UTF-8."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0b1100_0000 == 0b1000_0000:
            continue
        length = 2 if byte >> 5 == 0b110 else 3 if byte >> 4 == 0b1110 else 4 if byte >> 3 == 0b11110 else 1
        return data[:-back] if length > back else data
    return data

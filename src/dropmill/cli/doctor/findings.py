"""What a check of `dropmill doctor` reports."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "FAIL"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """The result of a check, or one of several.

    Attributes:
        level: `OK`; `WARN` for what works with a drawback; `FAIL` for what will not work.
        sentence: what was found, and what to do about it.
    """

    level: str
    sentence: str


Findings = Iterator[Finding]


def ok(sentence: str) -> Finding:
    """It works."""
    return Finding(level=OK, sentence=sentence)


def warn(sentence: str) -> Finding:
    """It works, with a drawback."""
    return Finding(level=WARN, sentence=sentence)


def fail(sentence: str) -> Finding:
    """It will not work."""
    return Finding(level=FAIL, sentence=sentence)

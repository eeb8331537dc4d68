"""The output of attempts to stdout and stderr: streams of bytes addressed by offset, and when they were written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dropmill.model.ids import JobId


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputBounds:
    """How many bytes of an attempt's output are kept; the bytes between are cut out.

    Attributes:
        head: bytes kept from the beginning.
        tail: bytes kept up to the end.
    """

    head: int = 16 * 1024 * 1024
    tail: int = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputMark:
    """A moment in an attempt's output.

    Attributes:
        at: UTC, by the clock of the machine that ran the attempt. May go back if that clock was set back.
        offset: of the first byte written then. The bytes up to the next mark were written within a second, or within
            the spacing of marks in a very long attempt.
    """

    at: datetime
    offset: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputPiece:
    """A piece of an attempt's output on its way into the store.

    Attributes:
        job_id: whose.
        number: of the attempt.
        offset: where `data` belongs.
        data: the bytes.
        began_at: when the attempt wrote its first byte: the mark at offset 0.
        marks: further marks that are not stored yet, in order of offset.
    """

    job_id: JobId
    number: int
    offset: int
    data: bytes
    began_at: datetime
    marks: Sequence[OutputMark] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputChunk:
    """A piece of a stream, read.

    Attributes:
        offset: where `data` begins; after the requested start if the bytes between were not kept.
        data: at most as many bytes as requested; empty if there are none after the start, yet or ever.
        end: bytes that the attempt has written so far, as far as this process knows.
    """

    offset: int
    data: bytes
    end: int


def kept_marks(marks: Sequence[OutputMark], *, head: int, tail: int, end: int) -> list[OutputMark]:
    """The marks of the kept bytes, each offset once and in order.

    The marks of bytes that were cut out are dropped. The first byte after those gets the time of the newest mark
    before it: no later mark covers it.

    Args:
        marks: in any order, with repetitions.
        head: bytes before this offset are kept.
        tail: bytes from this offset on are kept; `end` if there are none.
        end: offset of the output's end.
    """
    ordered = sorted({mark.offset: mark for mark in marks}.values(), key=lambda mark: mark.offset)
    if head >= tail:
        return [mark for mark in ordered if mark.offset < end]
    entering = [OutputMark(at=mark.at, offset=tail) for mark in ordered if mark.offset <= tail][-1:]
    return [
        *(mark for mark in ordered if mark.offset < head),
        *(entering if tail < end else ()),
        *(mark for mark in ordered if tail < mark.offset < end),
    ]

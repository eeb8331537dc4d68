"""What attempts write to stdout and stderr: streams of bytes addressed by offset, and when the bytes were written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dropmill.model.ids import JobId


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputBounds:
    """How much is kept of an attempt's output, in bytes; what lies between is cut out.

    Attributes:
        head: kept of the beginning.
        tail: kept of the end.
    """

    head: int = 16 * 1024 * 1024
    tail: int = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputMark:
    """A moment in an attempt's output.

    Attributes:
        at: UTC, by the clock of the machine that ran the attempt. Goes back where somebody set that clock back.
        offset: of the first byte that was written then. The bytes up to the next mark were written within a second,
            or within the spacing of marks in a very long attempt.
    """

    at: datetime
    offset: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputPiece:
    """Some of an attempt's output on its way into the store.

    Attributes:
        job_id: whose.
        number: of the attempt.
        offset: where `data` belongs.
        data: the bytes.
        began_at: when the attempt wrote its first byte: the mark at offset 0.
        marks: further ones that are not stored yet, in order of offset.
    """

    job_id: JobId
    number: int
    offset: int
    data: bytes
    began_at: datetime
    marks: Sequence[OutputMark] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputChunk:
    """A piece of a stream as it is read.

    Attributes:
        offset: where `data` begins; beyond what was asked for if the bytes between were not kept.
        data: at most as much as asked for; empty if there is nothing behind the start yet, or ever.
        end: bytes written by the attempt so far, as far as is known here.
    """

    offset: int
    data: bytes
    end: int


def kept_marks(marks: Sequence[OutputMark], *, head: int, tail: int, end: int) -> list[OutputMark]:
    """The marks of the bytes that are kept, each offset once and in order.

    Where bytes were cut out, their marks go, too. The first byte behind them gets the time of the newest mark before
    it, because no later one says anything else of it.

    Args:
        marks: in any order, some of them more than once.
        head: the bytes before this offset are kept.
        tail: so are those from here on; `end` if there are none.
        end: of the output.
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

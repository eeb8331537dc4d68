"""A table of figures, and the few statistics in it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, kw_only=True)
class Table:
    """What one benchmark found."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """The table with its title above and its notes below."""
        cells = [list(self.columns), *map(list, self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(self.columns))]
        lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join([f"## {self.title}", "", *lines, *(["", *self.notes] if self.notes else [])])


def middle(values: Sequence[float], digits: int = 0) -> str:
    """The median, and how far the rounds lie apart."""
    text = f"{median(values):,.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of them do not exceed."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def latency_cells(rounds: Sequence[Sequence[float]]) -> list[str]:
    """p50, p99 and maximum in milliseconds: medians over the rounds, but the maximum of all; then how many samples."""
    p50, p99 = ([1000 * percentile(one, percent) for one in rounds] for percent in (50, 99))
    return [
        middle(p50, 1),
        middle(p99, 1),
        f"{1000 * max(map(max, rounds)):.1f}",
        f"{sum(map(len, rounds)):,}",
    ]


LATENCY_COLUMNS = ("p50 ms", "p99 ms", "max ms", "requests")


_BEGIN, _END = "<!-- figures -->", "<!-- end of figures -->"


def put_between(document: str, figures: str) -> str:
    """A document with other figures, its headings two levels below where they were.

    Raises:
        ValueError: the document lacks one of the two lines that mark where they are.
    """
    before, begin, rest = document.partition(f"{_BEGIN}\n")
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"there are no lines {_BEGIN} and {_END}, between which figures are put")
    lower = "\n".join(f"##{line}" if line.startswith("#") else line for line in figures.splitlines())
    return f"{before}{_BEGIN}\n{lower}\n{_END}{after}"

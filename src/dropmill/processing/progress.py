"""The progress of a script: its own reports, or what its output shows; the bus gets at most four reports a second.

Progress is throw-away. It says nothing about an outcome, and the ledger does not record it.

The event loop parses foreign bytes here, up to a full pipe at a time. So each pattern begins with fixed text or reads
only a few KiB, and every repetition is bounded or ends where the next match may begin: no input takes more than linear
time (`tests/test_foreign_bytes.py`).
"""

import asyncio
import re

from dropmill.model.jobs import AttemptSpec, Progress
from dropmill.ports.bus import Bus

PROGRESS_S = 0.25  # between two reports of one file: four a second
LOOKED_AT_BYTES = 4096  # of one read, from its end: the newest counts, and a script may write a GiB

_MARK = b"dropmill: progress "
_EXPLICIT = re.compile(rb"(\d{1,15}(?:\.\d{1,9})?)(?:/(\d{1,15}(?:\.\d{1,9})?)|(%))?(?:[ \t]+(.*))?\s*")
_COLOUR = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
# Neither may touch a letter, a slash, a dot or a dash: 1/2/2024, src/1/2, 3/10px, v2.1/3 and 50%25 are no progress.
_FOUND = re.compile(
    rb"(?:(?<=[\s(\[|:,])|^)"
    rb"(?:(?P<percent>\d{1,3}(?:\.\d{1,9})?)\s?%|(?P<n>\d{1,15})/(?P<m>\d{1,15}))"
    rb"(?=$|[\s)\]|:,;]|\.(?:\s|$))"
)
# ffmpeg prints the length of its input once, and its position repeatedly.
# The look-behind comes after `Duration: `, so that the search begins with fixed text.
_TIME = rb"(\d{1,4}):(\d\d):(\d\d(?:\.\d{1,9})?)"
_LENGTH = re.compile(rb"Duration: (?<!\SDuration: )" + _TIME + rb",")
_PLACE = re.compile(rb"time=(?<!\wtime=)" + _TIME + rb"(?![\d.])")

Report = tuple[float, float | None, str | None]
"""Value, total (None: unknown), label (None: none)."""


def parse_explicit(line: bytes) -> Report | None:
    """The report in a line `dropmill: progress 3/10 label` (also `45% label`); None if it is none."""
    if not line.startswith(_MARK) or not (found := _EXPLICIT.fullmatch(line, len(_MARK))):
        return None
    value, total, percent, label = found.groups()
    text = label.decode(errors="replace").strip()[:200] if label else ""
    return float(value), 100.0 if percent else float(total) if total else None, text or None


def find_progress(line: bytes) -> Report | None:
    """The last `NN%` or `n/m` (n <= m, m > 1) in a line of output, as tqdm, rsync and curl print it; None if none."""
    newest = None
    for found in _FOUND.finditer(_COLOUR.sub(b"", line)):
        if found["percent"] is not None:
            value, total = float(found["percent"]), 100.0
        else:
            value, total = float(found["n"]), float(found["m"])
        if value <= total and total > 1:
            newest = (value, total, None)
    return newest


def _seconds(found: re.Match[bytes]) -> float:
    hours, minutes, seconds = (float(group) for group in found.groups())
    return hours * 3600 + minutes * 60 + seconds


class ProgressFeed:
    """Publishes one attempt's progress: at most four reports a second, the newest wins, the last is always published.

    Once the script has reported numbers itself, none are guessed from its output.
    """

    def __init__(self, bus: Bus, order: AttemptSpec, *, is_guessing: bool = True) -> None:
        """Publish on `bus`, for the file of `order`. Used on the event loop.

        Args:
            bus: gets the reports.
            order: of the attempt.
            is_guessing: whether progress is also read from output that is meant for people.
        """
        self._bus = bus
        self._order = order
        self._loop = asyncio.get_running_loop()
        self._is_explicit = not is_guessing
        self._length_s: float | None = None  # of a medium that ffmpeg works on
        self._is_timed = False
        self._rest = b""
        self._numbers: Report = (0, None, None)  # the newest value and total
        self._label: str | None = None  # reported without numbers; shown beside guessed numbers
        self._next_at = 0.0
        self._waiting: Progress | None = None
        self._timer: asyncio.TimerHandle | None = None

    def report(self, value: float | None, total: float | None, label: str | None) -> None:
        """Take a report of the script's own; a value of None means: a new label for the numbers of the last report."""
        if value is None:
            self._label = label
            self._take(self._numbers)
        else:
            self._is_explicit = True
            self._label = None
            self._take((value, total, label))

    def read(self, output: bytes) -> None:
        """Search the newest output for progress, in lines ended by a newline or redrawn with a carriage return."""
        text = self._rest + output
        end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        self._rest = text[end:][:LOOKED_AT_BYTES]
        mark = text.rfind(_MARK, 0, end)
        if mark >= 0 and (mark == 0 or text[mark - 1 : mark] in (b"\n", b"\r")):
            report = parse_explicit(re.split(rb"[\r\n]", text[mark : mark + LOOKED_AT_BYTES], maxsplit=1)[0])
            if report is not None:
                self.report(*report)
        if self._is_explicit:
            return
        for length in _LENGTH.finditer(text, 0, end):
            self._length_s = _seconds(length)
        # From then on percentages are ignored: the encoder's are about other things.
        self._is_timed = self._is_timed or (bool(self._length_s) and b" time=" in text)
        lines = re.split(rb"[\r\n]+", text[max(0, end - LOOKED_AT_BYTES) : end])
        if end > LOOKED_AT_BYTES:
            del lines[0]  # cut, and half a number is another number
        for line in reversed(lines):
            found = self._find(line)
            if found is not None:
                self._take(found)
                return

    def _find(self, line: bytes) -> Report | None:
        if not self._is_timed:
            return find_progress(line)
        if not self._length_s or not (place := _PLACE.search(line)):
            return None
        return min(_seconds(place), self._length_s), self._length_s, None

    def close(self) -> None:
        """Publish the newest report, if it is not published yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._publish()

    def _take(self, report: Report) -> None:
        value, total, label = report
        self._numbers = (value, total, None)
        self._waiting = Progress(
            submission_id=self._order.submission_id,
            file_id=self._order.file_id,
            stage="process",
            value=value,
            total=total,
            label=self._label if label is None else label,
        )
        if self._timer is None:
            delay_s = self._next_at - self._loop.time()
            if delay_s <= 0:
                self._publish()
            else:
                self._timer = self._loop.call_later(delay_s, self._publish)

    def _publish(self) -> None:
        self._timer = None
        if self._waiting is not None:
            self._bus.report(self._waiting)
            self._waiting = None
            self._next_at = self._loop.time() + PROGRESS_S

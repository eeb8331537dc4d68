"""One attempt in a slot, from the server's side: its pipes, its time limits, its end.

It knows no job and no ledger: an attempt here is a message for the slot, a sink for its output, and how it ended.
"""

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from dropmill.model.jobs import JobError
from dropmill.slot.disk import InputTouched

KILL_ANSWER_S = 10.0  # after SIGKILL: a slot that has not answered by then is stopped or stuck, and is killed itself
CHUNK_BYTES = 64 * 1024  # of output read at a time, the size of a pipe: a chatty script shares the loop with all others
DRAIN_CHUNKS = 32  # 2 MiB, above the largest pipe an ordinary user may ask for, read after an attempt's end at most
MOST_COUNTED = 1e15  # of progress: what a browser's numbers hold exactly; NaN and infinity are not below it
WATCH_AFTER_S = 0.02  # how long pipes are not watched: most small jobs end before, and their output is read once
LABEL_ONLY = b"p[null,"  # how a report begins that keeps the numbers
REPORT_KINDS = (b"p", LABEL_ONLY, b"v", b"e")  # progress, a label alone, the value returned, an error
REPORT_BYTES = 256 * 1024  # longest report line; a returned value is at most a quarter of it


class StopReason(StrEnum):
    """Why the server ends an attempt before the script does."""

    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    SHUT_DOWN = "shut_down"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEnd:
    """How an attempt's process ended.

    Attributes:
        exit_code: -n means signal n; None if the slot died with it.
        reason: why the server ended it; None if it did not.
        error: what the script, or the slot for it, reported; None if nothing.
        has_value: whether a callable returned.
        value: what it returned, as JSON holds it; None if it returned nothing that JSON can hold.
        is_tidy: whether the attempt's folders are removed already.
        is_input_same: whether the input had the identity of the order at the end; None: nobody has seen.
    """

    exit_code: int | None
    reason: StopReason | None = None
    error: JobError | None = None
    has_value: bool = False
    value: Any = None
    is_tidy: bool = False
    is_input_same: bool | None = None


class Sink(Protocol):
    """Takes the output (`dropmill.processing.output.OutputStream`)."""

    @property
    def has_room(self) -> bool:
        """Whether more may be written."""

    def write(self, data: bytes) -> bool:
        """Append data; False if the writer should wait for `when_room`."""

    def when_room(self, resume: Callable[[], None]) -> None:
        """Call `resume` once, when there is room again."""


OnReport = Callable[[float | None, float | None, str | None], None]
"""Called with value, total (None: unknown) and label (None: none) of a progress report.

A value of None means: a new label for the numbers of the previous report."""


class RunHost(Protocol):
    """What an attempt needs of the slot that it runs in (`dropmill.processing.pool.Slot`)."""

    def send(self, message: bytes, descriptors: tuple[int, ...] = ()) -> None:
        """Send a message, and descriptors with it."""

    def wake(self) -> None:
        """Continue the process: a script may have stopped it (SIGSTOP)."""

    def kill(self) -> None:
        """Kill the process."""

    def reap(self) -> None:
        """Reap the dead process and its orphans. Blocks until they are gone."""


class Run:
    """One attempt in a slot. `start` comes first, `ended` always."""

    def __init__(self, slot: RunHost, sink: Sink, on_report: OnReport) -> None:
        """Open nothing yet.

        Args:
            slot: where it runs.
            sink: takes the output.
            on_report: called for each progress report, as often as the script reports.
        """
        self._slot = slot
        self._sink = sink
        self._on_report = on_report
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Mapping[str, Any] | None] = self._loop.create_future()
        self._reason: StopReason | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watching: asyncio.TimerHandle | None = None  # begins to watch the pipes; None: it has, or never will
        self._output = self._report = -1
        self._line = bytearray()
        self._is_line_too_long = False
        self._error: JobError | None = None
        self._returned: tuple[Any] | None = None

    def start(self, message: bytes) -> None:
        """Open the pipes and send the order to the slot.

        Raises:
            OSError: this process has no descriptors left; nothing is open then.
        """
        self._output, output = os.pipe()
        try:
            self._report, report = os.pipe()
        except OSError:
            os.close(output)
            os.close(self._output)
            raise
        try:
            os.set_blocking(self._output, False)
            os.set_blocking(self._report, False)
            self._slot.send(message, (output, report))
        finally:
            os.close(output)
            os.close(report)
        self._watching = self._loop.call_later(WATCH_AFTER_S, self._watch)

    def _watch(self) -> None:
        self._watching = None
        self._loop.add_reader(self._output, self._on_output)
        self._loop.add_reader(self._report, self._on_report_data)

    def _stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
            return
        self._loop.remove_reader(self._output)
        self._loop.remove_reader(self._report)

    def limit(self, timeout_s: float, grace_s: float) -> None:
        """End the attempt as timed out if it still runs after `timeout_s`; `grace_s` as for `stop`."""
        self._timer = self._loop.call_later(timeout_s, self.stop, StopReason.TIMED_OUT, grace_s)

    def stop(self, reason: StopReason, grace_s: float) -> None:
        """Terminate the attempt (SIGTERM), kill it after `grace_s` (0: at once). The first reason is kept."""
        if self._answer.done():
            return
        is_first = self._reason is None
        self._reason = self._reason or reason
        if grace_s <= 0:
            self._kill()
        elif is_first:
            self._slot.wake()
            self._slot.send(b'{"signal": "terminate"}')
            self._later(grace_s, self._kill)

    def _kill(self) -> None:
        self._slot.wake()
        self._slot.send(b'{"signal": "kill"}')
        self._later(KILL_ANSWER_S, self._slot.kill)

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, act)

    def has_ended(self, answer: Mapping[str, Any] | None) -> None:
        """Take what the slot sent when nothing of the attempt ran any more (None: the slot is dead)."""
        if not self._answer.done():
            self._answer.set_result(answer)

    async def ended(self) -> RunEnd:
        """Wait until no process of the attempt is left and the last byte of output is read; returns how it ended.

        Cancelling kills the slot with everything that runs in it.

        Raises:
            InputTouched: the script was not run, because the input has not the identity of the order.
            OSError: the script was not run, because its folders could not be made.
        """
        try:
            answer = await self._answer
            if answer is None:
                # The slot is dead, but processes of its attempt may still run; reaping the slot ends them.
                await asyncio.to_thread(self._slot.reap)
            await self._drain()
        except BaseException:
            self._slot.kill()
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._stop_watching()
            for descriptor in (self._output, self._report):
                os.close(descriptor)
        if answer is not None and "refused" in answer:
            if answer["refused"] is None:
                raise InputTouched
            raise OSError(*answer["refused"])
        return RunEnd(
            exit_code=None if answer is None else answer["ended"],
            reason=self._reason,
            error=self._error,
            has_value=self._returned is not None,
            value=self._returned[0] if self._returned is not None else None,
            is_tidy=answer is not None and answer["is_tidy"],
            is_input_same=None if answer is None else answer["is_input_same"],
        )

    # output

    def _on_output(self) -> None:
        data = _read(self._output)
        if not data:
            if data is not None:
                self._loop.remove_reader(self._output)  # closed by the script; the slot reports its end
        elif not self._sink.write(data):
            self._loop.remove_reader(self._output)
            self._sink.when_room(self._resume)

    def _resume(self) -> None:
        if not self._answer.done():
            self._loop.add_reader(self._output, self._on_output)

    async def _drain(self) -> None:
        """Read what is still in the pipes. Not to their end, because another process might hold them open."""
        self._stop_watching()  # whoever reads beside this would take its place in the queue for room
        for _ in range(DRAIN_CHUNKS):
            if not self._sink.has_room:
                room = asyncio.Event()
                self._sink.when_room(room.set)
                await room.wait()
            data = _read(self._output)
            if not data:
                break
            self._sink.write(data)
        for _ in range(DRAIN_CHUNKS):
            if not self._on_report_data():
                break

    # reports; the script can write anything into this pipe, so its content is not trusted

    def _on_report_data(self) -> bool:
        data = _read(self._report)
        if not data:
            if data is not None:
                self._loop.remove_reader(self._report)
            return False
        self.take_reports(data)
        return True

    def take_reports(self, data: bytes) -> None:
        """Parse data from the report pipe: of each kind only the newest line. A line may come in several pieces."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"" if self._is_line_too_long else bytes(self._line) + lines[0]
            self._line.clear()
            self._is_line_too_long = False
        newest: dict[bytes, bytes] = {}  # a pipe full of small lines takes 0.1 s to parse
        for line in lines:
            kind = LABEL_ONLY if line.startswith(LABEL_ONLY) else line[:1]
            if kind == b"p":
                newest.pop(LABEL_ONLY, None)  # an earlier label belonged to older numbers
            newest[kind] = line
        for kind in REPORT_KINDS:
            if kind in newest:
                self._take(newest[kind])
        self._line += rest
        if len(self._line) > REPORT_BYTES:
            self._line.clear()
            self._is_line_too_long = True

    def _take(self, line: bytes) -> None:
        try:
            what = json.loads(line[1:])
        except (ValueError, RecursionError):
            return
        match line[:1], what:
            case b"v", _:
                self._returned = (what if _is_plain(what) else None,)
            case b"e", [str(kind), str(text)]:
                self._error = JobError(type=_clean(kind)[:100], message=_clean(text)[:4000])
            case b"p", [None, None, str(label)]:
                self._on_report(None, None, _clean(label))
            case b"p", [int() | float() as value, int() | float() | None as total, str() | None as label]:
                if abs(value) <= MOST_COUNTED and (total is None or abs(total) <= MOST_COUNTED):
                    self._on_report(value, total, None if label is None else _clean(label))


def _clean(text: str) -> str:
    """The text with lone surrogates escaped: a Python string may hold them, UTF-8 and databases do not."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_plain(value: Any) -> bool:
    """Whether JSON in UTF-8 can hold it."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (ValueError, RecursionError):
        return False
    return True


def _read(descriptor: int) -> bytes | None:
    """What can be read now: b"" at the end of the pipe, None if there is nothing yet."""
    try:
        return os.read(descriptor, CHUNK_BYTES)
    except BlockingIOError:
        return None

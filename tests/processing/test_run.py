"""One attempt in a slot, without a process: what its report pipe may hold, and what a start that fails leaves."""

import asyncio
import errno
import os
from collections.abc import Callable

import pytest

from dropmill.model.ids import new_job_id
from dropmill.model.jobs import JobError
from dropmill.model.output import OutputBounds
from dropmill.processing import run as run_module
from dropmill.processing.output import OutputStream
from dropmill.processing.run import CHUNK_BYTES, REPORT_BYTES, OnReport, Run


class NoSlot:
    """`dropmill.processing.run.RunHost` without a process."""

    def __init__(self) -> None:
        self.kills = 0

    def send(self, message: bytes, descriptors: tuple[int, ...] = ()) -> None:
        raise AssertionError("there is no process")

    def wake(self) -> None:
        raise AssertionError("there is no process")

    def kill(self) -> None:
        self.kills += 1

    def reap(self) -> None:
        raise AssertionError("there is no process")


def a_run(on_report: OnReport) -> Run:
    return Run(NoSlot(), OutputStream(new_job_id(), 1, OutputBounds(), lambda _: None), on_report)


async def test_a_report_that_is_too_long_is_skipped_and_the_next_one_counts() -> None:
    reports: list[tuple[float | None, float | None, str | None]] = []
    run = a_run(lambda *report: reports.append(report))
    for _ in range(3):
        run.take_reports(b"p[1, 2, " + b"9" * REPORT_BYTES)
        assert len(run._line) <= REPORT_BYTES  # a script may write a line without end
    run.take_reports(b'p[3, 4, "the rest of it"]\n')
    assert reports == []
    run.take_reports(b'p[5, 10, "whole"]\n')
    assert reports == [(5, 10, "whole")]


async def test_only_the_newest_report_of_each_kind_counts() -> None:
    reports: list[tuple[float | None, float | None, str | None]] = []
    run = a_run(lambda *report: reports.append(report))
    run.take_reports(b'p[1, 9, null]\np[2, 9, null]\np[null, null, "old"]\np[null, null, "new"]\n')
    assert reports == [(2, 9, None), (None, None, "new")]
    run.take_reports(b'e["A", "1"]\ne["B", "2"]\n')
    assert run._error == JobError(type="B", message="2")


async def test_a_label_does_not_outlive_the_numbers_that_it_belongs_to() -> None:
    reports: list[tuple[float | None, float | None, str | None]] = []
    run = a_run(lambda *report: reports.append(report))
    run.take_reports(b'p[1, 9, null]\np[null, null, "of 1"]\np[2, 9, null]\n')
    assert reports == [(2, 9, None)]


async def test_a_start_without_descriptors_leaves_none_open(monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(lambda *_: None)
    before = sorted(os.listdir("/proc/self/fd"))
    real = os.pipe
    made: list[tuple[int, int]] = []

    def pipe() -> tuple[int, int]:
        if made:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        made.append(real())
        return made[0]

    with monkeypatch.context() as patch:
        patch.setattr(os, "pipe", pipe)
        with pytest.raises(OSError, match="Too many open files"):
            run.start(b"{}")
    assert made
    assert sorted(os.listdir("/proc/self/fd")) == before


class OneScript(NoSlot):
    """A slot whose script has written all at once and ended when its start returns."""

    def __init__(self, output: bytes) -> None:
        super().__init__()
        self._output = output

    def send(self, message: bytes, descriptors: tuple[int, ...] = ()) -> None:
        assert os.write(descriptors[0], self._output) == len(self._output)


class FullSink:
    """Takes a piece, and has no room until the test makes some."""

    def __init__(self) -> None:
        self.data = b""
        self.has_room = True
        self.resumes: list[Callable[[], None]] = []
        self.is_waited_for = asyncio.Event()

    def write(self, data: bytes) -> bool:
        self.data += data
        self.has_room = False
        return False

    def when_room(self, resume: Callable[[], None]) -> None:
        self.resumes = [resume]  # as the stream: one may wait
        self.is_waited_for.set()

    def make_room(self) -> None:
        self.has_room = True
        self.resumes.pop()()


async def test_watching_does_not_begin_while_the_rest_of_the_output_waits_for_the_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The watcher took the place of who waited for room, and the attempt never ended."""
    monkeypatch.setattr(run_module, "WATCH_AFTER_S", 0.0)
    output, sink = os.urandom(CHUNK_BYTES - 1) + b"\n", FullSink()
    run = Run(OneScript(output), sink, lambda *_: None)
    monkeypatch.setattr(run_module, "CHUNK_BYTES", CHUNK_BYTES // 2)
    run.start(b"")
    run.has_ended({"ended": 0, "is_tidy": True, "is_input_same": True})
    ending = asyncio.create_task(run.ended())
    await sink.is_waited_for.wait()
    for _ in range(3):
        await asyncio.sleep(0)  # the timer is due
    sink.make_room()
    async with asyncio.timeout(20):
        while not ending.done():
            if sink.resumes:
                sink.make_room()
            await asyncio.sleep(0)
    assert (await ending).exit_code == 0
    assert sink.data == output

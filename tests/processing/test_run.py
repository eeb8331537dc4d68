"""One attempt in a slot, without a process: what its report pipe may hold, and what a start that fails leaves."""

import errno
import os

import pytest

from dropmill.model.ids import new_job_id
from dropmill.model.jobs import JobError
from dropmill.model.output import OutputBounds
from dropmill.processing.output import OutputStream
from dropmill.processing.run import REPORT_BYTES, OnReport, Run


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

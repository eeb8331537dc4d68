"""Runs the benchmarks that are named, or all, and prints their tables as Markdown."""

import argparse
import shlex
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from benchmarks import (
    access,
    config,
    drips,
    healthz,
    history,
    hosts,
    live,
    memory,
    page,
    paired,
    queueing,
    reads,
    uploads,
)
from benchmarks.bench import BEFORE, FULL, QUICK, Bench
from benchmarks.machine import describe_machine
from benchmarks.peers import dispatch
from benchmarks.table import Table, put_between


class Subject(Protocol):
    """A module that measures something; a new one is a line below."""

    def measure(self, bench: Bench) -> Sequence[Table]:
        """Measure this tree, beside the commit before and other programs where there are such."""

    def run(self, bench: Bench) -> None:
        """Do the work of a server of ours once and mark it by `Bench.work`; for comparing two trees."""


SUBJECTS: dict[str, Subject] = {
    "uploads": uploads,
    "dispatch": dispatch,
    "memory": memory,
    "reads": reads,
    "queueing": queueing,
    "drips": drips,
    "healthz": healthz,
    "page": page,
    "history": history,
    "config": config,
    "access": access,
    "live": live,
    "hosts": hosts,
}


def main() -> int:
    """Run from the command line; returns the exit code: 1 if anything did not run or went wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(SUBJECTS)}; default: all")
    parser.add_argument("--rounds", type=int, default=None, metavar="N", help="rounds of each measurement; default 3")
    parser.add_argument("--quick", action="store_true", help="little work, one round: shows that it runs, not how fast")
    parser.add_argument(
        "--before", default=BEFORE, metavar="COMMIT", help="the commit that is measured beside; default: %(default).7s"
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="also put the figures into a document, between its lines for them",
    )
    parser.add_argument("--against", metavar="COMMIT", help="compare this tree with another commit, in turn")
    parser.add_argument(
        "--pairs", type=int, default=paired.PAIRS, metavar="N", help="turns of each with --against; default 10"
    )
    options = parser.parse_args()
    names = options.names or list(SUBJECTS)
    for name in names:
        if name not in SUBJECTS:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(SUBJECTS)}")
    rounds = options.rounds if options.rounds is not None else 1 if options.quick else 3
    if rounds < 1 or options.pairs < 1:
        parser.error("--rounds and --pairs must be at least 1")

    document = None if options.write is None else options.write.read_text()
    if document is not None:
        try:
            put_between(document, "")  # before hours of measuring
        except ValueError as error:
            parser.error(f"{options.write}: {error}")

    began = time.monotonic()
    # TMPDIR chooses another disk. All is deleted at the end and nothing before: on ext4 making a file takes about a
    # millisecond right after many were deleted.
    folder = Path(tempfile.mkdtemp(prefix="dropmill-benchmarks-"))
    report = Report()
    try:
        report.add(describe_machine(folder), "")
        try:
            commit, tree = paired.unpack(options.against, folder) if options.against else (None, folder)
            before = _before(options.before, folder) if commit is None else None
        except ValueError as error:
            parser.error(str(error))
        times = f"Rounds: {rounds}" if commit is None else f"Pairs: {options.pairs}"
        report.add(f"{times}, interleaved; figures are medians, in brackets the lowest and the highest.")
        if options.quick:
            report.add("QUICK: little work and few samples; good for seeing that it runs, not for quoting.")
        report.add("Client and server share the machine, and it is noisy: ratios in one run count, not single figures.")
        if before is not None:
            report.add(f"The commit before: {before[0]}.")
        elif commit is None:
            report.add(f"The commit before, {options.before[:7]}, is not in this repository and was left out.")
        with Bench(folder=folder, rounds=rounds, scale=QUICK if options.quick else FULL, before=before) as bench:
            for name in names:
                subject = SUBJECTS[name]
                try:
                    if commit is None:
                        tables = subject.measure(bench)
                    else:
                        tables = [paired.measure(name, subject.run, bench, commit, tree, options.pairs)]
                except Exception as error:  # whatever it is, the others are still worth running
                    traceback.print_exception(error)
                    bench.failures.append(f"{name}: {type(error).__name__}: {error}".splitlines()[0])
                else:
                    for table in tables:
                        report.add("", table.markdown())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report.add("", "Command lines ($DIR is a temporary folder):", "", *(f"    {command}" for command in bench.commands))
    asked = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    report.add("", f"`{asked}` took {time.monotonic() - began:.0f} s.")
    if document is not None:
        options.write.write_text(put_between(document, report.text))
    for failure in bench.failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if bench.failures else 0


class Report:
    """What was found, printed as soon as it is known: a run takes long, and may be ended.

    Attributes:
        text: all of it so far.
    """

    def __init__(self) -> None:
        self.text = ""

    def add(self, *lines: str) -> None:
        """Print lines and keep them."""
        for line in lines:
            print(line, flush=True)
            self.text += f"{line}\n"


def _before(commit: str, folder: Path) -> tuple[str, Path] | None:
    """The short name and the tree of the commit before; None if the one that is compared with by default is missing.

    Raises:
        ValueError: another one was asked for, and git does not know it here.
    """
    try:
        return paired.unpack(commit, folder)
    except (ValueError, OSError):
        if commit != BEFORE:
            raise
        return None  # a copy without the history


if __name__ == "__main__":
    sys.exit(main())

"""Runs the benchmarks that are named, or all, and prints their tables as Markdown."""

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Protocol

from benchmarks import config, healthz, history, latency, page, paired, small, upload
from benchmarks.bench import FULL, QUICK, Bench
from benchmarks.machine import describe_machine
from benchmarks.peers import comparison, crowd, dispatch
from benchmarks.table import Table


class Subject(Protocol):
    """A module that measures something; a new one is a line below."""

    def measure(self, bench: Bench) -> Table:
        """Measure this tree, beside other programs where there are such, and return one table."""

    def run(self, bench: Bench) -> None:
        """Do the work of a server of ours once and mark it by `Bench.work`; for comparing two trees."""


SUBJECTS: dict[str, Subject] = {
    "upload": upload,
    "small": small,
    "healthz": healthz,
    "latency": latency,
    "page": page,
    "dispatch": dispatch,
    "history": history,
    "config": config,
    "crowd": crowd,
    "peers": comparison,
}


def main() -> int:
    """Run from the command line; returns the exit code: 1 if anything did not run or went wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(SUBJECTS)}; default: all")
    parser.add_argument("--rounds", type=int, default=None, metavar="N", help="rounds of each measurement; default 3")
    parser.add_argument("--quick", action="store_true", help="little work, one round: shows that it runs, not how fast")
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

    began = time.monotonic()
    # TMPDIR chooses another disk. All is deleted at the end and nothing before: on ext4 making a file takes about a
    # millisecond right after many were deleted.
    folder = Path(tempfile.mkdtemp(prefix="dropmill-benchmarks-"))
    tables: list[Table] = []
    failures: list[str] = []
    head = describe_machine(folder)
    try:
        try:
            commit, tree = paired.unpack(options.against, folder) if options.against else (None, folder)
        except ValueError as error:
            parser.error(str(error))
        with Bench(folder=folder, rounds=rounds, scale=QUICK if options.quick else FULL) as bench:
            for name in names:
                try:
                    subject = SUBJECTS[name]
                    if commit is None:
                        tables.append(subject.measure(bench))
                    else:
                        tables.append(paired.measure(name, subject.run, bench, commit, tree, options.pairs))
                except Exception as error:  # whatever it is, the others are still worth running
                    traceback.print_exception(error)
                    failures.append(f"{name}: {type(error).__name__}: {error}".splitlines()[0])
            commands = bench.commands
    finally:
        shutil.rmtree(folder, ignore_errors=True)

    print(head)
    times = f"Rounds: {rounds}" if commit is None else f"Pairs: {options.pairs}"
    print(f"\n{times}, interleaved; figures are medians, in brackets the lowest and the highest.")
    if options.quick:
        print("QUICK: little work and few samples; good for seeing that it runs, not for quoting.")
    print("Client and server share the machine, and it is noisy: ratios within one run count, not single figures.")
    for table in tables:
        print(f"\n{table.markdown()}")
    print("\nCommand lines ($DIR is a temporary folder):\n")
    for command in commands:
        print(f"    {command}")
    print(f"\nTook {time.monotonic() - began:.0f} s.", flush=True)
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

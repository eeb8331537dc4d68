"""Runs the benchmarks that are named, or all, and prints their tables as Markdown."""

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks import config, healthz, history, page, small, upload
from benchmarks.bench import FULL, QUICK, Bench
from benchmarks.machine import describe_machine
from benchmarks.peers import comparison, crowd, dispatch
from benchmarks.table import Table

# A subject is a module with one function that returns one table; a new one is a line here.
SUBJECTS: dict[str, Callable[[Bench], Table]] = {
    "upload": upload.measure,
    "small": small.measure,
    "healthz": healthz.measure,
    "page": page.measure,
    "dispatch": dispatch.measure,
    "history": history.measure,
    "config": config.measure,
    "crowd": crowd.measure,
    "peers": comparison.measure,
}


def main() -> int:
    """Run from the command line; returns the exit code: 1 if anything did not run or went wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(SUBJECTS)}; default: all")
    parser.add_argument("--rounds", type=int, default=None, metavar="N", help="rounds of each measurement; default 3")
    parser.add_argument("--quick", action="store_true", help="little work, one round: shows that it runs, not how fast")
    options = parser.parse_args()
    names = options.names or list(SUBJECTS)
    for name in names:
        if name not in SUBJECTS:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(SUBJECTS)}")
    rounds = options.rounds if options.rounds is not None else 1 if options.quick else 3
    if rounds < 1:
        parser.error("--rounds must be at least 1")

    began = time.monotonic()
    # TMPDIR chooses another disk. All is deleted at the end and nothing before: on ext4 making a file takes about a
    # millisecond right after many were deleted.
    folder = Path(tempfile.mkdtemp(prefix="dropmill-benchmarks-"))
    tables: list[Table] = []
    failures: list[str] = []
    head = describe_machine(folder)
    try:
        with Bench(folder=folder, rounds=rounds, scale=QUICK if options.quick else FULL) as bench:
            for name in names:
                try:
                    tables.append(SUBJECTS[name](bench))
                except Exception as error:  # whatever it is, the others are still worth running
                    traceback.print_exception(error)
                    failures.append(f"{name}: {type(error).__name__}: {error}".splitlines()[0])
            commands = bench.commands
    finally:
        shutil.rmtree(folder, ignore_errors=True)

    print(head)
    print(f"\nRounds: {rounds}, interleaved; figures are medians, in brackets the lowest and the highest.")
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

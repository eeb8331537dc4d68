"""This tree and another commit in turn: the same clients and the same work, servers from either tree.

Medians of two separate runs differ by more than most changes do, because the machine changes between them. Here each
pair runs both trees within a minute, in alternating order, and what is compared is the ratio within the pair.
"""

import io
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.bench import Bench, Work
from benchmarks.programs import ROOT
from benchmarks.table import Table, middle

PAIRS = 10


def unpack(commit: str, folder: Path) -> tuple[str, Path]:
    """The short name of a commit and a folder with its files, unpacked below `folder`.

    Raises:
        ValueError: git knows no such commit here.
    """
    try:
        name = _git("rev-parse", "--short", "--verify", f"{commit}^{{commit}}").decode().strip()
        archive = _git("archive", name)
    except subprocess.CalledProcessError as error:
        raise ValueError(f"{commit}: {error.stderr.decode().strip()}") from None
    tree = folder / f"commit-{name}"
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(tree, filter="data")
    return name, tree


def _git(*words: str) -> bytes:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True).stdout


def measure(name: str, run: Callable[[Bench], None], bench: Bench, commit: str, tree: Path, pairs: int) -> Table:
    """Run a subject with both trees, `pairs` times each.

    Args:
        name: of the subject.
        run: does the subject's work once and marks it.
        bench: starts the servers.
        commit: what the other tree is called.
        tree: its files.
        pairs: how often each tree takes its turn.
    """
    found: dict[Path, list[dict[str, Work]]] = {ROOT: [], tree: []}
    for number in range(pairs):
        order = (ROOT, tree) if number % 2 == 0 else (tree, ROOT)  # what comes first has another page cache
        for one in order:
            bench.say(f"{name}, pair {number + 1} of {pairs}: {'this tree' if one is ROOT else commit}")
            found[one].append(bench.marked_work(one, run))
    return Table(
        title=f"{name.capitalize()}: this tree against {commit}, {pairs} pairs",
        columns=("work", "wall, this", f"wall, {commit}", "ratio", "CPU, this", f"CPU, {commit}", "ratio"),
        rows=rows(found[ROOT], found[tree]),
        notes=[
            "Milliseconds, the server's processes together. Ratios are within each pair; below 1, this tree is cheaper."
        ],
    )


def rows(one: Sequence[Mapping[str, Work]], other: Sequence[Mapping[str, Work]]) -> list[Sequence[str]]:
    """A row for each label: what the work cost one side and the other, and the ratios of those that ran in turn."""
    made: list[Sequence[str]] = []
    for label in one[0]:
        ours, theirs = ([run[label] for run in side] for side in (one, other))
        unit = ours[0].unit
        made.append(
            (
                f"{label}, a {unit}",
                _costs([work.wall_s / work.amount for work in ours]),
                _costs([work.wall_s / work.amount for work in theirs]),
                _ratios([(a.wall_s, b.wall_s) for a, b in zip(ours, theirs, strict=True)]),
                _costs([work.cpu_s / work.amount for work in ours]),
                _costs([work.cpu_s / work.amount for work in theirs]),
                _ratios([(a.cpu_s, b.cpu_s) for a, b in zip(ours, theirs, strict=True)]),
            )
        )
    return made


def _costs(seconds: list[float]) -> str:
    return middle([1000 * one for one in seconds], 2)


def _ratios(pairs: list[tuple[float, float]]) -> str:
    if any(theirs == 0 for _, theirs in pairs):
        return "too short"  # CPU is counted in ticks of 10 ms
    return middle([ours / theirs for ours, theirs in pairs], 2)

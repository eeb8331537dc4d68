"""Two trees are compared by the same work, done by servers of either."""

from pathlib import Path

import pytest
from benchmarks.bench import QUICK, Bench

from benchmarks import paired


def test_a_commit_is_unpacked_as_it_was(tmp_path: Path) -> None:
    name, tree = paired.unpack("HEAD", tmp_path)
    assert tree.name == f"commit-{name}"
    assert (tree / "src" / "dropmill" / "__init__.py").is_file()
    assert (tree / "templates" / "base.html").is_file()


def test_an_unknown_commit_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no-such-commit"):
        paired.unpack("no-such-commit", tmp_path)


def test_each_tree_is_served_by_its_own_code(tmp_path: Path) -> None:
    """The other tree's version is what its servers say; the trees take turns, and the first turn changes sides."""
    _, tree = paired.unpack("HEAD", tmp_path)
    package = tree / "src" / "dropmill" / "__init__.py"
    package.write_text(package.read_text() + 'import sys\nprint("the other tree", file=sys.stderr)\n')
    turns: list[str] = []

    def run(bench: Bench) -> None:
        with bench.dropmill("nothing") as program:
            said = (program.folder / "said.txt").read_text()
            turns.append("other" if "the other tree" in said else "this")
            with bench.work("nothing", program, 2, "thing"):
                pass

    with Bench(folder=tmp_path, rounds=1, scale=QUICK, processes=1) as bench:
        table = paired.measure("nothing", run, bench, "abc", tree, 2)
    assert turns == ["this", "other", "other", "this"]
    assert [row[0] for row in table.rows] == ["nothing, a thing"]

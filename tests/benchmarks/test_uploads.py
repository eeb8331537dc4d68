"""Rounds that something disturbed, and ratios, are told from figures alone."""

from pathlib import Path

import pytest
from benchmarks.bench import QUICK
from benchmarks.peers import ways
from benchmarks.processors import read_twice
from benchmarks.programs import Program
from benchmarks.table import Table, put_between
from benchmarks.uploads import Found

from benchmarks import uploads


class NoProgram(Program):
    """A server that does not run; nothing here asks it."""

    def __init__(self) -> None:
        pass


def found(label: str, one: dict[int, float]) -> Found:
    way = next(way for way in ways.WAYS if way.label == label)
    made = Found(way=way, served=ways.Served(program=NoProgram(), folder=Path()))
    made.figures["one"] = one
    return made


def test_a_round_is_disturbed_where_c_is_not_clearly_ahead() -> None:
    everyone = [found(ways.C, {0: 1500.0, 1: 1000.0}), found(ways.AIOHTTP_RAW, {0: 1000.0, 1: 950.0})]
    assert uploads._disturbance(everyone, 0, "one") is None
    assert uploads._disturbance(everyone, 1, "one") == "one: 1.05"


def test_without_one_of_the_two_no_round_is_called_disturbed() -> None:
    assert uploads._disturbance([found(ways.C, {0: 10.0})], 0, "one") is None


def test_a_round_is_forgotten_whole() -> None:
    one = found(ways.C, {0: 1.0, 1: 2.0})
    one.latencies = {0: [0.1], 1: [0.2]}
    one.forget(1)
    assert (one.figures["one"], one.latencies) == ({0: 1.0}, {0: [0.1]})


def test_a_ratio_is_the_median_of_those_within_rounds() -> None:
    """The medians of the speeds alone, 100 and 200, would say 0.50."""
    ours = found(ways.THIS_PUT, {0: 50.0, 1: 100.0, 2: 400.0})
    theirs = found(ways.C, {0: 200.0, 1: 50.0, 2: 500.0})
    assert uploads._ratio(ours, theirs, "one") == "0.80"


def test_a_ratio_needs_rounds_in_which_both_took_part() -> None:
    ours = found(ways.THIS_PUT, {0: 50.0, 1: 100.0})
    assert uploads._ratio(ours, found(ways.C, {1: 50.0}), "one") == "2.00"
    assert uploads._ratio(ours, found(ways.C, {}), "one") == ""
    assert uploads._ratio(ours, None, "one") == ""


def test_each_way_has_a_server_and_a_label_of_its_own() -> None:
    assert {way.server for way in ways.WAYS} == set(ways.STARTS)
    labels = [way.label for way in ways.WAYS]
    assert len(set(labels)) == len(labels)


def test_sizes_are_multiples_of_the_block_that_is_sent() -> None:
    sizes = [value for name, value in vars(QUICK).items() if name.endswith("_bytes") and value is not None]
    assert [size % 2**20 for size in sizes] == [0] * len(sizes)


def test_a_file_just_written_is_read_from_the_page_cache(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * 4096 + 1))
    assert read_twice(str(path))["cached"] == 1


def test_figures_take_the_place_of_others_below_their_heading() -> None:
    document = "# Document\n<!-- figures -->\nold\n<!-- end of figures -->\nend\n"
    table = Table(title="New", columns=("what",), rows=[("1",)])
    written = put_between(document, table.markdown())
    assert "old" not in written
    assert "\n#### New\n" in written
    assert written.endswith("<!-- end of figures -->\nend\n")
    assert put_between(written, "old") == document


def test_a_document_without_a_place_for_figures_is_refused() -> None:
    with pytest.raises(ValueError, match="no lines"):
        put_between("# Document\n<!-- figures -->\n", "")

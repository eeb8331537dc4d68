"""Merging lines: whatever two people did to a text, every line of both is accounted for."""

import random
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page

CASES = 1000
Lines = list[str]
# Parts of a merge of each case; the module is the page's own.
_MERGE_ALL = """async (cases) => {
  const { merge } = await import("/static/js/merge.js");
  return cases.map((texts) => merge(...texts.map((lines) => lines.join("\\n"))));
}"""


def edited(lines: Lines, source: random.Random) -> Lines:
    """What somebody made of them."""
    out = list(lines)
    for _ in range(source.randrange(5)):
        at = source.randrange(len(out) + 1)
        match source.choice(("insert", "remove", "change")):
            case "insert":
                out[at:at] = [f"line {source.randrange(9)}" for _ in range(source.randrange(1, 4))]
            case "remove":
                del out[at : at + source.randrange(1, 4)]
            case _ if at < len(out):
                out[at] = f"changed {source.randrange(9)}"
    return out or [""]


def side(parts: list[dict[str, Any]], whose: str) -> Lines:
    """The base, their text or mine, put together again from the parts of a merge."""
    other = {"theirs": "mine", "mine": "theirs"}.get(whose)
    gathered: Lines = []
    for part in parts:
        if part["kind"] == "place":
            gathered += part[whose]
        elif whose == "base" or part["kind"] == other:
            gathered += part["base"]
        else:
            gathered += part["lines"]
    return gathered


def test_the_parts_of_a_merge_hold_all_three_texts(open_page: Callable[..., Page]) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    source = random.Random(seed)
    cases = []
    for _ in range(CASES):
        base = [f"line {source.randrange(9)}" for _ in range(source.randrange(1, 25))]
        cases.append([base, edited(base, source), edited(base, source)])
    merged = open_page("/").evaluate(_MERGE_ALL, cases)
    conflicts = 0
    for (base, theirs, mine), parts in zip(cases, merged, strict=True):
        assert side(parts, "base") == base
        assert side(parts, "theirs") == theirs
        assert side(parts, "mine") == mine
        places = [part for part in parts if part["kind"] == "place"]
        conflicts += len(places)
        assert not places or base not in (theirs, mine), "what only one changed merges by itself"
        assert len({place["key"] for place in places}) == len(places)
        for place in places:
            assert place["theirs"] != place["mine"], "both wrote the same"
            assert theirs[place["line"] - 1 :][: len(place["theirs"])] == place["theirs"]
    assert conflicts > CASES / 10, "the cases were too easy"


def test_changes_to_neighbouring_lines_meet_and_those_with_a_line_between_do_not(
    open_page: Callable[..., Page],
) -> None:
    base = ["a", "b", "c", "d"]
    near, apart = ["a", "B", "c", "d"], ["a", "b", "c", "D"]
    cases = [[base, near, ["A", "b", "c", "d"]], [base, near, apart], [base, [*base, "x"], [*base, "y"]]]
    kinds = [[part["kind"] for part in parts] for parts in open_page("/").evaluate(_MERGE_ALL, cases)]
    assert kinds == [["place", "same"], ["same", "theirs", "same", "mine"], ["same", "place"]]


def test_a_text_with_many_alike_lines_is_merged_as_exactly(open_page: Callable[..., Page]) -> None:
    """20,000 lines, nearly all of them alike, changed at both ends."""
    base = [line for number in range(5000) for line in (f"- name: n{number % 7}", "  enabled: true", "  size: 3", "")]
    theirs, mine = list(base), list(base)
    theirs[5], mine[-3] = "  enabled: false", "  size: 4"
    (parts,) = open_page("/").evaluate(_MERGE_ALL, [[base, theirs, mine]])
    changed = [(part["kind"], part["base"], part["lines"]) for part in parts if part["kind"] != "same"]
    assert changed == [
        ("theirs", ["  enabled: true"], ["  enabled: false"]),
        ("mine", ["  enabled: true"], ["  size: 4"]),
    ]

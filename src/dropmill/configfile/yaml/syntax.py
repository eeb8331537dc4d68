"""Turns ruamel's grammar errors into sentences for people who never read YAML's specification.

Ruamel marks the place where it gave up. For something that is opened and never closed, this marks the opening instead.
Errors that are not known here keep ruamel's own words.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from ruamel.yaml.error import MarkedYAMLError

_CLOSING: Final = re.compile(r"expected ',' or '([\]}])', but got '(.*)'")
_OPENING: Final = {"]": "[", "}": "{"}
_FOUND: Final = re.compile(r"found '([^']*)'|found \('([^']*)'")
_CHARACTER: Final = re.compile(r"found character '(.+)' that cannot start any token")
_ALIAS: Final = re.compile(r"found undefined alias '(.*)'", re.DOTALL)
_HANDLE: Final = re.compile(r"found undefined tag handle '(.*)'", re.DOTALL)

Explained = tuple[Any, str]


def explain(error: MarkedYAMLError) -> Explained:
    """Ruamel's mark of the place to show (None if it has none), and a sentence without a full stop."""
    problem, context = str(error.problem or ""), str(error.context or "")
    for begins, says in _EXPLANATIONS:
        if problem.startswith(begins) and (found := says(error, problem, context)) is not None:
            return found
    sentence = problem or context
    behind = f" ({context})" if problem and context else ""
    return error.problem_mark or error.context_mark, sentence[:1].upper() + sentence[1:] + behind


def _line(error: MarkedYAMLError) -> int:
    return int(error.context_mark.line) + 1


def _unclosed(error: MarkedYAMLError, problem: str, context: str) -> Explained | None:
    found = _CLOSING.match(problem)
    if found is None or error.context_mark is None:
        return None
    closing, got = found.groups()
    if got == "<stream end>":
        return error.context_mark, f"This '{_OPENING[closing]}' has no '{closing}'"
    return (
        error.problem_mark,
        f"A comma or the '{closing}' for the '{_OPENING[closing]}' of line {_line(error)} is missing",
    )


def _misplaced(error: MarkedYAMLError, problem: str, context: str) -> Explained | None:
    if error.context_mark is None:
        return None
    found = _FOUND.search(problem)
    got = found.group(1) or found.group(2) if found else ""
    if got == "-":
        return error.problem_mark, f"A list item cannot be among the keys of the mapping of line {_line(error)}"
    if got == "?" and "collection" in context:
        return error.problem_mark, f"A key cannot be among the items of the list of line {_line(error)}"
    if got == "<scalar>":
        return error.problem_mark, "Text cannot continue after a closing quote; put all of it in quotes"
    return error.problem_mark, f"This does not fit what begins on line {_line(error)}; check the indentation"


def _colon(error: MarkedYAMLError, problem: str, context: str) -> Explained:
    return (
        error.problem_mark,
        "A colon is not allowed here: put text that has one in quotes, or check the indentation above",
    )


def _no_colon(error: MarkedYAMLError, problem: str, context: str) -> Explained:
    return error.context_mark or error.problem_mark, "A key needs a colon and a space after it, as in 'name: value'"


def _end_of_text(error: MarkedYAMLError, problem: str, context: str) -> Explained | None:
    if "quoted scalar" not in context or error.context_mark is None:
        return None
    return error.context_mark, "The quotes that open here are not closed"


def _character(error: MarkedYAMLError, problem: str, context: str) -> Explained | None:
    found = _CHARACTER.match(problem)
    if found is None:
        return None
    if found.group(1) in ("\\t", "\t"):
        return _tab(error)
    return error.problem_mark, f"The character '{found.group(1)}' cannot begin a value; put the value in quotes"


def _tab(error: MarkedYAMLError) -> Explained:
    """YAML forbids tabs in indentation only; ruamel's scanner accepts hardly any."""
    mark = error.problem_mark
    text, at = str(mark.buffer), int(mark.pointer)
    before = text[max(text.rfind("\n", 0, at), text.rfind("\r", 0, at)) + 1 : at]
    behind = text[at:].lstrip(" \t")[:1]
    if not before.strip(" \t") and behind not in ("", "#", "\r", "\n", "\0"):
        return mark, "A tab cannot indent in YAML; use spaces"
    return mark, "YAML allows a tab here, but the parser (ruamel.yaml) does not read it; use spaces instead"


def _no_value(error: MarkedYAMLError, problem: str, context: str) -> Explained | None:
    found = _FOUND.search(problem)
    if "<stream end>" in problem and "flow" in context:
        return error.problem_mark, "The text ends within brackets or braces that are not closed"
    return (error.problem_mark, f"This '{found.group(1)}' closes nothing") if found and found.group(1) in "]}" else None


def _second_document(error: MarkedYAMLError, problem: str, context: str) -> Explained:
    return error.problem_mark, "Another document begins here; only one is accepted"


def _alias(error: MarkedYAMLError, problem: str, context: str) -> Explained | None:
    found = _ALIAS.match(problem)
    return (
        (error.problem_mark, f"The alias *{found.group(1)} has no anchor &{found.group(1)} above it") if found else None
    )


def _tag_handle(error: MarkedYAMLError, problem: str, context: str) -> Explained | None:
    found = _HANDLE.match(problem)
    return (error.problem_mark, f"The tag's handle {found.group(1)} is not declared by a %TAG line") if found else None


def _too_far_left(error: MarkedYAMLError, problem: str, context: str) -> Explained:
    return (
        error.problem_mark,
        "This is indented less than the lines above it; keys of one mapping begin below each other",
    )


_EXPLANATIONS: Final[tuple[tuple[str, Callable[[MarkedYAMLError, str, str], Explained | None]], ...]] = (
    ("expected ',' or '", _unclosed),
    ("expected <block end>, but found", _misplaced),
    ("mapping values are not allowed", _colon),
    ("could not find expected ':'", _no_colon),
    ("found unexpected end of stream", _end_of_text),
    ("found character", _character),
    ("expected the node content, but found", _no_value),
    ("but found another document", _second_document),
    ("found undefined alias", _alias),
    ("found undefined tag handle", _tag_handle),
    ("expected '<document start>', but found", _too_far_left),
)

"""The error tree: every class distinct, documented, and in the drawing at the top of its module."""

import re
from collections.abc import Iterator

import pytest

from dropmill.model import errors
from dropmill.model.errors import DropmillError, SettingsError


def _below(root: type[DropmillError]) -> Iterator[type[DropmillError]]:
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from _below(child)


ALL = list(_below(DropmillError))
REQUESTS = [error for error in ALL if not issubclass(error, SettingsError)]


def test_every_class_has_a_code_of_its_own() -> None:
    codes = [error.__dict__["code"] for error in (DropmillError, *ALL)]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize("error", REQUESTS)
def test_a_refused_request_has_a_status_that_says_so_and_a_title(error: type[DropmillError]) -> None:
    assert 400 <= error.status < 500 or error.status in (503, 507)
    assert error.__dict__["title"]
    assert not error.title.endswith(".")
    assert error.__doc__


def test_the_drawing_shows_every_class_below_its_parent_with_its_status() -> None:
    drawn: list[tuple[str, str | None]] = []
    parents: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        found = re.fullmatch(r"    ([│ ├└─]*)([A-Z][A-Za-z]+)(?: .*)?", line)
        if found is None:
            continue
        depth, name = len(found[1]) // 4, found[2]
        parents[depth] = name
        if depth:
            drawn.append((name, parents[depth - 1]))
            status = re.search(r" (\d{3})\b", line)
            if status:
                assert getattr(errors, name).status == int(status[1]), name
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == {(error.__name__, error.__bases__[0].__name__) for error in ALL}


def test_an_error_keeps_its_sentence_and_what_else_it_was_given() -> None:
    error = errors.MalformedUpload("It breaks off.", kept=["a.txt"])
    assert str(error) == error.detail == "It breaks off."
    assert error.extra == {"kept": ["a.txt"]}

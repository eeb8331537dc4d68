"""Names of accounts."""

import pytest

from dropmill.model.accounts import NAME_MAX, checked_name, name_key
from dropmill.model.errors import BadRequest


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\0", "\u202eab", "x" * (NAME_MAX + 1), "\ud800"])
def test_a_name_has_some_characters_and_all_of_them_print(name: str) -> None:
    with pytest.raises(BadRequest):
        checked_name(name)


def test_blanks_around_a_name_are_dropped_and_letters_are_composed() -> None:
    assert checked_name("  Ada L.  ") == "Ada L."
    assert checked_name("Zoe\u0308") == "Zo\u00eb"
    assert checked_name("x" * NAME_MAX) == "x" * NAME_MAX


@pytest.mark.parametrize(
    ("one", "other"), [("Ada", "aDA "), ("Stra\u00dfe", "STRASSE"), ("Zoe\u0308", "ZO\u00cb"), ("\uff21", "a")]
)
def test_names_that_look_alike_count_as_one(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)

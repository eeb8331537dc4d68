"""The form of secrets."""

import pytest

from dropmill.access.secrets import (
    SHOWN,
    TOKEN_LENGTH,
    digest,
    is_session_secret,
    new_session_secret,
    new_token,
    token_prefix,
)


def test_no_two_secrets_are_alike_and_each_has_its_form() -> None:
    assert len({new_token() for _ in range(100)} | {new_session_secret() for _ in range(100)}) == 200
    token = new_token()
    assert len(token) == TOKEN_LENGTH
    assert token_prefix(token) == token[:SHOWN]
    assert is_session_secret(new_session_secret())


@pytest.mark.parametrize("place", [0, 6, 14, 30, TOKEN_LENGTH - 1])
def test_a_token_with_another_character_is_none(place: int) -> None:
    token = new_token()
    other = "b" if token[place] != "b" else "c"
    assert token_prefix(token[:place] + other + token[place + 1 :]) is None


# Named, because processes that run the tests together must find them under the same names.
TOKEN = pytest.param(new_token(), id="a token")
LINE = pytest.param(new_token() + "\n", id="a token and a line end")


@pytest.mark.parametrize("text", ["", "dmill_", "not-a-token-" + "x" * 30, "x" * 10_000, LINE, "é" * 52])
def test_what_is_no_token_is_none(text: str) -> None:
    assert token_prefix(text) is None


@pytest.mark.parametrize("text", ["", "a" * 42, "a" * 44, "a" * 43 + "\n", "é" * 43, TOKEN])
def test_what_is_no_session_secret_is_none(text: str) -> None:
    assert not is_session_secret(text)


def test_what_is_kept_of_a_secret_is_its_sha_256() -> None:
    assert digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

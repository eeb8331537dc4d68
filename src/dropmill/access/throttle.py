"""Slows down those who guess passwords, and locks nobody out.

After some failures the next attempt is looked at only after a wait that doubles with each further one. Failures count
for a name at an address, for an address, and, much later and with a short wait, for a name. So many addresses together
do not guess fast either.

Whoever fails all the time could still be faster each time than the owner of the name. So a browser in which that
account has signed in before (`dropmill.access.known_browsers`) counts for itself alone: failures elsewhere do not delay
it, and its own delay nobody else.
"""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dropmill.model.errors import TooManyAttempts

FORGOTTEN_S: Final = 900.0  # without a failure
KNOWN_MAX: Final = 20_000  # names and addresses; the oldest are forgotten


@dataclass(frozen=True, slots=True)
class _Limit:
    """How failures of one kind count.

    Attributes:
        free: failures without a wait.
        most_s: longest wait.
    """

    free: int
    most_s: float


OF_NAME_AND_ADDRESS: Final = _Limit(5, 60.0)
OF_ADDRESS: Final = _Limit(20, 60.0)
OF_NAME: Final = _Limit(100, 2.0)
OF_BROWSER: Final = _Limit(5, 60.0)  # that is known

_Key = tuple[_Limit, str]


@dataclass(slots=True)
class _Failures:
    count: int
    last: float


class Throttle:
    """Counts failures. Every attempt counts as one from its beginning, so that many at once count, too."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Know of no failure yet."""
        self._monotonic = monotonic
        self._failures: OrderedDict[_Key, _Failures] = OrderedDict()

    def begin(self, name: str | None, ip: str, browser: str | None = None) -> None:
        """Count an attempt.

        Args:
            name: the key of what is guessed at: of an account's name, or of a link; None: at nothing that
                has a name, so that failures count for the address alone.
            ip: of the client.
            browser: number of the browser, if it is known to the account; None: it is not.

        Raises:
            TooManyAttempts: it is too early; it was not counted.
        """
        now = self._monotonic()
        keys = _keys(name, ip, browser)
        wait_s = max(self._wait_s(key, now) for key in keys)
        if wait_s > 0:
            seconds = math.ceil(wait_s)
            raise TooManyAttempts(f"Too many attempts failed; try again in {seconds} s.", retry_after=seconds)
        for key in keys:
            found = self._failures.setdefault(key, _Failures(0, now))
            found.count, found.last = found.count + 1, now
            self._failures.move_to_end(key)
        while len(self._failures) > KNOWN_MAX:
            self._failures.popitem(last=False)

    def withdraw(self, name: str | None, ip: str, browser: str | None = None) -> None:
        """Take back what `begin` counted: the attempt was not looked at."""
        for key in _keys(name, ip, browser):
            found = self._failures.get(key)
            if found is not None:
                found.count -= 1

    def succeeded(self, name: str | None, ip: str, browser: str | None = None) -> None:
        """Take back what `begin` counted, and forget failures of this name at this address, or in this browser."""
        self.withdraw(name, ip, browser)
        if name is not None:
            self._failures.pop(_keys(name, ip, browser)[0], None)

    def _wait_s(self, key: _Key, now: float) -> float:
        found = self._failures.get(key)
        if found is None:
            return 0.0
        if now - found.last > FORGOTTEN_S:
            del self._failures[key]
            return 0.0
        limit, _ = key
        over = found.count - limit.free
        return 0.0 if over < 0 else found.last + min(2.0 ** min(over, 16), limit.most_s) - now


def _keys(name: str | None, ip: str, browser: str | None) -> tuple[_Key, ...]:
    if browser is not None:
        return ((OF_BROWSER, browser),)
    network = network_of(ip)
    if name is None:
        return ((OF_ADDRESS, network),)
    return (OF_NAME_AND_ADDRESS, f"{network} {name}"), (OF_ADDRESS, network), (OF_NAME, name)


def network_of(ip: str) -> str:
    """The address of a client; of IPv6 its /64, because one client has all of it."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    return ip if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))

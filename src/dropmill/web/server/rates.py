"""How many requests an account, or an address without one, may send in a time; off unless it is set.

The generic cell rate algorithm (ITU-T I.371): one time for each client says when all that it has sent would have been
sent at an even pace. A client may use its whole time's worth at once, and then goes on at that pace. Kept by each
process, for the clients that it heard of last.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from dropmill.access.throttle import network_of
from dropmill.model.caller import Caller
from dropmill.model.errors import TooManyRequests
from dropmill.settings.values import Rate

KNOWN_MAX: Final = 20_000  # clients; one that is forgotten starts anew

UNCOUNTED: Final = frozenset(
    {
        # One file takes as many of these as its size, its chunks and the network make.
        *("PATCH uploads.append", "HEAD uploads.head", "POST uploads.override", "OPTIONS uploads.options"),
        # The server paces them, up to four a second, and `--quota-sockets` and `--join-rate` limit them.
        *("POST live.poll", "GET live.poll_by_query"),
        *("GET static", "GET static_files.built", "GET ops.healthz", "GET ops.readyz"),
    }
)
"""Routes whose requests do not count."""


class RequestRates:
    """Counts requests by client."""

    def __init__(self, rate: Rate, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Know of no request yet."""
        self._rate = rate
        self._pace_s = rate.seconds / rate.times
        self._monotonic = monotonic
        self._even: OrderedDict[str, float] = OrderedDict()

    def require(self, caller: Caller | None, ip: str) -> None:
        """Count a request.

        Args:
            caller: who sends it; None if nobody is signed in.
            ip: of the client.

        Raises:
            TooManyRequests: it is one too many now; it was not counted.
        """
        account = None if caller is None else caller.account_id
        key = f"address {network_of(ip)}" if account is None else f"account {account}"
        now = self._monotonic()
        even = max(self._even.get(key, now), now) + self._pace_s
        early_s = even - now - self._rate.seconds
        if early_s > self._pace_s * 1e-3:  # what sums of fractions lose is not too early
            wait_s = math.ceil(early_s)
            raise TooManyRequests(
                f"More than {self._rate.times} requests in {self._rate.seconds} s; try again in {wait_s} s.",
                retry_after=wait_s,
            )
        self._even[key] = even
        self._even.move_to_end(key)
        while len(self._even) > KNOWN_MAX:
            self._even.popitem(last=False)

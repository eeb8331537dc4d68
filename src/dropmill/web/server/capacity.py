"""How many connections and WebSockets are open at once, in total and for each address.

A connection that becomes a WebSocket counts as a socket from then on, so neither kind can crowd out the other. Some
descriptors stay reserved for the ledger, the log and the scripts, which need them to go on working.
"""

import collections
import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from quart import Quart

from dropmill import descriptors
from dropmill.model.errors import TooManyConnections, Unavailable
from dropmill.origin.proxies import TrustedProxies
from dropmill.settings import Settings
from dropmill.web.server.lending import Slices

EXTENSION = "dropmill.capacity"

RESERVED_PART = 4  # a quarter of all descriptors is reserved, ...
RESERVED_MAX = 2048  # ... but no more than this

ENOUGH_FOR_S = 0.01
"""How long it holds that there are descriptors enough. Counting them gives up the interpreter lock twice, which took a
small upload 0.25 ms; and no more requests begin meanwhile than the reserved ones serve."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CapacityLimits:
    """The limits that people set.

    Attributes:
        connections: open at once, without WebSockets.
        sockets: WebSockets open at once.
        connections_per_client: the same for one address.
        sockets_per_client: the same for one address.
        reserved_descriptors: never used for clients; None for a quarter of all, at most `RESERVED_MAX`.
        write_timeout_s: longest time, in seconds, in which a client reads nothing of what is sent.
    """

    connections: int = 5000
    sockets: int = 5000
    connections_per_client: int = 1000
    sockets_per_client: int = 1000
    reserved_descriptors: int | None = None
    write_timeout_s: float = 60.0

    @classmethod
    def from_settings(cls, settings: Settings) -> "CapacityLimits":
        """The limits of these settings."""
        return cls(
            connections=settings.max_connections,
            sockets=settings.max_sockets,
            connections_per_client=settings.max_connections_per_client,
            sockets_per_client=settings.max_sockets_per_client,
            reserved_descriptors=settings.reserved_descriptors,
            write_timeout_s=settings.write_timeout,
        )


class Admission:
    """A connection or socket that was admitted; `release`, or the end of the context, makes room for the next."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Count it no longer. Calling this twice is harmless."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> "Admission":
        """Nothing more to do: it counts already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release it."""
        self.release()


class _Count:
    """How many of one kind are open, in total and for each address."""

    def __init__(self, most: int, most_per_client: int, noun: str) -> None:
        self._most = most
        self._most_per_client = most_per_client
        self._noun = noun
        self._all = 0
        self._of: collections.Counter[str] = collections.Counter()

    @property
    def open(self) -> int:
        return self._all

    def admit(self, address: str, *, is_proxy: bool) -> Admission:
        if self._of[address] >= self._most_per_client and not is_proxy:
            raise TooManyConnections(
                f"{address} has {self._of[address]} {self._noun} open already; close some, then try again."
            )
        if self._all >= self._most:
            raise Unavailable(f"The server has reached its limit of open {self._noun}; try again in a moment.")
        self._all += 1
        self._of[address] += 1

        def release() -> None:
            self._all -= 1
            self._of[address] -= 1
            if not self._of[address]:
                del self._of[address]

        return Admission(release)


class Capacity:
    """Admits clients within the limits.

    Attributes:
        limits: the limits.
        refusing: how many refused connections are being answered now.
        slices: of large bodies, read past the event loop.
    """

    def __init__(self, limits: CapacityLimits | None = None, proxies: TrustedProxies | None = None) -> None:
        """Start with no clients. The process's limit of descriptors is read once, here.

        Args:
            limits: the limits; None for the defaults.
            proxies: addresses that many clients share, so only the total limits apply to them; None for none.
        """
        self.limits = limits or CapacityLimits()
        self._proxies = proxies or TrustedProxies(())
        self.refusing = 0
        self.slices = Slices()
        most = descriptors.limit()
        reserved = self.limits.reserved_descriptors
        self._descriptors = most - (min(most // RESERVED_PART, RESERVED_MAX) if reserved is None else reserved)
        self._had_enough_at = -ENOUGH_FOR_S
        self._connections = _Count(self.limits.connections, self.limits.connections_per_client, "connections")
        self._sockets = _Count(self.limits.sockets, self.limits.sockets_per_client, "sockets")
        self._sockets_of: collections.Counter[str] = collections.Counter()

    @property
    def sockets(self) -> int:
        """How many sockets are open."""
        return self._sockets.open

    def admit_connection(self, address: str, descriptor: int) -> Admission:
        """Admit a connection.

        Args:
            address: the client's.
            descriptor: number of the connection's descriptor.

        Raises:
            TooManyConnections: the address has reached its limit.
            Unavailable: the server has reached its limit, or too few descriptors are free.
        """
        if self.is_reserved(descriptor):
            raise _short_of_descriptors()
        return self._connections.admit(address, is_proxy=address in self._proxies)

    def admit_socket(self, address: str, *, owner: str = "", most: int | None = None) -> Admission:
        """Admit a WebSocket, a poll or an event stream.

        Args:
            address: the client's.
            owner: whose quota it counts in; "" of nobody.
            most: how many the owner may have open; None: any number.

        Raises:
            TooManyConnections: the address or the owner has reached its limit.
            Unavailable: as for a connection.
        """
        if most is not None and self._sockets_of[owner] >= most:
            raise TooManyConnections(
                f"{most} live connections are open already, the most that one account may have; close some pages."
            )
        admission = self._sockets.admit(address, is_proxy=address in self._proxies)
        self._sockets_of[owner] += 1

        def release() -> None:
            admission.release()
            self._sockets_of[owner] -= 1
            if not self._sockets_of[owner]:
                del self._sockets_of[owner]

        return Admission(release)

    def is_reserved(self, descriptor: int) -> bool:
        """Whether a new descriptor is one of those for our own files.

        The system gives the lowest free number, so at least this many are open.
        """
        return descriptor >= self._descriptors

    def is_short_of_descriptors(self) -> bool:
        """Whether only the reserved descriptors are left."""
        try:
            return descriptors.lowest_free() >= self._descriptors
        except OSError as error:
            return error.errno in (errno.EMFILE, errno.ENFILE)

    def require_descriptors(self) -> None:
        """Return if there are descriptors for the files that a request opens, or were a moment ago.

        Raises:
            Unavailable: only the reserved ones are left.
        """
        now = time.monotonic()
        if now - self._had_enough_at < ENOUGH_FOR_S:
            return
        if self.is_short_of_descriptors():
            raise _short_of_descriptors()
        self._had_enough_at = now


def _short_of_descriptors() -> Unavailable:
    return Unavailable("The server has reached its limit of open files and connections; try again in a moment.")


def install(app: Quart, capacity: Capacity) -> None:
    """Count an app's connections with this capacity."""
    app.extensions[EXTENSION] = capacity


def capacity_of(app: Any) -> Capacity:
    """The capacity of an app, which Hypercorn may have wrapped."""
    capacity: Capacity = getattr(app, "app", app).extensions[EXTENSION]
    return capacity

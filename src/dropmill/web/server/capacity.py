"""How many clients are served at once, and how much is kept free of them.

A connection that is turned into a WebSocket leaves the number of connections and counts as a socket: neither kind can
crowd out the other. Beside the counts, connections leave some descriptors free, without which the ledger, the log and
the scripts could not go on.
"""

import collections
import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from quart import Quart

from dropmill import descriptors
from dropmill.model.errors import TooManyConnections, Unavailable
from dropmill.origin.proxies import TrustedProxies
from dropmill.settings import Settings

EXTENSION = "dropmill.capacity"

RESERVED_PART = 4  # of all descriptors, a quarter is reserved,
RESERVED_MAX = 2048  # but no more than this


@dataclass(frozen=True, kw_only=True, slots=True)
class CapacityLimits:
    """What people set.

    Attributes:
        connections: at once, WebSockets not counted.
        sockets: WebSockets at once.
        connections_per_client: of one address.
        sockets_per_client: of one address.
        reserved_descriptors: kept free of clients; None for a part of all.
        write_timeout_s: seconds in which a client must read something of what waits for it.
    """

    connections: int = 5000
    sockets: int = 5000
    connections_per_client: int = 1000
    sockets_per_client: int = 1000
    reserved_descriptors: int | None = None
    write_timeout_s: float = 60.0

    @classmethod
    def from_settings(cls, settings: Settings) -> "CapacityLimits":
        """The limits that the settings name."""
        return cls(
            connections=settings.max_connections,
            sockets=settings.max_sockets,
            connections_per_client=settings.max_connections_per_client,
            sockets_per_client=settings.max_sockets_per_client,
            reserved_descriptors=settings.reserved_descriptors,
            write_timeout_s=settings.write_timeout,
        )


class Admission:
    """One that was let in; `release`, or the end of the context, lets the next one in."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """It has left. Twice is harmless."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> "Admission":
        """Begin; it counts already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release it."""
        self.release()


class _Count:
    """How many of one kind there are, in all and of each address."""

    def __init__(self, most: int, most_per_client: int, noun: str) -> None:
        self._most = most
        self._most_per_client = most_per_client
        self._noun = noun
        self._all = 0
        self._of: collections.Counter[str] = collections.Counter()

    def admit(self, address: str, *, is_proxy: bool) -> Admission:
        if self._of[address] >= self._most_per_client and not is_proxy:
            raise TooManyConnections(
                f"{address} has {self._of[address]} {self._noun} open already; close some, then try again."
            )
        if self._all >= self._most:
            raise Unavailable(f"The server has as many {self._noun} open as it may; try again in a moment.")
        self._all += 1
        self._of[address] += 1

        def release() -> None:
            self._all -= 1
            self._of[address] -= 1
            if not self._of[address]:
                del self._of[address]

        return Admission(release)


class Capacity:
    """Lets clients in as far as the limits allow.

    Attributes:
        limits: what people set.
        refusing: how many refused connections are being told so.
    """

    def __init__(self, limits: CapacityLimits | None = None, proxies: TrustedProxies | None = None) -> None:
        """Begin with nobody. The limit of descriptors is taken as it is now.

        Args:
            limits: what people set; None: the defaults.
            proxies: addresses that many clients share, so that only the limits of all count for them; None: none.
        """
        self.limits = limits or CapacityLimits()
        self._proxies = proxies or TrustedProxies(())
        self.refusing = 0
        most = descriptors.limit()
        reserved = self.limits.reserved_descriptors
        self._descriptors = most - (min(most // RESERVED_PART, RESERVED_MAX) if reserved is None else reserved)
        self._connections = _Count(self.limits.connections, self.limits.connections_per_client, "connections")
        self._sockets = _Count(self.limits.sockets, self.limits.sockets_per_client, "sockets")

    def admit_connection(self, address: str, descriptor: int) -> Admission:
        """Let a connection in.

        Args:
            address: of the client.
            descriptor: the connection's own.

        Raises:
            TooManyConnections: the address has as many as it may.
            Unavailable: the server has, or too few descriptors are free.
        """
        if descriptor >= self._descriptors:  # numbers are given from below: as many are open at least
            raise _short_of_descriptors()
        return self._connections.admit(address, is_proxy=address in self._proxies)

    def admit_socket(self, address: str) -> Admission:
        """Let a WebSocket in.

        Raises:
            TooManyConnections, Unavailable: as for a connection.
        """
        return self._sockets.admit(address, is_proxy=address in self._proxies)

    def is_short_of_descriptors(self) -> bool:
        """Whether only the reserved descriptors are left."""
        try:
            return descriptors.lowest_free() >= self._descriptors
        except OSError as error:
            return error.errno in (errno.EMFILE, errno.ENFILE)

    def require_descriptors(self) -> None:
        """Return if there are descriptors for what a request opens.

        Raises:
            Unavailable: only the reserved ones are left.
        """
        if self.is_short_of_descriptors():
            raise _short_of_descriptors()


def _short_of_descriptors() -> Unavailable:
    return Unavailable("The server has as many files and connections open as it may; try again in a moment.")


def install(app: Quart, capacity: Capacity) -> None:
    """Have an app's connections counted by this capacity."""
    app.extensions[EXTENSION] = capacity


def capacity_of(app: Any) -> Capacity:
    """The capacity of an app, which may be wrapped as Hypercorn does it."""
    capacity: Capacity = getattr(app, "app", app).extensions[EXTENSION]
    return capacity

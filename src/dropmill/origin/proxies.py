"""Which client a proxy speaks for: the walk through `X-Forwarded-For`. No I/O.

Each proxy appends the address of its own peer. The walk begins at the connection's peer and goes left while the last
address is a trusted proxy. The client may have written everything left of the first address that is not.

RFC 7239's `Forwarded` is not read: a proxy that writes one of the two headers forwards the other as the client sent it,
so reading both would let the client choose its address.
"""

import ipaddress
import re
from collections.abc import Sequence

from dropmill.origin.network import UNKNOWN_ADDRESS, client_address

HOPS_MAX = 32
"""Proxies in a row. Without this bound, a list of 10,000 trusted addresses would block the event loop for 40 ms."""

_PORT = re.compile(r":[0-9]{1,5}", re.ASCII)


class TrustedProxies:
    """The networks whose `X-Forwarded-For` counts."""

    def __init__(self, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> None:
        """Trust these networks; an empty list trusts nobody."""
        self._networks = tuple(networks)

    def __contains__(self, address: str) -> bool:
        """Whether an address, as `client_address` gives it, is a trusted proxy's."""
        if not self._networks or address == UNKNOWN_ADDRESS:
            return False
        found = ipaddress.ip_address(address)
        return any(found in network for network in self._networks)

    def client_of(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """The address of the client behind a connection.

        Args:
            peer: the connection's peer, as `client_address` gives it.
            forwarded_for: the values of `X-Forwarded-For`, in the order of the header lines.

        Returns:
            The first address from the right that is not a trusted proxy's; the leftmost one if all are. If a trusted
            proxy gave no address (`unknown`, a token, nonsense), the address of that proxy.
        """
        client = peer
        rest = ",".join(forwarded_for)
        for _ in range(HOPS_MAX):
            if not rest or client not in self:
                break
            rest, _, entry = rest.rpartition(",")
            address = forwarded_address(entry)
            if address == UNKNOWN_ADDRESS:
                break
            client = address
        return client


def forwarded_address(entry: str) -> str:
    """The address of one entry in the form of `client_address`; `UNKNOWN_ADDRESS` if it has none.

    Proxies write `192.0.2.7`, `192.0.2.7:4711`, `2001:db8::7`, `[2001:db8::7]`, `[2001:db8::7]:4711`, with quotes or
    without, and zones (`fe80::1%eth0`).
    """
    text = entry.strip(' \t"')
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        is_whole = bool(bracket) and (not port or _PORT.fullmatch(port) is not None) and ":" in text
    elif text.count(":") == 1:
        text, colon, port = text.partition(":")
        is_whole = _PORT.fullmatch(colon + port) is not None
    else:
        is_whole = True
    return client_address(text) if is_whole else UNKNOWN_ADDRESS

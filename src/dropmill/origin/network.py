"""The client's address and user agent, from the connection and its headers. No I/O.

`proxies` decides whose address counts behind a trusted proxy.
"""

import ipaddress

from dropmill.model.client import ClientIdentity
from dropmill.text import visible

UNKNOWN_ADDRESS = "unknown"
"""The `ip` of a client whose connection has no address, such as a Unix socket."""

USER_AGENT_MAX = 400  # characters; the rest of a longer one is of no use to a person


def client_address(peer: str | None) -> str:
    """The address of a connection's peer in its shortest form.

    Args:
        peer: the address as the server gives it; None if the connection has none.

    Returns:
        IPv4-mapped IPv6 as IPv4, IPv6 without its zone; `UNKNOWN_ADDRESS` for anything that is no address.
    """
    try:
        address = ipaddress.ip_address(peer or "")
    except ValueError:
        return UNKNOWN_ADDRESS
    if isinstance(address, ipaddress.IPv6Address):
        # Through the number, to drop the zone (fe80::1%eth0): it names an interface of this machine, not the client.
        address = address.ipv4_mapped or ipaddress.IPv6Address(int(address))
    return str(address)


def identify(peer: str | None, user_agent: str | None) -> ClientIdentity:
    """What is known of a client before any look-up.

    Args:
        peer: as for `client_address`.
        user_agent: the header as sent; None if absent. Characters that do not print (controls, escapes, bidirectional
            overrides, line ends) become Python escapes, because logs and terminals show this text.
    """
    return ClientIdentity(ip=client_address(peer), user_agent=None if user_agent is None else _printable(user_agent))


def _printable(text: str) -> str:
    return visible(text[:USER_AGENT_MAX])[:USER_AGENT_MAX]

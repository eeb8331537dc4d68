"""How many are let in; whole servers at their limits are in `tests/system/serving`."""

import ipaddress

import pytest

from dropmill.model.errors import TooManyConnections, Unavailable
from dropmill.origin.proxies import TrustedProxies
from dropmill.web.server.capacity import Capacity, CapacityLimits

LIMITS = CapacityLimits(connections=5, connections_per_client=2, sockets=5, sockets_per_client=2)


def test_an_address_may_have_as_many_as_the_limit_and_those_that_left_make_room() -> None:
    capacity = Capacity(LIMITS)
    first = capacity.admit_connection("192.0.2.7", 9)
    capacity.admit_connection("192.0.2.7", 10)
    with pytest.raises(TooManyConnections):
        capacity.admit_connection("192.0.2.7", 11)
    first.release()
    capacity.admit_connection("192.0.2.7", 9)


def test_a_trusted_proxy_may_have_as_many_as_there_are_for_all() -> None:
    """Its connections belong to many clients, which differ by the header."""
    capacity = Capacity(LIMITS, TrustedProxies([ipaddress.IPv4Network("192.0.2.0/28")]))
    for number in range(5):
        capacity.admit_connection("192.0.2.7", number)
        capacity.admit_socket("192.0.2.7")
    with pytest.raises(Unavailable):
        capacity.admit_connection("192.0.2.7", 6)
    with pytest.raises(Unavailable):
        capacity.admit_socket("192.0.2.7")

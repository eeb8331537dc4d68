"""The client behind trusted proxies, from `X-Forwarded-For`."""

import ipaddress

import pytest

from dropmill.origin.network import UNKNOWN_ADDRESS
from dropmill.origin.proxies import HOPS_MAX, TrustedProxies, forwarded_address

PROXY = "10.0.0.1"
CLIENT = "192.0.2.7"


def trusting(*networks: str) -> TrustedProxies:
    return TrustedProxies([ipaddress.ip_network(network) for network in networks])


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7 ", "192.0.2.7"),
        ("192.0.2.7:4711", "192.0.2.7"),
        ('"192.0.2.7:4711"', "192.0.2.7"),
        ("2001:DB8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ('"[2001:db8::7]:4711"', "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%eth0]:80", "fe80::1"),
        ("[fe80::1%25eth0]:80", "fe80::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("[::ffff:192.0.2.7]:80", "192.0.2.7"),
    ],
)
def test_an_address_is_read_in_every_form_that_proxies_write(entry: str, address: str) -> None:
    assert forwarded_address(entry) == address


@pytest.mark.parametrize(
    "entry",
    [
        "",
        " ",
        "unknown",
        "_hidden",
        "client.example",
        "192.0.2.7:",
        "192.0.2.7:x",
        "192.0.2.7:123456",
        "192.0.2.7:\u0664",
        "192.0.2.256",
        "192.0.2",
        "010.0.0.1",
        "[192.0.2.7]",
        "[2001:db8::7",
        "[2001:db8::7]x",
        "[2001:db8::7]:",
        "2001:db8::7]:80",
        "[]",
        "<script>",
        "192.0.2.7; rm",
        "1" * 100_000,
        "\xff\x00",
    ],
)
def test_what_is_no_address_is_unknown(entry: str) -> None:
    assert forwarded_address(entry) == UNKNOWN_ADDRESS


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        (PROXY, [CLIENT], CLIENT),
        (PROXY, [], PROXY),  # the proxy itself asks
        (PROXY, ["203.0.113.5, 192.0.2.7"], CLIENT),  # the client wrote the left part, the proxy the right one
        (PROXY, ["203.0.113.5", "192.0.2.7"], CLIENT),
        (PROXY, ["192.0.2.7, 10.9.9.9"], CLIENT),  # two proxies
        (PROXY, ["192.0.2.7", "10.0.0.2,10.0.0.3"], CLIENT),
        (PROXY, ["10.7.7.7, 10.0.0.2"], "10.7.7.7"),  # a client of the inner network
        (PROXY, ["192.0.2.7, unknown"], PROXY),
        (PROXY, ["192.0.2.7, unknown, 10.0.0.2"], "10.0.0.2"),
        (PROXY, ["garbage"], PROXY),
        (PROXY, ["", ","], PROXY),
        (PROXY, ["192.0.2.7,"], PROXY),
        ("192.0.2.9", ["203.0.113.5"], "192.0.2.9"),  # not a proxy of ours
        ("192.0.2.9", ["203.0.113.5, 10.0.0.1"], "192.0.2.9"),
        (UNKNOWN_ADDRESS, ["203.0.113.5"], UNKNOWN_ADDRESS),
    ],
)
def test_the_client_is_the_first_address_from_the_right_that_is_no_proxy(
    peer: str, forwarded_for: list[str], client: str
) -> None:
    assert trusting("10.0.0.0/8").client_of(peer, forwarded_for) == client


def test_ipv6_proxies_are_trusted_too() -> None:
    assert trusting("2001:db8:1::/48").client_of("2001:db8:1::1", ["[2001:db8::7]:1, 2001:db8:1::2"]) == "2001:db8::7"


def test_nobody_is_trusted_unless_named() -> None:
    assert trusting().client_of("127.0.0.1", [CLIENT]) == "127.0.0.1"
    assert trusting("10.0.0.0/8").client_of("::1", [CLIENT]) == "::1"


def test_a_walk_through_trusted_addresses_is_bounded() -> None:
    """Who trusts everybody still does no more work than for `HOPS_MAX` proxies, whatever is sent."""
    chain = ", ".join(f"10.0.{number // 256}.{number % 256}" for number in range(5000))
    assert (
        trusting("0.0.0.0/0").client_of(PROXY, [chain]) == f"10.0.{(5000 - HOPS_MAX) // 256}.{(5000 - HOPS_MAX) % 256}"
    )

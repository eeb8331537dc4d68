"""The client's address and program, from the connection alone."""

import pytest

from dropmill.origin.network import UNKNOWN_ADDRESS, USER_AGENT_MAX, client_address, identify


@pytest.mark.parametrize(
    ("peer", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("10.0.0.7", "10.0.0.7"),
        ("::1", "::1"),
        ("2001:0DB8:0000:0000:0000:0000:0000:0001", "2001:db8::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:c000:0207", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.7%2", "192.0.2.7"),
    ],
)
def test_an_address_is_shown_in_its_shortest_form(peer: str, shown: str) -> None:
    assert client_address(peer) == shown


@pytest.mark.parametrize(
    "peer",
    [None, "", "unix:/run/dropmill.sock", "localhost", "1.2.3", "010.0.0.1", "1.2.3.4:80", "[::1]", "<b>", "1.2.3.4\n"],
)
def test_a_peer_without_an_address_is_unknown(peer: str | None) -> None:
    assert client_address(peer) == UNKNOWN_ADDRESS


def test_a_client_is_identified_without_any_look_up() -> None:
    client = identify("::ffff:192.0.2.7", "curl/8.0")
    assert (client.ip, client.host, client.verified, client.domain) == ("192.0.2.7", None, False, None)
    assert client.user_agent == "curl/8.0"


def test_an_absent_user_agent_stays_absent() -> None:
    assert identify("127.0.0.1", None).user_agent is None


def test_a_user_agent_is_cut() -> None:
    assert identify("127.0.0.1", "x" * 10_000).user_agent == "x" * USER_AGENT_MAX


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("a\r\nb", r"a\r\nb"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("evil\u202etxt", r"evil\u202etxt"),
        ("\udce9", r"\udce9"),
        ("\x00", r"\x00"),
        ("Müller 日本 😀", "Müller 日本 😀"),
    ],
)
def test_what_does_not_print_in_a_user_agent_is_escaped(sent: str, shown: str) -> None:
    assert identify("127.0.0.1", sent).user_agent == shown


def test_an_escaped_user_agent_is_no_longer_than_any_other() -> None:
    shown = identify("127.0.0.1", "\x1b" * USER_AGENT_MAX).user_agent
    assert shown is not None
    assert len(shown) == USER_AGENT_MAX

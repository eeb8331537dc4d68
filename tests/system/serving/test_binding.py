"""Addresses that `--bind` takes, asked in both families, and the line that says which names work."""

import socket
from collections.abc import Callable

import httpx
import pytest
from tests.support.server import Server

from dropmill.cli.serve import is_dual_stack

pytestmark = pytest.mark.fresh

Make = Callable[..., Server]


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="This machine has no IPv6; enable it on loopback.")


def put(address: str, port: str, **headers: str) -> httpx.Response:
    return httpx.put(f"http://{address}:{port}/send/a.txt", content=b"a", headers=headers, trust_env=False, timeout=20)


def test_a_wildcard_bind_answers_for_its_printed_address_and_the_names_of_loopback(make_server: Make) -> None:
    server = make_server("--auth", "off", "--allowed-host", "drop.example", bind="0.0.0.0:0").start()
    port = server.url.rpartition(":")[2]
    assert server.http.get("/readyz").status_code == 200  # as printed
    for name in ("localhost", "127.0.0.1", "[::1]", "0.0.0.0", "drop.example"):
        assert put("127.0.0.1", port, Host=f"{name}:{port}").status_code == 201, name
    assert put("127.0.0.1", port, Host="evil.example").status_code == 421
    assert httpx.get(f"http://127.0.0.1:{port}/healthz", headers={"Host": "10.1.2.3"}).status_code == 200
    (line,) = [line for line in server.said().splitlines() if line.startswith("It answers for the host names")]
    for name in ("localhost", "127.0.0.1", "[::1]", "drop.example", "--allowed-host"):
        assert name in line


@needs_ipv6
def test_a_wildcard_bind_of_ipv6_takes_ipv4_too(make_server: Make) -> None:
    server = make_server("--auth", "off", bind="[::]:0").start()
    port = server.url.rpartition(":")[2]
    for address, shown in (("127.0.0.1", "127.0.0.1"), ("[::1]", "::1")):
        made = put(address, port)
        assert (made.status_code, made.json()["client"]["ip"]) == (201, shown)
        settled = server.settled(made.json()["id"])
        assert settled["client"]["ip"] == shown
    assert {line["ip"] for line in server.log() if line["ip"] is not None} == {"127.0.0.1", "::1"}


@needs_ipv6
def test_both_wildcards_may_have_one_port(make_server: Make) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    server = make_server("--auth", "off", "--bind", f"0.0.0.0:{port}", bind=f"[::]:{port}").start()
    for address in ("127.0.0.1", "[::1]"):
        assert put(address, port).status_code == 201
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("address", "binds", "is_dual"),
    [
        ("[::]:80", ["[::]:80"], True),
        ("[::]:80", ["[::]:80", "0.0.0.0:81"], True),
        ("[::]:80", ["[::]:80", "0.0.0.0:80"], False),
        ("[::]:80", ["[::]:80", "127.0.0.1:80"], False),
        ("[::]:0", ["[::]:0", "127.0.0.1:0"], True),
        ("[::]:80", ["[::]:80", "[::1]:80"], True),
        ("[::1]:80", ["[::1]:80"], False),
        ("0.0.0.0:80", ["0.0.0.0:80"], False),
    ],
)
def test_a_socket_takes_both_families_where_no_other_has_its_port(
    address: str, binds: list[str], is_dual: bool
) -> None:
    assert is_dual_stack(address, binds) is is_dual


def test_on_loopback_alone_there_is_no_line_about_names(make_server: Make) -> None:
    server = make_server().start()
    assert [line for line in server.said().splitlines() if "host names" in line] == []


def test_a_public_url_is_printed_and_an_untrusted_proxy_is_pointed_out(make_server: Make) -> None:
    flags = ("--auth", "off", "--public-url", "https://drop.example/x/")
    server = make_server(*flags).start()
    said = server.said()
    assert "Its public URL is https://drop.example/x.\n" in said
    assert "--trusted-proxy is not set" in said
    assert "drop.example" in next(line for line in said.splitlines() if "host names" in line)

"""Reverse DNS with forward check, against a name server of our own."""

import asyncio
import errno
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Iterator

import pytest
import uvloop
from tests.support.name_server import Labels, NameServer
from tests.support.waiting import eventually

from dropmill.model.errors import SettingsError
from dropmill.origin import resolver as module
from dropmill.origin.resolver import UNKNOWN, HostName, Resolver, host_name

CLIENT = "192.0.2.7"
UNHURRIED_S = 60.0  # a budget under which no question is sent twice, however busy the machine
SOON_S = 10.0  # a look-up that takes longer hangs; its own budget is far below


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer() as running:
        yield running


@pytest.fixture
async def resolver(server: NameServer) -> AsyncIterator[Resolver]:
    made = Resolver([server.address], budget_s=UNHURRIED_S)
    yield made
    await made.close()


async def soon(answer: Awaitable[HostName]) -> HostName:
    async with asyncio.timeout(SOON_S):
        return await answer


async def test_a_name_that_resolves_back_is_verified(server: NameServer, resolver: Resolver) -> None:
    server.pointers[CLIENT] = ["PC7.Lab.Example."]
    server.addresses["pc7.lab.example"] = ["192.0.2.99", CLIENT]
    assert await resolver.resolve(CLIENT) == HostName(host="pc7.lab.example", verified=True, domain="lab.example")


async def test_a_name_of_an_ipv6_address_is_verified(server: NameServer, resolver: Resolver) -> None:
    server.pointers["2001:db8::7"] = ["pc7.example"]
    server.addresses["pc7.example"] = [CLIENT, "2001:db8:0::7"]
    assert await resolver.resolve("2001:db8::7") == HostName(host="pc7.example", verified=True, domain="example")
    assert server.questions("A") == []


async def test_a_name_that_resolves_elsewhere_is_kept_but_not_verified(server: NameServer, resolver: Resolver) -> None:
    server.pointers[CLIENT] = ["www.bank.com"]
    server.addresses["www.bank.com"] = ["192.0.2.1"]
    assert await resolver.resolve(CLIENT) == HostName(host="www.bank.com", verified=False, domain="bank.com")


async def test_a_name_that_resolves_to_the_other_family_only_is_not_verified(
    server: NameServer, resolver: Resolver
) -> None:
    server.pointers[CLIENT] = ["six.example"]
    server.addresses["six.example"] = ["2001:db8::7"]
    assert await resolver.resolve(CLIENT) == HostName(host="six.example", verified=False, domain="example")


async def test_a_name_that_does_not_exist_is_kept_but_not_verified(server: NameServer, resolver: Resolver) -> None:
    server.pointers[CLIENT] = ["gone.example"]
    assert await resolver.resolve(CLIENT) == HostName(host="gone.example", verified=False, domain="example")


async def test_a_name_behind_an_alias_is_verified(server: NameServer, resolver: Resolver) -> None:
    server.pointers[CLIENT] = ["alias.example"]
    server.aliases["alias.example"] = "real.example"
    server.addresses["real.example"] = [CLIENT]
    assert (await resolver.resolve(CLIENT)).verified


async def test_a_loop_of_aliases_ends(server: NameServer, resolver: Resolver) -> None:
    server.pointers[CLIENT] = ["a.example"]
    server.aliases |= {"a.example": "b.example", "b.example": "a.example"}
    assert await soon(resolver.resolve(CLIENT)) == HostName(host="a.example", verified=False, domain="example")


async def test_an_address_without_a_name_is_unknown(server: NameServer, resolver: Resolver) -> None:
    assert await resolver.resolve(CLIENT) == UNKNOWN
    assert server.questions("PTR") == ["7.2.0.192.in-addr.arpa"]


async def test_what_is_no_address_is_unknown_and_not_asked(server: NameServer, resolver: Resolver) -> None:
    for text in ("unknown", "", "<script>", "localhost", "1.2.3"):
        assert await resolver.resolve(text) == UNKNOWN
    assert server.asked == []


async def test_given_servers_are_asked_instead_of_the_hosts_file(server: NameServer, resolver: Resolver) -> None:
    """Every hosts file names 127.0.0.1; reverse look-up and forward check must both leave it unread."""
    server.pointers["127.0.0.1"] = ["localtest.example"]
    server.addresses["localtest.example"] = ["127.0.0.1"]
    assert await resolver.resolve("127.0.0.1") == HostName(host="localtest.example", verified=True, domain="example")
    assert server.asked == [("1.0.0.127.in-addr.arpa", "PTR"), ("localtest.example", "A")]


async def test_a_bare_name_is_asked_for_without_a_search_domain(server: NameServer, resolver: Resolver) -> None:
    server.pointers[CLIENT] = ["pc7"]
    server.addresses["pc7"] = [CLIENT]
    assert await resolver.resolve(CLIENT) == HostName(host="pc7", verified=True, domain=None)
    assert server.questions("A") == ["pc7"]


async def test_without_servers_the_machine_is_asked() -> None:
    """The hosts file names 127.0.0.1 on every machine; nothing leaves it."""
    resolver = Resolver()
    try:
        found = await soon(resolver.resolve("127.0.0.1"))
    finally:
        await resolver.close()
    assert found.host == "localhost"
    assert found.verified


@pytest.mark.parametrize(
    "labels",
    [
        (b"<script>alert(1)</script>", b"example"),
        (b"a\nb", b"example"),
        (b"a\x1b[31mb", b"example"),
        (b"a\x00b", b"example"),
        (b"under_score", b"example"),
        (b"-a", b"example"),
        (b"a-", b"example"),
        (b"a b", b"example"),
        (b"a.b", b"example"),
        (b"*", b"example"),
        (b"..", b".."),
        ("bücher".encode(), b"example"),
        (b"\xff\xfe", b"example"),
        (b"192", b"0", b"2", b"7"),
        (b"",),
    ],
)
async def test_a_name_that_is_no_host_name_is_refused(server: NameServer, resolver: Resolver, labels: Labels) -> None:
    server.pointers[CLIENT] = [labels]
    assert await soon(resolver.resolve(CLIENT)) == UNKNOWN
    assert server.questions("A") == []


async def test_a_name_of_the_greatest_depth_is_accepted(server: NameServer, resolver: Resolver) -> None:
    deep = (b"x",) * 127
    server.pointers[CLIENT] = [deep]
    found = await soon(resolver.resolve(CLIENT))
    assert found.host == ".".join("x" * 127)
    assert found.domain == ".".join("x" * 126)


async def test_of_many_names_the_first_valid_one_by_order_is_taken(server: NameServer, resolver: Resolver) -> None:
    many = [f"h{number:03}.example" for number in range(100, 0, -1)]
    server.pointers[CLIENT] = [(b"<a>", b"example"), *many]
    server.addresses["h001.example"] = [CLIENT]
    assert await soon(resolver.resolve(CLIENT)) == HostName(host="h001.example", verified=True, domain="example")
    assert len(server.questions("A")) <= module.NAMES_MAX


async def test_each_of_several_names_is_tried_until_one_resolves_back(server: NameServer, resolver: Resolver) -> None:
    server.pointers[CLIENT] = ["a.example", "b.example", "c.example", "d.example"]
    server.addresses |= {"b.example": ["192.0.2.99"], "c.example": [CLIENT], "d.example": [CLIENT]}
    assert await soon(resolver.resolve(CLIENT)) == HostName(host="c.example", verified=True, domain="example")


async def test_a_name_whose_servers_are_silent_leaves_the_others_their_time(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.pointers[CLIENT] = ["a.example", "b.example"]
    server.addresses |= {"a.example": [CLIENT], "b.example": [CLIENT]}
    resolver = Resolver([server.address], budget_s=2.0)
    answer = server.resolve

    def all_but_a(request: object, handler: object) -> object:
        server.is_silent = str(request.q.qname) == "a.example."  # type: ignore[attr-defined]
        return answer(request, handler)

    monkeypatch.setattr(server, "resolve", all_but_a)
    assert await soon(resolver.resolve(CLIENT)) == HostName(host="b.example", verified=True, domain="example")
    await resolver.close()


async def test_of_several_names_none_of_which_resolves_back_the_first_is_kept(
    server: NameServer, resolver: Resolver
) -> None:
    server.pointers[CLIENT] = ["b.example", "bare", "a.example"]
    assert await soon(resolver.resolve(CLIENT)) == HostName(host="a.example", verified=False, domain="example")


async def test_names_that_are_tried_are_bounded(server: NameServer, resolver: Resolver) -> None:
    server.pointers[CLIENT] = [f"h{number}.example" for number in range(module.NAMES_MAX * 2)]
    assert not (await soon(resolver.resolve(CLIENT))).verified
    assert len(server.questions("A")) == module.NAMES_MAX


@pytest.mark.parametrize(
    ("peer", "ip"),
    [("::ffff:192.0.2.7", CLIENT), ("fe80::7%eth0", "fe80::7"), ("fe80::7", "fe80::7"), ("FE80:0::7%1", "fe80::7")],
)
async def test_mapped_and_zone_addresses_are_resolved_as_what_they_are(
    server: NameServer, resolver: Resolver, peer: str, ip: str
) -> None:
    server.pointers[ip] = ["pc7.example"]
    server.addresses["pc7.example"] = [ip]
    assert await soon(resolver.resolve(peer)) == HostName(host="pc7.example", verified=True, domain="example")


async def test_a_silent_server_costs_the_budget_and_no_more(server: NameServer) -> None:
    server.is_silent = True
    server.pointers[CLIENT] = ["pc7.example"]
    resolver = Resolver([server.address], budget_s=0.2)
    assert await soon(resolver.resolve(CLIENT)) == UNKNOWN
    await resolver.close()


async def test_a_name_without_an_answer_to_its_forward_check_is_kept(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.pointers[CLIENT] = ["pc7.example"]
    resolver = Resolver([server.address], budget_s=0.5)
    answer = server.resolve

    def only_pointers(request: object, handler: object) -> object:
        server.is_silent = "in-addr" not in str(request.q.qname)  # type: ignore[attr-defined]
        return answer(request, handler)

    monkeypatch.setattr(server, "resolve", only_pointers)
    assert await soon(resolver.resolve(CLIENT)) == HostName(host="pc7.example", verified=False, domain="example")
    await resolver.close()


async def test_a_server_that_nobody_listens_on_is_unknown() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    resolver = Resolver([address], budget_s=0.5)
    assert await soon(resolver.resolve(CLIENT)) == UNKNOWN
    await resolver.close()


async def test_a_machine_out_of_descriptors_makes_names_unknown_until_it_has_some(
    server: NameServer, resolver: Resolver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server.pointers[CLIENT] = ["pc7.example"]

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(module, "DNSResolver", fail)
        assert await resolver.resolve(CLIENT) == UNKNOWN
    assert "Too many open files" in caplog.text
    assert (await resolver.resolve(CLIENT)).host == "pc7.example"


async def test_callers_of_one_address_share_one_look_up(server: NameServer, resolver: Resolver) -> None:
    server.pointers[CLIENT] = ["pc7.example"]
    server.addresses["pc7.example"] = [CLIENT]
    server.may_answer.clear()
    callers = [asyncio.create_task(resolver.resolve(CLIENT)) for _ in range(20)]
    await eventually(lambda: bool(server.asked))
    server.may_answer.set()
    assert {answer.host for answer in await asyncio.gather(*callers)} == {"pc7.example"}
    assert server.questions("PTR") == ["7.2.0.192.in-addr.arpa"]


async def test_a_caller_that_leaves_does_not_end_the_look_up_of_the_others(
    server: NameServer, resolver: Resolver
) -> None:
    server.pointers[CLIENT] = ["pc7.example"]
    server.may_answer.clear()
    first, second = (asyncio.create_task(resolver.resolve(CLIENT)) for _ in range(2))
    await eventually(lambda: bool(server.asked))
    first.cancel()
    server.may_answer.set()
    assert (await soon(second)).host == "pc7.example"
    assert first.cancelled()


async def test_look_ups_at_once_are_bounded(server: NameServer) -> None:
    server.may_answer.clear()
    resolver = Resolver([server.address], concurrency=3, budget_s=UNHURRIED_S)
    callers = [asyncio.create_task(resolver.resolve(f"192.0.2.{number}")) for number in range(1, 13)]
    await eventually(lambda: len(server.asked) >= 3)
    server.may_answer.set()
    assert set(await asyncio.gather(*callers)) == {UNKNOWN}
    await resolver.close()
    assert server.most_at_once == 3
    assert len(server.asked) == 12


async def test_an_address_whose_turn_never_came_is_asked_for_the_next_time(server: NameServer) -> None:
    server.may_answer.clear()
    resolver = Resolver([server.address], concurrency=1, budget_s=0.2)
    assert set(await asyncio.gather(resolver.resolve("192.0.2.1"), resolver.resolve(CLIENT))) == {UNKNOWN}
    server.pointers[CLIENT] = ["pc7.example"]
    server.may_answer.set()
    resolver._budget_s = UNHURRIED_S
    assert (await soon(resolver.resolve(CLIENT))).host == "pc7.example"
    await resolver.close()


async def test_waiting_addresses_are_bounded(
    server: NameServer, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING_MAX", 1)
    server.may_answer.clear()
    waiting = asyncio.create_task(resolver.resolve(CLIENT))
    await eventually(lambda: bool(server.asked))
    assert await resolver.resolve("192.0.2.8") == UNKNOWN
    server.may_answer.set()
    await waiting
    assert server.questions("PTR") == ["7.2.0.192.in-addr.arpa"]


async def test_a_verified_name_is_believed_longer_than_anything_else(server: NameServer) -> None:
    now = [0.0]
    server.pointers[CLIENT] = ["pc7.example"]
    server.addresses["pc7.example"] = [CLIENT]
    resolver = Resolver([server.address], clock=lambda: now[0])
    lookups: list[str] = []
    real = resolver._look_up

    async def counted(ip: str) -> HostName:
        lookups.append(ip)
        return await real(ip)

    resolver._look_up = counted  # type: ignore[method-assign]
    for at, expected in (
        (0.0, [CLIENT, "192.0.2.8"]),
        (59.0, []),
        (61.0, ["192.0.2.8"]),
        (601.0, [CLIENT, "192.0.2.8"]),
    ):
        now[0] = at
        lookups.clear()
        await resolver.resolve(CLIENT)
        await resolver.resolve("192.0.2.8")
        assert lookups == expected, at
    await resolver.close()


async def test_the_address_unused_for_longest_is_forgotten_first(server: NameServer) -> None:
    resolver = Resolver([server.address], cache_size=2)
    for ip in ("192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.3"):
        await resolver.resolve(ip)
    assert list(resolver._cache) == ["192.0.2.1", "192.0.2.3"]
    await resolver.close()


async def test_closing_answers_those_who_wait_with_unknown(server: NameServer) -> None:
    server.may_answer.clear()
    resolver = Resolver([server.address])
    waiting = asyncio.create_task(resolver.resolve(CLIENT))
    await eventually(lambda: bool(server.asked))
    await resolver.close()
    assert await soon(waiting) == UNKNOWN
    assert await resolver.resolve("192.0.2.8") == UNKNOWN
    await resolver.close()


async def test_closing_at_once_after_a_question_leaves_nothing_behind(server: NameServer) -> None:
    resolver = Resolver([server.address])
    waiting = asyncio.create_task(resolver.resolve(CLIENT))
    await asyncio.sleep(0)
    await resolver.close()
    assert await soon(waiting) == UNKNOWN


@pytest.mark.parametrize("server_name", ["dns.example:53", "53", "", ":53"])
def test_a_server_must_be_given_by_its_address(server_name: str) -> None:
    with pytest.raises(SettingsError, match="ADDRESS:PORT"):
        Resolver([server_name])


def test_servers_may_have_ipv6_addresses() -> None:
    Resolver(["[::1]:5353", "127.0.0.1:5353"])


async def test_a_dead_server_does_not_hold_up_the_event_loop(server: NameServer) -> None:
    """What others do meanwhile runs on: the loop turns many times while a look-up waits for nothing."""
    server.is_silent = True
    resolver = Resolver([server.address], budget_s=0.5)
    waiting = asyncio.create_task(resolver.resolve(CLIENT))
    turns = 0
    while not waiting.done():
        await asyncio.sleep(0.001)
        turns += 1
    await resolver.close()
    assert turns > 5


def test_it_works_under_uvloop(server: NameServer) -> None:
    server.pointers[CLIENT] = ["pc7.example"]
    server.addresses["pc7.example"] = [CLIENT]

    async def look_up() -> HostName:
        resolver = Resolver([server.address])
        try:
            return await resolver.resolve(CLIENT)
        finally:
            await resolver.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(look_up()).verified


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("a.b.example.co.uk", "example.co.uk"),
        ("example.co.uk", "example.co.uk"),
        ("co.uk", None),
        ("me.github.io", "github.io"),
        ("pc7.lab.local", "lab.local"),
        ("printer.lan", "lan"),
        ("pc7.internal", "internal"),
        ("pc7", None),
    ],
)
async def test_the_domain_is_the_registered_one_or_all_after_the_first_label(
    server: NameServer, resolver: Resolver, name: str, domain: str | None
) -> None:
    server.pointers[CLIENT] = [name]
    assert (await resolver.resolve(CLIENT)).domain == domain


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("A.Example.", "a.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("3com.example", "3com.example"),
        ("x" * 63 + ".example", "x" * 63 + ".example"),
        ("x" * 64 + ".example", None),
        (".".join(["x" * 63] * 4), None),
        ("example..", None),
        (".example", None),
        ("ex\u0131mple.com", None),
        ("\u212aelvin.example", None),
        (b"\xc3\xa9.example", None),
        ("a.example\n", None),
    ],
)
def test_a_host_name_is_letters_digits_and_hyphens(text: str | bytes, accepted: str | None) -> None:
    assert host_name(text) == accepted


def test_the_clock_by_default_never_goes_back() -> None:
    assert Resolver()._clock is time.monotonic

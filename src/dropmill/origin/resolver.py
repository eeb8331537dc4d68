"""A client's host name from reverse DNS (RFC 1035, section 3.5), and whether it resolves back.

The owner of an address decides its reverse name, so a name is only text to show: it is accepted if it consists of
host-name characters (RFC 1123, section 2.1), it is verified if it resolves back, and it never grants a right. The
resolver delays and fails no request: every answer comes within the budget, and "unknown" is an answer.
"""

import asyncio
import contextlib
import ipaddress
import logging
import re
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pycares
from aiodns import DNSResolver
from aiodns.error import DNSError
from publicsuffixlist import PublicSuffixList

from dropmill.model.errors import SettingsError
from dropmill.origin.network import UNKNOWN_ADDRESS, client_address

logger = logging.getLogger(__name__)

VERIFIED_FOR_S = 600.0  # how long a verified name is cached
UNVERIFIED_FOR_S = 60.0  # how long any other answer is: a name server that did not answer is asked again soon
WAITING_MAX = 1024  # look-ups under way or waiting; further addresses stay unknown
NAMES_MAX = 32  # names of one address that are checked; each costs a query, and no real machine has more
TRIES = 2  # queries to each server within the budget: one lost packet does not lose the name

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_NAME_MAX = 253  # characters that fit the 255 octets of RFC 1035, section 2.3.4


@dataclass(frozen=True, kw_only=True, slots=True)
class HostName:
    """The answer of DNS for an address.

    Attributes:
        host: lower case, without a final dot; None if there is none, or none came in time.
        verified: whether `host` resolves back to the address.
        domain: the registered domain of `host`; everything after its first label if it has no public suffix
            (`lab.local` of `pc7.lab.local`); None for a bare name.
    """

    host: str | None = None
    verified: bool = False
    domain: str | None = None


UNKNOWN = HostName()


class Resolver:
    """Reverse look-ups with forward check, bounded in time, number and memory; one look-up for each address at a time.

    Belongs to one event loop, from the first `resolve` to `close`.
    """

    def __init__(
        self,
        servers: Sequence[str] = (),
        *,
        budget_s: float = 2.0,
        concurrency: int = 32,
        cache_size: int = 4096,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Send no query yet.

        Args:
            servers: name servers as `ADDRESS:PORT`; only these are asked, and the hosts file is not read.
                Empty: names resolve as on this machine, hosts file included.
            budget_s: seconds after which a look-up ends with what is known by then; includes waiting for its turn.
            concurrency: look-ups under way at once.
            cache_size: addresses remembered; the one unused for longest is forgotten first.
            clock: seconds, never falling; measures how long an answer is cached.

        Raises:
            SettingsError: a server is not given as an address and a port.
        """
        for server in servers:
            _require_address(server)
        self._servers = tuple(servers)
        self._budget_s = budget_s
        self._turns = asyncio.Semaphore(concurrency)
        self._cache_size = cache_size
        self._clock = clock
        self._cache: OrderedDict[str, tuple[float, HostName]] = OrderedDict()
        self._lookups: dict[str, asyncio.Task[HostName]] = {}
        self._opening = asyncio.Lock()
        self._tools: tuple[DNSResolver, PublicSuffixList] | None = None
        self._is_closed = False

    async def resolve(self, ip: str) -> HostName:
        """The host name of an address; `UNKNOWN` while it is unknown. No failure of DNS raises.

        Cancelling a caller does not cancel the look-up: others may wait for it, and the cache keeps its answer.
        """
        ip = client_address(ip)
        if ip == UNKNOWN_ADDRESS:
            return UNKNOWN
        known = self._remembered(ip)
        if known is not None:
            return known
        lookup = self._lookups.get(ip)
        if lookup is None:
            if self._is_closed or len(self._lookups) >= WAITING_MAX:
                return UNKNOWN
            lookup = self._lookups[ip] = asyncio.create_task(self._look_up(ip), name=f"reverse DNS of {ip}")
            lookup.add_done_callback(lambda _: self._lookups.pop(ip))
        await asyncio.wait((lookup,))  # unlike `await lookup`: neither cancels it nor is cancelled with it by `close`
        return UNKNOWN if lookup.cancelled() else lookup.result()

    async def close(self) -> None:
        """End every look-up, so that its callers get `UNKNOWN`, and close the channel. Safe to call twice."""
        self._is_closed = True
        lookups = list(self._lookups.values())
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)
        if self._tools is not None:
            await self._tools[0].close()
            self._tools = None

    async def _look_up(self, ip: str) -> HostName:
        try:
            dns, suffixes = await self._open()
        except (pycares.AresError, OSError) as error:  # most likely out of descriptors; the next look-up tries again
            logger.warning("Client host names cannot be looked up now: %s", error)
            return UNKNOWN
        asked = False
        checks: dict[str, asyncio.Task[bool]] = {}
        try:
            with contextlib.suppress(DNSError, TimeoutError):
                async with asyncio.timeout(self._budget_s) as budget, self._turns:
                    asked = (budget.when() or 0) - asyncio.get_running_loop().time() > self._budget_s / 2
                    names = _in_order(await self._names(dns, ip))[:NAMES_MAX]
                    asked = True
                    # All at once, so that a name whose servers are silent does not use up the time of the others.
                    checks = {name: asyncio.create_task(self._resolves_back(dns, name, ip)) for name in names}
                    for check in checks.values():
                        if await asyncio.shield(check):
                            break
            host = next((name for name, check in checks.items() if check.done() and check.result()), None)
        finally:
            for check in checks.values():
                check.cancel()
            await asyncio.gather(*checks.values(), return_exceptions=True)
        verified = host is not None
        host = host or next(iter(checks), None)
        found = HostName(host=host, verified=verified, domain=_domain(suffixes, host) if host else None)
        if asked:  # a look-up whose turn came too late for an answer may be repeated at once
            self._remember(ip, found)
        return found

    # With configured servers a plain DNS query is sent, because that reads no hosts file. The channel's option for
    # this, `lookups`, cannot be used: pycares 5.2 frees its text before c-ares has read it.

    async def _names(self, dns: DNSResolver, ip: str) -> set[str | bytes]:
        if not self._servers:
            found = await dns.gethostbyaddr(ip)
            return {found.name, *found.aliases}
        answer = await dns.query_dns(ipaddress.ip_address(ip).reverse_pointer, "PTR")
        return {record.data.dname for record in answer.answer if isinstance(record.data, pycares.PTRRecordData)}

    async def _resolves_back(self, dns: DNSResolver, host: str, ip: str) -> bool:
        try:
            return ip in await self._addresses(dns, host, ip)
        except DNSError:
            return False

    async def _addresses(self, dns: DNSResolver, host: str, ip: str) -> set[str]:
        family, question = (socket.AF_INET6, "AAAA") if ":" in ip else (socket.AF_INET, "A")
        if not self._servers:
            found = await dns.getaddrinfo(host, family)
            return {client_address(node.addr[0].decode()) for node in found.nodes}
        answer = await dns.query_dns(host, question)
        kinds = (pycares.ARecordData, pycares.AAAARecordData)
        return {client_address(record.data.addr) for record in answer.answer if isinstance(record.data, kinds)}

    async def _open(self) -> tuple[DNSResolver, PublicSuffixList]:
        async with self._opening:
            if self._tools is None:
                # In a thread: the list is long to parse, and the channel reads the machine's DNS configuration.
                self._tools = await asyncio.to_thread(self._load, asyncio.get_running_loop())
            return self._tools

    def _load(self, loop: asyncio.AbstractEventLoop) -> tuple[DNSResolver, PublicSuffixList]:
        dns = DNSResolver(
            self._servers or None,
            loop,
            timeout=self._budget_s / TRIES,
            tries=TRIES,
            # A reverse name is fully qualified: the machine's search domains must not be appended.
            flags=pycares.ARES_FLAG_EDNS | pycares.ARES_FLAG_NOSEARCH,
        )
        return dns, PublicSuffixList(only_icann=True, accept_unknown=False)

    def _remembered(self, ip: str) -> HostName | None:
        entry = self._cache.get(ip)
        if entry is None:
            return None
        until, known = entry
        if self._clock() >= until:
            del self._cache[ip]
            return None
        self._cache.move_to_end(ip)
        return known

    def _remember(self, ip: str, found: HostName) -> None:
        self._cache[ip] = (self._clock() + (VERIFIED_FOR_S if found.verified else UNVERIFIED_FOR_S), found)
        if len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)


def host_name(text: str | bytes) -> str | None:
    """A name from DNS, in lower case and without a final dot; None if it is no host name."""
    # Checked before lower(), which turns some letters, such as the Kelvin sign, into ASCII.
    if isinstance(text, bytes) or not text.isascii():
        return None
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    # A name that ends in digits could pass for an address (192.0.2.1).
    if len(name) > _NAME_MAX or labels[-1].isdigit() or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    return name


def _in_order(names: Iterable[str | bytes]) -> list[str]:
    # DNS returns several names in any order. Sorting makes the choice stable, and prefers a full name to a bare one.
    return sorted({*filter(None, map(host_name, names))}, key=lambda name: ("." not in name, name))


def _domain(suffixes: PublicSuffixList, host: str) -> str | None:
    if suffixes.publicsuffix(host) is not None:
        return suffixes.privatesuffix(host)
    return host.partition(".")[2] or None


def _require_address(server: str) -> None:
    host = server.rpartition(":")[0]
    if client_address(host.removeprefix("[").removesuffix("]")) == UNKNOWN_ADDRESS:
        raise SettingsError(f"--dns-servers {server!r}: must be ADDRESS:PORT, for example 127.0.0.1:53 or [::1]:53.")

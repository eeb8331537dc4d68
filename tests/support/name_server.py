"""A DNS server of our own on loopback, as honest or as hostile as a test wants it."""

import ipaddress
import socketserver
import threading
from types import TracebackType

from dnslib import AAAA, CNAME, PTR, QTYPE, RCODE, RR, A, DNSError, DNSLabel, DNSRecord  # type: ignore[import-untyped]
from dnslib.server import DNSHandler, DNSLogger, TCPServer, UDPServer  # type: ignore[import-untyped]

UDP_MAX = 1232  # bytes; a longer answer is cut off, and asked for again over TCP

Labels = tuple[bytes, ...]
"""A name as it travels: labels of any bytes, so that a test can send what no zone file could hold."""


class NameServer:
    """Answers over UDP and TCP while its context is open.

    Attributes:
        pointers: address to its reverse names; an address that is not there is NXDOMAIN.
        addresses: host name to its addresses, of either family.
        aliases: host name to another one (CNAME).
        is_silent: receive questions and never answer; may be changed at any time.
        may_answer: answers wait for this event, which is set at first.
        asked: every question so far, as `(name in lower case, type)`.
        most_at_once: how many questions were waiting for their answer at one moment.
    """

    def __init__(self) -> None:
        self.pointers: dict[str, list[str | Labels]] = {}
        self.addresses: dict[str, list[str]] = {}
        self.aliases: dict[str, str] = {}
        self.is_silent = False
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.asked: list[tuple[str, str]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._servers: list[socketserver.BaseServer] = []
        self._threads: list[threading.Thread] = []
        self.address = ""

    def __enter__(self) -> "NameServer":
        self._listen()
        self._threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in self._servers]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.may_answer.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()

    def questions(self, kind: str) -> list[str]:
        """Names that were asked for by one type of question."""
        return [name for name, asked in self.asked if asked == kind]

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        """The answer to one question (called by dnslib, on a thread of its own)."""
        name, kind = ".".join(_text(label) for label in request.q.qname.label).lower(), QTYPE[request.q.qtype]
        with self._lock:
            self.asked.append((name, kind))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            self.may_answer.wait()
        finally:
            with self._lock:
                self._at_once -= 1
        if self.is_silent:
            raise DNSError("silent")  # dnslib's handler then sends nothing
        reply = self._answer(request, name, kind)
        if handler.protocol == "udp" and len(reply.pack()) > UDP_MAX:
            reply = request.reply()
            reply.header.tc = 1
        return reply

    def _answer(self, request: DNSRecord, name: str, kind: str) -> DNSRecord:
        reply = request.reply()
        asked, records = request.q.qname, []
        for _ in range(3):  # enough to follow a chain, and to show a loop
            if name in self.aliases:
                name, owner = self.aliases[name], asked
                asked = DNSLabel(name)
                records.append(RR(owner, QTYPE.CNAME, rdata=CNAME(asked), ttl=60))
        if kind == "PTR":
            by_pointer = {ipaddress.ip_address(ip).reverse_pointer: names for ip, names in self.pointers.items()}
            records += [RR(asked, QTYPE.PTR, rdata=PTR(DNSLabel(n)), ttl=60) for n in by_pointer.get(name, [])]
        for address in self.addresses.get(name, []):
            wanted, data = ("AAAA", AAAA) if ":" in address else ("A", A)
            if kind == wanted:
                records.append(RR(asked, getattr(QTYPE, wanted), rdata=data(address), ttl=60))
        reply.add_answer(*records)
        if not records and name not in self.addresses:
            reply.header.rcode = RCODE.NXDOMAIN
        return reply

    def _listen(self) -> None:
        while not self._servers:
            udp = UDPServer(("127.0.0.1", 0), DNSHandler)
            try:
                tcp = TCPServer(udp.server_address, DNSHandler)
            except OSError:  # the port is free for UDP only
                udp.server_close()
                continue
            self._servers = [udp, tcp]
            self.address = f"127.0.0.1:{udp.server_address[1]}"
            for server in (udp, tcp):
                server.resolver = self
                server.logger = DNSLogger("-request,-reply,-truncated,-error,-recv,-send,-data")


def _text(label: bytes) -> str:
    return label.decode("latin-1")

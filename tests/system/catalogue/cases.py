"""The catalogue of bad inputs (`bad_inputs.jsonl`): one case a line, read and made into bytes.

A case has `id`, `surface`, `what`, `input`, `expect`, and a `reason` where its expectation was decided here.
`input` is text, or `{"base64"}`, or `{"repeat": {"unit", "times", "prefix", "suffix"}}`, or `{"each": [...]}`.
A prefix or unit in angle brackets names what is built around it. How a surface is played is the business of the tests.

`expect`: `status` the numbers an answer may have, 0 meaning none; `code` of its problem document; `is_closed` whether
the connection must end; `stored` and `aborted` how many files it leaves; `then` how the client goes on (`fin`, `rst`);
`is_pipelined` whether they are the numbers of several answers, in order; `times` to send it, one after the other;
`at_once` on so many connections; `segments` sizes of the pieces it is sent in, once each. Of uploads `received` bytes
that came before, `is_sending` whether more are on their way, `is_ended` whether it was ended, `is_gone` whether it is
afterwards. Of sockets `reply` the codes of refusals, `close` the close codes, 1006 meaning none was said; `is_silent`
whether nothing need happen. Of the config `config` what is the matter with its file meanwhile (`play.STATES`),
`is_warned` whether the check has warnings; `then` may be `cut`: sent over and over, each time one byte more of it.
`script`, `identity` and `auth` have their own: `scripts`, `identities`, `sign_ins`.
An expectation in free text cannot be checked; then only what holds after every case is.
"""

import base64
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOUNDARY_HEAD = (
    b"POST {{submissions}} HTTP/1.1\r\nHost: {{host}}\r\nContent-Type: multipart/form-data; boundary=B\r\n"
    b"Content-Length: %d\r\n\r\n"
)
CHUNK = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the catalogue."""

    id: str
    surface: str
    what: str
    input: Any
    expect: Mapping[str, Any]
    reason: str | None = None
    is_known: bool = True

    def texts(self, filled: Mapping[str, str]) -> list[bytes]:
        """What is to be sent, one after the other; `filled` are the placeholders of this run."""
        each = self.input["each"] if isinstance(self.input, dict) and "each" in self.input else [self.input]
        # Repeated messages are messages of their own; everything else that is repeated is one text.
        return [text for one in each for text in _made(one, filled, is_split=self.surface == "ws_message")]


class Unplayable(Exception):
    """The machine lacks what a case needs."""


OWN = Path(__file__).with_name("bad_inputs.jsonl")


def cases(*surfaces: str, path: Path = OWN) -> list[Case]:
    """The cases of some surfaces, in a file; of all, if none is named."""
    found = [_case(json.loads(line)) for line in path.read_text().splitlines() if line.strip()]
    return [case for case in found if not surfaces or case.surface in surfaces]


def _case(told: Mapping[str, Any]) -> Case:
    if isinstance(told["expect"], str):
        return Case(**{**told, "expect": {}, "is_known": False})
    return Case(**told)


def frame(payload: bytes, first: int = 0x81) -> bytes:
    """A client's WebSocket frame, masked with zeros (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes([first, 0x80 | size]) + bytes(4) + payload
    if size < 65536:
        return bytes([first, 0xFE]) + struct.pack(">H", size) + bytes(4) + payload
    return bytes([first, 0xFF]) + struct.pack(">Q", size) + bytes(4) + payload


def _made(one: Any, filled: Mapping[str, str], *, is_split: bool) -> list[bytes]:
    if isinstance(one, str):
        return [_fill(one.encode(errors="surrogatepass"), filled)]
    if "base64" in one:
        return [_fill(base64.b64decode(one["base64"]), filled)]
    repeat = one["repeat"]
    unit, prefix, suffix = (repeat.get(part, "").encode() for part in ("unit", "prefix", "suffix"))
    times = repeat["times"]
    if unit == b"<frame fin=0 op=0 len=0>":
        return [frame(b"", first=0x01) + frame(b"", first=0x00) * times]
    if b"{{i_spaces}}" in unit:
        units = [unit.replace(b"{{i_spaces}}", b" " * i) for i in range(times)]
    elif b"{{i}}" in unit:
        units = [unit.replace(b"{{i}}", str(i).encode()) for i in range(times)]
        if is_split and not prefix:
            return units
    else:
        units = [unit * times]
    body = b"".join(units) + suffix
    if prefix.startswith(b"<text frame payload>"):
        return [frame(body)]
    if prefix.startswith(b"<multipart body>"):
        body = prefix.removeprefix(b"<multipart body>") + body
        return [_fill(BOUNDARY_HEAD % len(body), filled) + body]
    head, is_chunked, rest = prefix.partition(b"<chunked:>")
    if is_chunked:
        body = rest + body
        pieces = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    return [_fill(head, filled) + _fill(body, filled)]


def _fill(text: bytes, filled: Mapping[str, str]) -> bytes:
    for name, value in filled.items():
        text = text.replace(b"{{%b}}" % name.encode(), value.encode())
    return text

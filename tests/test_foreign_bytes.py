"""What reads foreign bytes on the event loop takes linear time, whatever the bytes are.

One table: each pattern, parser and decoder that bytes of clients, scripts and name servers reach there, the largest
text that reaches it, and texts that are made to be expensive. What runs in a thread or in the parser's own process is
not in it. A new reader of foreign bytes on the loop gets a row.

The CPU time of the same work on 4 times as much text is compared: about 4 times for a linear reader, 16 for a quadratic
one. The largest size is the largest that can arrive, so what grows only beyond it does no harm.
"""

import contextlib
import os
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import h11
import pytest
from hypercorn.config import Config
from hypercorn.typing import ConnectionState, HTTPScope
from quart import Quart, Request
from tests.support.fakes.attempt_ledger import FakeAttemptLedger
from tests.support.fakes.bus import FakeBus
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from wsproto.connection import Connection, ConnectionType

from dropmill.configfile.yaml.edits import parse_patch
from dropmill.intake.multipart import boundary_of, client_path, file_parts, stored_extension
from dropmill.intake.tus import METADATA_MAX, parse_checksum, parse_metadata
from dropmill.model.errors import DropmillError
from dropmill.model.output import OutputBounds
from dropmill.origin.network import client_address, identify
from dropmill.origin.resolver import host_name
from dropmill.processing.failure import LAST_LINE_BYTES, last_line
from dropmill.processing.output import OutputStream
from dropmill.processing.progress import LOOKED_AT_BYTES, ProgressFeed, find_progress, parse_explicit
from dropmill.processing.run import CHUNK_BYTES, REPORT_BYTES, Run
from dropmill.web.api.config import config
from dropmill.web.api.downloads import downloads
from dropmill.web.api.filenames import attachment, content_type
from dropmill.web.api.jobs import jobs
from dropmill.web.api.live import live
from dropmill.web.api.ops import ops
from dropmill.web.api.query import QUERY_MAX
from dropmill.web.api.submissions import submissions
from dropmill.web.api.uploads import send, uploads
from dropmill.web.pages import pages
from dropmill.web.server import body
from dropmill.web.server.accept import preferred_type
from dropmill.web.server.forwarding import target_path
from dropmill.web.server.guard import _host_name
from dropmill.web.server.headers import sha256_of_header
from dropmill.wire.encoding import loads_strict
from dropmill.wire.socket import MESSAGE_MAX, BadMessage, parse

READ_BYTES = 64 * 1024  # of a connection at once
HEADERS_BYTES = READ_BYTES  # of one request, if one read brings them whole; in pieces they end at a quarter of it
BODY_PIECE_BYTES = 256 * 1024  # of a body at once, more than the server hands over
NAME_BYTES = 4096
GROWTH = 4
MOST_GROWTH = 8.0  # 4 is linear, 16 quadratic; the rest is the machine's
SHORTEST_S = 0.002  # of CPU a measurement takes, so that the clock's steps do not count
NO_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")  # no header that arrives has one
TRIES = 4  # a busy machine takes another look; a quadratic reader fails all of them

Generator = Callable[[int], bytes]


def of(piece: bytes, *, head: bytes = b"", tail: bytes = b"") -> Generator:
    """Texts of one piece again and again, between a head and a tail."""
    return lambda size: head + (piece * (size // len(piece) + 1))[: size - len(head) - len(tail)] + tail


def mixed(alphabet: bytes) -> Generator:
    """Texts of random bytes of an alphabet."""
    return lambda size: bytes(random.choices(alphabet, k=size))


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One that reads foreign bytes on the loop.

    Attributes:
        read: reads a text; a domain error is an answer, too.
        most: bytes of the largest text that reaches it.
        texts: expensive ones, beside those that every reader gets.
    """

    read: Callable[[bytes], object]
    most: int
    texts: tuple[Generator, ...] = ()


EVERYWHERE: tuple[Generator, ...] = (
    of(b"a"),
    of(b" "),
    of(b"\n"),
    of(b"\r"),
    of(b"\t \n", tail=b"x"),
    of(b" ", head=b"a", tail=b"a"),
    of(b"9"),
    of(b"9", head=b"-", tail=b"x"),
    of(b'"'),
    of(b'\\"', head=b'"'),
    of(b"\\"),
    of(b","),
    of(b" ,"),
    of(b";"),
    of(b"; "),
    of(b"="),
    of(b"/"),
    of(b"."),
    of(b"a.", tail=b"-"),
    of(b"-"),
    of(b":"),
    of(b"["),
    of(b'{"a":'),
    of(b"%"),
    of(b"\xff"),
    of(b"\xe2\x82"),
    of(b"\x1b["),
    of(b"\x1b]"),
    mixed(b" \t\n\r,;:=/\\\"'.-09aZ[({*%"),
)

# --- readers that need something around them -------------------------------------------------------------------------

ledger = FakeAttemptLedger()
ORDER = ledger.orders[ledger.add(Path(__file__))]


async def _push(path: str, headers: Headers) -> None:
    """Never called."""


def request_for(query: bytes = b"", headers: Mapping[str, str] | None = None) -> Request:
    """A request as the framework hands it to a handler."""
    scope: HTTPScope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": query,
        "root_path": "",
        "headers": (),
        "client": None,
        "server": None,
        "state": ConnectionState({}),
        "extensions": {},
    }
    return Request("GET", "http", "/", query, Headers(headers), "", "1.1", scope, send_push_promise=_push)


@cache
def _routes() -> Any:
    app = Quart("dropmill")
    app.url_map.merge_slashes = False
    for blueprint in (pages, submissions, jobs, downloads, config, live, ops, uploads, send):
        app.register_blueprint(blueprint)
    return app.url_map.bind("localhost")


def route(path: str) -> object:
    """The handler of a path; none is an answer, too."""
    try:
        return _routes().match("/" + path)
    except HTTPException as nothing:
        return nothing


def header(name: str, read: Callable[[Any], object]) -> Reader:
    """What the web framework makes of a request's header when it is asked for it."""

    def of_request(data: bytes) -> object:
        return read(request_for(headers={name: data.translate(NO_LINE_ENDS).decode("latin-1")}))

    return Reader(
        read=of_request,
        most=HEADERS_BYTES,
        texts=(
            of(b"0-0,", head=b"bytes="),
            of(b'"a,'),
            of(b'W/"",'),
            of(b"a;b=c"),
            of(b";a=b", head=b"form-data"),
            of(b';a="', head=b"x"),
            of(b';a*0="\\', head=b"x"),
            of(b"*1", head=b"x; a"),
            of(b"a=b; "),
            of(b'a="\\', head=b"b=c;"),
        ),
    )


def text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: read(data.decode("latin-1"))


def run_once(work: Coroutine[Any, Any, object]) -> object:
    """What a coroutine that never waits returns."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for something")


def parts_of(boundary: str, piece_bytes: int) -> Callable[[bytes], object]:
    """A multipart body that comes in pieces of a size."""

    async def pieces(data: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(data), piece_bytes):
            yield data[start : start + piece_bytes]

    async def drain(data: bytes) -> int:
        return len([event async for event in file_parts(pieces(data), boundary)])

    return lambda data: run_once(drain(data))


def look_at(data: bytes) -> None:
    """What one read of a script's output meets."""
    feed = ProgressFeed(FakeBus(), ORDER)
    feed.read(data)
    feed.close()


def look_at_encoder(data: bytes) -> None:
    """The same, once the script is known as an encoder."""
    feed = ProgressFeed(FakeBus(), ORDER)
    feed.read(b"  Duration: 01:00:00.00, start: 0\nframe=1 time=00:00:01.00 speed=1x\r")
    feed.read(data)
    feed.close()


class NoSlot:
    """`dropmill.processing.run.RunHost` without a process."""

    def send(self, message: bytes, descriptors: tuple[int, ...] = ()) -> None:
        raise AssertionError("there is no process")

    def wake(self) -> None:
        raise AssertionError("there is no process")

    def kill(self) -> None:
        raise AssertionError("there is no process")

    def reap(self) -> None:
        raise AssertionError("there is no process")


def a_run() -> Run:
    """An attempt whose process is left out."""
    return Run(NoSlot(), OutputStream(ORDER.job_id, 1, OutputBounds(), lambda _: None), lambda *_: None)


def read_reports(data: bytes) -> None:
    """What a script writes into its report pipe, in pieces as the pool reads them."""
    run = a_run()
    for start in range(0, len(data), CHUNK_BYTES):
        run.take_reports(data[start : start + CHUNK_BYTES])


def read_http(data: bytes) -> None:
    """What the server's HTTP parser makes of the bytes of a connection, as the server has set it up."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=Config().h11_max_incomplete_size)
    parser.receive_data(data)
    while parser.next_event() not in (h11.NEED_DATA, h11.PAUSED):
        pass


def read_frames(data: bytes) -> None:
    """What the server's WebSocket parser makes of the bytes of a socket."""
    parser = Connection(ConnectionType.SERVER)
    parser.receive_data(data)
    for _ in parser.events():
        pass


# Quadratic when the length of the medium was looked for with `^\\s*Duration:`, for minutes in this size.
DURATIONS = (
    of(b"\n", tail=b"Duration: x\n"),
    of(b"\n", head=b"Duration: 1\n"),
    of(b" \t", tail=b"Duration: x\n"),
    of(b"\r", tail=b"Duration: x\r"),
    of(b"Duration: ", tail=b"\n"),
    of(b"  Duration: 00:00:09.99, start\n"),
    of(b"9", head=b"Duration: ", tail=b"\n"),
    of(b"9", head=b"Duration: 00:00:00.", tail=b"\n"),
    of(b" time=00:00:01.5 time=99", head=b"Duration: 01:00:00.0, s\n", tail=b"\n"),
    of(b"9", head=b" time=", tail=b"\n"),
)
PROGRESS = (
    of(b"1/2 ", tail=b"\n"),
    of(b"99.999999999%\n 100 %\r"),
    of(b"123456789012345/", tail=b"\n"),
    of(b" 12%|####      | 12/100 [00:01<00:09]\r"),
    of(b"[", tail=b"(\n"),
    of(b"\x1b[0;1;2;3;?", tail=b"\n"),
    of(b"0;", head=b"\x1b[", tail=b"\n"),
    of(b"dropmill: progress 1/2 \t \t \t x\n"),
    of(b" \t", head=b"dropmill: progress 1/2", tail=b"\n"),
    of(b"dropmill: progress ", tail=b"\n"),
    mixed(b"%%0123456789. \t\r\n/"),
)
DISPOSITION = b'--b\r\nContent-Disposition: form-data; name="f"; filename="'

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

READERS: Mapping[str, Reader] = {
    "HTTP": Reader(
        read=read_http,
        most=READ_BYTES,
        texts=(
            of(b"a", head=b"GET /", tail=b" HTTP/1.1\r\n\r\n"),
            of(b"a:b\r\n", head=GET, tail=b"\r\n\r\n"),
            of(b" \r\n ", head=GET + b"a: b", tail=b"\r\n\r\n"),
            of(b" ", head=GET + b"a:", tail=b"b\r\n\r\n"),
            of(b"\t a", head=GET + b"a: ", tail=b"\r\n\r\n"),
            of(b"a, ", head=GET + b"Connection: ", tail=b"\r\n\r\n"),
            of(b"1\r\na\r\n", head=CHUNKED),
            of(b";a=b", head=CHUNKED + b"1", tail=b"\r\n"),
            of(b"0", head=CHUNKED),
            of(b"a:b\r\n", head=CHUNKED + b"0\r\n", tail=b"\r\n"),
        ),
    ),
    "frames of a socket": Reader(
        read=read_frames,
        most=READ_BYTES,
        texts=(
            of(b"\x81\x80abcd"),
            of(b"\x00\x80abcd", head=b"\x01\x80abcd"),
            of(b"\x82\x81abcda"),
            of(b"\x89\x80abcd"),
            of(b"\x00\x81\x00\x00\x00\x00\xf0", head=b"\x01\x80abcd"),
        ),
    ),
    "target of a request": Reader(
        read=text(target_path), most=READ_BYTES, texts=(of(b"[", head=b"http://"), of(b"@", head=b"//"))
    ),
    "output of a script": Reader(read=look_at, most=CHUNK_BYTES, texts=DURATIONS + PROGRESS),
    "output of an encoder": Reader(read=look_at_encoder, most=CHUNK_BYTES, texts=DURATIONS + PROGRESS),
    "progress in a line": Reader(read=find_progress, most=LOOKED_AT_BYTES, texts=PROGRESS),
    "progress said on purpose": Reader(
        read=lambda data: parse_explicit(b"dropmill: progress " + data), most=LOOKED_AT_BYTES, texts=PROGRESS
    ),
    "last line of an output": Reader(
        read=last_line,
        most=LAST_LINE_BYTES,
        texts=(of(b"\x1b]0;", tail=b"\x1b"), of(b"\x1b[0;"), of(b"\x1b "), of(b"\x1b[  "), of(b"0;", head=b"\x1b[")),
    ),
    "report pipe": Reader(
        read=read_reports,
        most=REPORT_BYTES,
        texts=(
            of(b"v1\n"),
            of(b"p[1,2,null]\n"),
            of(b'e["a","b"]\n'),
            of(b"[", head=b"v", tail=b"\n"),
            of(b"9", head=b"v", tail=b"\n"),
            of(b"1e9,", head=b"v[", tail=b"1]\n"),
            of(b"\\ud800", head=b'e["a","', tail=b'"]\n'),
        ),
    ),
    "multipart body": Reader(
        read=parts_of("b" * 70, BODY_PIECE_BYTES),
        most=4 * BODY_PIECE_BYTES,
        texts=(
            of(b"\r\n--" + b"b" * 69),
            of(b"\r\n--" + b"b" * 69, head=b"--" + b"b" * 70 + b'\r\nContent-Disposition: form-data; name="f"\r\n\r\n'),
            of(b"\r\n--", head=b"--" + b"b" * 70 + b"\r\n"),
            of(b"\r", head=b"--" + b"b" * 70 + b'\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n'),
        ),
    ),
    "multipart body of small parts": Reader(
        read=parts_of("b", BODY_PIECE_BYTES),
        most=BODY_PIECE_BYTES,
        texts=(of(DISPOSITION + b'x"\r\n\r\n\r\n'), of(b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\n\r\n')),
    ),
    "head of a part": Reader(
        read=parts_of("b", BODY_PIECE_BYTES),
        most=16 * 1024,
        texts=(
            of(b'\\"', head=DISPOSITION, tail=b'"\r\n\r\nx\r\n--b--\r\n'),
            of(b"; a=b", head=b"--b\r\nContent-Disposition: form-data", tail=b"\r\n\r\n"),
            of(b';a="', head=b"--b\r\nContent-Disposition: form-data", tail=b"\r\n\r\n"),
            of(b';a="\\', head=b"--b\r\nContent-Disposition: form-data", tail=b"\r\n\r\n"),
            of(b" ", head=b"--b\r\nContent-Disposition: form-data;", tail=b"a\r\n\r\n"),
            of(b" ", head=b"--b\r\nContent-Disposition: form-data;a", tail=b"a\r\n\r\n"),
            of(b"%F0", head=b"--b\r\nContent-Disposition: form-data; name=f; filename*=utf-8''", tail=b"\r\n\r\n"),
        ),
    ),
    "head of a part, in pieces of a byte": Reader(
        read=parts_of("b", 1), most=4 * 1024, texts=(of(b"a", head=DISPOSITION), of(b"b", head=b"--"))
    ),
    "file name": Reader(read=text(lambda name: (client_path(name), stored_extension(name))), most=NAME_BYTES),
    "name to save under": Reader(
        read=text(lambda name: (attachment(name), content_type(name))), most=NAME_BYTES, texts=(of(b"\xc3\xa4"),)
    ),
    "JSON of a body": Reader(
        read=loads_strict,
        most=body.JSON_QUICK,
        texts=(
            of(b"9", head=b"[", tail=b"]"),
            of(b'{"a":1},', head=b"[", tail=b"1]"),
            of(b"1e999,", head=b"[", tail=b"1]"),
        ),
    ),
    "message of a socket": Reader(
        read=text(parse),
        most=MESSAGE_MAX,
        texts=(
            of(b"9", head=b'{"type":"join","id":', tail=b"}"),
            of(b"a", head=b'{"type":"join","topic":"', tail=b'"}'),
            of(b'"a":1,', head=b"{", tail=b'"b":1}'),
        ),
    ),
    "JSON patch": Reader(
        read=lambda data: parse_patch([{"op": "remove", "path": "/" + data.decode("latin-1")}]),
        most=MESSAGE_MAX,
        texts=(of(b"~1"), of(b"~0/")),
    ),
    "Upload-Metadata": Reader(
        read=text(parse_metadata), most=METADATA_MAX, texts=(of(b"a ,"), of(b"YQ", head=b"filename "), of(b"a YQ,"))
    ),
    "Upload-Checksum": Reader(read=text(parse_checksum), most=HEADERS_BYTES, texts=(of(b"YQ", head=b"sha1 "),)),
    "Repr-Digest": Reader(
        read=text(
            lambda value: sha256_of_header(Headers({"Repr-Digest": value.translate({10: " ", 13: " "})}), "Repr-Digest")
        ),
        most=HEADERS_BYTES,
        texts=(
            of(b", sha-256="),
            of(b" ", head=b",", tail=b"sha-256"),
            of(b"sha-256=:", tail=b"a"),
            of(b"A", head=b"sha-256=:"),
        ),
    ),
    "Content-Type": Reader(
        read=text(boundary_of),
        most=HEADERS_BYTES,
        texts=(of(b";boundary=", head=b"multipart/form-data"), of(b';a="', head=b"multipart/form-data")),
    ),
    "Host": Reader(read=text(_host_name), most=HEADERS_BYTES, texts=(of(b":", head=b"[", tail=b"]"), of(b"[::"))),
    "User-Agent": Reader(read=text(lambda value: identify("192.0.2.1", value)), most=HEADERS_BYTES),
    "address": Reader(read=text(client_address), most=HEADERS_BYTES, texts=(of(b"1."), of(b"::"))),
    "name from DNS": Reader(read=text(host_name), most=HEADERS_BYTES, texts=(of(b"a."), of(b"-."), of(b"-"))),
    "Accept": Reader(
        read=text(lambda value: preferred_type(value, ["application/json", "text/html"])),
        most=HEADERS_BYTES,
        texts=(of(b"text/html;q=0.1 ;,"), of(b" ", head=b"text/html;q=0.5", tail=b";a=b"), of(b"a/b,")),
    ),
    "Range": header("Range", lambda request: request.range),
    "If-Range": header("If-Range", lambda request: request.if_range),
    "If-None-Match": header("If-None-Match", lambda request: request.if_none_match.contains_weak("a")),
    "media type": header("Content-Type", lambda request: request.mimetype),
    "Cookie": header("Cookie", lambda request: request.cookies),
    "query": Reader(
        read=lambda data: request_for(data).args.getlist("q"),
        most=QUERY_MAX,
        texts=(of(b"&"), of(b"a=b&"), of(b"%41"), of(b"q=%F0&")),
    ),
    "address of a page": Reader(
        read=text(route),
        most=HEADERS_BYTES,
        texts=(of(b"/a", head=b"/api/v1/jobs/a/results"), of(b"//", head=b"/api/v1")),
    ),
}


@pytest.mark.parametrize("name", READERS)
async def test_what_reads_foreign_bytes_on_the_loop_is_linear(name: str) -> None:
    """Four times the text costs about four times the CPU, for every text of every row."""
    seed = int(os.environ.get("SEED", time.time_ns() % 2**32))
    random.seed(seed)
    reader = READERS[name]
    for number, make in enumerate((*EVERYWHERE, *reader.texts)):
        for size in (reader.most // GROWTH**2, reader.most // GROWTH):
            growth = measure(reader.read, make, size)
            assert growth < MOST_GROWTH, f"text {number}, from {size} bytes on: {growth:.1f} times (SEED={seed})"


def measure(read: Callable[[bytes], object], make: Generator, size: int) -> float:
    """How much more CPU a text of `GROWTH` times this size takes; the least of some tries."""
    small, large = make(size), make(size * GROWTH)
    least = float("inf")
    for _ in range(TRIES):
        least = min(least, cost(read, large) / cost(read, small))
        if least < MOST_GROWTH:
            break
    return least


def cost(read: Callable[[bytes], object], data: bytes) -> float:
    """Seconds of this thread's CPU that one reading takes."""
    times, spent = 0, 0.0
    begin = time.thread_time()
    while spent < SHORTEST_S:
        with contextlib.suppress(DropmillError, BadMessage, h11.RemoteProtocolError, ValueError, RecursionError):
            read(data)
        times += 1
        spent = time.thread_time() - begin
    return spent / times


async def test_a_quadratic_reader_is_found() -> None:
    """The measure distinguishes the pattern that once froze the server from one that does not."""
    frozen = re.compile(rb"^\s*Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?),", re.MULTILINE)
    newlines = of(b"\n", tail=b"Duration: x\n")
    assert measure(frozen.search, newlines, 2048) > MOST_GROWTH
    assert measure(look_at, newlines, 2048) < MOST_GROWTH


async def test_of_many_reports_only_the_newest_of_each_kind_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script may fill its report pipe with small lines again and again; parsing each took 0.1 s a pipe."""
    parsed: list[bytes] = []
    monkeypatch.setattr(Run, "_take", lambda _, line: parsed.append(line))
    run = a_run()
    run.take_reports(b'v1\np[1,2,"a"]\nv2\nx\n' * 1000 + b'e["a",')
    assert sorted(parsed) == [b'p[1,2,"a"]', b"v2"]
    run.take_reports(b'"b"]\nv3')  # a line in pieces, and one that is not ended
    assert parsed[2:] == [b'e["a","b"]']

"""The servers that are measured, and the ways to upload to each."""

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks import client
from benchmarks.bench import SUBMISSIONS, Bench
from benchmarks.client import BLOCK_BYTES, FORM_TYPE, OCTETS_TYPE, Exchange, Form, Request, big_file, small_files
from benchmarks.peers import environment
from benchmarks.peers.environment import SERVERS, Missing, installed
from benchmarks.programs import Program

SLOW_CALLS = "fsync,fdatasync,syncfs"
SLOW_S = 0.005
TUS = "/api/v1/uploads"

Kind = Literal["PUT", "form", "tus"]
Work = Literal["one", "four", "eight", "latency", "form", "single"]

LARGE: frozenset[Work] = frozenset({"one", "four", "eight", "latency"})
ONE: frozenset[Work] = frozenset({"one"})
SYNC: frozenset[Work] = frozenset({"one", "eight", "form", "single"})


@dataclass(frozen=True, kw_only=True)
class Served:
    """A server that runs, and the folder below which its files appear; `is_ours`: it runs jobs, and says when."""

    program: Program
    folder: Path
    is_ours: bool = False


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to upload to a server.

    Attributes:
        label: its name in tables.
        server: a key of `STARTS`.
        kind: how a file is sent.
        works: what is measured by it.
        path: where a file is put (a name follows), posted or created.
        field: the name of a form's file.
        before: a field before it.
        page: what is asked for while others upload.
        is_chunked: whether the body is sent in chunks.
        is_tls: whether it is sent by https.
    """

    label: str
    server: str
    kind: Kind
    works: frozenset[Work]
    path: str
    field: str = "file"
    before: tuple[str, str] | None = None
    page: str = "/"
    is_chunked: bool = False
    is_tls: bool = False

    def send(self, bench: Bench, program: Program, size: int) -> Future[Exchange]:
        """Send one file of `size` bytes, a multiple of the block, from a client process."""
        if self.kind == "form":
            form = big_file(size, field=self.field, before=self.before, is_chunked=self.is_chunked)
            return bench.in_client(client.send_form, program.port, self.path, form, is_tls=self.is_tls)
        body = Form(blocks=size // BLOCK_BYTES, is_chunked=self.is_chunked)
        if self.kind == "tus":
            return bench.in_client(client.send_tus, program.port, self.path, body)
        path = f"{self.path}/{time.monotonic_ns()}.bin"
        return bench.in_client(client.send, program.port, "PUT", path, "", body, is_tls=self.is_tls)

    def form_of(self, names: str, contents: list[bytes]) -> Form:
        """One form with files of these contents, under names that begin so."""
        return small_files(contents, names=names, field=self.field, before=self.before)

    def request(self, name: str, content: bytes) -> Request:
        """The request that brings one small file."""
        match self.kind:
            case "PUT":
                return ("PUT", f"{self.path}/{name}.bin", "", Form(head=content))
            case "form":
                return ("POST", self.path, FORM_TYPE, self.form_of(name, [content]))
            case "tus":
                headers = f"Tus-Resumable: 1.0.0\r\nUpload-Length: {len(content)}\r\n{OCTETS_TYPE}"
                return ("POST", self.path, headers, Form(head=content))


# --- servers ---------------------------------------------------------------------------------------------------------


def slow_sync() -> list[str]:
    """The command under which a program's syncs take 5 ms longer.

    `-D` leaves the program the process that was started. The tracer's own CPU is in no figure.

    Raises:
        Missing: strace is not installed.
    """
    inject = f"inject={SLOW_CALLS}:delay_exit={SLOW_S * 1e6:.0f}"
    quiet = ["-D", "-f", "-qqq", "--seccomp-bpf", "-o", "/dev/null"]
    return [installed("strace"), *quiet, "-e", f"trace={SLOW_CALLS}", "-e", inject]


def tree_before(bench: Bench) -> Path:
    """The files of the commit before.

    Raises:
        Missing: it cannot be had here.
    """
    if bench.before is None:
        raise Missing("the commit before is not in this repository")
    return bench.before[1]


def _ours(program: Program) -> Served:
    return Served(program=program, folder=program.folder / "data" / "blobs", is_ours=True)


def _this(bench: Bench) -> Served:
    return _ours(bench.dropmill("nothing"))


def _before(bench: Bench) -> Served:
    return _ours(bench.dropmill("nothing", tree=tree_before(bench)))


def _this_slow(bench: Bench) -> Served:
    return _ours(bench.dropmill("nothing", under=slow_sync()))


def _before_slow(bench: Bench) -> Served:
    return _ours(bench.dropmill("nothing", tree=tree_before(bench), under=slow_sync()))


def _tls_flags(bench: Bench) -> list[str]:
    certificate, key = environment.certificate(bench.folder)
    return ["--certfile", certificate, "--keyfile", key]


def _this_tls(bench: Bench) -> Served:
    return _ours(bench.dropmill("nothing", *_tls_flags(bench)))


def _before_tls(bench: Bench) -> Served:
    return _ours(bench.dropmill("nothing", *_tls_flags(bench), tree=tree_before(bench)))


def _receiver(bench: Bench, *words: str) -> Served:
    program, folder = bench.peer(
        environment.receiver(), lambda folder, port: [str(port), str(folder / "files"), *words]
    )
    return Served(program=program, folder=folder / "files")


def _receiver_fsync(bench: Bench) -> Served:
    return _receiver(bench, "fsync")


def _nginx(bench: Bench, tls: str = "") -> Served:
    def arguments(folder: Path, port: int) -> list[str]:
        text = (SERVERS / "nginx.conf").read_text()
        for name, value in {"$DIR": str(folder), "$PORT": str(port), "$TLS": tls}.items():
            text = text.replace(name, value)
        if os.geteuid() == 0:
            text = "user root;\n" + text  # else its workers could not write to a folder of ours
        (folder / "nginx.conf").write_text(text)
        return ["-p", str(folder), "-c", "nginx.conf"]

    program, folder = bench.peer(installed("nginx"), arguments, has_workers=True)
    return Served(program=program, folder=folder / "files")


def _nginx_tls(bench: Bench) -> Served:
    certificate, key = environment.certificate(bench.folder)
    return _nginx(bench, f"ssl; ssl_certificate {certificate}; ssl_certificate_key {key}")


def _aiohttp(bench: Bench, *words: str) -> Served:
    script = str(SERVERS / "aiohttp_server.py")
    program, folder = bench.peer(
        environment.python(), lambda folder, port: [script, str(port), str(folder / "files"), *words]
    )
    return Served(program=program, folder=folder / "files")


def _aiohttp_tls(bench: Bench) -> Served:
    return _aiohttp(bench, *environment.certificate(bench.folder))


def _starlette(bench: Bench) -> Served:
    program, folder = bench.peer(
        environment.python(),
        lambda folder, port: [
            *("-m", "uvicorn", "--app-dir", str(SERVERS), "--port", str(port), "--log-level", "warning"),
            *("--no-access-log", "starlette_server:app"),
        ],
        FOLDER="$DIR/files",
        TMPDIR="$DIR",  # its temporary files on the same disk
    )
    return Served(program=program, folder=folder / "files")


def _copyparty(bench: Bench) -> Served:
    program, folder = bench.peer(
        environment.python(),
        lambda folder, port: [
            *("-m", "copyparty", "-q", "-i", "127.0.0.1", "-p", str(port), "-v", f"{folder}/files::rw"),
            *("--hist", f"{folder}/hist", "--no-crt"),
        ],
        XDG_CONFIG_HOME="$DIR",
    )
    return Served(program=program, folder=folder / "files")


def _tus_server(bench: Bench) -> Served:
    node, script = environment.node_server()
    program, folder = bench.peer(node, lambda folder, port: [str(script), str(port), str(folder / "files")])
    return Served(program=program, folder=folder / "files")


def _request_files(bench: Bench) -> Served:
    program = bench.program(
        lambda folder: [
            *("-m", "hypercorn", "--workers", "0", "--worker-class", "uvloop", "--bind", "127.0.0.1:0"),
            f'benchmarks.plain_quart:make_app("{folder}")',
        ]
    )
    return Served(program=program, folder=program.folder)


STARTS: Mapping[str, Callable[[Bench], Served]] = {
    "this": _this,
    "before": _before,
    "C": _receiver,
    "C, fsync": _receiver_fsync,
    "nginx": _nginx,
    "aiohttp": _aiohttp,
    "Starlette": _starlette,
    "copyparty": _copyparty,
    "@tus/server": _tus_server,
    "Quart": _request_files,
    "this, https": _this_tls,
    "before, https": _before_tls,
    "nginx, https": _nginx_tls,
    "aiohttp, https": _aiohttp_tls,
    "this, slow syncs": _this_slow,
    "before, slow syncs": _before_slow,
}

# --- ways ------------------------------------------------------------------------------------------------------------

THIS_PUT, THIS_TUS, THIS_FORM = "Dropmill, PUT", "Dropmill, tus", "Dropmill, multipart"
BEFORE_PUT, BEFORE_TUS, BEFORE_FORM = "before, PUT", "before, tus", "before, multipart"
C, C_FSYNC, NGINX = "C receiver", "C receiver with fsync", "nginx, PUT"
AIOHTTP_RAW, AIOHTTP = "aiohttp, raw body", "aiohttp, multipart"
STARLETTE_RAW, STARLETTE = "Starlette stream() on uvicorn", "Starlette form() on uvicorn"
COPYPARTY_PUT, COPYPARTY = "copyparty, PUT", "copyparty, multipart"
TUS_SERVER, FILES = "@tus/server", "Quart request.files"
_ACT = ("act", "bput")
_CONTROLS = "/?h"  # of copyparty, whose / lists every file that came
_FILES: frozenset[Work] = frozenset({*LARGE, "single"})
_FORMS: frozenset[Work] = frozenset({*LARGE, "form"})


def _of_dropmill(name: str, server: str) -> list[Way]:
    """What is measured of one of our trees."""
    slow = f"{name}, each sync {SLOW_S * 1000:.0f} ms slower"
    return [
        Way(label=f"{name}, PUT", server=server, kind="PUT", works=_FILES, path="/send"),
        Way(label=f"{name}, tus", server=server, kind="tus", works=_FILES, path=TUS),
        Way(label=f"{name}, multipart", server=server, kind="form", works=_FORMS, path=SUBMISSIONS),
        *_ordinary(name, server, "/send", SUBMISSIONS),
        Way(label=f"{slow}, PUT", server=f"{server}, slow syncs", kind="PUT", works=SYNC - {"form"}, path="/send"),
        Way(
            label=f"{slow}, multipart",
            server=f"{server}, slow syncs",
            kind="form",
            works=SYNC - {"single"},
            path=SUBMISSIONS,
        ),
    ]


def _ordinary(name: str, server: str, put: str, form: str | None) -> list[Way]:
    """One file by https and in chunks: nothing but the ordinary path of a body."""
    tls = f"{server}, https"
    ways = [
        Way(label=f"{name}, PUT by https", server=tls, kind="PUT", works=ONE, path=put, is_tls=True),
        Way(label=f"{name}, PUT in chunks", server=server, kind="PUT", works=ONE, path=put, is_chunked=True),
    ]
    if form is not None:
        ways += [
            Way(label=f"{name}, multipart by https", server=tls, kind="form", works=ONE, path=form, is_tls=True),
            Way(
                label=f"{name}, multipart in chunks", server=server, kind="form", works=ONE, path=form, is_chunked=True
            ),
        ]
    return ways


WAYS: tuple[Way, ...] = (
    *_of_dropmill("Dropmill", "this"),
    *_of_dropmill("before", "before"),
    Way(label=C, server="C", kind="PUT", works=_FILES, path=""),
    Way(label=C_FSYNC, server="C, fsync", kind="PUT", works=SYNC - {"form"}, path=""),
    Way(label=NGINX, server="nginx", kind="PUT", works=_FILES, path=""),
    *_ordinary("nginx", "nginx", "", None),
    Way(label=AIOHTTP_RAW, server="aiohttp", kind="PUT", works=_FILES, path="/raw"),
    Way(label=AIOHTTP, server="aiohttp", kind="form", works=_FORMS, path="/multipart"),
    *_ordinary("aiohttp", "aiohttp", "/raw", "/multipart"),
    Way(label=STARLETTE_RAW, server="Starlette", kind="PUT", works=_FILES, path="/raw"),
    Way(label=STARLETTE, server="Starlette", kind="form", works=_FORMS, path="/form"),
    Way(label=COPYPARTY_PUT, server="copyparty", kind="PUT", works=_FILES, path="", page=_CONTROLS),
    Way(
        label=COPYPARTY, server="copyparty", kind="form", works=_FORMS, path="/", field="f", before=_ACT, page=_CONTROLS
    ),
    Way(label=TUS_SERVER, server="@tus/server", kind="tus", works=_FILES, path="/files"),
    Way(label=FILES, server="Quart", kind="form", works=_FORMS, path="/files"),
)


# Of the commit before, what is not compared with this tree's in the table of ratios.
BEFORE_BESIDES = frozenset(way.label for way in WAYS if way.server.startswith("before")) - {
    BEFORE_PUT,
    BEFORE_TUS,
    BEFORE_FORM,
}


def start_all(bench: Bench, stack: ExitStack) -> tuple[list[tuple[Way, Served]], list[str]]:
    """Every way whose server runs here, and a sentence for each reason why others do not."""
    served: dict[str, Served] = {}
    left_out = () if bench.scale.is_before_everywhere else BEFORE_BESIDES
    measured = [way for way in WAYS if way.label not in left_out]
    missing: dict[str, list[str]] = {}
    for name in dict.fromkeys(way.server for way in measured):
        try:
            served[name] = STARTS[name](bench)
        except Missing as error:
            missing.setdefault(str(error), []).append(name)
        else:
            stack.enter_context(served[name].program)
    for one in served.values():
        stack.callback(one.program.ask_to_end)  # all at once, before each is waited for
    notes = [f"Left out: {'; '.join(names)} ({reason})." for reason, names in missing.items()]
    return [(way, served[way.server]) for way in measured if way.server in served], notes

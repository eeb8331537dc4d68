"""`dropmill doctor`: what a server with these settings needs, looked at one by one; nothing is changed."""

import asyncio
import os
import secrets
import select
import shutil
import socket
import sqlite3
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dropmill.cli.format import printable, size_text
from dropmill.model.errors import DropmillError
from dropmill.settings import Settings, size_in_words, split_address

NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs")
FREE_INODES_MIN = 10_000  # each file of a submission takes one, each running attempt a few
EXPIRES_SOON_DAYS = 14
DNS_WAIT_S = 2.0  # as long as a look-up may take in the server
PTR_OF_LOOPBACK = b"\x011\x010\x010\x03127\x07in-addr\x04arpa\x00\x00\x0c\x00\x01"

OK, WARN, FAIL = "ok", "warn", "FAIL"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a check says.

    Attributes:
        level: `OK`; `WARN` for what works with a drawback; `FAIL` for what will not work.
        sentence: what was found, and what to do about it.
    """

    level: str
    sentence: str


def ok(sentence: str) -> Finding:
    """It is as it should be."""
    return Finding(level=OK, sentence=sentence)


def warn(sentence: str) -> Finding:
    """It works, with a drawback."""
    return Finding(level=WARN, sentence=sentence)


def fail(sentence: str) -> Finding:
    """It will not work."""
    return Finding(level=FAIL, sentence=sentence)


Findings = Iterator[Finding]
Check = Callable[[Settings], Findings]


def run(flags: Mapping[str, Any], url: str | None) -> None:
    """Print a line for each finding; ends the process with 1 if something will not work.

    Args:
        flags: of the command line, as `Settings.load` takes them.
        url: where a running server should be reached; None looks at this machine only.
    """
    failures = 0

    def tell(subject: str, findings: Findings) -> None:
        nonlocal failures
        try:
            for finding in findings:
                print(f"{finding.level:<5} {subject:<15} {printable(finding.sentence)}", flush=True)
                failures += finding.level == FAIL
        except OSError as error:
            failures += 1
            print(f"{FAIL:<5} {subject:<15} {printable(error)}", flush=True)

    try:
        settings = Settings.load(flags, os.environ)
    except DropmillError as error:
        tell("settings", iter([fail(error.detail)]))
        sys.exit(1)
    for subject, check in CHECKS.items():
        tell(subject, check(settings))
    if url is not None:
        from dropmill.cli.doctor.network import NETWORK_CHECKS, ServerConnection

        try:
            server = ServerConnection(url)
        except ValueError as error:
            tell("network", iter([fail(f"--url {url}: {error}")]))
            sys.exit(1)
        for subject, look in NETWORK_CHECKS.items():
            tell(subject, look(server))
            if not server.is_open:
                break
    sys.exit(1 if failures else 0)


# --- the data folder -------------------------------------------------------------------------------------------------


def check_data_folder(settings: Settings) -> Findings:
    """It can be written, lies on one local file system."""
    data = settings.data.absolute()
    there = _nearest(data)
    if there != data:
        if os.access(there, os.W_OK | os.X_OK):
            yield ok(f"{data} will be made")
        else:
            yield fail(f"{data} is not there and cannot be made: {there} cannot be written")
    elif not data.is_dir():
        yield fail(f"{data} is no folder")
        return
    else:
        probe = data / f".doctor-{secrets.token_hex(8)}"
        try:
            with probe.open("xb") as file:
                file.write(b"written, synced, renamed")
                os.fsync(file.fileno())
            probe = probe.rename(probe.with_suffix(".renamed"))
        except OSError as error:
            yield fail(f"{data} cannot be written ({error.strerror})")
            return
        finally:
            with suppress(OSError):
                probe.unlink()
        device = data.stat().st_dev
        apart = [path.name for path in sorted(data.iterdir()) if path.is_dir() and path.stat().st_dev != device]
        apart = [name for name in apart if name != settings.log_path.absolute().parent.name]
        if apart:
            yield fail(f"{', '.join(apart)} in {data} lie on another file system; files could not be moved at once")
        else:
            yield ok(f"{data} can be written, in one file system")
    kind = _file_system(there)
    if kind in NETWORK_FILE_SYSTEMS:
        yield warn(f"{data} lies on {kind}: a network file system may lose what it said is written; use a local disk")


def check_lock(settings: Settings) -> Findings:
    """Whether a server works on the folder now; the lock itself is not touched."""
    path = settings.data.absolute() / "lock"
    try:
        about = path.stat()
        wanted = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
        is_held = any(wanted in line.split() for line in Path("/proc/locks").read_text().splitlines())
    except OSError:
        is_held = False
    yield ok(
        f"a server is running there, process {path.read_text().strip()}" if is_held else "no server is running there"
    )


def check_disk(settings: Settings) -> Findings:
    """There is room for uploads."""
    there = _nearest(settings.data.absolute())
    free = shutil.disk_usage(there).free
    told = f"{size_text(free)} free, {size_in_words(settings.min_free)} of it kept (--min-free)"
    yield ok(told) if free > settings.min_free else fail(f"{told}: every upload is refused with 507")
    about = os.statvfs(there)
    if about.f_files and about.f_favail < FREE_INODES_MIN:
        yield warn(f"only {about.f_favail} more files can be made in this file system (inodes)")


def check_database(settings: Settings) -> Findings:
    """Its schema is one that this version reads."""
    from dropmill.engines.sql.tables import SCHEMA_HEAD

    path = settings.data.absolute() / "ledger.sqlite"
    if not path.exists():
        yield ok(f"{path.name} will be made, schema {SCHEMA_HEAD}")
        return
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=5)) as connection:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        yield fail(f"{path} cannot be read ({error})")
        return
    schema = str(found[0]) if found else "none"
    if found and schema > SCHEMA_HEAD:
        yield fail(f"schema {schema} is newer than this Dropmill's {SCHEMA_HEAD}; start the newer one")
    elif schema != SCHEMA_HEAD:
        yield ok(f"schema {schema}; the next start brings it to {SCHEMA_HEAD}")
    else:
        yield ok(f"schema {schema}")


def check_log_file(settings: Settings) -> Findings:
    """It can be written to."""
    path = settings.log_path.absolute()
    there = _nearest(path)
    if not os.access(there, os.W_OK) or (there == path and not path.is_file()):
        yield fail(f"{path} cannot be written")
    elif there != path:
        yield ok(f"{path} will be made")
    else:
        yield ok(f"{path}, {size_text(path.stat().st_size)}")


# --- what it works with ----------------------------------------------------------------------------------------------


def check_config(settings: Settings) -> Findings:
    """It can be read, is valid, and holds the newest revision."""
    from dropmill.configfile import file_sync
    from dropmill.configfile.parser import ParserProcess
    from dropmill.configfile.schema.file import SchemaFile
    from dropmill.configfile.yaml.document import Report

    async def check(text: bytes) -> Report:
        parser = ParserProcess(keeps_tags=settings.keeps_config_tags)
        try:
            return await SchemaFile(path, parser).check(text)
        finally:
            await parser.close()

    path = settings.config.absolute()
    try:
        text = file_sync.read(path)
    except OSError as error:
        yield fail(f"{path} cannot be read ({error.strerror})")
        return
    yield from _compare_with_ledger(settings, path, file_sync.sha256_of(text))
    if text is None:
        is_possible = os.access(path.parent, os.W_OK | os.X_OK)
        yield ok(f"{path} will be made") if is_possible else fail(f"{path} is not there and cannot be made")
        return
    try:
        report = asyncio.run(check(text))
    except DropmillError as error:
        yield fail(error.detail)
        return
    for found in report.errors:
        yield fail(f"{path}, line {found.line}: {found.message}")
    for found in report.warnings:
        yield warn(f"{path}, line {found.line}: {found.message}")
    if report.is_valid:
        yield ok(f"{path} is valid")


def _compare_with_ledger(settings: Settings, path: Path, on_disk: str | None) -> Findings:
    """Whether the file holds the newest revision; silent where there is none, or it cannot be asked."""
    ledger = settings.data.absolute() / "ledger.sqlite"
    newest_one = "SELECT number, sha256 FROM config_revisions ORDER BY number DESC LIMIT 1"
    of_host = "SELECT path, revision FROM config_files WHERE host = ? AND data_folder = ?"
    here = settings.config_location
    try:
        with closing(sqlite3.connect(f"file:{quote(str(ledger))}?mode=ro", uri=True, timeout=5)) as connection:
            newest = connection.execute(newest_one).fetchone()
            file = connection.execute(of_host, (here.host, os.fsencode(here.data_folder))).fetchone()
    except sqlite3.Error:
        return  # `check_database` reports it
    if file is not None and os.path.realpath(file[0]) != os.path.realpath(os.fsencode(path)):
        yield warn(f"the server edits {os.fsdecode(file[0])}; a start with --config {path} takes over what that holds")
        return
    if newest is None or newest[1] == on_disk:
        return
    revision = f"revision {newest[1][:12]}, the newest one"
    if file is not None and file[1] != newest[0]:
        yield fail(f"{path} does not hold {revision}: saving it there has failed; the server's log says why")
    elif on_disk is None:
        yield warn(f"{path} is missing; scripts use {revision}, and the next start writes it there")
    else:
        yield warn(f"{path} does not hold {revision}: it was edited; the server takes it over if it is valid")


def check_processor(settings: Settings) -> Findings:
    """It can be imported, or executed."""
    from dropmill.processing.pool import SlotPool
    from dropmill.processing.processor import Processor

    async def start(processor: Processor) -> None:
        pool = SlotPool(processor, 1)
        try:
            await pool.start()
        finally:
            await pool.close()

    try:
        processor = Processor.from_settings(settings, Path.cwd())
        asyncio.run(start(processor))
    except DropmillError as error:
        yield fail(error.detail)
        return
    yield ok(processor.label)


def check_kernel(settings: Settings) -> Findings:
    """What it takes to leave nothing behind of a script."""
    from dropmill.processing.limits import is_delegated
    from dropmill.slot.processes import become_subreaper

    try:
        os.close(os.pidfd_open(os.getpid()))
        become_subreaper()
        yield ok("process descriptors and subreapers: nothing a script starts outlives it")
    except (OSError, AttributeError):
        yield fail("no process descriptors or no subreapers: Linux 5.4 or newer is needed to run a server")
    needs = settings.memory is not None or settings.max_processes is not None
    if is_delegated():
        yield ok("control groups are delegated here: --memory and --max-processes hold for an attempt as a whole")
    elif needs:
        yield warn(
            "no control group is delegated here: --memory limits each process, --max-processes nothing "
            "(systemd: Delegate=yes)"
        )
    else:
        yield ok("no control group is delegated here; only --memory and --max-processes would need one")


def check_dns(settings: Settings) -> Findings:
    """Name servers answer; without them clients have no host name."""
    servers = list(settings.dns_servers) or [f"[{name}]:53" if ":" in name else f"{name}:53" for name in _resolvers()]
    if not servers:
        yield warn("this machine names no name server; clients get no host name")
    for server in servers:
        if _answers(server):
            yield ok(f"{server} answers")
        else:
            yield warn(f"{server} does not answer; clients may get no host name")


def check_certificate(settings: Settings) -> Findings:
    """Certificate and key fit, and the certificate is still good for a while."""
    from dropmill.cli.serve import require_certificate

    if settings.certfile is None or settings.keyfile is None:
        yield ok("http; --certfile and --keyfile are not set")
        return
    try:
        require_certificate(settings)
        until = _good_until(settings.certfile, settings.keyfile)
    except DropmillError as error:
        yield fail(error.detail)
        return
    except ssl.SSLError as error:
        yield fail(f"{settings.certfile} is not accepted: {getattr(error, 'verify_message', '') or error.reason}")
        return
    days = (until - datetime.now(UTC)).days
    told = f"https; {settings.certfile} is good until {until:%Y-%m-%d}, {days} days"
    yield ok(told) if days >= EXPIRES_SOON_DAYS else warn(told)


CHECKS: Mapping[str, Check] = {
    "data folder": check_data_folder,
    "lock": check_lock,
    "disk": check_disk,
    "database": check_database,
    "event log": check_log_file,
    "config": check_config,
    "processor": check_processor,
    "kernel": check_kernel,
    "DNS": check_dns,
    "certificate": check_certificate,
}


# --- looking ---------------------------------------------------------------------------------------------------------


def _nearest(path: Path) -> Path:
    """The path itself if it is there, else the nearest folder above that is."""
    while not path.exists():
        path = path.parent
    return path


def _file_system(path: Path) -> str:
    """The kind of file system a path lies on; empty if this system does not tell."""
    kinds: dict[Path, str] = {}
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, at, kind, *_ = line.split()
            kinds[Path(at.encode().decode("unicode_escape"))] = kind
    resolved = path.resolve()
    return next((kinds[above] for above in (resolved, *resolved.parents) if above in kinds), "")


def _resolvers() -> list[str]:
    try:
        lines = Path("/etc/resolv.conf").read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [words[1] for line in lines if len(words := line.split()) > 1 and words[0] == "nameserver"]


def _answers(server: str) -> bool:
    """Whether a name server says anything at all to a question about 127.0.0.1."""
    number = secrets.token_bytes(2)
    try:
        family, kind, _, _, address = socket.getaddrinfo(*split_address(server), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as asking:
            asking.connect(address)
            asking.send(number + b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + PTR_OF_LOOPBACK)
            while select.select([asking], [], [], DNS_WAIT_S)[0]:
                if asking.recv(512)[:2] == number:
                    return True
    except (OSError, ValueError):
        pass
    return False


def _good_until(certfile: Path, keyfile: Path) -> datetime:
    """When a certificate ends, found by a handshake with ourselves: the standard library reads none by itself.

    Raises:
        ssl.SSLError: it is good for nothing, or not any more.
    """
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certfile, keyfile)
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname = False
    asking.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate vouches for itself
    asking.load_verify_locations(certfile)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(to_client, to_server)
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client, server):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    found = client.getpeercert() or {}
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(found["notAfter"])), UTC)

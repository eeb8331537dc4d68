"""What `dropmill doctor` checks on this machine: whatever a server with these settings needs. Changes nothing."""

import asyncio
import os
import secrets
import select
import shutil
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from dropmill.cli.doctor.findings import Findings, fail, ok, warn
from dropmill.cli.format import size_text
from dropmill.model.errors import DropmillError, SettingsError
from dropmill.settings import Settings, size_in_words, split_address

NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs")
FREE_INODES_MIN = 10_000  # each file of a submission needs one, each running attempt a few
EXPIRES_SOON_DAYS = 14
DNS_WAIT_S = 2.0  # the server's own limit for a look-up
PTR_OF_LOOPBACK = b"\x011\x010\x010\x03127\x07in-addr\x04arpa\x00\x00\x0c\x00\x01"

Check = Callable[[Settings], Findings]


# --- the data folder -------------------------------------------------------------------------------------------------


def check_data_folder(settings: Settings) -> Findings:
    """The data folder can be written and is on one local file system."""
    data = settings.data.absolute()
    there = _nearest(data)
    if there != data:
        if os.access(there, os.W_OK | os.X_OK):
            yield ok(f"{data} will be created")
        else:
            yield fail(f"{data} does not exist and cannot be created: {there} cannot be written")
    elif not data.is_dir():
        yield fail(f"{data} is not a folder")
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
            yield fail(f"{', '.join(apart)} in {data} are on another file system; files could not be moved at once")
        else:
            yield ok(f"{data} can be written, in one file system")
    kind = _file_system(there)
    if kind in NETWORK_FILE_SYSTEMS:
        yield warn(
            f"{data} is on {kind}: a network file system may lose data that it reported as written; use a local disk"
        )


def check_lock(settings: Settings) -> Findings:
    """Whether a server uses the folder now. The lock itself is not touched."""
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
    """The disk has room for uploads."""
    there = _nearest(settings.data.absolute())
    free = shutil.disk_usage(there).free
    said = f"{size_text(free)} free, {size_in_words(settings.min_free)} of it reserved (--min-free)"
    yield ok(said) if free > settings.min_free else fail(f"{said}: the server refuses every upload with 507")
    about = os.statvfs(there)
    if about.f_files and about.f_favail < FREE_INODES_MIN:
        yield warn(f"only {about.f_favail} more files can be created in this file system (inodes)")


def check_database(settings: Settings) -> Findings:
    """This version can read the database's schema, or migrate it."""
    from dropmill.app import examine_ledger

    try:
        found = examine_ledger(settings)
    except OSError as error:
        where = settings.data.absolute() / "ledger.sqlite" if settings.database_url is None else "the Postgres database"
        yield fail(f"{where} cannot be read ({error})")
        return
    except SettingsError as error:
        yield fail(error.detail)
        return
    if found is not None and found.server is not None:
        yield ok(found.server)
    if found is None:
        yield ok("the tables will be created" if settings.database_url else "the database will be created")
    elif found.schema is not None and found.schema > found.readable_schema:
        yield fail(f"schema {found.schema} is newer than this Dropmill's {found.readable_schema}; start the newer one")
    elif found.schema != found.readable_schema:
        yield ok(f"schema {found.schema or 'none'}; the next start migrates it to {found.readable_schema}")
    else:
        yield ok(f"schema {found.schema}")


def check_log_file(settings: Settings) -> Findings:
    """The event log can be written."""
    path = settings.log_path.absolute()
    there = _nearest(path)
    if not os.access(there, os.W_OK) or (there == path and not path.is_file()):
        yield fail(f"{path} cannot be written")
    elif there != path:
        yield ok(f"{path} will be created")
    else:
        yield ok(f"{path}, {size_text(path.stat().st_size)}")


# --- what it works with ----------------------------------------------------------------------------------------------


def check_config(settings: Settings) -> Findings:
    """The config can be read, is valid, and holds the newest revision."""
    from dropmill.configfile import file_sync
    from dropmill.configfile.parser import ParserProcess
    from dropmill.configfile.schema.file import SchemaFile
    from dropmill.configfile.yaml.findings import Report

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
        yield ok(f"{path} will be created") if is_possible else fail(f"{path} does not exist and cannot be created")
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
    """Whether the file holds the newest revision; no finding where there is none, or the ledger cannot be read."""
    from dropmill.app import examine_ledger

    try:
        found = examine_ledger(settings)
    except (OSError, SettingsError):
        return  # `check_database` reports it
    if found is None:
        return
    if found.config_path is not None and os.path.realpath(found.config_path) != os.path.realpath(path):
        yield warn(
            f"the server edits {found.config_path}; a start with --config {path} makes its content the newest revision"
        )
        return
    if found.newest_sha256 is None or found.newest_sha256 == on_disk:
        return
    revision = f"revision {found.newest_sha256[:12]}, the newest one"
    if found.config_path is not None and not found.is_in_file:
        yield fail(f"{path} does not hold {revision}: saving it there has failed; the server's log says why")
    elif on_disk is None:
        yield warn(f"{path} is missing; scripts use {revision}, and the next start writes it there")
    else:
        yield warn(f"{path} does not hold {revision}: it was edited; the server takes it over if it is valid")


def check_processor(settings: Settings) -> Findings:
    """The processor can be imported, or executed."""
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
    """The kernel has what the server needs to end everything that a script started."""
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
    """Name servers answer; without them the server knows no host names of clients."""
    servers = list(settings.dns_servers) or [f"[{name}]:53" if ":" in name else f"{name}:53" for name in _resolvers()]
    if not servers:
        yield warn("this machine names no name server; the server will not know the host names of clients")
    for server in servers:
        if _answers(server):
            yield ok(f"{server} answers")
        else:
            yield warn(f"{server} does not answer; the server may not know the host names of clients")


def check_certificate(settings: Settings) -> Findings:
    """Certificate and key belong together, and the certificate does not expire soon."""
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
    said = f"https; {settings.certfile} is valid until {until:%Y-%m-%d}, {days} days"
    yield ok(said) if days >= EXPIRES_SOON_DAYS else warn(said)


def check_provider(settings: Settings) -> Findings:
    """The identity provider says what it is, and this server can use what it says."""
    if settings.oidc_issuer is None:
        yield ok("no identity provider; --oidc-issuer is not set")
        return
    from httpx import HTTPError
    from joserfc.errors import JoseError

    from dropmill.access.oidc import CALLBACK, read_provider

    try:
        found = asyncio.run(read_provider(settings.oidc_issuer))
    except (OSError, HTTPError, ValueError, JoseError) as error:
        yield fail(f"{settings.oidc_issuer} cannot be used: {error or type(error).__name__}")
        return
    yield ok(
        f"{settings.oidc_issuer} answers, keys: {len(found.keys)}; it must know the redirect URI "
        f"{settings.public_url}{CALLBACK}"
    )
    if not found.has_algorithm:
        yield fail("it names no signature that the server accepts: RSA, ECDSA or Ed25519 with a public key")
    if found.has_pkce is False:
        yield warn("it does not name S256 among its ways of PKCE, which the server always uses")


HOST_CHECKS: Mapping[str, Check] = {
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
    "provider": check_provider,
}


# --- how they find out -----------------------------------------------------------------------------------------------


def _nearest(path: Path) -> Path:
    """The path itself if it exists, else the nearest folder above that does."""
    while not path.exists():
        path = path.parent
    return path


def _file_system(path: Path) -> str:
    """The kind of file system that holds a path; "" if this system does not say."""
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
    """Whether a name server answers a question about 127.0.0.1, with whatever."""
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
    """When a certificate expires, found by a handshake in memory: the standard library has no reader of certificates.

    Raises:
        ssl.SSLError: it is not valid, or expired.
    """
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certfile, keyfile)
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname = False
    asking.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate is its own authority
    asking.load_verify_locations(certfile)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = asking.wrap_bio(to_client, to_server)
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client, server):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    found = client.getpeercert() or {}
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(found["notAfter"])), UTC)

"""Every setting, as one frozen dataclass made from flags and the environment.

A flag beats its environment variable `DROPMILL_<FLAG>`, which beats the default. Each field carries its own
documentation; `dropmill serve --help` and `docs/settings.md` are held to it by a test.
"""

import ipaddress
import os
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from dropmill.model.config import ConfigLocation
from dropmill.model.errors import SettingsError
from dropmill.shellwords import split_words

ENVIRONMENT_PREFIX = "DROPMILL_"

CLIENT_VARIABLES = ("DROPMILL_SERVER", "DROPMILL_TOKEN")
"""What `dropmill send` and `dropmill watch` read; no settings of a server, but its user may be the same."""


def _text(value: str) -> str:
    if not value:
        raise ValueError("is empty")
    return value


def _path(value: str) -> Path:
    return Path(_text(value)).expanduser()


def _int(value: str) -> int:
    if re.fullmatch(r"[-+]?[0-9]{1,18}", value.strip()) is None:
        raise ValueError("must be a whole number")
    return int(value)


def _float(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError("must be a number") from None


def _positive_int(value: str) -> int:
    number = _int(value)
    if number < 1:
        raise ValueError("must be at least 1")
    return number


def _seconds(value: str) -> float:
    number = _float(value)
    if not 0 < number < float("inf"):
        raise ValueError("must be a number of seconds above 0")
    return number


def _grace(value: str) -> float:
    number = _float(value)
    if not 0 <= number < float("inf"):
        raise ValueError("must be a number of seconds, 0 or more")
    return number


AGE_MAX_S = 1000 * 365 * 86400  # what still can be taken from today's date

_SIZE_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_AGE_UNITS = {"": 1, "S": 1, "M": 60, "H": 3600, "D": 86400, "W": 7 * 86400}


def _quantity(value: str, units: Mapping[str, int]) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", value.strip())
    if found is None or found[2].upper() not in units:
        raise KeyError(value)
    return float(found[1]) * units[found[2].upper()]


def _size(value: str) -> int:
    """Bytes: `1048576`, `64MiB`, `1.5GB`."""
    try:
        return int(_quantity(value, _SIZE_UNITS))
    except (KeyError, OverflowError):
        raise ValueError("must be a size such as 512MiB or 2GB") from None


def _age(value: str) -> float:
    """Seconds: `90`, `15m`, `12h`, `30d`."""
    try:
        seconds = _quantity(value, _AGE_UNITS)
    except KeyError:
        raise ValueError("must be a time such as 90s, 12h or 30d") from None
    if not 0 < seconds <= AGE_MAX_S:
        raise ValueError("must be a time above 0, and of at most 1,000 years")
    return seconds


def _auth(value: str) -> str:
    if value not in ("auto", "off", "required"):
        raise ValueError("must be auto, off or required")
    return value


def _positive_size(value: str) -> int:
    size = _size(value)
    if not 0 < size < 1 << 62:  # what the kernel takes as a limit
        raise ValueError("must be a size above 0")
    return size


def size_in_words(size: int) -> str:
    """A number of bytes as people write it, such as `512 MiB`; never rounded."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        factor = _SIZE_UNITS[unit.upper()]
        if size >= factor and size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} B"


def _switch(value: str) -> bool:
    if value.lower() not in ("1", "0", "true", "false", "yes", "no", "on", "off"):
        raise ValueError("must be on or off")
    return value.lower() in ("1", "true", "yes", "on")


def _progress(value: str) -> str:
    if value not in ("auto", "off"):
        raise ValueError("must be auto or off")
    return value


def _env(value: str) -> str:
    if value not in ("all", "clean"):
        raise ValueError("must be all or clean")
    return value


def _variable(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise ValueError("must be the name of an environment variable")
    if value.startswith(ENVIRONMENT_PREFIX):
        raise ValueError("is the server's own")
    return value


def _config_tags(value: str) -> str:
    if value not in ("refuse", "keep"):
        raise ValueError("must be refuse or keep")
    return value


def _exit_codes(value: str) -> tuple[int, ...]:
    codes = tuple(_int(part) for part in value.split(",") if part.strip())
    if not codes or not all(-64 <= code <= 255 and code != 0 for code in codes):
        raise ValueError("must be exit codes from 1 to 255 between commas, or signals as -1 to -64")
    return codes


def _http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be a whole address, such as https://example.com/dropmill")
    return value


@dataclass(frozen=True, kw_only=True)
class PublicUrl:
    """The URL under which people reach the server, usually that of a proxy.

    Attributes:
        scheme: `http` or `https`.
        host: lower case, without brackets.
        port: None for the scheme's default port.
        path: the sub-path, such as `/drop`, without a slash at its end; "" at the root.
    """

    scheme: str
    host: str
    port: int | None
    path: str

    @property
    def origin(self) -> str:
        """What browsers send as `Origin` from its pages (RFC 6454, section 6.1)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" if self.port is None else f"{self.scheme}://{host}:{self.port}"

    def __str__(self) -> str:
        """The URL without a slash at its end; the server's own paths are appended to it."""
        return self.origin + self.path


def _public_url(value: str) -> PublicUrl:
    parts = urlsplit(_http_url(value))
    if parts.username is not None or parts.query or parts.fragment or value.endswith(("?", "#")):
        raise ValueError("must be scheme, host and path only, such as https://example.com/dropmill")
    path = parts.path.rstrip("/")
    if not re.fullmatch(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)*", path):
        raise ValueError("its path may have letters, digits and . _ ~ - between single slashes")
    default = {"http": 80, "https": 443}[parts.scheme]
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = ipaddress.IPv6Address(host).compressed
    return PublicUrl(scheme=parts.scheme, host=host, port=None if parts.port == default else parts.port, path=path)


Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def _network(value: str) -> Network:
    try:
        network = ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f"must be an address or a network such as 10.0.0.0/8 ({error})") from None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        # Clients over IPv4 are known by their IPv4 address, also on an IPv6 socket.
        mapped = network.network_address.ipv4_mapped
        assert mapped is not None  # noqa: S101  # what `_MAPPED` says
        return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED.prefixlen))
    return network


def split_address(value: str) -> tuple[str, int]:
    """`HOST:PORT` (IPv6 in brackets) as a pair.

    Raises:
        ValueError: it has no such form.
    """
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be HOST:PORT, for example 127.0.0.1:8000 or [::1]:8000")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" in bare and bare == host:
        raise ValueError("an IPv6 address stands in brackets, for example [::1]:8000")
    return bare, int(port)


def _address(value: str) -> str:
    split_address(value)
    return value


def _command(value: str) -> tuple[str, ...]:
    words = split_words(value)
    if not words:
        raise ValueError("is empty")
    return words


def _setting(
    flag: str | None,
    parse: Callable[[str], Any],
    default: Any,
    doc: str,
    *,
    metavar: str,
    many: bool = False,
    is_secret: bool = False,
) -> Any:
    metadata = {"flag": flag, "parse": parse, "doc": doc, "metavar": metavar, "many": many, "is_secret": is_secret}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata, repr=not is_secret)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the person who starts the server decided. Never editable from the browser."""

    bind: tuple[str, ...] = _setting(
        "--bind",
        _address,
        ("127.0.0.1:8000",),
        "Address to listen on; may be given several times.",
        metavar="HOST:PORT",
        many=True,
    )
    data: Path = _setting(
        "--data",
        _path,
        Path("data"),
        "Folder for files, output, database and log; made if missing. One server each.",
        metavar="DIR",
    )
    config: Path = _setting(
        "--config",
        _path,
        Path("config.yaml"),
        "The script's YAML config, edited in the browser; made from the packaged one if missing.",
        metavar="FILE",
    )
    config_tags: str = _setting(
        "--config-tags",
        _config_tags,
        "refuse",
        "Application tags in the config, such as !secret: refuse them, or keep them in the text and give scripts "
        "what they stand beside as plain text, list or mapping. Nothing is ever constructed.",
        metavar="refuse|keep",
    )
    processor: str | None = _setting(
        "--processor",
        _text,
        None,
        "Python callable to run on each file, importable from the working directory. "
        "Without it and --command: a built-in one that prints name, size and path.",
        metavar="MODULE:FUNCTION",
    )
    command: tuple[str, ...] | None = _setting(
        "--command",
        _command,
        None,
        "Executable to run on each file, split as a shell splits words, no shell run; "
        "{path} {config} {results} {work} {job_id} are replaced.",
        metavar="'ARGV'",
    )
    concurrency: int = _setting(
        "--concurrency",
        _positive_int,
        lambda: os.cpu_count() or 1,
        "Attempts that run at once. Default: CPU cores.",
        metavar="N",
    )
    timeout: float | None = _setting(
        "--timeout", _seconds, None, "Seconds an attempt may take before it is ended; none by default.", metavar="S"
    )
    grace: float = _setting(
        "--grace",
        _grace,
        5.0,
        "Seconds between asking a script to end and killing it, at a timeout, a cancel, and when the server stops.",
        metavar="S",
    )
    max_attempts: int = _setting(
        "--max-attempts",
        _positive_int,
        5,
        "Attempts of a job that may be lost (the slot or the server died under them) before it fails.",
        metavar="N",
    )
    retry_exit_codes: tuple[int, ...] = _setting(
        "--retry-exit-codes",
        _exit_codes,
        (),
        "Exit codes after which a file is tried again by itself, such as 75,111; -9 stands for a signal. None by "
        "default.",
        metavar="N,...",
    )
    retry_times: int = _setting(
        "--retry-times",
        _positive_int,
        3,
        "How often a file is tried again by itself after one of --retry-exit-codes.",
        metavar="N",
    )
    retry_delay: float = _setting(
        "--retry-delay",
        _seconds,
        10.0,
        "Seconds before the first of these, doubled for each further one, up to an hour.",
        metavar="S",
    )
    memory: int | None = _setting(
        "--memory",
        _positive_size,
        None,
        "Memory an attempt may use, such as 2GiB; none by default. By a control group where one is delegated to the "
        "server, otherwise by the address space of each process.",
        metavar="SIZE",
    )
    cpu_time: int | None = _setting(
        "--cpu-time",
        _positive_int,
        None,
        "Whole seconds of CPU that each process of an attempt may use; none by default.",
        metavar="S",
    )
    max_write: int | None = _setting(
        "--max-write",
        _positive_size,
        None,
        "Size of the largest file that a script may write; none by default.",
        metavar="SIZE",
    )
    max_processes: int | None = _setting(
        "--max-processes",
        _positive_int,
        None,
        "Processes and threads an attempt may have at once; none by default. Only where a control group is delegated "
        "to the server.",
        metavar="N",
    )
    reload: bool = _setting(
        "--reload",
        _switch,
        False,
        "Import the callable anew when a file of the modules it came with has changed.",
        metavar="",
    )
    fresh_process: bool = _setting(
        "--fresh-process",
        _switch,
        False,
        "Run the callable in a new interpreter for each file: slower, for modules that must not be forked.",
        metavar="",
    )
    copy_input: bool = _setting(
        "--copy-input",
        _switch,
        False,
        "Give each attempt a copy of the file in its work folder, which it may change.",
        metavar="",
    )
    env: str = _setting(
        "--env",
        _env,
        "all",
        "all: scripts get the server's environment, without its own variables and secrets. clean: of it only PATH, "
        "HOME, LANG, LC_*, TZ, TMPDIR and what --pass-env names.",
        metavar="all|clean",
    )
    pass_env: tuple[str, ...] = _setting(
        "--pass-env",
        _variable,
        (),
        "Environment variable that scripts get although they would not; may be given several times.",
        metavar="NAME",
        many=True,
    )
    progress: str = _setting(
        "--progress",
        _progress,
        "auto",
        "auto: read progress such as 45% or 3/10 from what a script writes. off: only what it reports on purpose.",
        metavar="auto|off",
    )
    max_results: int = _setting(
        "--max-results",
        _positive_int,
        10_000,
        "Most result files of one attempt; one that leaves more fails, and none of them is kept.",
        metavar="N",
    )
    max_results_size: int = _setting(
        "--max-results-size",
        _size,
        10 * 2**30,
        "Most bytes of one attempt's results together, holes counted; one that leaves more fails, and none of them is "
        "kept. Default: 10GiB.",
        metavar="SIZE",
    )
    idle_timeout: float = _setting(
        "--idle-timeout",
        _seconds,
        30.0,
        "Seconds without a byte after which a request's body is given up.",
        metavar="S",
    )
    write_timeout: float = _setting(
        "--write-timeout",
        _seconds,
        60.0,
        "Seconds after which a client that reads nothing of what is sent to it is disconnected.",
        metavar="S",
    )
    max_connections: int = _setting(
        "--max-connections",
        _positive_int,
        5000,
        "Maximum number of connections at once, WebSockets not counted.",
        metavar="N",
    )
    max_connections_per_client: int = _setting(
        "--max-connections-per-client",
        _positive_int,
        1000,
        "Maximum number of connections of one address at once.",
        metavar="N",
    )
    max_sockets: int = _setting(
        "--max-sockets", _positive_int, 5000, "Maximum number of WebSockets at once.", metavar="N"
    )
    max_sockets_per_client: int = _setting(
        "--max-sockets-per-client",
        _positive_int,
        1000,
        "Maximum number of WebSockets of one address at once.",
        metavar="N",
    )
    reserved_descriptors: int | None = _setting(
        "--reserved-descriptors",
        _positive_int,
        None,
        "Number of file descriptors that connections leave free for database, log and scripts. A quarter of the "
        "system's limit by default, at most 2048.",
        metavar="N",
    )
    join_rate: int = _setting(
        "--join-rate",
        _positive_int,
        2000,
        "Events per second that the joins of one address may bring, averaged over 10 seconds; further joins wait.",
        metavar="N",
    )
    seal_after: float = _setting(
        "--seal-after",
        _age,
        86400.0,
        "Time after which a submission that was opened for files to come, and got none, is sealed. Default: 24h.",
        metavar="AGE",
    )
    upload_expiry: float = _setting(
        "--upload-expiry",
        _age,
        86400.0,
        "Time without a byte after which an unfinished resumable upload is removed. Default: 24h.",
        metavar="AGE",
    )
    max_file_size: int | None = _setting(
        "--max-file-size", _size, None, "Largest file accepted, such as 20GiB; no limit by default.", metavar="SIZE"
    )
    max_submission_size: int | None = _setting(
        "--max-submission-size",
        _size,
        None,
        "Most bytes of one submission's files together; no limit by default.",
        metavar="SIZE",
    )
    max_files: int | None = _setting(
        "--max-files", _positive_int, None, "Most files of one submission; no limit by default.", metavar="N"
    )
    min_free: int = _setting(
        "--min-free",
        _size,
        2**30,
        "Disk space that uploads leave free; below it they are refused with 507. Default: 1GiB.",
        metavar="SIZE",
    )
    max_uploads_per_client: int | None = _setting(
        "--max-uploads-per-client",
        _positive_int,
        None,
        "Most requests with files that one address may have under way; no limit by default.",
        metavar="N",
    )
    min_rate: int = _setting(
        "--min-rate",
        _size,
        0,
        "Least bytes a second a body must bring, measured over the idle timeout; 0, the default, asks for none.",
        metavar="SIZE",
    )
    keep: float | None = _setting(
        "--keep",
        _age,
        None,
        "Time after which a settled submission's files, results and output are removed, such as 30d; its history "
        "stays. For ever by default.",
        metavar="AGE",
    )
    keep_size: int | None = _setting(
        "--keep-size",
        _size,
        None,
        "Most bytes of files, results and output; beyond it those of the oldest settled submissions are removed. No "
        "limit by default.",
        metavar="SIZE",
    )
    keep_events: float | None = _setting(
        "--keep-events",
        _age,
        None,
        "Time after which events are removed, once they stand in the event log. For ever by default.",
        metavar="AGE",
    )
    keep_revisions: int = _setting(
        "--keep-revisions",
        _positive_int,
        1000,
        "Config revisions whose text is kept, besides those that files still wait for; of older ones the record stays.",
        metavar="N",
    )
    on_settled: str | None = _setting(
        "--on-settled",
        _http_url,
        None,
        "Address that is called (POST) each time a submission settles, until it answers with 2xx, for 24 hours.",
        metavar="URL",
    )
    webhook_secret: str | None = _setting(
        None,
        _text,
        None,
        "Signs the calls of --on-settled. Only as a variable, or better in a file that DROPMILL_WEBHOOK_SECRET_FILE "
        "names: a command line can be read by others.",
        metavar="SECRET",
        is_secret=True,
    )
    auth: str = _setting(
        "--auth",
        _auth,
        "auto",
        "auto: open on loopback, refuse to start elsewhere. off: open to everyone who can reach the address. "
        "required: sign-in (not available yet).",
        metavar="auto|off|required",
    )
    allowed_host: tuple[str, ...] = _setting(
        "--allowed-host",
        _text,
        (),
        "Further host name this server answers for; may be given several times.",
        metavar="HOST",
        many=True,
    )
    allowed_origin: tuple[str, ...] = _setting(
        "--allowed-origin",
        _text,
        (),
        "Further origin whose pages may call this server, such as https://a.example; may be given several times.",
        metavar="ORIGIN",
        many=True,
    )
    public_url: PublicUrl | None = _setting(
        "--public-url",
        _public_url,
        None,
        "URL under which people reach the server through a proxy, such as https://example.com/drop; its path may be a "
        "sub-path.",
        metavar="URL",
    )
    trusted_proxy: tuple[Network, ...] = _setting(
        "--trusted-proxy",
        _network,
        (),
        "Address or network of a proxy whose X-Forwarded-For, -Proto and -Host are believed; may be given several "
        "times.",
        metavar="CIDR",
        many=True,
    )
    certfile: Path | None = _setting(
        "--certfile",
        _path,
        None,
        "Certificate chain in PEM form: serve https instead of http, with --keyfile.",
        metavar="FILE",
    )
    keyfile: Path | None = _setting(
        "--keyfile", _path, None, "The certificate's private key in PEM form, without a passphrase.", metavar="FILE"
    )
    log_file: Path | None = _setting(
        "--log-file", _path, None, "The event log. Default: log/dropmill.jsonl in the data folder.", metavar="FILE"
    )
    dns_servers: tuple[str, ...] = _setting(
        "--dns-servers",
        _address,
        (),
        "Name servers to ask for client host names instead of the machine's; the hosts file is then not read.",
        metavar="HOST:PORT",
        many=True,
    )

    @property
    def log_path(self) -> Path:
        """Where the event log is written."""
        return self.log_file or self.data / "log" / "dropmill.jsonl"

    @property
    def secrets(self) -> frozenset[str]:
        """The secrets in these settings, and the addresses that hold one."""
        found = {getattr(self, name) for name in SECRET_FILES}
        if self.on_settled is not None and (password := urlsplit(self.on_settled).password):
            found |= {self.on_settled, password, unquote(password)}
        return frozenset(found - {None})

    @property
    def keeps_config_tags(self) -> bool:
        """Whether application tags in the config are accepted."""
        return self.config_tags == "keep"

    @property
    def config_location(self) -> ConfigLocation:
        """The config file that a server with these settings edits, started in this folder. Reads the disk."""
        return ConfigLocation(
            host=this_host(), path=str(self.config.absolute()), data_folder=os.path.realpath(self.data)
        )

    @property
    def config_aside(self) -> Path:
        """Where the config file's old bytes are kept while it is written in place."""
        return self.data.absolute() / "config-aside"

    @property
    def is_https(self) -> bool:
        """Whether `dropmill serve` speaks TLS itself."""
        return self.certfile is not None

    @property
    def base_path(self) -> str:
        """What every path of the server begins with for clients: the sub-path of `public_url`; "" at the root."""
        return "" if self.public_url is None else self.public_url.path

    @property
    def is_loopback_only(self) -> bool:
        """Whether every address listened on can be reached from this machine alone."""
        return all(_is_loopback(split_address(address)[0]) for address in self.bind)

    @classmethod
    def load(cls, flags: Mapping[str, Any], environment: Mapping[str, str]) -> "Settings":
        """Settings from flags as the command line gave them (None: not given) and the environment.

        Raises:
            SettingsError: a setting is unknown or unusable; the sentence names it.
        """
        known = {environment_name(f.name) for f in fields(cls)} | {*SECRET_FILES.values(), *CLIENT_VARIABLES}
        for name in environment:
            if name.startswith(ENVIRONMENT_PREFIX) and name not in known:
                raise SettingsError(f"{name} is set, but there is no such setting; docs/settings.md lists them all.")
        values: dict[str, Any] = {}
        for f in fields(cls):
            given = flags.get(f.name)
            if given is not None and given != ():
                values[f.name] = _parse(given, f.metadata, f.metadata["flag"])
            elif environment.get(SECRET_FILES.get(f.name, ""), "") != "":
                values[f.name] = _secret_in_file(f.name, environment)
            elif environment.get(environment_name(f.name), "") != "":
                variable = environment_name(f.name)
                raw: Any = environment[variable]
                raw = [part.strip() for part in raw.split(",") if part.strip()] if f.metadata["many"] else raw
                values[f.name] = _parse(raw, f.metadata, variable)
        settings = cls(**values)
        if settings.processor is not None and settings.command is not None:
            raise SettingsError("--processor and --command are both set; a server runs one of them.")
        if (settings.certfile is None) != (settings.keyfile is None):
            raise SettingsError("--certfile and --keyfile go together; only one of them is set.")
        return settings


def this_host() -> str:
    """The name of this machine."""
    return platform.node() or "localhost"


def environment_name(name: str) -> str:
    """The environment variable of a setting."""
    return ENVIRONMENT_PREFIX + name.upper()


SECRET_FILES = {f.name: f"{environment_name(f.name)}_FILE" for f in fields(Settings) if f.metadata["is_secret"]}
"""Settings that are secrets; each with the variable that names a file to read it from."""

SECRET_BYTES = 64 * 1024  # of such a file; larger ones are something else


def secrets_in(environment: Mapping[str, str]) -> list[str]:
    """The variables of an environment that hold a secret themselves instead of naming a file."""
    return [environment_name(name) for name in SECRET_FILES if environment.get(environment_name(name))]


def _secret_in_file(name: str, environment: Mapping[str, str]) -> str:
    """A secret as its file has it, without the line end behind it. Reads the disk."""
    variable, path = SECRET_FILES[name], environment[SECRET_FILES[name]]
    if environment.get(environment_name(name)):
        raise SettingsError(f"{variable} and {environment_name(name)} are both set; a secret comes from one of them.")
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(SECRET_BYTES + 1)
        secret = data.decode()
    except OSError as error:
        raise SettingsError(f"{variable} {path!r}: the file cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{variable} {path!r}: the file must hold UTF-8 text.") from None
    secret = secret.removesuffix("\n").removesuffix("\r")
    if not secret or len(data) > SECRET_BYTES:
        raise SettingsError(f"{variable} {path!r}: the file must hold 1 to {SECRET_BYTES} bytes.")
    return secret


def _parse(given: Any, metadata: Mapping[str, Any], source: str) -> Any:
    if metadata["many"]:
        return tuple(_parse_one(one, metadata["parse"], source) for one in given)
    return _parse_one(given, metadata["parse"], source)


def _parse_one(value: Any, parse: Callable[[str], Any], source: str) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise SettingsError(f"{source} {value!r}: {error}.") from None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

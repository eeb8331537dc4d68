"""How the text of a flag or variable becomes a setting's value.

Each parser takes the text and returns the value. It raises `ValueError` for text that it cannot use; the message
continues the sentence that names the setting and quotes the text, as in `--concurrency 'two': must be a whole number`.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from dropmill.model.caller import Role
from dropmill.model.hosts import is_loopback
from dropmill.shellwords import split_words

ENVIRONMENT_PREFIX: Final = "DROPMILL_"

AGE_MAX_S: Final = 1000 * 365 * 86400  # still a valid date when subtracted from today's

LINE_MAX: Final = 300  # characters of a text that a page shows

# An extension with its dot, or a media type of RFC 6838, or all types of a family.
_FILE_TYPE = re.compile(r"\.[^\s/*]{1,50}|[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/(\*|[a-z0-9][a-z0-9!#$&^_.+-]{0,126})")

_SIZE_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_AGE_UNITS = {"": 1, "S": 1, "M": 60, "H": 3600, "D": 86400, "W": 7 * 86400}

_RATE_UNITS = {"s": 1, "m": 60, "h": 3600}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def text(value: str) -> str:
    """Any text but the empty one."""
    if not value:
        raise ValueError("is empty")
    return value


def database_url(value: str) -> str:
    """A URL that names a Postgres database, as libpq reads it."""
    try:
        scheme = urlsplit(value).scheme
    except ValueError:
        scheme = ""
    if scheme not in ("postgresql", "postgres") or "://" not in value or not value.isprintable():
        raise ValueError("must be a URL such as postgresql://USER:PASSWORD@HOST/DATABASE")
    return value


def line(value: str) -> str:
    """One line of text for people."""
    if not value.strip() or len(value) > LINE_MAX or not value.isprintable():
        raise ValueError(f"must be one line of 1 to {LINE_MAX} printable characters")
    return value.strip()


def file_types(value: str) -> tuple[str, ...]:
    """Extensions and media types between commas, as in HTML's `accept`: `.csv`, `image/*`; in lower case."""
    entries = tuple(dict.fromkeys(part.strip().lower() for part in value.split(",") if part.strip()))
    if not entries or not all(map(_FILE_TYPE.fullmatch, entries)):
        raise ValueError("must be extensions or media types between commas, such as .csv,image/*,application/pdf")
    return entries


def path(value: str) -> Path:
    """A path; `~` is the home folder."""
    return Path(text(value)).expanduser()


def one_of(*choices: str) -> Callable[[str], str]:
    """A parser that accepts these words alone."""

    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"must be {', '.join(choices[:-1])} or {choices[-1]}")
        return value

    return parse


def switch(value: str) -> bool:
    """`on` or `off`, in any of the usual spellings."""
    if value.lower() not in ("1", "0", "true", "false", "yes", "no", "on", "off"):
        raise ValueError("must be on or off")
    return value.lower() in ("1", "true", "yes", "on")


# --- numbers ---------------------------------------------------------------------------------------------------------


def _whole_number(value: str) -> int:
    if re.fullmatch(r"[-+]?[0-9]{1,18}", value.strip()) is None:
        raise ValueError("must be a whole number")
    return int(value)


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError("must be a number") from None


def count(value: str) -> int:
    """A whole number from 1 on."""
    number = _whole_number(value)
    if number < 1:
        raise ValueError("must be at least 1")
    return number


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """So many times in so many seconds."""

    times: int
    seconds: int


def rate(value: str) -> Rate:
    """A number of times per second, minute or hour: `5/s`, `600/m`, `10000/h`."""
    times, slash, unit = value.partition("/")
    if not slash or unit.strip().lower() not in _RATE_UNITS:
        raise ValueError("must be a number per second, minute or hour, such as 10/s, 600/m or 10000/h")
    return Rate(times=count(times), seconds=_RATE_UNITS[unit.strip().lower()])


def seconds(value: str) -> float:
    """Seconds above 0; a fraction is allowed."""
    number = _number(value)
    if not 0 < number < float("inf"):
        raise ValueError("must be a number of seconds above 0")
    return number


def seconds_or_zero(value: str) -> float:
    """Seconds from 0 on; a fraction is allowed."""
    number = _number(value)
    if not 0 <= number < float("inf"):
        raise ValueError("must be a number of seconds, 0 or more")
    return number


def size(value: str) -> int:
    """Bytes: `1048576`, `64MiB`, `1.5GB`."""
    try:
        return int(_quantity(value, _SIZE_UNITS))
    except (KeyError, OverflowError):
        raise ValueError("must be a size such as 512MiB or 2GB") from None


def positive_size(value: str) -> int:
    """Bytes above 0."""
    number = size(value)
    if not 0 < number < 1 << 62:  # the largest limit the kernel accepts
        raise ValueError("must be a size above 0")
    return number


def size_in_words(number: int) -> str:
    """A number of bytes as people write it, such as `512 MiB`; never rounded."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        factor = _SIZE_UNITS[unit.upper()]
        if number >= factor and number % factor == 0:
            return f"{number // factor} {unit}"
    return f"{number} B"


def age(value: str) -> float:
    """Seconds: `90`, `15m`, `12h`, `30d`."""
    try:
        number = _quantity(value, _AGE_UNITS)
    except KeyError:
        raise ValueError("must be a time such as 90s, 12h or 30d") from None
    if not 0 < number <= AGE_MAX_S:
        raise ValueError("must be a time above 0, and of at most 1,000 years")
    return number


def _quantity(value: str, units: Mapping[str, int]) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", value.strip())
    if found is None or found[2].upper() not in units:
        raise KeyError(value)
    return float(found[1]) * units[found[2].upper()]


# --- processes -------------------------------------------------------------------------------------------------------


def command(value: str) -> tuple[str, ...]:
    """The words of a command line, split as a shell splits them."""
    words = split_words(value)
    if not words:
        raise ValueError("is empty")
    return words


def exit_codes(value: str) -> tuple[int, ...]:
    """Exit codes between commas; a negative number is a signal."""
    codes = tuple(_whole_number(part) for part in value.split(",") if part.strip())
    if not codes or not all(-64 <= code <= 255 and code != 0 for code in codes):
        raise ValueError("must be exit codes from 1 to 255 between commas, or signals as -1 to -64")
    return codes


def variable(value: str) -> str:
    """The name of an environment variable that is none of the server's own."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise ValueError("must be the name of an environment variable")
    if value.startswith(ENVIRONMENT_PREFIX):
        raise ValueError("is the server's own")
    return value


# --- network ---------------------------------------------------------------------------------------------------------


def split_address(value: str) -> tuple[str, int]:
    """`HOST:PORT` (IPv6 in brackets) as a pair.

    Raises:
        ValueError: it has another form.
    """
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be HOST:PORT, for example 127.0.0.1:8000 or [::1]:8000")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" in bare and bare == host:
        raise ValueError("an IPv6 address needs brackets, for example [::1]:8000")
    return bare, int(port)


def address(value: str) -> str:
    """`HOST:PORT` as it was written."""
    split_address(value)
    return value


def network(value: str) -> Network:
    """An address or a network; an IPv4 network written as IPv6 (`::ffff:a.b.c.d`) becomes IPv4."""
    try:
        found = ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f"must be an address or a network such as 10.0.0.0/8 ({error})") from None
    if isinstance(found, ipaddress.IPv6Network) and found.subnet_of(_MAPPED):
        # The server knows IPv4 clients by their IPv4 address, on an IPv6 socket as well.
        mapped = found.network_address.ipv4_mapped
        assert mapped is not None  # noqa: S101  # `_MAPPED` holds mapped addresses alone
        return ipaddress.IPv4Network((mapped, found.prefixlen - _MAPPED.prefixlen))
    return found


def http_url(value: str) -> str:
    """A whole URL of http or https."""
    try:
        parts = urlsplit(value)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be a whole address, such as https://example.com/dropmill")
    return value


def secure_url(value: str) -> str:
    """A URL that nobody on the way can answer: https, or http to this machine."""
    parts = urlsplit(http_url(value))
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise ValueError("must be an https URL: whoever answers decides who signs in")
    return value


def issuer(value: str) -> str:
    """The URL of an issuer (OpenID Connect Discovery 1.0, section 3): without query and fragment."""
    parts = urlsplit(secure_url(value))
    if parts.username is not None or parts.query or parts.fragment or value.endswith(("?", "#")):
        raise ValueError("must be scheme, host and path only, such as https://id.example.com/realms/main")
    if len(value) > LINE_MAX:
        raise ValueError(f"must have at most {LINE_MAX} characters")
    return value


def scope(value: str) -> str:
    """A word of OAuth's `scope` (RFC 6749, section 3.3)."""
    if not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]{1,100}", value):
        raise ValueError("must be one scope, such as groups")
    return value


def keys(value: str) -> str:
    """A path, or a `secure_url`."""
    return secure_url(value) if "://" in value else str(path(value))


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
        """The URL without a slash at its end; the server appends its own paths to it."""
        return self.origin + self.path


def public_url(value: str) -> PublicUrl:
    """The URL of a server: scheme, host, port and sub-path, nothing else."""
    parts = urlsplit(http_url(value))
    if parts.username is not None or parts.query or parts.fragment or value.endswith(("?", "#")):
        raise ValueError("must be scheme, host and path only, such as https://example.com/dropmill")
    sub_path = parts.path.rstrip("/")
    if not re.fullmatch(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)*", sub_path):
        raise ValueError("its path may have letters, digits and . _ ~ - between single slashes")
    default = {"http": 80, "https": 443}[parts.scheme]
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = ipaddress.IPv6Address(host).compressed
    return PublicUrl(scheme=parts.scheme, host=host, port=None if parts.port == default else parts.port, path=sub_path)


# What decides how a request is read, or who sent it: it cannot name somebody as well.
_TAKEN_HEADERS = frozenset(
    {"authorization", "cookie", "host", "origin", "connection", "content-length", "transfer-encoding", "upgrade"}
) | {"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"}


def header_name(value: str) -> str:
    """The name of a request header that nothing else reads (RFC 9110, section 5.1)."""
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^`|~-]{1,100}", value) or value.lower() in _TAKEN_HEADERS:
        raise ValueError("must be the name of a header that has no other meaning, such as Remote-User")
    return value


def role_and_group(value: str) -> tuple[Role, str]:
    """`ROLE=GROUP` as a pair."""
    role, equals, group = value.partition("=")
    if role not in set(Role) or not equals or not group.strip() or not group.isprintable():
        raise ValueError("must be viewer, operator or admin, an equals sign and a group, such as admin=ops")
    if "," in group or "|" in group:
        raise ValueError("must be one group; a name with , or | cannot be told from several")
    return Role(role), group.strip()


def origin(value: str) -> str:
    """An origin of http or https in the form in which browsers send it: lower case, without the scheme's default port.

    `*` and `null` are refused: both would mean pages of anybody.
    """
    try:
        found = public_url(value)
    except ValueError:
        found = None
    if found is None or found.path:
        raise ValueError("must be one origin: scheme, host and port, such as https://a.example")
    return found.origin

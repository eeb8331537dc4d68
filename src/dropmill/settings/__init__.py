"""Every setting, as one frozen dataclass made from flags and the environment.

A flag beats its environment variable `DROPMILL_<FLAG>`, which beats the default. The fields are grouped by the
capability that reads them, one module a group; `GROUPS` names the groups in the order in which `dropmill serve --help`
and `docs/settings.md` print them. Each field carries its own documentation; a test compares both with it.
"""

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from dropmill.model.config import ConfigLocation
from dropmill.model.errors import SettingsError
from dropmill.settings.access import AccessSettings
from dropmill.settings.configfile import ConfigSettings
from dropmill.settings.hosts import HostsSettings
from dropmill.settings.intake import IntakeSettings
from dropmill.settings.live import LiveSettings
from dropmill.settings.origin import OriginSettings
from dropmill.settings.processing import ProcessingSettings
from dropmill.settings.quotas import QuotaSettings
from dropmill.settings.serving import ServingSettings
from dropmill.settings.upkeep import UpkeepSettings
from dropmill.settings.values import ENVIRONMENT_PREFIX, PublicUrl, size_in_words, split_address

__all__ = [
    "CLIENT_VARIABLES",
    "ENVIRONMENT_PREFIX",
    "GROUPS",
    "SECRET_BYTES",
    "SECRET_FILES",
    "PublicUrl",
    "Settings",
    "environment_name",
    "secrets_in",
    "size_in_words",
    "split_address",
    "this_host",
]

CLIENT_VARIABLES: Final = ("DROPMILL_SERVER", "DROPMILL_TOKEN", "DROPMILL_TOKEN_FILE")
"""What `dropmill send` and `dropmill watch` read. A server ignores them: the same user may run both."""


@dataclass(frozen=True, kw_only=True)
class Settings(
    ServingSettings,
    ProcessingSettings,
    ConfigSettings,
    IntakeSettings,
    AccessSettings,
    QuotaSettings,
    OriginSettings,
    LiveSettings,
    UpkeepSettings,
    HostsSettings,
):
    """What the person who starts the server decided. Never editable from the browser.

    Each base is one group of fields; what needs fields of several groups is a property here.
    """

    @property
    def log_path(self) -> Path:
        """Where the event log is written."""
        return self.log_file or self.data / "log" / "dropmill.jsonl"

    @property
    def secrets(self) -> frozenset[str]:
        """The secrets in these settings, and the URLs that contain one."""
        found = {getattr(self, name) for name in SECRET_FILES}
        if self.on_settled is not None and (password := urlsplit(self.on_settled).password):
            found |= {self.on_settled, password, unquote(password)}
        if self.database_url is not None and (password := urlsplit(self.database_url).password):
            found |= {password, unquote(password)}
        return frozenset(found - {None})

    @property
    def config_location(self) -> ConfigLocation:
        """The config file that a server with these settings edits, started in this folder. Reads the disk."""
        return ConfigLocation(
            host=this_host(), path=str(self.config.absolute()), data_folder=os.path.realpath(self.data)
        )

    @property
    def config_aside(self) -> Path:
        """The folder for the config file's old bytes while the file is written in place."""
        return self.data.absolute() / "config-aside"

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
                values[f.name] = _parse_secret(_secret_in_file(f.name, environment), f, SECRET_FILES[f.name])
            elif environment.get(environment_name(f.name), "") != "":
                variable = environment_name(f.name)
                raw: Any = environment[variable]
                if f.metadata["is_secret"]:
                    values[f.name] = _parse_secret(raw, f, variable)
                    continue
                raw = [part.strip() for part in raw.split(",") if part.strip()] if f.metadata["many"] else raw
                values[f.name] = _parse(raw, f.metadata, variable)
        settings = cls(**values)
        if settings.processor is not None and settings.command is not None:
            raise SettingsError("--processor and --command are both set; a server runs one of them.")
        if settings.reuse is not None:
            _check_reuse(settings)
        _check_hosts(settings)
        _check_auth_header(settings)
        _check_jwt(settings)
        _check_oidc(settings)
        if (settings.certfile is None) != (settings.keyfile is None):
            raise SettingsError("--certfile and --keyfile go together; only one of them is set.")
        return settings


GROUPS: Final[Mapping[str, tuple["Field[Any]", ...]]] = {
    "Server": fields(ServingSettings),
    "Script": fields(ProcessingSettings),
    "Config": fields(ConfigSettings),
    "Uploads": fields(IntakeSettings),
    "Access": fields(AccessSettings),
    "Quotas": fields(QuotaSettings),
    "Proxies and host names": fields(OriginSettings),
    "Live updates": fields(LiveSettings),
    "Retention, event log and webhook": fields(UpkeepSettings),
    "Several hosts": fields(HostsSettings),
}
"""The fields of each group by its heading."""


def _check_reuse(settings: Settings) -> None:
    """Raise `SettingsError` for what cannot be set beside `--reuse`."""
    if settings.command is not None:
        raise SettingsError("--reuse and --command are both set; only a callable (--processor) can be reused.")
    if settings.fresh_process:
        raise SettingsError("--reuse and --fresh-process are both set; they contradict each other.")
    for flag, value in (
        ("--memory", settings.memory),
        ("--cpu-time", settings.cpu_time),
        ("--max-write", settings.max_write),
        ("--max-processes", settings.max_processes),
    ):
        if value is not None:
            raise SettingsError(f"--reuse and {flag} are both set; {flag} limits an attempt that has its own process.")


def _check_hosts(settings: Settings) -> None:
    """Raise `SettingsError` for settings of several hosts without what they need."""
    if settings.database_url is None:
        for flag, is_set in (("--blobs", settings.blobs is not None), ("--executor", settings.executor != "local")):
            if is_set:
                raise SettingsError(
                    f"{flag} needs DROPMILL_DATABASE_URL: several processes have one ledger, in Postgres."
                )
    if settings.executor == "ledger" and settings.blobs is None:
        raise SettingsError("--executor ledger needs --blobs: a folder that servers and workers share.")


def _check_auth_header(settings: Settings) -> None:
    """Raise `SettingsError` for a sign-in by header that would let in nobody, or everybody."""
    if settings.auth_header is None:
        if settings.auth_groups_header is not None:
            raise SettingsError("--auth-groups-header needs --auth-header, which says whose groups these are.")
    elif not settings.trusted_proxy:
        raise SettingsError("--auth-header needs --trusted-proxy: the addresses of the proxies that may say who it is.")
    elif settings.auth == "off":
        raise SettingsError("--auth-header and --auth off are both set, but nobody signs in on an open server.")
    has_groups = settings.auth_groups_header is not None
    has_claims = settings.jwt_issuer is not None or settings.oidc_issuer is not None
    if has_groups != bool(settings.auth_group) and (has_groups or settings.auth_header or not has_claims):
        raise SettingsError("--auth-groups-header and --auth-group go together; only one of them is set.")


def _check_jwt(settings: Settings) -> None:
    """Raise `SettingsError` if JWTs could not be checked in full."""
    given = {"issuer": settings.jwt_issuer, "audience": settings.jwt_audience, "keys": settings.jwt_keys}
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise SettingsError(f"--jwt-{missing[0]} is not set; --jwt-issuer, --jwt-audience and --jwt-keys go together.")
    if not missing and settings.auth == "off":
        raise SettingsError("--jwt-issuer and --auth off are both set, but nobody signs in on an open server.")


def _check_oidc(settings: Settings) -> None:
    """Raise `SettingsError` if nobody could sign in with the provider."""
    if settings.oidc_issuer is None:
        given = [name for name in _OF_PROVIDER if getattr(settings, name)]
        if given:
            raise SettingsError(f"{_OF_PROVIDER[given[0]]} is set, but --oidc-issuer, its provider, is not.")
    elif settings.oidc_client_id is None:
        raise SettingsError("--oidc-issuer needs --oidc-client-id, by which the provider knows this server.")
    elif settings.public_url is None:
        raise SettingsError(
            "--oidc-issuer needs --public-url: the provider sends browsers back to that address, and must know it."
        )
    elif settings.auth == "off":
        raise SettingsError("--oidc-issuer and --auth off are both set, but nobody signs in on an open server.")


_OF_PROVIDER: Final = {
    "oidc_client_id": "--oidc-client-id",
    "oidc_client_secret": "DROPMILL_OIDC_CLIENT_SECRET",
    "oidc_roles": "--oidc-roles",
}


def this_host() -> str:
    """The name of this machine."""
    return platform.node() or "localhost"


def environment_name(name: str) -> str:
    """The environment variable of a setting."""
    return ENVIRONMENT_PREFIX + name.upper()


SECRET_FILES = {f.name: f"{environment_name(f.name)}_FILE" for f in fields(Settings) if f.metadata["is_secret"]}
"""The settings that are secrets, each with the variable that names its file."""

SECRET_BYTES = 64 * 1024  # of such a file; a larger file cannot be a secret


def secrets_in(environment: Mapping[str, str]) -> list[str]:
    """The variables of an environment that hold a secret themselves instead of naming a file."""
    given = {name: environment.get(environment_name(name)) for name in SECRET_FILES}
    return [environment_name(name) for name, value in given.items() if value and _has_secret(name, value)]


def _has_secret(name: str, value: str) -> bool:
    return name != "database_url" or urlsplit(value).password is not None


def _secret_in_file(name: str, environment: Mapping[str, str]) -> str:
    """The content of a secret's file, without one line end at its end. Reads the disk."""
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


def _parse_secret(given: str, secret: "Field[Any]", source: str) -> Any:
    """The value of a secret; the sentence about an unusable one does not repeat it."""
    try:
        return secret.metadata["parse"](given)
    except ValueError as error:
        raise SettingsError(f"{source}: {error}.") from None


def _parse(given: Any, metadata: Mapping[str, Any], source: str) -> Any:
    if metadata["many"]:
        return tuple(_parse_one(one, metadata["parse"], source) for one in given)
    return _parse_one(given, metadata["parse"], source)


def _parse_one(value: Any, parse: Callable[[str], Any], source: str) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise SettingsError(f"{source} {value!r}: {error}.") from None

"""Settings that say who may use the server."""

from dataclasses import dataclass

from dropmill.settings import values
from dropmill.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class AccessSettings:
    """Read by `app` at the start and by `web/server/guard` for each request."""

    auth: str = setting(
        "--auth",
        values.one_of("auto", "off", "required"),
        "auto",
        "auto: open on loopback, refuse to start elsewhere. off: open to everyone who can reach the address. "
        "required: sign-in (not available yet).",
        metavar="auto|off|required",
    )
    private: bool = setting(
        "--private",
        values.switch,
        False,
        "Without accounts, each browser sees only the submissions that it has sent, which a cookie tells; programs "
        "must keep the cookie, too.",
        metavar="",
    )
    config_readable: bool = setting(
        "--config-readable",
        values.switch,
        False,
        "Viewers may read the config and its history, too; a config with secrets must not be readable.",
        metavar="",
    )
    allowed_host: tuple[str, ...] = setting(
        "--allowed-host",
        values.text,
        (),
        "Additional host name this server answers for; may be given several times.",
        metavar="HOST",
        many=True,
    )
    allowed_origin: tuple[str, ...] = setting(
        "--allowed-origin",
        values.text,
        (),
        "Additional origin whose pages may call this server, such as https://a.example; may be given several times.",
        metavar="ORIGIN",
        many=True,
    )

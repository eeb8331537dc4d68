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

"""Requests as the client sent them, whichever trusted proxy forwarded them; all later code sees only this form.

This works on the ASGI scope, before Quart. For HTTP and sockets alike, the address, scheme and host that a trusted
proxy forwards replace those of the connection, and every path gets the sub-path of `--public-url`. A proxy may keep the
sub-path or strip it, because a missing one is added. `X-Forwarded-Prefix` is not read: the setting has the sub-path,
and every URL that the server makes is the same for every client.

Forwarding headers from any other peer are ignored here; with `--auth auto` the guard refuses them. The headers of
`--auth-header` and `--auth-groups-header` are removed from every request, so that nothing else can believe them; those
of a trusted peer are kept apart as `VOUCHED`.
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from quart import Quart

from dropmill.access.proxy import Vouched
from dropmill.model.errors import SettingsError
from dropmill.origin.network import client_address
from dropmill.origin.proxies import TrustedProxies
from dropmill.settings import Settings

PEER = "dropmill.peer"
"""Key of the scope: the address of the connection's peer, which is a proxy or the client."""

OWN_HOST = "dropmill.host"
"""Key of the scope: the Host header that arrived, if a trusted proxy forwarded another one."""

VOUCHED = "dropmill.vouched"
"""Key of the scope: what a trusted peer says of who is signed in there, as `Vouched`; missing if the peer is another,
or no `--auth-header` is set."""

_SCHEMES = {"http": ("http", "ws"), "https": ("https", "wss"), "ws": ("http", "ws"), "wss": ("https", "wss")}


def install(app: Quart, settings: Settings) -> None:
    """Make an app trust the proxies of its settings. All routes must be registered already.

    Raises:
        SettingsError: a path of our own begins with the sub-path of `--public-url`, so it would be unclear whether a
            proxy stripped it.
    """
    base = settings.base_path
    first = base.partition("/")[2].partition("/")[0]
    if first and first in {rule.rule.split("/")[1] for rule in app.url_map.iter_rules()}:
        raise SettingsError(f"--public-url {settings.public_url}: /{first} is a path of Dropmill itself; use another.")
    app.jinja_env.globals["base"] = base
    proxies, inner = TrustedProxies(settings.trusted_proxy), app.asgi_app
    user, groups = (settings.auth_header or "").lower(), (settings.auth_groups_header or "").lower()

    async def as_the_client_sees_it(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket"):
            scope = {**scope, **_forwarded(scope, proxies)}
            if user:
                scope |= _vouched(scope, user, groups, is_trusted=scope[PEER] in proxies)
            if base:
                path = target_path(scope["path"])
                below = path[len(base) :] if path == base or path.startswith(base + "/") else path
                scope |= {"root_path": base, "path": base + (below or "/")}  # ASGI: the path includes the root path
        await inner(scope, receive, send)

    app.asgi_app = as_the_client_sees_it  # type: ignore[method-assign]


def _forwarded(scope: Any, proxies: TrustedProxies) -> dict[str, Any]:
    """The entries of the scope that a trusted peer replaces."""
    peer = client_address((scope.get("client") or (None,))[0])
    if peer not in proxies:
        return {PEER: peer}
    headers = scope["headers"]
    seen: dict[str, Any] = {PEER: peer, "client": (proxies.client_of(peer, _values(headers, "x-forwarded-for")), 0)}
    scheme = _SCHEMES.get(_last(headers, "x-forwarded-proto").lower())
    if scheme is not None:
        seen["scheme"] = scheme[scope["type"] == "websocket"]
    host, own = _last(headers, "x-forwarded-host"), _values(headers, "host")
    if host and len(own) == 1:
        seen[OWN_HOST] = own[0]
        seen["headers"] = [(n, host.encode("latin-1") if n.lower() == b"host" else v) for n, v in headers]
    return seen


def _vouched(scope: Any, user: str, groups: str, *, is_trusted: bool) -> dict[str, Any]:
    """The entries of the scope that the headers of a sign-in at a proxy replace."""
    headers = scope["headers"]
    seen: dict[str, Any] = {
        "headers": [(n, v) for n, v in headers if n.lower() not in (user.encode(), groups.encode())]
    }
    if is_trusted:
        seen[VOUCHED] = Vouched(names=_raw(headers, user), groups=_raw(headers, groups))
    return seen


def _values(headers: Iterable[tuple[bytes, bytes]], name: str) -> list[str]:
    return [value.decode("latin-1") for value in _raw(headers, name)]


def _raw(headers: Iterable[tuple[bytes, bytes]], name: str) -> list[bytes]:
    wanted = name.encode()
    return [value for found, value in headers if found.lower() == wanted]


def _last(headers: Iterable[tuple[bytes, bytes]], name: str) -> str:
    """The value that the nearest proxy wrote; it may have appended it to a list."""
    return ",".join(_values(headers, name)).rpartition(",")[2].strip()


def target_path(path: str) -> str:
    """The path of a request target in any of its forms (RFC 9112, section 3.2)."""
    if path.startswith("/"):
        return path
    try:
        return urlsplit(path).path or "/"
    except ValueError:
        return "/" + path  # no route has it

"""`dropmill serve`: runs the app in Hypercorn, on sockets that this module binds, until a signal stops it."""

import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config as HypercornConfig
from quart import Quart

from dropmill import descriptors
from dropmill.access.sessions import FIRST_S
from dropmill.app import create_app, server_of
from dropmill.cli.again import begin_anew
from dropmill.cli.options import SettingsCommand, settings_options
from dropmill.model.errors import DropmillError, SettingsError
from dropmill.settings import Settings, split_address
from dropmill.web.server.guard import LOOPBACK_NAMES, allowed_hosts
from dropmill.web.server.tcp import DRAIN_BODY_S

BACKLOG_MAX = 1024  # connections the kernel holds while the loop is busy; the loop then accepts all of them at once
BACKLOG_PART = 8  # so the backlog takes an eighth of the descriptors: half of what `--reserved-descriptors` keeps free
CONNECTIONS_END_S = DRAIN_BODY_S + 1.0  # after the drain; by then only clients that do not close are left
IDLE_CONNECTION_S = 15.0  # also bounds how long headers may take


@click.command("serve", cls=SettingsCommand)
@settings_options
def command(**flags: Any) -> None:
    """Serve the drop zone until SIGTERM or Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
    for noisy in ("hypercorn.error", "alembic", "watchfiles", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        settings = Settings.load(flags, os.environ)
        descriptors.raise_limit()
        require_certificate(settings)
        app = create_app(settings, owns_sockets=True)
        sockets = [_listen(address, is_dual=is_dual_stack(address, settings.bind)) for address in settings.bind]
    except DropmillError as error:
        print(f"dropmill: {error.detail}", file=sys.stderr)
        sys.exit(2)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(app, sockets, settings))
    if server_of(app).is_gone:
        begin_anew()
    if server_of(app).failure is not None:
        sys.exit(1)


def require_certificate(settings: Settings) -> None:
    """Check the certificate and the key that the settings name; without any there is nothing to check.

    Raises:
        SettingsError: https cannot be served with them.
    """
    if settings.certfile is None:
        return
    for flag, path in (("--certfile", settings.certfile), ("--keyfile", settings.keyfile)):
        try:
            if path is not None:
                path.open("rb").close()
        except OSError as error:
            raise SettingsError(f"{flag} {path}: cannot be read ({error.strerror}).") from None
    try:
        # With an empty passphrase, because OpenSSL would otherwise ask for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.certfile, settings.keyfile, password="")
    except ssl.SSLError as error:
        raise SettingsError(
            f"--certfile {settings.certfile} and --keyfile {settings.keyfile}: must be a certificate and its key in "
            f"PEM form, the key without a passphrase ({error.reason or 'not usable'})."
        ) from None


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # +15 to +40 % upload throughput where the platform has it
    except ImportError:
        return None
    return uvloop.new_event_loop


def is_dual_stack(address: str, binds: Sequence[str]) -> bool:
    """Whether a socket accepts IPv4 too: that of `[::]` does, unless another bind has the same port of an IPv4 address.

    Args:
        address: the socket's own bind.
        binds: those of all sockets.
    """
    host, port = split_address(address)
    others = [split_address(bind) for bind in binds if bind != address]
    return host == "::" and not any(":" not in other and port == taken != 0 for other, taken in others)


def _listen(address: str, *, is_dual: bool) -> socket.socket:
    """A bound socket. Bound before Hypercorn runs, so that a port in use gives one clear line and port 0 is known."""
    host, port = split_address(address)
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not is_dual)
        listening.bind(target)
        listening.set_inheritable(False)
    except OSError as error:
        raise SettingsError(f"--bind {address}: cannot listen there ({error.strerror}).") from None
    return listening


async def _serve(app: Quart, sockets: list[socket.socket], settings: Settings) -> None:
    server = server_of(app)
    stopping = asyncio.Event()
    server.on_failure = stopping.set
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)

    async def until_stopped() -> None:
        # Hypercorn listens by the time it first awaits this.
        for notice in server.notices:
            print(notice)
        for line in (*_about_names(settings), *_about_first(server.first_path, sockets, settings)):
            print(line)
        for listening in sockets:
            print(f"Dropmill is serving on {_url(listening, is_https=settings.is_https)}", flush=True)
        await stopping.wait()
        # Before this returns: afterwards Hypercorn cuts connections, and on Python 3.12 and 3.13 one open WebSocket
        # would keep the process alive.
        await server.drain()

    config = HypercornConfig()
    config.bind = [f"fd://{listening.fileno()}" for listening in sockets]
    config.backlog = min(BACKLOG_MAX, max(1, descriptors.limit() // BACKLOG_PART))
    config.graceful_timeout = CONNECTIONS_END_S
    config.keep_alive_timeout = IDLE_CONNECTION_S
    config.ssl_handshake_timeout = IDLE_CONNECTION_S
    config.include_server_header = False
    config.websocket_max_message_size = 64 * 1024
    config.certfile = None if settings.certfile is None else str(settings.certfile)
    config.keyfile = None if settings.keyfile is None else str(settings.keyfile)
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    await hypercorn_serve(app, config, shutdown_trigger=until_stopped)


def _about_names(settings: Settings) -> Iterator[str]:
    """Lines about the names under which the server can be reached; none if it answers for loopback only."""
    names = allowed_hosts(settings)
    if names != LOOPBACK_NAMES:
        shown = ", ".join(sorted(f"[{name}]" if ":" in name else name for name in names))
        yield f"It answers for the host names {shown}; --allowed-host adds others."
    if settings.public_url is not None:
        yield f"Its public URL is {settings.public_url}."
    if settings.public_url is not None and not settings.trusted_proxy:
        yield "Behind a proxy every client has the proxy's address, because --trusted-proxy is not set."


def _about_first(path: str | None, sockets: Sequence[socket.socket], settings: Settings) -> Iterator[str]:
    """The one-time link for the first account, if there is one; its secret is shown nowhere else."""
    if path is not None:
        url = settings.public_url or _url(sockets[0], is_https=settings.is_https)
        yield f"There is no account yet. Within {FIRST_S / 60:.0f} minutes make the first one, an admin, at {url}{path}"


def _url(listening: socket.socket, *, is_https: bool) -> str:
    host, port = listening.getsockname()[:2]
    scheme = "https" if is_https else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

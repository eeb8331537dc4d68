"""The command line."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config as HypercornConfig
from hypercorn.utils import LifespanFailureError
from quart import Quart

from dropmill import __version__
from dropmill.app import create_app, server_of
from dropmill.model.errors import DropmillError, SettingsError
from dropmill.settings import Settings, environment_name, split_address
from dropmill.web.connection import LINGER_S

BACKLOG = 1024  # connections the kernel holds while the loop is busy
CONNECTIONS_END_S = LINGER_S + 1.0  # after the drain; there is nothing left to wait for but clients that do not close
IDLE_CONNECTION_S = 15.0  # also bounds how long headers may take


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dropmill")
def main() -> None:
    """A web drop zone in front of a script: drop files, each is processed, every step is seen live."""


def _settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for f in reversed(fields(Settings)):
        metadata = f.metadata
        if metadata["flag"] is None:
            continue
        command = click.option(
            metadata["flag"],
            f.name,
            metavar=metadata["metavar"] or None,
            multiple=metadata["many"],
            is_flag=not metadata["metavar"],
            flag_value="on" if not metadata["metavar"] else None,
            help=f"{metadata['doc']} [{environment_name(f.name)}]",
        )(command)
    return command


@main.command()
@_settings_options
def serve(**flags: Any) -> None:
    """Serve the drop zone until SIGTERM or Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
    for noisy in ("hypercorn.error", "alembic", "watchfiles"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        settings = Settings.load(flags, os.environ)
        app = create_app(settings, is_bound_by_us=True)
        sockets = [_listen(address) for address in settings.bind]
    except DropmillError as error:
        _stop_with(error.detail)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            runner.run(_serve(app, sockets))
        except LifespanFailureError:
            failure = server_of(app).failure
            if isinstance(failure, DropmillError):
                _stop_with(failure.detail)
            raise
    if server_of(app).failure is not None:
        sys.exit(1)


def _stop_with(sentence: str) -> Any:
    print(f"dropmill: {sentence}", file=sys.stderr)
    sys.exit(2)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # +15 to +40 % upload throughput where the platform has it
    except ImportError:
        return None
    return uvloop.new_event_loop


def _listen(address: str) -> socket.socket:
    """A bound socket; bound here, so that a port in use is one clear line and port 0 is known before it is told."""
    host, port = split_address(address)
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(target)
        listening.set_inheritable(False)
    except OSError as error:
        raise SettingsError(f"--bind {address}: cannot listen there ({error.strerror}).") from None
    return listening


async def _serve(app: Quart, sockets: list[socket.socket]) -> None:
    server = server_of(app)
    stopping = asyncio.Event()
    server.on_failure = stopping.set
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)

    async def until_stopped() -> None:
        # Hypercorn has begun to listen when it first waits for this.
        for notice in server.notices:
            print(notice)
        for listening in sockets:
            print(f"Dropmill is serving on {_url(listening)}", flush=True)
        await stopping.wait()
        # Here, and not after: Hypercorn would cut connections first and tell us last, and on Python 3.12 and 3.13
        # one open socket would keep it from ending at all.
        await server.drain()

    config = HypercornConfig()
    config.bind = [f"fd://{listening.fileno()}" for listening in sockets]
    config.backlog = BACKLOG
    config.graceful_timeout = CONNECTIONS_END_S
    config.keep_alive_timeout = IDLE_CONNECTION_S
    config.include_server_header = False
    config.websocket_max_message_size = 64 * 1024
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    await hypercorn_serve(app, config, shutdown_trigger=until_stopped)


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

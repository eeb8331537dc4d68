"""An app of a test's own, served by the real Hypercorn in the test's own loop."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart
from tests.support.waiting import eventually
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

RECEIVE_BYTES = 512 * 1024  # of the kernel's buffer, so that what is counted is what we hold


@contextlib.asynccontextmanager
async def served(app: Quart) -> AsyncIterator[int]:
    """The port at which an app is served while the context is open."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.websocket_max_message_size = 64 * 1024
    config.graceful_timeout = 5.0
    config.keep_alive_timeout = 60.0  # longer than any test: a connection that ends has another reason
    config.errorlog = logging.getLogger("hypercorn.error")
    is_over, is_up = asyncio.Event(), asyncio.Event()

    async def until_over() -> None:
        is_up.set()
        await is_over.wait()

    serving = asyncio.create_task(serve(app, config, shutdown_trigger=until_over))
    await is_up.wait()
    try:
        yield port
    finally:
        is_over.set()
        await serving


async def settled_tasks(baseline: int) -> None:
    """Return when no more tasks run than at first."""
    await eventually(lambda: len(asyncio.all_tasks()) <= baseline)


async def end_of(client: ClientConnection) -> tuple[int | None, str | None]:
    """Read to the end; its code and reason."""
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(10):
            async for _ in client:
                pass
    return client.close_code, client.close_reason

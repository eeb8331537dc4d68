"""What Quart leaves open between one request and its handler.

An answer before the whole body has come ends the connection, because it is unclear where the next request begins. The
rest of the body is read for a while, so that a client that reads only after writing gets the answer. A change is made
once its request has arrived whole, even if the client has left. For `Expect: 100-continue`, 100 is sent only when a
handler starts reading the body.

Written against Quart 0.22; `tests/web/server/test_connection.py` fails when its behaviour changes.
"""

import asyncio
import contextlib
from typing import Any

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope
from quart import Quart, Request
from quart import request as current_request
from quart.asgi import ASGIHTTPConnection

from dropmill.web.server import capacity
from dropmill.web.server.body import BoundedBody, BoundedRequest
from dropmill.web.server.capacity import Capacity
from dropmill.web.server.forwarding import target_path
from dropmill.web.server.hypercorn import SEND_BODY, patch_hypercorn
from dropmill.web.server.lending import LOAN, SocketLoan
from dropmill.web.server.tcp import DRAIN_BODY_S
from dropmill.web.server.websocket import WebSocketConnection, until_either_ends


class HttpConnection(ASGIHTTPConnection):
    """One HTTP request and its answer."""

    def __init__(self, app: Quart, scope: HTTPScope) -> None:
        scope["path"] = target_path(scope["path"])
        super().__init__(app, scope)

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve it."""
        request = self._create_request_from_scope(send)
        await until_either_ends(self.handle_request(request, send), self.handle_messages(request, receive))

    async def handle_messages(self, request: Request, receive: ASGIReceiveCallable) -> None:
        body: BoundedBody = request.body  # type: ignore[assignment]  # request_class is BoundedRequest
        while True:
            await body.wait_for_room()
            message = await receive()
            if message["type"] == "http.request":
                body.append(message.get("body", b""))
                loan: SocketLoan | None = message.get(LOAN)  # type: ignore[assignment]  # a key of our own
                if loan is not None:
                    body.append_loan(loan)
                if not message.get("more_body", False):
                    body.set_complete()
            elif message["type"] == "http.disconnect":
                if body.is_complete and request.method not in ("GET", "HEAD", "OPTIONS"):
                    await body.may_be_left.wait()  # the handler is cancelled when we return
                return

    async def handle_request(self, request: Request, send: ASGISendCallable) -> None:
        body: BoundedBody = request.body  # type: ignore[assignment]  # see above
        if request.headers.get("Expect", "").lower() == "100-continue":
            body.ask = lambda: send({"type": SEND_BODY})  # type: ignore[misc,arg-type]

        async def send_then_linger(message: Any) -> None:
            is_end = message["type"] == "http.response.body" and not message.get("more_body")
            if message["type"] == "http.response.start":
                if not body.is_complete:
                    # The client may omit the rest or not: what follows may be a request, or bytes of the body.
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
                # From here on the body is not read. If it stayed bounded, the server's queue to us would be full, and
                # we would not learn that the exchange has ended.
                body.discard()
            elif is_end and not body.is_complete:
                # The client gets the whole answer at once. Only the end of the exchange waits: a client may send more
                # before it reads, and a reset would make it lose the answer.
                content: Any = {**message, "more_body": True}
                await send(content)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(DRAIN_BODY_S):
                        await body.wait_complete()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        try:
            await super().handle_request(request, send_then_linger)
        finally:
            body.may_be_left.set()


def end_with_client() -> None:
    """Have the handler of the current request cancelled when the client leaves, as for a GET: it changes nothing."""
    body: BoundedBody = current_request.body  # type: ignore[assignment]  # request_class is BoundedRequest
    body.may_be_left.set()


def install(app: Quart, allowed: Capacity | None = None) -> None:
    """Make an app use these connections.

    Args:
        app: the app.
        allowed: how many connections there may be, and how long each may stall; None for the default limits.
    """
    patch_hypercorn()
    capacity.install(app, allowed or Capacity())
    app.request_class = BoundedRequest
    app.asgi_http_class = HttpConnection
    app.asgi_websocket_class = WebSocketConnection
    # Intake counts bytes as they arrive, because Quart does not enforce its limit on chunked bodies. Slow bodies have
    # our own idle limit, and a download may take as long as its client reads.
    app.config.update(MAX_CONTENT_LENGTH=None, BODY_TIMEOUT=None, RESPONSE_TIMEOUT=None)

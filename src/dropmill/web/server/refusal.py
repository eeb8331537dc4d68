"""Answers that do not come from the application: Hypercorn or the capacity refuses, or a handler ends without one."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from hypercorn.protocol.events import Body, EndBody, Response
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.utils import suppress_body

from dropmill.web.server.cors import origins_of
from dropmill.web.server.guard import HEADERS
from dropmill.web.server.link_paths import without_secrets
from dropmill.wire.encoding import dumps
from dropmill.wire.problem import MEDIA_TYPE, problem_json

log = logging.getLogger(__name__)

DETAILS = {
    400: "The request is not HTTP/1.1 as defined by RFC 9112.",
    403: "The socket was refused.",
    431: "The head of the request is too large.",
    500: "Something went wrong inside Dropmill; the server's log has more.",
    501: "The request has a transfer coding that this server does not support.",
    503: "The server is stopping; try again in a moment.",
}


def refusal(
    status: int,
    title: str | None = None,
    detail: str | None = None,
    code: str | None = None,
    *,
    origins: Mapping[str, str],
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of such an answer; the connection ends after it.

    Args:
        status: of the answer.
        title: None for the status's own.
        detail: None for the one in `DETAILS`.
        code: None for `code_of` the status.
        origins: the headers that let pages of other origins read it, see `OtherOrigins`.
    """
    title = title or ("Internal error" if status == HTTPStatus.INTERNAL_SERVER_ERROR else HTTPStatus(status).phrase)
    code = code or code_of(status)
    body = dumps(problem_json(status, title, detail or DETAILS.get(status, title + "."), code, {})).encode()
    headers = HEADERS | {
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "Connection": "close",
    }
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        headers["Retry-After"] = "5"
    headers |= origins
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()], body


_CODES = {500: "internal_error", 503: "unavailable"}


def code_of(status: int) -> str:
    """The code of an error of the framework: usually the name of its status."""
    return _CODES.get(status) or HTTPStatus(status).name.lower()


def headers_for(app: Any, scope: Any) -> Mapping[str, str]:
    """The headers that let the page of an allowed origin read an answer.

    Args:
        app: whose.
        scope: of the request, in ASGI's form; None: its head was not read.
    """
    others = origins_of(app)
    if scope is None:
        return others.headers_for_unread
    origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
    return others.headers_for(origins[0]) if len(origins) == 1 else {}


async def answer_without_app(stream: HTTPStream | WSStream, status: int) -> None:
    """Answer a request that the application did not answer, or that did not reach it."""
    method = str(stream.scope.get("method", "GET"))
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        if stream.context.terminated.is_set():
            status = HTTPStatus.SERVICE_UNAVAILABLE
        else:
            log.error("%s %r ended without an answer", method, without_secrets(stream.scope["path"]))
    head, body = refusal(status, origins=headers_for(stream.app, stream.scope))
    await stream.send(Response(stream_id=stream.stream_id, headers=head, status_code=status))
    if not suppress_body(method, status):
        await stream.send(Body(stream_id=stream.stream_id, data=body))
    await stream.send(EndBody(stream_id=stream.stream_id))

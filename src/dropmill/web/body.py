"""Small request bodies, read whole but never beyond a limit."""

import asyncio
import json
from typing import Any

from quart import request

from dropmill.model.errors import BadRequest, RequestTooSlow, TooLarge, UnsupportedMediaType
from dropmill.web.services import services

JSON_MAX = 1024 * 1024


async def read(limit: int) -> bytes:
    """The whole body. Counted as it arrives: Content-Length is absent from chunked requests.

    Raises:
        TooLarge: it is over `limit` bytes.
        RequestTooSlow: it stalled.
    """
    gathered = bytearray()
    idle_s = services().settings.idle_timeout
    chunks = aiter(request.body)
    while True:
        try:
            async with asyncio.timeout(idle_s):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return bytes(gathered)
        except TimeoutError:
            raise RequestTooSlow(f"No byte arrived for {idle_s:g} s.") from None
        gathered += chunk
        if len(gathered) > limit:
            raise TooLarge(f"The body is larger than {limit} bytes.")


async def read_json_object() -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        UnsupportedMediaType, BadRequest, TooLarge, RequestTooSlow: it is none.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Send JSON with Content-Type application/json.")
    text = await read(JSON_MAX)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON.") from None
    if not isinstance(value, dict):
        raise BadRequest("The body is not a JSON object.")
    return value

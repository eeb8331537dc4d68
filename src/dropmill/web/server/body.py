"""Small request bodies, read whole but never beyond a limit."""

import asyncio
import json
import math
from collections.abc import Sequence
from typing import Any, NoReturn

from quart import request

from dropmill.model.errors import BadRequest, RequestTooSlow, TooLarge, UnsupportedMediaType
from dropmill.web.services import services

JSON_MAX = 1024 * 1024
JSON_QUICK = 64 * 1024  # bytes; read in 4 ms at worst


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


async def read_json(kind: str = "application/json", *, limit: int = JSON_MAX) -> Any:
    """The body as JSON; strictly (RFC 8259): no key twice, no NaN, no number that is none here.

    Args:
        kind: the media type that it must have.
        limit: bytes.

    Raises:
        UnsupportedMediaType, BadRequest, TooLarge, RequestTooSlow: it is none.
    """
    if request.mimetype != kind:
        raise UnsupportedMediaType(f"Send JSON with Content-Type {kind}.")
    text = await read(limit)
    try:
        # A hostile megabyte takes 50 ms. In a thread at least `_unique` lets others go on.
        return await asyncio.to_thread(_parse, text) if len(text) > JSON_QUICK else _parse(text)
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON, or says something twice.") from None


def _parse(text: bytes) -> Any:
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice")
    return made


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is too large")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


async def read_json_object(*, limit: int = JSON_MAX) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        UnsupportedMediaType, BadRequest, TooLarge, RequestTooSlow: it is none.
    """
    value = await read_json(limit=limit)
    if not isinstance(value, dict):
        raise BadRequest("The body is not a JSON object.")
    return value

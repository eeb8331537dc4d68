"""Calls of other systems that decide who signs in: a time limit for each, and one for the bytes of its answer.

The answer is counted as it arrives, and is not asked for compressed: 60 KiB can unpack to 60 MiB. Redirections are not
followed, because the addresses come from settings, or from a document whose addresses were checked.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from functools import cache
from ssl import SSLContext
from typing import Any, Final

import httpx

CALL_S: Final = 10.0  # from the look-up of the name to the last byte
USUAL = "identity"


class _Counted(httpx.AsyncByteStream):
    """The bytes of an answer, as long as they are not too many."""

    def __init__(self, stream: httpx.AsyncByteStream, most: int) -> None:
        self._stream = stream
        self._most = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for piece in self._stream:
            size += len(piece)
            if size > self._most:
                raise ValueError(f"the answer has more than {self._most} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


async def client_options(most: int) -> dict[str, Any]:
    """Options of an httpx client, also of one that a library makes, which bound what it is answered.

    Args:
        most: bytes of an answer. A longer one, or one in a content coding, raises `ValueError` where it is awaited.
    """

    async def bound(answer: httpx.Response) -> None:
        if answer.headers.get("Content-Encoding", USUAL).strip().lower() != USUAL:
            raise ValueError("the answer has a content coding that was not asked for")
        assert isinstance(answer.stream, httpx.AsyncByteStream)  # noqa: S101  # the client is an asynchronous one
        answer.stream = _Counted(answer.stream, most)

    return {
        "verify": await asyncio.to_thread(_ssl_context),
        "timeout": CALL_S,  # of each step; `asyncio.timeout` limits the whole call
        "headers": {"Accept-Encoding": USUAL},
        "event_hooks": {"response": [bound]},
    }


@cache
def _ssl_context() -> SSLContext:
    """What is trusted: `SSL_CERT_FILE` or certifi's list, read once. Reads the disk for 0.1 s."""
    return httpx.create_ssl_context()


async def fetch(url: str, most: int, **headers: str) -> bytes:
    """The answer to a GET.

    Args:
        url: http or https.
        most: bytes of the answer.
        headers: of the request.

    Raises:
        OSError, httpx.HTTPError: there is no answer, or not in time.
        ValueError: it is none with status 200, or too long.
    """
    async with asyncio.timeout(CALL_S), httpx.AsyncClient(**await client_options(most)) as client:
        try:
            answer = await client.get(url, headers=headers)
        except httpx.InvalidURL:
            raise ValueError("the address cannot be called") from None
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"the answer has status {answer.status_code}")
        return answer.content


def json_object(text: bytes) -> Mapping[str, Any]:
    """The object that a text of somebody else is.

    Raises:
        ValueError: it is none; also if it is nested too deeply to read.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    except ValueError:
        raise ValueError("the text is not JSON") from None  # the parser's own words quote it
    if not isinstance(found, dict):
        raise ValueError("the JSON is no object")
    return found

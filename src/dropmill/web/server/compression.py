"""Compresses what browsers are sent: pages and static files. Answers of the API and downloads are sent as they are.

Browsers accept brotli over https and from loopback, gzip everywhere.
"""

import asyncio
import gzip
from typing import Literal

import brotli
from quart import Response, request
from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

from dropmill.web.server.accept import ACCEPT_MAX

Coding = Literal["br", "gzip"]

CODINGS: tuple[Coding, ...] = ("br", "gzip")  # the smaller one first
BEST_MAX = 128 * 1024  # bytes; the best quality of brotli takes 0.2 s for these, and 1.7 s for the editor
IN_THREAD = 64 * 1024  # bytes; a page of this size takes the event loop about 5 ms
LEAST = 512  # bytes; fewer fit into one packet with the headers either way


def preferred_coding(header: str) -> Coding | None:
    """The coding that an `Accept-Encoding` header prefers, brotli if it prefers none; None if it accepts neither.

    Args:
        header: as sent (RFC 9110, section 12.5.3); "" if absent. Only its first `ACCEPT_MAX` characters count.
    """
    accepted = parse_accept_header(" ".join(header.split())[:ACCEPT_MAX], Accept)
    best = max(CODINGS, key=accepted.quality)  # of equal ones the first
    return best if accepted.quality(best) > 0 else None


def accepts_gzip(header: str) -> bool:
    """Whether an `Accept-Encoding` header accepts gzip; see `preferred_coding`."""
    return parse_accept_header(" ".join(header.split())[:ACCEPT_MAX], Accept).quality("gzip") > 0


def compressed(data: bytes, coding: Coding) -> bytes:
    """Data that is sent many times, as small as is sensible. May take 0.4 s, so not for the event loop."""
    if coding == "gzip":
        return gzip.compress(data, mtime=0)
    return bytes(brotli.compress(data, quality=11 if len(data) <= BEST_MAX else 10))


async def compress_page(response: Response) -> Response:
    """Compress a page, which is sent once.

    A page that another site asks for with a query is left as it is. Else somebody who reads the length of encrypted
    answers could have a browser ask again and again, and learn letter by letter what the page says beside the words
    of the query (BREACH).
    """
    if response.mimetype != "text/html" or response.status_code == 304:
        return response
    response.vary.add("Accept-Encoding")
    is_foreign = request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
    coding = preferred_coding(request.headers.get("Accept-Encoding", ""))
    if coding is None or (is_foreign and request.query_string):
        return response
    page = await response.get_data(as_text=False)
    if len(page) >= LEAST:
        is_small = len(page) <= IN_THREAD
        response.set_data(_once(page, coding) if is_small else await asyncio.to_thread(_once, page, coding))
        response.headers["Content-Encoding"] = coding
    return response


def _once(page: bytes, coding: Coding) -> bytes:
    return gzip.compress(page, 6, mtime=0) if coding == "gzip" else bytes(brotli.compress(page, quality=5))

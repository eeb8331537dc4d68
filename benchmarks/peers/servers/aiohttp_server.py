"""aiohttp taking files as its documentation shows it: `python aiohttp_server.py PORT FOLDER [CERTIFICATE KEY]`."""

import asyncio
import secrets
import ssl
import sys
from pathlib import Path

import uvloop
from aiohttp import web

PIECE_BYTES = 256 * 1024  # its default of 8 KiB is much slower

folder = Path(sys.argv[2])


async def raw(request: web.Request) -> web.Response:
    with (folder / secrets.token_hex(16)).open("wb", buffering=0) as file:
        async for piece in request.content.iter_any():
            file.write(piece)
    return web.Response(status=201)


async def multipart(request: web.Request) -> web.Response:
    async for part in await request.multipart():
        with (folder / secrets.token_hex(16)).open("wb", buffering=0) as file:
            while piece := await part.read_chunk(PIECE_BYTES):
                file.write(piece)
    return web.Response(status=201)


async def index(request: web.Request) -> web.Response:
    return web.Response(text="ready")


tls = None
if len(sys.argv) > 3:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(sys.argv[3], sys.argv[4])
app = web.Application()
app.add_routes([web.get("/", index), web.put("/raw/{name}", raw), web.post("/multipart", multipart)])
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), ssl_context=tls, access_log=None, print=None)

"""Starlette's form parser, and its request stream: `FOLDER=... uvicorn starlette_server:app`."""

import asyncio
import os
import secrets
import shutil
from pathlib import Path
from typing import BinaryIO

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

FILES_MOST = 100_000  # its default, 1,000, refuses the form of 2,000

folder = Path(os.environ["FOLDER"])


def _save(file: BinaryIO) -> None:
    with (folder / secrets.token_hex(16)).open("wb") as target:
        shutil.copyfileobj(file, target, 256 * 1024)


async def form(request: Request) -> Response:
    async with request.form(max_files=FILES_MOST) as fields:
        for file in fields.getlist("file"):
            await asyncio.to_thread(_save, file.file)
    return Response(status_code=201)


async def raw(request: Request) -> Response:
    with (folder / secrets.token_hex(16)).open("wb", buffering=0) as file:
        async for piece in request.stream():
            file.write(piece)
    return Response(status_code=201)


async def index(request: Request) -> Response:
    return PlainTextResponse("ready")


app = Starlette(
    routes=[
        Route("/", index),
        Route("/form", form, methods=["POST"]),
        Route("/raw/{name}", raw, methods=["PUT"]),
    ]
)

"""Starlette's form parser: `FOLDER=... uvicorn starlette_server:app`."""

import asyncio
import os
import secrets
import shutil
from pathlib import Path
from typing import BinaryIO

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

folder = Path(os.environ["FOLDER"])


def _save(file: BinaryIO) -> None:
    with (folder / secrets.token_hex(16)).open("wb") as target:
        shutil.copyfileobj(file, target, 256 * 1024)


async def form(request: Request) -> Response:
    async with request.form() as fields:
        for file in fields.getlist("file"):
            await asyncio.to_thread(_save, file.file)
    return Response(status_code=201)


app = Starlette(routes=[Route("/form", form, methods=["POST"])])

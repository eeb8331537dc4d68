"""What Dropmill's uploads are compared with: the framework alone, on the same server and event loop.

`/files` is what its documentation shows; it hands files over after the last byte and keeps nothing durable. `/raw`
only counts the bytes and drops them: nothing that stores a body on this stack can cost less.
"""

import secrets
from pathlib import Path

from quart import Quart, request


def make_app(folder: str) -> Quart:
    """An app that saves to `folder`."""
    app = Quart(__name__)
    app.config.update(MAX_CONTENT_LENGTH=None, BODY_TIMEOUT=None, MAX_FORM_PARTS=None)

    @app.get("/")
    async def index() -> str:
        return "ready"

    @app.post("/files")
    async def files() -> dict[str, int]:
        size = 0
        for file in (await request.files).getlist("file"):
            saved = Path(folder, secrets.token_hex(16))
            await file.save(saved)
            size += saved.stat().st_size  # noqa: ASYNC240 - little beside what the framework itself does here
        return {"size": size}

    @app.post("/raw")
    async def raw() -> dict[str, int]:
        size = 0
        async for chunk in request.body:
            size += len(chunk)
        return {"size": size}

    return app

"""The scripts and styles of the pages: which ones a page needs, and how they are sent.

`frontend/build.js` makes one script and one style sheet for each page, in `static/dist`. Their names hold a hash of
what is in them, so browsers keep them for a year. If the sources have changed since, or in development, pages use the
sources below `static/` instead, which browsers ask for each time. `docs/decisions/assets.md` says why.
"""

import asyncio
import hashlib
import json
import logging
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quart import Blueprint, Quart, Response, current_app, request

from dropmill.model.errors import NotFound
from dropmill.web.server.compression import Coding, compressed, preferred_coding

log = logging.getLogger(__name__)

EXTENSION = "dropmill.static_files"
TYPES = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
FOR_A_YEAR = "public, max-age=31536000, immutable"

static_files = Blueprint("static_files", __name__)

_SOURCE = re.compile(r"(?:css|js)/.*\.(?:css|js)|vendor/.*\.js|favicon\.svg")


@dataclass(frozen=True, kw_only=True, slots=True)
class PageFiles:
    """The files of one page, each as its path below `static/`.

    Attributes:
        early: the script that runs before the page is drawn.
        preload: scripts that `script` imports.
    """

    icon: str
    early: str
    style: str
    script: str
    preload: tuple[str, ...] = ()


class StaticFiles:
    """What is below `static/`."""

    def __init__(self, folder: Path, *, from_sources: bool) -> None:
        """Read the manifest.

        Args:
            folder: `static/`.
            from_sources: whether pages use the sources although `static/dist` is made from them.
        """
        self._folder = folder
        self._manifest: dict[str, Any] | None = None if from_sources else _manifest(folder)
        self._lock = threading.Lock()
        self._contents: dict[tuple[str, Coding | None], bytes] = {}

    @property
    def are_sources(self) -> bool:
        """Whether pages use the sources."""
        return self._manifest is None

    def page(self, name: str) -> PageFiles:
        """The files of a page.

        Args:
            name: of its style sheet in `static/css/pages`.
        """
        if self._manifest is None:
            own = f"js/{name}/{name}-page.js"
            return PageFiles(
                icon="favicon.svg",
                early="js/core/theme-early.js",
                style=f"css/pages/{name}.css",
                script=own if (self._folder / own).exists() else "js/frame/frame-page.js",
            )
        page = self._manifest["pages"][name]
        return PageFiles(
            icon=f"dist/{self._manifest['icon']}",
            early=f"dist/{self._manifest['early']}",
            style=f"dist/{page['style']}",
            script=f"dist/{page['script']}",
            preload=tuple(f"dist/{one}" for one in page["preload"]),
        )

    def content(self, name: str, coding: Coding | None) -> bytes:
        """A built file as it is sent. The first call compresses it, so not for the event loop.

        Raises:
            NotFound: there is no such file, or not any more.
            OSError: it cannot be read.
        """
        path = None if self._manifest is None else self._manifest["files"].get(name)
        if path is None:
            raise NotFound("This version of the server has no such file; reload the page.")
        with self._lock:
            if (name, coding) not in self._contents:
                content = (self._folder / path).read_bytes()
                self._contents[name, coding] = content if coding is None else compressed(content, coding)
            return self._contents[name, coding]


def install(app: Quart, folder: Path, *, from_sources: bool) -> None:
    """Have an app send these files; see `StaticFiles`."""
    files = StaticFiles(folder, from_sources=from_sources)
    if files.are_sources:
        log.info("Pages use the sources in %s; `make assets` builds what is sent otherwise.", folder)
    app.extensions[EXTENSION] = files
    app.register_blueprint(static_files)


def files_of(app: Quart) -> StaticFiles:
    """The files that an app sends."""
    found: StaticFiles = app.extensions[EXTENSION]
    return found


@static_files.get("/static/dist/<name>")
async def built(name: str) -> Response:
    """A file of `static/dist`, or a bundle of `static/vendor` under a name with a hash."""
    coding = preferred_coding(request.headers.get("Accept-Encoding", ""))
    content = await asyncio.to_thread(files_of(current_app).content, name, coding)
    response = Response(content, content_type=TYPES[name.rpartition(".")[2]])
    response.headers["Cache-Control"] = FOR_A_YEAR
    response.vary.add("Accept-Encoding")
    if coding is not None:
        response.headers["Content-Encoding"] = coding
    response.set_etag(name if coding is None else f"{name}-{coding}")
    await response.make_conditional(request)
    return response


def _manifest(folder: Path) -> dict[str, Any] | None:
    """What `frontend/build.js` has made; None if it is missing, half merged, or the sources have changed since."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "dist" / "manifest.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return manifest if manifest["sources"] == sum_of_sources(folder) else None


def sum_of_sources(folder: Path) -> str:
    """The SHA-256 over all sources, as `frontend/build.js` computes it."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = (
        f"{hashlib.sha256((folder / path).read_bytes()).hexdigest()}  {path}\n"
        for path in sorted(paths)
        if _SOURCE.fullmatch(path)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()

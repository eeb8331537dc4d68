"""The config files that running attempts read: one file a revision, written when an attempt first needs it.

A file is removed when the last attempt that reads it has ended, unless its revision was used last: a server that runs
one job after another with the same config writes it once. So there is at most one file more than running attempts. The
start removes all of them.
"""

import asyncio
import secrets
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from dropmill.model.errors import Removed
from dropmill.model.ids import Sha256
from dropmill.private import opener
from dropmill.processing.folders import remove_tree


class ConfigFiles:
    """Lends config revisions as files."""

    def __init__(self, folder: Path, text: Callable[[Sha256], Awaitable[bytes]]) -> None:
        """Touch nothing yet.

        Args:
            folder: only this class uses it.
            text: returns a revision's bytes.
        """
        self._folder = folder
        self._text = text
        self._readers: Counter[Sha256] = Counter()
        self._made: set[Sha256] = set()
        self._newest: Sha256 | None = None
        self._changing = threading.Lock()  # held while files are written or removed

    def prepare(self) -> None:
        """Create the folder, and empty it. Blocks."""
        remove_tree(self._folder)
        self._folder.mkdir(mode=0o700, parents=True)

    @asynccontextmanager
    async def lent(self, sha256: Sha256) -> AsyncIterator[Path]:
        """The path of a read-only file with a revision's bytes; it exists until the context ends.

        Raises:
            Removed: the revision was purged.
            OSError: the file cannot be written.
        """
        self._readers[sha256] += 1
        self._newest = sha256
        try:
            if sha256 not in self._made:
                await asyncio.to_thread(self._make, sha256, await self._text(sha256))
                self._made.add(sha256)
            yield self._path(sha256)
        finally:
            self._readers[sha256] -= 1
            await self.sweep()

    async def forget(self, sha256: Sha256) -> None:
        """Remove the file of a purged revision, at the latest when its last reader ends; no error if there is none."""
        if self._newest == sha256:
            self._newest = None
        if not self._readers[sha256]:  # else its last reader removes it, and it may not be written yet
            self._made.add(sha256)
        await self.sweep()

    async def forget_purged(self) -> None:
        """Do as `forget` for each file whose revision was purged, perhaps by another process.

        Raises:
            OutOfSpace, Unavailable: the ledger cannot be read now.
        """
        for sha256 in {*self._made, *([] if self._newest is None else [self._newest])}:
            try:
                await self._text(sha256)
            except Removed:
                await self.forget(sha256)

    async def sweep(self) -> int:
        """Remove files without readers; returns how many could not be removed, which the next sweep tries again."""
        unused = [sha256 for sha256 in self._made if not self._readers[sha256] and sha256 != self._newest]
        self._made.difference_update(unused)  # an attempt that starts now writes it again
        for sha256 in unused:
            del self._readers[sha256]
        if not unused:
            return 0
        left = await asyncio.to_thread(self._remove, unused)
        self._made.update(left)
        return len(left)

    def _make(self, sha256: Sha256, text: bytes) -> None:
        with self._changing:
            path = self._path(sha256)
            if path.exists():
                return
            draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")  # the final name never has partial bytes
            try:
                with open(draft, "xb", opener=opener) as file:
                    file.write(text)
                draft.chmod(0o400)
                draft.rename(path)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise

    def _remove(self, unused: list[Sha256]) -> list[Sha256]:
        left = []
        with self._changing:
            for sha256 in unused:
                if self._readers[sha256]:  # an attempt started meanwhile, and may have found the file
                    continue
                try:
                    self._path(sha256).unlink(missing_ok=True)
                except OSError:
                    left.append(sha256)
        return left

    def _path(self, sha256: Sha256) -> Path:
        return self._folder / f"{sha256}.yaml"

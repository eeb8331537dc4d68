"""Turns at resumable uploads: within this process, one request at a time works on an upload.

A request that comes second asks the first to give up, so that a dead connection never holds a file. Between processes
the ledger's fence decides.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from dropmill.intake.patching import Patch
from dropmill.model.ids import FileId
from dropmill.model.uploads import UploadState
from dropmill.ports.blobs import BlobWriter
from dropmill.ports.ledger.uploads import ResumableUpload

WRITERS_KEPT = 1000
"""Uploads whose writer is kept between two requests, with the state of its hash (some 2 KiB each). The bytes of any
other upload are read again from the beginning when it is continued."""


@dataclass(slots=True)
class Live:
    """What this process holds of one upload.

    Attributes:
        turn: held by the request that works on the upload.
        users: requests that hold the turn or wait for it.
        writer: None until it is needed, and once another process may have added bytes.
        fence: of the newest turn that this process took in the ledger; 0 before the first.
        patch: what the holder of the turn is reading; None if it reads nothing.
        finishing: stores the file, once all bytes have come; None before.
    """

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    writer: BlobWriter | None = None
    fence: int = 0
    patch: Patch | None = None
    finishing: asyncio.Task[None] | None = None

    def has_turn(self, upload: ResumableUpload) -> bool:
        """Whether no other process has added bytes to an upload, as of when it was read from the ledger."""
        return upload.state is UploadState.ANNOUNCED or upload.fence == self.fence > 0


class Turns:
    """The uploads that this process holds something of."""

    def __init__(self) -> None:
        self._live: dict[FileId, Live] = {}

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Live]:
        return iter(self._live.values())

    def get(self, file_id: FileId) -> Live | None:
        """What this process holds of an upload; None if nothing."""
        return self._live.get(file_id)

    @contextlib.asynccontextmanager
    async def turn(self, file_id: FileId, patch: Patch | None = None) -> AsyncIterator[Live]:
        """Wait for the turn at an upload, and hold it until the context ends; asks the holder to give up.

        Args:
            file_id: the upload's.
            patch: what the caller will read; the next one that wants the turn may give it up.
        """
        live = self._live.setdefault(file_id, Live())
        live.users += 1
        try:
            if live.patch is not None:
                live.patch.give_up()
            async with live.turn:
                live.patch = patch
                if patch is not None and live.users > 1:
                    patch.give_up()
                try:
                    yield live
                finally:
                    live.patch = None
        finally:
            live.users -= 1
            self.forget_idle(file_id, live)

    def forget_idle(self, file_id: FileId, live: Live) -> None:
        """Forget an upload that nobody works on, unless its writer is worth keeping."""
        if live.users or (live.finishing is not None and not live.finishing.done()):
            return
        if live.writer is None or live.finishing is not None:
            self._live.pop(file_id, None)
        elif len(self._live) > WRITERS_KEPT:
            idle = next((key for key, other in self._live.items() if not other.users and not other.finishing), None)
            if idle is not None:
                del self._live[idle]

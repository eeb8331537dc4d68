"""Bytes that nothing refers to, because the process that wrote them is gone."""

import logging
from typing import Final

from dropmill.ports.blobs import BlobStore
from dropmill.ports.ledger.submissions import IntakeLedger

log: Final = logging.getLogger(__name__)


class Leftovers:
    """Removes them: at a start, and after another process was declared gone, by whichever process declared it."""

    def __init__(self, blobs: BlobStore, ledger: IntakeLedger) -> None:
        """Expect none yet."""
        self._blobs = blobs
        self._ledger = ledger
        self._are_expected = False

    def expect(self) -> None:
        """Have the next sweep look for them."""
        self._are_expected = True

    async def sweep(self) -> int:
        """Remove what is expected; returns 0, because nothing is left then.

        Raises:
            OutOfSpace, Unavailable: the ledger or the disk fails; the next sweep tries again.
        """
        if self._are_expected:
            await self.remove()
            self._are_expected = False
        return 0

    async def remove(self) -> None:
        """Remove what no table knows and no recorded node may be about to record."""
        removed = await self._blobs.sweep(self._ledger.needed_blobs)
        async for keys in self._blobs.keys():
            for key in set(keys) - set(await self._ledger.needed_blobs(keys)):
                await self._blobs.delete(key)
                removed += 1
        if removed:
            log.info("Removed %d interrupted uploads of an earlier run.", removed)

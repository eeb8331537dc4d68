"""Bytes from an inflow to a file, by three threads: one receives, one writes, one hashes.

All three release the interpreter lock in their calls, so that the event loop goes on. `docs/decisions/lending.md` has
the figures.
"""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue

from dropmill.ports.blobs import Inflow

BLOCK_BYTES = 512 * 1024
BLOCKS = 8  # of one pump: 4 MiB

NICENESS = 10
"""Of a pump's threads, so that requests are answered first. Measured beside four uploads, p99 of a GET: 54 ms, as
before there were pumps, and 60-85 ms with 0."""


class Pump:
    """Takes from one inflow at a time. Its threads start when they are first needed, and stay."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(3, "blob-take", initializer=_be_nice)
        self._blocks: list[memoryview] = []

    def take(
        self, inflow: Inflow, limit: int, write: Callable[[memoryview], None], digest: "hashlib._Hash | None"
    ) -> Exception | None:
        """Write what comes in. Blocks; call it in one of `threads`.

        Args:
            inflow: read by the calling thread until it ends.
            limit: most bytes to take.
            write: writes a block.
            digest: updated with each block once it is written; None if something else hashes them.

        Returns:
            What the inflow raised; everything before it is written.

        Raises:
            OSError: of `write`. The inflow is stopped then, and bytes that it gave may be lost.
        """
        if not self._blocks:
            self._blocks = [memoryview(bytearray(BLOCK_BYTES)) for _ in range(BLOCKS)]
        transfer = _Transfer(self._blocks, inflow)
        hashing = self.threads.submit(transfer.hash, digest)
        writing = self.threads.submit(transfer.write, write)
        try:
            return transfer.receive(limit)
        finally:
            transfer.received.put(None)
            hashing.result()
            writing.result()


class _Transfer:
    """The blocks of one `take`, each going from thread to thread with its length; None comes behind the last one."""

    def __init__(self, blocks: list[memoryview], inflow: Inflow) -> None:
        self.free: SimpleQueue[memoryview] = SimpleQueue()
        self.received: SimpleQueue[tuple[memoryview, int] | None] = SimpleQueue()
        self.written: SimpleQueue[tuple[memoryview, int] | None] = SimpleQueue()
        self._inflow = inflow
        self._has_failed = False
        for block in blocks:
            self.free.put(block)

    def receive(self, limit: int) -> Exception | None:
        while limit:
            block = self.free.get()
            if self._has_failed:
                break
            try:
                length = self._inflow.read_into(block[:limit])
            except Exception as error:  # the lender's: an error of its connection, not of the disk
                return error
            if not length:
                break
            limit -= length
            self.received.put((block, length))
        return None

    def write(self, write: Callable[[memoryview], None]) -> None:
        try:
            while (filled := self.received.get()) is not None:
                block, length = filled
                try:
                    write(block[:length])
                except BaseException:
                    self._has_failed = True
                    self._inflow.stop()
                    self.free.put(block)  # the receiver may wait for one
                    raise
                self.written.put(filled)
        finally:
            self.written.put(None)

    def hash(self, digest: "hashlib._Hash | None") -> None:
        while (filled := self.written.get()) is not None:
            block, length = filled
            if digest is not None:
                digest.update(block[:length])
            self.free.put(block)


def _be_nice() -> None:
    with suppress(OSError):
        os.nice(NICENESS)  # on Linux, of the calling thread alone

"""A bus that remembers what was said on it. It passes the port's contract tests."""

import asyncio
from collections.abc import Mapping

from dropmill.engines.local.bus import LocalBus
from dropmill.model.ids import FileId
from dropmill.model.jobs import Progress


class FakeBus(LocalBus):
    """`dropmill.ports.bus.Bus`, with every hint of its life."""

    def __init__(self) -> None:
        super().__init__()
        self.positions: list[dict[str, int]] = []
        self.reports: list[tuple[float, Progress]] = []
        self.forgotten: list[FileId] = []

    def publish(self, positions: Mapping[str, int]) -> None:
        self.positions.append(dict(positions))
        super().publish(positions)

    def report(self, progress: Progress) -> None:
        try:
            at = asyncio.get_running_loop().time()
        except RuntimeError:  # reported by a test that needs no loop
            at = 0.0
        self.reports.append((at, progress))
        super().report(progress)

    def forget_progress(self, file_id: FileId) -> None:
        self.forgotten.append(file_id)
        super().forget_progress(file_id)

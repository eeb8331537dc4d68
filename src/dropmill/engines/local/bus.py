"""The embedded bus: hints between coroutines of one process."""

import asyncio
from collections.abc import Mapping

from dropmill.model.events import TOPIC_ALL
from dropmill.model.ids import FileId
from dropmill.model.jobs import Progress
from dropmill.ports.bus import Notification

PROGRESS_MAX = 1000  # reports kept for one slow subscriber; the oldest is dropped, which loses nothing


class Mailbox:
    """`dropmill.ports.bus.Subscription`: newest position per topic, newest report per file."""

    def __init__(self, bus: "LocalBus") -> None:
        self._bus = bus
        self._topics: set[str] = set()
        self._notification = Notification()
        self._arrived = asyncio.Event()

    def join(self, topic: str) -> None:
        self._topics.add(topic)
        self._bus.listeners.setdefault(topic, set()).add(self)

    def leave(self, topic: str) -> None:
        self._topics.discard(topic)
        listeners = self._bus.listeners.get(topic)
        if listeners is not None:
            listeners.discard(self)
            if not listeners:
                del self._bus.listeners[topic]

    async def next(self) -> Notification:
        await self._arrived.wait()
        self._arrived.clear()
        taken, self._notification = self._notification, Notification()
        return taken

    def close(self) -> None:
        for topic in list(self._topics):
            self.leave(topic)

    def notify(self, topic: str, position: int) -> None:
        """Note the new position of a topic."""
        self._notification.positions[topic] = position
        self._arrived.set()

    def notify_of_anything(self, topic: str) -> None:
        """Note that a topic may have moved, nobody knows how far."""
        self._notification.positions.setdefault(topic, 0)
        self._arrived.set()

    def notify_progress(self, progress: Progress) -> None:
        """Note a report."""
        reports = self._notification.progress
        reports[progress.file_id, progress.stage] = progress
        if len(reports) > PROGRESS_MAX:
            del reports[next(iter(reports))]
        self._arrived.set()


class LocalBus:
    """`dropmill.ports.bus.Bus` within one process. Call it from the event loop only."""

    def __init__(self) -> None:
        self.listeners: dict[str, set[Mailbox]] = {}
        self._newest: dict[tuple[FileId, str], Progress] = {}

    def publish(self, positions: Mapping[str, int]) -> None:
        for topic, position in positions.items():
            for mailbox in self.listeners.get(topic, ()):
                mailbox.notify(topic, position)

    def miss(self) -> None:
        """Have every subscriber look at all that it has joined, because notifications may have been missed."""
        for topic, mailboxes in self.listeners.items():
            for mailbox in mailboxes:
                mailbox.notify_of_anything(topic)

    def report(self, progress: Progress) -> None:
        self._newest[progress.file_id, progress.stage] = progress
        for topic in (f"submission:{progress.submission_id}", TOPIC_ALL):
            for mailbox in self.listeners.get(topic, ()):
                mailbox.notify_progress(progress)

    def newest_progress(self, file_id: FileId, stage: str) -> Progress | None:
        return self._newest.get((file_id, stage))

    def forget_progress(self, file_id: FileId) -> None:
        for stage in ("upload", "process"):
            self._newest.pop((file_id, stage), None)

    def subscribe(self) -> Mailbox:
        return Mailbox(self)

"""Which files are being sent at this moment: a request that brings their bytes is under way.

Nothing of this is stored, so a new process knows of none. Within 350 ms of a change, those who follow the submission
are notified.
"""

import asyncio
from collections.abc import Set

from dropmill.model.ids import FileId, SubmissionId
from dropmill.ports.bus import Bus, senders_of

BETWEEN_REQUESTS_S = 3.0
"""How long a file counts as being sent after a request that brought all it had declared: a sender needs a round trip
until its next request, some 0.6 s over a satellite. A request that was cut off ends at once."""

PUBLISH_EVERY_S = 0.25  # a thousand small files a second cause four notifications


class Sender:
    """One request that brings a file; it counts from `begin` until `end`.

    Attributes:
        goes_on: whether it brought all it had declared, but not the whole file: its client will send another.
    """

    def __init__(self, senders: "Senders", file_id: FileId) -> None:
        self.goes_on = False
        self._senders = senders
        self._file_id = file_id
        self._submission_id: SubmissionId | None = None

    def begin(self, submission_id: SubmissionId) -> None:
        """The request brings bytes from now on."""
        self._submission_id = submission_id
        self._senders.begin(submission_id, self._file_id)

    def end(self) -> None:
        """The request has ended. Does nothing if it never began, or has ended before."""
        submission_id, self._submission_id = self._submission_id, None
        if submission_id is not None:
            self._senders.end(submission_id, self._file_id, goes_on=self.goes_on)


class Senders:
    """The files that the requests of this process are bringing, by submission. Call it from the event loop only."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._requests: dict[SubmissionId, dict[FileId, int]] = {}
        self._leaving: dict[FileId, asyncio.TimerHandle] = {}
        self._publishing: set[SubmissionId] = set()
        self._changes = 0

    def of(self, submission_id: SubmissionId) -> Set[FileId]:
        """The files of a submission that are being sent now."""
        return frozenset(self._requests.get(submission_id, ()))

    def sender(self, file_id: FileId) -> Sender:
        """A request that will bring a file."""
        return Sender(self, file_id)

    def begin(self, submission_id: SubmissionId, file_id: FileId) -> None:
        """Count one more request that brings a file."""
        files = self._requests.setdefault(submission_id, {})
        if file_id not in files:
            self._changed(submission_id)
        elif (leaving := self._leaving.pop(file_id, None)) is not None:
            leaving.cancel()
        files[file_id] = files.get(file_id, 0) + 1

    def end(self, submission_id: SubmissionId, file_id: FileId, *, goes_on: bool) -> None:
        """Count one request less.

        Args:
            goes_on: whether the next request of its sender is expected in a moment.
        """
        files = self._requests[submission_id]
        files[file_id] -= 1
        if files[file_id]:
            return
        if goes_on:
            loop = asyncio.get_running_loop()
            self._leaving[file_id] = loop.call_later(BETWEEN_REQUESTS_S, self._forget, submission_id, file_id)
        else:
            self._forget(submission_id, file_id)

    def _forget(self, submission_id: SubmissionId, file_id: FileId) -> None:
        self._leaving.pop(file_id, None)
        files = self._requests[submission_id]
        del files[file_id]
        if not files:
            del self._requests[submission_id]
        self._changed(submission_id)

    def _changed(self, submission_id: SubmissionId) -> None:
        if submission_id not in self._publishing:
            self._publishing.add(submission_id)
            asyncio.get_running_loop().call_later(PUBLISH_EVERY_S, self._publish, submission_id)

    def _publish(self, submission_id: SubmissionId) -> None:
        self._publishing.discard(submission_id)
        self._changes += 1
        self._bus.publish({senders_of(submission_id): self._changes})

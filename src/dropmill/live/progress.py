"""The newest progress of each file, numbered, so that each subscriber gets what it has not seen, in one message."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Set
from dataclasses import dataclass

from dropmill.live.outgoing import Outgoing
from dropmill.model.events import TOPIC_ALL, Event, EventName
from dropmill.model.ids import FileId, SubmissionId
from dropmill.model.jobs import Progress
from dropmill.wire import socket

QUIET_S = 0.25  # of a file's stage, from its first report: what ends sooner needs no bar
KEPT_S = 10.0  # a report, for those who were not connected for a moment
KEPT_MAX = 1000  # reports; the oldest goes first, and loses nothing that the next one does not say

_ENDS: dict[EventName, str] = {
    EventName.UPLOAD_STORED: "upload",
    EventName.UPLOAD_ABORTED: "upload",
    EventName.ATTEMPT_SUCCEEDED: "process",
    EventName.ATTEMPT_FAILED: "process",
    EventName.ATTEMPT_CANCELLED: "process",
    EventName.ATTEMPT_LOST: "process",
}
"""The stage that an event ends."""

Key = tuple[FileId, str]


@dataclass(slots=True)
class _Recent:
    number: int
    at: float
    report: Progress


@dataclass(slots=True)
class _Begun:
    """A file's stage that has reported: since when, when last, and the newest report while it is held back."""

    since: float
    last: float
    held: Progress | None = None


class RecentProgress:
    """Numbers reports as they come, and holds them back in the first `QUIET_S` of a stage.

    Attributes:
        number: of the newest report.
    """

    def __init__(self) -> None:
        self.number = 0
        self._recent: OrderedDict[Key, _Recent] = OrderedDict()  # by number
        self._begun: OrderedDict[Key, _Begun] = OrderedDict()  # by `last`
        self._messages: dict[tuple[int, frozenset[str]], Outgoing | None] = {}

    def due_in(self) -> float | None:
        """In how many seconds a report that was held back may be sent; None if there is none."""
        held = [begun.since for begun in self._begun.values() if begun.held is not None]
        return max(0.0, min(held) + QUIET_S - _now()) if held else None

    def take(self, reports: Iterable[Progress]) -> Set[SubmissionId]:
        """Take new reports, and those whose time has come.

        Returns:
            The submissions with reports that may be sent now.
        """
        now = _now()
        for report in reports:
            key = report.file_id, report.stage
            begun = self._begun.setdefault(key, _Begun(now, now))
            begun.last, begun.held = now, report
            self._begun.move_to_end(key)
        due = [key for key, begun in self._begun.items() if begun.held is not None and now >= begun.since + QUIET_S]
        self._messages.clear()
        submissions = set()
        for key in due:
            found, self._begun[key].held = self._begun[key].held, None
            if found is not None:
                self.number += 1
                self._recent[key] = _Recent(self.number, now, found)
                self._recent.move_to_end(key)
                submissions.add(found.submission_id)
        self._forget_old(now)
        return submissions

    def forget_ended(self, event: Event) -> None:
        """Forget the reports of a stage that an event ends: the event says more."""
        stage = _ENDS.get(event.name)
        if stage is not None and event.subject.file_id is not None:
            key = event.subject.file_id, stage
            self._begun.pop(key, None)
            self._recent.pop(key, None)

    def message(self, seen: int, topics: frozenset[str]) -> Outgoing | None:
        """The newest reports after a number, of some topics; None if there are none.

        Args:
            seen: the number.
            topics: those that were joined.
        """
        key = seen, topics
        if key not in self._messages:
            found = []
            for recent in reversed(self._recent.values()):
                if recent.number <= seen:
                    break
                if TOPIC_ALL in topics or f"submission:{recent.report.submission_id}" in topics:
                    found.append(recent.report)
            self._messages[key] = Outgoing(socket.progress(reversed(found))) if found else None
        return self._messages[key]

    def _forget_old(self, now: float) -> None:
        while self._recent:
            oldest = next(iter(self._recent.values()))
            if len(self._recent) <= KEPT_MAX and oldest.at > now - KEPT_S:
                break
            self._recent.popitem(last=False)
        while len(self._begun) > KEPT_MAX:
            self._begun.popitem(last=False)


def _now() -> float:
    return asyncio.get_running_loop().time()

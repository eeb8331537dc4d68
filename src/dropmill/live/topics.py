"""The only door to topics and output streams: sockets, long polls and event streams come in here, with their caller.

`Topics.authorise` answers with a `Topic`, and `Topics.output` with an `AttemptOutput`. Events and output are read
through these alone, and a mailbox joins nothing else, so nobody follows what was not authorised. Nothing is refused
yet but what does not exist.
"""

from dropmill.live.views import Views
from dropmill.model.caller import Caller
from dropmill.model.errors import NotFound
from dropmill.model.events import TOPIC_ALL, TOPIC_CONFIG
from dropmill.model.ids import Cursor, JobId, SubmissionId
from dropmill.model.jobs import AttemptState, Job
from dropmill.model.output import OutputChunk
from dropmill.ports.bus import Bus, Notification, Subscription
from dropmill.ports.ledger.events import EventLedger, EventPage, FeedLedger
from dropmill.ports.ledger.history import JobReader
from dropmill.ports.outputs import OutputReader
from dropmill.wire.submissions import SubmissionJson

SUBMISSION = "submission:"
OUTPUT = "output:"


class Topic:
    """A topic that its caller may follow; made by `Topics.authorise`.

    Attributes:
        name: such as `all` or `submission:<id>`.
    """

    def __init__(
        self, caller: Caller, name: str, submission_id: SubmissionId | None, ledger: EventLedger, views: Views
    ):
        self.name = name
        self._caller = caller
        self._submission_id = submission_id
        self._ledger = ledger
        self._views = views

    async def events(self, *, after: Cursor, limit: int) -> EventPage:
        """The events behind a cursor, in cursor order."""
        return await self._ledger.events(self.name, after=after, limit=limit)

    async def snapshot(self) -> tuple[SubmissionJson | None, Cursor]:
        """How things stand, and the cursor to go on from; None where a topic is nothing but its events.

        Raises:
            NotFound: the submission is no longer there.
        """
        if self._submission_id is None:
            return None, await self._ledger.newest_cursor()
        return await self._views.submission(self._caller, self._submission_id)


class AttemptOutput:
    """The output of one attempt, which its caller may read; made by `Topics.output`.

    Attributes:
        name: as a stream that is joined, `output:<job_id>`.
        job: as it was when it was asked for.
        number: of the attempt; None as long as the job has none.
    """

    def __init__(self, job: Job, number: int | None, ledger: JobReader, outputs: OutputReader) -> None:
        self.name = OUTPUT + job.id
        self.job = job
        self.number = number
        self._ledger = ledger
        self._outputs = outputs

    async def read(self, start: int, limit: int) -> OutputChunk | None:
        """At most `limit` bytes from byte `start` on; None as long as the job has no attempt."""
        if self.number is None:
            job = await self._ledger.job(self.job.id)
            if not job.attempts:
                return None
            self.number = job.attempts[-1].number
        return await self._outputs.read(self.job.id, self.number, start, limit)

    async def is_over(self) -> bool:
        """Whether the attempt writes no more; the ledger is who knows."""
        job = await self._ledger.job(self.job.id)
        states = [attempt.state for attempt in job.attempts if attempt.number == self.number]
        return AttemptState.RUNNING not in states


class Mailbox:
    """What moved of the topics and streams that one caller follows; the newest only, as `ports.Subscription`."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def join(self, place: Topic | AttemptOutput) -> None:
        """Hear of it from now on."""
        self._subscription.join(place.name)

    def leave(self, name: str) -> None:
        """Hear no more of it."""
        self._subscription.leave(name)

    async def next(self) -> Notification:
        """Wait until something moved, then take it all."""
        return await self._subscription.next()

    def close(self) -> None:
        """Hear nothing more."""
        self._subscription.close()


class Topics:
    """Lets callers in."""

    def __init__(self, *, ledger: FeedLedger, bus: Bus, views: Views, outputs: OutputReader) -> None:
        self._ledger = ledger
        self._bus = bus
        self._views = views
        self._outputs = outputs

    async def newest(self, caller: Caller) -> Cursor:
        """The cursor of this moment: who follows from here gets what happens from now on."""
        return await self._ledger.newest_cursor()

    async def authorise(self, caller: Caller, name: str) -> Topic:
        """The topic of this name, if the caller may follow it.

        Raises:
            NotFound: there is none, which is also what a caller hears of one that is not theirs.
        """
        submission_id = None
        if name.startswith(SUBMISSION):
            submission_id = SubmissionId(name.removeprefix(SUBMISSION))
            await self._ledger.view_submission(submission_id, limit=1)
        elif name not in (TOPIC_ALL, TOPIC_CONFIG):
            raise NotFound("There is no such topic.")
        return Topic(caller, name, submission_id, self._ledger, self._views)

    async def output(self, caller: Caller, job_id: JobId, attempt: int | None) -> AttemptOutput:
        """The output of an attempt, if the caller may read it.

        Args:
            caller: who asks.
            job_id: whose.
            attempt: its number; None is the newest, or the first one once there is one.

        Raises:
            NotFound: there is no such job or attempt.
        """
        job = await self._ledger.job(job_id)
        numbers = [each.number for each in job.attempts]
        if attempt is None:
            attempt = max(numbers, default=None)
        elif attempt not in numbers:
            raise NotFound("The job has no such attempt.")
        return AttemptOutput(job, attempt, self._ledger, self._outputs)

    def mailbox(self) -> Mailbox:
        """A mailbox that has joined nothing yet."""
        return Mailbox(self._bus.subscribe())

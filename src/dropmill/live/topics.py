"""The only way to topics and output streams, for sockets, long polls and event streams alike, each with its caller.

`Topics.authorise` returns a `Topic`, and `Topics.output` an `AttemptOutput`. Only these read events and output, and a
mailbox joins nothing else, so no one can follow anything without authorisation. So far only what does not exist is
refused.
"""

from collections.abc import Set

from dropmill.live.views import Views
from dropmill.model.caller import Caller
from dropmill.model.errors import NotFound
from dropmill.model.events import TOPIC_ALL, TOPIC_CONFIG
from dropmill.model.ids import Cursor, FileId, JobId, LedgerId, SubmissionId
from dropmill.model.jobs import AttemptState, Job
from dropmill.model.output import OutputChunk
from dropmill.ports.bus import Bus, Notification, Subscription, senders_of
from dropmill.ports.ledger.events import EventPage, FeedLedger
from dropmill.ports.ledger.history import JobReader
from dropmill.ports.outputs import OutputReader
from dropmill.wire.submissions import SubmissionJson

SUBMISSION = "submission:"
OUTPUT = "output:"


class Topic:
    """A topic that its caller may follow; made by `Topics.authorise`.

    Attributes:
        name: such as `all` or `submission:<id>`.
        senders_stream: moves when `senders` changes; None unless the topic is a submission's.
    """

    def __init__(self, caller: Caller, name: str, submission_id: SubmissionId | None, ledger: FeedLedger, views: Views):
        self.name = name
        self.senders_stream = None if submission_id is None else senders_of(submission_id)
        self._caller = caller
        self._submission_id = submission_id
        self._ledger = ledger
        self._views = views

    async def events(self, *, after: Cursor, limit: int) -> EventPage:
        """The events after a cursor, in cursor order."""
        return await self._ledger.events(self.name, after=after, limit=limit)

    async def events_before(self, *, before: Cursor, limit: int) -> EventPage:
        """The last events before a cursor, in cursor order."""
        return await self._ledger.events_before(self.name, before=before, limit=limit)

    async def snapshot(self) -> tuple[SubmissionJson | None, Cursor]:
        """The current state, and the cursor to follow from. The state is None for a topic that consists of events only.

        Raises:
            NotFound: the submission no longer exists.
        """
        if self._submission_id is None:
            return None, await self._ledger.newest_cursor()
        return await self._views.submission(self._caller, self._submission_id)

    def senders(self) -> Set[FileId]:
        """The files of the submission that are being sent now; none for another topic."""
        return frozenset() if self._submission_id is None else self._views.senders(self._caller, self._submission_id)


class AttemptOutput:
    """The output of one attempt, which its caller may read; made by `Topics.output`.

    Attributes:
        name: of the stream, `output:<job_id>`.
        job: as it was when `Topics.output` returned.
        number: of the attempt; None until the job has one.
    """

    def __init__(self, job: Job, number: int | None, ledger: JobReader, outputs: OutputReader) -> None:
        self.name = OUTPUT + job.id
        self.job = job
        self.number = number
        self._ledger = ledger
        self._outputs = outputs

    async def read(self, start: int, limit: int) -> OutputChunk | None:
        """At most `limit` bytes from byte `start` on; None until the job has an attempt."""
        if self.number is None:
            job = await self._ledger.job(self.job.id)
            if not job.attempts:
                return None
            self.number = job.attempts[-1].number
        return await self._outputs.read(self.job.id, self.number, start, limit)

    async def is_over(self) -> bool:
        """Whether the attempt has ended, by the ledger."""
        job = await self._ledger.job(self.job.id)
        states = [attempt.state for attempt in job.attempts if attempt.number == self.number]
        return AttemptState.RUNNING not in states


class Mailbox:
    """Notifications about the topics and streams that one caller follows; only the newest of each is kept."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    def join(self, place: Topic | AttemptOutput) -> None:
        """Get notifications of it from now on."""
        self._subscription.join(place.name)

    def join_senders(self, topic: Topic) -> None:
        """Get notifications of who sends its files, too."""
        if topic.senders_stream is not None:
            self._subscription.join(topic.senders_stream)

    def leave(self, place: Topic | AttemptOutput) -> None:
        """Get no more notifications of it."""
        self._subscription.leave(place.name)
        if isinstance(place, Topic) and place.senders_stream is not None:
            self._subscription.leave(place.senders_stream)

    async def next(self) -> Notification:
        """Wait for a notification; it covers everything since the last one."""
        return await self._subscription.next()

    def close(self) -> None:
        """Leave everything."""
        self._subscription.close()


class Topics:
    """Authorises callers to follow topics and output."""

    def __init__(self, *, ledger: FeedLedger, bus: Bus, views: Views, outputs: OutputReader) -> None:
        self._ledger = ledger
        self._bus = bus
        self._views = views
        self._outputs = outputs

    @property
    def ledger_id(self) -> LedgerId:
        """Whose cursors these are."""
        return self._ledger.id

    async def newest(self, caller: Caller) -> Cursor:
        """The current cursor: following from it returns what happens from now on."""
        return await self._ledger.newest_cursor()

    async def authorise(self, caller: Caller, name: str) -> Topic:
        """The topic of this name, if the caller may follow it.

        Raises:
            NotFound: it does not exist, or the caller may not follow it.
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
            caller: who reads it.
            job_id: of the job.
            attempt: its number; None means the newest, or the first one once it exists.

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
        """A mailbox that has not joined anything yet."""
        return Mailbox(self._bus.subscribe())

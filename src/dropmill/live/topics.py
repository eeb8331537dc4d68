"""The only way to topics and output streams, for sockets, long polls and event streams alike, each with its caller.

`Topics.authorise` returns a `Topic`, and `Topics.output` an `AttemptOutput`. Only these read events and output, and the
feed follows nothing else, so no one can follow anything without authorisation. What a caller may not follow does not
exist for it.
"""

from collections import OrderedDict
from collections.abc import Sequence, Set
from dataclasses import replace

from dropmill.access.policy import Action, Policy, visible_to
from dropmill.access.refusals import Refusals
from dropmill.live.guests import View, event_as_seen, view_of
from dropmill.live.views import Views
from dropmill.model.caller import Caller
from dropmill.model.errors import NotFound
from dropmill.model.events import OWN_TOPIC, TOPIC_ALL, TOPIC_AUDIT, TOPIC_CONFIG, Event
from dropmill.model.ids import Cursor, FileId, JobId, LedgerId, Owner, SubmissionId
from dropmill.model.jobs import AttemptState, Job
from dropmill.model.output import OutputChunk
from dropmill.ports.bus import senders_of
from dropmill.ports.ledger.events import EventPage, FeedLedger
from dropmill.ports.ledger.history import JobReader
from dropmill.ports.outputs import OutputReader
from dropmill.wire.submissions import SubmissionJson

KNOWN_MAX = 10_000  # submissions that somebody is known to see; a client that polls asks four times a second

SHARED_TOPICS = frozenset({TOPIC_ALL, TOPIC_AUDIT, TOPIC_CONFIG})
SUBMISSION = "submission:"
OUTPUT = "output:"


class Topic:
    """A topic that its caller may follow; made by `Topics.authorise`.

    Attributes:
        name: such as `all` or `submission:<id>`.
        view: what of it the caller may see.
        senders_stream: moves when `senders` changes; None unless the topic is a submission's.
    """

    def __init__(
        self,
        caller: Caller,
        name: str,
        view: View,
        submission_id: SubmissionId | None,
        ledger: FeedLedger,
        views: Views,
    ) -> None:
        self.name = name
        self.view = view
        self.senders_stream = None if submission_id is None else senders_of(submission_id)
        self._caller = caller
        self._submission_id = submission_id
        self._ledger = ledger
        self._views = views

    @property
    def has_presence(self) -> bool:
        """Whether those who follow it hear of each other. Visitors of a link neither hear nor are heard of."""
        return self.view is View.FULL and (self._submission_id is not None or self.name == TOPIC_CONFIG)

    async def events(self, *, after: Cursor, limit: int) -> EventPage:
        """The events after a cursor, in cursor order; a page without any is the last one."""
        is_cut = False
        while True:
            page = await self._ledger.events(self.name, after=after, limit=limit)
            is_cut = is_cut or page.is_cut
            seen = self._seen(page.events)
            if seen or not page.events:
                return replace(page, events=seen, is_cut=is_cut)
            after = page.cursor

    async def page(self, *, after: Cursor, of_ledger: str | None, limit: int) -> EventPage:
        """The events after a client's cursor.

        Args:
            after: the cursor. What a client knows by one from the future is of no use here: there are no events then,
                the newest cursor, and `is_cut` is true.
            of_ledger: whose cursor it is, None: this one's. One of another ledger is of no use either.
            limit: most events.
        """
        if of_ledger in (None, self._ledger.id):
            page = await self.events(after=after, limit=limit)
            if page.events or after <= await self._ledger.newest_cursor():
                return page
        return EventPage(events=(), cursor=await self._ledger.newest_cursor(), is_cut=True)

    async def events_before(self, *, before: Cursor, limit: int) -> EventPage:
        """The last events before a cursor, in cursor order; a page without any is the oldest one."""
        while True:
            page = await self._ledger.events_before(self.name, before=before, limit=limit)
            seen = self._seen(page.events)
            if seen or not page.cursor:
                return replace(page, events=seen)
            before = page.cursor

    def _seen(self, events: Sequence[Event]) -> Sequence[Event]:
        if self.view is View.FULL:
            return events
        return [seen for event in events if (seen := event_as_seen(event, self.view)) is not None]

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


class Topics:
    """Authorises callers to follow topics and output."""

    def __init__(
        self, *, ledger: FeedLedger, views: Views, outputs: OutputReader, policy: Policy, refusals: Refusals
    ) -> None:
        self._policy = policy
        self._refusals = refusals
        self._ledger = ledger
        self._views = views
        self._outputs = outputs
        # What was found for whom, the least recent one first.
        self._known: OrderedDict[tuple[SubmissionId, Owner | None], None] = OrderedDict()

    @property
    def of_ledger(self) -> LedgerId:
        """Id of the ledger whose cursors these are."""
        return self._ledger.id

    async def require_answer(self) -> None:
        """Return if the ledger can be read.

        Raises:
            OutOfSpace, Unavailable: it cannot be read now.
        """
        await self._ledger.newest_cursor()

    async def newest(self, caller: Caller) -> Cursor:
        """The current cursor: following from it returns what happens from now on."""
        return await self._ledger.newest_cursor()

    def widest(self, caller: Caller) -> str:
        """The topic that carries all that a caller may hear of: `all`, or what is about its own things."""
        owner = visible_to(caller)
        return TOPIC_ALL if owner is None else owner

    async def authorise(self, caller: Caller, name: str) -> Topic:
        """The topic of this name, if the caller may follow it.

        Raises:
            NotFound: it does not exist, or the caller may not follow it.
        """
        submission_id = None
        if name.startswith(SUBMISSION):
            submission_id = SubmissionId(name.removeprefix(SUBMISSION))
            await self._require(caller, submission_id)
        elif not self._may_follow(caller, name):
            if name in SHARED_TOPICS or OWN_TOPIC.fullmatch(name):  # a guess at a name is no more than that
                self._refusals.note_forbidden(caller, f"TOPIC {name.partition(':')[0]}")
            raise NotFound("There is no such topic.")
        return Topic(caller, name, self.view_of(caller, name), submission_id, self._ledger, self._views)

    def view_of(self, caller: Caller, name: str) -> View:
        """What a caller gets to see of a topic, if it may follow it."""
        if caller.link is not None:
            return view_of(caller)
        if name == TOPIC_CONFIG:
            return View.FULL if self._policy.may(caller, Action.SEE_AUTHORS) else View.GUEST
        is_of_others = name == TOPIC_ALL or (OWN_TOPIC.fullmatch(name) is not None and name != caller.owner)
        return View.WORK if is_of_others and not self._policy.may(caller, Action.READ_AUDIT) else View.FULL

    def _may_follow(self, caller: Caller, name: str) -> bool:
        if name == TOPIC_ALL:
            return self._policy.may(caller, Action.FOLLOW_ALL)
        if name == TOPIC_CONFIG:
            return self._policy.may(caller, Action.READ_CONFIG)
        if name == TOPIC_AUDIT:
            return self._policy.may(caller, Action.READ_AUDIT)
        return OWN_TOPIC.fullmatch(name) is not None and self._policy.may(caller, Action.READ, Owner(name))

    async def _require(self, caller: Caller, submission_id: SubmissionId) -> None:
        """Return if the caller may see the submission; none ever ceases to exist, or changes hands."""
        if not self._policy.may(caller, Action.READ):
            raise NotFound("There is no such submission.")
        owner = visible_to(caller)
        if (submission_id, owner) not in self._known:
            await self._ledger.view_submission(submission_id, limit=1, visible_to=owner)
            self._known[submission_id, owner] = None
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
        self._known.move_to_end((submission_id, owner))

    async def output(self, caller: Caller, job_id: JobId, attempt: int | None) -> AttemptOutput:
        """The output of an attempt, if the caller may read it.

        Args:
            caller: who reads it.
            job_id: of the job.
            attempt: its number; None means the newest, or the first one once it exists.

        Raises:
            NotFound: there is no such job or attempt, or the caller may not see it.
        """
        if not self._policy.may(caller, Action.READ_RESULTS):
            raise NotFound("There is no such job.")
        job = await self._ledger.job(job_id, visible_to=visible_to(caller))
        numbers = [each.number for each in job.attempts]
        if attempt is None:
            attempt = max(numbers, default=None)
        elif attempt not in numbers:
            raise NotFound("The job has no such attempt.")
        return AttemptOutput(job, attempt, self._ledger, self._outputs)

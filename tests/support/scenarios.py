"""Steps of a file's story, told to a ledger, and what a ledger must tell of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from dropmill.model.caller import Authentication, Caller, Role, Scope
from dropmill.model.client import ClientIdentity
from dropmill.model.events import DATA_KEYS, Event
from dropmill.model.ids import (
    OPEN,
    Cursor,
    FileId,
    JobId,
    LinkId,
    Owner,
    Sha256,
    SubmissionId,
    VisitId,
    new_file_id,
    new_job_id,
    new_node_id,
    new_submission_id,
)
from dropmill.model.jobs import AttemptOutcome, AttemptSpec, AttemptState, Claim, JobError
from dropmill.model.nodes import Node
from dropmill.model.submissions import Counts
from dropmill.model.uploads import AbortCause, StoredBlob
from dropmill.ports.ledger import Ledger
from dropmill.ports.ledger.uploads import WholeFile

LIVENESS_S = 20.0  # for what takes milliseconds on an idle machine
CLIENT = ClientIdentity(ip="192.0.2.7", user_agent="curl/8.5")
CALLER = Caller.everyone(CLIENT)
GUEST = Caller(
    client=CLIENT,
    role=Role.VIEWER,
    scopes=frozenset({Scope.READ}),
    credential=VisitId("0" * 32),
    link=LinkId("0" * 32),
    authentication=Authentication.LINK,
)
FAR_FUTURE = datetime(2100, 1, 1, tzinfo=UTC)
SUCCEEDED = AttemptOutcome(state=AttemptState.SUCCEEDED, exit_code=0, value={"lines": 3}, output_size=7)
FAILED = AttemptOutcome(
    state=AttemptState.FAILED, exit_code=1, error=JobError(type="ValueError", message="no such column"), output_size=9
)
CANCELLED = AttemptOutcome(state=AttemptState.CANCELLED, exit_code=-15)


def node(host: str = "here", lock: str = "the lock") -> Node:
    """A process of its own."""
    return Node(id=new_node_id(), host=host, lock=lock)


def blob(content: bytes = b"content\n", extension: str = ".txt") -> StoredBlob:
    """A blob that a store might have committed."""
    digest = hashlib.sha256(content).hexdigest()
    return StoredBlob(key=new_file_id() + extension, size=len(content), sha256=Sha256(digest))


async def save(ledger: Ledger, text: bytes = b"a: 1\n") -> Sha256:
    """A config revision behind the newest one."""
    newest = await ledger.newest_revision()
    base = None if newest is None else newest.sha256
    saved = await ledger.save_revision(text, base=base, client=None, account=None, message=None)
    return saved.sha256


async def opened(
    ledger: Ledger, client: ClientIdentity = CLIENT, account: str | None = None, owner: Owner = OPEN
) -> SubmissionId:
    """A new, open submission."""
    submission_id = new_submission_id()
    await ledger.open_submission(submission_id, client, account, owner=owner)
    return submission_id


async def receiving(ledger: Ledger, submission_id: SubmissionId, path: str = "folder/a.txt") -> FileId:
    """A file on its way in."""
    file_id = new_file_id()
    await ledger.start_upload(file_id, submission_id, path.rpartition("/")[2], path, None)
    return file_id


async def queued(ledger: Ledger, submission_id: SubmissionId, path: str = "folder/a.txt") -> JobId:
    """A stored file whose job waits."""
    job_id = new_job_id()
    await ledger.store_upload(await receiving(ledger, submission_id, path), blob(), job_id)
    return job_id


def whole(submission_id: SubmissionId, path: str = "folder/a.txt", file_id: FileId | None = None) -> WholeFile:
    """A new file, or an announced one."""
    return WholeFile(
        file_id=new_file_id() if file_id is None else file_id,
        submission_id=submission_id,
        name=path.rpartition("/")[2],
        path=path,
        blob=blob(path.encode()),
        job_id=new_job_id(),
        is_announced=file_id is not None,
    )


async def claimed(ledger: Ledger) -> AttemptSpec:
    """The attempt that is next, started."""
    [order] = await ledger.claim(Claim())
    return order


async def in_line(ledger: Ledger) -> Sequence[JobId]:
    """Every waiting job, in the order of places; claims nothing."""
    ids: list[JobId] = []
    before: str | None = None
    while True:
        page = await ledger.jobs(before=before, limit=500, state="queued")
        ids.extend(job.id for job in page.items)
        before = page.next
        if before is None:
            break
    places = await ledger.places(ids)
    assert sorted(places.values()) == list(range(1, len(places) + 1))
    return sorted(places, key=places.__getitem__)


async def running(ledger: Ledger, submission_id: SubmissionId, path: str = "folder/a.txt") -> JobId:
    """A job whose first attempt runs. Nothing else may be waiting."""
    job_id = await queued(ledger, submission_id, path)
    assert (await claimed(ledger)).job_id == job_id
    return job_id


async def settled(ledger: Ledger, submission_id: SubmissionId, outcome: AttemptOutcome = SUCCEEDED) -> JobId:
    """A job that has had one attempt. Nothing else may be waiting."""
    job_id = await running(ledger, submission_id)
    assert await ledger.end_attempt(job_id, 1, outcome)
    return job_id


async def settle_one(ledger: Ledger, submission_id: SubmissionId) -> JobId:
    """Queue a job, and run the one that is next to its end: among several callers it may be another one's."""
    await queued(ledger, submission_id)
    order = await claimed(ledger)
    assert await ledger.end_attempt(order.job_id, order.number, SUCCEEDED)
    return order.job_id


async def all_events(ledger: Ledger, topic: str = "all") -> Sequence[Event]:
    """Every event of a topic; on `all` the cursors are 1, 2, 3, ..., and each event has the catalogue's keys."""
    found: list[Event] = []
    while page := (await ledger.events(topic, after=found[-1].cursor if found else Cursor(0), limit=500)).events:
        found.extend(page)
    for event in found:
        assert set(event.data) == set(DATA_KEYS[event.name]), event
        assert topic in event.topics
    cursors = [event.cursor for event in found]
    assert cursors == (list(range(1, len(found) + 1)) if topic == "all" else sorted(set(cursors)))
    return found


async def names(ledger: Ledger, topic: str = "all") -> list[str]:
    """The names of a topic's events."""
    return [event.name.value for event in await all_events(ledger, topic)]


async def recount(ledger: Ledger, submission_id: SubmissionId) -> Counts:
    """A submission's counts, counted from its files; the ledger's own counters must say the same."""
    causes: list[AbortCause | None] = []
    counted = dict.fromkeys(asdict(Counts()), 0)
    after: str | None = None
    while True:
        view = await ledger.view_submission(submission_id, after=after, limit=100)
        for file in view.files:
            counted[file.state if file.job is None else file.job.state] += 1
            causes.append(file.cause)
        after = view.files_next
        if after is None:
            break
    counts = Counts(**counted)
    assert view.submission.counts == counts
    assert view.submission.given_up == causes.count(AbortCause.CANCELLED)
    assert view.submission.replaced == causes.count(AbortCause.REPLACED)
    return counts

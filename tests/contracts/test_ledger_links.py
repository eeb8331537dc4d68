"""Links, whose is what is sent by them, and how much that may be; on every database."""

import asyncio
import hashlib
from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.contracts.announced import upload_to
from tests.contracts.ledgers import LedgerEngine
from tests.support import scenarios
from tests.support.scenarios import CLIENT

from dropmill.engines.sql import links as sql_links
from dropmill.model.accounts import Account, AccountChange
from dropmill.model.by import By
from dropmill.model.caller import Role
from dropmill.model.client import ClientIdentity
from dropmill.model.clock import utc_now
from dropmill.model.errors import IdempotencyMismatch, LinkEnded, LinkUsedUp, NotFound
from dropmill.model.events import EventName
from dropmill.model.ids import (
    BrowserKey,
    Cursor,
    LinkId,
    Owner,
    Sha256,
    SubmissionId,
    new_account_id,
    new_job_id,
    new_link_id,
    new_submission_id,
    new_visit_id,
)
from dropmill.model.links import Link, LinkKind, LinkLimits, LinkState, LinkUsage, Visit, only, sender_of
from dropmill.model.quotas import Limits
from dropmill.model.uploads import AbortCause
from dropmill.ports.ledger import Ledger
from dropmill.ports.ledger.links import LinkLock
from dropmill.ports.ledger.submissions import RequestKey

BY = By(account="Ada", client=CLIENT)
VISITOR = ClientIdentity(ip="203.0.113.9", user_agent="Phone")


def sha256(text: str) -> Sha256:
    return Sha256(hashlib.sha256(text.encode()).hexdigest())


async def maker(ledger: Ledger, role: Role = Role.OPERATOR, name: str = "Ada") -> Account:
    account = Account(id=new_account_id(), name=name, role=role, created_at=utc_now())
    await ledger.add_account(account, "hash", BY)
    return account


def link_of(account: Account | None, **values: Any) -> Link:
    now = utc_now()
    given = {
        "kind": LinkKind.REQUEST,
        "owner": Owner("browser:" + "b" * 64) if account is None else account.owner,
        "made_by": None if account is None else account.name,
        "account_id": None if account is None else account.id,
        "label": "Drawings",
        "made_at": now,
        "expires_at": now + timedelta(days=1),
        **values,
    }
    return Link(id=new_link_id(), **given)


async def made(ledger: Ledger, account: Account | None, **values: Any) -> Link:
    link = link_of(account, **values)
    await ledger.add_link(link, LinkLock(secret=sha256(link.id)), BY)
    return link


async def entered(ledger: Ledger, link: Link, browser: str = "one", name: str | None = None) -> Owner:
    """A browser that has entered a link: who it is as a sender."""
    key = BrowserKey(sha256(browser + link.id))
    visit = Visit(id=new_visit_id(), link_id=link.id, key=key, name=name, began_at=utc_now(), client=VISITOR)
    await ledger.begin_visit(visit)
    return sender_of(link.id, key)


async def opened(ledger: Ledger, sender: Owner, key: RequestKey | None = None) -> SubmissionId:
    return await ledger.open_submission(new_submission_id(), VISITOR, None, is_announced=True, key=key, owner=sender)


async def used(ledger: Ledger, link: Link) -> LinkUsage:
    found = await ledger.link(link.id)
    assert found is not None
    return replace(found.usage, visits=0)


async def refused(*changes: Awaitable[object]) -> int:
    """How many of some changes that are made at once the link's limits refuse."""
    found = await asyncio.gather(*changes, return_exceptions=True)
    assert all(isinstance(each, LinkUsedUp) for each in found if isinstance(each, BaseException)), found
    return sum(isinstance(each, LinkUsedUp) for each in found)


# --- links and visits ------------------------------------------------------------------------------------------------


async def test_a_link_is_found_with_everything_that_was_said_of_it(empty: Ledger) -> None:
    ada = await maker(empty)
    link = link_of(
        ada,
        text="Two\nlines",
        asks_name=True,
        shows_results=True,
        has_passphrase=True,
        limits=LinkLimits(files=3, size=2**40, submissions=1),
    )
    lock = LinkLock(secret=sha256("secret"), passphrase_hash="a hash")
    await empty.add_link(link, lock, BY)
    assert await empty.link(link.id) == link
    assert await empty.lock_of(link.id) == (link, lock)
    assert await empty.link(new_link_id()) is None
    assert await empty.lock_of(LinkId("no link")) is None


async def test_links_are_listed_newest_first_and_only_to_their_owner(empty: Ledger) -> None:
    ada, bob = await maker(empty), await maker(empty, name="Bob")
    first, second, other = await made(empty, ada), await made(empty, ada), await made(empty, bob)
    everything = await empty.links(before=None, limit=2)
    assert everything.items == [other, second]
    assert (await empty.links(before=everything.next, limit=2)).items == [first]
    assert (await empty.links(before=None, limit=9, visible_to=ada.owner)).items == [second, first]
    assert (await empty.links(before=None, limit=9, visible_to=await entered(empty, first))).items == []


async def test_a_result_link_needs_a_submission_that_its_maker_sees(ledger: Ledger) -> None:
    ada, bob = await maker(ledger), await maker(ledger, name="Bob")
    submission_id = await scenarios.opened(ledger, owner=ada.owner)
    link = link_of(ada, kind=LinkKind.RESULT, submission_id=submission_id, shows_results=True)
    with pytest.raises(NotFound):
        await ledger.add_link(link, LinkLock(secret=sha256("s")), BY, visible_to=bob.owner)
    assert await ledger.link(link.id) is None
    await ledger.add_link(link, LinkLock(secret=sha256("s")), BY, visible_to=ada.owner)
    assert await ledger.link(link.id) == link


async def test_a_link_ends_when_it_is_revoked_or_expires_or_its_maker_may_make_none_any_more(empty: Ledger) -> None:
    ada = await maker(empty, Role.ADMIN)
    bob = await maker(empty, name="Bob")
    link = await made(empty, bob)
    soon = await made(empty, bob, expires_at=utc_now() - timedelta(seconds=1))
    assert (link.state(utc_now()), soon.state(utc_now())) == (LinkState.LIVE, LinkState.EXPIRED)

    async def states() -> set[LinkState]:
        return {each.state(utc_now()) for each in (await empty.links(before=None, limit=9)).items if each.id == link.id}

    for change, undo in (
        (AccountChange(role=Role.VIEWER), AccountChange(role=Role.OPERATOR)),
        (AccountChange(is_disabled=True), AccountChange(is_disabled=False)),
    ):
        await empty.change_account(bob.id, change, BY)
        assert await states() == {LinkState.REVOKED}
        await empty.change_account(bob.id, undo, BY)
        assert await states() == {LinkState.LIVE}
    with pytest.raises(NotFound):
        await empty.revoke_link(link.id, BY, visible_to=ada.owner)
    await empty.revoke_link(link.id, BY, visible_to=bob.owner)
    assert await states() == {LinkState.REVOKED}
    with pytest.raises(NotFound):
        await empty.revoke_link(link.id, BY)
    with pytest.raises(NotFound):
        await entered(empty, link)
    with pytest.raises(NotFound):
        await entered(empty, soon)


async def test_a_visit_is_found_by_its_secret_and_counted(empty: Ledger) -> None:
    link = await made(empty, await maker(empty))
    sender = await entered(empty, link, name="Grace")
    key = Sha256(sender.rpartition(":")[2])
    found = await empty.visit_by(key)
    assert found is not None
    visit, its_link = found
    assert (visit.name, visit.client.ip, visit.link_id) == ("Grace", VISITOR.ip, link.id)
    assert its_link.usage.visits == 1
    assert its_link.last_used_at == visit.began_at
    assert await empty.links_of([visit.id, new_visit_id()]) == {visit.id: its_link}
    assert await empty.visit_by(sha256("another")) is None


async def test_a_link_keeps_its_newest_visits(empty: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_links, "_TOO_OLD", sql_links._TOO_OLD.offset(2))
    link, other = await made(empty, None), await made(empty, None)
    await entered(empty, other)
    senders = [await entered(empty, link, browser) for browser in "abcd"]
    found = [await empty.visit_by(Sha256(sender.rpartition(":")[2])) is not None for sender in senders]
    assert found == [False, False, True, True]
    assert await empty.visit_by(sha256("one" + other.id)) is not None


async def test_visits_are_dropped_some_time_after_their_link_has_ended(empty: Ledger) -> None:
    now = utc_now()
    revoked, ends = await made(empty, None), await made(empty, None)
    keys = [Sha256((await entered(empty, link)).rpartition(":")[2]) for link in (revoked, ends)]
    await empty.revoke_link(revoked.id, BY)
    for days, kept in ((2, [False, True]), (29, [False, True]), (40, [False, False])):
        await made(empty, None, made_at=now + timedelta(days=days), expires_at=now + timedelta(days=99))
        assert [await empty.visit_by(key) is not None for key in keys] == kept, days


async def test_what_happens_to_links_is_told_to_their_owner_and_is_in_the_audit(ledger: Ledger) -> None:
    ada = await maker(ledger)
    submission_id = await scenarios.opened(ledger, owner=ada.owner)
    link = await made(ledger, ada, kind=LinkKind.RESULT, submission_id=submission_id)
    await entered(ledger, link, name="Grace")
    await ledger.revoke_link(link.id, BY)
    wanted = [EventName.LINK_MADE, EventName.LINK_USED, EventName.LINK_REVOKED]
    for topic in (ada.owner, "all", "audit"):
        page = await ledger.events(topic, after=Cursor(0), limit=99)
        told = [event for event in page.events if event.name in wanted]
        assert [event.name for event in told] == wanted, topic
    of_submission = await scenarios.names(ledger, f"submission:{submission_id}")
    assert not [name for name in of_submission if name.startswith("link.")]
    made_event, used_event, revoked = told
    assert made_event.data["submission"] == submission_id
    assert (used_event.data["said_name"], used_event.subject.client) == ("Grace", VISITOR)
    assert revoked.data["by"] == "Ada"
    assert "links" in revoked.topics


# --- whose is what was sent ------------------------------------------------------------------------------------------


async def test_what_is_sent_by_a_link_belongs_to_its_maker_and_its_sender_sees_it(ledger: Ledger) -> None:
    ada, bob = await maker(ledger), await maker(ledger, name="Bob")
    link = await made(ledger, ada)
    one, two = await entered(ledger, link, "one", "Grace"), await entered(ledger, link, "two")
    submission_id = await opened(ledger, one)
    job_id = await scenarios.queued(ledger, submission_id)
    file_id = (await ledger.job(job_id)).file_id

    view = await ledger.view_submission(submission_id, limit=9, visible_to=ada.owner)
    assert view.submission.by_link is not None
    assert (view.submission.by_link.id, view.submission.by_link.label) == (link.id, "Drawings")
    assert (view.submission.by_link.name, view.submission.account) == ("Grace", None)
    assert (await ledger.totals(visible_to=ada.owner)).submissions == 1
    for event in await scenarios.all_events(ledger, f"submission:{submission_id}"):
        assert event.owner == ada.owner

    def reads(who: Owner) -> list[Awaitable[Any]]:
        return [
            ledger.view_submission(submission_id, limit=9, visible_to=who),
            ledger.job(job_id, visible_to=who),
            ledger.file(file_id, visible_to=who),
            ledger.submission_usage(submission_id, visible_to=who),
        ]

    for who in (ada.owner, one, only(submission_id)):
        await asyncio.gather(*reads(who))
        assert [s.id for s in (await ledger.submissions(before=None, limit=9, visible_to=who)).items] == [submission_id]
        assert [j.id for j in (await ledger.jobs(before=None, limit=9, visible_to=who)).items] == [job_id]
    for who in (bob.owner, two, only(new_submission_id()), sender_of(new_link_id(), BrowserKey("0" * 64))):
        found = await asyncio.gather(*reads(who), return_exceptions=True)
        assert all(isinstance(each, NotFound) for each in found)
        assert not (await ledger.submissions(before=None, limit=9, visible_to=who)).items
        assert not (await ledger.jobs(before=None, limit=9, visible_to=who)).items
        assert (await ledger.totals(visible_to=who)).submissions == 0
    with pytest.raises(NotFound):
        await ledger.request_cancel(job_id, visible_to=two)


async def test_senders_and_the_maker_may_use_the_same_idempotency_key(ledger: Ledger) -> None:
    ada = await maker(ledger)
    link = await made(ledger, ada, limits=LinkLimits(submissions=2))
    one, two = await entered(ledger, link, "one"), await entered(ledger, link, "two")
    key = RequestKey(text="1", fingerprint="f" * 64)
    by = [await opened(ledger, who, key) for who in (ada.owner, one, two)]
    assert len(set(by)) == 3
    for submission_id in by:
        await scenarios.queued(ledger, submission_id)
    assert [await opened(ledger, who, key) for who in (ada.owner, one, two)] == by  # though the link is used up
    with pytest.raises(IdempotencyMismatch):
        await opened(ledger, one, RequestKey(text="1", fingerprint="0" * 64))
    with pytest.raises(LinkUsedUp):
        await opened(ledger, one, RequestKey(text="2", fingerprint="f" * 64))


async def test_a_result_link_sends_nothing(ledger: Ledger) -> None:
    ada = await maker(ledger)
    link = await made(ledger, ada, kind=LinkKind.RESULT, submission_id=await scenarios.opened(ledger, owner=ada.owner))
    with pytest.raises(LinkEnded):
        await opened(ledger, await entered(ledger, link))


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [2, 20])
async def test_of_submissions_at_once_as_many_are_opened_as_the_limit_allows(ledger: Ledger, at_once: int) -> None:
    link = await made(ledger, await maker(ledger), limits=LinkLimits(submissions=1))
    senders = [await entered(ledger, link, str(number)) for number in range(at_once)]
    assert await refused(*(opened(ledger, sender) for sender in senders)) == at_once - 1
    assert await used(ledger, link) == LinkUsage(submissions=1)


async def test_a_submission_without_a_stored_file_does_not_count(ledger: Ledger) -> None:
    link = await made(ledger, await maker(ledger), limits=LinkLimits(submissions=1))
    sender = await entered(ledger, link)
    for _ in range(2):
        submission_id = await opened(ledger, sender)
        file_id = await scenarios.receiving(ledger, submission_id)
        await ledger.seal_submission(submission_id)
        await ledger.abort_upload(file_id, AbortCause.CUT_OFF, "cut")
        assert await used(ledger, link) == LinkUsage()
    await ledger.seal_submission(await opened(ledger, sender))
    submission_id = await opened(ledger, sender)
    await scenarios.queued(ledger, submission_id)
    await ledger.seal_submission(submission_id)
    with pytest.raises(LinkUsedUp):
        await opened(ledger, sender)


async def test_files_count_from_their_beginning_until_they_are_aborted(ledger: Ledger) -> None:
    link = await made(ledger, await maker(ledger), limits=LinkLimits(files=2))
    submission_id = await opened(ledger, await entered(ledger, link))
    first = await scenarios.receiving(ledger, submission_id)
    assert await refused(*(scenarios.receiving(ledger, submission_id) for _ in range(5))) == 4
    assert (await used(ledger, link)).files == 2
    before = await scenarios.recount(ledger, submission_id)
    with pytest.raises(LinkUsedUp) as error:
        await ledger.announce_uploads([upload_to(submission_id)])
    assert error.value.extra == {"reason": "files", "limit": 2}
    with pytest.raises(LinkUsedUp):
        await ledger.store_files([scenarios.whole(submission_id)])
    assert await scenarios.recount(ledger, submission_id) == before
    await ledger.abort_upload(first, AbortCause.CUT_OFF, "cut")
    await ledger.store_files([scenarios.whole(submission_id)])
    assert (await used(ledger, link)).files == 2


async def test_the_last_byte_counts_once_for_whatever_is_sent_at_once(ledger: Ledger) -> None:
    size = scenarios.blob().size
    link = await made(ledger, await maker(ledger), limits=LinkLimits(size=3 * size + size - 1))
    senders = [await entered(ledger, link, str(number)) for number in range(6)]
    submissions = [await opened(ledger, sender) for sender in senders]
    arriving = [await scenarios.receiving(ledger, each) for each in submissions]
    assert (await used(ledger, link)).size == 0
    stored = (ledger.store_upload(file_id, scenarios.blob(), new_job_id()) for file_id in arriving)
    assert await refused(*stored) == 3
    assert (await used(ledger, link)).size == 3 * size
    for submission_id in submissions:
        await scenarios.recount(ledger, submission_id)


async def test_announced_bytes_count_at_once_and_exactly(ledger: Ledger) -> None:
    link = await made(ledger, await maker(ledger), limits=LinkLimits(size=100))
    submission_id = await opened(ledger, await entered(ledger, link))
    big = replace(upload_to(submission_id), size=100)
    unknown = replace(upload_to(submission_id), size=None)
    await ledger.announce_uploads([unknown])
    await ledger.announce_uploads([big])
    assert await used(ledger, link) == LinkUsage(files=2, size=100, submissions=1)
    with pytest.raises(LinkUsedUp):
        await ledger.announce_uploads([replace(upload_to(submission_id), size=1)])
    fence = await ledger.take_upload(unknown.file_id)
    with pytest.raises(LinkUsedUp):  # its client says the size only now
        await ledger.extend_upload(unknown.file_id, size=1, received=0, expires_at=None, fence=fence)
    await ledger.abort_upload(big.file_id, AbortCause.CANCELLED, "given up")
    assert await used(ledger, link) == LinkUsage(files=1, size=0, submissions=1)
    await ledger.extend_upload(unknown.file_id, size=100, received=7, expires_at=None, fence=fence)
    await ledger.extend_upload(unknown.file_id, size=100, received=9, expires_at=None, fence=fence)
    assert (await used(ledger, link)).size == 100
    await ledger.store_upload(unknown.file_id, replace(scenarios.blob(), size=100), new_job_id(), fence=fence)
    assert await used(ledger, link) == LinkUsage(files=1, size=100, submissions=1)


async def test_what_is_removed_to_keep_the_disk_free_counts_on(ledger: Ledger) -> None:
    link = await made(ledger, await maker(ledger))
    submission_id = await opened(ledger, await entered(ledger, link))
    await scenarios.settled(ledger, submission_id)
    await ledger.seal_submission(submission_id)
    view = await ledger.view_submission(submission_id, limit=1)
    before = await used(ledger, link)
    assert view.submission.settled_at is not None
    assert before.files == 1
    assert before.size > 0
    assert await ledger.begin_removal(submission_id, view.submission.settled_at)
    await ledger.end_removal(submission_id)
    assert await used(ledger, link) == before


async def test_other_submissions_are_counted_for_no_link(ledger: Ledger) -> None:
    ada = await maker(ledger)
    link = await made(ledger, ada, limits=LinkLimits(files=0, size=0, submissions=0))
    await scenarios.queued(ledger, await scenarios.opened(ledger, owner=ada.owner))
    assert await used(ledger, link) == LinkUsage()


async def test_whoever_sends_by_a_link_does_not_learn_what_its_maker_may_have(engine: LedgerEngine) -> None:
    ledger = await engine.open(limits=Limits(storage=20, submissions_a_day=2))
    await scenarios.save(ledger)
    link = await made(ledger, await maker(ledger))
    submission_id = await opened(ledger, await entered(ledger, link))
    with pytest.raises(LinkUsedUp) as error:
        await ledger.announce_uploads([replace(upload_to(submission_id), size=21)])
    assert error.value.extra == {"reason": "maker", "limit": None}
    assert "2" not in error.value.detail
    await opened(ledger, await entered(ledger, link, "two"))
    with pytest.raises(LinkUsedUp) as error:
        await opened(ledger, await entered(ledger, link, "three"))
    assert error.value.extra == {"reason": "maker", "limit": None}
    assert (await used(ledger, link)).submissions == 2


# --- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_nothing_new_is_taken_after_the_end_and_what_arrives_only_after_an_expiry(
    ledger: Ledger, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await made(ledger, await maker(ledger))
    sender = await entered(ledger, link)
    submission_id = await opened(ledger, sender)
    waiting = upload_to(submission_id)
    await ledger.announce_uploads([waiting])
    arriving = await scenarios.receiving(ledger, submission_id)
    if end == "revoked":
        await ledger.revoke_link(link.id, BY)
    else:
        monkeypatch.setattr(sql_links, "utc_now", lambda: link.expires_at)
    new: list[Awaitable[Any]] = [
        opened(ledger, sender),
        ledger.announce_uploads([upload_to(submission_id)]),
        scenarios.receiving(ledger, submission_id),
    ]
    for each in await asyncio.gather(*new, return_exceptions=True):
        assert isinstance(each, LinkEnded)
    assert await ledger.unsealed_by_links(link.expires_at, limit=9) == [submission_id]
    if end == "revoked":
        with pytest.raises(LinkEnded):
            await ledger.begin_upload(waiting.file_id)
        with pytest.raises(LinkEnded):
            await ledger.store_upload(arriving, scenarios.blob(), new_job_id())
        await ledger.abort_upload(arriving, AbortCause.REFUSED, "revoked")
    else:
        await ledger.store_upload(arriving, scenarios.blob(), new_job_id())
    await ledger.seal_submission(submission_id, AbortCause.EXPIRED)
    assert await ledger.unsealed_by_links(link.expires_at, limit=9) == []
    await scenarios.recount(ledger, submission_id)


async def test_submissions_of_live_links_are_not_sealed(ledger: Ledger) -> None:
    ada = await maker(ledger)
    await opened(ledger, await entered(ledger, await made(ledger, ada)))
    await opened(ledger, ada.owner)
    assert not await ledger.unsealed_by_links(utc_now(), limit=9)


async def test_links_outlive_the_process(engine: LedgerEngine) -> None:
    ledger = await engine.open()
    await scenarios.save(ledger)
    link = await made(ledger, await maker(ledger))
    sender = await entered(ledger, link)
    submission_id = await opened(ledger, sender)
    again = await engine.open()
    assert (await again.view_submission(submission_id, limit=1, visible_to=sender)).submission.by_link is not None
    assert await again.link(link.id) is not None

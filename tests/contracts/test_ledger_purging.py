"""What every ledger promises about texts that are purged from the config's history."""

import asyncio
from collections.abc import Sequence

import pytest
from tests.support import scenarios
from tests.support.scenarios import CLIENT, FAILED, names

from dropmill.model.config import ConfigRevision
from dropmill.model.errors import ConfigConflict, NotFound, Removed, RevisionInUse
from dropmill.model.ids import Sha256
from dropmill.ports.ledger import Ledger

SECRET = b"token: swordfish\n"
FIXED = b"token: 'in the environment'\n"


async def leaked(ledger: Ledger) -> Sha256:
    """A revision with a secret, behind which there is another."""
    sha256 = await scenarios.save(ledger, SECRET)
    await scenarios.save(ledger, FIXED)
    return sha256


async def history(ledger: Ledger) -> Sequence[ConfigRevision]:
    return (await ledger.revisions(before=None, limit=100)).items


async def test_a_purged_text_is_gone_and_what_is_known_of_it_stays(ledger: Ledger) -> None:
    sha256 = await leaked(ledger)
    before = await history(ledger)
    await ledger.purge_revision(sha256, CLIENT, "ada")
    with pytest.raises(Removed, match=r"removed on \d{4}-\d\d-\d\d"):
        await ledger.revision_text(sha256)
    after = await history(ledger)
    assert [revision.purged_at is not None for revision in after] == [False, True, False]
    assert [(r.sha256, r.size, r.saved_at, r.number) for r in after] == [
        (r.sha256, r.size, r.saved_at, r.number) for r in before
    ]
    assert await ledger.revision_text(after[0].sha256) == FIXED
    event = (await scenarios.all_events(ledger, "config"))[-1]
    assert (event.name, event.data) == ("config.purged", {"sha256": sha256})
    assert (event.subject.client, event.subject.account) == (CLIENT, "ada")


async def test_every_revision_that_held_the_text_loses_it(ledger: Ledger) -> None:
    sha256 = await leaked(ledger)
    await leaked(ledger)
    await ledger.purge_revision(sha256, None, None)
    assert [r.purged_at is not None for r in await history(ledger)] == [False, True, False, True, False]
    assert (await names(ledger, "config")).count("config.purged") == 1


async def test_purging_twice_is_no_error_and_is_told_once(ledger: Ledger) -> None:
    sha256 = await leaked(ledger)
    await asyncio.gather(*(ledger.purge_revision(sha256, None, None) for _ in range(3)))
    assert (await names(ledger)).count("config.purged") == 1


async def test_what_cannot_be_purged_changes_nothing(ledger: Ledger) -> None:
    sha256 = await leaked(ledger)
    newest = await ledger.newest_revision()
    assert newest is not None
    told = await names(ledger)
    with pytest.raises(NotFound):
        await ledger.purge_revision(Sha256("0" * 64), None, None)
    with pytest.raises(RevisionInUse, match="save another text"):
        await ledger.purge_revision(newest.sha256, None, None)
    await scenarios.save(ledger, SECRET)  # restored: the newest again
    with pytest.raises(RevisionInUse, match="save another text"):
        await ledger.purge_revision(sha256, None, None)
    assert await ledger.revision_text(sha256) == SECRET
    assert await names(ledger) == [*told, "config.saved"]


async def test_jobs_that_wait_or_run_keep_their_text(ledger: Ledger) -> None:
    sha256 = await scenarios.save(ledger, SECRET)
    submission_id = await scenarios.opened(ledger)
    failed = await scenarios.settled(ledger, submission_id, FAILED)
    running = await scenarios.running(ledger, submission_id)
    queued = await scenarios.queued(ledger, submission_id)
    await scenarios.save(ledger, FIXED)
    with pytest.raises(RevisionInUse, match=r"use this revision \(2\)") as caught:
        await ledger.purge_revision(sha256, None, None)
    assert caught.value.extra == {"jobs": 2}
    await ledger.request_cancel(queued)
    with pytest.raises(RevisionInUse, match=r"\(1\)"):
        await ledger.purge_revision(sha256, None, None)
    assert await ledger.lose_attempt(running, 1, 5) == "queued"
    order = await scenarios.claimed(ledger)
    assert await ledger.revision_text(order.config.sha256) == SECRET
    assert await ledger.end_attempt(running, 2, FAILED)
    await ledger.retry_job(failed)  # with the newest config, so it is bound to the old one no more
    await ledger.purge_revision(sha256, None, None)
    assert [attempt.config_revision for attempt in (await ledger.job(running)).attempts] == [sha256, sha256]


async def test_a_purged_text_can_be_saved_again_and_purged_again(ledger: Ledger) -> None:
    sha256 = await leaked(ledger)
    await ledger.purge_revision(sha256, None, None)
    assert await scenarios.save(ledger, SECRET) == sha256
    assert await ledger.revision_text(sha256) == SECRET
    with pytest.raises(ConfigConflict):  # and no base is confused by it
        await ledger.save_revision(b"", base=None, client=None, account=None, message=None)
    await scenarios.save(ledger, FIXED)
    await ledger.purge_revision(sha256, None, None)
    with pytest.raises(Removed):
        await ledger.revision_text(sha256)
    assert (await names(ledger)).count("config.purged") == 2


async def test_an_empty_text_is_a_text_until_it_is_purged(ledger: Ledger) -> None:
    sha256 = await scenarios.save(ledger, b"")
    await scenarios.save(ledger, FIXED)
    assert await ledger.revision_text(sha256) == b""
    await ledger.purge_revision(sha256, None, None)
    with pytest.raises(Removed):
        await ledger.revision_text(sha256)

"""Who is behind a link's cookie, and what ends with the link; over a real ledger and bus."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from tests.support import scenarios
from tests.support.scenarios import CALLER, CLIENT
from tests.support.waiting import eventually

from dropmill.access import visits as visits_module
from dropmill.access.links import Entered, Links, NewLink
from dropmill.access.passwords import Passwords
from dropmill.access.refusals import Refusals
from dropmill.access.visits import Visits
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.accounts import Account, AccountChange, owner_of
from dropmill.model.by import THIS_MACHINE
from dropmill.model.caller import Authentication, Caller, Role, Scope
from dropmill.model.clock import utc_now
from dropmill.model.errors import NotFound
from dropmill.model.ids import LinkId, Sha256, new_account_id
from dropmill.model.links import Link, Visit, link_in, only


class Access:
    """All of it over one ledger."""

    def __init__(self, ledger: SqliteLedger, bus: LocalBus) -> None:
        self.ledger = ledger
        passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        self.links = Links(ledger, passwords, Refusals(ledger))
        self.visits = Visits(ledger=ledger, bus=bus)

    async def entered(self, by: Caller = CALLER, wanted: NewLink | None = None) -> Entered:
        link, secret = await self.links.make(by, wanted or NewLink(label="Drawings"))
        return await self.links.enter(CLIENT, link.id, secret)

    async def caller(self, entered: Entered) -> Caller | None:
        entry = await self.visits.by_cookie(entered.link.id, entered.secret or "")
        return None if entry is None else entry.caller(CLIENT)


@pytest.fixture
async def access(ledger: SqliteLedger, bus: LocalBus) -> AsyncIterator[Access]:
    made = Access(ledger, bus)
    running = asyncio.create_task(made.visits.run())
    yield made
    running.cancel()
    await asyncio.wait([running])


async def operator(ledger: SqliteLedger) -> Caller:
    account = Account(id=new_account_id(), name="ada", role=Role.OPERATOR, created_at=utc_now())
    await ledger.add_account(account, "hash", THIS_MACHINE)
    return replace(
        CALLER, account="ada", account_id=account.id, owner=owner_of(account.id), role=Role.OPERATOR,
        authentication=Authentication.TOKEN,
    )  # fmt: skip


async def test_a_visitor_is_a_viewer_who_owns_nothing(access: Access) -> None:
    sender = await access.caller(await access.entered())
    assert sender is not None
    assert (sender.role, sender.scopes, sender.account) == (Role.VIEWER, frozenset({Scope.SEND, Scope.READ}), None)
    assert (sender.authentication, sender.sees_results) == (Authentication.LINK, False)
    assert link_in(sender.owner) is not None
    submission_id = await scenarios.opened(access.ledger)
    looker = await access.caller(await access.entered(wanted=NewLink(label=None, submission_id=submission_id)))
    assert looker is not None
    assert (looker.scopes, looker.owner, looker.sees_results) == (frozenset({Scope.READ}), only(submission_id), True)


async def test_a_cookie_is_for_its_link_alone(access: Access) -> None:
    one, other = await access.entered(), await access.entered()
    assert await access.visits.by_cookie(one.link.id, one.secret or "") is not None
    for link_id, secret in (
        (other.link.id, one.secret or ""),
        (one.link.id, ""),
        (one.link.id, "x" * 43),
        (LinkId("0" * 32), one.secret or ""),
    ):
        assert await access.visits.by_cookie(link_id, secret) is None


async def test_what_is_known_is_read_once_until_something_changes(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, other = await access.entered(), await access.entered()
    reads: list[str] = []
    visit_by = access.ledger.visit_by

    async def counted(secret: Sha256) -> tuple[Visit, Link] | None:
        reads.append("read")
        return await visit_by(secret)

    monkeypatch.setattr(access.ledger, "visit_by", counted)
    for _ in range(5):
        assert await access.caller(entered) is not None
    assert len(reads) == 1
    await access.links.revoke(CALLER, other.link.id)
    await eventually(lambda: not access.visits._known)
    assert await access.caller(entered) is not None
    assert len(reads) == 2


@contextlib.asynccontextmanager
async def held(access: Access, caller: Caller, *, outlives_expiry: bool = False) -> AsyncIterator[asyncio.Event]:
    ended = asyncio.Event()

    async def end() -> None:
        ended.set()

    with access.visits.held(caller, end, outlives_expiry=outlives_expiry):
        yield ended


@pytest.mark.parametrize("is_body", [False, True], ids=["socket", "body"])
async def test_a_revocation_ends_what_is_open_of_this_link_alone(access: Access, is_body: bool) -> None:
    entered, other = await access.entered(), await access.entered()
    caller, stays = await access.caller(entered), await access.caller(other)
    assert caller is not None
    assert stays is not None
    async with held(access, caller, outlives_expiry=is_body) as ended, held(access, stays) as not_ended:
        await access.links.revoke(CALLER, entered.link.id)
        await ended.wait()
        assert not not_ended.is_set()
    assert await access.caller(entered) is None
    with pytest.raises(NotFound):
        await access.links.live(entered.link.id)


async def test_a_revocation_between_the_look_up_and_the_opening_counts(access: Access) -> None:
    entered = await access.entered()
    caller = await access.caller(entered)
    assert caller is not None
    await access.links.revoke(CALLER, entered.link.id)
    await eventually(lambda: not access.visits._known)
    async with held(access, caller) as ended:
        await ended.wait()


async def test_an_expiry_ends_what_is_open_but_no_body_that_arrives(access: Access) -> None:
    entered = await access.entered(wanted=NewLink(label="x", expires_in_s=0.5))
    caller = await access.caller(entered)
    assert caller is not None
    async with held(access, caller) as ended, held(access, caller, outlives_expiry=True) as not_ended:
        await ended.wait()
        assert utc_now() >= entered.link.expires_at
        assert not not_ended.is_set()
    assert await access.caller(entered) is None


@pytest.mark.parametrize("change", [AccountChange(role=Role.VIEWER), AccountChange(is_disabled=True)], ids=str)
async def test_what_is_open_ends_with_the_makers_right_to_make_links(access: Access, change: AccountChange) -> None:
    ada = await operator(access.ledger)
    entered = await access.entered(ada)
    caller = await access.caller(entered)
    assert caller is not None
    assert ada.account_id is not None
    async with held(access, caller) as ended:
        await access.ledger.change_account(ada.account_id, change, THIS_MACHINE)
        await ended.wait()
    assert await access.caller(entered) is None


async def test_a_revocation_by_another_process_is_heard(access: Access, tmp_path: Path) -> None:
    entered = await access.entered()
    caller = await access.caller(entered)
    assert caller is not None
    other = SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None)
    await other.open(without_lock=True)
    try:
        async with held(access, caller) as ended:
            await other.revoke_link(entered.link.id, THIS_MACHINE)
            await ended.wait()
    finally:
        await other.close()


async def test_no_more_visits_are_remembered_than_the_limit(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits_module, "KNOWN_MAX", 2)
    entered = [await access.entered() for _ in range(4)]
    for each in entered:
        assert await access.caller(each) is not None
    assert len(access.visits._known) == len(access.visits._fresh) == 2

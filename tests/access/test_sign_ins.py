"""Sessions and tokens over a real ledger and bus: who is found, and what ends when that changes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from tests.support.scenarios import CLIENT
from tests.support.waiting import eventually

from dropmill.access import known_browsers
from dropmill.access import sign_ins as sign_ins_module
from dropmill.access.accounts import Accounts
from dropmill.access.passwords import Passwords
from dropmill.access.proxy import Claim
from dropmill.access.refusals import Refusals
from dropmill.access.secrets import digest
from dropmill.access.sessions import Sessions, SignedIn
from dropmill.access.sign_ins import SignIn, SignIns, VouchedInVain
from dropmill.access.tokens import Tokens
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.accounts import Account, Identity, owner_of
from dropmill.model.caller import EVERY_SCOPE, Authentication, Caller, Role, Scope
from dropmill.model.clock import utc_now
from dropmill.model.errors import BadRequest, Forbidden, NotFound, TooManyAttempts, WrongCredentials
from dropmill.model.events import Event, EventName, RefusalReason, SignOutReason
from dropmill.model.ids import Cursor
from dropmill.model.internal import Internal

PASSWORD = "correct horse battery"
WHO = Internal.COMMAND_LINE


class Access:
    """All of it over one ledger."""

    def __init__(self, ledger: SqliteLedger, bus: LocalBus) -> None:
        self.ledger = ledger
        self.passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        self.accounts = Accounts(ledger, self.passwords)
        self.refusals = Refusals(ledger)
        self.sessions = Sessions(ledger, self.passwords, self.refusals, idle_s=3600, lifetime_s=7200)
        self.tokens = Tokens(ledger)
        self.sign_ins = SignIns(ledger=ledger, bus=bus, idle_s=3600)

    async def added(self, name: str = "Ada", role: Role = Role.VIEWER) -> Account:
        return await self.accounts.add(WHO, name, role, PASSWORD)

    async def signed_in(self, name: str = "Ada") -> SignedIn:
        return await self.sessions.sign_in(CLIENT, name, PASSWORD)

    async def caller(self, signed_in: SignedIn) -> Caller:
        found = await self.sign_ins.by_session(signed_in.secret)
        assert found is not None
        return caller_of(found)


def caller_of(found: SignIn) -> Caller:
    return Caller(
        client=CLIENT,
        account=found.account.name,
        account_id=found.account.id,
        credential=found.credential,
        expires_at=found.expires_at,
        owner=owner_of(found.account.id),
        role=found.account.role,
        scopes=found.scopes,
        authentication=found.authentication,
    )


class Line:
    """A connection: whether it was ended."""

    def __init__(self) -> None:
        self.is_ended = asyncio.Event()

    async def end(self) -> None:
        self.is_ended.set()


@pytest.fixture
async def access(ledger: SqliteLedger, bus: LocalBus) -> AsyncIterator[Access]:
    made = Access(ledger, bus)
    running = asyncio.create_task(made.sign_ins.run())
    await asyncio.sleep(0)
    await made.added("root", Role.ADMIN)
    yield made
    running.cancel()
    await asyncio.wait([running])
    made.passwords.close()


# --- signing in ------------------------------------------------------------------------------------------------------


async def test_who_signs_in_is_found_by_the_secret(access: Access) -> None:
    ada = await access.added()
    signed_in = await access.sessions.sign_in(CLIENT, " ADA ", PASSWORD)
    found = await access.sign_ins.by_session(signed_in.secret)
    assert found is not None
    assert (found.account.id, found.credential, found.scopes) == (ada.id, signed_in.session.id, EVERY_SCOPE)
    assert await access.sign_ins.by_session(signed_in.secret) is found  # from memory
    assert await access.sign_ins.by_session(signed_in.secret[:-1] + "x") is None
    assert await access.sign_ins.by_token(signed_in.secret) is None


@pytest.mark.parametrize(("name", "password"), [("Ada", "wrong password"), ("Bob", PASSWORD), ("\ud800", "\ud800")])
async def test_a_wrong_name_and_a_wrong_password_are_refused_alike(access: Access, name: str, password: str) -> None:
    await access.added()
    with pytest.raises(WrongCredentials, match="The name or the password is wrong"):
        await access.sessions.sign_in(CLIENT, name, password)


async def test_a_disabled_account_is_refused_like_a_wrong_password(access: Access) -> None:
    ada = await access.added()
    await access.accounts.change(WHO, ada.id, is_disabled=True)
    with pytest.raises(WrongCredentials, match="The name or the password is wrong"):
        await access.signed_in()


async def test_who_guesses_has_to_wait_also_with_the_right_password(access: Access) -> None:
    await access.added()
    for _ in range(5):
        with pytest.raises(WrongCredentials):
            await access.sessions.sign_in(CLIENT, "Ada", "wrong password")
    with pytest.raises(TooManyAttempts) as caught:
        await access.signed_in()
    assert caught.value.extra == {"retry_after": 1}
    await access.refusals.record()
    events = (await access.ledger.events("all", after=Cursor(0), limit=50)).events
    refused = [event for event in events if event.name is EventName.ACCOUNT_REFUSED]
    assert [event.data for event in refused] == [
        {"reason": "wrong_password", "count": 5, "route": None},
        {"reason": "throttled", "count": 1, "route": None},
    ]
    assert [(event.subject.account, event.subject.client) for event in refused] == [("Ada", CLIENT)] * 2


async def test_who_has_signed_in_before_gets_in_while_others_fail_with_the_name(access: Access) -> None:
    """Also at the same address. A mark of another account, and of an older password, is worth nothing."""
    ada = await access.added()
    await access.added("Bob")
    mine, others = await access.signed_in(), await access.signed_in("Bob")
    older = mine.mark
    mine_now = await access.caller(mine)
    mark = await access.sessions.change_password(mine_now, PASSWORD, "another password")

    async def guessed(**shown: str | None) -> None:
        with pytest.raises((WrongCredentials, TooManyAttempts)):
            await access.sessions.sign_in(CLIENT, "Ada", "wrong password", **shown)

    for _ in range(8):
        await guessed()
    for worthless in (others.mark, older, mark[:-1] + ("0" if mark[-1] != "0" else "1"), "x", ""):
        with pytest.raises(TooManyAttempts):
            await access.sessions.sign_in(CLIENT, "Ada", "another password", mark=worthless)
    signed_in = await access.sessions.sign_in(CLIENT, "Ada", "another password", mark=mark)
    assert signed_in.account.id == ada.id
    for _ in range(5):
        await guessed(mark=signed_in.mark)
    with pytest.raises(TooManyAttempts):
        await access.sessions.sign_in(CLIENT, "Ada", "another password", mark=signed_in.mark)
    await access.sessions.sign_in(CLIENT, "Ada", "another password", mark=mark)


async def test_a_weak_hash_is_replaced_when_its_password_is_known(access: Access) -> None:
    ada = await access.added()
    strong = Passwords(PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    sessions = Sessions(access.ledger, strong, access.refusals, idle_s=60, lifetime_s=60)
    mark = (await sessions.sign_in(CLIENT, "Ada", PASSWORD)).mark
    known = await access.ledger.password_of("Ada")
    assert known is not None
    assert known[0].id == ada.id
    assert not strong.is_weak(known[1])
    assert known_browsers.number_of(mark, ada.id, known[1]) is not None
    await sessions.sign_in(CLIENT, "Ada", PASSWORD)
    strong.close()


async def test_a_one_time_link_makes_the_first_admin_once(tmp_path: Path, bus: LocalBus) -> None:
    ledger = SqliteLedger(tmp_path / "other.sqlite", bus.publish)
    await ledger.open()
    access = Access(ledger, bus)
    assert not await access.sessions.offers_first()
    secret = await access.sessions.offer_first()
    assert secret is not None
    with pytest.raises(WrongCredentials):
        await access.sessions.sign_in_first(CLIENT, secret[:-1] + "_", "Ada", PASSWORD)
    with pytest.raises(BadRequest):
        await access.sessions.sign_in_first(CLIENT, secret, "Ada", "short")
    assert await access.sessions.offers_first()
    signed_in = await access.sessions.sign_in_first(CLIENT, secret, " Ada ", PASSWORD)
    assert (signed_in.account.name, signed_in.account.role) == ("Ada", Role.ADMIN)
    assert await access.sign_ins.by_session(signed_in.secret) is not None
    assert not await access.sessions.offers_first()
    with pytest.raises(WrongCredentials):
        await access.sessions.sign_in_first(CLIENT, secret, "Bob", PASSWORD)
    assert await access.sessions.offer_first() is None
    access.passwords.close()
    await ledger.close()


async def test_a_one_time_link_is_not_offered_once_the_command_line_has_made_an_account(
    tmp_path: Path, bus: LocalBus
) -> None:
    ledger = SqliteLedger(tmp_path / "other.sqlite", bus.publish)
    await ledger.open()
    access = Access(ledger, bus)
    assert await access.sessions.offer_first() is not None
    await access.added(role=Role.ADMIN)
    assert not await access.sessions.offers_first()
    access.passwords.close()
    await ledger.close()


async def test_a_one_time_link_is_worth_nothing_once_there_is_an_account(access: Access) -> None:
    for account in await access.accounts.list(WHO):
        assert account.name == "root"
    access.sessions._first = None
    assert await access.sessions.offer_first() is None


# --- what ends -------------------------------------------------------------------------------------------------------


async def test_whoever_signed_out_is_not_found_any_more_and_its_connections_end(access: Access) -> None:
    await access.added()
    signed_in, other = await access.signed_in(), await access.signed_in()
    caller, another = await access.caller(signed_in), await access.caller(other)
    line, kept = Line(), Line()
    with access.sign_ins.held(caller, line.end), access.sign_ins.held(another, kept.end):
        await access.sessions.sign_out(caller)
        await asyncio.wait_for(line.is_ended.wait(), 20)
        assert await access.sign_ins.by_session(signed_in.secret) is None
        assert await access.sign_ins.by_session(other.secret) is not None
        assert not kept.is_ended.is_set()
    await access.sessions.sign_out(caller)  # does nothing


@pytest.mark.parametrize("what", ["disable", "remove", "role", "password", "end", "revoke"])
async def test_a_connection_ends_whatever_ends_the_right_to_it(access: Access, what: str) -> None:
    ada = await access.added()
    caller = await access.caller(await access.signed_in())
    token, secret = await access.tokens.make_for(WHO, ada)
    by_token = await access.sign_ins.by_token(secret)
    assert by_token is not None
    line = Line()
    with access.sign_ins.held(caller_of(by_token) if what == "revoke" else caller, line.end):
        match what:
            case "disable":
                await access.accounts.change(WHO, ada.id, is_disabled=True)
            case "remove":
                await access.accounts.remove(WHO, ada.id)
            case "role":
                await access.accounts.change(WHO, ada.id, role=Role.OPERATOR)
            case "password":
                await access.accounts.change(WHO, ada.id, password="another password")
            case "end":
                assert caller.session_id is not None
                await access.sessions.end(caller, caller.session_id)
            case "revoke":
                await access.tokens.revoke_any(WHO, token.id)
        await asyncio.wait_for(line.is_ended.wait(), 20)
    still = await access.sign_ins.by_token(secret)
    assert (still is None) == (what in ("disable", "remove", "revoke"))


async def test_what_was_revoked_before_the_connection_was_held_ends_all_the_same(access: Access) -> None:
    """The look-up came first, then the change, then the connection."""
    await access.added()
    caller = await access.caller(await access.signed_in())
    await access.sessions.sign_out(caller)
    await eventually(lambda: caller.credential not in access.sign_ins._fresh)
    line = Line()
    with access.sign_ins.held(caller, line.end):
        await asyncio.wait_for(line.is_ended.wait(), 20)


async def test_what_another_process_changes_ends_within_two_seconds(access: Access, tmp_path: Path) -> None:
    ada = await access.added()
    caller = await access.caller(await access.signed_in())
    beside = SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None)
    await beside.open(without_lock=True)
    line = Line()
    with access.sign_ins.held(caller, line.end):
        await Accounts(beside, access.passwords).change(WHO, ada.id, is_disabled=True)
        await asyncio.wait_for(line.is_ended.wait(), 20)
    await beside.close()


async def test_one_that_cannot_be_ended_does_not_keep_the_others_open(
    access: Access, caplog: pytest.LogCaptureFixture
) -> None:
    await access.added()
    caller = await access.caller(await access.signed_in())

    async def fails() -> None:
        raise OSError("no")

    line = Line()
    with access.sign_ins.held(caller, fails), access.sign_ins.held(caller, line.end):
        await access.sessions.sign_out(caller)
        await asyncio.wait_for(line.is_ended.wait(), 20)
    await eventually(lambda: "could not be ended" in caplog.text)


async def test_a_session_that_expires_ends_its_sockets_but_not_its_uploads(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_ins_module, "NOTE_USE_S", 0.05)
    sign_ins = SignIns(ledger=access.ledger, bus=LocalBus(), idle_s=3600)
    running = asyncio.create_task(sign_ins.run())
    await access.added()
    caller = await access.caller(await access.signed_in())
    expired = Caller(**{name: getattr(caller, name) for name in Caller.__slots__} | {"expires_at": utc_now()})
    socket, upload = Line(), Line()
    with sign_ins.held(expired, socket.end), sign_ins.held(expired, upload.end, outlives_session=True):
        await asyncio.wait_for(socket.is_ended.wait(), 20)
        await asyncio.sleep(0.1)
        assert not upload.is_ended.is_set()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_sessions_end_after_their_time_and_when_they_are_not_used(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    await access.added()
    signed_in = await access.signed_in()
    assert await access.sign_ins.by_session(signed_in.secret) is not None
    caller = await access.caller(signed_in)
    for later in (3599, 3601, 7201):
        now = utc_now() + timedelta(seconds=later)
        fresh = SignIns(ledger=access.ledger, bus=LocalBus(), idle_s=3600)
        monkeypatch.setattr(sign_ins_module, "utc_now", lambda now=now: now)
        assert (await fresh.by_session(signed_in.secret) is not None) == (later == 3599)
    assert await access.sign_ins.by_session(signed_in.secret) is None  # also from memory
    monkeypatch.undo()
    assert [session.id for session in await access.sessions.list(caller)] == [signed_in.session.id]


# --- one's own -------------------------------------------------------------------------------------------------------


async def test_a_new_password_ends_the_other_sessions(access: Access) -> None:
    await access.added()
    signed_in, other = await access.signed_in(), await access.signed_in()
    caller = await access.caller(signed_in)
    with pytest.raises(WrongCredentials):
        await access.sessions.change_password(caller, "wrong password", "another password")
    with pytest.raises(BadRequest):
        await access.sessions.change_password(caller, PASSWORD, "short")
    await access.sessions.change_password(caller, PASSWORD, "another password")
    await eventually(lambda: caller.credential not in access.sign_ins._fresh)
    assert await access.sign_ins.by_session(signed_in.secret) is not None
    assert await access.sign_ins.by_session(other.secret) is None
    with pytest.raises(WrongCredentials):
        await access.signed_in()
    await access.sessions.sign_in(CLIENT, "Ada", "another password")


async def test_a_browser_that_signs_in_anew_has_one_session(access: Access) -> None:
    """Whatever it shows: its own session of any account ends, and nothing else."""
    await access.added()
    await access.added("Bob")
    other = await access.signed_in()
    first = await access.signed_in()
    second = await access.sessions.sign_in(CLIENT, "Bob", PASSWORD, replaced=first.secret)
    assert await access.ledger.session_by(digest(first.secret)) is None
    for shown in (first.secret, "x" * 43, "", "no secret at all"):
        third = await access.sessions.sign_in(CLIENT, "Ada", PASSWORD, replaced=shown)
        assert third.secret not in (first.secret, second.secret)
    for kept in (other, second):
        assert await access.ledger.session_by(digest(kept.secret)) is not None
    reasons = [event.data["reason"] for event in await signed_out(access)]
    assert reasons == [SignOutReason.REPLACED]


async def test_a_failed_sign_in_ends_no_session(access: Access) -> None:
    await access.added()
    first = await access.signed_in()
    with pytest.raises(WrongCredentials):
        await access.sessions.sign_in(CLIENT, "Ada", "another password", replaced=first.secret)
    assert await access.ledger.session_by(digest(first.secret)) is not None


async def signed_out(access: Access) -> list[Event]:
    """Which sessions were ended, as events."""
    page = await access.ledger.events("all", after=Cursor(0), limit=1000)
    return [event for event in page.events if event.name is EventName.ACCOUNT_SIGNED_OUT]


async def test_nobody_ends_a_session_or_a_token_of_another_account(access: Access) -> None:
    ada, _ = await access.added(), await access.added("Bob")
    session, bob = (await access.signed_in()).session, await access.caller(await access.signed_in("Bob"))
    token, _ = await access.tokens.make_for(WHO, ada)
    with pytest.raises(NotFound):
        await access.sessions.end(bob, session.id)
    with pytest.raises(NotFound):
        await access.tokens.revoke(bob, token.id)
    assert (await access.tokens.list(bob), await access.tokens.list_all(WHO)) == ([], [token])


# --- tokens ----------------------------------------------------------------------------------------------------------


async def test_a_token_has_the_scopes_it_was_made_with_and_no_more_than_its_maker(access: Access) -> None:
    ada = await access.added()
    caller = await access.caller(await access.signed_in())
    _, secret = await access.tokens.make(caller, scopes=[Scope.READ], name=" nightly ")
    found = await access.sign_ins.by_token(secret)
    assert found is not None
    assert (found.account.id, found.scopes, found.authentication) == (
        ada.id,
        frozenset({Scope.READ}),
        Authentication.TOKEN,
    )
    made, _ = await access.tokens.make(caller)
    assert (made.scopes, made.expires_at) == (frozenset({Scope.READ, Scope.SEND}), None)
    for scopes in ([Scope.ADMIN], [Scope.READ, Scope.CONFIG]):
        with pytest.raises(Forbidden):
            await access.tokens.make(caller, scopes=scopes)
    with pytest.raises(BadRequest):
        await access.tokens.make(caller, scopes=[])
    with pytest.raises(BadRequest):
        await access.tokens.make(caller, expires_in_s=0)
    with pytest.raises(BadRequest):
        await access.tokens.make(Caller.everyone(CLIENT))


async def test_a_token_that_has_expired_is_none(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await access.added()
    _, secret = await access.tokens.make_for(WHO, ada, expires_in_s=60)
    assert await access.sign_ins.by_token(secret) is not None
    later = utc_now() + timedelta(seconds=61)
    monkeypatch.setattr(sign_ins_module, "utc_now", lambda: later)
    assert await access.sign_ins.by_token(secret) is None


async def test_when_something_was_used_is_written_now_and_then(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_ins_module, "NOTE_USE_S", 0.05)
    ada = await access.added()
    token, secret = await access.tokens.make_for(WHO, ada)
    sign_ins = SignIns(ledger=access.ledger, bus=LocalBus(), idle_s=3600)
    running = asyncio.create_task(sign_ins.run())
    assert await sign_ins.by_token(secret) is not None
    for _ in range(200):
        (found,) = await access.ledger.tokens(ada.id)
        if found.last_used_at is not None:
            break
        await asyncio.sleep(0.05)
    assert found == token.__class__(
        **{n: getattr(token, n) for n in token.__slots__} | {"last_used_at": found.last_used_at}
    )
    assert (await access.ledger.account(ada.id)).last_seen_at == found.last_used_at
    running.cancel()
    await asyncio.wait([running])


# --- whom a proxy vouches for ----------------------------------------------------------------------------------------


ADA = Claim(name="Ada", role=None)


async def test_whom_a_proxy_vouches_for_has_an_account_from_the_first_visit_on(access: Access) -> None:
    found = await access.sign_ins.by_proxy(ADA, CLIENT)
    assert isinstance(found, SignIn)
    assert (found.account.name, found.authentication, found.scopes) == ("Ada", Authentication.HEADER, EVERY_SCOPE)
    await eventually(lambda: access.sign_ins._generation > 1)  # its own events have made it forget
    again = await access.sign_ins.by_proxy(ADA, CLIENT)
    assert isinstance(again, SignIn)
    assert again.account.id == found.account.id
    before = await access.ledger.newest_cursor()
    assert await access.sign_ins.by_proxy(ADA, CLIENT) is again  # from memory
    assert await access.ledger.newest_cursor() == before


@pytest.mark.parametrize("what", ["disable", "remove", "role", "groups"])
async def test_a_connection_that_a_proxy_vouches_for_ends_when_its_account_changes(access: Access, what: str) -> None:
    found = await access.sign_ins.by_proxy(ADA, CLIENT)
    assert isinstance(found, SignIn)
    line = Line()
    with access.sign_ins.held(caller_of(found), line.end):
        match what:
            case "disable":
                await access.accounts.change(WHO, found.account.id, is_disabled=True)
            case "remove":
                await access.accounts.remove(WHO, found.account.id)
            case "role":
                await access.accounts.change(WHO, found.account.id, role=Role.OPERATOR)
            case "groups":
                await access.sign_ins.by_proxy(Claim(name="ada", role=Role.ADMIN), CLIENT)
        await asyncio.wait_for(line.is_ended.wait(), 20)
    again = await access.sign_ins.by_proxy(ADA, CLIENT)
    if what == "disable":
        assert again == VouchedInVain(reason=RefusalReason.DISABLED, name="Ada", account_id=found.account.id)
    else:
        assert isinstance(again, SignIn)
        assert (again.account.id != found.account.id) == (what == "remove")


async def test_a_proxy_does_not_open_an_account_that_has_a_password(access: Access) -> None:
    ada = await access.added("ada")
    found = await access.sign_ins.by_proxy(Claim(name="ADA", role=Role.ADMIN), CLIENT)
    assert found == VouchedInVain(reason=RefusalReason.NAME_TAKEN, name="ADA", account_id=ada.id)
    assert (await access.ledger.account(ada.id)).role is Role.VIEWER


async def test_whoever_is_given_an_account_has_it_until_it_is_taken_from_them(access: Access) -> None:
    ada = await access.added("ada")
    await access.accounts.link(WHO, ada.id, Identity.of_proxy("alice"))
    found = await access.sign_ins.by_proxy(Claim(name="Alice", role=None), CLIENT)
    assert isinstance(found, SignIn)
    assert (found.account.id, found.account.name) == (ada.id, "ada")
    line = Line()
    with access.sign_ins.held(caller_of(found), line.end):
        await access.accounts.link(WHO, ada.id, None)
        await asyncio.wait_for(line.is_ended.wait(), 20)
    again = await access.sign_ins.by_proxy(Claim(name="Alice", role=None), CLIENT)
    assert isinstance(again, SignIn)
    assert again.account.id != ada.id

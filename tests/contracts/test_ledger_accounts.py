"""Accounts, sessions and tokens, on every database."""

import asyncio
import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.contracts.ledgers import LedgerEngine
from tests.support import scenarios
from tests.support.scenarios import CLIENT

from dropmill.engines.sql import accounts as engine
from dropmill.model.accounts import Account, AccountChange, Identity, PendingSignIn, Session, Token
from dropmill.model.by import By
from dropmill.model.caller import Role, Scope
from dropmill.model.clock import utc_now
from dropmill.model.errors import LastAdmin, NameTaken, NotFound
from dropmill.model.events import Event, EventName, RefusalReason, SignInMethod, SignOutReason
from dropmill.model.ids import (
    AccountId,
    Cursor,
    SessionId,
    Sha256,
    TokenId,
    new_account_id,
    new_session_id,
    new_token_id,
)
from dropmill.ports.ledger import Ledger

BY = By(account="root", client=CLIENT)


async def added(ledger: Ledger, name: str = "Ada", role: Role = Role.ADMIN) -> Account:
    account = Account(id=new_account_id(), name=name, role=role, created_at=utc_now())
    await ledger.add_account(account, f"hash of {name}", BY)
    return account


async def signed_in(ledger: Ledger, account: Account, secret: str = "secret", age_s: float = 0) -> Session:
    now = utc_now() - timedelta(seconds=age_s)
    session = Session(
        id=new_session_id(),
        account_id=account.id,
        created_at=now,
        last_used_at=now,
        expires_at=now + timedelta(days=1),
        client=CLIENT,
    )
    await ledger.begin_session(session, sha256(secret), SignInMethod.PASSWORD)
    return session


async def token_of(ledger: Ledger, account: Account, prefix: str = "dmill_12345678") -> Token:
    token = Token(
        id=new_token_id(),
        account_id=account.id,
        name="nightly",
        scopes=frozenset({Scope.SEND, Scope.READ}),
        prefix=prefix,
        created_at=utc_now(),
        expires_at=None,
    )
    await ledger.add_token(token, sha256(prefix), BY)
    return token


def sha256(text: str) -> Sha256:
    return Sha256(hashlib.sha256(text.encode()).hexdigest())


async def changes(ledger: Ledger) -> list[tuple[str, str | None, str]]:
    """Name, account and first word of the data of every event."""
    return [(e.name.value, e.subject.account, next(iter(e.data.values()))) for e in await scenarios.all_events(ledger)]


async def test_an_account_is_found_by_its_name_in_any_case_and_by_its_id(empty: Ledger) -> None:
    assert not await empty.has_accounts()
    ada = await added(empty, "Ada")
    assert await empty.has_accounts()
    assert await empty.account(ada.id) == await empty.account_named(" aDA") == ada
    assert await empty.password_of("ADA") == (ada, "hash of Ada")
    assert (await empty.account_named("Bob"), await empty.password_of("Bob")) == (None, None)
    for nobody in ("\ud800", "a\0", "", "x" * 10_000):
        assert await empty.account_named(nobody) is None
    with pytest.raises(NotFound):
        await empty.account(AccountId("\ud800"))


async def test_a_name_belongs_to_one_account_until_that_is_removed(empty: Ledger) -> None:
    await added(empty, "root")
    ada = await added(empty, "Ada", Role.VIEWER)
    with pytest.raises(NameTaken):
        await added(empty, "ADA")
    await empty.remove_account(ada.id, BY)
    again = await added(empty, "ada", Role.VIEWER)
    assert again.id != ada.id
    assert await empty.account_named("Ada") == again
    first, second, _ = await empty.accounts()
    assert (first, second.id) == (again, ada.id)
    assert second.removed_at is not None


async def test_only_a_ledger_without_accounts_takes_a_first_one(empty: Ledger) -> None:
    first = Account(id=new_account_id(), name="a", role=Role.ADMIN, created_at=utc_now())
    await empty.add_account(first, "hash", BY, is_first=True)
    with pytest.raises(NameTaken):
        await empty.add_account(
            Account(id=new_account_id(), name="b", role=Role.ADMIN, created_at=utc_now()), "h", BY, is_first=True
        )
    assert await empty.accounts() == [first]


async def test_each_difference_of_an_account_is_an_event_of_its_owner(empty: Ledger) -> None:
    await added(empty, "root")
    ada = await added(empty, "Ada", Role.VIEWER)
    changed = await empty.change_account(ada.id, AccountChange(role=Role.OPERATOR, is_disabled=True), BY)
    assert (changed.role, changed.is_usable) == (Role.OPERATOR, False)
    await empty.change_account(ada.id, AccountChange(role=Role.OPERATOR, is_disabled=True), BY)  # no difference
    await empty.change_account(ada.id, AccountChange(is_disabled=False, password_hash="new"), By())
    assert await empty.password_of("Ada") == (await empty.account(ada.id), "new")
    await empty.remove_account(ada.id, BY)
    *_, role, disabled, enabled, password, removed = await scenarios.all_events(empty)
    words = [event.data["change"] for event in (role, disabled, enabled, password, removed)]
    assert words == ["role", "disabled", "enabled", "password", "removed"]
    assert role.data == {"change": "role", "role": "operator", "token": None, "by": "root"}
    assert (role.subject.account, role.subject.client) == ("Ada", CLIENT)
    assert (enabled.data["by"], enabled.subject.client) == (None, None)
    owned = (await empty.events("all", after=Cursor(0), limit=50, visible_to=ada.owner)).events
    assert [event.cursor for event in owned] == list(range(2, 8))
    with pytest.raises(NotFound):
        await empty.change_account(ada.id, AccountChange(role=Role.ADMIN), BY)
    with pytest.raises(NotFound):
        await empty.remove_account(ada.id, BY)


@pytest.mark.parametrize("change", [AccountChange(role=Role.OPERATOR), AccountChange(is_disabled=True), None])
async def test_the_last_admin_stays_one(empty: Ledger, change: AccountChange | None) -> None:
    ada, other = await added(empty, "Ada"), await added(empty, "Bob")
    await added(empty, "Carl", Role.VIEWER)
    await empty.change_account(other.id, AccountChange(is_disabled=True), BY)
    before = await empty.newest_cursor()
    with pytest.raises(LastAdmin):
        await (empty.remove_account(ada.id, BY) if change is None else empty.change_account(ada.id, change, BY))
    assert (await empty.account(ada.id), await empty.newest_cursor()) == (ada, before)
    await empty.remove_account(other.id, BY)  # a disabled admin is none
    await empty.change_account(ada.id, AccountChange(password_hash="new"), BY)


async def test_a_hash_is_replaced_only_if_it_is_still_the_same(empty: Ledger) -> None:
    ada = await added(empty)
    await empty.rehash(ada.id, old="another", new="wrong")
    assert await empty.password_of("Ada") == (ada, "hash of Ada")
    before = await empty.newest_cursor()
    await empty.rehash(ada.id, old="hash of Ada", new="stronger")
    assert (await empty.password_of("Ada"), await empty.newest_cursor()) == ((ada, "stronger"), before)


async def test_a_session_is_found_by_its_secret_until_it_ends(empty: Ledger) -> None:
    ada = await added(empty)
    session = await signed_in(empty, ada)
    ada = await empty.account(ada.id)
    assert ada.last_seen_at == session.created_at
    assert await empty.session_by(sha256("secret")) == (session, ada)
    assert await empty.session_by(sha256("other")) is None
    assert await empty.sessions(ada.id) == [session]
    with pytest.raises(NotFound):
        await empty.end_session(session.id, AccountId("another"), SignOutReason.ENDED, CLIENT)
    await empty.end_session(session.id, ada.id, SignOutReason.SIGNED_OUT, CLIENT)
    with pytest.raises(NotFound):
        await empty.end_session(session.id, ada.id, SignOutReason.SIGNED_OUT, CLIENT)
    assert (await empty.session_by(sha256("secret")), await empty.sessions(ada.id)) == (None, [])
    signed = [("account.signed_in", "Ada", "password"), ("account.signed_out", "Ada", "signed_out")]
    assert (await changes(empty))[1:] == signed


async def test_a_new_session_drops_those_that_have_expired(empty: Ledger) -> None:
    ada = await added(empty)
    await signed_in(empty, ada, "old", age_s=2 * 86400)
    session = await signed_in(empty, ada, "new")
    assert await empty.sessions(ada.id) == [session]


async def test_a_new_password_ends_all_sessions_but_the_one_that_set_it(empty: Ledger) -> None:
    ada, bob = await added(empty), await added(empty, "Bob")
    one, two = await signed_in(empty, ada, "one"), await signed_in(empty, ada, "two")
    other = await signed_in(empty, bob, "other")
    await empty.change_account(ada.id, AccountChange(password_hash="new"), BY, keep=one.id)
    assert await empty.sessions(ada.id) == [one]
    await empty.change_account(ada.id, AccountChange(password_hash="newer"), BY)
    assert (await empty.sessions(ada.id), await empty.sessions(bob.id)) == ([], [other])
    ended = [word for name, _, word in await changes(empty) if name == "account.signed_out"]
    assert ended == ["password_changed", "password_changed"]
    assert await empty.accounts_of([one.id, two.id, other.id], []) == {other.id: await empty.account(bob.id)}


async def test_nobody_signs_in_to_an_account_that_is_disabled_or_removed(empty: Ledger) -> None:
    await added(empty, "root")
    ada = await added(empty)
    await signed_in(empty, ada)
    await empty.change_account(ada.id, AccountChange(is_disabled=True), BY)
    assert await empty.sessions(ada.id) == []
    with pytest.raises(NotFound):
        await signed_in(empty, ada)
    await empty.change_account(ada.id, AccountChange(is_disabled=False), BY)
    await signed_in(empty, ada)
    await token_of(empty, ada)
    await empty.remove_account(ada.id, BY)
    with pytest.raises(NotFound):
        await signed_in(empty, ada)
    with pytest.raises(NotFound):
        await token_of(empty, ada)
    assert (await empty.session_by(sha256("secret")), await empty.token_by("dmill_12345678")) == (None, None)


async def test_a_token_is_found_by_its_prefix_until_it_is_revoked(empty: Ledger) -> None:
    ada, bob = await added(empty), await added(empty, "Bob")
    token, other = await token_of(empty, ada), await token_of(empty, bob, "dmill_87654321")
    assert await empty.token_by("dmill_12345678") == (token, sha256("dmill_12345678"), ada)
    assert await empty.token_by("dmill_1234567") is None
    assert (await empty.tokens(ada.id), await empty.tokens(None)) == ([token], [other, token])
    assert await empty.accounts_of([], [token.id, TokenId("none")]) == {token.id: ada}
    with pytest.raises(NotFound):
        await empty.revoke_token(token.id, bob.id, BY)
    await empty.revoke_token(token.id, ada.id, BY)
    await empty.revoke_token(other.id, None, By())
    with pytest.raises(NotFound):
        await empty.revoke_token(token.id, None, BY)
    assert await empty.tokens(None) == []
    events = [event for event in await scenarios.all_events(empty) if event.data["token"]]
    assert [(event.data["change"], event.data["token"]) for event in events] == [
        ("token_made", "dmill_12345678"),
        ("token_made", "dmill_87654321"),
        ("token_revoked", "dmill_12345678"),
        ("token_revoked", "dmill_87654321"),
    ]


async def test_when_something_was_used_is_recorded_without_an_event(empty: Ledger) -> None:
    ada = await added(empty)
    session, token = await signed_in(empty, ada), await token_of(empty, ada)
    before, later = await empty.newest_cursor(), utc_now() + timedelta(minutes=5)
    used = {session.id: later, SessionId("gone"): later}
    await empty.note_use(used, {token.id: later}, {ada.id: later})
    await empty.note_use({}, {}, {})
    assert (await empty.sessions(ada.id))[0].last_used_at == later
    assert (await empty.tokens(None))[0].last_used_at == later
    assert (await empty.account(ada.id)).last_seen_at == later
    assert await empty.newest_cursor() == before


async def test_a_refusal_is_recorded_with_the_account_if_it_is_of_one(empty: Ledger) -> None:
    ada = await added(empty)
    await empty.record_refusal(ada.id, RefusalReason.FORBIDDEN, CLIENT, count=3, route="PUT config.save")
    await empty.record_refusal(None, RefusalReason.UNKNOWN_NAME, CLIENT)
    _, wrong, unknown = await scenarios.all_events(empty)
    assert [name_and_account(event) for event in (wrong, unknown)] == [
        (EventName.ACCOUNT_REFUSED, "Ada"),
        (EventName.ACCOUNT_REFUSED, None),
    ]
    assert (wrong.data, unknown.data) == (
        {"reason": "forbidden", "count": 3, "route": "PUT config.save"},
        {"reason": "unknown_name", "count": 1, "route": None},
    )
    assert (wrong.owner, unknown.owner) == (ada.owner, None)
    assert "accounts" not in wrong.topics  # nobody's sign-in changes, and whoever is refused decides how often


def name_and_account(event: Event) -> tuple[EventName, str | None]:
    return event.name, event.subject.account


async def test_other_processes_hear_of_every_change(engine: LedgerEngine) -> None:
    """Their topic `accounts` moves, so that they check again who is signed in."""
    one = await engine.open()
    await added(one)
    assert all("accounts" in moved for moved in engine.moved)
    assert engine.moved


LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


async def test_the_first_visit_of_an_identity_makes_an_account_that_no_password_opens(empty: Ledger) -> None:
    ada = Identity.of_proxy("Ada")
    assert await empty.account_by(ada) is None
    made = await empty.admit(ada, "Ada", None, CLIENT, method=SignInMethod.PROXY, unseen_since=LONG_AGO)
    assert (made.name, made.role, made.is_usable) == ("Ada", Role.VIEWER, True)
    assert await empty.account_by(Identity.of_proxy("ADA")) == await empty.account_named("ada") == made
    assert await empty.password_of("Ada") is None
    assert await empty.admit(ada, "ada", None, CLIENT, method=SignInMethod.PROXY, unseen_since=LONG_AGO) == made
    assert await changes(empty) == [("account.changed", "Ada", "added"), ("account.signed_in", "Ada", "proxy")]


async def test_who_was_not_seen_for_long_signs_in_anew(empty: Ledger) -> None:
    ada = Identity.of_proxy("Ada")
    made = await empty.admit(ada, "Ada", None, CLIENT, method=SignInMethod.PROXY, unseen_since=LONG_AGO)
    again = await empty.admit(ada, "Ada", None, CLIENT, method=SignInMethod.PROXY, unseen_since=utc_now())
    assert again.id == made.id
    assert [name for name, *_ in await changes(empty)].count("account.signed_in") == 2


async def test_an_identity_has_the_role_of_its_latest_visit_also_without_an_admin_left(empty: Ledger) -> None:
    ada = Identity.of_proxy("Ada")
    made = await empty.admit(ada, "Ada", Role.ADMIN, CLIENT, method=SignInMethod.PROXY, unseen_since=LONG_AGO)
    assert (
        await empty.admit(ada, "Ada", None, CLIENT, method=SignInMethod.PROXY, unseen_since=LONG_AGO)
    ).role is Role.ADMIN
    assert (
        await empty.admit(ada, "Ada", Role.VIEWER, CLIENT, method=SignInMethod.PROXY, unseen_since=LONG_AGO)
    ).role is Role.VIEWER
    assert (await empty.account(made.id)).role is Role.VIEWER
    assert (await changes(empty))[-1] == ("account.changed", "Ada", "role")


async def test_an_identity_gets_nothing_of_an_account_that_has_its_name(empty: Ledger) -> None:
    ada = await added(empty, "Ada")
    with pytest.raises(NameTaken):
        await empty.admit(
            Identity.of_proxy("ada"), "ada", Role.ADMIN, CLIENT, method=SignInMethod.PROXY, unseen_since=LONG_AGO
        )
    assert await empty.accounts() == [ada]
    assert await empty.account_by(Identity(issuer="https://other.example", subject="ada")) is None


async def test_an_identity_of_a_disabled_account_is_left_as_it_is_and_of_a_removed_one_anew(empty: Ledger) -> None:
    await added(empty, "root")
    ada = Identity.of_proxy("Ada")
    made = await empty.admit(ada, "Ada", None, CLIENT, method=SignInMethod.PROXY, unseen_since=LONG_AGO)
    disabled = await empty.change_account(made.id, AccountChange(is_disabled=True), BY)
    assert (
        await empty.admit(ada, "Ada", Role.ADMIN, CLIENT, method=SignInMethod.PROXY, unseen_since=utc_now()) == disabled
    )
    await empty.remove_account(made.id, BY)
    again = await empty.admit(ada, "Ada", None, CLIENT, method=SignInMethod.PROXY, unseen_since=LONG_AGO)
    assert again.id != made.id
    assert await empty.accounts_of([], [], [made.id, again.id, AccountId("none")]) == {
        made.id: await empty.account(made.id),
        again.id: again,
    }


async def test_a_local_account_is_given_to_an_identity_and_taken_from_it(empty: Ledger) -> None:
    await added(empty, "root")
    ada = await added(empty)
    them = Identity(issuer="https://id.example", subject="0815")
    linked = await empty.link_account(ada.id, them, BY)
    assert linked == replace(ada, identity=them)
    assert await empty.account_by(them) == linked
    assert await empty.accounts_of([], [], [ada.id]) == {ada.id: linked}
    visit = await empty.admit(them, "other", None, CLIENT, method=SignInMethod.JWT, unseen_since=LONG_AGO)
    assert (visit.id, visit.name) == (ada.id, ada.name)
    assert await empty.password_of(ada.name) is not None  # it stays
    proxied = await empty.admit(
        Identity.of_proxy("bob"), "bob", None, CLIENT, method=SignInMethod.PROXY, unseen_since=LONG_AGO
    )
    for account_id, identity, error in (
        (ada.id, Identity.of_proxy("ada"), NameTaken),  # it belongs to somebody
        ((await added(empty, "eve")).id, them, NameTaken),  # they have one
        ((await added(empty, "eva")).id, None, NotFound),
        (AccountId("none"), them, NotFound),
    ):
        before = await empty.newest_cursor()
        with pytest.raises(error):
            await empty.link_account(account_id, identity, BY)
        assert await empty.newest_cursor() == before
    await signed_in(empty, ada)
    unlinked = await empty.link_account(ada.id, None, BY)
    assert await empty.sessions(ada.id) == []  # they may have signed in
    assert unlinked.identity is None
    assert await empty.account_by(them) is None
    assert await empty.accounts_of([], [], [ada.id, proxied.id]) == {proxied.id: proxied}
    events = [event for event in await scenarios.all_events(empty) if "linked" in str(event.data.get("change"))]
    assert [event.data["change"] for event in events] == ["linked", "unlinked"]
    assert all("accounts" in event.topics for event in events)  # who was let in by it is asked again


async def test_of_many_first_visits_at_once_one_makes_the_account(empty: Ledger) -> None:
    ada = Identity.of_proxy("Ada")
    visits = [
        empty.admit(ada, "Ada", None, CLIENT, method=SignInMethod.PROXY, unseen_since=LONG_AGO) for _ in range(20)
    ]
    assert len({account.id for account in await asyncio.gather(*visits)}) == 1


# --- sign-ins that an identity provider has not answered -------------------------------------------------------------


def pending(state: str, browser: str = "browser", network: str = "192.0.2.1", age_s: float = 0) -> PendingSignIn:
    return PendingSignIn(
        state=sha256(state),
        browser=sha256(browser),
        network=network,
        next="/history?q=ü",
        expires_at=utc_now().replace(microsecond=0) + timedelta(seconds=600 - age_s),
    )


async def test_what_a_browser_has_begun_is_taken_once_and_by_that_browser(empty: Ledger) -> None:
    now = utc_now()
    begun = pending("state")
    await empty.add_pending_sign_in(begun, now)
    assert await empty.take_pending_sign_in(sha256("other"), begun.browser, now) is None
    assert await empty.take_pending_sign_in(begun.state, sha256("other"), now) is None
    taken = await asyncio.gather(*(empty.take_pending_sign_in(begun.state, begun.browser, now) for _ in range(5)))
    assert [one for one in taken if one is not None] == [begun]
    assert await scenarios.all_events(empty) == []


async def test_what_was_begun_too_long_ago_is_not_taken(empty: Ledger) -> None:
    begun = pending("state")
    await empty.add_pending_sign_in(begun, utc_now())
    assert await empty.take_pending_sign_in(begun.state, begun.browser, begun.expires_at) is None
    assert await empty.take_pending_sign_in(begun.state, begun.browser, utc_now()) is None, "it is gone"


async def test_of_many_that_were_begun_the_oldest_are_dropped(empty: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PENDING_PER_NETWORK", 2)
    monkeypatch.setattr(engine, "PENDING_MAX", 3)
    now = utc_now()
    for state, network in (("a", "A"), ("b", "A"), ("c", "A"), ("d", "B"), ("e", "C")):
        await empty.add_pending_sign_in(pending(state, network=network), now)
    left = [s for s in "abcde" if await empty.take_pending_sign_in(sha256(s), sha256("browser"), now) is not None]
    assert left == ["c", "d", "e"]
    await empty.add_pending_sign_in(pending("old", age_s=700), now)
    await empty.add_pending_sign_in(pending("new"), now)
    assert await empty.take_pending_sign_in(sha256("old"), sha256("browser"), now - timedelta(days=1)) is None


async def test_whoever_is_admitted_for_a_session_signs_in_once_by_the_record(empty: Ledger) -> None:
    identity = Identity(issuer="https://id.example", subject="u-1")
    account = await empty.admit(identity, "Ada", None, CLIENT, method=SignInMethod.OIDC, unseen_since=None)
    assert (account.role, account.has_password) == (Role.VIEWER, False)
    await signed_in(empty, account)
    found = [e.name for e in await scenarios.all_events(empty)]
    assert found == [EventName.ACCOUNT_CHANGED, EventName.ACCOUNT_SIGNED_IN]

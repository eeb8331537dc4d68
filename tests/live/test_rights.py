"""Who may follow what, and which commands somebody may send over a socket."""

import contextlib
from dataclasses import replace

import pytest
from tests.live.test_subscriber import Room, join, room
from tests.support import scenarios
from tests.support.callers import ADA, BOB, OPAL, READER, ROOT, SENDER
from tests.support.scenarios import CALLER, CLIENT, GUEST

from dropmill.access.policy import Policy
from dropmill.live.guests import View
from dropmill.live.notices import Notices
from dropmill.live.subscriber import COMMANDS
from dropmill.live.topics import Topics
from dropmill.model.accounts import Account
from dropmill.model.by import by
from dropmill.model.caller import Caller, Role
from dropmill.model.clock import utc_now
from dropmill.model.errors import NameTaken, NotFound
from dropmill.model.events import RefusalReason
from dropmill.model.ids import AccountId, BrowserKey, Cursor, JobId, Owner, SubmissionId
from dropmill.wire import socket
from dropmill.wire.socket import Cancel, Editing, Leave, Retry

__all__ = ["room"]

BROWSER = replace(CALLER, owner=Owner("browser:" + "b" * 64), browser=BrowserKey("b" * 64))
SHARED = ("all", "config")


async def refused(room: Room, caller: Caller, topic: str) -> dict[str, object]:
    """What a join that must be refused is answered; nothing else is sent, and nothing is followed."""
    async with room.page(caller) as (page, say):
        for after in (0, 10**9, None):
            error: dict[str, object] = (await say(join(topic, after)))["error"]
            assert [message["type"] for message in page.messages] == ["reply"] * len(page.messages)
        assert not room.feed.follows(topic)
        return error


async def allowed(topics: Topics, caller: Caller, names: list[str]) -> list[str]:
    """Those of the topics that a caller may follow."""
    found = []
    for name in names:
        try:
            await topics.authorise(caller, name)
        except NotFound:
            continue
        found.append(name)
    return found


async def test_each_caller_follows_its_own_and_operators_everything(room: Room) -> None:
    ada, bob = [await scenarios.opened(room.ledger, owner=caller.owner) for caller in (ADA, BOB)]
    anybodys = await scenarios.opened(room.ledger)
    mine, theirs = [f"submission:{ada}", ADA.owner], [f"submission:{bob}", BOB.owner]
    names = [*SHARED, *mine, *theirs, f"submission:{anybodys}"]
    assert await allowed(room.topics, ADA, names) == mine
    assert await allowed(room.topics, BOB, names) == theirs
    assert await allowed(room.topics, SENDER, names) == []
    assert await allowed(room.topics, READER, names) == [name for name in names if name != "config"]
    for caller in (OPAL, ROOT, CALLER):
        assert await allowed(room.topics, caller, names) == names


async def test_who_may_read_the_config_may_follow_it(room: Room) -> None:
    topics = room.topics_of(Policy(is_config_readable=True))
    assert await allowed(topics, ADA, list(SHARED)) == ["config"]


async def test_the_audit_is_followed_by_admins_with_the_scope(room: Room) -> None:
    assert await allowed(room.topics, ROOT, ["audit"]) == ["audit"] == await allowed(room.topics, CALLER, ["audit"])
    for caller in (OPAL, ADA, BROWSER, READER, GUEST):
        assert await allowed(room.topics, caller, ["audit"]) == []
    async with room.page(ROOT) as (page, say):
        assert (await say(join("audit", await room.ledger.newest_cursor())))["ok"]
        submission_id = await scenarios.opened(room.ledger, owner=ADA.owner)
        job_id = await scenarios.queued(room.ledger, submission_id)
        await room.ledger.request_cancel(job_id, by=by(BOB))
        await page.until(lambda: bool(page.of("events", "audit")))
        assert [event["name"] for event in page.of("events", "audit")[0]["events"]] == ["job.cancel_requested"]


async def refuse(room: Room, account: Caller | None) -> None:
    """Record that somebody was refused."""
    account_id = None
    if account is not None:
        account_id = AccountId(account.owner.removeprefix("account:"))
        made = Account(id=account_id, name=account.account or "", role=Role.VIEWER, created_at=utc_now())
        with contextlib.suppress(NameTaken):
            await room.ledger.add_account(made, "no hash", by(ROOT))
    await room.ledger.record_refusal(account_id, RefusalReason.FORBIDDEN, CLIENT, count=1, route=None)


async def heard(room: Room, caller: Caller, topic: str, after: Cursor, last: str) -> list[str]:
    """The names of the events that a caller hears on a topic, to one at least; pages have the same."""
    async with room.page(caller) as (page, say):
        assert (await say(join(topic, after)))["ok"]

        def names() -> list[str]:
            return [event["name"] for message in page.of("events", topic) for event in message["events"]]

        await page.until(lambda: last in names())
        found = await room.topics.authorise(caller, topic)
        read = await found.page(after=after, of_ledger=None, limit=1)  # the first ones may be hidden
        assert [event.name.value for event in read.events] == names()[:1]
        newest = Cursor(await room.ledger.newest_cursor() + 1)
        before = await found.events_before(before=newest, limit=1)
        assert [event.name.value for event in before.events] == names()[-1:]
        return names()


async def test_what_others_do_with_their_accounts_is_heard_by_admins_alone(room: Room) -> None:
    """Sign-ins, refusals and addresses of people are not needed to operate the server."""
    start = await room.ledger.newest_cursor()
    for account in (ADA, None, ADA):
        await refuse(room, account)
    await scenarios.opened(room.ledger, owner=ADA.owner)
    opened, about_ada = "submission.opened", ["account.changed", "account.refused", "account.refused"]
    everything = ["account.changed", *3 * ["account.refused"], opened]
    assert await heard(room, ROOT, "all", start, opened) == everything
    assert await heard(room, OPAL, "all", start, opened) == [opened]
    assert await heard(room, READER, "all", start, opened) == [opened]  # the audit needs the scope, too
    assert await heard(room, OPAL, ADA.owner, start, opened) == [opened]
    assert await heard(room, ADA, ADA.owner, start, opened) == [*about_ada, opened]
    assert await heard(room, ROOT, ADA.owner, start, opened) == [*about_ada, opened]


async def test_what_comes_next_is_hidden_like_what_came_before(room: Room) -> None:
    async with room.page(OPAL) as (page, say), room.page(ROOT) as (other, ask):
        for one in (say, ask):
            assert (await one(join("all", None)))["ok"]
        await refuse(room, None)
        await scenarios.opened(room.ledger, owner=ADA.owner)
        await refuse(room, None)
        await scenarios.opened(room.ledger, owner=ADA.owner)
        newest = await room.ledger.newest_cursor()
        await page.until(lambda: newest in page.cursors())
        await other.until(lambda: newest in other.cursors())
        assert [len(other.cursors()), len(page.cursors())] == [4, 2]


async def test_viewers_who_may_read_the_config_are_not_told_who_saved_it(room: Room) -> None:
    topics = room.topics_of(Policy(is_config_readable=True))
    assert [topics.view_of(caller, "config") for caller in (ADA, OPAL, ROOT)] == [View.GUEST, View.FULL, View.FULL]


async def test_a_browser_that_is_known_by_its_cookie_hears_of_its_own_and_of_the_config(room: Room) -> None:
    submission_id = await scenarios.opened(room.ledger, owner=BROWSER.owner)
    other = await scenarios.opened(room.ledger, owner=Owner("browser:" + "c" * 64))
    names = [*SHARED, BROWSER.owner, f"submission:{submission_id}", f"submission:{other}", "browser:" + "c" * 64]
    assert await allowed(room.topics, BROWSER, names) == ["config", *names[2:4]]


@pytest.mark.parametrize("caller", [ADA, GUEST, SENDER])
async def test_what_may_not_be_followed_looks_like_what_does_not_exist(room: Room, caller: Caller) -> None:
    submission_id = await scenarios.opened(room.ledger, owner=BOB.owner)
    job_id = await scenarios.settled(room.ledger, submission_id)
    pairs = {
        f"submission:{submission_id}": "submission:" + "0" * 32,
        f"output:{job_id}": "output:" + "0" * 32,
        BOB.owner: "account:" + "0" * 32,
        "all": "nothing",
        "config": "nothing",
    }
    for there, nowhere in pairs.items():
        error = await refused(room, caller, there)
        assert error == await refused(room, caller, nowhere)
        assert error["code"] == ("forbidden" if caller is SENDER else "not_found")


async def test_what_one_has_seen_opens_nothing_to_another(room: Room) -> None:
    """The topics remember which submissions exist, for whom."""
    name = f"submission:{await scenarios.opened(room.ledger, owner=ADA.owner)}"
    for caller in (ADA, OPAL):
        assert await allowed(room.topics, caller, [name]) == [name]
    assert await allowed(room.topics, BOB, [name]) == []


async def test_the_topic_of_an_account_has_all_that_is_about_its_own(room: Room) -> None:
    async with room.page(ADA) as (page, say):
        assert (await say(join(ADA.owner, 0)))["ok"]
        mine = await scenarios.opened(room.ledger, owner=ADA.owner)
        await scenarios.opened(room.ledger, owner=BOB.owner)
        await scenarios.settled(room.ledger, mine)
        newest = await room.ledger.newest_cursor()
        await page.until(lambda: page.cursors(ADA.owner)[-1:] == [newest])
        events = [event for message in page.of("events", ADA.owner) for event in message["events"]]
        assert {event["subject"]["submission_id"] for event in events} == {mine}
        assert [event["name"] for event in events] == await scenarios.names(room.ledger, f"submission:{mine}")
        assert all("owner" not in event for event in events)


# --- commands --------------------------------------------------------------------------------------------------------


def test_every_message_of_a_client_is_an_action() -> None:
    assert set(COMMANDS) == set(socket.CLIENT_MESSAGES.values())


@pytest.mark.parametrize("message", [Cancel(id=1, job_id=JobId("j")), Retry(id=1, job_id=JobId("j"))])
async def test_a_command_needs_its_scope(room: Room, message: Cancel | Retry) -> None:
    async with room.page(READER) as (_, say):
        assert (await say(message))["error"]["code"] == "forbidden"
    async with room.page() as (_, say):
        assert (await say(message))["ok"]


async def test_only_who_may_change_the_config_says_that_it_is_edited(room: Room) -> None:
    message = Editing(id=1, topic="config", is_dirty=True)
    async with room.page(ROOT) as (reader, follow):
        await follow(join("config"))
        for caller in (ADA, OPAL):
            async with room.page(caller) as (_, say):
                assert (await say(message))["error"]["code"] == "forbidden"
        assert [found["editing"] for found in reader.of("presence")] == [False]


async def test_leaving_what_was_not_joined_is_no_matter_of_rights(room: Room) -> None:
    async with room.page(ADA) as (_, say):
        assert (await say(Leave(id=1, topic="all")))["error"]["code"] == "not_found"


# --- notices ---------------------------------------------------------------------------------------------------------


async def test_a_notice_to_a_submission_is_listed_to_its_owner_and_to_operators(room: Room) -> None:
    notices = Notices(room.ledger)
    submission_id = await scenarios.opened(room.ledger, owner=ADA.owner)
    await notices.post(OPAL, "to all", submission_id=None, expires_in_s=60)
    await notices.post(OPAL, "to ada", submission_id=submission_id, expires_in_s=60)
    for caller in (ADA, OPAL):
        assert [notice.text for notice in await notices.standing(caller)] == ["to all", "to ada"]
    assert [notice.text for notice in await notices.standing(BOB)] == ["to all"]
    for nowhere in (submission_id, SubmissionId("0" * 32)):
        with pytest.raises(NotFound, match="There is no such submission"):
            await notices.post(BOB, "x", submission_id=nowhere, expires_in_s=60)


async def test_the_audit_has_commands_and_joins_that_were_refused(room: Room) -> None:
    submission_id = await scenarios.opened(room.ledger, owner=BOB.owner)
    start = await room.ledger.newest_cursor()
    for caller, message in (
        (READER, Retry(id=1, job_id=JobId("0" * 32))),
        (ADA, join("all", 0)),
        (OPAL, join("audit", None)),
        (BOB, join(ADA.owner, 0)),
        (SENDER, join(f"submission:{submission_id}", 0)),  # a join is a read, and that scope is missing
        (ADA, join(f"submission:{submission_id}", 0)),  # like a guess: it is not found, over HTTP too
        (ADA, join("nothing", 0)),
    ):
        page_of = replace(caller, client=replace(CLIENT, ip=f"10.0.{len(str(message))}.7"))
        async with room.page(page_of) as (_, say):
            assert not (await say(message))["ok"]
    await room.refusals.record()
    page = await room.ledger.events("audit", after=start, limit=100)
    assert {(event.name.value, event.data["reason"]) for event in page.events} == {("account.refused", "forbidden")}
    routes = sorted(event.data["route"] for event in page.events)
    assert routes == ["MESSAGE join", "MESSAGE retry", "TOPIC account", "TOPIC all", "TOPIC audit"]

"""Notices: kept until they expire, and shown to those whom they are for, whenever they come."""

import asyncio
from datetime import timedelta

import pytest
from tests.live.test_subscriber import Room, join, room
from tests.support import scenarios
from tests.support.scenarios import CALLER
from tests.support.waiting import eventually

from dropmill.live.notices import Notices
from dropmill.model.clock import utc_now
from dropmill.model.errors import BadRequest, NotFound
from dropmill.model.events import EventName
from dropmill.model.ids import Owner, SubmissionId, new_notice_id
from dropmill.model.notices import EXPIRES_MAX_S, TEXT_MAX

__all__ = ["room"]


async def test_a_notice_reaches_everybody_who_is_connected_and_who_comes_later(room: Room) -> None:
    notices = Notices(room.ledger)
    async with room.page() as (page, _):
        posted = await notices.post(CALLER, " Restart at six ", submission_id=None, expires_in_s=3600)
        await page.until(lambda: bool(page.of("notice")))
        (heard,) = page.of("notice")
        assert (heard["id"], heard["text"]) == (posted.id, "Restart at six")
        async with room.page() as (later, _):
            await later.until(lambda: bool(later.of("notice")))
            assert later.of("notice") == [heard]
        await notices.post(CALLER, "Second", submission_id=None, expires_in_s=3600)
        await page.until(lambda: len(page.of("notice")) == 2)  # and the first one not again
    assert [notice.text for notice in await notices.standing(CALLER)] == ["Restart at six", "Second"]


async def test_a_notice_to_a_submission_reaches_only_those_who_follow_it(room: Room) -> None:
    notices = Notices(room.ledger)
    one, other = await scenarios.opened(room.ledger), await scenarios.opened(room.ledger)
    async with room.page() as (page, say), room.page() as (stranger, ask):
        await say(join(f"submission:{one}"))
        await ask(join(f"submission:{other}"))
        await notices.post(CALLER, "Your third file is damaged", submission_id=one, expires_in_s=3600)
        await page.until(lambda: bool(page.of("notice")))
        await notices.post(CALLER, "All", submission_id=None, expires_in_s=3600)
        await stranger.until(lambda: bool(stranger.of("notice")))
        assert [message["text"] for message in stranger.of("notice")] == ["All"]
        await ask(join(f"submission:{one}"))
        assert [message["text"] for message in stranger.of("notice")] == ["All", "Your third file is damaged"]
    names = [(event.name, event.subject.submission_id) for event in await scenarios.all_events(room.ledger)]
    assert names[-2:] == [(EventName.NOTICE_POSTED, one), (EventName.NOTICE_POSTED, None)]


async def test_what_has_expired_is_neither_shown_nor_kept(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    notices = Notices(room.ledger)
    posted = await notices.post(CALLER, "short", submission_id=None, expires_in_s=1)
    await eventually(lambda: room.feed.notices)
    assert await room.ledger.notices(posted.posted_at) == [posted]
    await eventually(lambda: utc_now() >= posted.expires_at)
    assert await notices.standing(CALLER) == []
    async with room.page() as (page, say):
        await say(join("config"))
        assert page.of("notice") == []
    await notices.post(CALLER, "next", submission_id=None, expires_in_s=60)
    kept = await room.ledger.notices(posted.posted_at - timedelta(days=1))
    assert [notice.text for notice in kept] == ["next"]


async def test_a_withdrawn_notice_leaves_every_page_it_was_for_also_those_that_come_back(room: Room) -> None:
    notices = Notices(room.ledger)
    one, other = await scenarios.opened(room.ledger), await scenarios.opened(room.ledger)
    async with room.page() as (page, say), room.page() as (stranger, ask):
        await say(join(f"submission:{one}"))
        await ask(join(f"submission:{other}"))
        posted = await notices.post(CALLER, "Wrong", submission_id=one, expires_in_s=3600)
        kept = await notices.post(CALLER, "Right", submission_id=None, expires_in_s=3600)
        await page.until(lambda: len(page.of("notice")) == 2)
        for _ in range(2):  # the second time changes nothing
            await notices.withdraw(CALLER, posted.id)
        await notices.post(CALLER, "After", submission_id=None, expires_in_s=3600)
        for each in (page, stranger):
            await each.until(lambda each=each: "After" in [message["text"] for message in each.of("notice")])  # type: ignore[misc]
        assert page.of("notice_withdrawn") == [{"type": "notice_withdrawn", "id": posted.id}]
        assert stranger.of("notice_withdrawn") == []
    async with room.page() as (back, say):
        await say(join(f"submission:{one}"))
        assert [message["text"] for message in back.of("notice")] == ["Right", "After"]
        assert [message["id"] for message in back.of("notice_withdrawn")] == [posted.id]
    assert [notice.text for notice in await notices.standing(CALLER)] == ["Right", "After"]
    events = await scenarios.all_events(room.ledger)
    withdrawn = [event for event in events if event.name is EventName.NOTICE_WITHDRAWN]
    assert [(event.subject.submission_id, dict(event.data)) for event in withdrawn] == [(one, {"id": posted.id})]
    assert kept.id != posted.id


async def test_a_notice_that_there_is_not_or_that_has_expired_cannot_be_withdrawn(room: Room) -> None:
    notices = Notices(room.ledger)
    posted = await notices.post(CALLER, "short", submission_id=None, expires_in_s=1)
    await eventually(lambda: utc_now() >= posted.expires_at)
    before = await room.ledger.newest_cursor()
    for notice_id in (posted.id, new_notice_id()):
        with pytest.raises(NotFound):
            await notices.withdraw(CALLER, notice_id)
    assert await room.ledger.newest_cursor() == before


async def test_a_notice_about_what_one_may_not_see_is_answered_like_one_that_there_is_not(room: Room) -> None:
    one = await scenarios.opened(room.ledger)
    posted = await Notices(room.ledger).post(CALLER, "Yours", submission_id=one, expires_in_s=60)
    answers = []
    for notice_id in (posted.id, new_notice_id()):
        with pytest.raises(NotFound) as refused:
            await room.ledger.withdraw_notice(notice_id, utc_now(), None, None, visible_to=Owner("browser:other"))
        answers.append(refused.value.detail)
    assert answers[0] == answers[1]
    assert await Notices(room.ledger).standing(CALLER) == [posted]


@pytest.mark.parametrize(
    ("text", "expires_in_s"),
    [
        ("", 60),
        ("  \n ", 60),
        ("x" * (TEXT_MAX + 1), 60),
        ("a\x00b", 60),
        ("\x1b[2J", 60),
        ("\u202egnp.exe", 60),
        ("fine", 0),
        ("fine", -1),
        ("fine", EXPIRES_MAX_S + 1),
        ("fine", float("inf")),
        ("fine", float("nan")),
    ],
)
async def test_what_cannot_be_shown_is_refused_and_changes_nothing(room: Room, text: str, expires_in_s: float) -> None:
    before = await room.ledger.newest_cursor()
    with pytest.raises(BadRequest):
        await Notices(room.ledger).post(CALLER, text, submission_id=None, expires_in_s=expires_in_s)
    assert await room.ledger.newest_cursor() == before


async def test_a_submission_that_there_is_not_gets_none(room: Room) -> None:
    with pytest.raises(NotFound):
        await Notices(room.ledger).post(CALLER, "hello", submission_id=SubmissionId("0" * 32), expires_in_s=60)
    await asyncio.sleep(0)
    assert await Notices(room.ledger).standing(CALLER) == []

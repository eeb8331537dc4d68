"""Point 3: background work is repeated with back-off, is shown, and is logged once."""

import asyncio
import logging

import pytest
from tests.support.waiting import eventually

from dropmill.health import Health
from dropmill.model.errors import NotFound, OutOfSpace, Unavailable


async def test_work_is_repeated_until_it_succeeds_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    health = Health()
    problems: list[Exception] = [OSError(5, "Input/output error"), OutOfSpace("full"), Unavailable("away")]
    seen: list[tuple[str, ...]] = []

    async def work() -> str:
        seen.append(health.degraded)
        if problems:
            raise problems.pop(0)
        return "result"

    assert await health.insist("event_log", work, first_s=0.0, most_s=0.0) == "result"
    assert seen == [(), ("event_log",), ("event_log",), ("event_log",)]
    assert health.degraded == ()
    assert [record.message for record in caplog.records] == [
        "The event log does not work, trying again: [Errno 5] Input/output error",
        "The event log works again.",
    ]


async def test_pauses_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def work() -> None:
        if len(pauses) < 6:
            raise OSError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await Health().insist("slots", work, first_s=1.0, most_s=8.0)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


async def test_a_pause_ends_when_another_try_may_succeed() -> None:
    hurry, tried = asyncio.Event(), asyncio.Queue[int]()

    async def work() -> None:
        tried.put_nowait(0)
        if tried.qsize() < 2:
            raise OSError

    done = asyncio.create_task(Health().insist("slots", work, first_s=600.0, hurry=hurry))
    await eventually(lambda: tried.qsize() == 1)
    hurry.set()
    await done


@pytest.mark.parametrize("mistake", [AssertionError("broken"), NotFound("no such job"), KeyError("x")])
async def test_any_other_error_passes_through(mistake: Exception) -> None:
    async def work() -> None:
        raise mistake

    health = Health()
    with pytest.raises(type(mistake)):
        await health.insist("attempts", work)
    assert health.degraded == ()


async def test_a_part_of_several_tasks_works_when_all_of_them_do() -> None:
    health, one, other = Health(), object(), object()
    health.failed("attempts", OSError(), one)
    health.failed("attempts", OSError(), other)
    health.works("attempts", one)
    assert "attempts" in health.degraded
    health.works("attempts", other)
    assert "attempts" not in health.degraded


async def test_cancelled_work_leaves_the_board() -> None:
    async def work() -> None:
        raise OSError

    health = Health()
    trying = asyncio.create_task(health.insist("retention", work, first_s=60.0))
    await asyncio.sleep(0.01)
    assert "retention" in health.degraded
    trying.cancel()
    await asyncio.wait([trying])
    assert "retention" not in health.degraded

"""What one task reads and keeps: how often, for whom, and what a failure leaves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from tests.support.waiting import eventually

from dropmill.access.kept import Kept


class Source:
    """What is read: a number that rises with each reading."""

    def __init__(self) -> None:
        self.readings = 0
        self.error: Exception | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def read(self) -> int:
        self.readings += 1
        number = self.readings
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return number


Start = Callable[[Source, float], Kept[int]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    running: list[asyncio.Task[None]] = []

    def make(source: Source, rest_s: float) -> Kept[int]:
        kept = Kept(source.read, "The source", rest_s=rest_s)
        running.append(asyncio.create_task(kept.run()))
        return kept

    yield make
    for task in running:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_many_ask_and_one_reads_also_if_some_leave(start: Start) -> None:
    source = Source()
    source.may_answer.clear()
    kept = start(source, 60.0)
    asking = [asyncio.create_task(kept.again()) for _ in range(50)]
    await eventually(lambda: source.readings)
    for task in asking[:25]:
        task.cancel()
    source.may_answer.set()
    await asyncio.gather(*asking[25:])
    assert (source.readings, kept.value) == (1, 1)
    await kept.again()
    await kept.not_older_than(0.0)
    assert source.readings == 1, "the task rests"


async def test_whoever_is_patient_gets_a_reading_that_began_later(start: Start) -> None:
    source = Source()
    source.may_answer.clear()
    kept = start(source, 0.01)
    await eventually(lambda: source.readings)
    impatient, patient = asyncio.create_task(kept.again()), asyncio.create_task(kept.again(is_patient=True))
    await asyncio.sleep(0)
    source.may_answer.set()
    await impatient
    await patient
    assert kept.value is not None
    assert kept.value >= 2


async def test_a_failure_keeps_what_was_read_and_is_logged_once(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    source = Source()
    kept = start(source, 0.0)
    await kept.again()
    assert (kept.value, kept.is_current) == (1, True)
    source.error = ValueError("there is none")
    for _ in range(3):
        await kept.again(is_patient=True)
    assert (kept.value, kept.is_current) == (1, False)
    source.error = None
    await kept.again(is_patient=True)
    assert (kept.value, kept.is_current) == (5, True)
    assert [record.getMessage() for record in caplog.records if record.name == "dropmill.access.kept"] == [
        "The source cannot be read: there is none",
        "The source can be read again.",
    ]


async def test_a_stop_that_comes_with_a_wish_is_a_stop() -> None:
    source = Source()
    kept = Kept(source.read, "The source", rest_s=0.0)
    running = asyncio.create_task(kept.run())
    await kept.again()
    for _ in range(5):
        await asyncio.sleep(0)
    asking = asyncio.create_task(kept.again())
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await running
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking

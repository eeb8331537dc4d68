"""A queue from one task to another: bounded, in order, and nothing is lost when a wait is cancelled."""

import asyncio

from dropmill.web.server.mailbox import Mailbox


async def test_messages_come_in_the_order_in_which_they_were_put() -> None:
    box = Mailbox(3)
    for message in "abc":
        box.put(message)
    assert box.is_full
    assert [await box.get() for _ in range(3)] == ["a", "b", "c"]
    assert not box.is_full


async def test_a_reader_that_waits_gets_what_comes() -> None:
    box = Mailbox(1)
    reading = asyncio.create_task(box.get())
    await asyncio.sleep(0)
    box.put("a")
    box.put("b")  # before the reader had its turn
    assert await reading == "a"
    assert await box.get() == "b"


async def test_cancelling_a_reader_loses_nothing_also_when_the_message_has_just_come() -> None:
    box = Mailbox(1)
    reading = asyncio.create_task(box.get())
    await asyncio.sleep(0)
    box.put("a")
    reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled()
    assert await box.get() == "a"


async def test_all_writers_that_wait_look_again_when_something_is_taken_or_dropped() -> None:
    box = Mailbox(1)
    box.put(0)

    async def write(message: int) -> None:
        while box.is_full:
            await box.wait_for_room()
        box.put(message)

    writing = [asyncio.create_task(write(number)) for number in (1, 2, 3)]
    await asyncio.sleep(0)
    writing[0].cancel()  # must not end the others' wait
    assert await box.get() == 0
    assert await box.get() == 2
    await asyncio.sleep(0)
    box.clear()
    await asyncio.sleep(0)
    assert writing[2].done()
    assert not writing[2].cancelled()

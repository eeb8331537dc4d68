"""Calls that share a change of threads."""

import asyncio
import threading

import pytest

from dropmill.processing.hops import SharedHop


async def test_calls_of_one_turn_run_in_one_thread_in_order() -> None:
    hop, ran = SharedHop(), list[tuple[int, int]]()

    def call(number: int) -> int:
        ran.append((threading.get_ident(), number))
        return number * 10

    assert await asyncio.gather(*(hop.run(call, number) for number in range(5))) == [0, 10, 20, 30, 40]
    assert [number for _, number in ran] == [0, 1, 2, 3, 4]
    assert len({thread for thread, _ in ran}) == 1
    assert threading.get_ident() not in {thread for thread, _ in ran}
    assert await hop.run(call, 7) == 70


async def test_an_error_is_that_of_its_own_caller() -> None:
    hop = SharedHop()
    good, bad, last = hop.run(int, "1"), hop.run(int, "x"), hop.run(int, "2")
    with pytest.raises(ValueError, match="x"):
        await bad
    assert (await good, await last) == (1, 2)


async def test_a_caller_that_is_cancelled_takes_nothing_from_the_others() -> None:
    hop, ran = SharedHop(), list[str]()
    cancelled, other = hop.run(ran.append, "first"), hop.run(ran.append, "second")
    cancelled.cancel()
    await other
    assert ran == ["first", "second"]


async def test_a_later_turn_does_not_wait_for_an_earlier_one() -> None:
    hop, gate = SharedHop(), threading.Event()
    held = hop.run(gate.wait, 20.0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await hop.run(int, "5") == 5
    assert not held.done()
    gate.set()
    assert await held

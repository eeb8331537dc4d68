"""Blocking calls in threads, several of them in one hop.

A hop to a thread and back takes 0.1 ms of CPU on an idle machine and several times that on a busy one, which is more
than the disk calls at an attempt's end take.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class SharedHop:
    """Runs calls of one event loop in threads; calls made in the same turn of the loop run in one thread, in order.

    A slow call delays the others of its turn, so use it for short calls to one disk.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []

    def run(self, call: Callable[[*Arguments], T], *args: *Arguments) -> asyncio.Future[T]:
        """A future of what a call returns or raises. The call is made even if the caller is cancelled before."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        if not self._calls:
            loop.call_soon(self._start, loop)
        self._calls.append((lambda: call(*args), answer))
        return answer

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        calls, self._calls = self._calls, []
        running = loop.run_in_executor(None, _run_all, [call for call, _ in calls])
        running.add_done_callback(lambda ended: _answer([answer for _, answer in calls], ended))


def _run_all(calls: list[Callable[[], Any]]) -> list[tuple[Any, Exception | None]]:
    results: list[tuple[Any, Exception | None]] = []
    for call in calls:
        try:
            results.append((call(), None))
        except Exception as error:  # passed to the caller of this call
            results.append((None, error))
    return results


def _answer(answers: list[asyncio.Future[Any]], ended: asyncio.Future[list[tuple[Any, Exception | None]]]) -> None:
    if ended.cancelled():
        for answer in answers:
            answer.cancel()
        return
    for answer, (result, error) in zip(answers, ended.result(), strict=True):
        if answer.done():  # its caller was cancelled
            continue
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)

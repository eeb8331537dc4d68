"""`dropmill` with a look into its event loop: `python -m benchmarks.watched serve ...`; `GET /loop` tells and forgets.

A watch in the loop itself sleeps a millisecond again and again. How much later it wakes is how long the loop could
serve nobody (`blocked_ms`, the longest): for work of its own, for another thread's, for the disk, or because every
processor was busy with other programs. The kernel counts the last kind; without it, it is `held_ms`.
"""

import asyncio
import os
import time
from typing import Any

from quart import Quart

import dropmill.app
from dropmill.cli import main, serve
from dropmill.web import routes

PERIOD_S = 0.001


class Watch:
    def __init__(self) -> None:
        self.blocked_s = self.held_s = 0.0

    async def run(self) -> None:
        # Of this thread: nanoseconds on a processor, and nanoseconds ready for one (proc(5), CONFIG_SCHED_INFO).
        descriptor = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        while True:
            due, waited = time.perf_counter() + PERIOD_S, int(os.pread(descriptor, 100, 0).split()[1])
            await asyncio.sleep(PERIOD_S)
            blocked_s = time.perf_counter() - due
            waited = int(os.pread(descriptor, 100, 0).split()[1]) - waited
            self.blocked_s = max(self.blocked_s, blocked_s)
            self.held_s = max(self.held_s, blocked_s - waited / 1e9)


def create_watched_app(*arguments: Any, **named: Any) -> Quart:
    app = dropmill.app.create_app(*arguments, **named)
    watch = Watch()

    @app.before_serving
    async def begin() -> None:
        app.add_background_task(watch.run)

    vars(routes)["ROUTES"]["GET loop"] = routes.Open.TO_ALL  # else the guard does not know who may ask

    @app.get("/loop")
    async def loop() -> dict[str, float]:
        told = {"blocked_ms": 1000 * watch.blocked_s, "held_ms": 1000 * watch.held_s}
        watch.blocked_s = watch.held_s = 0.0
        return told

    return app


if __name__ == "__main__":
    vars(serve)["create_app"] = create_watched_app
    main()

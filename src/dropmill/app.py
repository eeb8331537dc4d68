"""The application factory: the only place that knows which engines stand behind the ports.

`create_app` makes the Quart app; `Server` opens everything that runs beside it, in order, and closes it in the
opposite one. An error in our own background work stops the server loudly: half a server is worse than none.
"""

import asyncio
import logging
import os
import platform
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from quart import Quart

from dropmill import assets
from dropmill.configfile.checker import Checker
from dropmill.configfile.revisions import ConfigFile
from dropmill.engines.embedded.bus import LocalBus
from dropmill.engines.embedded.disk import DiskBlobStore
from dropmill.engines.embedded.lock import FolderLock
from dropmill.engines.embedded.slots import SlotExecutor
from dropmill.engines.embedded.sqlite import SqliteLedger
from dropmill.identity.resolver import Resolver
from dropmill.intake.intake import Intake
from dropmill.live.views import Views
from dropmill.logfile import EventLog
from dropmill.model.errors import SettingsError
from dropmill.processing.attempt import AttemptRunner
from dropmill.processing.contract import Processor
from dropmill.processing.jobs import Jobs
from dropmill.processing.output import OutputStore
from dropmill.processing.pool import SlotPool
from dropmill.settings import Settings
from dropmill.web import connection, guard
from dropmill.web.config import config
from dropmill.web.jobs import jobs
from dropmill.web.live import live
from dropmill.web.ops import ops
from dropmill.web.pages import pages
from dropmill.web.services import EXTENSION, Services
from dropmill.web.submissions import submissions

log = logging.getLogger(__name__)

SOCKET_RESTARTING = 1012  # WebSocket close code: the server restarts, come back


def create_app(settings: Settings, *, is_bound_by_us: bool = False) -> Quart:
    """The app, with a `Server` that opens when serving begins.

    Args:
        settings: what the person who starts it decided.
        is_bound_by_us: whether `dropmill serve` listens, so that `settings.bind` is known to be the truth.

    Raises:
        SettingsError: it may not be served like this, or the processor cannot be used.
    """
    require_safe(settings, is_bound_by_us=is_bound_by_us)
    app = Quart(
        "dropmill",
        static_folder=str(assets.static()),
        static_url_path="/static",
        template_folder=str(assets.templates()),
    )
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = None  # no Expires: see the guard
    app.json.sort_keys = False  # type: ignore[attr-defined]  # members in the contract's order
    connection.install(app)
    guard.install(app, settings)
    for blueprint in (pages, submissions, jobs, config, live, ops):
        app.register_blueprint(blueprint)
    server = Server(app, settings, Processor.from_settings(settings, Path.cwd()))
    app.extensions["dropmill.server"] = server
    app.before_serving(server.open)
    app.after_serving(server.close)
    return app


def server_of(app: Quart) -> "Server":
    """The server that runs beside an app made by `create_app`."""
    server: Server = app.extensions["dropmill.server"]
    return server


def require_safe(settings: Settings, *, is_bound_by_us: bool) -> None:
    """Return if the server may be open to whoever reaches it.

    Raises:
        SettingsError: it may not; the sentence says what to set.
    """
    if settings.auth == "off":
        return
    if settings.auth == "required":
        raise SettingsError("--auth required: sign-in is not available yet; use auto on loopback, or off.")
    if not is_bound_by_us:
        raise SettingsError(
            "dropmill.asgi:app cannot know which addresses its server listens on, and sign-in is not available yet. "
            "Set DROPMILL_AUTH=off if everyone who can reach it may use it."
        )
    if not settings.is_loopback_only:
        raise SettingsError(
            f"--bind {', '.join(settings.bind)}: can be reached from other machines, and sign-in is not available "
            "yet. Use --auth off if everyone who can reach it may use it, or bind to 127.0.0.1."
        )


class Server:
    """Everything that is open while the app is served."""

    def __init__(self, app: Quart, settings: Settings, processor: Processor) -> None:
        self._app = app
        self._settings = settings
        self._processor = processor
        self._stack = AsyncExitStack()
        self._background: list[asyncio.Task[None]] = []
        self._services: Services | None = None
        self._executor: SlotExecutor | None = None
        self._event_log: EventLog | None = None
        self.failure: BaseException | None = None
        self.on_failure: Callable[[], None] = _end_this_process
        self.notices: list[str] = []

    # --- open --------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open everything, settle what an earlier process left, and begin to work.

        Raises:
            SettingsError: something cannot be used; everything opened so far is closed again.
        """
        try:
            await self._open()
        except BaseException as error:
            self.failure = error
            await self._stack.aclose()
            raise

    async def _open(self) -> None:
        settings, stack = self._settings, self._stack
        data = settings.data.absolute()
        lock = FolderLock(data)
        await asyncio.to_thread(lock.acquire)
        stack.callback(lock.release)

        blobs = DiskBlobStore(data)
        await blobs.open()
        stack.push_async_callback(blobs.close)
        bus = LocalBus()
        ledger = SqliteLedger(data / "ledger.sqlite", bus.moved)
        await ledger.open()
        stack.push_async_callback(ledger.close)

        checker = Checker()
        stack.push_async_callback(checker.close)
        await checker.start()
        config_file = ConfigFile(settings.config.absolute(), ledger, checker)
        if notice := await config_file.open():
            self.notices.append(notice)

        recovery = await ledger.recover(settings.max_attempts, "the server stopped before it had arrived whole")
        if recovery.lost:
            log.info("%d attempts were lost with an earlier run.", len(recovery.lost))

        outputs = OutputStore(data / "outputs", bus)
        pool = SlotPool(self._processor, settings.concurrency)
        runner = AttemptRunner(
            ledger=ledger,
            blobs=blobs,
            bus=bus,
            pool=pool,
            outputs=outputs,
            processor=self._processor,
            folder=data,
            timeout_s=settings.timeout,
            grace_s=settings.grace,
            max_attempts=settings.max_attempts,
            host=platform.node() or "localhost",
        )
        executor = self._executor = SlotExecutor(runner=runner, pool=pool, outputs=outputs, on_failure=self._fail)
        resolver = Resolver(settings.dns_servers)
        stack.push_async_callback(resolver.close)
        intake = Intake(
            ledger=ledger,
            blobs=blobs,
            executor=executor,
            bus=bus,
            resolver=resolver,
            idle_timeout_s=settings.idle_timeout,
            seal_after_s=settings.seal_after,
        )
        await intake.recover()
        event_log = self._event_log = EventLog(settings.log_path.absolute(), ledger, bus)
        await event_log.open()
        stack.push_async_callback(self._stop_background)
        self._run(event_log.run(), "event log")
        self._run(config_file.watch(), "config watch")
        self._run(intake.run(), "intake")

        await executor.start()
        stack.push_async_callback(executor.close)
        for job_id in await ledger.queued_jobs():
            executor.submit(job_id)

        self._services = Services(
            settings=settings,
            processor=self._processor,
            ledger=ledger,
            blobs=blobs,
            bus=bus,
            intake=intake,
            jobs=Jobs(ledger=ledger, executor=executor),
            outputs=outputs,
            config=config_file,
            views=Views(ledger=ledger, bus=bus, executor=executor, received=intake.received),
        )
        self._app.extensions[EXTENSION] = self._services

    # --- run ---------------------------------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        running = asyncio.create_task(work, name=name)
        self._background.append(running)
        running.add_done_callback(self._has_ended)

    def _has_ended(self, running: asyncio.Task[None]) -> None:
        if not running.cancelled() and (error := running.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Background work of our own has failed: stop, and say so."""
        log.critical("Dropmill stops because of an error in its own work.", exc_info=error)
        if self.failure is None:
            self.failure = error
            self.on_failure()

    # --- close -------------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Take nothing more, let go of pages and uploads, give running attempts their grace, lose nothing."""
        found = self._services
        if found is None or self._executor is None or found.is_draining:
            return
        found.is_draining = True
        closing = [close(SOCKET_RESTARTING, "The server is restarting.") for close in list(found.closers)]
        await asyncio.gather(found.intake.drain(), self._executor.drain(self._settings.grace), *closing)

    async def close(self) -> None:
        """Drain if that has not happened, then close everything; what was handed over is committed and logged."""
        await self.drain()
        await self._stack.aclose()

    async def _stop_background(self) -> None:
        for running in self._background:
            running.cancel()
        if self._background:
            await asyncio.wait(self._background)
        if self._event_log is not None:
            await self._event_log.flush()


def _end_this_process() -> None:
    # Under a foreign server process only a signal reaches whoever holds the sockets.
    os.kill(os.getpid(), signal.SIGTERM)

"""The application factory: the only place that knows which engines stand behind the ports.

`create_app` makes the Quart app; `Server` opens everything that runs beside it, in order, and closes it in the
opposite one. Background work survives faults of disk, network and database (`dropmill.health`). Any other error in
it is a broken invariant of our own and stops the server loudly: half a server is worse than none.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from quart import Quart

from dropmill import assets
from dropmill.configfile.parser import ParserProcess
from dropmill.configfile.revisions import ConfigFile
from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.local.executor import SlotExecutor
from dropmill.engines.local.lock import FolderLock
from dropmill.engines.local.outputs import FileOutputs
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.health import Health
from dropmill.intake.limits import Gate, UploadLimits
from dropmill.intake.resumable import Uploads
from dropmill.intake.submissions import Intake
from dropmill.live.joins import JoinRates
from dropmill.live.topics import Topics
from dropmill.live.views import Views
from dropmill.model.clock import Clock
from dropmill.model.errors import DropmillError, SettingsError, Unavailable
from dropmill.model.ids import new_node_id
from dropmill.model.jobs import RetryPolicy
from dropmill.model.nodes import Node
from dropmill.origin.proxies import TrustedProxies
from dropmill.origin.resolver import Resolver
from dropmill.private import tighten
from dropmill.processing.attempt import AttemptRunner
from dropmill.processing.environment import ScriptEnvironment
from dropmill.processing.hops import SharedHop
from dropmill.processing.jobs import Jobs
from dropmill.processing.limits import Limiter, Limits
from dropmill.processing.output import OutputRecorder
from dropmill.processing.pool import SlotPool
from dropmill.processing.processor import Processor
from dropmill.processing.results import ResultLimits
from dropmill.settings import Settings, secrets_in
from dropmill.slot.processes import keep_memory_private
from dropmill.upkeep.event_log import EventLog
from dropmill.upkeep.retention import CleanUp, Retention
from dropmill.web.api.config import config
from dropmill.web.api.downloads import downloads
from dropmill.web.api.jobs import jobs
from dropmill.web.api.live import live
from dropmill.web.api.log import log as log_blueprint
from dropmill.web.api.ops import ops
from dropmill.web.api.submissions import submissions
from dropmill.web.api.uploads import send
from dropmill.web.api.uploads import uploads as uploads_blueprint
from dropmill.web.pages import pages
from dropmill.web.server import connection, forwarding, guard
from dropmill.web.server.capacity import Capacity, CapacityLimits
from dropmill.web.services import EXTENSION, Services

log = logging.getLogger(__name__)

SOCKET_RESTARTING = 1012  # WebSocket close code: the server restarts, come back


def create_app(settings: Settings, *, owns_sockets: bool = False) -> Quart:
    """The app, with a `Server` that opens when serving begins.

    Args:
        settings: what the person who starts it decided.
        owns_sockets: whether `dropmill serve` listens, so that `settings.bind` is known to be the truth.

    Raises:
        SettingsError: it may not be served like this, or the processor cannot be used.
    """
    require_safe(settings, owns_sockets=owns_sockets)
    app = _App(
        "dropmill",
        static_folder=str(assets.static()),
        static_url_path="/static",
        template_folder=str(assets.templates()),
    )
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = None  # no Expires: see the guard
    app.url_map.merge_slashes = False  # no redirects of ours, whose address would be made of the Host header
    app.json.sort_keys = False  # type: ignore[attr-defined]  # members in the contract's order
    connection.install(app, Capacity(CapacityLimits.from_settings(settings), TrustedProxies(settings.trusted_proxy)))
    guard.install(app, settings)
    for blueprint in (pages, submissions, jobs, downloads, config, live, log_blueprint, ops, uploads_blueprint, send):
        app.register_blueprint(blueprint)
    forwarding.install(app, settings)
    server = Server(app, settings, Processor.from_settings(settings, Path.cwd()))
    app.extensions["dropmill.server"] = server
    app.before_serving(server.open_or_leave)
    app.after_serving(server.close)
    return app


class _App(Quart):
    async def dispatch_request(self, request_context: Any = None) -> Any:
        try:
            return await super().dispatch_request(request_context)
        except asyncio.CancelledError:
            handling = asyncio.current_task()
            if handling is None or handling.cancelling():
                raise  # the client has left
            # Work that the request waited for was cancelled beneath it; Quart would give no answer at all.
            raise Unavailable("The server is stopping; try again in a moment.") from None

    def log_exception(self, exception_info: Any) -> None:
        # A start that is refused is told in one sentence by whoever serves; a traceback would only hide it.
        if not isinstance(exception_info[1], DropmillError):
            super().log_exception(exception_info)


def server_of(app: Quart) -> "Server":
    """The server that runs beside an app made by `create_app`."""
    server: Server = app.extensions["dropmill.server"]
    return server


def require_safe(settings: Settings, *, owns_sockets: bool) -> None:
    """Return if the server may be open to whoever reaches it.

    Raises:
        SettingsError: it may not; the sentence says what to set.
    """
    if settings.auth == "off":
        return
    if settings.auth == "required":
        raise SettingsError("--auth required: sign-in is not available yet; use auto on loopback, or off.")
    if not owns_sockets:
        raise SettingsError(
            "dropmill.asgi:app cannot know which addresses its server listens on, and sign-in is not available yet. "
            "Set DROPMILL_AUTH=off if everyone who can reach it may use it."
        )
    if settings.public_url is not None or settings.trusted_proxy:
        flag = "--public-url" if settings.public_url is not None else "--trusted-proxy"
        raise SettingsError(
            f"{flag}: whoever reaches the proxy could use this server, and sign-in is not available yet. Use --auth "
            "off if the proxy decides who may."
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

    async def open_or_leave(self) -> None:
        """Open, or end the process with one line; raised, it would be told in two tracebacks, one of them Quart's."""
        try:
            await self.open()
        except DropmillError as error:
            print(f"dropmill: {error.detail}", file=sys.stderr)  # noqa: T201  # as a command line does
            # The task that carries the exit would be complained about too.
            asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
            sys.exit(2)

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
        keep_memory_private()
        self.notices += _notices(self._processor.environment)
        data = settings.data.absolute()
        health, clock = Health(), Clock()
        lock = FolderLock(data)
        await asyncio.to_thread(lock.acquire)
        stack.callback(lock.release)
        if notice := await asyncio.to_thread(_close_to_others, data):
            self.notices.append(notice)

        blobs = DiskBlobStore(data)
        await blobs.open()
        stack.push_async_callback(blobs.close)
        bus = LocalBus()
        ledger = SqliteLedger(
            data / "ledger.sqlite",
            bus.publish,
            records_deliveries=settings.on_settled is not None,
            keep_revisions=settings.keep_revisions,
            health=health,
        )
        await ledger.open()
        stack.push_async_callback(ledger.close)

        parser = ParserProcess(environment=self._processor.environment.variables, keeps_tags=settings.keeps_config_tags)
        stack.push_async_callback(parser.close)
        await parser.start()
        location = await asyncio.to_thread(lambda: settings.config_location)
        config_file = ConfigFile(location, ledger, parser, aside=settings.config_aside, health=health)
        if notice := await config_file.open():
            self.notices.append(notice)

        # The folder's lock guards all of this ledger: whatever other node it names is gone.
        await ledger.enter(Node(id=new_node_id(), host=location.host, lock="data folder"))
        recovery = await ledger.recover(settings.max_attempts, "the server stopped before it had arrived whole")
        if recovery.lost:
            log.info("%d attempts were lost with an earlier run.", len(recovery.lost))

        hop = SharedHop()
        outputs = FileOutputs(data / "outputs", hop=hop)
        recorder = OutputRecorder(outputs, bus)
        pool = SlotPool(self._processor, settings.concurrency, health)
        limiter = Limiter(Limits.from_settings(settings), data)
        if lacking := await asyncio.to_thread(limiter.open):
            self.notices.append(lacking)
        stack.callback(limiter.close)
        runner = AttemptRunner(
            ledger=ledger,
            blobs=blobs,
            bus=bus,
            pool=pool,
            outputs=recorder,
            processor=self._processor,
            limiter=limiter,
            folder=data,
            result_limits=ResultLimits(count=settings.max_results, size=settings.max_results_size),
            copies_input=settings.copy_input,
            guesses_progress=settings.progress == "auto",
            timeout_s=settings.timeout,
            grace_s=settings.grace,
            max_attempts=settings.max_attempts,
            hop=hop,
            retry=_retry_policy(settings),
            health=health,
        )
        config_file.on_purge = runner.forget_config
        executor = self._executor = SlotExecutor(runner=runner, pool=pool, outputs=recorder, on_failure=self._fail)
        resolver = Resolver(settings.dns_servers)
        stack.push_async_callback(resolver.close)
        gate = Gate(
            UploadLimits(
                idle_timeout_s=settings.idle_timeout,
                min_free=settings.min_free,
                min_rate=settings.min_rate,
                max_file_size=settings.max_file_size,
                max_submission_size=settings.max_submission_size,
                max_files=settings.max_files,
                max_per_client=settings.max_uploads_per_client,
            ),
            blobs,
        )
        intake = Intake(
            ledger=ledger,
            blobs=blobs,
            executor=executor,
            bus=bus,
            resolver=resolver,
            gate=gate,
            seal_after_s=settings.seal_after,
            clock=clock,
            health=health,
        )
        await intake.recover()
        uploads = Uploads(
            ledger=ledger,
            blobs=blobs,
            bus=bus,
            intake=intake,
            gate=gate,
            expiry_s=settings.upload_expiry,
            clock=clock,
            health=health,
        )
        await uploads.recover()
        event_log = self._event_log = EventLog(settings.log_path.absolute(), ledger, bus, health=health)
        await event_log.open()
        stack.push_async_callback(self._stop_background)
        self._run(event_log.run(), "event log")
        self._run(config_file.watch(), "config watch")
        self._run(intake.run(), "intake")
        retention = Retention(
            ledger=ledger,
            blobs=blobs,
            outputs=outputs,
            logged=event_log.make_durable,
            keep_s=settings.keep,
            keep_bytes=settings.keep_size,
            keep_events_s=settings.keep_events,
            clock=clock,
            health=health,
        )
        self._run(retention.run(), "retention")
        if settings.on_settled is not None:
            from dropmill.upkeep.webhook import Webhook  # its HTTP client takes 0.2 s to load

            if settings.webhook_secret is None:
                self.notices.append("Calls of --on-settled are not signed; set DROPMILL_WEBHOOK_SECRET to sign them.")
            webhook = Webhook(
                ledger=ledger,
                bus=bus,
                url=settings.on_settled,
                secret=settings.webhook_secret,
                base=str(settings.public_url or ""),
                clock=clock,
                health=health,
            )
            self._run(webhook.run(), "webhook")
        self._run(uploads.run(), "uploads")

        await executor.start()
        self._run(
            CleanUp({"upload_clean_up": intake.sweep, "attempt_clean_up": runner.sweep}, health).run(), "clean-up"
        )
        stack.push_async_callback(executor.close)

        views = Views(
            ledger=ledger,
            bus=bus,
            received=lambda file_id: intake.received(file_id) or uploads.received(file_id),
            base_path=settings.base_path,
        )
        self._services = Services(
            settings=settings,
            processor=self._processor,
            blobs=blobs,
            intake=intake,
            uploads=uploads,
            jobs=Jobs(ledger=ledger, executor=executor),
            config=config_file,
            resolver=resolver,
            views=views,
            topics=Topics(ledger=ledger, bus=bus, views=views, outputs=recorder),
            joins=JoinRates(settings.join_rate),
            log=event_log,
            health=health,
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
        await asyncio.gather(
            found.intake.drain(), found.uploads.drain(), self._executor.drain(self._settings.grace), *closing
        )

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


def _notices(environment: ScriptEnvironment) -> list[str]:
    """Lines for the start about secrets and what scripts do not get."""
    lines = [
        f"{name} came in the environment, which other programs may read; {name}_FILE takes it from a file."
        for name in secrets_in(os.environ)
    ]
    return lines if environment.notice is None else [*lines, environment.notice]


def _retry_policy(settings: Settings) -> RetryPolicy | None:
    if not settings.retry_exit_codes:
        return None
    return RetryPolicy(
        exit_codes=frozenset(settings.retry_exit_codes), times=settings.retry_times, delay_s=settings.retry_delay
    )


_IN_DATA = ("lock", "incoming", "blobs", "outputs", "attempts", "configs", "log", "ledger.sqlite")
_MANY_FILES = ("blobs", "outputs", "attempts")  # every file of theirs is created private, or is a script's


def _close_to_others(data: Path) -> str | None:
    """Take the rights of other users of this machine from the data folder; a sentence if there were any."""
    names = (*_IN_DATA, "ledger.sqlite-wal", "ledger.sqlite-shm")
    try:
        changed = tighten(data, names, shallow=_MANY_FILES)
    except OSError as error:
        return f"Other users of this machine may read {data}: its modes cannot be changed ({error.strerror})."
    if not changed:
        return None
    return (
        f"Other users of this machine could read {data}; the modes of {changed} files and folders in it "
        "were tightened to 0600 and 0700."
    )


def _end_this_process() -> None:
    # Under a foreign server process only a signal reaches whoever holds the sockets.
    os.kill(os.getpid(), signal.SIGTERM)

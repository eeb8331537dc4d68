"""The application factory: it chooses the engines behind the ports and composes the server.

`create_app` makes the Quart app; `Server` opens everything that runs beside it, in order, and closes it in the
opposite order. Background work survives faults of disk, network and database (`dropmill.health`). Any other error in
it is a bug of ours and stops the server with a traceback: half a server is worse than none.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from quart import Quart

from dropmill import assets
from dropmill.access.accounts import Accounts
from dropmill.access.links import Links
from dropmill.access.passwords import Passwords
from dropmill.access.policy import Policy
from dropmill.access.quotas import Quotas
from dropmill.access.refusals import Refusals
from dropmill.access.sessions import Sessions
from dropmill.access.sign_ins import SignIns
from dropmill.access.tokens import Tokens
from dropmill.access.visits import Visits
from dropmill.configfile.parser import ParserProcess
from dropmill.configfile.revisions import ConfigFile
from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.local.executor import SlotExecutor
from dropmill.engines.local.home import LEDGER_FILE, MARKER, LedgerHome
from dropmill.engines.local.lock import FolderLock
from dropmill.engines.local.outputs import FileOutputs
from dropmill.engines.sql import transfer
from dropmill.engines.sql.database import LedgerOptions
from dropmill.engines.sql.examine import Examined
from dropmill.engines.sql.ledger import SqlLedger
from dropmill.engines.sqlite.examine import examine
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.engines.sqlite.transfer import make_file, read_file, set_aside
from dropmill.health import Health
from dropmill.intake.leftovers import Leftovers
from dropmill.intake.limits import Gate, UploadLimits
from dropmill.intake.resumable import Uploads
from dropmill.intake.submissions import Intake
from dropmill.live.feed import Feed
from dropmill.live.joins import JoinRates
from dropmill.live.notices import Notices
from dropmill.live.presence import Presence
from dropmill.live.subscriber import LiveServices
from dropmill.live.topics import Topics
from dropmill.live.views import Views
from dropmill.model.clock import Clock
from dropmill.model.errors import DropmillError, SettingsError, Unavailable
from dropmill.model.events import TOPIC_CONFIG
from dropmill.model.faults import TEMPORARY
from dropmill.model.ids import new_node_id
from dropmill.model.nodes import Node
from dropmill.origin.proxies import TrustedProxies
from dropmill.origin.resolver import Resolver
from dropmill.ports.bus import Bus
from dropmill.ports.executor import Executor
from dropmill.ports.ledger.nodes import Recovery
from dropmill.private import close_to_others
from dropmill.processing.attempt import AttemptRunner, AttemptSettings
from dropmill.processing.environment import ScriptEnvironment
from dropmill.processing.jobs import Jobs
from dropmill.processing.limits import Limiter, Limits
from dropmill.processing.output import OutputRecorder
from dropmill.processing.pool import SlotPool
from dropmill.processing.processor import Processor
from dropmill.settings import Settings, secrets_in, this_host
from dropmill.slot.processes import keep_memory_private
from dropmill.upkeep.event_log import EventLog
from dropmill.upkeep.membership import Membership
from dropmill.upkeep.retention import CleanUp, Retention
from dropmill.web import routes, static_files
from dropmill.web.api.accounts import accounts as accounts_blueprint
from dropmill.web.api.config import config
from dropmill.web.api.downloads import downloads
from dropmill.web.api.events import events
from dropmill.web.api.history import history
from dropmill.web.api.invitations import invitations
from dropmill.web.api.jobs import jobs
from dropmill.web.api.links import links as links_blueprint
from dropmill.web.api.live import live
from dropmill.web.api.log import log as log_blueprint
from dropmill.web.api.notices import notices
from dropmill.web.api.ops import ops
from dropmill.web.api.quotas import quotas as quotas_blueprint
from dropmill.web.api.sessions import sessions as sessions_blueprint
from dropmill.web.api.submissions import submissions
from dropmill.web.api.tokens import tokens as tokens_blueprint
from dropmill.web.api.uploads import send
from dropmill.web.api.uploads import uploads as uploads_blueprint
from dropmill.web.link_pages import link_pages
from dropmill.web.pages import pages
from dropmill.web.server import connection, forwarding, guard, link_paths
from dropmill.web.server.capacity import Capacity, CapacityLimits
from dropmill.web.services import EXTENSION, Services

if TYPE_CHECKING:
    from dropmill.access.oidc import Oidc  # its libraries take a while to load, and most servers have no provider
    from dropmill.engines.postgres.bus import PostgresBus

log = logging.getLogger(__name__)

SOCKET_RESTARTING = 1012  # WebSocket close code: the server restarts, connect again
LEAVE_S = 5.0  # for the ledger to record that this process has ended; then others wait for its lease
# What the data folder holds that is the server's own.
IN_DATA = (
    *("lock", "incoming", "blobs", "journal", "outputs", "attempts", "configs", "log"),
    *(LEDGER_FILE, f"{LEDGER_FILE}-wal", f"{LEDGER_FILE}-shm", MARKER),
)
MANY_FILES = ("blobs", "outputs", "attempts")  # each file in these was created private, or belongs to a script


def create_app(settings: Settings, *, owns_sockets: bool = False) -> Quart:
    """The app, with a `Server` that opens when serving begins.

    Args:
        settings: of the person who starts it.
        owns_sockets: whether `dropmill serve` listens, so that `settings.bind` names the addresses.

    Raises:
        SettingsError: the processor cannot be used.
        AssertionError: it is not said who may use one of the routes (`dropmill.web.routes`).
    """
    is_open = not requires_sign_in(settings, owns_sockets=owns_sockets)
    app = _App(
        "dropmill",
        static_folder=str(assets.static()),
        static_url_path="/static",
        template_folder=str(assets.templates()),
    )
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = None  # no Expires: see the guard
    app.url_map.merge_slashes = False  # else Werkzeug redirects, to an address made from the Host header
    app.json.sort_keys = False  # type: ignore[attr-defined]  # members in the documented order
    static_files.install(app, assets.static(), from_sources=settings.reload)
    connection.install(app, Capacity(CapacityLimits.from_settings(settings), TrustedProxies(settings.trusted_proxy)))
    guard.install(app, settings, is_open=is_open)
    api = (submissions, jobs, history, downloads, config, live, events, notices, log_blueprint, uploads_blueprint, send)
    access = (sessions_blueprint, tokens_blueprint, accounts_blueprint, quotas_blueprint, links_blueprint, invitations)
    for blueprint in (pages, link_pages, *api, *access, ops):
        app.register_blueprint(blueprint)
    routes.require_complete(app.url_map.iter_rules())
    link_paths.install(app)
    forwarding.install(app, settings)
    server = Server(
        app, settings, Processor.from_settings(settings, Path.cwd()), is_open=is_open, owns_sockets=owns_sockets
    )
    app.extensions["dropmill.server"] = server
    app.before_serving(server.open_or_exit)
    app.after_serving(server.close)
    return app


class _App(Quart):
    async def dispatch_request(self, request_context: Any = None) -> Any:
        try:
            return await super().dispatch_request(request_context)
        except asyncio.CancelledError:
            handling = asyncio.current_task()
            if handling is None or handling.cancelling():
                raise  # the client has disconnected
            # Something that the request awaited was cancelled, not the request. Quart would send no response.
            raise Unavailable("The server is stopping; try again in a moment.") from None

    def log_exception(self, exception_info: Any) -> None:
        # Errors at the start are printed as one sentence; a traceback would hide it.
        if not isinstance(exception_info[1], DropmillError):
            super().log_exception(exception_info)


def server_of(app: Quart) -> "Server":
    """The server of an app made by `create_app`."""
    server: Server = app.extensions["dropmill.server"]
    return server


def requires_sign_in(settings: Settings, *, owns_sockets: bool) -> bool:
    """Whether callers must be signed in: unless told otherwise, where anybody but this machine could reach the server.

    Args:
        settings: of the person who starts it.
        owns_sockets: whether `settings.bind` names the addresses; otherwise they are not known.
    """
    if settings.auth != "auto":
        return settings.auth == "required"
    is_behind_proxy = settings.public_url is not None or bool(settings.trusted_proxy)
    is_for_this_machine = owns_sockets and settings.is_loopback_only and not settings.is_called_from_elsewhere
    return is_behind_proxy or not is_for_this_machine


@dataclass(frozen=True, kw_only=True, slots=True)
class _Processing:
    """What runs jobs.

    Attributes:
        runner: runs one attempt.
        executor: not started yet.
    """

    runner: AttemptRunner
    executor: SlotExecutor


class _Process:
    """What a server and a worker have in common: a ledger, a store, a bus, a node, slots, and background work.

    Attributes:
        failure: what stopped the process, or kept it from opening; None: nothing.
        on_failure: called once, on the loop, when an error of our own, or the end of its node, must stop the process.
        is_gone: whether its node was struck off: it must end and begin anew.
        notices: lines for the person who starts it.
    """

    def __init__(self, settings: Settings, processor: Processor, *, is_worker: bool) -> None:
        """Open nothing yet."""
        self._settings = settings
        self._processor = processor
        self._is_worker = is_worker
        self._health = Health()
        self._clock = Clock()
        self._node = Node(id=new_node_id(), host=this_host(), lock="data folder", is_worker=is_worker)
        self._stack = AsyncExitStack()
        self._background: list[asyncio.Task[None]] = []
        self._membership: Membership | None = None
        self._ledger: SqlLedger | None = None
        self._notified: PostgresBus | None = None
        self._on_taken: Callable[[Recovery], None] = lambda _: None
        self._keeping: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._has_to_look = False
        self.failure: BaseException | None = None
        self.on_failure: Callable[[], None] = _end_this_process
        self.is_gone = False
        self.notices: list[str] = []

    # --- open --------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Open everything, settle what an earlier process left open, and start to work.

        Raises:
            SettingsError: something cannot be used; everything opened so far is closed again.
        """
        try:
            await self._open()
        except BaseException as error:
            self.failure = error
            await self._stack.aclose()
            raise
        finally:
            if self._ledger is not None:
                self._ledger.is_starting = False

    async def _open(self) -> None:
        raise NotImplementedError

    async def _open_data_folder(self) -> Path:
        data = self._settings.data.absolute()
        lock = FolderLock(data)
        await asyncio.to_thread(lock.acquire)
        self._stack.callback(lock.release)
        if notice := await asyncio.to_thread(close_to_others, data, IN_DATA, shallow=MANY_FILES):
            self.notices.append(notice)
        if self._settings.database_url is not None:
            self._node = replace(self._node, lock=await asyncio.to_thread(lock.name), lease_s=self._settings.lease)
        return data

    @property
    def _is_shared(self) -> bool:
        return self._settings.blobs is not None

    @property
    def _bytes_folder(self) -> Path:
        """Where files, results and output are."""
        return (self._settings.blobs or self._settings.data).absolute()

    async def _open_blobs(self) -> DiskBlobStore:
        blobs = DiskBlobStore(self._bytes_folder, node=self._node.id, is_shared=self._is_shared)
        await blobs.open()
        self._stack.push_async_callback(blobs.close)
        return blobs

    async def _open_ledger(self) -> tuple[SqlLedger, Bus]:
        options: LedgerOptions = {
            "records_deliveries": self._settings.on_settled is not None,
            "keep_revisions": self._settings.keep_revisions,
            "health": self._health,
            "limits": self._settings.owner_limits,
        }
        local = LocalBus()
        home = LedgerHome(self._bytes_folder)
        await asyncio.to_thread(home.require, in_postgres=self._settings.database_url is not None)
        ledger = _new_ledger(self._settings, local.publish, **options)
        ledger.is_starting = True
        self._ledger = ledger
        self._stack.push_async_callback(ledger.close)
        await ledger.open()
        if self._settings.database_url is None:
            return ledger, local
        await asyncio.to_thread(home.settle, ledger.id)
        from dropmill.engines.postgres.bus import PostgresBus
        from dropmill.engines.postgres.connecting import connect

        url = self._settings.database_url
        bus = PostgresBus(local, lambda: connect(url), self._health)
        bus.on_events = lambda: self._look(ledger)
        self._notified = bus
        return ledger, bus

    def _look(self, ledger: SqlLedger) -> None:
        """Have the ledger publish what others have committed; a look at a time."""
        self._has_to_look = True
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_on(ledger))

    async def _look_on(self, ledger: SqlLedger) -> None:
        while self._has_to_look:
            self._has_to_look = False
            await ledger.see_others()

    async def _open_node(self, ledger: SqlLedger) -> None:
        # Every other node with this one's lock is dead: this process holds it.
        await ledger.enter(self._node)
        if self._node.lease_s is not None:
            self._stack.push_async_callback(self._leave, ledger)
            self._open_membership(ledger, self._node.lease_s)
        recovery = await ledger.recover(self._settings.max_attempts, "the server stopped before it had arrived whole")
        if recovery.lost:
            log.info("%d attempts were lost with an earlier run.", len(recovery.lost))

    async def _leave(self, ledger: SqlLedger) -> None:
        """Hand back what is under way; what cannot be handed back now is taken by others once the lease is over."""
        for task in (self._looking, self._keeping):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        if not self.is_gone:
            try:
                async with asyncio.timeout(LEAVE_S):
                    handed_back = await ledger.leave("the server that received it was stopped")
            except (TimeoutError, *TEMPORARY) as error:
                log.warning("This process could not sign off: %s", error)
            else:
                if handed_back.lost:
                    log.info("%d jobs were handed back.", len(handed_back.lost))

    def _open_membership(self, ledger: SqlLedger, lease_s: float) -> None:
        """Keep the lease, from now until this process leaves: opening and closing everything may take long."""
        self._membership = Membership(
            ledger,
            lease_s=lease_s,
            max_attempts=self._settings.max_attempts,
            on_gone=self._has_gone,
            on_taken=lambda recovery: self._on_taken(recovery),
            health=self._health,
        )
        self._keeping = asyncio.create_task(self._membership.run(), name="lease")
        self._keeping.add_done_callback(self._has_ended)

    def _has_gone(self) -> None:
        self.is_gone = True
        self.on_failure()

    async def _open_processing(
        self,
        data: Path,
        ledger: SqlLedger,
        blobs: DiskBlobStore,
        bus: Bus,
        recorder: OutputRecorder,
        queues: tuple[str | None, ...] = (None,),
    ) -> _Processing:
        silence_s = None if self._node.lease_s is None else 2 * self._node.lease_s
        pool = SlotPool(self._processor, self._settings.concurrency, self._health, silence_s=silence_s)
        limiter = Limiter(Limits.from_settings(self._settings), data)
        if lacking := await asyncio.to_thread(limiter.open):
            self.notices.append(lacking)
        self._stack.callback(limiter.close)
        runner = AttemptRunner(
            ledger=ledger,
            blobs=blobs,
            bus=bus,
            outputs=recorder,
            limiter=limiter,
            processor=self._processor,
            settings=AttemptSettings.from_settings(self._settings),
            health=self._health,
        )
        executor = SlotExecutor(runner=runner, pool=pool, outputs=recorder, on_failure=self._fail, queues=queues)
        if self._notified is not None:
            self._notified.on_work = executor.wake_all
            self._notified.on_cancel = executor.see_cancels
        return _Processing(runner=runner, executor=executor)

    # --- run ---------------------------------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        running = asyncio.create_task(work, name=name)
        self._background.append(running)
        running.add_done_callback(self._has_ended)

    def _has_ended(self, running: asyncio.Task[None]) -> None:
        if not running.cancelled() and (error := running.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Log a bug in background work, and stop."""
        log.critical("Dropmill stops because of an error in its own work.", exc_info=error)
        if self.failure is None:
            self.failure = error
            self.on_failure()

    async def _stop_background(self) -> None:
        for running in self._background:
            running.cancel()
        if self._background:
            await asyncio.wait(self._background)


class Worker(_Process):
    """Everything that is open in `dropmill worker`: it runs jobs of a ledger that servers share."""

    def __init__(self, settings: Settings, processor: Processor, queues: tuple[str, ...]) -> None:
        """Open nothing yet.

        Args:
            settings: as those of the servers.
            processor: runs in the slots.
            queues: whose jobs it runs; none: those without a named one.
        """
        super().__init__(settings, processor, is_worker=True)
        self._queues: tuple[str | None, ...] = queues or (None,)
        self._executor: SlotExecutor | None = None

    async def _open(self) -> None:
        keep_memory_private()
        self.notices += _notices(self._processor.environment)
        data = await self._open_data_folder()
        blobs = await self._open_blobs()
        ledger, bus = await self._open_ledger()
        await self._open_node(ledger)
        recorder = OutputRecorder(FileOutputs(self._bytes_folder / "outputs"), bus)
        processing = await self._open_processing(data, ledger, blobs, bus, recorder, self._queues)
        self._stack.push_async_callback(self._stop_background)
        if self._notified is not None:
            self._run(self._notified.run(), "bus")
        self._executor = processing.executor
        await processing.executor.start()
        self._stack.push_async_callback(processing.executor.close)
        leftovers = Leftovers(blobs, ledger)  # of a server that this worker declares gone
        self._on_taken = lambda _: leftovers.expect()
        sweeps = {"attempt_clean_up": processing.runner.sweep, "upload_clean_up": leftovers.sweep}
        self._run(CleanUp(sweeps, self._health).run(), "clean-up")
        self._run(self._forget_purged(bus, processing.runner), "purged configs")

    async def _forget_purged(self, bus: Bus, runner: AttemptRunner) -> None:
        """Remove this worker's copies of configs that a server has purged, until cancelled."""
        subscription = bus.subscribe()
        subscription.join(TOPIC_CONFIG)
        try:
            while True:
                await subscription.next()
                await self._health.insist("purged_configs", runner.forget_purged_configs)
        finally:
            subscription.close()

    async def close(self) -> None:
        """Wait for running attempts until their grace is over, hand the others back, and close everything."""
        if self._executor is not None:
            await self._executor.drain(0 if self.is_gone else self._settings.grace)
        await self._stack.aclose()


class Server(_Process):
    """Everything that is open while the app is served.

    Attributes:
        first_path: path of the one-time link with which the first account is made; None if there is an account, or
            none is needed. Whoever has it gets in: it belongs on the terminal alone.
    """

    def __init__(
        self, app: Quart, settings: Settings, processor: Processor, *, is_open: bool, owns_sockets: bool
    ) -> None:
        """Open nothing yet."""
        super().__init__(settings, processor, is_worker=False)
        self._is_open = is_open
        self._owns_sockets = owns_sockets
        self._app = app
        self._services: Services | None = None
        self._executor: Executor | None = None
        self._event_log: EventLog | None = None
        self.first_path: str | None = None

    async def open_or_exit(self) -> None:
        """Open, or exit with one line; if this raised, Quart and the server program would print two tracebacks."""
        try:
            await self.open()
            if self.first_path is not None and not self._owns_sockets:
                where = f"{self._settings.public_url or 'its address'}{self.first_path}"
                print(f"dropmill: there is no account yet; make the first one at {where}", flush=True)  # noqa: T201
        except DropmillError as error:
            print(f"dropmill: {error.detail}", file=sys.stderr)  # noqa: T201  # as a command line does
            # The loop would also report the task that raises SystemExit.
            asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
            sys.exit(2)

    # --- open --------------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Each part needs only the ones above it. They are closed in the opposite order."""
        keep_memory_private()
        self.notices += _notices(self._processor.environment)
        data = await self._open_data_folder()
        blobs = await self._open_blobs()
        ledger, bus = await self._open_ledger()
        await self._open_node(ledger)
        config_file = await self._open_config(ledger)
        outputs = FileOutputs(self._bytes_folder / "outputs")
        recorder = OutputRecorder(outputs, bus)
        processing: _Processing | None = None
        executor: Executor
        if self._settings.executor == "local":
            processing = await self._open_processing(data, ledger, blobs, bus, recorder)
            config_file.on_purge = processing.runner.forget_config
            executor = processing.executor
        else:
            from dropmill.engines.postgres.executor import WorkersExecutor

            executor = WorkersExecutor()
        resolver = self._open_resolver()
        gate = self._open_gate(blobs)
        intake = await self._open_intake(ledger, blobs, bus, gate, resolver, executor)
        uploads = await self._open_uploads(ledger, blobs, bus, gate, intake)
        event_log = await self._open_event_log(ledger, bus)
        self._run(config_file.watch(), "config watch")
        self._run(intake.run(), "intake")
        self._open_retention(ledger, blobs, outputs, event_log)
        self._open_webhook(ledger, bus)
        self._run(uploads.run(), "uploads")
        if self._notified is not None:
            self._run(self._notified.run(), "bus")
        self._on_taken = lambda _: intake.expect_leftovers()
        self._executor = executor
        if processing is not None:
            await processing.executor.start()
            self._stack.push_async_callback(processing.executor.close)
        self._open_clean_up(intake, None if processing is None else processing.runner)
        views = self._open_views(ledger, bus, intake, uploads)
        policy = Policy(is_config_readable=self._settings.config_readable)
        refusals = self._open_refusals(ledger)
        topics = Topics(ledger=ledger, views=views, outputs=recorder, policy=policy, refusals=refusals)
        jobs = Jobs(ledger=ledger, executor=executor)
        passwords = self._open_passwords()
        sessions = Sessions(
            ledger,
            passwords,
            refusals,
            idle_s=self._settings.session_idle,
            lifetime_s=self._settings.session_lifetime,
        )
        if not self._is_open and (first := await sessions.offer_first()) is not None:
            self.first_path = f"/sign-in#first={first}"
        self._services = self._app.extensions[EXTENSION] = Services(
            settings=self._settings,
            policy=policy,
            processor=self._processor,
            blobs=blobs,
            intake=intake,
            uploads=uploads,
            jobs=jobs,
            config=config_file,
            resolver=resolver,
            views=views,
            topics=topics,
            live=self._open_live(ledger, bus, policy, topics, jobs, refusals),
            notices=Notices(ledger),
            log=event_log,
            health=self._health,
            accounts=Accounts(ledger, passwords),
            sessions=sessions,
            tokens=Tokens(ledger),
            sign_ins=self._open_sign_ins(ledger, bus),
            oidc=self._open_oidc(ledger, sessions, refusals),
            refusals=refusals,
            quotas=Quotas(ledger),
            links=Links(ledger, passwords, refusals),
            visits=self._open_visits(ledger, bus),
            membership=self._membership,
            is_open=self._is_open,
        )

    async def _open_config(self, ledger: SqlLedger) -> ConfigFile:
        parser = ParserProcess(
            environment=self._processor.environment.variables, keeps_tags=self._settings.keeps_config_tags
        )
        self._stack.push_async_callback(parser.close)
        await parser.start()
        location = await asyncio.to_thread(lambda: self._settings.config_location)
        config_file = ConfigFile(location, ledger, parser, aside=self._settings.config_aside, health=self._health)
        if notice := await config_file.open():
            self.notices.append(notice)
        return config_file

    def _open_resolver(self) -> Resolver:
        resolver = Resolver(self._settings.dns_servers)
        self._stack.push_async_callback(resolver.close)
        return resolver

    def _open_gate(self, blobs: DiskBlobStore) -> Gate:
        settings = self._settings
        limits = UploadLimits(
            idle_timeout_s=settings.idle_timeout,
            min_free=settings.min_free,
            min_rate=settings.min_rate,
            max_file_size=settings.max_file_size,
            max_submission_size=settings.max_submission_size,
            max_files=settings.max_files,
            max_per_client=settings.max_uploads_per_client,
            accept=settings.accept,
        )
        return Gate(limits, blobs)

    async def _open_intake(
        self,
        ledger: SqlLedger,
        blobs: DiskBlobStore,
        bus: Bus,
        gate: Gate,
        resolver: Resolver,
        executor: Executor,
    ) -> Intake:
        intake = Intake(
            ledger=ledger,
            blobs=blobs,
            executor=executor,
            bus=bus,
            resolver=resolver,
            gate=gate,
            seal_after_s=self._settings.seal_after,
            clock=self._clock,
            health=self._health,
        )
        await intake.recover()
        return intake

    async def _open_uploads(
        self, ledger: SqlLedger, blobs: DiskBlobStore, bus: Bus, gate: Gate, intake: Intake
    ) -> Uploads:
        uploads = Uploads(
            ledger=ledger,
            blobs=blobs,
            bus=bus,
            intake=intake,
            gate=gate,
            expiry_s=self._settings.upload_expiry,
            clock=self._clock,
            health=self._health,
        )
        await uploads.recover()
        return uploads

    async def _open_event_log(self, ledger: SqlLedger, bus: Bus) -> EventLog:
        """The log, and with it the place in the order of closing where background work ends and the log is flushed."""
        event_log = self._event_log = EventLog(self._settings.log_path.absolute(), ledger, bus, health=self._health)
        await event_log.open()
        self._stack.push_async_callback(self._stop_background)
        self._run(event_log.run(), "event log")
        return event_log

    def _open_retention(
        self, ledger: SqlLedger, blobs: DiskBlobStore, outputs: FileOutputs, event_log: EventLog
    ) -> None:
        retention = Retention(
            ledger=ledger,
            blobs=blobs,
            outputs=outputs,
            logged=event_log.make_durable,
            keep_s=self._settings.keep,
            keep_bytes=self._settings.keep_size,
            keep_events_s=self._settings.keep_events,
            clock=self._clock,
            health=self._health,
        )
        self._run(self._on_duty(ledger, "retention", retention.run), "retention")

    async def _on_duty(self, ledger: SqlLedger, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do something as soon as, and as long as, this node is the one of all nodes that does it."""
        if self._node.lease_s is not None:
            while not await self._health.insist(name, lambda: ledger.take_duty(name)):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(self._node.lease_s)
        await work()

    def _open_webhook(self, ledger: SqlLedger, bus: Bus) -> None:
        settings = self._settings
        if settings.on_settled is None:
            return
        from dropmill.upkeep.webhook import Webhook  # its HTTP client takes 0.2 s to load

        if settings.webhook_secret is None:
            self.notices.append("Calls of --on-settled are not signed; set DROPMILL_WEBHOOK_SECRET to sign them.")
        webhook = Webhook(
            ledger=ledger,
            bus=bus,
            url=settings.on_settled,
            secret=settings.webhook_secret,
            base=str(settings.public_url or ""),
            clock=self._clock,
            health=self._health,
        )
        self._run(self._on_duty(ledger, "webhook", webhook.run), "webhook")

    def _open_clean_up(self, intake: Intake, runner: AttemptRunner | None) -> None:
        sweeps: dict[str, Callable[[], Awaitable[int]]] = {"upload_clean_up": intake.sweep}
        if runner is not None:
            sweeps["attempt_clean_up"] = runner.sweep
        self._run(CleanUp(sweeps, self._health).run(), "clean-up")

    def _open_live(
        self, ledger: SqlLedger, bus: Bus, policy: Policy, topics: Topics, jobs: Jobs, refusals: Refusals
    ) -> LiveServices:
        feed = Feed(ledger, bus)
        self._run(feed.run(), "feed")
        return LiveServices(
            policy=policy,
            topics=topics,
            feed=feed,
            presence=Presence(),
            orders=jobs,
            joins=JoinRates(self._settings.join_rate),
            refusals=refusals,
        )

    def _open_passwords(self) -> Passwords:
        passwords = Passwords()
        self._stack.callback(passwords.close)
        return passwords

    def _open_refusals(self, ledger: SqlLedger) -> Refusals:
        refusals = Refusals(ledger)
        self._stack.push_async_callback(refusals.record, all_of_it=True)
        self._run(refusals.run(), "refusals")
        return refusals

    def _open_sign_ins(self, ledger: SqlLedger, bus: Bus) -> SignIns:
        settings, jwts = self._settings, None
        if settings.jwt_issuer and settings.jwt_audience and settings.jwt_keys:
            from dropmill.access.jwt import Jwts  # its libraries take a while to load

            jwts = Jwts(
                issuer=settings.jwt_issuer,
                audience=settings.jwt_audience,
                keys=settings.jwt_keys,
                name_claim=settings.jwt_name_claim,
                groups_claim=settings.jwt_groups_claim,
                roles=settings.auth_group,
            )
            self._run(jwts.run(), "keys of JWTs")
        sign_ins = SignIns(ledger=ledger, bus=bus, idle_s=settings.session_idle, jwts=jwts)
        self._run(sign_ins.run(), "sign-ins")
        return sign_ins

    def _open_oidc(self, ledger: SqlLedger, sessions: Sessions, refusals: Refusals) -> "Oidc | None":
        if self._settings.oidc_issuer is None:
            return None
        from dropmill.access.oidc import Oidc, OidcSettings  # its libraries take a while to load

        if (settings := OidcSettings.from_settings(self._settings)) is None:
            return None
        oidc = Oidc(settings, ledger=ledger, sessions=sessions, refusals=refusals)
        self._run(oidc.run(), "identity provider")
        return oidc

    def _open_visits(self, ledger: SqlLedger, bus: Bus) -> Visits:
        visits = Visits(ledger=ledger, bus=bus)
        self._run(visits.run(), "visits")
        return visits

    def _open_views(self, ledger: SqlLedger, bus: Bus, intake: Intake, uploads: Uploads) -> Views:
        return Views(
            ledger=ledger,
            bus=bus,
            received=lambda file_id: intake.received(file_id) or uploads.received(file_id),
            senders=intake.senders.of,
            base_path=self._settings.base_path,
        )

    # --- close -------------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Refuse new work, close sockets and uploads, and wait for running attempts until their grace is over.

        No job is lost: the next start declares a killed attempt lost and queues its job again, while attempts are left.
        """
        found = self._services
        if found is None or self._executor is None or found.is_draining:
            return
        found.is_draining = True
        closing = [close(SOCKET_RESTARTING, "The server is restarting.") for close in list(found.closers)]
        await asyncio.gather(
            found.intake.drain(),
            found.uploads.drain(),
            self._executor.drain(0 if self.is_gone else self._settings.grace),
            *closing,
        )

    async def close(self) -> None:
        """Drain if that has not happened, then close everything; every change given to the ledger is committed."""
        await self.drain()
        await self._stack.aclose()

    async def _stop_background(self) -> None:
        await super()._stop_background()
        if self._event_log is not None:
            await self._event_log.flush()


def _notices(environment: ScriptEnvironment) -> list[str]:
    """Lines for the start: secrets in the environment, and variables that scripts do not get."""
    lines = [
        f"{name} came in the environment, which other programs may read; {name}_FILE takes it from a file."
        for name in secrets_in(os.environ)
    ]
    return lines if environment.notice is None else [*lines, environment.notice]


def _end_this_process() -> None:
    # Another ASGI server holds the sockets, and only a signal can stop it.
    os.kill(os.getpid(), signal.SIGTERM)


# --- the ledger ------------------------------------------------------------------------------------------------------


def _new_ledger(
    settings: Settings, on_commit: Callable[[Mapping[str, int]], None], **options: Unpack[LedgerOptions]
) -> SqlLedger:
    """The ledger that the settings name, not open yet.

    Raises:
        SettingsError: `DROPMILL_DATABASE_URL` cannot be used.
    """
    if settings.database_url is None:
        return SqliteLedger(settings.data.absolute() / LEDGER_FILE, on_commit, **options)
    ledger: SqlLedger = _postgres().PostgresLedger(settings.database_url, on_commit, **options)
    return ledger


def _postgres() -> Any:
    """The engine for Postgres, whose driver is an extra.

    Raises:
        SettingsError: the driver is not installed.
    """
    try:
        from dropmill.engines.postgres import ledger
    except ImportError as error:
        if error.name != "psycopg":
            raise
        raise SettingsError(
            "DROPMILL_DATABASE_URL names a Postgres database, but the driver is not installed: "
            "pip install 'dropmill[postgres]'."
        ) from None
    return ledger


def offline_ledger(settings: Settings) -> SqlLedger:
    """The ledger of these settings, for a command that may run beside the server: open it with `without_lock=True`.

    Raises:
        SettingsError: it is not where the settings say.
    """
    LedgerHome(settings.data.absolute()).require(in_postgres=settings.database_url is not None)
    # Without `keep_revisions`: the server alone drops revisions.
    return _new_ledger(settings, lambda _: None, limits=settings.owner_limits)


def examine_ledger(settings: Settings) -> Examined | None:
    """What the ledger holds, without opening it; None if there is none yet.

    Raises:
        OSError: it cannot be read.
        SettingsError: the driver of its database is not installed.
    """
    if settings.database_url is not None:
        _postgres()
        from dropmill.engines.postgres.examine import examine as examine_database

        return examine_database(settings.database_url, settings.config_location)
    path = settings.data.absolute() / LEDGER_FILE
    return examine(path, settings.config_location) if path.exists() else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """A ledger that was moved.

    Attributes:
        counts: rows of each table.
        events_sha256: of all events, on both sides.
        original: where it was, and still is.
    """

    counts: Mapping[str, int]
    events_sha256: str
    original: str


def move_ledger(settings: Settings, *, is_back: bool) -> Moved:
    """Move the ledger of the data folder to `settings.database_url`, or back; blocks.

    The target counts once all of it was copied and compared. A process that is killed before leaves the original as it
    was, and a target that holds nothing; one that is killed after that goes on when it is started again.

    Raises:
        DataFolderInUse: a server runs.
        SettingsError: source or target cannot be used, the target holds another ledger, or the copy differs.
    """
    _postgres()
    if settings.database_url is None:
        raise AssertionError("there is no database to move to")
    data = settings.data.absolute()
    if not data.is_dir():
        raise SettingsError(f"--data {data}: there is no such folder.")
    lock = FolderLock(data)
    lock.acquire()
    try:
        return (_move_back if is_back else _move_to_postgres)(data, settings.database_url)
    finally:
        lock.release()


def _move_to_postgres(data: Path, url: str) -> Moved:
    from dropmill.engines.postgres.transfer import open_database

    home = LedgerHome(data)
    if home.marked is not None:
        raise SettingsError(f"The ledger of {data} is in Postgres already.")
    path = data / LEDGER_FILE
    with read_file(path) as source, open_database(url) as target:
        moved_id = transfer.ledger_id(source)
        if moved_id is None:
            raise SettingsError(f"{path} was never opened by a server of this version; start `dropmill serve` once.")
        if target.is_empty:
            target.make_tables()
            contents = transfer.copy(source, target)
        else:
            target.require_current()
            if transfer.ledger_id(target) != moved_id:
                raise SettingsError("The Postgres database holds a ledger already; name one that is empty.")
            # An earlier run was killed when all was copied.
            contents = transfer.contents(source)
            transfer.require_equal(contents, transfer.contents(target))
    home.settle(moved_id)
    original = set_aside(path, "moved")
    return Moved(counts=contents.counts, events_sha256=contents.events_sha256, original=str(original))


def _move_back(data: Path, url: str) -> Moved:
    from dropmill.engines.postgres.transfer import open_database

    home, path = LedgerHome(data), data / LEDGER_FILE
    marked = home.marked
    if marked is None and path.exists():
        raise SettingsError(f"{data} has a ledger of its own, {LEDGER_FILE}; move it away first.")
    with open_database(url) as source:
        source.require_current()
        found = transfer.ledger_id(source)
        if found is None or marked not in (None, found):
            raise SettingsError(f"{data} belongs to another ledger than the Postgres database holds.")
        with make_file(path) as target:
            contents = transfer.copy(source, target)
    home.leave()
    return Moved(
        counts=contents.counts, events_sha256=contents.events_sha256, original="the tables in the Postgres database"
    )

"""The bus between processes, over Postgres NOTIFY (https://www.postgresql.org/docs/15/sql-notify.html).

A trigger on the events notifies `events` after each commit, and `work` and `cancel` if that is what it has recorded: no
process has to do anything for that, and a commit without an answer notifies all the same. Who hears `events` reads the
ledger. What is in no event, such as how far an output is, travels in the notification, gathered for a moment.

One connection listens, another one sends; both are direct ones, because a pool that lends connections by transaction
loses notifications. Each sends itself a notification now and then: a connection that is half open hears nothing.
Whatever was missed before a connection was made is looked at once it is (`LocalNotifications.miss`).
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final, LiteralString, Protocol

import psycopg
from psycopg import sql

from dropmill.health import Health
from dropmill.model.ids import FileId, new_node_id
from dropmill.model.jobs import Progress
from dropmill.ports.bus import Subscription

GATHER_S = 0.05  # from a notification to its sending; nobody notices, and there are at most 20 a second
PAYLOAD_BYTES = 7000  # Postgres takes 8000
PING_S = 5.0  # between notifications to itself
RETRY_S = 0.5  # after a connection broke

EVENTS, WORK, CANCEL = "events", "work", "cancel"

_PART = "bus"  # on the health board

_CHANNEL: Final[LiteralString] = "SELECT 'dropmill.' || current_schema()"
TRIGGER: Final = (
    """
    CREATE OR REPLACE FUNCTION dropmill_notify() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE channel text := 'dropmill.' || TG_TABLE_SCHEMA;
    BEGIN
        PERFORM pg_notify(channel, 'events');
        IF EXISTS (SELECT 1 FROM added WHERE name = 'job.queued') THEN PERFORM pg_notify(channel, 'work'); END IF;
        IF EXISTS (SELECT 1 FROM added WHERE name = 'job.cancel_requested') THEN
            PERFORM pg_notify(channel, 'cancel');
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE OR REPLACE TRIGGER dropmill_notify AFTER INSERT ON events
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION dropmill_notify()
    """,
)
"""Statements that make the trigger, or change nothing. Postgres sends equal notifications of one commit once."""

logger = logging.getLogger(__name__)


class LocalNotifications(Protocol):
    """The bus of this process (`dropmill.ports.bus.Bus`)."""

    def publish(self, positions: Mapping[str, int]) -> None: ...
    def miss(self) -> None: ...
    def report(self, progress: Progress) -> None: ...
    def newest_progress(self, file_id: FileId, stage: str) -> Progress | None: ...
    def forget_progress(self, file_id: FileId) -> None: ...
    def subscribe(self) -> Subscription: ...


class PostgresBus:
    """`dropmill.ports.bus.Bus` between processes.

    Attributes:
        on_events: called on the loop when others may have committed.
        on_work: the same when jobs may have been queued.
        on_cancel: the same when a running job may be to be cancelled.
    """

    def __init__(
        self, local: LocalNotifications, connect: Callable[[], "psycopg.Connection[Any]"], health: Health
    ) -> None:
        """Connect to nothing yet.

        Args:
            local: of this process.
            connect: makes a connection; blocks.
            health: shows whether notifications arrive.
        """
        self._local = local
        self._connect = connect
        self._health = health
        self._id = new_node_id()[:12]
        self._positions: dict[str, int] = {}
        self._progress: dict[tuple[FileId, str], Progress] = {}
        self._forgotten: set[FileId] = set()
        self._has_pending = asyncio.Event()
        self._broken = asyncio.Event()
        self._heard_at = 0.0
        self.on_events: Callable[[], None] = _ignore
        self.on_work: Callable[[], None] = _ignore
        self.on_cancel: Callable[[], None] = _ignore

    # --- as a bus ----------------------------------------------------------------------------------------------------

    def publish_committed(self, positions: Mapping[str, int]) -> None:
        """Notify the subscribers of this process of what the ledger says; others hear of it by the commit."""
        self._local.publish(positions)

    def publish(self, positions: Mapping[str, int]) -> None:
        self._local.publish(positions)
        self._positions.update(positions)
        self._has_pending.set()

    def report(self, progress: Progress) -> None:
        self._local.report(progress)
        self._progress[progress.file_id, progress.stage] = progress
        self._has_pending.set()

    def newest_progress(self, file_id: FileId, stage: str) -> Progress | None:
        return self._local.newest_progress(file_id, stage)

    def forget_progress(self, file_id: FileId) -> None:
        self._local.forget_progress(file_id)
        self._progress = {key: progress for key, progress in self._progress.items() if key[0] != file_id}
        self._forgotten.add(file_id)
        self._has_pending.set()

    def subscribe(self) -> Subscription:
        return self._local.subscribe()

    # --- between processes -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Hear and send until cancelled; a connection that breaks is made anew."""
        while True:
            try:
                await self._run_once()
            except (psycopg.Error, OSError) as error:
                self._health.failed(_PART, error)
            await asyncio.sleep(RETRY_S)

    async def _run_once(self) -> None:
        """Hear and send until a connection breaks."""
        loop = asyncio.get_running_loop()
        self._broken.clear()
        listening, channel = await asyncio.to_thread(self._listen)
        try:
            sending = await asyncio.to_thread(self._connect)
        except BaseException:
            listening.close()
            raise
        descriptor = listening.fileno()
        loop.add_reader(descriptor, self._hear, listening, descriptor)
        try:
            self._health.works(_PART)
            self._heard_at = time.monotonic()
            self._miss()
            await self._send_until_broken(sending, channel)
        finally:
            loop.remove_reader(descriptor)
            for connection in (listening, sending):
                with contextlib.suppress(psycopg.Error):
                    connection.close()

    def _listen(self) -> tuple["psycopg.Connection[Any]", str]:
        connection = self._connect()
        connection.autocommit = True
        found = connection.execute(_CHANNEL).fetchone()
        channel = str(found[0]) if found else ""
        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        return connection, channel

    def _miss(self) -> None:
        self._local.miss()
        self.on_events()
        self.on_work()
        self.on_cancel()

    def _hear(self, connection: "psycopg.Connection[Any]", descriptor: int) -> None:
        """Take what has come, without waiting."""
        try:
            connection.pgconn.consume_input()
            while (notification := connection.pgconn.notifies()) is not None:
                self._heard_at = time.monotonic()
                self._take(notification.extra.decode())
        except (psycopg.Error, ValueError) as error:
            logger.debug("the connection that listens broke: %s", error)
            self._broken.set()
            self._has_pending.set()
            asyncio.get_running_loop().remove_reader(descriptor)  # a broken connection no longer says its number

    def _take(self, payload: str) -> None:
        if payload == EVENTS:
            self.on_events()
        elif payload == WORK:
            self.on_work()
        elif payload == CANCEL:
            self.on_cancel()
        else:
            message = json.loads(payload)
            if message["from"] == self._id:
                return
            if positions := message.get("positions"):
                self._local.publish(positions)
            for one in message.get("progress", ()):
                self._local.report(Progress(**one))  # its ids are texts, as they were
            for file_id in message.get("forgotten", ()):
                self._local.forget_progress(FileId(file_id))

    async def _send_until_broken(self, connection: "psycopg.Connection[Any]", channel: str) -> None:
        connection.autocommit = True
        while not self._broken.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_S):
                    await self._has_pending.wait()
                    await asyncio.sleep(GATHER_S)
            if time.monotonic() - self._heard_at > 3 * PING_S:
                raise psycopg.OperationalError("no notification has arrived for too long")
            self._has_pending.clear()
            for payload in self._payloads():
                await asyncio.to_thread(connection.execute, "SELECT pg_notify(%s, %s)", (channel, payload))
        raise psycopg.OperationalError("the connection that listens broke")

    def _payloads(self) -> list[str]:
        """What is to be sent now, in as many notifications as it takes; at least one."""
        positions, self._positions = self._positions, {}
        progress, self._progress = self._progress, {}
        forgotten, self._forgotten = self._forgotten, set()
        pieces: list[tuple[str, Any]] = [("positions", [name, position]) for name, position in positions.items()]
        pieces += [("progress", asdict(one)) for one in progress.values()]
        pieces += [("forgotten", file_id) for file_id in forgotten]
        payloads: list[str] = []
        message: dict[str, Any] = {"from": self._id}
        size = 0
        for kind, piece in pieces:
            length = len(json.dumps(piece)) + 20
            if size and size + length > PAYLOAD_BYTES:
                payloads.append(json.dumps(message))
                message, size = {"from": self._id}, 0
            size += length
            if kind == "positions":
                message.setdefault(kind, {})[piece[0]] = piece[1]
            else:
                message.setdefault(kind, []).append(piece)
        return [*payloads, json.dumps(message)]


def _ignore() -> None:
    pass

"""The server's side of the slots: starting them, lending them to attempts, replacing those that die.

One slot is one unit of concurrency. What runs in it is a `dropmill.processing.run.Run`.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from dropmill.health import Health
from dropmill.model.errors import ProcessorError
from dropmill.processing.children import reap, start_child
from dropmill.processing.processor import Processor
from dropmill.processing.run import OnReport, Run, Sink
from dropmill.slot.interpreter import missing_private_names
from dropmill.slot.processes import become_subreaper
from dropmill.slot.protocol import MESSAGE_BYTES

READY_S = 120.0  # heavy imports from a slow disk take a minute; beyond, an import hangs
RESTART_S = 5.0  # between tries to start a slot that no longer becomes ready
STOP_CHECK_S = 1.0  # between checks for stopped slots; one that is found stopped twice in a row is killed
ALIVE = json.dumps({"alive": True}).encode()
STARTS_AT_ONCE = 2  # starting an interpreter is all CPU; many at once would delay the attempts that run already

logger = logging.getLogger(__name__)


class Slot:
    """One warm process, from its start to its death. The pool replaces a dead one by another.

    Attributes:
        is_spent: whether it died because it had run its last attempt (`--reuse`).
    """

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        """Watch a process that was just started, over our end of its socket."""
        self._process = process
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._run: Run | None = None
        self._files: Mapping[str, list[int]] = {}
        self._was_stopped = False
        self.is_spent = False
        self.first_message: asyncio.Future[Mapping[str, Any]] = self._loop.create_future()
        self.died = asyncio.Event()
        self._loop.add_reader(channel.fileno(), self._on_message)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether an attempt can run in it."""
        return not self.died.is_set()

    def watch_files(self, files: Mapping[str, list[int]]) -> None:
        """Set the files that the callable was imported from, each with modification time (ns) and size."""
        self._files = files

    @property
    def is_watching(self) -> bool:
        """Whether `has_changed_files` has any file to check."""
        return bool(self._files)

    def has_changed_files(self) -> bool:
        """Whether one of the callable's files has changed. Touches the disk: call it in a thread."""
        for path, stamp in self._files.items():
            try:
                found = os.stat(path)
            except OSError:
                return True
            if [found.st_mtime_ns, found.st_size] != stamp:
                return True
        return False

    def begin(self, message: bytes, sink: Sink, on_report: OnReport) -> "Run":
        """Start an attempt; one at a time.

        Args:
            message: what `Processor.message` made.
            sink: takes the output.
            on_report: called for each progress report, as often as the script reports.
        """
        self._run = run = Run(self, sink, on_report)
        run.start(message)
        return run

    def send(self, message: bytes, descriptors: tuple[int, ...] = ()) -> None:
        """Send a message. A slot that cannot take it is killed, and its attempt is lost."""
        try:
            socket.send_fds(self._channel, [message], descriptors)
        except OSError:
            self.kill()

    def kill_if_stopped(self) -> None:
        """Kill the process if it is stopped (SIGSTOP) now and was stopped at the last call, too.

        A stopped slot notices neither its attempt's end nor an order, and nothing in it can wake it.
        """
        if not self.is_alive:  # then its pid may be another process's
            return
        options = os.WSTOPPED | os.WNOHANG | os.WNOWAIT  # one system call, and nothing is taken from `Popen.wait`
        was_stopped, self._was_stopped = self._was_stopped, os.waitid(os.P_PID, self.pid, options) is not None
        if was_stopped and self._was_stopped:
            logger.warning("slot %d was stopped (SIGSTOP) and is killed", self.pid)
            self.kill()

    def wake(self) -> None:
        """Continue the process: a script may have stopped it (SIGSTOP)."""
        if self.is_alive:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process. The attempt that ran in it is lost."""
        if self.is_alive:
            self._loop.remove_reader(self._channel.fileno())
            self._channel.close()
            self._process.kill()  # not yet waited for, so the pid is still its own
            self.died.set()
            if not self.first_message.done():
                self.first_message.set_result({"error": "its process ended while it was being imported"})
        if self._run is not None:
            self._run.has_ended(None)

    def _on_message(self) -> None:
        try:
            data = self._channel.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.kill()
            return
        message = json.loads(data)
        if not self.first_message.done():
            self.first_message.set_result(message)
        elif self._run is not None:
            run, self._run = self._run, None
            run.has_ended(message)
            if message.get("is_last"):
                self.is_spent = True
                self.kill()

    def reap(self) -> None:
        """Reap the dead process and its orphans. Blocks until they are gone: call it in a thread."""
        reap(self._process)


class SlotPool:
    """A fixed number of slots, kept alive."""

    def __init__(
        self, processor: Processor, size: int, health: Health | None = None, *, silence_s: float | None = None
    ) -> None:
        """Prepare; `start` starts the first slot and `keep` the rest.

        Args:
            processor: what runs in the slots.
            size: how many slots.
            health: shows whether slots can be started; None: its own, which nobody reads.
            silence_s: seconds after which a slot ends if this process is suspended; None: it waits.
        """
        self._silence_s = silence_s
        self._health = health or Health()
        self._processor = processor
        self._size = size
        self._idle: asyncio.Queue[Slot] = asyncio.Queue()  # never holds more than `size` living ones
        self._slots: set[Slot] = set()
        self._first: Slot | None = None
        self._starting = asyncio.Semaphore(STARTS_AT_ONCE)
        self._started = asyncio.Event()  # set for a moment when a slot is ready: the others need not wait any longer

    @property
    def _target(self) -> str:
        """The callable that slots import; "" for none."""
        return "" if self._processor.is_fresh else self._processor.target or ""

    @property
    def size(self) -> int:
        """How many attempts can run at once."""
        return self._size

    async def start(self) -> None:
        """Start the first slot, which checks the processor.

        Raises:
            ProcessorError: the processor cannot be used; its sentence says why.
        """
        become_subreaper()
        ends_interpreters = self._processor.target is not None and self._processor.reuse is None
        if ends_interpreters and not self._processor.is_fresh and (missing := missing_private_names()):
            logger.warning(
                "this Python lacks %s: at the end of an attempt, a callable's atexit functions do not run and its "
                "remaining objects are not finalized; --fresh-process avoids that",
                ", ".join(missing),
            )
        if self._processor.is_fresh:  # one slot imports the callable to check it, and ends; the others import nothing
            checked = await self._start_slot(self._processor.target or "")
            checked.kill()
            self._slots.discard(checked)
            await asyncio.to_thread(checked.reap)
        self._first = await self._start_slot(self._target)

    async def keep(self) -> None:
        """Keep all slots running until cancelled. One task awaits it, after `start`."""
        first, self._first = self._first, None
        async with asyncio.TaskGroup() as keepers:
            for index in range(self._size):
                keepers.create_task(self._keep_one(first if index == 0 else None))
            keepers.create_task(self._watch())
            if self._silence_s is not None:
                keepers.create_task(self._say_alive(self._silence_s / 6))

    async def close(self) -> None:
        """Kill all slots and everything that runs in them; returns when they are gone."""
        slots, self._slots = self._slots, set()
        for slot in slots:
            slot.kill()
        await asyncio.gather(*(asyncio.to_thread(slot.reap) for slot in slots))

    async def acquire(self) -> Slot:
        """Wait for a free slot, and take it. `release` gives it back."""
        while True:
            slot = await self._idle.get()
            if slot.is_alive:
                return slot

    async def is_usable(self, slot: Slot) -> bool:
        """Whether the next attempt can run in an acquired slot; if not, the pool replaces it already."""
        if slot.is_alive and slot.is_watching and await asyncio.to_thread(slot.has_changed_files):
            logger.info("the processor's files have changed; it is imported again")
            slot.kill()
        return slot.is_alive

    def release(self, slot: Slot) -> None:
        """Give a slot back; does nothing for a dead one, which the pool replaces."""
        if slot.is_alive:
            self._idle.put_nowait(slot)

    async def _keep_one(self, slot: Slot | None) -> None:
        while True:
            if slot is None:
                slot = await self._health.insist(
                    "slots",
                    lambda: self._start_slot(self._target),
                    first_s=RESTART_S,
                    errors=(ProcessorError, OSError),
                    hurry=self._started,
                )
                self._started.set()
                self._started.clear()
            self._idle.put_nowait(slot)
            await slot.died.wait()
            if not slot.is_spent:
                logger.warning("slot %d died and is replaced", slot.pid)
            await asyncio.to_thread(slot.reap)
            self._slots.discard(slot)
            slot = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(STOP_CHECK_S)
            for slot in tuple(self._slots):
                slot.kill_if_stopped()

    async def _say_alive(self, every_s: float) -> None:
        while True:
            for slot in tuple(self._slots):
                if slot.is_alive and slot.first_message.done():  # before, it imports and reads nothing
                    slot.send(ALIVE)
            await asyncio.sleep(every_s)

    async def _start_slot(self, target: str) -> Slot:
        async with self._starting:
            channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            channel.setblocking(False)
            spawning = asyncio.ensure_future(asyncio.to_thread(self._spawn, theirs, target))
            try:
                process = await asyncio.shield(spawning)
            except asyncio.CancelledError:
                channel.close()
                process = await spawning
                process.kill()
                await asyncio.to_thread(reap, process)
                raise
            except OSError:
                channel.close()
                raise
            slot = Slot(process, channel)
            self._slots.add(slot)
            try:
                async with asyncio.timeout(READY_S):
                    message = await asyncio.shield(slot.first_message)
            except TimeoutError:
                message = {"error": f"importing it took longer than {READY_S:.0f} s"}
            if "ready" in message:
                if self._processor.is_reloaded:
                    slot.watch_files(message["ready"])
                return slot
            slot.kill()
            self._slots.discard(slot)
            await asyncio.to_thread(slot.reap)
            raise ProcessorError(f"The processor {self._processor.label} cannot be used: {message['error']}.")

    def _spawn(self, theirs: socket.socket, target: str) -> subprocess.Popen[bytes]:
        # -P: a json.py in the working directory must not stand in for the standard library's. PYTHONSAFEPATH would do
        # the same, but reach the Python scripts that a slot runs, too.
        arguments = [sys.executable, "-P", "-m", "dropmill.slot", str(theirs.fileno()), target]
        if self._processor.is_reloaded:
            # -B: Python compares the times of compiled files by the second, and a file may change twice within one.
            arguments = [arguments[0], "-B", *arguments[1:], "reload"]
        if self._processor.reuse is not None:
            arguments.append(f"reuse={self._processor.reuse}")
        if self._silence_s is not None:
            arguments.append(f"silence={int(self._silence_s * 1000)}")
        with theirs:
            return start_child(
                arguments,
                inherited=theirs.fileno(),
                directory=self._processor.directory,
                environment=self._processor.environment.variables,
            )

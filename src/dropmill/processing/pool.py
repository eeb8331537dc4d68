"""The server's side of the slots: starting them, running attempts in them, replacing those that die.

One slot is one unit of concurrency. The pool knows processes, pipes and signals; it knows no jobs and no ledger: an
attempt here is a message for the slot, a sink for its output, and how it ended.

A script may kill its own slot. Its descendants then become children of this process, which is a subreaper too. They
are told from other children by their session: whatever came from a slot is in a session that is not ours, because
slots are started in one of their own and no process can enter a foreign one. So a child of this process that the pool
did not start and that left our session is a dead slot's orphan. Whoever else starts children here must leave them in
our session (that is what `subprocess` and `asyncio` do unless told otherwise).
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from dropmill.descriptors import give_back_limit
from dropmill.health import Health
from dropmill.model.errors import ProcessorError
from dropmill.model.jobs import JobError
from dropmill.processing.processor import Processor
from dropmill.slot.interpreter import missing_private_names
from dropmill.slot.processes import become_subreaper, kill_below, processes
from dropmill.slot.protocol import MESSAGE_BYTES

READY_S = 120.0  # heavy imports from a slow disk take a minute; beyond, an import hangs
KILL_ANSWER_S = 10.0  # after SIGKILL: a slot that has not answered by then is stopped or stuck, and is killed itself
RESTART_S = 5.0  # between tries to start a slot that does not become ready any more
STOP_CHECK_S = 1.0  # between looks for stopped slots; one that is found twice in a row is killed
STARTS_AT_ONCE = 2  # starting an interpreter is all CPU; many at once would delay the attempts that run already
CHUNK_BYTES = 64 * 1024  # of output read at a time, the size of a pipe: a chatty script shares the loop with all others
DRAIN_CHUNKS = 32  # 2 MiB, above the largest pipe an ordinary user may ask for, read after an attempt's end at most
MOST_COUNTED = 1e15  # of progress: what a browser's numbers hold exactly; NaN and infinity are not below it
LABEL_ONLY = b"p[null,"  # how a report begins that leaves the numbers as they are
REPORT_KINDS = (b"p", LABEL_ONLY, b"v", b"e")  # progress, a label alone, the value returned, an error
REPORT_BYTES = 256 * 1024  # longest report line; a returned value is at most a quarter of it

logger = logging.getLogger(__name__)

# Any thread may start a child or look for orphans; in between a new slot would be taken for an orphan.
_children_lock = threading.Lock()
_own_pids: set[int] = set()


class StopReason(StrEnum):
    """Why an attempt is ended before it ends by itself."""

    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    SHUT_DOWN = "shut_down"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEnd:
    """How an attempt's process ended.

    Attributes:
        exit_code: -n means signal n; None if its slot vanished with it.
        reason: why it was told to end; None if nobody told it.
        error: what the script, or the slot for it, reported; None if nothing.
        has_value: whether a callable came to its end and returned.
        value: what it returned, JSON-able; None for nothing.
    """

    exit_code: int | None
    reason: StopReason | None = None
    error: JobError | None = None
    has_value: bool = False
    value: Any = None


class Sink(Protocol):
    """Where output goes (`dropmill.processing.output.OutputStream`)."""

    @property
    def has_room(self) -> bool:
        """Whether more may be written."""

    def write(self, data: bytes) -> bool:
        """Take some; False if the writer should wait for `when_room`."""

    def when_room(self, resume: Callable[[], None]) -> None:
        """Call `resume` once when there is room again."""


OnReport = Callable[[float | None, float | None, str | None], None]
"""Called with value, total (None: unknown) and label (None: none) of a progress report.

Without a value it is a new label for the numbers of the report before."""


class Slot:
    """One warm process, from its start to its death; never restarted, but replaced by the pool."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        """Watch a process that was just started."""
        self._process = process
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._run: Run | None = None
        self._files: Mapping[str, list[int]] = {}
        self._was_stopped = False
        self.first_word: asyncio.Future[Mapping[str, Any]] = self._loop.create_future()
        self.died = asyncio.Event()
        self._loop.add_reader(channel.fileno(), self._on_message)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether an attempt can still be run in it."""
        return not self.died.is_set()

    def watch_files(self, files: Mapping[str, list[int]]) -> None:
        """Take these files, each with time of change (ns) and size, for what the callable was imported from."""
        self._files = files

    @property
    def is_watching(self) -> bool:
        """Whether `has_changed_files` has anything to look at."""
        return bool(self._files)

    def has_changed_files(self) -> bool:
        """Whether the callable's files are other ones now. Touches the disk: call it in a thread."""
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
            on_report: hears of progress, as often as the script reports it.
        """
        self._run = run = Run(self, sink, on_report)
        run.start(message)
        return run

    def send(self, message: bytes, descriptors: tuple[int, ...] = ()) -> None:
        """Hand over a message. A slot that cannot take it is dead, and found dead by the reader."""
        try:
            socket.send_fds(self._channel, [message], descriptors)
        except OSError:
            self.kill()

    def kill_if_stopped(self) -> None:
        """Kill the process if it is stopped now and was stopped the last time, too.

        A stopped slot notices neither its attempt's end nor an order, and only somebody outside could wake it.
        """
        if not self.is_alive:  # then its pid may be another's
            return
        options = os.WSTOPPED | os.WNOHANG | os.WNOWAIT  # one system call, and nothing is taken from `Popen.wait`
        was_stopped, self._was_stopped = self._was_stopped, os.waitid(os.P_PID, self.pid, options) is not None
        if was_stopped and self._was_stopped:
            logger.warning("slot %d was stopped (SIGSTOP) and is killed", self.pid)
            self.kill()

    def wake(self) -> None:
        """Let the process go on: a script may have stopped it."""
        if self.is_alive:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once. What ran in it is told as lost."""
        if self.is_alive:
            self._loop.remove_reader(self._channel.fileno())
            self._channel.close()
            self._process.kill()  # not yet waited for, so the pid is still its own
            self.died.set()
            if not self.first_word.done():
                self.first_word.set_result({"error": "its process ended while it was being imported"})
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
        if not self.first_word.done():
            self.first_word.set_result(message)
        elif self._run is not None:
            run, self._run = self._run, None
            run.has_ended(message["ended"])

    def reap(self) -> None:
        """Reap the dead process and kill what it left to us. Blocks until they are gone: call it in a thread."""
        _reap(self._process)


class RunHost(Protocol):
    """What an attempt needs of the slot that it runs in (`Slot`)."""

    def send(self, message: bytes, descriptors: tuple[int, ...] = ()) -> None:
        """Hand over a message, and descriptors with it."""

    def wake(self) -> None:
        """Let the process go on: a script may have stopped it."""

    def kill(self) -> None:
        """End the process at once."""

    def reap(self) -> None:
        """Reap the dead process and kill what it left to us. Blocks until they are gone."""


class Run:
    """One attempt in a slot: its pipes, its time limits, its end."""

    def __init__(self, slot: RunHost, sink: Sink, on_report: OnReport) -> None:
        self._slot = slot
        self._sink = sink
        self._on_report = on_report
        self._loop = asyncio.get_running_loop()
        self._exit_code: asyncio.Future[int | None] = self._loop.create_future()
        self._reason: StopReason | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._output = self._report = -1
        self._line = bytearray()
        self._is_line_too_long = False
        self._error: JobError | None = None
        self._returned: tuple[Any] | None = None

    def start(self, message: bytes) -> None:
        """Open the pipes and send the order."""
        self._output, output = os.pipe()
        try:
            self._report, report = os.pipe()
        except OSError:
            os.close(output)
            os.close(self._output)
            raise
        try:
            os.set_blocking(self._output, False)
            os.set_blocking(self._report, False)
            self._slot.send(message, (output, report))
        finally:
            os.close(output)
            os.close(report)
        self._loop.add_reader(self._output, self._on_output)
        self._loop.add_reader(self._report, self._on_report_data)

    def limit(self, timeout_s: float, grace_s: float) -> None:
        """End the attempt as timed out unless it has ended by itself after `timeout_s`."""
        self._timer = self._loop.call_later(timeout_s, self.stop, StopReason.TIMED_OUT, grace_s)

    def stop(self, reason: StopReason, grace_s: float) -> None:
        """Ask the attempt to end, kill it after `grace_s` (0: at once). The first reason stays."""
        if self._exit_code.done():
            return
        is_first = self._reason is None
        self._reason = self._reason or reason
        if grace_s <= 0:
            self._kill()
        elif is_first:
            self._slot.wake()
            self._slot.send(b'{"signal": "terminate"}')
            self._later(grace_s, self._kill)

    def _kill(self) -> None:
        self._slot.wake()
        self._slot.send(b'{"signal": "kill"}')
        self._later(KILL_ANSWER_S, self._slot.kill)

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, act)

    def has_ended(self, exit_code: int | None) -> None:
        """The slot says how it ended (None: the slot is dead)."""
        if not self._exit_code.done():
            self._exit_code.set_result(exit_code)

    async def ended(self) -> RunEnd:
        """Wait for the end, the last byte of output included. No process of the attempt is left then.

        Cancelling kills the slot with all that runs in it.
        """
        try:
            exit_code = await self._exit_code
            if exit_code is None:
                # The slot is dead but its attempt may still be running: it is no more when the slot is buried.
                await asyncio.to_thread(self._slot.reap)
            await self._drain()
        except BaseException:
            self._slot.kill()
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for descriptor in (self._output, self._report):
                self._loop.remove_reader(descriptor)
                os.close(descriptor)
        return RunEnd(
            exit_code=exit_code,
            reason=self._reason,
            error=self._error,
            has_value=self._returned is not None,
            value=self._returned[0] if self._returned is not None else None,
        )

    # output

    def _on_output(self) -> None:
        data = _read(self._output)
        if not data:
            if data is not None:
                self._loop.remove_reader(self._output)  # closed by the script; its end is told by the slot
        elif not self._sink.write(data):
            self._loop.remove_reader(self._output)
            self._sink.when_room(self._resume)

    def _resume(self) -> None:
        if not self._exit_code.done():
            self._loop.add_reader(self._output, self._on_output)

    async def _drain(self) -> None:
        """Read what is still in the pipes. Not to their end: somebody else might hold them open."""
        self._loop.remove_reader(self._output)
        for _ in range(DRAIN_CHUNKS):
            if not self._sink.has_room:
                room = asyncio.Event()
                self._sink.when_room(room.set)
                await room.wait()
            data = _read(self._output)
            if not data:
                break
            self._sink.write(data)
        for _ in range(DRAIN_CHUNKS):
            if not self._on_report_data():
                break

    # reports; the script can write anything into this pipe, so nothing in it is trusted

    def _on_report_data(self) -> bool:
        data = _read(self._report)
        if not data:
            if data is not None:
                self._loop.remove_reader(self._report)
            return False
        self.take_reports(data)
        return True

    def take_reports(self, data: bytes) -> None:
        """Read what came through the report pipe, of each kind only the newest; a line may come in pieces."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"" if self._is_line_too_long else bytes(self._line) + lines[0]
            self._line.clear()
            self._is_line_too_long = False
        newest: dict[bytes, bytes] = {}  # a pipe full of small lines takes 0.1 s to parse
        for line in lines:
            kind = LABEL_ONLY if line.startswith(LABEL_ONLY) else line[:1]
            if kind == b"p":
                newest.pop(LABEL_ONLY, None)  # the label before it belonged to older numbers
            newest[kind] = line
        for kind in REPORT_KINDS:
            if kind in newest:
                self._take(newest[kind])
        self._line += rest
        if len(self._line) > REPORT_BYTES:
            self._line.clear()
            self._is_line_too_long = True

    def _take(self, line: bytes) -> None:
        try:
            what = json.loads(line[1:])
        except (ValueError, RecursionError):
            return
        match line[:1], what:
            case b"v", _:
                self._returned = (what if _is_plain(what) else None,)
            case b"e", [str(kind), str(text)]:
                self._error = JobError(type=_clean(kind)[:100], message=_clean(text)[:4000])
            case b"p", [None, None, str(label)]:
                self._on_report(None, None, _clean(label))
            case b"p", [int() | float() as value, int() | float() | None as total, str() | None as label]:
                if abs(value) <= MOST_COUNTED and (total is None or abs(total) <= MOST_COUNTED):
                    self._on_report(value, total, None if label is None else _clean(label))


def _clean(text: str) -> str:
    """The text in a form that every database and every wire takes: Python's own may hold halves of characters."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_plain(value: Any) -> bool:
    """Whether JSON in UTF-8 can say it."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (ValueError, RecursionError):
        return False
    return True


class SlotPool:
    """A fixed number of slots, kept alive."""

    def __init__(self, processor: Processor, size: int, health: Health | None = None) -> None:
        """Prepare; `start` starts the first slot and `keep` the rest.

        Args:
            processor: what runs in the slots.
            size: how many slots.
            health: shows whether slots can be started; None: nobody asks.
        """
        self._health = health or Health()
        self._processor = processor
        self._size = size
        self._idle: asyncio.Queue[Slot] = asyncio.Queue()  # never holds more than `size` living ones
        self._slots: set[Slot] = set()
        self._first: Slot | None = None
        self._starting = asyncio.Semaphore(STARTS_AT_ONCE)

    @property
    def _target(self) -> str:
        """What slots import; empty for nothing."""
        return "" if self._processor.is_fresh else self._processor.target or ""

    @property
    def size(self) -> int:
        """How many attempts can run at once."""
        return self._size

    async def start(self) -> None:
        """Start the first slot and see whether the processor can be used.

        Raises:
            ProcessorError: it cannot, told in one line.
        """
        become_subreaper()
        if self._processor.target is not None and not self._processor.is_fresh and (missing := missing_private_names()):
            logger.warning(
                "this Python lacks %s: atexit functions and objects that a callable leaves to the end of the "
                "interpreter are lost; --fresh-process avoids that",
                ", ".join(missing),
            )
        if self._processor.is_fresh:  # looked at once, in a slot that then goes: the others import nothing
            checked = await self._start_slot(self._processor.target or "")
            checked.kill()
            self._slots.discard(checked)
            await asyncio.to_thread(checked.reap)
        self._first = await self._start_slot(self._target)

    async def keep(self) -> None:
        """Keep all slots running until cancelled; to be awaited after `start`, by one task."""
        first, self._first = self._first, None
        async with asyncio.TaskGroup() as keepers:
            for index in range(self._size):
                keepers.create_task(self._keep_one(first if index == 0 else None))
            keepers.create_task(self._watch())

    async def close(self) -> None:
        """Kill all slots with everything that runs in them; returns when they are gone."""
        slots, self._slots = self._slots, set()
        for slot in slots:
            slot.kill()
        await asyncio.gather(*(asyncio.to_thread(slot.reap) for slot in slots))

    async def acquire(self) -> Slot:
        """Wait for a slot that is free, and take it."""
        while True:
            slot = await self._idle.get()
            if slot.is_alive:
                return slot

    async def is_usable(self, slot: Slot) -> bool:
        """Whether the next attempt may be run in an acquired slot; if not, it is being replaced already."""
        if slot.is_alive and slot.is_watching and await asyncio.to_thread(slot.has_changed_files):
            logger.info("the processor's files have changed, it is imported anew")
            slot.kill()
        return slot.is_alive

    def release(self, slot: Slot) -> None:
        """Give a slot back; a dead one is being replaced already."""
        if slot.is_alive:
            self._idle.put_nowait(slot)

    async def _keep_one(self, slot: Slot | None) -> None:
        while True:
            if slot is None:
                slot = await self._health.insist(
                    "slots", lambda: self._start_slot(self._target), first_s=RESTART_S, errors=(ProcessorError, OSError)
                )
            self._idle.put_nowait(slot)
            await slot.died.wait()
            logger.warning("slot %d died and is replaced", slot.pid)
            await asyncio.to_thread(slot.reap)
            self._slots.discard(slot)
            slot = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(STOP_CHECK_S)
            for slot in tuple(self._slots):
                slot.kill_if_stopped()

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
                await asyncio.to_thread(_reap, process)
                raise
            except OSError:
                channel.close()
                raise
            slot = Slot(process, channel)
            self._slots.add(slot)
            try:
                async with asyncio.timeout(READY_S):
                    word = await asyncio.shield(slot.first_word)
            except TimeoutError:
                word = {"error": f"it is not imported after {READY_S:.0f} s"}
            if "ready" in word:
                if self._processor.is_reloaded:
                    slot.watch_files(word["ready"])
                return slot
            slot.kill()
            self._slots.discard(slot)
            await asyncio.to_thread(slot.reap)
            raise ProcessorError(f"The processor {self._processor.label} cannot be used: {word['error']}.")

    def _spawn(self, theirs: socket.socket, target: str) -> subprocess.Popen[bytes]:
        module = "dropmill.slot"
        # -P: a json.py in the working directory must not stand in for the standard library's. In our own environment
        # it would also reach Python scripts.
        arguments = [sys.executable, "-P", "-m", module, str(theirs.fileno()), target]
        if self._processor.is_reloaded:
            # -B: compiled files are told from older ones by the second, and a change may follow within it.
            arguments = [arguments[0], "-B", *arguments[1:], "reload"]
        with theirs, _children_lock:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a module prints while it is imported is for who started the server
                cwd=self._processor.directory,
                env=self._processor.environment.variables,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C on the terminal is for the server, which then ends the slots
            )
            _own_pids.add(process.pid)
        give_back_limit(process.pid)
        return process


def _reap(process: subprocess.Popen[bytes]) -> None:
    process.wait()
    with _children_lock:
        _own_pids.discard(process.pid)
    _end_orphans()


def _end_orphans() -> None:
    """Kill and reap the processes that dead slots left to us."""
    own_pid, own_session = os.getpid(), os.getsid(0)
    while True:
        with _children_lock:
            killed = []
            for pid, parent, session in processes():
                if parent == own_pid and session != own_session and pid not in _own_pids:
                    with contextlib.suppress(ProcessLookupError, PermissionError):  # it may run as another user now
                        os.kill(pid, signal.SIGSTOP)
                        kill_below(pid)
                        os.kill(pid, signal.SIGKILL)
                        killed.append(pid)
        if not killed:
            return
        for pid in killed:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _read(descriptor: int) -> bytes | None:
    """What is there to be read: empty at the end of the pipe, None if there is nothing now."""
    try:
        return os.read(descriptor, CHUNK_BYTES)
    except BlockingIOError:
        return None

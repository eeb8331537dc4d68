"""One attempt from the ledger's order to its recorded outcome; the same path for every executor.

It knows the ports and the pool. Which job is next, and on which machine, is the executor's business.
"""

import asyncio
import logging
import os
import shutil
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from dropmill.model.errors import NotFound, OutOfSpace, Unavailable
from dropmill.model.ids import JobId, Sha256
from dropmill.model.records import AttemptOrder, AttemptOutcome, AttemptState, JobError, JobState
from dropmill.ports import BlobStore, Bus, Ledger
from dropmill.processing.contract import AttemptPaths, Processor
from dropmill.processing.output import OutputStore, OutputStream
from dropmill.processing.pool import Run, RunEnd, Slot, SlotPool, StopReason
from dropmill.processing.progress import ProgressFeed

RETRY_S = 1.0  # between tries to record an outcome that the ledger cannot take now

T = TypeVar("T")

logger = logging.getLogger(__name__)


class _Identity(NamedTuple):
    """What tells whether a stored file is still the one it was; not a hash, because this is asked of every file."""

    device: int
    inode: int
    size: int
    modified_ns: int


class _Ended(NamedTuple):
    """What is known when an attempt's process is gone and its folders were looked through."""

    run: RunEnd
    is_input_changed: bool
    is_tidy: bool


class _Watched:
    """A stream of output whose bytes are also shown to somebody else on their way."""

    def __init__(self, stream: OutputStream, look_at: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._look_at = look_at
        self.when_room = stream.when_room

    @property
    def has_room(self) -> bool:
        return self._stream.has_room

    def write(self, data: bytes) -> bool:
        self._look_at(data)
        return self._stream.write(data)


class _Active:
    """An attempt between its start in the ledger and the end of its process."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.reason: StopReason | None = None

    def stop(self, reason: StopReason, grace_s: float) -> None:
        """End it early, also if its process is still to be started."""
        self.reason = self.reason or reason
        if self.run is not None:
            self.run.stop(reason, grace_s)


class AttemptRunner:
    """Runs attempts of jobs in the slots of a pool and records how they ended."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        blobs: BlobStore,
        bus: Bus,
        pool: SlotPool,
        outputs: OutputStore,
        processor: Processor,
        folder: Path,
        timeout_s: float | None,
        grace_s: float,
        max_attempts: int,
        host: str,
    ) -> None:
        """Set up; touches nothing yet.

        Args:
            ledger: gives orders and records outcomes; also has the config's bytes.
            blobs: has the files.
            bus: hears of progress.
            pool: gets its slots back through `run`.
            outputs: takes the output.
            processor: what the pool's slots run.
            folder: the data folder, absolute; `attempts` and `configs` below it are this class's own.
            timeout_s: how long an attempt may take; None means no limit.
            grace_s: seconds between SIGTERM and SIGKILL.
            max_attempts: lost attempts after which a job fails.
            host: name of this machine, recorded with each attempt.
        """
        self._ledger = ledger
        self._blobs = blobs
        self._bus = bus
        self._pool = pool
        self._outputs = outputs
        self._processor = processor
        self._attempts = folder / "attempts"
        self._configs = folder / "configs"
        self._timeout_s = timeout_s
        self._grace_s = grace_s
        self._max_attempts = max_attempts
        self._host = host
        self._active: dict[_Active, JobId] = {}  # a job handed in twice is here twice for a moment
        self._known_configs: set[Sha256] = set()

    async def prepare(self) -> None:
        """Make the folders, empty: whatever an earlier process left in them belongs to no attempt any more."""
        await asyncio.to_thread(self._make_folders)

    def _make_folders(self) -> None:
        _remove_tree(self._attempts)
        self._attempts.mkdir(mode=0o700, parents=True)
        self._configs.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def active(self) -> int:
        """How many attempts are between their start and the end of their process."""
        return len(self._active)

    def cancel(self, job_id: JobId) -> bool:
        """Ask for a job's running attempt to be ended; False if none runs here."""
        found = [active for active, running in self._active.items() if running == job_id]
        for active in found:
            active.stop(StopReason.CANCELLED, self._grace_s)
        return bool(found)

    def shut_down(self) -> None:
        """Kill the processes of all attempts. Their ends are not recorded: the next start finds them lost."""
        for active in self._active:
            active.stop(StopReason.SHUT_DOWN, 0)

    async def run(self, job_id: JobId, slot: Slot) -> JobState | None:
        """Run the next attempt of a queued job in a slot of the pool and record its end.

        The slot goes back to the pool when the end is handed to the ledger, before it is committed. Cancelling kills
        the process and leaves the attempt running in the ledger, as a crash would.

        Returns:
            The job's state now, `queued` if the attempt was lost and another may be tried; None if there was nothing
            to run, or its end was left unrecorded by `shut_down`.
        """
        active = _Active()
        self._active[active] = job_id

        def give_back() -> None:
            if self._active.pop(active, None) is not None:
                self._pool.release(slot)

        try:
            try:
                order = await _insist(lambda: self._ledger.start_attempt(job_id, self._host))
            except NotFound:
                return None
            if order is None:
                return None
            return await self._run_order(order, slot, active, give_back)
        finally:
            give_back()

    async def _run_order(
        self, order: AttemptOrder, slot: Slot, active: _Active, give_back: Callable[[], None]
    ) -> JobState | None:
        stream = self._outputs.open(order.job_id, order.number)
        folder = self._attempts / f"{order.job_id}.{order.number}"
        ended = None
        try:
            try:
                async with self._blobs.local(order.blob) as path:
                    ended = await self._execute(order, path, folder, slot, active, stream)
                end, is_changed = ended.run, ended.is_input_changed
            except (OSError, NotFound, OutOfSpace, Unavailable) as error:
                # The disk or the store has failed us around the script; it is told like a script that cannot start.
                problem = JobError(type="cannot_start", message=str(error))
                end, is_changed = RunEnd(exit_code=127, reason=active.reason, error=problem), False
            if end.reason is StopReason.SHUT_DOWN:
                return None
            # The end is handed to the ledger, then the slot takes the next job while the ledger commits: no time is
            # lost, and in the order of events there are never more attempts than slots.
            asyncio.get_running_loop().call_soon(give_back)
            return await self._record(order, end, is_changed, stream.end)
        finally:
            self._outputs.close(order.job_id, order.number)
            self._bus.forget_progress(order.file_id)
            if ended is not None and not ended.is_tidy:
                await asyncio.to_thread(_remove_tree, folder)  # may take long: nobody waits for it

    async def _execute(
        self, order: AttemptOrder, path: Path, folder: Path, slot: Slot, active: _Active, stream: OutputStream
    ) -> _Ended:
        """Everything between two thread hops: before, what the process needs; after, what is left of it."""
        paths = AttemptPaths(
            input=path,
            config=self._configs / f"{order.config.sha256}.yaml",
            results=folder / "results",
            work=folder / "work",
        )
        sha256 = order.config.sha256
        config = None if sha256 in self._known_configs else await self._ledger.revision_text(sha256)
        before = await asyncio.to_thread(_before, paths, config)
        self._known_configs.add(sha256)
        end = RunEnd(exit_code=None, reason=active.reason)
        try:
            if active.reason is None:
                progress = ProgressFeed(self._bus, order)
                sink = _Watched(stream, progress.look_at)
                run = active.run = slot.begin(self._processor.message(order, paths), sink, progress.report)
                if self._timeout_s is not None:
                    run.limit(self._timeout_s, self._grace_s)
                end = await run.ended()
                progress.close()
        finally:
            after, is_tidy = await asyncio.to_thread(_after, paths, stream)
        return _Ended(end, before != after, is_tidy)

    async def _record(self, order: AttemptOrder, end: RunEnd, is_changed: bool, output_size: int) -> JobState | None:
        ledger, job_id, number = self._ledger, order.job_id, order.number
        if end.exit_code is None and end.reason is None:
            return await _insist(lambda: ledger.lose_attempt(job_id, number, self._max_attempts))
        outcome = self._outcome(end, is_changed, output_size)
        is_recorded = await _insist(lambda: ledger.end_attempt(job_id, number, outcome))
        return JobState(outcome.state) if is_recorded else None

    def _outcome(self, end: RunEnd, is_input_changed: bool, output_size: int) -> AttemptOutcome:
        """How the attempt ended, in the ledger's words."""
        state, error, value = AttemptState.FAILED, end.error, None
        if end.reason is StopReason.CANCELLED:
            state, error = AttemptState.CANCELLED, None
        elif is_input_changed:
            error = JobError(type="input_changed", message="The stored file changed while the script ran.")
        elif end.reason is StopReason.TIMED_OUT:
            error = JobError(type="timed_out", message=f"timed out after {self._timeout_s:g} s")
        elif error is not None:
            pass
        elif end.exit_code == 0 and (self._processor.target is None or end.has_value):
            state, value = AttemptState.SUCCEEDED, end.value
        elif end.exit_code == 0:
            error = JobError(type="no_result", message="The process ended by itself before the function returned.")
        else:
            error = _exit_error(end.exit_code or 0)
        return AttemptOutcome(state=state, exit_code=end.exit_code, error=error, value=value, output_size=output_size)


def _exit_error(code: int) -> JobError:
    if code > 0:
        return JobError(type="exit_code", message=f"exited with code {code}")
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a real-time signal
        name = "a signal"
    return JobError(type="signal", message=f"killed by {name} (signal {-code})")


async def _insist(change: Callable[[], Awaitable[T]]) -> T:
    """Make a change to the ledger; again and again while its disk is full or it is away, so that none is dropped."""
    while True:
        try:
            return await change()
        except (OutOfSpace, Unavailable) as error:
            logger.warning("the ledger cannot be written, trying again: %s", error)
            await asyncio.sleep(RETRY_S)


# --- the two hops to the disk ----------------------------------------------------------------------------------------


def _before(paths: AttemptPaths, config: bytes | None) -> _Identity | None:
    """Make the attempt's folders and its config file (None: it is there), and see what the input is."""
    if config is not None and not paths.config.exists():
        # Attempts of the same revision may come here at once; the name appears only with all its bytes.
        draft = paths.config.with_name(f"{paths.config.name}.{paths.work.parent.name}")
        draft.write_bytes(config)
        draft.chmod(0o400)
        draft.rename(paths.config)
    for folder in (paths.work.parent, paths.work, paths.results):
        folder.mkdir(mode=0o700)
    return _identify(paths.input)


def _after(paths: AttemptPaths, stream: OutputStream) -> tuple[_Identity | None, bool]:
    """Save the rest of the output, take over the results, see what the input is now, and whether nothing is left."""
    stream.save()
    _take_over_results(paths.results)
    try:  # nearly always the folders are empty
        paths.work.rmdir()
        paths.results.rmdir()
        paths.work.parent.rmdir()
        is_tidy = True
    except OSError:
        is_tidy = False
    return _identify(paths.input), is_tidy


def _take_over_results(_results: Path) -> None:
    """Where what the script left for download will be moved into the store: its last process is gone here."""


def _identify(path: Path) -> _Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _remove_tree(folder: Path) -> None:
    """Remove a folder whatever a script has put into it; what cannot be removed stays until the next start."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        return
    for parent, names, _ in os.walk(folder):  # a folder may have been left without the right to change it
        os.chmod(parent, 0o700)
        for name in names:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        logger.warning("%s cannot be removed", folder)

"""One attempt from its claim to its recorded outcome; the same path for every executor.

It knows the ports and the pool. Which job runs when, and on which machine, is the executor's business.
"""

import asyncio
import errno
import logging
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from dropmill.health import Health
from dropmill.model.errors import BytesLost, NotFound
from dropmill.model.faults import OF_THE_FILE, TEMPORARY
from dropmill.model.ids import JobId, Sha256
from dropmill.model.jobs import (
    AttemptOutcome,
    AttemptSpec,
    AttemptState,
    Claim,
    Ended,
    JobError,
    JobState,
    RetryPolicy,
)
from dropmill.model.uploads import FileIdentity, StoredBlob
from dropmill.ports.blobs import BlobStore
from dropmill.ports.bus import Bus
from dropmill.ports.ledger.jobs import AttemptLedger
from dropmill.processing.configs import ConfigFiles
from dropmill.processing.failure import LAST_LINE_BYTES, exit_error, in_clients_words, last_line
from dropmill.processing.folders import remove_tree
from dropmill.processing.limits import Limiter
from dropmill.processing.output import OutputRecorder, OutputStream
from dropmill.processing.pool import Slot
from dropmill.processing.processor import AttemptPaths, Processor
from dropmill.processing.progress import ProgressFeed
from dropmill.processing.results import ResultLimits, TakenOver, remove, take_over
from dropmill.processing.run import Run, RunEnd, StopReason
from dropmill.settings import Settings
from dropmill.slot.disk import InputTouched
from dropmill.text import visible

COPIED_BYTES = 1 << 20  # at a time, where the kernel cannot copy from file to file
RETRY_S, LONGEST_RETRY_S = 1.0, 5.0  # between tries to record a change that the ledger cannot take now

T = TypeVar("T")

logger = logging.getLogger(__name__)


class _Ended(NamedTuple):
    """What is known when an attempt's process is gone and its results are in the store.

    Attributes:
        run: how its process ended.
        is_input_changed: whether the stored file is no longer what was received.
        taken: its results.
        paths: what the script got; None if it did not run.
        last_line: of the output of a script that exited with a code other than 0; else "".
    """

    run: RunEnd
    is_input_changed: bool
    taken: TakenOver = TakenOver()
    paths: AttemptPaths | None = None
    last_line: str = ""

    @property
    def is_lost(self) -> bool:
        """Whether the process vanished: nobody knows how the script ended."""
        return self.run.exit_code is None and self.run.reason is None


class _Watched:
    """A stream of output that also passes each piece to a function."""

    def __init__(self, stream: OutputStream, watch: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._watch = watch
        self.when_room = stream.when_room

    @property
    def has_room(self) -> bool:
        return self._stream.has_room

    def write(self, data: bytes) -> bool:
        self._watch(data)
        return self._stream.write(data)


class _Active:
    """An attempt between its start in the ledger and the end of its process."""

    def __init__(self) -> None:
        self.run: Run | None = None
        self.reason: StopReason | None = None
        self.taking_over: asyncio.Timeout | None = None

    def stop(self, reason: StopReason, grace_s: float) -> None:
        """End it early, also before its process has started."""
        self.reason = self.reason or reason
        if self.run is not None:
            self.run.stop(reason, grace_s)
        taking_over, self.taking_over = self.taking_over, None
        if taking_over is not None:
            taking_over.reschedule(0)  # its process is gone, but large results may still be on their way to the store


class SlotLoan(Protocol):
    """A slot that an executor lends to one attempt. The executor decides what it runs next."""

    def next_claim(self) -> Claim | None:
        """What to claim for the slot in the change that records the end; None: nothing. Called at most once."""

    def end(self, recorded: Ended | None) -> None:
        """The attempt needs the slot no longer. Called once.

        Args:
            recorded: the attempt's end with what was claimed; None: nothing was claimed.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptSettings:
    """What the settings say about attempts.

    Attributes:
        folder: the data folder, absolute; the runner owns `attempts` and `configs` in it.
        config_name: how people know the config file.
        copies_input: whether each attempt gets a copy of the file.
        guesses_progress: whether progress is also read from output that is meant for people.
        timeout_s: longest time an attempt may run; None means no limit.
        grace_s: seconds between SIGTERM and SIGKILL.
        max_attempts: lost attempts after which a job fails.
        results: how much an attempt may leave for download.
        retry: which failed attempts are followed by another automatically; None: none.
    """

    folder: Path
    config_name: str
    copies_input: bool
    guesses_progress: bool
    timeout_s: float | None
    grace_s: float
    max_attempts: int
    results: ResultLimits
    retry: RetryPolicy | None

    @classmethod
    def from_settings(cls, settings: Settings) -> "AttemptSettings":
        """Those of the server's settings that concern attempts."""
        retry = RetryPolicy(
            exit_codes=frozenset(settings.retry_exit_codes), times=settings.retry_times, delay_s=settings.retry_delay
        )
        return cls(
            folder=settings.data.absolute(),
            config_name=settings.config.name,
            copies_input=settings.copy_input,
            guesses_progress=settings.progress == "auto",
            timeout_s=settings.timeout,
            grace_s=settings.grace,
            max_attempts=settings.max_attempts,
            results=ResultLimits(count=settings.max_results, size=settings.max_results_size),
            retry=retry if retry.exit_codes else None,
        )


class AttemptRunner:
    """Runs attempts of jobs in the slots of a pool and records how they ended."""

    def __init__(
        self,
        *,
        ledger: AttemptLedger,
        blobs: BlobStore,
        bus: Bus,
        outputs: OutputRecorder,
        limiter: Limiter,
        processor: Processor,
        settings: AttemptSettings,
        health: Health | None = None,
    ) -> None:
        """Touch nothing yet.

        Args:
            ledger: hands out orders, records outcomes, and has the bytes of config revisions.
            blobs: has the files, and takes the results.
            bus: gets the progress.
            outputs: takes the output.
            limiter: opened; limits what attempts may use.
            processor: what the slots run.
            settings: about attempts.
            health: shows whether attempts can be recorded; None: its own, which nobody reads.
        """
        self._ledger = ledger
        self._blobs = blobs
        self._bus = bus
        self._outputs = outputs
        self._limiter = limiter
        self._processor = processor
        self._settings = settings
        self._health = health or Health()
        self._attempts = settings.folder / "attempts"
        self._configs = ConfigFiles(settings.folder / "configs", self._revision_text)
        self._real_folder = str(settings.folder)
        self._folders: set[str] = set()  # names below `attempts` that running attempts use
        self._active: dict[tuple[JobId, int], _Active] = {}
        self._is_shut_down = False

    async def prepare(self) -> None:
        """Create the folders, and empty them: what an earlier process left in them belongs to no running attempt."""
        await asyncio.to_thread(self._make_folders)

    def _make_folders(self) -> None:
        remove_tree(self._attempts)
        self._attempts.mkdir(mode=0o700, parents=True)
        self._real_folder = os.path.realpath(self._settings.folder)
        self._configs.prepare()

    async def forget_config(self, sha256: Sha256) -> None:
        """Remove the file of a purged revision that attempts read; no error if there is none."""
        await self._configs.forget(sha256)

    async def forget_purged_configs(self) -> None:
        """As `forget_config` for all revisions that were purged, by whichever process."""
        await self._configs.forget_purged()

    async def sweep(self) -> int:
        """Remove folders and config files that could not be removed when their attempts ended.

        Returns:
            How many still cannot be removed.
        """
        names = await asyncio.to_thread(os.listdir, self._attempts)
        left = 0
        for name in set(names) - self._folders:
            left += not await asyncio.to_thread(_is_removed, self._attempts / name)
        return left + await self._configs.sweep()

    @property
    def active(self) -> int:
        """How many attempts are between their start and the end of their process."""
        return len(self._active)

    def shut_down(self) -> None:
        """Kill the processes of all attempts. Their ends are not recorded: the next start declares them lost."""
        self._is_shut_down = True
        for active in self._active.values():
            active.stop(StopReason.SHUT_DOWN, 0)

    async def claim(self, claim: Claim) -> AttemptSpec | None:
        """Start the attempt of the next queued job in the ledger; None if no job can run now. The caller runs it."""
        orders = await self._insist(lambda: self._ledger.claim(claim))
        return orders[0] if orders else None

    async def next_due(self) -> datetime | None:
        """When the first of the jobs that wait for their time (`Job.not_before`) is due; None if no job waits so."""
        return await self._insist(self._ledger.next_due)

    async def see_cancels(self) -> None:
        """Stop the attempts whose jobs are to be cancelled, as the ledger has recorded from any process."""
        if not self._active:
            return
        for attempt in await self._ledger.cancels_asked():
            if (active := self._active.get(attempt)) is not None:
                active.stop(StopReason.CANCELLED, self._settings.grace_s)

    async def run(self, order: AttemptSpec, slot: Slot, loan: SlotLoan) -> bool:
        """Run a claimed attempt in a slot, record its end, and end the slot's loan.

        The slot's next attempt is claimed in the change that records this one's end: one commit for both. Without a
        claim, the loan ends when the ledger gets the end, before it has committed it. Cancelling kills the
        process and leaves the attempt running in the ledger, as a crash would.

        Args:
            order: the attempt.
            slot: acquired from the pool.
            loan: ends when the attempt needs the slot no longer.

        Returns:
            Whether its job is queued again: the attempt was lost, or failed and the retry policy applies.
        """
        attempt = (order.job_id, order.number)
        active = self._active[attempt] = _Active()
        if self._is_shut_down:
            active.stop(StopReason.SHUT_DOWN, 0)

        def end_loan(recorded: Ended | None = None) -> None:
            if self._active.pop(attempt, None) is not None:
                loan.end(recorded)

        try:
            return await self._run_order(order, slot, active, loan.next_claim, end_loan) is JobState.QUEUED
        finally:
            end_loan()

    async def _run_order(
        self,
        order: AttemptSpec,
        slot: Slot,
        active: _Active,
        next_claim: Callable[[], Claim | None],
        end_loan: Callable[[Ended | None], None],
    ) -> JobState | None:
        stream = self._outputs.open(order.job_id, order.number)
        folder = self._attempts / f"{order.job_id}.{order.number}"
        self._folders.add(folder.name)
        ended: _Ended | None = None
        try:
            try:
                async with self._blobs.local(order.blob) as path, self._configs.lent(order.config.sha256) as config:
                    ended = await self._execute(order, path, config, folder, slot, active, stream)
            except (NotFound, *TEMPORARY) as error:
                # The disk or the store failed before or after the script; recorded like a script that cannot start.
                problem = JobError(type="cannot_start", message=str(error))
                run = RunEnd(exit_code=127, reason=active.reason, error=problem)
                failed = _Ended(run, is_input_changed=isinstance(error, BytesLost))
            known = ended or failed
            if known.run.reason is StopReason.SHUT_DOWN:
                return None
            then_claim = None if known.is_lost else next_claim()
            if then_claim is None:
                # The ledger gets the end first; then the slot takes the next job while the ledger commits. So no slot
                # waits, and in the order of events no more attempts run than there are slots.
                asyncio.get_running_loop().call_soon(end_loan, None)
            recorded = await self._record(order, known, stream.end, then_claim)
            end_loan(recorded)
            return None if recorded is None else recorded.state
        finally:
            self._outputs.close(order.job_id, order.number)
            self._bus.forget_progress(order.file_id)
            if ended is None or not ended.run.is_tidy:
                await asyncio.to_thread(_is_removed, folder)  # may take long; the outcome is recorded already
            self._folders.discard(folder.name)

    async def _execute(
        self,
        order: AttemptSpec,
        path: Path,
        config: Path,
        folder: Path,
        slot: Slot,
        active: _Active,
        stream: OutputStream,
    ) -> _Ended:
        """Prepare the folders, run the process, check the input and take over the results."""
        paths = AttemptPaths(
            input=path,
            config=config,
            results=folder / "results",
            work=folder / "work",
        )
        identity = self._blobs.proven(order.blob) or await self._require_as_stored(order)
        if self._settings.copies_input:
            paths = replace(paths, input=await asyncio.to_thread(_copy_input, paths))
        limits = await self._enter_limits(folder.name)
        end = RunEnd(exit_code=None)
        has_run = False
        try:
            while active.reason is None and not has_run:
                message = self._processor.message(
                    order, paths, limits, (path, identity), makes_folders=not self._settings.copies_input
                )
                progress = ProgressFeed(self._bus, order, is_guessing=self._settings.guesses_progress)
                run = active.run = slot.begin(message, _Watched(stream, progress.read), progress.report)
                if self._settings.timeout_s is not None:
                    run.limit(self._settings.timeout_s, self._settings.grace_s)
                try:
                    end = await run.ended()
                    has_run = True
                    progress.close()
                except InputTouched:  # perhaps only the mode or the number of links was changed
                    identity = await self._require_as_stored(order)
        finally:
            await self._outputs.save(stream)
            if self._limiter.has_groups and (excess := await asyncio.to_thread(self._limiter.leave, folder.name)):
                end = replace(end, error=excess)
        if not has_run:
            end = replace(end, reason=active.reason)
        is_changed = await self._is_changed(order, path, identity, end)
        line = ""
        if (end.exit_code or 0) > 0:  # before the server adds its own lines
            line = last_line(stream.recent(max(stream.recent_from, stream.end - LAST_LINE_BYTES), LAST_LINE_BYTES))
        taken = TakenOver()
        has_results = end.exit_code is not None and end.reason in (None, StopReason.TIMED_OUT)  # not cancelled or lost
        if has_results and not end.is_tidy:
            end, taken = await self._take_over(end, paths.results, stream, active)
        return _Ended(end, is_changed, taken, paths, line)

    async def _is_changed(self, order: AttemptSpec, path: Path, identity: FileIdentity, end: RunEnd) -> bool:
        """Whether the input's bytes were changed by an attempt, as far as its outcome depends on it."""
        is_same = end.is_input_same
        if end.reason in (StopReason.CANCELLED, StopReason.SHUT_DOWN) or (end.exit_code is None and not end.reason):
            return False
        if is_same is None:  # the slot is dead, or the disk failed, which says nothing about the file
            is_same = identity == await self._insist(lambda: asyncio.to_thread(_identify, path))
        if is_same:
            return False
        try:  # perhaps only the mode or the number of links was changed
            await self._require_as_stored(order)
        except BytesLost:
            return True
        return False

    async def _require_as_stored(self, order: AttemptSpec) -> FileIdentity:
        """The identity of the input, which has the bytes that were received.

        Raises:
            BytesLost: it has not.
        """
        blob = StoredBlob(key=order.blob, size=order.size, sha256=order.sha256)
        descriptor, identity = await self._blobs.open_stored(blob)
        os.close(descriptor)
        return identity

    async def _take_over(
        self, end: RunEnd, folder: Path, stream: OutputStream, active: _Active
    ) -> tuple[RunEnd, TakenOver]:
        """Move the results into the store and list refused ones in the output; take none if the attempt is stopped."""
        try:
            async with asyncio.timeout(0 if active.reason else None) as active.taking_over:
                taken = await take_over(folder, self._blobs, self._settings.results)
        except TimeoutError:
            return replace(end, reason=active.reason), TakenOver()
        finally:
            active.taking_over = None
        if taken.note:
            is_inside_line = stream.end > 0 and stream.recent(stream.end - 1, 1) != b"\n"
            stream.write(("\n" * is_inside_line + taken.note).encode())
            await self._outputs.save(stream)
        return end, taken

    async def _enter_limits(self, attempt: str) -> Mapping[str, Any]:
        if not self._limiter.has_groups:  # then it touches no disk
            return self._limiter.enter(attempt)
        try:
            return await asyncio.to_thread(self._limiter.enter, attempt)
        except BaseException:
            await asyncio.to_thread(self._limiter.leave, attempt)
            raise

    async def _record(
        self, order: AttemptSpec, ended: _Ended, output_size: int, then_claim: Claim | None
    ) -> Ended | None:
        ledger, job_id, number = self._ledger, order.job_id, order.number
        if ended.is_lost:
            state = await self._insist(lambda: ledger.lose_attempt(job_id, number, self._settings.max_attempts))
            return None if state is None else Ended(state=state)
        outcome, retry = self._outcome(order, ended, output_size), self._settings.retry
        recorded = await self._insist(lambda: ledger.end_attempt(job_id, number, outcome, retry, then_claim=then_claim))
        if recorded is not None:
            return recorded
        try:
            await remove(ended.taken.results, self._blobs)
        except TEMPORARY as error:
            logger.warning("unrecorded results could not be removed; the next start removes them: %s", error)
        return None

    async def _revision_text(self, sha256: Sha256) -> bytes:
        """The bytes of a revision. A ledger that is away delays an attempt; it does not fail it."""
        return await self._insist(lambda: self._ledger.revision_text(sha256))

    async def _insist(self, change: Callable[[], Awaitable[T]]) -> T:
        """Make a change in the ledger; repeated while the ledger fails, so that no start or end is dropped."""
        return await self._health.insist("attempts", change, first_s=RETRY_S, most_s=LONGEST_RETRY_S)

    def _outcome(self, order: AttemptSpec, ended: _Ended, output_size: int) -> AttemptOutcome:
        """What is recorded of the attempt's end."""
        end, taken = ended.run, ended.taken
        state, error, value = AttemptState.FAILED, end.error, None
        if end.reason is StopReason.CANCELLED:
            state, error = AttemptState.CANCELLED, None
        elif ended.is_input_changed:
            error = JobError(type="input_changed", message="The stored file is no longer what was received.")
        elif end.reason is StopReason.TIMED_OUT:
            error = JobError(type="timed_out", message=f"timed out after {self._settings.timeout_s:g} s")
        elif error is not None:
            pass
        elif end.exit_code == 0 and taken.error is not None:
            error = taken.error
        elif end.exit_code == 0 and (self._processor.target is None or end.has_value):
            state, value = AttemptState.SUCCEEDED, end.value
        elif end.exit_code == 0:
            error = JobError(type="no_result", message="The process exited before the function returned.")
        else:
            code = end.exit_code or 0
            error = self._limiter.limits.explain(code) or exit_error(code, ended.last_line)
        if error is not None:
            error = in_clients_words(error, self._names(order, ended.paths))
        return AttemptOutcome(
            state=state,
            exit_code=end.exit_code,
            error=error,
            value=value,
            output_size=output_size,
            results=taken.results,
        )

    def _names(self, order: AttemptSpec, paths: AttemptPaths | None) -> Sequence[tuple[str, str]]:
        """What a message says in place of the server's paths, the longer ones first; see `in_clients_words`."""
        data, name = f"{self._settings.folder}/", visible(order.file_name)
        names = [(f"{self._real_folder}/", data)]  # as a script writes them that resolves links
        if paths is not None:
            names += [(str(paths.input), name), (str(paths.config), self._settings.config_name)]
            names += [(f"{paths.work.parent}/", "")]  # `work/` and `results/` stay
        return [*names, (Path(order.blob).name, name), (data, "")]


# --- on the disk; blocks ---------------------------------------------------------------------------------------------


def _copy_input(paths: AttemptPaths) -> Path:
    """Make the attempt's folders and copy the input into the work folder, sharing its blocks if the file system can.

    The slot makes the folders if there is no copy. It must not copy: while it does, it does not notice that the server
    is gone.
    """
    for folder in (paths.work.parent, paths.work, paths.results):
        folder.mkdir(mode=0o700)
    copy = paths.work / paths.input.name
    with paths.input.open("rb") as source, copy.open("xb") as target:  # the folder is 0700, so the mode needs no care
        try:
            while os.copy_file_range(source.fileno(), target.fileno(), 1 << 30):
                pass
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
                raise
            source.seek(target.seek(0, os.SEEK_END))  # continue where the kernel stopped
            shutil.copyfileobj(source, target, COPIED_BYTES)
    return copy


def _identify(path: Path) -> FileIdentity | None:
    """The identity of a file; None if it is gone.

    Raises:
        OSError: the disk fails, which says nothing about the file.
    """
    try:
        return FileIdentity.of(path.lstat())
    except OSError as error:
        if error.errno in OF_THE_FILE:
            return None
        raise


def _is_removed(folder: Path) -> bool:
    """Remove a folder with everything in it; False if that failed, and the next sweep tries again."""
    try:
        remove_tree(folder)
    except OSError as error:
        logger.warning("%s could not be removed and is tried again: %s", folder, error)
        return False
    return True

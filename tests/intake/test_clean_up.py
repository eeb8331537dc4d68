"""What a failing disk or ledger kept a request from cleaning up, a sweep does while the server runs."""

import asyncio
import contextlib
import errno
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.intake.test_intake import END, FIRST, Body, Desk, desk, head, part, until  # noqa: F401 - a fixture
from tests.intake.test_resumable import CONTENT, HALF, Counter
from tests.support.scenarios import CALLER

from dropmill.engines.disk.writer import WRITE_BYTES
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.intake import intake
from dropmill.model.errors import BytesLost, DropmillError, Unavailable, UploadGone
from dropmill.model.uploads import UploadState

# ruff: noqa: F811 - parameters named like the fixtures they are


@contextlib.contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, *methods: str) -> Iterator[None]:
    """While the ledger refuses these calls, and the disk every removal if `unlink` is among them."""

    async def away(*_: Any, **__: Any) -> None:
        raise Unavailable("The ledger is away.")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        for method in methods:
            if method == "unlink":
                patch.setattr(Path, "unlink", refuse)
            else:
                patch.setattr(SqliteLedger, method, away)
        yield


async def cut_off(desk: Desk, place: bytes = b"") -> None:
    """A form whose second file breaks off."""
    with contextlib.suppress(DropmillError):
        await desk.receive(FIRST, head("second.txt"), bytes(2 * WRITE_BYTES), place)


FAULTS = [
    ("unlink",),
    ("abort_upload",),
    ("seal_submission",),
    ("unlink", "abort_upload", "seal_submission"),
    ("abort_upload", "seal_submission", "file"),
]


@pytest.mark.parametrize("methods", FAULTS, ids="+".join)
async def test_clean_up_that_failed_is_done_by_a_sweep(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, methods: tuple[str, ...]
) -> None:
    with failing(monkeypatch, *methods):
        await cut_off(desk)
        for _ in range(3):  # it may fail as often as it likes
            with contextlib.suppress(Unavailable):
                await desk.intake.sweep()
    submission = await desk.submission()
    assert submission.is_open or submission.counts.receiving or list(desk.blobs.incoming.iterdir())
    assert await desk.intake.sweep() == 0
    await desk.settled(kept=["first.txt"], aborted=["second.txt"])
    assert await desk.intake.sweep() == 0


async def test_a_repeat_begins_anew_once_clean_up_has_made_the_first_one_void(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reservation of an idempotency key is clean-up, too."""
    with failing(monkeypatch, "abort_upload", "seal_submission"), pytest.raises(DropmillError):
        await desk.receive(head("a.txt"), b"half", idempotency_key="key")
    await desk.intake.sweep()
    first = await desk.submission()
    receipt = await desk.receive(part("a.txt"), END, idempotency_key="key")
    assert receipt.submission_id != first.id
    assert receipt.stored == ("a.txt",)


async def test_a_sweep_leaves_alone_what_is_arriving(desk: Desk) -> None:
    """At any moment of a request: between its opening, each file's begin, bytes and end, and its seal."""
    stop = asyncio.Event()

    async def sweep_on() -> None:
        while not stop.is_set():
            await desk.intake.sweep()

    sweeping = [asyncio.create_task(sweep_on()) for _ in range(2)]
    try:
        for _ in range(8):
            body = Body()
            receiving = desk.begin(body)
            for name in ("one", "two", "three"):
                body.send(head(name))
                await body.all_taken()
                await asyncio.sleep(0.01)
                body.send(bytes(WRITE_BYTES), bytes(WRITE_BYTES), b"\r\n")
                await body.all_taken()
            body.send(END)
            body.end()
            assert (await receiving).stored == ("one", "two", "three")
    finally:
        stop.set()
        await asyncio.gather(*sweeping)


async def test_a_form_that_fills_an_announced_file_is_left_alone_though_a_repeat_failed(desk: Desk) -> None:
    counter = Counter(desk)
    submission_id, _ = await desk.intake.open(CALLER)
    (upload,) = await counter.uploads.announce(CALLER, submission_id, [{"name": "a.txt", "size": 3}])
    field = f'--B\r\nContent-Disposition: form-data; name="file:{upload.file_id}"; filename="a.txt"\r\n\r\n'.encode()
    body = Body()
    receiving = desk.begin(body, submission_id=submission_id)
    body.send(field + b"a")
    await body.all_taken()
    with contextlib.suppress(DropmillError):
        await desk.receive(field + b"abc\r\n", END, submission_id=submission_id)
    await desk.intake.sweep()
    assert (await desk.ledger.upload(upload.file_id)).state is UploadState.RECEIVING
    body.send(b"bc\r\n", END)
    body.end()
    assert (await receiving).stored == ("a.txt",)


async def test_bytes_that_the_ledger_may_have_recorded_stay_until_it_can_be_asked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to a commit was lost and the ledger is away: deleted bytes could be those of a stored file."""
    store_upload = SqliteLedger.store_upload

    async def store_and_fail(*arguments: Any, **named: Any) -> None:
        await store_upload(*arguments, **named)
        raise Unavailable("The connection to the ledger was lost.")

    with failing(monkeypatch, "file"):
        monkeypatch.setattr(SqliteLedger, "store_upload", store_and_fail)
        with pytest.raises(Unavailable):
            await desk.receive(FIRST, END)
        assert await desk.intake.sweep() == 1
        assert len(await desk.stored_on_disk()) == 1
    assert await desk.intake.sweep() == 0
    await desk.settled(kept=["first.txt"], aborted=[])  # its job is in the queue as well


async def test_what_is_noted_by_name_is_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "NOTED_MAX", 2)
    with failing(monkeypatch, "seal_submission", "store_upload", "file", "abort_upload"):
        for _ in range(4):
            with pytest.raises(Unavailable):
                await desk.receive(FIRST, END)
    assert len(desk.intake._in_doubt) == len(desk.intake._to_seal) == 2
    await desk.intake.sweep()
    assert not desk.intake._writing
    assert not desk.intake._filling
    for submission in (await desk.ledger.submissions(before=None, limit=10)).items:
        assert not submission.is_open
        assert submission.counts.aborted == 1


async def test_an_upload_that_came_whole_is_stored_though_nothing_could_be_written_down(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(desk, expiry_s=0.2)
    upload = await counter.create()
    with failing(monkeypatch, "extend_upload"):
        with pytest.raises(Unavailable):
            await counter.append(upload, 0, CONTENT)
        with failing(monkeypatch, "upload"):
            await counter.uploads._poll(upload.file_id)
    running = asyncio.create_task(counter.uploads.run())

    async def is_stored() -> bool:
        return (await counter.file(upload)).state is UploadState.STORED

    await until(is_stored)
    running.cancel()
    await asyncio.wait([running])
    await counter.require_stored(upload)
    await counter.uploads._poll(upload.file_id)
    assert not counter.uploads._to_finish


# --- what was received is compared with what is on disk ---------------------------------------------------------------


def _remove(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


WAYS = [_remove, _empty, _shorten]


async def on_disk(desk: Desk, size: int) -> Path:
    """The only file that is arriving, once it has this size."""
    found: list[Path] = []

    async def is_written() -> bool:
        found[:] = desk.blobs.incoming.iterdir()
        return [path.stat().st_size for path in found] == [size]

    await until(is_written)
    return found[0]


@pytest.mark.parametrize("way", WAYS)
async def test_a_form_file_that_vanished_while_it_came_is_not_recorded_as_stored(desk: Desk, way: Any) -> None:
    body = Body()
    receiving = desk.begin(body)
    body.send(FIRST, head("second.txt"), bytes(600_000))
    way(await on_disk(desk, 600_000))
    body.send(b"\r\n", END)
    body.end()
    with pytest.raises(BytesLost) as told:
        await receiving
    assert told.value.extra["kept"] == ["first.txt"]
    await desk.settled(kept=["first.txt"], aborted=["second.txt"])


@pytest.mark.parametrize("asks", ["find", "append", "last", "terminate"])
@pytest.mark.parametrize("way", WAYS)
async def test_an_upload_whose_bytes_vanished_is_gone_and_not_made_anew(desk: Desk, way: Any, asks: str) -> None:
    counter = Counter(desk)
    upload = await counter.create()
    await counter.append(upload, 0, CONTENT[:HALF])
    way(desk.blobs.incoming / (upload.partial or ""))
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "find": lambda: counter.uploads.find(CALLER, upload.file_id),
        "append": lambda: counter.append(upload, HALF, CONTENT[HALF:-1]),
        "last": lambda: counter.append(upload, HALF, CONTENT[HALF:]),
        "terminate": lambda: counter.uploads.terminate(CALLER, upload.file_id),
    }
    with pytest.raises(UploadGone):
        await calls[asks]()
    file = await counter.file(upload)
    assert (file.state, file.job, file.blob) == (UploadState.ABORTED, None, None)
    assert list(desk.blobs.incoming.iterdir()) == []
    assert await desk.stored_on_disk() == set()
    with pytest.raises(UploadGone):
        await counter.uploads.find(CALLER, upload.file_id)


@pytest.mark.parametrize("way", WAYS)
async def test_an_upload_whose_bytes_vanish_while_it_comes_is_gone(desk: Desk, way: Any) -> None:
    counter = Counter(desk)
    upload = await counter.create()
    body = Body()
    appending = counter.begin(upload, 0, body)
    body.send(CONTENT[:HALF])
    way(await on_disk(desk, HALF))
    body.send(CONTENT[HALF:])
    body.end()
    with pytest.raises(UploadGone):
        await appending
    assert (await counter.file(upload)).state is UploadState.ABORTED
    assert await desk.stored_on_disk() == set()


@pytest.mark.parametrize("way", [_remove, _empty])
async def test_an_upload_whose_bytes_vanished_between_two_runs_is_gone(desk: Desk, way: Any) -> None:
    before = Counter(desk)
    upload = await before.create()
    await before.append(upload, 0, CONTENT[:HALF])
    way(desk.blobs.incoming / (upload.partial or ""))
    desk.intake = desk.intake_with()
    after = Counter(desk)
    await desk.ledger.recover(5, "")
    await desk.intake.recover()
    await after.uploads.recover()
    with pytest.raises(UploadGone):
        await after.uploads.find(CALLER, upload.file_id)
    assert (await after.file(upload)).state is UploadState.ABORTED
    assert list(desk.blobs.incoming.iterdir()) == []

"""The bytes of one request: which of them are kept."""

import asyncio

import pytest
from tests.intake.counter import CONTENT, HALF, Counter, digest
from tests.intake.desk import Body
from tests.support.scenarios import CALLER, LIVENESS_S
from tests.support.waiting import eventually

from dropmill.model.errors import ChecksumMismatch
from dropmill.model.uploads import UploadState


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
async def test_a_chunk_counts_only_if_it_is_what_its_checksum_tells(counter: Counter, algorithm: str) -> None:
    upload = await counter.create()
    right, wrong = digest(CONTENT[:HALF], algorithm), digest(b"other", algorithm)
    with pytest.raises(ChecksumMismatch):
        await counter.append(upload, 0, CONTENT[:HALF], checksum=wrong)
    assert await counter.offset(upload) == 0
    await counter.append(upload, 0, CONTENT[:1000], CONTENT[1000:HALF], checksum=right)
    assert await counter.offset(upload) == HALF
    with pytest.raises(ChecksumMismatch):
        await counter.append(upload, HALF, CONTENT[HALF:], checksum=wrong)  # not even if it would make it whole
    assert await counter.offset(upload) == HALF
    await counter.append(upload, HALF, CONTENT[HALF:], checksum=digest(CONTENT[HALF:], algorithm))
    await counter.require_stored(upload)


@pytest.mark.parametrize("is_checked", [False, True])
async def test_of_a_request_that_is_cut_off_what_came_stays_unless_it_counts_as_a_whole(
    counter: Counter, is_checked: bool
) -> None:
    upload, body = await counter.create(), Body()
    await counter.append(upload, 0, CONTENT[:1000])
    checksum = digest(CONTENT[1000:]) if is_checked else None
    sending = counter.begin(upload, 1000, body, checksum=checksum)
    body.send(CONTENT[1000:HALF])
    await body.all_taken()
    assert counter.uploads.received(upload.file_id) == HALF
    sending.cancel()
    await asyncio.wait([sending])
    assert await counter.offset(upload) == (1000 if is_checked else HALF)
    await counter.append(upload, 1000 if is_checked else HALF, CONTENT[1000 if is_checked else HALF :])
    await counter.require_stored(upload)


@pytest.mark.parametrize("turns", range(0, 40, 4))
@pytest.mark.parametrize("is_checked", [False, True])
async def test_a_client_that_leaves_at_any_moment_leaves_a_true_offset(
    counter: Counter, turns: int, is_checked: bool
) -> None:
    """The cut comes while the turn is taken, the file is opened, written, paused or committed."""
    upload, body = await counter.create(), Body()
    sending = counter.begin(upload, 0, body, checksum=digest(CONTENT) if is_checked else None)
    body.send(CONTENT[:HALF], CONTENT[HALF:])
    body.end()
    for _ in range(turns):
        await asyncio.sleep(0 if turns % 8 else 0.0004)
    sending.cancel()
    await asyncio.wait([sending])
    async with asyncio.timeout(LIVENESS_S):
        standing = await counter.uploads.find(CALLER, upload.file_id)
    assert standing.offset in ((0, len(CONTENT)) if is_checked else (0, HALF, len(CONTENT)))
    if standing.offset < len(CONTENT):
        assert standing.offset == counter.on_disk(upload)
        await counter.append(upload, standing.offset, CONTENT[standing.offset :])

    async def is_stored() -> bool:
        return (await counter.file(upload)).state is UploadState.STORED

    await eventually(is_stored)
    await counter.require_stored(upload)

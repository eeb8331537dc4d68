"""Requests that are sent again under the same key."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.intake.counter import CONTENT, HALF, Counter
from tests.intake.desk import Body, sent
from tests.support.scenarios import CALLER, CLIENT, all_events, recount

from dropmill.intake import repeats
from dropmill.intake.announcement import read_announcement
from dropmill.model.errors import DigestMismatch, IdempotencyMismatch, MalformedUpload
from dropmill.model.ids import Owner, Sha256, SubmissionId
from dropmill.model.submissions import Counts


async def _put(counter: Counter, *chunks: bytes, **options: Any) -> tuple[str | None, tuple[str, ...]]:
    wanted = {"name": "a", "size": None, "idempotency_key": "k", **options}
    caller = replace(CALLER, owner=wanted.pop("owner", CALLER.owner))
    receipt = await counter.desk.intake.receive_raw(caller, sent(*chunks), **wanted)
    return receipt.submission_id, receipt.stored


def _form(*files: tuple[str, bytes]) -> bytes:
    head = '--B\r\nContent-Disposition: form-data; name="f"; filename="{}"\r\n\r\n'
    return b"".join(head.format(name).encode() + content + b"\r\n" for name, content in files) + b"--B--\r\n"


async def _post(counter: Counter, *files: tuple[str, bytes], body: bytes | None = None) -> str | None:
    receipt = await counter.desk.intake.receive_multipart(
        CALLER,
        sent(_form(*files) if body is None else body),
        "multipart/form-data; boundary=B",
        idempotency_key="k",
    )
    return receipt.submission_id


A, B = ("a", b"aaa"), ("b", b"bbbb")


async def test_a_repeat_shows_the_first_and_takes_no_byte(counter: Counter) -> None:
    first, stored = await _put(counter, CONTENT)
    assert stored == ("a",)
    assert await _put(counter, CONTENT[::-1], size=len(CONTENT)) == (first, ()), "bytes are not compared"
    body = Body()
    repeat = counter.desk.intake.receive_raw(CALLER, aiter(body), "a", size=len(CONTENT), idempotency_key="k")
    assert (await repeat).submission_id == first, "a known size is compared without reading a byte"
    assert len((await counter.desk.ledger.submissions(before=None, limit=10)).items) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"name": "b"},
        {"size": len(CONTENT) + 1},
        {"size": len(CONTENT) - 1},
        {"expected_sha256": Sha256(hashlib.sha256(CONTENT).hexdigest())},
    ],
)
async def test_idempotency_another_request_under_the_same_key_is_refused_and_nothing_stored(
    counter: Counter, options: dict[str, Any]
) -> None:
    first, _ = await _put(counter, CONTENT)
    with pytest.raises(IdempotencyMismatch) as refused:
        await _put(counter, CONTENT, **options)
    assert refused.value.extra["submission"] == first
    assert len((await counter.desk.ledger.submissions(before=None, limit=10)).items) == 1
    assert len(await counter.desk.stored_on_disk()) == 1
    assert await _put(counter, CONTENT) == (first, ())


@pytest.mark.parametrize("other", [b"", b"other", CONTENT + b"x", CONTENT[:-1]])
async def test_idempotency_an_unknown_size_is_compared_as_the_bytes_come(counter: Counter, other: bytes) -> None:
    first, _ = await _put(counter, CONTENT)
    with pytest.raises(IdempotencyMismatch):
        await _put(counter, other)
    assert await _put(counter, CONTENT) == (first, ())


@pytest.mark.parametrize(
    "files",
    [(A,), (B, A), (A, B, A), (A, ("b", b"bbb")), (A, ("b", b"bbbbb")), (("c", b"aaa"), B), (A, ("b", bytes(10**6)))],
    ids=["fewer", "another order", "more", "smaller", "larger", "another name", "far larger"],
)
async def test_idempotency_a_form_with_other_files_under_the_same_key_is_refused(
    counter: Counter, files: Sequence[tuple[str, bytes]]
) -> None:
    first = await _post(counter, A, B)
    with pytest.raises(IdempotencyMismatch):
        await _post(counter, *files)
    assert await _post(counter, A, ("b", b"BBBB")) == first, "a difference that only the bytes show is not looked for"
    assert len(await counter.desk.stored_on_disk()) == 2
    assert counter.desk.executor.wakes == 2


async def test_idempotency_a_form_that_was_cut_off_is_shown_to_its_repeat(counter: Counter) -> None:
    whole = _form(A, B)
    with pytest.raises(MalformedUpload) as cut:
        await _post(counter, body=whole[: whole.index(b"bbbb") + 2])
    assert await _post(counter, A, B) == cut.value.extra["submission"]
    with pytest.raises(IdempotencyMismatch):
        await _post(counter, A, B, ("c", b"c"))


async def test_idempotency_a_file_that_the_first_form_never_began_is_not_lost_in_silence(counter: Counter) -> None:
    """The first form was cut between two files: the server knows nothing of the second, so it can only refuse."""
    whole = _form(A, B)
    with pytest.raises(MalformedUpload) as cut:
        await _post(counter, body=whole[: whole.rindex(b"--B\r\n") + len(b"--B\r\n")])
    with pytest.raises(IdempotencyMismatch) as refused:
        await _post(counter, A, B)
    assert refused.value.extra["submission"] == cut.value.extra["submission"]


async def test_idempotency_a_repeat_that_breaks_off_or_is_cut_leaves_nothing(counter: Counter) -> None:
    first = await _post(counter, A, B)
    before = len(await all_events(counter.desk.ledger))
    with pytest.raises(MalformedUpload) as broken:
        await _post(counter, body=_form(A, B)[:-20])
    assert (broken.value.extra["kept"], broken.value.extra["submission"]) == ([], None)
    body = Body()
    repeat = asyncio.create_task(
        counter.desk.intake.receive_multipart(
            CALLER, aiter(body), "multipart/form-data; boundary=B", idempotency_key="k"
        )
    )
    body.send(_form(A, B)[:60])
    await body.all_taken()
    repeat.cancel()
    await asyncio.wait([repeat])
    assert len(await all_events(counter.desk.ledger)) == before
    assert await _post(counter, A, B) == first


async def test_idempotency_routes_are_different_requests(counter: Counter) -> None:
    await _put(counter, CONTENT)
    with pytest.raises(IdempotencyMismatch):
        await _post(counter, ("a", CONTENT))
    with pytest.raises(IdempotencyMismatch):
        await counter.desk.intake.open(
            CALLER, idempotency_key="k", announced=read_announcement([{"name": "a", "size": len(CONTENT)}])
        )


async def test_an_announcement_of_another_fingerprint_is_another_request(counter: Counter) -> None:
    async def announce(**more: str) -> SubmissionId:
        files = read_announcement([{"name": "a", "size": 1} | more])
        return (await counter.desk.intake.open(CALLER, idempotency_key=f"k{len(more)}", announced=files))[0]

    assert await announce() == await announce()
    assert await announce(fingerprint="a" * 64) == await announce(fingerprint="a" * 64)
    with pytest.raises(IdempotencyMismatch):
        await announce(fingerprint="b" * 64)


async def test_idempotency_keys_of_two_owners_are_two(counter: Counter) -> None:
    mine, _ = await _put(counter, CONTENT)
    theirs, _ = await _put(counter, b"other", owner=Owner("account:1"))
    assert theirs != mine
    assert await _put(counter, b"other", owner=Owner("account:1")) == (theirs, ())
    assert await _put(counter, CONTENT) == (mine, ())


async def test_idempotency_does_not_ask_for_the_address(counter: Counter) -> None:
    """A retry after a change of network must not run the script twice."""
    first, _ = await _put(counter, CONTENT)
    elsewhere = replace(CALLER, client=replace(CLIENT, ip="203.0.113.9"))
    receipt = await counter.desk.intake.receive_raw(
        elsewhere, sent(CONTENT), "a", size=len(CONTENT), idempotency_key="k"
    )
    assert receipt.submission_id == first


async def test_two_at_once_are_one_file(counter: Counter) -> None:
    both = await asyncio.gather(_put(counter, CONTENT), _put(counter, CONTENT))
    assert both[0][0] == both[1][0]
    assert sorted(stored for _, stored in both) == [(), ("a",)]
    assert counter.desk.executor.wakes == 1


async def test_a_repeat_of_one_that_is_cut_off_while_it_waits_begins_anew(counter: Counter) -> None:
    """The client lost its connection; the server, which has not noticed, must not call that one a success."""
    body = Body()
    first = asyncio.create_task(
        counter.desk.intake.receive_raw(CALLER, aiter(body), "a", size=None, idempotency_key="k")
    )
    body.send(CONTENT[:HALF])
    await body.all_taken()
    repeat = asyncio.create_task(_put(counter, CONTENT))
    await asyncio.sleep(0.01)
    assert not repeat.done()
    first.cancel()
    submission_id, stored = await repeat
    assert stored == ("a",)
    assert await recount(counter.desk.ledger, SubmissionId(submission_id or "")) == Counts(queued=1)


async def test_a_digest_that_does_not_match_keeps_nothing_and_may_be_repeated(counter: Counter) -> None:
    with pytest.raises(DigestMismatch):
        await _put(counter, CONTENT, expected_sha256=Sha256("0" * 64))
    assert await counter.desk.stored_on_disk() == set()
    _, stored = await _put(counter, CONTENT, expected_sha256=Sha256(hashlib.sha256(CONTENT).hexdigest()))
    assert stored == ("a",)


async def test_idempotency_every_file_of_a_long_form_is_compared(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first form's files are read some at a time."""
    monkeypatch.setattr(repeats, "COMPARED_MAX", 1)
    first = await _post(counter, A, B, A)
    assert await _post(counter, A, B, A) == first
    for other in ((A,), (A, B), (A, B, B), (A, B, A, B)):
        with pytest.raises(IdempotencyMismatch):
            await _post(counter, *other)

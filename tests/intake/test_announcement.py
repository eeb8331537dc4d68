"""Files that are announced before they come."""

import hashlib
from pathlib import Path

import pytest
from tests.intake.counter import CONTENT, Counter, announce
from tests.intake.desk import Body
from tests.support.scenarios import CALLER, recount
from tests.support.waiting import eventually

from dropmill.model.errors import BadRequest, Unavailable
from dropmill.model.submissions import Counts
from dropmill.model.uploads import UploadState
from dropmill.wire.jobs import RuntimeState
from dropmill.wire.submissions import file_json


async def test_announced_files_come_by_form_or_piece_by_piece(counter: Counter) -> None:
    submission_id, (small, large, empty) = await announce(
        counter, {"name": "s.txt", "size": 5}, {"name": "l.bin", "size": len(CONTENT)}, {"name": "0", "size": 0}
    )
    form = b'--B\r\nContent-Disposition: form-data; name="f"; filename="s.txt"\r\n\r\nhello\r\n--B--\r\n'
    await counter.desk.receive(form, submission_id=submission_id)
    await counter.append(large, 0, CONTENT)
    await counter.require_stored(small, b"hello")
    await counter.require_stored(large)
    await counter.require_stored(empty, b"")
    assert await recount(counter.desk.ledger, submission_id) == Counts(queued=3)


async def test_a_file_that_a_form_is_bringing_is_not_taken_piece_by_piece(counter: Counter) -> None:
    submission_id, (upload,) = await announce(counter, {"name": "a", "size": 5})
    body = Body()
    receiving = counter.desk.begin(body, submission_id=submission_id)
    body.send(b'--B\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nhe')

    async def has_begun() -> bool:
        return (await counter.desk.ledger.upload(upload.file_id)).state is UploadState.RECEIVING

    await eventually(has_begun)
    with pytest.raises(Unavailable):  # the form may have been cut without anybody knowing yet: to be tried again
        await counter.append(upload, 0, b"hello")
    with pytest.raises(Unavailable):
        await counter.uploads.find(CALLER, upload.file_id)
    body.send(b"llo\r\n--B--\r\n")
    body.end()
    await receiving
    await counter.require_stored(upload, b"hello")


@pytest.mark.parametrize(
    "files",
    [
        None,
        {},
        "a",
        [1],
        [{"name": "a"}],
        [{"size": 1}],
        [{"name": "a", "size": -1}],
        [{"name": "a", "size": True}],
        [{"name": "a", "size": 1.5}],
        [{"name": "a", "size": 2**63}],
        [{"name": 1, "size": 1}],
        [{"name": "a", "size": 1, "path": 2}],
        [{"name": "", "size": 1}],
        [{"name": "a", "size": 1, "fingerprint": ""}],
        [{"name": "a", "size": 1, "fingerprint": "A" * 64}],
        [{"name": "a", "size": 1, "fingerprint": "a" * 63}],
        [{"name": "a", "size": 1, "fingerprint": "a" * 64 + "\n"}],
        [{"name": "a", "size": 1, "fingerprint": 7}],
        [{"name": "a\ud800", "size": 1}],
        [{"name": "ok", "size": 1}, {"name": "a\0", "size": 1}],
        [{"name": "a", "size": 0}] * 1001,
    ],
)
async def test_an_announcement_of_another_form_begins_nothing(counter: Counter, files: object) -> None:
    submission_id, _ = await counter.desk.intake.open(CALLER)
    with pytest.raises(BadRequest):
        counter.uploads.check_announcement(CALLER, files)
    with pytest.raises(BadRequest):
        await counter.uploads.announce(CALLER, submission_id, files)
    assert await recount(counter.desk.ledger, submission_id) == Counts()


async def test_a_fingerprint_of_another_form_names_its_file(counter: Counter) -> None:
    files = [{"name": "a", "size": 1}, {"name": "b", "path": "folder/b", "size": 1, "fingerprint": "x"}]
    with pytest.raises(BadRequest, match="`fingerprint` of folder/b must be") as refused:
        counter.uploads.check_announcement(CALLER, files)
    assert refused.value.extra == {"file": "folder/b"}


async def test_the_fingerprint_is_shown_with_the_file(counter: Counter) -> None:
    _, uploads = await announce(
        counter, {"name": "a", "size": 1, "fingerprint": "ab" * 32}, {"name": "b", "size": 1, "fingerprint": None}
    )
    shapes = [file_json(await counter.file(upload), RuntimeState()) for upload in uploads]
    assert [shape.get("fingerprint") for shape in shapes] == ["ab" * 32, None]
    assert "fingerprint" not in shapes[1]


@pytest.mark.parametrize(("name", "content"), [("An empty file", b""), ("the file `abc`", b"abc")])
def test_the_document_says_what_a_fingerprint_is(name: str, content: bytes) -> None:
    text = " ".join((Path(__file__).parents[2] / "docs" / "api.md").read_text().split())
    computed = hashlib.sha256(b"%d\n" % len(content) + content[:65536] + content[-65536:]).hexdigest()
    assert f"{name} has `{computed}`" in text

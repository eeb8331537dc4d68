"""Which files `--accept` lets in."""

import pytest
from tests.intake.counter import Counter, announce
from tests.intake.desk import END, Desk, part, sent
from tests.support.scenarios import CALLER, recount

from dropmill.intake import file_types
from dropmill.intake.tus import metadata_of
from dropmill.model.errors import BadRequest, FileTypeNotAccepted
from dropmill.model.ids import SubmissionId
from dropmill.model.submissions import Counts

ACCEPT = (".csv", ".tar.gz", "image/*", "application/pdf")


@pytest.fixture
def choosy(desk: Desk) -> Counter:
    """Uploads of a server with `--accept`."""
    made = Counter(desk, accept=(".csv", "image/*"))
    desk.intake._gate = made.gate
    return made


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.csv", ""),
        ("A.CSV", "application/vnd.ms-excel"),
        ("folder/a.csv", ""),
        (".csv", ""),
        ("a.tar.gz", "application/gzip"),
        ("photo", "image/png"),
        ("photo.bin", "IMAGE/X-Rare; q=1"),
        ("photo.JPG", ""),
        ("photo.webp", "application/octet-stream"),
        ("paper", "application/pdf"),
        ("paper.pdf", "text/plain"),
    ],
)
def test_a_file_is_accepted_by_its_name_or_by_its_declared_type(name: str, media_type: str) -> None:
    assert file_types.accepts(ACCEPT, name, media_type)


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.csv.txt", ""),
        ("csv", ""),
        ("a.gz", "application/gzip"),
        ("a.txt", "text/csv"),  # the extension alone is accepted, not its media type
        ("a.txt", "image"),
        ("a.txt", "x-image/png"),
        ("a.txt", "application/pdfa"),
        ("jpg", ""),
        ("", ""),
    ],
)
def test_a_file_of_another_type_is_not(name: str, media_type: str) -> None:
    assert not file_types.accepts(ACCEPT, name, media_type)


def test_without_a_list_every_file_is_accepted() -> None:
    assert file_types.accepts((), "a.exe", "")


def test_the_extensions_of_the_media_types_are_the_ones_that_are_accepted_by_name() -> None:
    found = file_types.extensions(ACCEPT)
    assert {".jpg", ".jpeg", ".png", ".pdf"} <= set(found)
    assert not {".csv", ".mp4"} & set(found)
    assert all(file_types.accepts(ACCEPT, f"a{ending}", "") for ending in found)
    assert file_types.extensions((".csv",)) == []


async def test_a_form_stores_what_came_before_the_file_that_is_refused(choosy: Counter) -> None:
    with pytest.raises(
        FileTypeNotAccepted, match=r"bad.exe is of no type that is accepted here \(.csv, image/\*\)."
    ) as it:
        await choosy.desk.receive(part("a.csv") + part("bad.exe") + part("b.csv") + END)
    assert it.value.extra["file"] == "bad.exe"
    assert it.value.extra["accept"] == [".csv", "image/*"]
    assert it.value.extra["kept"] == ["a.csv"]
    await choosy.desk.settled(kept=["a.csv"], aborted=[])


async def test_a_part_is_accepted_by_its_media_type(choosy: Counter) -> None:
    head = b'--B\r\nContent-Disposition: form-data; name="f"; filename="scan"\r\nContent-Type: image/png\r\n\r\n'
    assert (await choosy.desk.receive(head + b"x\r\n" + END)).stored == ("scan",)


async def test_nothing_is_opened_for_a_file_that_is_refused(choosy: Counter) -> None:
    """By a form, as a body, piece by piece, by an announcement."""
    intake, uploads = choosy.desk.intake, choosy.uploads
    with pytest.raises(FileTypeNotAccepted):
        await choosy.desk.receive(part("a.txt") + END)
    with pytest.raises(FileTypeNotAccepted):
        await intake.receive_raw(CALLER, sent(b"x"), "a.txt", size=1, media_type="text/plain")
    with pytest.raises(FileTypeNotAccepted):
        await uploads.create(CALLER, size=1, metadata=metadata_of("a.txt", "a.txt", SubmissionId("")))
    files = [{"name": "a.csv", "size": 1}, {"name": "b.txt", "path": "folder/b.txt", "size": 1, "type": "text/plain"}]
    with pytest.raises(FileTypeNotAccepted) as refused:
        uploads.check_announcement(CALLER, files)
    assert refused.value.extra["file"] == "folder/b.txt"
    assert (await choosy.desk.ledger.submissions(before=None, limit=1)).items == []
    submission_id, _ = await intake.open(CALLER)
    with pytest.raises(FileTypeNotAccepted):
        await uploads.announce(CALLER, submission_id, files)
    assert await recount(choosy.desk.ledger, submission_id) == Counts()


async def test_every_way_in_takes_the_declared_type(choosy: Counter) -> None:
    await choosy.desk.intake.receive_raw(CALLER, sent(b"x"), "scan", size=1, media_type="image/png")
    await choosy.create(filetype="image/png")
    submission_id, (upload,) = await announce(choosy, {"name": "scan", "size": 1, "type": "image/png"})
    await choosy.desk.receive(part("scan", b"x") + END, submission_id=submission_id)  # announced, so it was accepted
    await choosy.require_stored(upload, b"x")
    with pytest.raises(BadRequest, match="`type` of scan must be text"):
        choosy.uploads.check_announcement(CALLER, [{"name": "scan", "size": 1, "type": 7}])

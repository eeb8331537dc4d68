"""The zip's bookkeeping for sizes that no test wants to send."""

from zipstream import ZipStream

from dropmill.model.ids import FileId, Sha256, SubmissionId
from dropmill.model.results import Result
from dropmill.model.uploads import File, UploadState
from dropmill.web.api.downloads import _announce
from dropmill.web.api.filenames import ArchiveNames

LARGE = 5 << 30


def test_a_result_of_more_than_32_bits_is_announced_as_zip64_with_its_true_length() -> None:
    file = File(
        id=FileId("f"),
        submission_id=SubmissionId("s"),
        name="a.txt",
        path="a.txt",
        size=1,
        received=1,
        sha256=Sha256("0" * 64),
        state=UploadState.STORED,
        blob="key",
        error=None,
        cause=None,
        job=None,
    )
    zip_stream = ZipStream(sized=True)
    results = [Result(path=name, size=LARGE, sha256=Sha256("0" * 64), blob="key") for name in ("one", "two")]
    entries = _announce([(file, results)], ArchiveNames(), zip_stream)
    assert [entry.blob.size for entry in entries] == [LARGE, LARGE]
    assert 2 * LARGE < len(zip_stream) < 2 * LARGE + 1000
    header = next(zip_stream.file())
    assert header[:4] == b"PK\x03\x04"
    assert int.from_bytes(header[4:6], "little") == 45  # the version of the format that ZIP64 needs
    assert b"a.txt/one" in header

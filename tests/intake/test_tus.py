"""The texts of tus headers."""

import pytest
from tests.intake.counter import b64

from dropmill.intake.tus import parse_checksum, parse_metadata
from dropmill.model.errors import BadRequest


@pytest.mark.parametrize(
    "header",
    [
        "filename YQ==,filename Yg==",
        "filename //79",
        "filename !",
        "filename é",
        "a,b,filename d e",
        "own YQ==,own Yg==",
        "naïve YQ==",
        ",".join(f"k{number} YQ==" for number in range(101)),
        "filename " + "QUFB" * 3000,
    ],
)
def test_metadata_that_cannot_be_read_is_refused(header: str) -> None:
    with pytest.raises(BadRequest):
        parse_metadata(header)


def test_metadata_is_text_by_key() -> None:
    assert parse_metadata("") == {}
    assert parse_metadata(f"filename {b64('ä.txt')}, is_confidential,relativePath ") == {
        "filename": "ä.txt",
        "relativePath": "",
    }


def test_metadata_of_the_clients_own_is_not_decoded() -> None:
    """It may be anything; it is kept with the upload as it came."""
    assert parse_metadata(f"own //79,other !!!,filename {b64('a')},a b c") == {"filename": "a"}


@pytest.mark.parametrize("header", ["", "sha1", "md5 AAAA", "sha1 AAAA", "sha256 é", "sha256 !!!", "sha1  " + "A" * 99])
def test_a_checksum_that_cannot_be_read_is_refused(header: str) -> None:
    with pytest.raises(BadRequest):
        parse_checksum(header)

"""The record that a callable gets as its `file` parameter."""

from dataclasses import fields
from pathlib import Path

from dropmill.model.client import ClientIdentity
from dropmill.slot.file import ProcessorClient, ProcessorFile


def test_a_processors_file_opens_like_a_path_and_hides_who_sent_it_from_its_text(tmp_path: Path) -> None:
    path = tmp_path / "stored.txt"
    path.write_bytes(b"content")
    file = ProcessorFile(
        name="a.txt",
        path=path,
        size=7,
        sha256="",
        job_id="j",
        submission_id="s",
        attempt=1,
        client=ProcessorClient(ip="192.0.2.1"),
    )
    with open(file, "rb") as opened:
        assert opened.read() == b"content"
    assert "192.0.2.1" not in repr(file)


def test_scripts_get_every_field_that_the_server_has_of_a_client() -> None:
    """The server sends its record field by field, so a field that the slot lacks would end every attempt."""

    def described(record: type[ClientIdentity] | type[ProcessorClient]) -> list[tuple[str, object, object]]:
        return [(one.name, one.type, one.default) for one in fields(record)]

    assert described(ProcessorClient) == described(ClientIdentity)

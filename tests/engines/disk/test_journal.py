"""Records of the journal are found and are right, whatever happened to their segment."""

import hashlib
import os
import random
from pathlib import Path

import pytest
from tests.engines.disk.killed import segments

from dropmill.engines.disk import journal
from dropmill.engines.disk.journal import BLOCK_BYTES, SEGMENT_BYTES, Record, Segment, record, records_in

NUMBER = bytes(range(16))


def file(key: str, content: bytes) -> tuple[str, bytes, bytes]:
    return key, hashlib.sha256(content).digest(), content


def some_files(chance: random.Random) -> list[tuple[str, bytes, bytes]]:
    sizes = [0, 1, 5000, *(chance.randrange(300) for _ in range(12))]
    return [file(f"{number:032x}.tar.gz", chance.randbytes(size)) for number, size in enumerate(sizes)]


def test_records_are_read_as_they_were_written_until_the_segment_is_cleared(tmp_path: Path) -> None:
    segment = Segment.make(tmp_path / "journal")
    (path,) = segments(tmp_path)
    assert path.stat().st_size == SEGMENT_BYTES
    assert path.stat().st_mode & 0o077 == 0
    assert list(segment.records()) == []
    files = some_files(random.Random(1))
    for begin in (0, 1, 5):
        segment.append(files[begin : begin + 4])
    written = [one for begin in (0, 1, 5) for one in files[begin : begin + 4]]
    assert [found[:3] for found in segment.records()] == [(key, digest, len(data)) for key, digest, data in written]
    assert [found.content for found in segment.records()] == [data for _, _, data in written]
    segment.clear()
    assert list(segment.records()) == []
    assert path.read_bytes() == bytes(SEGMENT_BYTES)
    segment.append(files[:2])
    assert [found.key for found in segment.records()] == [key for key, _, _ in files[:2]]
    segment.remove()
    assert segments(tmp_path) == []


def test_no_append_touches_the_blocks_of_an_earlier_one(tmp_path: Path) -> None:
    """A torn write must not reach what was acknowledged."""
    segment = Segment.make(tmp_path / "journal")
    segment.append([file("a", b"first")])
    before = segment.path.read_bytes()[:BLOCK_BYTES]
    segment.append([file("b", bytes(2 * BLOCK_BYTES))])
    segment.append([file("c", b"third")])
    content = segment.path.read_bytes()
    assert content[:BLOCK_BYTES] == before
    starts = [at for at in range(len(content)) if content.startswith(bytes.fromhex(segment.path.stem), at)]
    assert [at % BLOCK_BYTES for at in starts] == [0, 0, 0]
    segment.close()


def test_a_segment_says_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 4 * BLOCK_BYTES)
    segment = Segment.make(tmp_path / "journal")
    appended = 0
    while segment.has_room(1000, 1):
        segment.append([file(f"{appended}", bytes(1000))])
        appended += 1
    assert appended == 4
    assert segment.path.stat().st_size == 4 * BLOCK_BYTES
    assert not segment.has_room(0, 1)
    segment.close()


@pytest.mark.parametrize("seed", range(40))
def test_damage_costs_the_records_that_it_touches_and_no_other(seed: int) -> None:
    chance = random.Random(seed)
    files = some_files(chance)
    content = bytearray()
    places = []
    for one in files:
        written = record(NUMBER, *one)
        places.append((len(content), len(content) + len(written)))
        content += written + bytes(chance.choice([0, 0, 50]))
    begin = chance.randrange(len(content))
    end = min(len(content), begin + chance.choice([1, 1, 7, 100, 3000]))
    way = chance.choice(["flip", "zero", "random", "cut"])
    if way == "cut":
        del content[begin:]
        end = 1 << 30
    elif way == "flip":
        content[begin] ^= 1 << chance.randrange(8)
        end = begin + 1
    else:
        content[begin:end] = bytes(end - begin) if way == "zero" else chance.randbytes(end - begin)
    untouched = {
        one[0]: one[2] for one, (first, last) in zip(files, places, strict=True) if last <= begin or first >= end
    }
    found = {read.key: read for read in records_in(NUMBER, bytes(content))}
    right = {key: read.content for key, read in found.items() if read.content is not None}
    assert untouched.items() <= right.items(), f"{way} of {begin}-{end}"
    assert right.items() <= {one[0]: one[2] for one in files}.items()


def test_a_record_whose_content_is_damaged_still_says_what_it_was() -> None:
    key, digest, data = file("key", b"content")
    content = bytearray(record(NUMBER, key, digest, data) + record(NUMBER, *file("next", b"n")))
    content[content.index(b"content")] ^= 1
    damaged, following = records_in(NUMBER, bytes(content))
    assert damaged == Record("key", digest, 7, None)
    assert following.content == b"n"


def test_content_that_looks_like_a_record_of_another_segment_is_none() -> None:
    inner = record(bytes(16), *file("forged", b"forged"))
    content = record(NUMBER, *file("outer", inner))
    assert [found.key for found in records_in(NUMBER, content)] == ["outer"]
    assert [found.key for found in records_in(NUMBER, content[1:])] == []


def test_a_segment_belongs_to_one_process_until_that_is_gone(tmp_path: Path) -> None:
    segment = Segment.make(tmp_path / "journal")
    assert Segment.left_in(tmp_path / "journal") == []
    segment.append([file("a", b"a")])
    segment.close()
    (tmp_path / "journal" / "notes.segment").write_bytes(b"not one of ours")
    (left,) = Segment.left_in(tmp_path / "journal")
    assert [found.key for found in left.records()] == ["a"]
    assert Segment.left_in(tmp_path / "journal") == []
    left.close()
    assert Segment.left_in(tmp_path / "nowhere") == []


def test_a_segment_that_finds_no_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(OSError, match="No space"):
        Segment.make(tmp_path / "journal")
    assert segments(tmp_path) == []

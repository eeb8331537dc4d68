"""Parts of a form inside a loan: the same files, wherever the loans begin and end, and whatever the parts hold.

Fails when the private names of the `multipart` library change that `_Parser` relies on.
"""

import asyncio
import random
from collections.abc import Callable

import pytest
from tests.intake.counter import Counter
from tests.intake.desk import END, TYPE, Desk, head, part
from tests.intake.lent import BytesLoan, lent
from tests.support.scenarios import CALLER

from dropmill.intake.loans import Loan, Pieces
from dropmill.intake.multipart import PartBegins, PartEnds, file_parts
from dropmill.model.errors import DropmillError, FileTooLarge, MalformedUpload
from dropmill.model.uploads import UploadState
from dropmill.ports.blobs import Inflow

BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
DELIMITER = b"\r\n--" + BOUNDARY.encode()


@pytest.fixture
def chance() -> random.Random:
    """Random numbers; the seed is shown if the test fails."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


async def files_of(pieces: Pieces, chance: random.Random) -> list[tuple[str, bytes]]:
    """Path and content of every file, borrowing where it can be."""
    found: list[tuple[str, bytes]] = []
    content = bytearray()

    async def take(inflow: Inflow) -> int:
        taken = 0
        for _ in range(chance.choice([1, 1000])):
            buffer = memoryview(bytearray(chance.choice([1, 30, 100, 4096])))
            length = inflow.read_into(buffer)
            if not length:
                break
            content.extend(buffer[:length])
            taken += length
        return taken

    async for event in file_parts(pieces, BOUNDARY):
        match event:
            case PartBegins():
                path = event.path
                content.clear()
            case PartEnds():
                found.append((path, bytes(content)))
            case Loan():
                while await event.use(take):
                    pass
            case _:
                content += event
    return found


def near_delimiters(chance: random.Random, length: int) -> bytes:
    """Bytes full of what may be the beginning of a delimiter."""
    made = bytearray()
    while len(made) < length:
        made += chance.choice(
            [
                DELIMITER[: chance.randrange(1, len(DELIMITER))],
                b"\r",
                b"\r\r\n",
                b"\r\n--" + BOUNDARY.swapcase().encode(),
                chance.randbytes(chance.randrange(1, 200)),
            ]
        )
    return bytes(made).replace(DELIMITER, b"x")


def body_of(files: list[tuple[str, bytes]], *headers: str) -> bytes:
    made = bytearray()
    for name, content in files:
        lines = [f'Content-Disposition: form-data; name="f"; filename="{name}"', *headers]
        made += b"--%b\r\n%b\r\n\r\n%b\r\n" % (BOUNDARY.encode(), "\r\n".join(lines).encode(), content)
    return bytes(made) + b"--%b--\r\n" % BOUNDARY.encode()


def cut(body: bytes, chance: random.Random) -> list[bytes | BytesLoan]:
    """The body in pieces and loans; the last byte is never lent."""
    pieces: list[bytes | BytesLoan] = []
    at = 0
    while at < len(body) - 1:
        length = min(chance.choice([1, 3, 50, 500, 5000]), len(body) - 1 - at)
        piece = body[at : at + length]
        pieces.append(piece if chance.random() < 0.3 else BytesLoan(piece, step=chance.choice([1, 7, 64, 1000])))
        at += length
    return [*pieces, body[-1:]]


@pytest.mark.parametrize("number", range(30))
async def test_files_are_the_same_wherever_loans_begin_and_end(chance: random.Random, number: int) -> None:
    files = [(f"{n}.bin", near_delimiters(chance, chance.choice([0, 1, 200, 5000]))) for n in range(4)]
    assert await files_of(lent(*cut(body_of(files), chance)), chance) == files


async def test_a_part_that_says_its_length_is_not_lent(chance: random.Random) -> None:
    content = near_delimiters(chance, 1000)
    body = body_of([("a.bin", content)], f"Content-Length: {len(content)}")
    loan = BytesLoan(body[300:900])
    assert await files_of(lent(body[:300], loan, body[900:]), chance) == [("a.bin", content)]
    assert loan.uses == 0
    wrong = body_of([("a.bin", content)], f"Content-Length: {len(content) - 1}")
    with pytest.raises(MalformedUpload):
        await files_of(lent(wrong[:300], BytesLoan(wrong[300:900]), wrong[900:]), chance)


async def test_padded_boundaries_are_not_lent(chance: random.Random) -> None:
    content = near_delimiters(chance, 1000)
    body = body_of([("a.bin", content)]).replace(BOUNDARY.encode() + b"\r\n", BOUNDARY.encode() + b" \r\n")
    loan = BytesLoan(body[300:900])
    assert await files_of(lent(body[:300], loan, body[900:]), chance) == [("a.bin", content)]
    assert loan.uses == 0


async def test_a_text_field_is_not_lent_and_keeps_its_limit(chance: random.Random) -> None:
    field = b'--%b\r\nContent-Disposition: form-data; name="t"\r\n\r\n' % BOUNDARY.encode()
    loan = BytesLoan(b"x" * 100_000)
    with pytest.raises(DropmillError) as refused:
        await files_of(lent(field, loan, b"x"), chance)
    assert refused.value.status == 413
    assert loan.uses == 0


@pytest.mark.parametrize("wrong", [b"xy", b"-x", b"\n\r"])
async def test_what_is_wrong_behind_a_delimiter_is_refused_by_the_parser(chance: random.Random, wrong: bytes) -> None:
    body = body_of([("a.bin", b"content")])
    at = body.rindex(DELIMITER) + len(DELIMITER)
    broken = body[:at] + wrong + body[at + 2 :]
    begin = body.index(b"content")
    with pytest.raises(MalformedUpload):
        await files_of(lent(broken[:begin], BytesLoan(broken[begin:-1]), broken[-1:]), chance)


# --- at the desk -----------------------------------------------------------------------------------------------------

CONTENT = random.Random(12).randbytes(2_000_000)


async def form(desk: Desk, pieces: Pieces) -> tuple[str, ...]:
    return (await desk.intake.receive_multipart(CALLER, pieces, TYPE)).stored


def split(body: bytes, *at: int) -> list[bytes | BytesLoan]:
    """A first piece, and then loans between these places; the rest is a piece."""
    ends = [*at, len(body) - 1]
    loans = [BytesLoan(body[begin:end]) for begin, end in zip(at, ends[1:], strict=False)]
    return [body[: at[0]], *loans, body[-1:]]


@pytest.mark.parametrize("at", [(300_000,), (300_000, 1_999_900, 2_000_110), (70_000, 2_000_071, 2_000_072, 2_000_073)])
async def test_files_of_a_form_are_stored_from_loans_each_for_itself(desk: Desk, at: tuple[int, ...]) -> None:
    body = part("a.bin", CONTENT) + part("b.txt", b"small") + part("c.bin", CONTENT[::-1]) + END
    pieces = split(body, *at)
    assert await form(desk, lent(*pieces)) == ("a.bin", "b.txt", "c.bin")
    files = await desk.files()
    for name, content in [("a.bin", CONTENT), ("b.txt", b"small"), ("c.bin", CONTENT[::-1])]:
        file = files[name]
        assert file.state is UploadState.STORED
        assert file.blob is not None
        async with desk.blobs.local(file.blob) as path:
            assert await asyncio.to_thread(path.read_bytes) == content
    assert sum(piece.brought for piece in pieces if isinstance(piece, BytesLoan)) > 1_000_000


async def test_a_part_over_the_limit_is_refused_inside_a_loan_and_the_one_before_is_kept(counter: Counter) -> None:
    desk = Counter(counter.desk, max_file_size=1_000_000).desk
    body = part("a.bin", CONTENT[:1_000_000]) + part("b.bin", CONTENT) + END
    with pytest.raises(FileTooLarge) as refused:
        await form(desk, lent(*split(body, 300_000, 1_300_000)))
    assert refused.value.extra["kept"] == ["a.bin"]
    await desk.settled(kept=["a.bin"], aborted=["b.bin"])


@pytest.mark.parametrize("end", [lambda body: body[:-20], lambda body: body[:1_500_000]])
async def test_a_form_that_breaks_off_in_a_loan_keeps_no_part_of_a_file(
    desk: Desk, end: Callable[[bytes], bytes]
) -> None:
    body = end(head("a.bin") + CONTENT + b"\r\n" + END)
    with pytest.raises(MalformedUpload):
        await form(desk, lent(body[:300_000], BytesLoan(body[300_000:])))
    await desk.settled(kept=[], aborted=["a.bin"])

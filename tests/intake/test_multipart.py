"""A multipart body in whatever pieces it arrives, and names whatever they hold."""

import tracemalloc
from collections.abc import AsyncIterator, Iterable

import pytest

from dropmill.intake.multipart import (
    NAME_MAX,
    PartBegins,
    PartEnds,
    PartEvent,
    base_name,
    boundary_of,
    client_path,
    file_parts,
    stored_extension,
)
from dropmill.model.errors import BadFileName, DropmillError, MalformedUpload, UnsupportedMediaType

BOUNDARY = "B"


def part(disposition: str, content: bytes = b"x", more: str = "") -> bytes:
    return f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n{more}\r\n".encode() + content + b"\r\n"


def file(name: str, content: bytes = b"x") -> bytes:
    return part(f'form-data; name="f"; filename="{name}"', content)


END = f"--{BOUNDARY}--\r\n".encode()


async def pieces(body: bytes, sizes: Iterable[int]) -> AsyncIterator[bytes]:
    start = 0
    for size in sizes:
        yield body[start : start + size]
        start += size
    yield body[start:]


async def read(chunks: AsyncIterator[bytes], boundary: str = BOUNDARY) -> list[tuple[str, bytes]]:
    """Path and content of every file that ended."""
    found: list[tuple[str, bytes]] = []
    path, content = "", b""
    async for event in file_parts(chunks, boundary):
        match event:
            case PartBegins():
                path, content = event.path, b""
            case PartEnds():
                found.append((path, content))
            case _:
                content += event
    return found


async def collect(events: AsyncIterator[PartEvent], into: list[PartEvent]) -> None:
    async for event in events:
        into.append(event)  # noqa: PERF401 - what came before an error counts


async def whole(body: bytes) -> list[tuple[str, bytes]]:
    return await read(pieces(body, []))


# --- splits ----------------------------------------------------------------------------------------------------------

BODY = (
    file("a.txt", b"payload")
    + part('form-data; name="note"', b"only a field")
    + file("empty", b"")
    + file("like a boundary", b"\r\n--\r\n-B\r\n--C--\r\n\r\r\n--")
    + file("binary", bytes(range(256)))
    + END
)
FILES = [
    ("a.txt", b"payload"),
    ("empty", b""),
    ("like a boundary", b"\r\n--\r\n-B\r\n--C--\r\n\r\r\n--"),
    ("binary", bytes(range(256))),
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 20, 64, 10_000])
async def test_a_body_reads_the_same_in_pieces_of_any_size(size: int) -> None:
    assert await read(pieces(BODY, [size] * (len(BODY) // size))) == FILES


async def test_a_body_reads_the_same_cut_in_two_at_every_byte() -> None:
    """Boundaries and headers straddle two pieces wherever they can."""
    for at in range(len(BODY)):
        assert await read(pieces(BODY, [at])) == FILES, at


async def test_a_body_that_ends_at_any_byte_keeps_the_files_that_had_ended() -> None:
    for at in range(BODY.index(END) + len(f"--{BOUNDARY}--")):
        ended: list[PartEvent] = []
        with pytest.raises(MalformedUpload):
            await collect(file_parts(pieces(BODY[:at], [7]), BOUNDARY), ended)
        assert sum(isinstance(event, PartEnds) for event in ended) == sum(at >= known for known in _known_as_ended()), (
            at
        )


def _known_as_ended() -> list[int]:
    """Where in the body each file is known to have ended: behind the boundary that follows it."""
    ends = []
    for name, content in FILES:
        begin = BODY.index(b"\r\n\r\n", BODY.index(f'filename="{name}"'.encode())) + 4
        ends.append(begin + len(content) + len(f"\r\n--{BOUNDARY}\r\n"))
    return ends


async def test_what_follows_the_last_boundary_is_read_past() -> None:
    assert await read(pieces(BODY + b"epilogue " * 10_000, [100] * 500)) == FILES


async def test_a_preamble_is_read_past() -> None:
    assert await whole(b"This is a multipart message.\r\n" + BODY) == FILES


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../../../../etc/cron.d/x",
        "..\\..\\x",
        "%2e%2e%2fx",
        ".",
        "..",
        "/",
        "folder/",
        "a\tb\x1b]8;;https://evil.example\x1b\\click.txt",
        "safe.txt\b\b\b\bexe",
        "invoice\u202efdp.exe",
        "a\u2066b\u2067c\u2068d\u2069\u200b\u2028\u0085.txt",
        "e\u0301.txt",
        "\U0001f4a9" * 255,
        "n" * 300,
        "-rf",
        "~root/.ssh/authorized_keys",
        "$HOME/$(touch pwned)/`touch pwned`; touch pwned | {{7*7}}",
        "<img src=x onerror=alert(1)>.txt",
        " leading and trailing ",
        "a;b=c, d",
        "100%",
        "filename=b",
        "; filename=c",
    ],
)
async def test_a_name_is_only_text_and_kept_as_it_was_sent(name: str) -> None:
    assert await whole(file(name) + END) == [(name, b"x")]


@pytest.mark.parametrize(
    ("sent", "meant"),
    [("a%22b.txt", 'a"b.txt'), ("a%0D%0Ab.txt", "a\r\nb.txt"), ("a%0Ab", "a\nb"), ("a%0ab%00", "a%0ab%00")],
    ids=["quote", "newline", "line feed", "others stay"],
)
async def test_only_what_browsers_escape_is_unescaped(sent: str, meant: str) -> None:
    """HTML: multipart/form-data encodes quote, CR and LF in a name, and nothing else."""
    assert await whole(file(sent) + END) == [(meant, b"x")]


@pytest.mark.parametrize(
    "disposition",
    [
        "form-data; name=f; filename=a.txt",
        'form-data;name="f";filename="a.txt"',
        'form-data; filename="a.txt"; name="f"',
        'FORM-DATA; Name="f"; FileName="a.txt"',
        'form-data; name=""; filename="a.txt"',
        'form-data; name="evil"; filename="a.txt"',
        'form-data; name="f"; filename="a.txt"; filename*=UTF-8\'\'b.txt',
        'form-data; name="f"; filename*=UTF-8\'\'b.txt; filename="a.txt"',
        'form-data; name="f"; filename="C:\\fakepath\\a.txt"',
    ],
)
async def test_any_part_with_a_filename_is_a_file_of_that_name(disposition: str) -> None:
    """`filename*` has no place in a form (RFC 7578, section 4.2): beside a filename it is not looked at."""
    assert await whole(part(disposition) + END) == [("a.txt", b"x")]


@pytest.mark.parametrize("disposition", ['form-data; name="f"; filename=""', 'form-data; name="filename"'])
async def test_a_part_without_a_name_of_a_file_is_no_file(disposition: str) -> None:
    assert await whole(part(disposition) + END) == []


@pytest.mark.parametrize(
    "disposition",
    [
        'form-data; filename="a"',
        'attachment; name="f"; filename="a"',
        'form-data; name="f"; filename="a"; filename="b"',
        'form-data; name="f"; name="g"; filename="a"',
        "form-data; name=\"f\"; filename*=UTF-8''..%2f..%2fb",
        "form-data; name=\"f\"; filename*=UTF-16''%ff%fe",
    ],
)
async def test_a_part_that_leaves_in_doubt_which_file_it_is_is_malformed(disposition: str) -> None:
    with pytest.raises(MalformedUpload):
        await whole(part(disposition) + END)


@pytest.mark.parametrize(
    ("name", "error"),
    [(b"a.txt\0.sh", BadFileName), (b"n" * (NAME_MAX + 1), BadFileName), (b"\xff\xfe", MalformedUpload)],
    ids=["NUL", "too long", "no UTF-8"],
)
async def test_a_name_that_cannot_be_kept_is_refused(name: bytes, error: type[DropmillError]) -> None:
    sent = file("NAME").replace(b"NAME", name)
    with pytest.raises(error):
        await whole(sent + END)


async def test_the_longest_name_that_is_taken_fits_its_header_in_every_escape() -> None:
    name = '"' * NAME_MAX
    assert await whole(file("%22" * NAME_MAX) + END) == [(name, b"x")]


def test_half_a_character_is_no_name() -> None:
    for text in ("\ud800.txt", ""):
        with pytest.raises(BadFileName):
            client_path(text)


def test_the_base_name_is_what_follows_the_last_slash() -> None:
    for path, name in (("a", "a"), ("b/a", "a"), ("c/b/a.txt", "a.txt"), ("a/", "a/"), ("/", "/"), ("b\\a", "b\\a")):
        assert base_name(path) == name


@pytest.mark.parametrize(
    ("name", "extension"),
    [
        ("a.txt", ".txt"),
        ("a.tar.gz", ".tar.gz"),
        ("A.TXT", ".TXT"),
        ("a.b.c.d", ".b.c.d"),
        ("v1.2.3.tar.gz", ".3.tar.gz"),
        ("a.123456789012", ".123456789012"),
        ("a.1234567890123", ""),
        ("a", ""),
        ("a.", ""),
        (".htaccess", ""),
        ("..", ""),
        ("...", ""),
        ("a..txt", ".txt"),
        ("a.t xt", ""),
        ("a.txt\n", ""),
        ("a.\u0440\u0501f", ""),
        ("a.txt::$DATA", ""),
        ("a.%2f", ""),
        ("a.txt/", ""),
        ("a.b-c.txt", ".txt"),
        ("-rf.sh", ".sh"),
        ("\n.txt", ".txt"),
    ],
)
def test_only_a_plain_extension_is_carried_over(name: str, extension: str) -> None:
    assert stored_extension(name) == extension


# --- the content type and its boundary -------------------------------------------------------------------------------


@pytest.mark.parametrize("boundary", ["B", "-" * 70, "a'()+_,-./:=?b", "with space b"])
def test_a_boundary_is_taken_as_it_stands(boundary: str) -> None:
    assert boundary_of(f'multipart/form-data; boundary="{boundary}"') == boundary
    assert boundary_of(f'MULTIPART/Form-Data; charset=utf-8; Boundary="{boundary}"') == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        'multipart/form-data; boundary="ends in a space "',
        f"multipart/form-data; boundary={'B' * 71}",
        "multipart/form-data; boundary=\u00e9",
        'multipart/form-data; boundary="a\nb"',
        'multipart/form-data; boundary="a\tb"',
    ],
)
def test_no_usable_boundary_is_a_malformed_upload(content_type: str) -> None:
    with pytest.raises(MalformedUpload):
        boundary_of(content_type)


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "text/plain; boundary=B", "multipart/mixed; boundary=B", "form-data; boundary=B"]
)
def test_another_content_type_is_not_supported(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        boundary_of(content_type)


# --- malformed and excessive -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no multipart at all",
        b"--B",
        b"--B\r\nX: y\r\n\r\nx\r\n--B--\r\n",
        b'--B\nContent-Disposition: form-data; name="f"; filename="a"\n\nx\n--B--\n',
        b'--B\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nx\r\n--Bjunk\r\n--B--\r\n',
        b'--B\r\nno colon\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nx\r\n--B--\r\n',
        b'--C\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nx\r\n--C--\r\n',
    ],
    ids=["empty", "text", "cut", "no disposition", "bare line feeds", "junk", "no colon", "another boundary"],
)
async def test_what_is_no_multipart_body_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedUpload):
        await whole(body)


async def test_an_endless_header_is_cut_short() -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"--B\r\nX: "
        for _ in range(1000):
            yield b"a" * 1024
        raise AssertionError("a header of 1 MiB was read to its end")

    with pytest.raises(MalformedUpload, match="limit"):
        await read(endless())


async def test_fields_are_read_past_but_not_for_ever() -> None:
    with pytest.raises(MalformedUpload, match="fields"):
        await whole(part('form-data; name="note"', b"x" * (1024 * 1024 + 1)) + END)
    assert await whole(part('form-data; name="note"', b"x" * (1024 * 1024)) + END) == []


async def test_ten_thousand_empty_parts_take_no_memory() -> None:
    """CVE-2023-25577 and its kind."""

    async def many() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield part('form-data; name="a"', b"") * 100
        yield END

    tracemalloc.start()
    try:
        assert await read(many()) == []
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("unit", [b"\r", b"\n--", b"\r\n--"], ids=["CR", "LF--", "CRLF--"])
async def test_bytes_that_look_like_boundaries_come_through(unit: bytes) -> None:
    """CVE-2023-46136 and its kind."""
    content = unit * (1024 * 1024 // len(unit))
    assert await read(pieces(file("a", content) + END, [65536] * 100)) == [("a", content)]


async def test_a_part_of_parts_is_one_field() -> None:
    inner = b"--C\r\n\r\nx\r\n--C--"
    body = part('form-data; name="f"', inner, "Content-Type: multipart/mixed; boundary=C\r\n") + END
    assert await whole(body) == []

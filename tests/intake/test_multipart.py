"""A multipart body in whatever pieces it arrives, and names whatever they hold."""

import contextlib
import inspect
import re
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import multipart
import pytest

from dropmill.intake.multipart import (
    FIELD_BYTES_MAX,
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
from dropmill.model.errors import BadFileName, DropmillError, MalformedUpload, TooLarge, UnsupportedMediaType

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
            case bytes():
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
    """Where in the body each file is known to have ended: after the next boundary."""
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
    """`filename*` has no place in a form (RFC 7578, section 4.2): beside an ASCII filename it is not looked at."""
    assert await whole(part(disposition) + END) == [("a.txt", b"x")]


async def test_a_text_field_is_no_file_whatever_it_is_called() -> None:
    assert await whole(part('form-data; name="filename"') + END) == []


@pytest.mark.parametrize(
    "disposition",
    [
        'form-data; filename="a"',
        'attachment; name="f"; filename="a"',
        'form-data; name="f"; filename="a"; filename="b"',
        'form-data; name="f"; name="g"; filename="a"',
        "form-data; name=\"f\"; filename*=UTF-16''%ff%fe",
        'form-data; name="f"; filename*=a.txt',
        "form-data; name=\"f\"; filename*=UTF-8''a; filename*=UTF-8''b",
        'form-data; name="f"; filename*0="a"; filename*1="b"',
        'form-data; name="f"; filename="a"b.txt"',
        'form-data; name="f"; filename="a',
        "form-data; name=f; filename=my report.pdf",
        'form-data; name="f", filename="a"',
    ],
)
async def test_a_part_that_leaves_in_doubt_which_file_it_is_is_malformed(disposition: str) -> None:
    with pytest.raises(MalformedUpload):
        await whole(part(disposition) + END)


@pytest.mark.parametrize(
    "name", [b"a.txt\0.sh", b"n" * (NAME_MAX + 1), b"\xff" * (NAME_MAX // 3 + 1)], ids=["NUL", "too long", "as U+FFFD"]
)
async def test_a_name_that_cannot_be_kept_is_refused(name: bytes) -> None:
    sent = file("NAME").replace(b"NAME", name)
    with pytest.raises(BadFileName):
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

    with pytest.raises(MalformedUpload, match="Part 1 of the form has a header over 32 KiB"):
        await read(endless())


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


# --- parts that are skipped ------------------------------------------------------------------------------------------

FORMS = Path(__file__).with_name("forms")
BYTES = [("a.txt", b"hello")]


@pytest.mark.parametrize(
    ("case", "files"),
    [
        ("cp1252_name", [("ok1.txt", b"hello"), ("r\ufffdsum\ufffd.pdf", b"hello"), ("ok2.txt", b"hello")]),
        ("empty_filename_with_bytes", [*BYTES, ("unnamed", b"z" * 1000)]),
        ("octet_part_without_filename", [*BYTES, ("unnamed", b"DATA" * 1000)]),
        ("lws_after_boundary", BYTES),
        ("rfc5987_only", [("r\u00e9sum\u00e9.pdf", b"hello")]),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 64, 10_000])
async def test_skipped_parts_every_file_of_a_form_from_the_field_arrives(
    case: str, files: list[tuple[str, bytes]], size: int
) -> None:
    body = (FORMS / f"{case}.bin").read_bytes()
    assert await read(pieces(body, [size] * (len(body) // size))) == files


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("base64_cte", r'The part "f" \(file "a.txt"\) has the Content-Transfer-Encoding base64'),
        ("unquoted_space", "Part 1"),
    ],
)
async def test_skipped_parts_a_form_from_the_field_that_cannot_be_read_is_refused_by_name(case: str, said: str) -> None:
    """Nothing of the part that is refused begins."""
    begun: list[PartEvent] = []
    with pytest.raises(MalformedUpload, match=said):
        await collect(file_parts(pieces((FORMS / f"{case}.bin").read_bytes(), []), BOUNDARY), begun)
    assert begun == []


@pytest.mark.parametrize("kind", ["application/octet-stream", "IMAGE/PNG", "audio/x", "video/mp4; codecs=x"])
@pytest.mark.parametrize("content", [b"", b"x"])
async def test_skipped_parts_a_media_type_of_files_makes_a_file(kind: str, content: bytes) -> None:
    (found,) = await whole(part('form-data; name="f"', content, f"Content-Type: {kind}\r\n") + END)
    assert found[1] == content


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "image/png", ""])
@pytest.mark.parametrize("disposition", ['filename=""', "filename*=UTF-8''", "filename=\"\"; filename*=UTF-8''"])
async def test_skipped_parts_an_empty_name_counts_with_bytes_only(kind: str, disposition: str) -> None:
    more = f"Content-Type: {kind}\r\n" if kind else ""
    chosen = part(f'form-data; name="f"; {disposition}', b"x", more)
    nothing = part(f'form-data; name="f"; {disposition}', b"", more)
    assert [content for _, content in await whole(nothing + chosen + nothing + END)] == [b"x"]


async def test_skipped_parts_names_are_made_from_the_media_type_and_counted() -> None:
    def unnamed(kind: str, disposition: str = "") -> bytes:
        return part(f'form-data; name="f"{disposition}', b"x", f"Content-Type: {kind}\r\n")

    body = unnamed("image/png") + unnamed("text/csv", '; filename=""') + unnamed("application/x-unknown") + END
    assert [name for name, _ in await whole(body)] == ["unnamed.png", "unnamed-2.csv", "unnamed-3"]


async def test_skipped_parts_a_text_field_is_ignored_up_to_its_limit_and_then_refused_by_name() -> None:
    fields = part('form-data; name="note"', b"x" * FIELD_BYTES_MAX) * 20
    assert await whole(fields + file("a") + END) == [("a", b"x")]
    with pytest.raises(TooLarge, match='The part "no te" has more than 64 KiB'):
        await whole(part('form-data; name="no te"', b"x" * (FIELD_BYTES_MAX + 1)) + END)


@pytest.mark.parametrize(
    ("disposition", "kind", "said"),
    [
        ('name="f"', "multipart/mixed; boundary=C", 'The part "f" is multipart/mixed'),
        ('name="f"; filename="a"', "Multipart/Mixed", r'The part "f" \(file "a"\) is multipart/mixed'),
        ('name="f"', "multipart/related", 'The part "f" is multipart/related'),
    ],
)
async def test_skipped_parts_parts_inside_a_part_are_refused_by_name(disposition: str, kind: str, said: str) -> None:
    body = part(f"form-data; {disposition}", b"--C\r\n\r\nx\r\n--C--", f"Content-Type: {kind}\r\n") + END
    with pytest.raises(MalformedUpload, match=said):
        await whole(body)


async def test_skipped_parts_a_saved_web_page_is_a_file() -> None:
    """Chromium sends .mhtml files as multipart/related."""
    body = part('form-data; name="f"; filename="a.mhtml"', b"x", "Content-Type: multipart/related\r\n") + END
    assert await whole(body) == [("a.mhtml", b"x")]


@pytest.mark.parametrize("encoding", ["quoted-printable", "BASE64", "x-uuencode", "gzip"])
async def test_skipped_parts_an_encoded_part_is_refused_by_name(encoding: str) -> None:
    with pytest.raises(MalformedUpload, match=f'The part "f" .* has the Content-Transfer-Encoding {encoding.lower()}'):
        await whole(part('form-data; name="f"; filename="a"', b"x", f"Content-Transfer-Encoding: {encoding}\r\n") + END)


@pytest.mark.parametrize("encoding", ["7bit", "8BIT", "Binary"])
async def test_skipped_parts_encodings_that_encode_nothing_are_taken(encoding: str) -> None:
    more = f"Content-Transfer-Encoding: {encoding}\r\n"
    assert await whole(part('form-data; name="f"; filename="a"', b"x", more) + END) == [("a", b"x")]


@pytest.mark.parametrize("name", ["Content-Disposition", "Content-Type", "Content-Transfer-Encoding"])
async def test_skipped_parts_a_part_that_says_a_header_twice_is_malformed(name: str) -> None:
    said = {"Content-Disposition": 'form-data; name="f"; filename="a"', "Content-Type": "text/plain"}.get(name, "7bit")
    lines = {"Content-Disposition": 'form-data; name="f"; filename="a"', name: said}
    head = "".join(f"{key}: {value}\r\n" for key, value in [*lines.items(), (name, said)])
    with pytest.raises(MalformedUpload, match=f"more than one {name}"):
        await whole(f"--B\r\n{head}\r\nx\r\n".encode() + END)


@pytest.mark.parametrize(
    ("filename", "extended", "meant"),
    [
        (b"=?utf-8?B?w6QudHh0?=", "utf-8''b.txt", "b.txt"),
        (b"=?utf-8?Q?=C3=A4.txt?=", "utf-8''b.txt", "b.txt"),
        ("\u00e4.txt".encode(), "UTF-8'de'b%20c.txt", "b c.txt"),
        (b"\xe4.txt", "utf-8''%C3%A4.txt", "\u00e4.txt"),
        (b"\xe4.txt", "iso-8859-1''%E4.txt", "\u00e4.txt"),
        (b"_.txt", "utf-8''%C3%A4.txt", "_.txt"),
        ("\u00e4.txt".encode(), "utf-16''%FF", "\u00e4.txt"),
        ("\u00e4.txt".encode(), "not one", "\u00e4.txt"),
        (b"\xe4.txt", "utf-8''%E4.txt", "\ufffd.txt"),
    ],
)
async def test_skipped_parts_the_extended_name_counts_where_the_plain_one_cannot(
    filename: bytes, extended: str, meant: str
) -> None:
    for order in ('filename="NAME"; filename*=', "filename*="):
        body = part(f'form-data; name="f"; {order}{extended}' + ('; filename="NAME"' if order[8] == "*" else ""))
        if " " not in extended:
            assert await whole(body.replace(b"NAME", filename) + END) == [(meant, b"x")]


@pytest.mark.parametrize(
    ("charset", "name", "meant"),
    [
        ("windows-1252", b"r\xe9sum\xe9 \x80.pdf", "r\u00e9sum\u00e9 \u20ac.pdf"),
        ("Shift_JIS", "\u8868.txt".encode("shift_jis"), "\u8868.txt"),  # its second byte is a backslash
        ("macintosh", b"\x8a.txt", "\u00e4.txt"),
        ("windows-1252", "\u00e4.txt".encode(), "\u00e4.txt"),  # UTF-8 comes first
        ("windows-1252", b"\x81.txt", "\ufffd.txt"),
        ("unicode_escape", b"\xe4\\x41.txt", "\ufffd\\x41.txt"),
        ("idna", b"\xe4.txt", "\ufffd.txt"),
        ("no charset at all", b"\xe4.tar.gz", "\ufffd.tar.gz"),
        ("", b"\xe4.txt", "\ufffd.txt"),
    ],
)
async def test_skipped_parts_a_name_is_read_as_the_form_says(charset: str, name: bytes, meant: str) -> None:
    body = part('form-data; name="_charset_"', charset.encode()) + file("NAME").replace(b"NAME", name) + END
    assert await whole(body) == [(meant, b"x")]


async def test_skipped_parts_a_charset_that_comes_after_a_file_changes_nothing() -> None:
    body = file("NAME").replace(b"NAME", b"\xe4.txt") + part('form-data; name="_charset_"', b"windows-1252") + END
    assert await whole(body) == [("\ufffd.txt", b"x")]


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (r"a\\b.txt", r"a\b.txt"),
        (r"a\"b.txt", 'a"b.txt'),
        (r"a\"b\\c.txt", r'a"b\c.txt'),
        (r"a\b.txt", r"a\b.txt"),
        (r"a\b\\c.txt", r"a\b\\c.txt"),
        ("ends in one\\", "ends in one\\"),
        (r"C:\a\b.txt", "b.txt"),
        (r"\\server\share\b.txt", "b.txt"),
    ],
)
async def test_backslashes_are_escapes_only_where_all_of_them_can_be(sent: str, meant: str) -> None:
    assert await whole(file(sent) + END) == [(meant, b"x")]


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("=?utf-8?B?w6QudHh0?=", "\u00e4.txt"),  # PowerShell 7: -Form
        ("=?utf-8?B?YS50eHQ=?=", "=?utf-8?B?YS50eHQ=?="),  # nobody encodes ASCII
        ("=?UTF-8?B?w6QudHh0?=", "=?UTF-8?B?w6QudHh0?="),
        ("=?utf-8?Q?=C3=A4?=", "=?utf-8?Q?=C3=A4?="),
        ("=?utf-8?B?w6QudHh0?=.txt", "=?utf-8?B?w6QudHh0?=.txt"),
        ("=?utf-8?B?////?=", "=?utf-8?B?////?="),
    ],
)
async def test_only_an_encoded_word_of_dotnet_is_decoded(sent: str, meant: str) -> None:
    assert await whole(file(sent) + END) == [(meant, b"x")]


@pytest.mark.parametrize("name", ["a/b.txt", "(1).txt", "\u00e0.txt", "a,b"])
async def test_a_name_without_quotes_is_taken_whole(name: str) -> None:
    assert await whole(part(f"form-data; name=f; filename={name}") + END) == [(name, b"x")]


@pytest.mark.parametrize("size", [1, 3, 7, 64, 10_000])
async def test_spaces_behind_boundaries_are_read_past(size: int) -> None:
    """RFC 2046, section 5.1.1. What only looks like a padded boundary is left in its file."""
    odd = b" \r\n--C \r\n-B \r\n\t"
    body = BODY.replace(b"--B\r\n", b"--B \t\r\n").replace(b"--B--", b"--B-- ")
    body = body.replace(b"payload", odd)
    assert await read(pieces(body, [size] * (len(body) // size))) == [("a.txt", odd), *FILES[1:]]


@pytest.mark.parametrize(
    "body",
    [
        b"--B\r\nno colon\r\n\r\nx\r\n--B--\r\n",
        b"--B\r\nX: " + b"a" * 40_000,
        b"--B\r\n" + b"X: y\r\n" * 9 + b"\r\n",
        b"--Bjunk",
        b"--B\r\nContent-Disposition: attachment\r\n\r\nx\r\n--B--",
        b"--B\r\nContent-Length: x\r\n",
        file("a") + b"--B",
        b"x",
        b"",
    ],
)
async def test_no_error_repeats_the_words_of_the_library(body: bytes) -> None:
    """Its texts are no contract, and its exceptions carry Python's insides."""
    said = {text for text in multipart_library_texts() if len(text) > 10}
    assert said
    with pytest.raises(DropmillError) as caught:
        await whole(body)
    assert not [text for text in said if text.lower() in caught.value.detail.lower()]


def multipart_library_texts() -> list[str]:
    """The sentences that the library raises its errors with."""
    return re.findall(r'Error\(\s*f?"([^"{]+)', inspect.getsource(multipart)) + re.findall(
        r'LimitReached\(\s*"([^"]+)"', inspect.getsource(multipart)
    )


@pytest.mark.parametrize(
    "text",
    [
        "; a" * 8_000,
        '; a="' * 6_000,
        "; " * 12_000,
        ';a="\\' * 6_000,
        "a" * 24_000,
        "; a=" + "\\" * 24_000,
        "%" * 24_000,
    ],
)
async def test_a_hostile_disposition_is_read_in_linear_time(text: str) -> None:
    """CPU time of a header twice as long is about twice as much, and far from four times."""

    async def cpu(length: int) -> float:
        body = part(f'form-data; name="f"; filename="a"{text[:length]}', b"x") + END
        best = float("inf")
        for _ in range(5):
            begun = time.process_time()
            with contextlib.suppress(DropmillError):
                await whole(body)
            best = min(best, time.process_time() - begun)
        return best

    short, long = await cpu(len(text) // 8), await cpu(len(text))
    assert long < 24 * max(short, 0.0005), (short, long)

"""A multipart/form-data body (RFC 7578) as a stream of files.

The `multipart` library splits the body. This module decides what a part is, what its file is called, and what an error
says: a part is a file, is ignored as a text field, or is refused by name. It stores nothing and knows no framework.
`docs/decisions/intake.md` has the rules and their reasons.
"""

import base64
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header

from dropmill.intake.delimited import DelimitedLoan
from dropmill.intake.loans import Loan, Pieces
from dropmill.model.errors import BadFileName, MalformedUpload, TooLarge, UnsupportedMediaType

HEADER_MAX = 32 * 1024  # bytes of one part header line: the longest name twice, percent-encoded
HEADERS_MAX = 8  # of one part; RFC 7578 allows three
FIELD_BYTES_MAX = 64 * 1024  # of one text field; its value is not used
NAME_MAX = 4096  # bytes of UTF-8: the longest path on Linux
PADDING_MAX = 70  # spaces and tabs after a boundary; no known client sends more than one
SHOWN_MAX = 100  # characters of a client's text that an error repeats

CHARSETS = frozenset(
    [
        "utf-8",
        "us-ascii",
        *(f"iso-8859-{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)),
        *(f"windows-{number}" for number in (874, *range(1250, 1259))),
        *("big5", "euc-jp", "euc-kr", "gb18030", "gbk", "ibm866", "koi8-r", "koi8-u", "macintosh", "shift_jis"),
    ]
)
"""Encodings in which browsers submit forms (WHATWG Encoding). No other name from a client reaches Python's codecs: they
would import modules for it, and cache it."""

_PYTHON_NAMES = {"windows-874": "cp874", "macintosh": "mac_roman"}

_EXTENSIONS = {
    "application/gzip": ".gz",
    "application/json": ".json",
    "application/pdf": ".pdf",
    "application/xml": ".xml",
    "application/yaml": ".yaml",
    "application/zip": ".zip",
    "audio/mpeg": ".mp3",
    "audio/wav": ".wav",
    "image/gif": ".gif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/tiff": ".tiff",
    "image/webp": ".webp",
    "text/csv": ".csv",
    "text/plain": ".txt",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
}
"""Extensions for files without a name, by media type."""

_BOUNDARY = re.compile(r"[!-~ ]{0,69}[!-~]")  # RFC 2046: 1 to 70 printable characters, not ending in a space
_EXTENSION = re.compile(r"(?<=.)(?:\.[A-Za-z0-9]{1,12}){1,3}\Z", re.DOTALL)
_FILE_TYPES = ("application/", "image/", "audio/", "video/")
_BYTES_KEPT = frozenset({"7bit", "8bit", "binary"})  # Content-Transfer-Encodings that encode nothing

# One parameter of a Content-Disposition: first with backslash escapes, as in RFC 2183; then as browsers quote, for whom
# a backslash is an ordinary character. Possessive quantifiers, so that no text makes the matching backtrack.
_QUOTED_PAIRS = re.compile(
    r'\s*+;\s*+([^\s=;"]++)\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"|([^\s;"]++))\s*+', re.ASCII | re.DOTALL
)
_QUOTED_PLAIN = re.compile(r'\s*+;\s*+([^\s=;"]++)\s*+=\s*+(?:"([^"]*+)"|([^\s;"]++))\s*+', re.ASCII)

_PAIR = re.compile(r'\\(["\\])')
_ONLY_PAIRS = re.compile(r'(?:[^\\]|\\[\\"])*+', re.DOTALL)
_WINDOWS_PATH = re.compile(r"(?:[A-Za-z]:\\|\\\\)", re.ASCII)
_ENCODED_WORD = re.compile(r"=\?[^?\s]++\?[BbQq]\?[^?\s]*+\?=")
_ENCODED_AS_DOTNET = re.compile(r"=\?utf-8\?B\?([A-Za-z0-9+/]++=*+)\?=")
_EXTENDED_VALUE = re.compile(r"([^']*)'[^']*'((?:[^%]|%[0-9A-Fa-f]{2})*+)", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class PartBegins:
    """A file part's headers have arrived; its bytes follow.

    Attributes:
        name: what the client calls it, last part only. Text, never a path.
        path: what the client calls it, as given. Text, never a path.
        field: the name of the form's field; "" if there is no form.
        media_type: as the client declared it; "" if it did not.
    """

    name: str
    path: str
    field: str = ""
    media_type: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartEnds:
    """A file part has ended at a boundary."""


PartEvent = PartBegins | PartEnds | bytes | Loan
"""A loan brings bytes of the part that is being read, and none beyond it."""


def boundary_of(content_type: str) -> str:
    """The boundary that a `Content-Type` header names.

    Raises:
        UnsupportedMediaType: it is not multipart/form-data.
        MalformedUpload: it names no usable boundary.
    """
    kind, options = parse_options_header(content_type)
    if kind != "multipart/form-data":
        raise UnsupportedMediaType("Send the files as multipart/form-data, as a form or `curl -F file=@name` does.")
    boundary: str = options.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise MalformedUpload("The Content-Type header names no usable boundary (RFC 2046, 1 to 70 characters).")
    return boundary


async def file_parts(pieces: Pieces, boundary: str) -> AsyncIterator[PartEvent]:
    """The file parts of a body as they arrive: `PartBegins`, any number of `bytes`, `PartEnds`, and so on.

    A part is a file if it has a file name; if its file name is empty, but it has bytes; or if it has no file name, but
    a media type of application, image, audio or video. A part with an empty file name and no bytes is an input with
    nothing chosen, and is skipped. Any other part is a text field, and is ignored.

    Raises:
        MalformedUpload: the body is not multipart, breaks off, or has a part that cannot be read. Events yielded
            before stay valid.
        TooLarge: a text field has more than `FIELD_BYTES_MAX` bytes.
        BadFileName: see `client_path`.
    """
    parser = _Parser(boundary, max_header_size=HEADER_MAX, max_header_count=HEADERS_MAX, header_charset="latin-1")
    reader = _PartReader()
    try:
        async for chunk in _without_padding(pieces, boundary.encode()):
            if isinstance(chunk, Loan):
                held = parser.held if reader.is_in_file else None
                if held is None:
                    continue
                part = DelimitedLoan(chunk, parser.delimiter, held)
                parser.held = b""
                yield part
                chunk = part.unread
            if chunk and not parser.closed:
                for event in reader.read(parser, chunk):
                    yield event
    except ParserLimitReached:
        raise MalformedUpload(
            f"Part {reader.number} of the form has a header over {HEADER_MAX // 1024} KiB, or more than {HEADERS_MAX}."
        ) from None
    except MultipartError:
        raise MalformedUpload(
            f"The form cannot be read at part {reader.number}: a boundary, a line end, a header or a part's "
            "Content-Length is not as RFC 7578 has it."
        ) from None
    try:
        parser.close()
    except MultipartError:
        raise MalformedUpload("The form breaks off before its last boundary.") from None


async def _without_padding(pieces: Pieces, boundary: bytes) -> Pieces:
    """The same body without the spaces that RFC 2046 (5.1.1) allows after a boundary, which the parser refuses.

    Removed only if the body's first boundary has some: a client pads all boundaries or none, and searching every body
    would cost 7 % of its CPU time. Such a body is not lent.
    """
    first = b"--" + boundary
    head = b""
    async for chunk in pieces:
        if isinstance(chunk, Loan):
            continue
        head += chunk
        if len(head) > len(first):
            break
    if head[len(first) : len(first) + 1] not in (b" ", b"\t") or not head.startswith(first):
        yield head
        async for chunk in pieces:
            yield chunk
        return
    padded = re.compile(rb"(\r\n--%b)[ \t]{1,%d}(?=\r\n)" % (re.escape(boundary), PADDING_MAX))
    longest = len(first) + PADDING_MAX + 4
    waiting = b"\r\n" + head
    async for chunk in pieces:
        if isinstance(chunk, Loan):
            continue
        waiting = padded.sub(rb"\1", waiting)
        if len(waiting) > longest:  # every boundary that began before this point is complete
            yield waiting[:-longest]
            waiting = waiting[-longest:]
        waiting += chunk
    yield padded.sub(rb"\1", waiting)


class _Parser(PushMultipartParser):  # type: ignore[misc]  # the library is not typed
    """Accepts every header of a part: `_Part` checks them, with sentences of our own.

    Bytes of a part may be left out by whoever looks for the delimiter in `held` and what comes behind it.
    """

    _delimiter: bytes
    _buffer: bytes
    _segment_limit: int

    @property
    def delimiter(self) -> bytes:
        """What ends a part's bytes."""
        return self._delimiter

    @property
    def held(self) -> bytes | None:
        """Bytes that may begin a delimiter; None if none may be left out, because the part has a Content-Length."""
        return self._buffer if self._segment_limit < 0 else None

    @held.setter
    def held(self, data: bytes) -> None:
        self._buffer = data

    def _create_segment(self, headerlist: list[tuple[str, str]]) -> MultipartSegment:
        return MultipartSegment(headerlist)


class _PartReader:
    """Keeps track of the part that the parser is in.

    Attributes:
        number: of the part that is being read, from 1.
    """

    def __init__(self) -> None:
        self.number = 1
        self._part: _Part | None = None
        self._is_file = False
        self._pending: PartBegins | None = None  # becomes a file with its first byte
        self._field = bytearray()
        self._charset = "utf-8"
        self._unnamed = 0

    @property
    def is_in_file(self) -> bool:
        """Whether the next bytes are a file's, until a delimiter comes."""
        return self._is_file

    def read(self, parser: PushMultipartParser, chunk: bytes) -> Iterator[PartEvent]:
        """The events in a piece of the body."""
        for event in parser.parse(chunk):
            if isinstance(event, MultipartSegment):
                yield from self._begin(_Part(event, self.number))
            elif event is None:
                yield from self._end()
            elif self._pending is not None:
                begins, self._pending, self._is_file = self._pending, None, True
                self._unnamed += 1
                yield begins
                yield event
            elif self._is_file:
                yield event
            else:
                self._take_field(event)

    def _begin(self, part: "_Part") -> Iterator[PartEvent]:
        self._part, self._is_file, self._pending = part, False, None
        self._field.clear()
        part.check()
        path = part.path(self._charset)
        if path:
            self._is_file = True
            yield PartBegins(name=base_name(path), path=path, field=part.field, media_type=part.media_type)
        elif part.has_filename:
            self._pending = self._unnamed_file(part)
        elif part.media_type.startswith(_FILE_TYPES):
            begins, self._is_file = self._unnamed_file(part), True
            self._unnamed += 1
            yield begins

    def _unnamed_file(self, part: "_Part") -> PartBegins:
        number = "" if self._unnamed == 0 else f"-{self._unnamed + 1}"
        name = f"unnamed{number}{_EXTENSIONS.get(part.media_type, '')}"
        return PartBegins(name=name, path=name, field=part.field, media_type=part.media_type)

    def _end(self) -> Iterator[PartEvent]:
        if self._is_file:
            self._is_file = False
            yield PartEnds()
        elif self._part is not None and self._part.field == "_charset_":
            self._charset = _known_charset(bytes(self._field).decode("latin-1")) or self._charset
        self.number += 1

    def _take_field(self, data: bytes) -> None:
        self._field += data
        if len(self._field) > FIELD_BYTES_MAX and self._part is not None:
            raise TooLarge(
                f"{self._part} has more than {FIELD_BYTES_MAX // 1024} KiB, but is no file; give it a file name."
            )


class _Part:
    """A part's headers, each read once. Their text holds each byte as the character of the same number (latin-1)."""

    def __init__(self, segment: MultipartSegment, number: int) -> None:
        self._number = number
        self._headers: list[tuple[str, str]] = segment.headerlist
        self._values = _parameters(self._header("Content-Disposition"))
        self.media_type = self._header("Content-Type").partition(";")[0].strip().lower()
        self.field = _decoded(self._values.get("name", ""), "utf-8")
        self.has_filename = "filename" in self._values or "filename*" in self._values

    def __str__(self) -> str:
        """The part's name in an error: its field and, if it has one, its file."""
        field = shown(self.field)
        name = shown(_decoded(self._values.get("filename", ""), "utf-8"))
        return f'The part "{field}" (file "{name}")' if name else f'The part "{field}"'

    def _header(self, wanted: str) -> str:
        values = [value for name, value in self._headers if name == wanted]
        if len(values) > 1:
            raise MalformedUpload(f"Part {self._number} of the form has more than one {wanted}.")
        return values[0] if values else ""

    def check(self) -> None:
        """Return if the part's headers can be followed.

        Raises:
            MalformedUpload: the part is encoded, holds parts of its own, or does not name its file clearly.
        """
        if "name" not in self._values:
            raise MalformedUpload(
                f"Part {self._number} of the form has no Content-Disposition: form-data with a name (RFC 7578), "
                "or one that says something twice or quotes a name wrongly."
            )
        continued = [name for name in self._values if name.startswith("filename*") and name != "filename*"]
        if continued:
            raise MalformedUpload(f"{self} gives its file's name in pieces ({shown(continued[0])}); send filename.")
        encoding = self._header("Content-Transfer-Encoding").strip().lower()
        if encoding and encoding not in _BYTES_KEPT:
            raise MalformedUpload(
                f"{self} has the Content-Transfer-Encoding {shown(encoding)}; send its bytes as they are "
                "(RFC 7578, 4.7)."
            )
        if self.media_type == "multipart/mixed" or (self.media_type.startswith("multipart/") and not self.has_filename):
            raise MalformedUpload(
                f"{self} is {shown(self.media_type)}; send each of its files as a part of the form (RFC 7578, 4.3)."
            )

    def path(self, charset: str) -> str:
        """What the client calls the part's file; "" if it gives no name.

        `filename*` counts if `filename` is missing, an encoded word, or not ASCII.

        Raises:
            BadFileName: see `client_path`.
            MalformedUpload: `filename*` is the only name and cannot be read.
        """
        plain = self._values.get("filename", "")
        extended = self._values.get("filename*")
        if extended is not None and (not plain.isascii() or not plain or _ENCODED_WORD.fullmatch(plain)):
            name = _extended(extended)
            if name is not None:
                return client_path(name) if name else ""
            if not plain:
                raise MalformedUpload(f"{self} has a filename* that cannot be read (RFC 8187); send filename.")
        name = _without_folders(_decoded(plain, charset))
        return client_path(_decoded_word(name)) if name else ""


def _parameters(disposition: str) -> dict[str, str]:
    """The parameters of a part's `Content-Disposition: form-data`, by name in lower case.

    Empty if anything is unclear: another disposition, a name twice, a quote without an end.
    """
    kind, semicolon, rest = disposition.partition(";")
    if kind.strip().lower() != "form-data":
        return {}
    for parameter in (_QUOTED_PAIRS, _QUOTED_PLAIN):
        values: dict[str, str] = {}
        text, at = (semicolon + rest).rstrip(" \t;"), 0
        while found := parameter.match(text, at):
            name = found[1].lower()
            if name in values:
                return {}
            values[name] = found[2] or found[3] or "" if name.endswith("*") else _unescaped(found[2], found[3])
            at = found.end()
        if at == len(text):
            return values
    return {}


def _unescaped(quoted: str | None, token: str) -> str:
    """A parameter's text, from a quoted string or else from a token.

    Clients escape in one of two ways. Browsers (HTML, "multipart/form-data encoding algorithm") write quote, CR and LF
    as %22, %0D and %0A, and do not escape backslashes. Others (RFC 2183) put a backslash before quote and backslash;
    the text is read so if every backslash can be such an escape.
    """
    text = token if quoted is None else quoted
    if quoted is not None and ('\\"' in text or ("\\\\" in text and _ONLY_PAIRS.fullmatch(text))):
        return _PAIR.sub(r"\1", text)
    if "%" in text:
        text = text.replace("%0D", "\r").replace("%0A", "\n").replace("%22", '"')
    return text


def _decoded(text: str, charset: str) -> str:
    """A header's bytes as text: UTF-8, else the form's charset, else UTF-8 with U+FFFD for invalid bytes."""
    if text.isascii():
        return text
    raw = text.encode("latin-1")
    for encoding in ("utf-8", charset):
        try:
            return raw.decode(_PYTHON_NAMES.get(encoding, encoding))
        except UnicodeDecodeError:
            continue
    return raw.decode("utf-8", "replace")


def _extended(value: str) -> str | None:
    """The text of a `filename*` (RFC 8187, `charset'language'percent-encoded`); None if it cannot be read."""
    found = _EXTENDED_VALUE.fullmatch(value)
    charset = _known_charset(found[1]) if found else None
    if found is None or charset is None:
        return None
    return unquote_to_bytes(found[2].encode("latin-1")).decode(_PYTHON_NAMES.get(charset, charset), "replace")


def _known_charset(label: str) -> str | None:
    label = label.strip().lower()
    return label if label in CHARSETS else None


def _decoded_word(name: str) -> str:
    """A name decoded if .NET encoded it, as PowerShell's `-Form` does with names that are not ASCII; else unchanged.

    Only an encoded word (RFC 2047) exactly as .NET writes it is decoded.
    """
    found = _ENCODED_AS_DOTNET.fullmatch(name)
    if found is None:
        return name
    try:
        text = base64.b64decode(found[1], validate=True).decode()
    except ValueError:
        return name
    is_of_dotnet = not text.isascii() and base64.b64encode(text.encode()).decode() == found[1]
    return text if is_of_dotnet else name


def _without_folders(name: str) -> str:
    """The name without the folder of a Windows path; no other client can mean one."""
    return name.rpartition("\\")[2] if _WINDOWS_PATH.match(name) else name


def shown(text: str) -> str:
    """A client's text as an error repeats it: at most `SHOWN_MAX` characters, each of which prints."""
    cut = text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…"
    return "".join(c if c.isprintable() else "\ufffd" for c in cut)


def client_path(text: str) -> str:
    """The client's name or path of a file, checked and unchanged.

    Raises:
        BadFileName: it is empty, holds NUL or unpaired surrogates, or has more than `NAME_MAX` bytes.
    """
    if "\0" in text:
        raise BadFileName("A file name holds a NUL character.")
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise BadFileName("A file name holds half a character (an unpaired surrogate).") from None
    if not 0 < len(encoded) <= NAME_MAX:
        raise BadFileName(f"A file name must have 1 to {NAME_MAX} bytes; this one has {len(encoded)}.")
    return text


def base_name(path: str) -> str:
    """The last part of a client's path; all of it if it ends in a slash."""
    return path.rpartition("/")[2] or path


def stored_extension(name: str) -> str:
    """The extension for the stored file, with its dot: one to three runs of 1-12 ASCII letters or digits.

    Tools recognise a type by it (`.tar.gz`). "" if the name has no such extension.
    """
    found = _EXTENSION.search(name)
    return found.group() if found else ""

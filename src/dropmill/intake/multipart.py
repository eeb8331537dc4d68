"""A multipart/form-data body (RFC 7578) as a stream of files.

The parsing is the `multipart` library's; this module turns its events into ours and its complaints into
`MalformedUpload`. It stores nothing and knows no framework.
"""

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header

from dropmill.model.errors import BadFileName, MalformedUpload, UnsupportedMediaType

HEADER_MAX = 16 * 1024  # one part header line: room for the longest name we take, percent-encoded
FIELD_BYTES_MAX = 1024 * 1024  # of all form fields together; they are read past, but not for ever
NAME_MAX = 4096  # bytes of UTF-8: what Linux takes as a whole path

_BOUNDARY = re.compile(r"[!-~ ]{0,69}[!-~]")  # RFC 2046: 1 to 70 printable characters, not ending in a space
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^;]*)')
_EXTENSION = re.compile(r"(?<=.)(?:\.[A-Za-z0-9]{1,12}){1,3}\Z", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class PartBegins:
    """A file part's headers have arrived; its bytes follow.

    Attributes:
        name: the last part of what the client called it. Text, never a path.
        path: all of what the client called it, as given. Text, never a path.
        field: the name of the form's field that holds it; "" where there is no form.
    """

    name: str
    path: str
    field: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartEnds:
    """A file part has ended properly."""


PartEvent = PartBegins | PartEnds | bytes


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


async def file_parts(chunks: AsyncIterator[bytes], boundary: str) -> AsyncIterator[PartEvent]:
    """The file parts of a body as they arrive: `PartBegins`, any number of `bytes`, `PartEnds`, and so on.

    A part is a file if its `filename` is not empty, whatever its field is called. Other parts are read past.

    Raises:
        MalformedUpload: the body is not multipart, or breaks off. What was yielded before stands.
        BadFileName: see `client_path`.
    """
    try:
        parser = PushMultipartParser(boundary, max_header_size=HEADER_MAX)
        reader = _PartReader()
        async for chunk in chunks:
            if not chunk or parser.closed:
                continue
            for event in reader.read(parser, chunk):
                yield event
        parser.close()
    except ParserLimitReached as error:
        raise MalformedUpload(f"The multipart body is over a limit: {error}.") from None
    except MultipartError as error:
        raise MalformedUpload(f"The multipart body cannot be read: {error}.") from None


class _PartReader:
    """Follows which part the parser is in."""

    def __init__(self) -> None:
        self._is_file = False
        self._field_bytes = 0

    def read(self, parser: PushMultipartParser, chunk: bytes) -> Iterator[PartEvent]:
        for event in parser.parse(chunk):
            if isinstance(event, MultipartSegment):
                self._is_file = bool(event.filename)
                _check_disposition(event.header("Content-Disposition", ""))
                if event.filename:
                    path = client_path(event.filename)
                    yield PartBegins(name=base_name(path), path=path, field=event.name or "")
            elif event is None:
                if self._is_file:
                    yield PartEnds()
            elif self._is_file:
                yield event
            else:
                self._field_bytes += len(event)
                if self._field_bytes > FIELD_BYTES_MAX:
                    raise MalformedUpload("The form fields beside the files are larger than 1 MiB.")


def _check_disposition(header: str) -> None:
    """Return if a part's header leaves no doubt whether it is a file, and which (RFC 7578, section 4.2)."""
    names = [name.lower() for name in _PARAMETER.findall(header)]
    if names.count("name") != 1 or names.count("filename") > 1:
        raise MalformedUpload("A part's Content-Disposition must have one name and at most one filename.")
    if "filename*" in names and "filename" not in names:  # beside a filename it is not looked at
        raise MalformedUpload("A part names its file by filename* alone, which forms may not; send filename.")


def client_path(text: str) -> str:
    """What the client called a file, checked to be text that can be kept; nothing is cleaned away.

    Raises:
        BadFileName: it holds NUL or unpaired surrogates, or is over `NAME_MAX` bytes.
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
    """The last part of a client's path; the whole of it where it ends in a slash."""
    return path.rpartition("/")[2] or path


def stored_extension(name: str) -> str:
    """The extension the stored file may carry, with its dot: one to three runs of 1-12 ASCII letters or digits.

    Tools recognise a type by it (`.tar.gz`). "" if the name ends in none.
    """
    found = _EXTENSION.search(name)
    return found.group() if found else ""

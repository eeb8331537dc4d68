"""Which files `--accept` lets in, by their names and by the media types that their clients declare.

A help for people who choose the wrong file, not a check of the bytes: a client may call a file whatever it likes.
"""

from collections.abc import Iterable, Mapping, Sequence

_MEDIA_TYPES: Mapping[str, str] = {
    "application/epub+zip": "epub",
    "application/gzip": "gz tgz",
    "application/json": "json",
    "application/msword": "doc",
    "application/octet-stream": "bin",
    "application/pdf": "pdf",
    "application/postscript": "eps ps",
    "application/rtf": "rtf",
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.oasis.opendocument.presentation": "odp",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.sqlite3": "sqlite sqlite3",
    "application/x-7z-compressed": "7z",
    "application/x-bzip2": "bz2",
    "application/x-ndjson": "jsonl ndjson",
    "application/x-tar": "tar",
    "application/x-xz": "xz",
    "application/xml": "xml",
    "application/yaml": "yaml yml",
    "application/zip": "zip",
    "application/zstd": "zst",
    "audio/aac": "aac",
    "audio/flac": "flac",
    "audio/midi": "mid midi",
    "audio/mp4": "m4a",
    "audio/mpeg": "mp3",
    "audio/ogg": "oga ogg opus",
    "audio/wav": "wav",
    "audio/webm": "weba",
    "image/avif": "avif",
    "image/bmp": "bmp",
    "image/gif": "gif",
    "image/heic": "heic",
    "image/heif": "heif",
    "image/jpeg": "jpe jpeg jpg",
    "image/jxl": "jxl",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/tiff": "tif tiff",
    "image/vnd.adobe.photoshop": "psd",
    "image/webp": "webp",
    "image/x-icon": "ico",
    "text/calendar": "ics",
    "text/css": "css",
    "text/csv": "csv",
    "text/html": "htm html",
    "text/javascript": "js mjs",
    "text/markdown": "markdown md",
    "text/plain": "log txt",
    "text/tab-separated-values": "tsv",
    "text/vcard": "vcf",
    "text/xml": "xml",
    "text/yaml": "yaml yml",
    "video/mp4": "m4v mp4",
    "video/mpeg": "mpeg mpg",
    "video/ogg": "ogv",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/x-matroska": "mkv",
    "video/x-msvideo": "avi",
}
"""Extensions of common media types. A table of our own: the one that Python reads differs from machine to machine."""


def accepts(accept: Sequence[str], name: str, media_type: str) -> bool:
    """Whether a list such as `.csv`, `image/*`, `application/pdf` accepts a file; an empty one accepts every file.

    Case does not matter. An extension is compared with the end of the name. A media type is compared with the declared
    one, and also with those that the name's extension stands for: what a browser declares depends on its machine
    (Excel on Windows makes `.csv` an `application/vnd.ms-excel`), and some declare nothing.

    Args:
        accept: the list, in lower case; see `dropmill.settings.values.file_types`.
        name: what the client calls the file.
        media_type: as the client declared it, with its parameters or without; "" if it declared none.
    """
    name = name.lower()
    declared = media_type.partition(";")[0].strip().lower()
    return not accept or any(
        name.endswith(entry) if entry.startswith(".") else _is_of(entry, declared) or name.endswith(_endings(entry))
        for entry in accept
    )


def extensions(accept: Iterable[str]) -> list[str]:
    """The extensions, with their dots, that the media types in such a list stand for."""
    return sorted({ending for entry in accept if not entry.startswith(".") for ending in _endings(entry)})


def _is_of(entry: str, media_type: str) -> bool:
    """Whether a media type is the entry's, or one of its family (`image/*`)."""
    return media_type.startswith(entry[:-1]) if entry.endswith("/*") else media_type == entry


def _endings(entry: str) -> tuple[str, ...]:
    found = (words for media_type, words in _MEDIA_TYPES.items() if _is_of(entry, media_type))
    return tuple(f".{word}" for words in found for word in words.split())

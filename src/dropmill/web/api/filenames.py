"""Names from scripts and clients, made safe as file names on the machine of the person who downloads.

Text only, no paths of the server. Replaced is what Windows, macOS or Linux refuse or act on: separators, drive letters,
`..`, control characters, characters that reorder text, device names.
"""

import re
import unicodedata
from collections.abc import Sequence
from urllib.parse import quote

NAME_BYTES = 200  # of one part in UTF-8; file systems take 255, and a number may be added

_UNFIT = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_SEPARATORS = re.compile(r"[/\\]")

_CONTENT_TYPES = {
    "csv": "text/csv",
    "gif": "image/gif",
    "gz": "application/gzip",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "log": "text/plain",
    "md": "text/plain",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "pdf": "application/pdf",
    "png": "image/png",
    "txt": "text/plain",
    "wav": "audio/wav",
    "webm": "video/webm",
    "webp": "image/webp",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "zip": "application/zip",
}
"""The types that a browser is sent; none of them is active content. Anything else is sent as bytes."""


def content_type(name: str) -> str:
    """The type for a file of this name, from a fixed list; never the one that a client sent."""
    return _CONTENT_TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")


def attachment(path: str) -> str:
    """`Content-Disposition` that suggests the last part of a path as the file's name (RFC 6266)."""
    name = fit_name(_SEPARATORS.split(path)[-1])
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().replace("%", "_").strip()
    if plain.partition(".")[0] == "":
        plain = f"download{plain}"
    value = f'attachment; filename="{plain}"'
    return value if plain == name else f"{value}; filename*=UTF-8''{quote(name, safe='')}"


def fit_name(part: str) -> str:
    """One part of a path as a valid file name on every system."""
    name = _UNFIT.sub("_", part).rstrip(". ")
    if _DEVICES.match(name):
        name = f"_{name}"
    if len(name.encode()) > NAME_BYTES:
        stem, dot, suffix = name.rpartition(".")
        suffix = dot + suffix if stem and len(suffix) <= 12 else ""
        name = name.removesuffix(suffix).encode()[: NAME_BYTES - len(suffix.encode())].decode(errors="ignore") + suffix
    return name or "_"


class ArchiveNames:
    """Names inside one archive: valid and unique even where case is ignored; none is both file and folder."""

    def __init__(self) -> None:
        self._is_folder: dict[str, bool] = {}
        self._numbers: dict[str, int] = {}

    def folder(self, path: str) -> str:
        """A new folder for this path; its parent folders are shared. Ends in `/`."""
        parts = _parts(path)
        return self._free(self._inside("", parts[:-1]), parts[-1], is_folder=True) + "/"

    def file(self, folder: str, path: str) -> str:
        """A new name for a file in a folder that `folder` returned."""
        parts = _parts(path)
        return self._free(self._inside(folder, parts[:-1]), parts[-1], is_folder=False)

    def _inside(self, folder: str, parts: Sequence[str]) -> str:
        for part in parts:
            name = folder + part
            folder = (name if self._is_folder.get(_folded(name)) else self._free(folder, part, is_folder=True)) + "/"
        return folder

    def _free(self, folder: str, part: str, *, is_folder: bool) -> str:
        name = folder + part
        key = _folded(name)
        stem, dot, suffix = part.rpartition(".")
        while _folded(name) in self._is_folder:
            number = self._numbers[key] = self._numbers.get(key, 1) + 1
            name = f"{folder}{stem} ({number}){dot}{suffix}" if stem else f"{folder}{part} ({number})"
        self._is_folder[_folded(name)] = is_folder
        return name


def _parts(path: str) -> list[str]:
    parts = [part for part in _SEPARATORS.split(path) if part not in ("", ".", "..")]
    return [fit_name(part) for part in parts] or ["_"]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()

"""The JSON in which a client announces the files of a submission."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dropmill.intake.limits import SIZE_MAX
from dropmill.intake.multipart import base_name, client_path, shown
from dropmill.model.errors import BadRequest
from dropmill.model.ids import Fingerprint

ANNOUNCED_MAX = 1000  # files of one announcement

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class AnnouncedFile(NamedTuple):
    """A file that will come.

    Attributes:
        name: what the client calls it, last part only. Text, never a path.
        path: what the client calls it, with its folders. Text, never a path.
        size: in bytes.
        media_type: as the client declared it; "" if it did not.
        fingerprint: None if the client gave none.
    """

    name: str
    path: str
    size: int
    media_type: str
    fingerprint: Fingerprint | None

    @property
    def said(self) -> Sequence[str | int]:
        """What a repeat of the announcement says of it, too. Without a fingerprint, as before there were any."""
        return self[:3] if self.fingerprint is None else (*self[:3], self.fingerprint)


def read_announcement(files: object) -> Sequence[AnnouncedFile]:
    """The files in `[{"name", "size", "path"?, "type"?, "fingerprint"?}]`.

    Args:
        files: what the client sent under `files`, as JSON was read.

    Raises:
        BadRequest: the list is not of that form, or longer than `ANNOUNCED_MAX`; with `file`, the path of the one that
            is not.
        BadFileName: see `client_path`.
    """
    if not isinstance(files, list) or len(files) > ANNOUNCED_MAX:
        raise BadRequest(f"`files` must be a list of at most {ANNOUNCED_MAX} files.")
    announced = []
    for entry in files:
        match entry:
            case {"name": str() as name, "size": int() as size} if not isinstance(size, bool) and 0 <= size <= SIZE_MAX:
                path = entry.get("path")
                if path is not None and not isinstance(path, str):
                    raise BadRequest("`path` of a file must be text.")
                path = client_path(path or name)
                announced.append(
                    AnnouncedFile(
                        name=base_name(client_path(name)),
                        path=path,
                        size=size,
                        media_type=_media_type(entry, path),
                        fingerprint=_fingerprint(entry, path),
                    )
                )
            case _:
                raise BadRequest("Each of `files` must have a `name` and a `size` in bytes.")
    return announced


def _media_type(entry: Mapping[str, Any], path: str) -> str:
    value = entry.get("type")
    if value is not None and not isinstance(value, str):
        raise BadRequest(f"`type` of {shown(path)} must be text.", file=path)
    return value or ""


def _fingerprint(entry: Mapping[str, Any], path: str) -> Fingerprint | None:
    value = entry.get("fingerprint")
    if value is None:
        return None
    if not isinstance(value, str) or not _FINGERPRINT.fullmatch(value):
        raise BadRequest(f"`fingerprint` of {shown(path)} must be a SHA-256 in lower-case hexadecimal.", file=path)
    return Fingerprint(value)

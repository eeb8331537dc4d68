"""The JSON in which a client announces the files of a submission."""

from collections.abc import Sequence
from typing import NamedTuple

from dropmill.intake.limits import SIZE_MAX
from dropmill.intake.multipart import base_name, client_path
from dropmill.model.errors import BadRequest

ANNOUNCED_MAX = 1000  # files of one announcement


class AnnouncedFile(NamedTuple):
    """A file that will come.

    Attributes:
        name: what the client calls it, last part only. Text, never a path.
        path: what the client calls it, with its folders. Text, never a path.
        size: in bytes.
    """

    name: str
    path: str
    size: int


def read_announcement(files: object) -> Sequence[AnnouncedFile]:
    """The files in `[{"name", "size", "path"?, "type"?}]`.

    Args:
        files: what the client sent under `files`, as JSON was read.

    Raises:
        BadRequest: the list is not of that form, or longer than `ANNOUNCED_MAX`.
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
                announced.append(
                    AnnouncedFile(name=base_name(client_path(name)), path=client_path(path or name), size=size)
                )
            case _:
                raise BadRequest("Each of `files` must have a `name` and a `size` in bytes.")
    return announced

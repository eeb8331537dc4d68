"""Revisions of the config, and the file that a server edits."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from dropmill.model.client import ClientIdentity
from dropmill.model.ids import Sha256


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigRevision:
    """Exact bytes of the config, and who saved them when and from where.

    Attributes:
        number: rises with every save; a restored revision repeats a SHA-256 under a new number.
        client: None when the change was found on disk rather than sent.
        purged_at: when its text was removed; None while it is kept. The rest of the record stays.
    """

    number: int
    sha256: Sha256
    size: int
    saved_at: datetime
    account: str | None
    client: ClientIdentity | None
    message: str | None
    purged_at: datetime | None = None


class ConfigLocation(NamedTuple):
    """The config file that a server edits.

    Attributes:
        host: name of the machine that the path belongs to.
        path: absolute, its symbolic links not resolved.
        data_folder: of the server, absolute, its symbolic links resolved.
    """

    host: str
    path: str
    data_folder: str

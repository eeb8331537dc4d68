"""Revisions of the config and the file that shows the newest."""

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
        host: name of the machine; the path means something there only.
        path: absolute, with its symbolic links as the server was given them.
        data_folder: that of the server, absolute, without symbolic links.
    """

    host: str
    path: str
    data_folder: str

"""The config, its history, and which revision each file holds."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from dropmill.model.client import ClientIdentity
from dropmill.model.config import ConfigLocation, ConfigRevision
from dropmill.model.ids import Sha256
from dropmill.ports.ledger.page import Page


class ConfigPosition(NamedTuple):
    """The newest revision, and the one that a config file holds.

    Attributes:
        newest: the config now; None before the first revision.
        in_file: number of the revision that the file was last recorded to hold; None if none was.
    """

    newest: ConfigRevision | None
    in_file: int | None


class RevisionReader(Protocol):
    """Reads the bytes of a revision."""

    async def revision_text(self, sha256: Sha256) -> bytes:
        """A revision's exact bytes.

        Raises:
            Removed: they are no longer kept.
        """


class ConfigReader(RevisionReader, Protocol):
    """Reads the config and its history."""

    async def newest_revision(self) -> ConfigRevision | None:
        """The newest revision, which is the config; None before the first one."""

    async def revisions(self, *, before: str | None, limit: int) -> Page[ConfigRevision]:
        """The config's history, newest first."""


class ConfigLedger(ConfigReader, Protocol):
    """Saves and purges revisions, and records which one each file holds."""

    async def save_revision(
        self,
        text: bytes,
        *,
        base: Sha256 | None,
        client: ClientIdentity | None,
        account: str | None,
        message: str | None,
        found_at: ConfigLocation | None = None,
    ) -> ConfigRevision:
        """Append a revision (`config.saved`) if the newest one still has the SHA-256 `base` (None: there is none).

        The oldest texts beyond the limit are dropped for it, as if they were purged, but without an event.

        Args:
            found_at: the file that held the text, recorded with it; None for a text that a client sent.

        Raises:
            ConfigConflict: the newest revision is another.
            Unavailable: the server now edits another file than `found_at`.
        """

    async def use_config_file(self, location: ConfigLocation) -> None:
        """Record that the server edits this file from now on. For the server alone, at its start.

        Entries of servers whose nodes are no longer recorded are deleted. The newest revision that one of them recorded
        is taken over for this file, which may be the same under another name. A file that joins those of other servers
        counts as one that held the oldest revision.
        """

    async def record_in_file(self, location: ConfigLocation, number: int) -> None:
        """Record that a file holds this revision.

        Changes nothing if a later one is recorded, or if the server now edits another file.

        Raises:
            NotFound: there is no such revision.
        """

    async def reject_config(
        self, errors: Sequence[Mapping[str, Any]], client: ClientIdentity | None, account: str | None
    ) -> None:
        """Record that the server refused a text (`config.rejected`)."""

    async def purge_revision(self, sha256: Sha256, client: ClientIdentity | None, account: str | None) -> None:
        """Erase a text from the history and from the database's files (`config.purged`).

        The revisions that held it stay, without it. A second call is no error, and records nothing.

        Raises:
            NotFound: there is no such revision.
            RevisionInUse: it is the newest, or queued or running jobs use it.
            Unavailable: the text is removed, but its bytes could not be erased from the files now; purge it again.
        """

    async def config_files(self) -> Sequence[ConfigLocation]:
        """The files that servers edit, one for each host; none before the first start."""

    async def config_position(self, location: ConfigLocation) -> ConfigPosition:
        """The newest revision, and which one a file was last recorded to hold."""

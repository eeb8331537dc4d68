"""The config's part of the ledger, in memory. `tests/system/faults/test_config.py` tests kills with the real one."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dropmill.model.client import ClientIdentity
from dropmill.model.clock import utc_now
from dropmill.model.config import ConfigLocation, ConfigRevision
from dropmill.model.errors import ConfigConflict, NotFound, Removed, RevisionInUse, Unavailable
from dropmill.model.ids import Sha256
from dropmill.ports.ledger.config import ConfigPosition
from dropmill.ports.ledger.page import Page


def location_of(path: Path) -> ConfigLocation:
    """A config file of a server on this machine."""
    return ConfigLocation(host="here", path=str(path), data_folder="/data")


class FakeLedger:
    """`dropmill.ports.ledger.config.ConfigLedger`. No change awaits anything."""

    def __init__(self) -> None:
        self.rejections: list[tuple[Sequence[Mapping[str, Any]], ClientIdentity | None, str | None]] = []
        self.purges: list[tuple[Sha256, ClientIdentity | None, str | None]] = []
        self.history: list[ConfigRevision] = []
        self.location: ConfigLocation | None = None
        self.in_file: int | None = None  # number of the revision that the file there was recorded to hold
        self._texts: dict[str, bytes] = {}

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
        newest = await self.newest_revision()
        if base != (newest and newest.sha256):
            raise ConfigConflict("The newest revision is another.")
        revision = ConfigRevision(
            number=len(self.history) + 1,
            sha256=Sha256(hashlib.sha256(text).hexdigest()),
            size=len(text),
            saved_at=utc_now(),
            account=account,
            client=client,
            message=message,
        )
        if found_at is not None and found_at != self.location:
            raise Unavailable("The server edits another config file by now.")
        self._texts[revision.sha256] = text
        self.history.append(revision)
        if found_at is not None:
            self.in_file = revision.number
        return revision

    async def use_config_file(self, location: ConfigLocation) -> None:
        self.location = location

    async def record_in_file(self, location: ConfigLocation, number: int) -> None:
        if location == self.location:
            self.in_file = max(number, self.in_file or 0)

    async def reject_config(
        self, errors: Sequence[Mapping[str, Any]], client: ClientIdentity | None, account: str | None
    ) -> None:
        self.rejections.append((errors, client, account))

    async def purge_revision(self, sha256: Sha256, client: ClientIdentity | None, account: str | None) -> None:
        if sha256 not in (revision.sha256 for revision in self.history):
            raise NotFound("There is no such config revision.")
        if sha256 == self.history[-1].sha256:
            raise RevisionInUse("It is the newest.")
        self._texts.pop(sha256, None)
        self.purges.append((sha256, client, account))

    async def config_files(self) -> Sequence[ConfigLocation]:
        return [] if self.location is None else [self.location]

    async def config_position(self, location: ConfigLocation) -> ConfigPosition:
        return ConfigPosition(await self.newest_revision(), self.in_file if location == self.location else None)

    async def newest_revision(self) -> ConfigRevision | None:
        return self.history[-1] if self.history else None

    async def revisions(self, *, before: str | None, limit: int) -> Page[ConfigRevision]:
        older = self.history[::-1] if before is None else self.history[: int(before) - 1][::-1]
        following = str(older[limit - 1].number) if len(older) > limit else None
        return Page(items=older[:limit], next=following)

    async def revision_text(self, sha256: Sha256) -> bytes:
        if sha256 not in (revision.sha256 for revision in self.history):
            raise NotFound("There is no such config revision.")
        if sha256 not in self._texts:
            raise Removed("It was purged.")
        return self._texts[sha256]

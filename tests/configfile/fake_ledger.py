"""The ledger's part for the config, in memory. Kills are for the real one: `tests/faults/test_config.py`."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dropmill.model.errors import ConfigConflict, NotFound, Removed, RevisionInUse
from dropmill.model.ids import Sha256
from dropmill.model.records import ClientIdentity, ConfigRevision, utc_now
from dropmill.ports import Page


class FakeLedger:
    """Keeps revisions. Every change is made without a pause."""

    def __init__(self) -> None:
        self.rejections: list[tuple[Sequence[Mapping[str, Any]], ClientIdentity | None, str | None]] = []
        self.purges: list[tuple[Sha256, ClientIdentity | None, str | None]] = []
        self.history: list[ConfigRevision] = []
        self._texts: dict[str, bytes] = {}

    async def save_revision(
        self,
        text: bytes,
        *,
        base: Sha256 | None,
        client: ClientIdentity | None,
        account: str | None,
        message: str | None,
        is_mirrored: bool,
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
            is_mirrored=is_mirrored,
        )
        self._texts[revision.sha256] = text
        self.history.append(revision)
        return revision

    async def mark_mirrored(self, number: int) -> None:
        self.history[number - 1] = replace(self.history[number - 1], is_mirrored=True)

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

    async def newest_revision(self) -> ConfigRevision | None:
        return self.history[-1] if self.history else None

    async def revisions(self, *, before: str | None, limit: int) -> Page[ConfigRevision]:
        assert before is None
        return Page(items=self.history[::-1][:limit], next=None)

    async def revision_text(self, sha256: Sha256) -> bytes:
        if sha256 not in (revision.sha256 for revision in self.history):
            raise NotFound("There is no such config revision.")
        if sha256 not in self._texts:
            raise Removed("It was purged.")
        return self._texts[sha256]

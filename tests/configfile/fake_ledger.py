"""The ledger's part for the config, honest enough to be killed: a line of JSON a change, fsynced."""

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dropmill.model.errors import ConfigConflict, NotFound, Removed, RevisionInUse
from dropmill.model.ids import Sha256
from dropmill.model.records import ClientIdentity, ConfigRevision, utc_now
from dropmill.ports import Page


class FakeLedger:
    """Keeps revisions in memory, and in a file too if it is given one. Every change is made without a pause."""

    def __init__(self, store: Path | None = None) -> None:
        self.rejections: list[tuple[Sequence[Mapping[str, Any]], ClientIdentity | None, str | None]] = []
        self.purges: list[tuple[Sha256, ClientIdentity | None, str | None]] = []
        self.history: list[ConfigRevision] = []
        self._texts: dict[str, bytes] = {}
        self._store = store
        if store is not None and store.exists():
            lines, _newline, _cut_off = store.read_bytes().rpartition(b"\n")  # what a kill cut off was never committed
            os.truncate(store, len(lines) + len(_newline))
            for line in lines.splitlines():
                self._apply(json.loads(line))

    def _commit(self, change: dict[str, Any]) -> None:
        if self._store is not None:
            with self._store.open("ab") as file:
                file.write(json.dumps(change).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        self._apply(change)

    def _apply(self, change: dict[str, Any]) -> None:
        if "mirrored" in change:
            index = change["mirrored"] - 1
            self.history[index] = replace(self.history[index], is_mirrored=True)
            return
        if "purged" in change:
            self._texts.pop(change["purged"], None)
            return
        text = base64.b64decode(change["text"])
        sha256 = Sha256(hashlib.sha256(text).hexdigest())
        self._texts[sha256] = text
        client = None if change["ip"] is None else ClientIdentity(ip=change["ip"])
        self.history.append(
            ConfigRevision(
                number=len(self.history) + 1,
                sha256=sha256,
                size=len(text),
                saved_at=utc_now(),
                account=change["account"],
                client=client,
                message=change["message"],
                is_mirrored=change["is_mirrored"],
            )
        )

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
        self._commit(
            {
                "text": base64.b64encode(text).decode(),
                "ip": client and client.ip,
                "account": account,
                "message": message,
                "is_mirrored": is_mirrored,
            }
        )
        return self.history[-1]

    async def mark_mirrored(self, number: int) -> None:
        self._commit({"mirrored": number})

    async def reject_config(
        self, errors: Sequence[Mapping[str, Any]], client: ClientIdentity | None, account: str | None
    ) -> None:
        self.rejections.append((errors, client, account))

    async def purge_revision(self, sha256: Sha256, client: ClientIdentity | None, account: str | None) -> None:
        if sha256 not in (revision.sha256 for revision in self.history):
            raise NotFound("There is no such config revision.")
        if sha256 == self.history[-1].sha256:
            raise RevisionInUse("It is the newest.")
        self._commit({"purged": sha256})
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

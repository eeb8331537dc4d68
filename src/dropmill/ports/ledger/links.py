"""Links and visits.

What is sent by a link is recorded by the changes of submissions and uploads, which also see to its limits and its end.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from dropmill.model.by import By
from dropmill.model.ids import LinkId, Owner, Sha256, VisitId
from dropmill.model.links import Link, Visit
from dropmill.ports.ledger.page import Page


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkLock:
    """What opens a link.

    Attributes:
        secret: SHA-256 of the secret in its address.
        passphrase_hash: as `access.passwords` makes it; None without a passphrase.
    """

    secret: Sha256
    passphrase_hash: str | None = None


class LinkLookup(Protocol):
    """Finds links."""

    async def link(self, link_id: LinkId) -> Link | None:
        """The link, which may have ended; None if there is none."""


class LinkReader(LinkLookup, Protocol):
    """Finds links, and who has entered them. They may have ended: see `Link.state`."""

    async def lock_of(self, link_id: LinkId) -> tuple[Link, LinkLock] | None:
        """A link and what opens it; None if there is none."""

    async def visit_by(self, secret: Sha256) -> tuple[Visit, Link] | None:
        """The visit whose cookie's secret has this SHA-256, and its link; None if there is none."""

    async def links_of(self, visits: Collection[VisitId]) -> Mapping[VisitId, Link]:
        """The links of those visits that are still there."""


class LinkLedger(LinkReader, Protocol):
    """Keeps links."""

    async def add_link(self, link: Link, lock: LinkLock, by: By, *, visible_to: Owner | None = None) -> None:
        """Keep a link (`link.made`), and drop visits of links that have ended long ago, or were revoked.

        Args:
            link: new.
            lock: what opens it.
            by: who makes it.
            visible_to: whose submission a result link may show; None: anybody's.

        Raises:
            NotFound: there is no such submission, or it is of another owner.
        """

    async def revoke_link(self, link_id: LinkId, by: By, *, visible_to: Owner | None = None) -> None:
        """End a link (`link.revoked`). One that has expired can be revoked, too.

        Raises:
            NotFound: there is none, or it is of another owner than `visible_to`; None: of any. Or it is revoked.
        """

    async def links(self, *, before: str | None, limit: int, visible_to: Owner | None = None) -> Page[Link]:
        """Links, the newest first, with those that have ended; of `visible_to`, None: of all owners."""

    async def begin_visit(self, visit: Visit) -> None:
        """Keep a visit (`link.used`), and drop the oldest of the link if there are too many.

        Raises:
            NotFound: there is no such link, or it has ended.
        """

"""Quotas: what an owner may have at most, and what it has.

An owner is an account, a browser under `--private`, or everybody together on an open server. A *holder* is an owner, or
anything else whose limits count in the same way, such as a link.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final, TypeAlias

from dropmill.model.errors import LinkUsedUp, QuotaExceeded
from dropmill.model.ids import LinkId, Owner

COUNT_MAX: Final = 2**63 - 2  # the largest limit; one more is how the ledger writes that there is none


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a holder may have at most; None: no limit.

    Attributes:
        storage: bytes of the files that the server keeps: stored ones until they are removed, and those under way.
        total_size: bytes of all files ever sent, also of those that were removed since.
        files: files ever sent.
        submissions: submissions ever opened.
        submissions_a_day: submissions opened on one day of UTC.
        open_submissions: submissions open at once.
        running: jobs running at once; what exceeds it waits.
        sockets: WebSockets, polls and event streams open at once.
    """

    storage: int | None = None
    total_size: int | None = None
    files: int | None = None
    submissions: int | None = None
    submissions_a_day: int | None = None
    open_submissions: int | None = None
    running: int | None = None
    sockets: int | None = None

    def with_own(self, own: "OwnLimits") -> "Limits":
        """These limits, where a holder has none of its own."""
        return replace(self, **own)


OwnLimits: TypeAlias = Mapping[str, int | None]
"""The limits that one holder has instead of the server's, by the names of `Limits`; None: no limit."""

LIMIT_NAMES: Final = tuple(field.name for field in fields(Limits))

_LINK: Final = "link:"


def holder_of(link_id: LinkId) -> Owner:
    """The holder that a link is, beside the owner of what is sent by it."""
    return Owner(_LINK + link_id)


ACCOUNT_LIMITS: Final = ("storage", "submissions_a_day", "open_submissions", "running", "sockets")
"""Those that people set, for all or for one account."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitChange:
    """What becomes of the limits of one holder.

    Attributes:
        own: limits that it has from now on.
        dropped: names of limits for which the server's count again.
    """

    own: OwnLimits
    dropped: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What a holder has now, by the names of `Limits`."""

    storage: int = 0
    total_size: int = 0
    files: int = 0
    submissions: int = 0
    submissions_a_day: int = 0
    open_submissions: int = 0
    running: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """A holder's limits and usage.

    Attributes:
        holder: an owner, or `link:<id>`.
        limits: those that count, its own and the server's.
        own: its own.
    """

    holder: Owner
    limits: Limits
    own: OwnLimits
    usage: Usage

    def require(self, **more: int) -> None:
        """Return if so much more of each would be within the limits, by the names of `Limits`.

        Raises:
            QuotaExceeded: it would not.
        """
        for name, by in more.items():
            most, used = getattr(self.limits, name), getattr(self.usage, name)
            if by > 0 and most is not None and used + by > most:
                raise exceeded(self.holder, name, most, used)


def exceeded(holder: str, name: str, most: int, used: int) -> QuotaExceeded:
    """The error of whoever would have more than a limit.

    Args:
        holder: who.
        name: of the limit: `storage`, `total_size`, `files` or `submissions`.
        most: the limit.
        used: what the holder has now.
    """
    if holder.startswith(_LINK):
        limited = "bytes" if name == "total_size" else name
        detail = f"By this link no more than {most:,} {limited} can be sent in all."
        return LinkUsedUp(detail, reason="size" if name == "total_size" else name, limit=most)
    match name:
        case "storage":
            detail = f"That would be more than the {most:,} bytes of files that you may keep here; {used:,} are used."
        case "total_size":
            detail = f"No more than {most:,} bytes may be sent here in all."
        case _:
            detail = f"No more than {most:,} {name} may be sent here in all."
    return QuotaExceeded(detail, reason=name, limit=most, used=used)

"""Links: how somebody without an account sends files, or looks at one submission.

No record here holds a secret or the hash of one.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from dropmill.model.accounts import NAME_MAX
from dropmill.model.caller import Caller
from dropmill.model.client import ClientIdentity
from dropmill.model.errors import BadRequest
from dropmill.model.ids import AccountId, BrowserKey, LinkId, Owner, SubmissionId, VisitId

LABEL_MAX = 200  # characters
TEXT_MAX = 4000
EXPIRES_S = 30 * 24 * 3600.0
EXPIRES_MAX_S = 400 * 24 * 3600.0  # the most that browsers keep the cookie
PASSPHRASE_MIN = 6  # characters: guesses are slowed down, and without the secret there are none
COUNT_MAX = 2**53  # what every client reads as a whole number


class LinkKind(StrEnum):
    """What a link is for."""

    REQUEST = "request"
    """Whoever has it may send files."""

    RESULT = "result"
    """Whoever has it may look at one submission."""


class LinkState(StrEnum):
    """Whether a link can be used."""

    LIVE = "live"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkLimits:
    """The most that may be sent by a link, by all who have it together. None: no limit.

    Attributes:
        size: bytes.
    """

    files: int | None = None
    size: int | None = None
    submissions: int | None = None

    @property
    def are_none(self) -> bool:
        """Whether nothing is limited."""
        return self.files is None and self.size is None and self.submissions is None


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkUsage:
    """What was sent by a link, or is announced and still counts as coming.

    Attributes:
        size: bytes.
        visits: how many browsers have entered it.
    """

    files: int = 0
    size: int = 0
    submissions: int = 0
    visits: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A link that somebody made. The record stays when it has ended, because submissions name it.

    Attributes:
        owner: who made it; what is sent by it belongs to this owner.
        made_by: the name of the account that made it; None without one.
        account_id: of that account.
        label: what its maker calls it; the sender sees it, too.
        text: words for the sender; None without.
        submission_id: which one it shows; None for a request.
        is_backed: whether its maker may still make links: the account is neither disabled nor removed, nor a viewer's.
        has_passphrase: whether the secret alone does not suffice.
        asks_name: whether the sender is asked for a name.
        shows_results: whether the sender sees what the script makes of the files.
        last_used_at: when a browser last entered it; None: never.
    """

    id: LinkId
    kind: LinkKind
    owner: Owner
    made_by: str | None
    account_id: AccountId | None
    label: str
    text: str | None = None
    submission_id: SubmissionId | None = None
    made_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    is_backed: bool = True
    has_passphrase: bool = False
    asks_name: bool = False
    shows_results: bool = False
    limits: LinkLimits = field(default_factory=LinkLimits)
    usage: LinkUsage = field(default_factory=LinkUsage)
    last_used_at: datetime | None = None

    def state(self, now: datetime) -> LinkState:
        """Whether it can be used at a time. One whose maker may not make links any more counts as revoked."""
        if self.revoked_at is not None or not self.is_backed:
            return LinkState.REVOKED
        return LinkState.LIVE if now < self.expires_at else LinkState.EXPIRED


@dataclass(frozen=True, kw_only=True, slots=True)
class Visit:
    """A browser that has entered a link.

    Attributes:
        key: of the browser, for this link alone; its cookie has the secret.
        name: who the person said to be; never proof of anything. None if nobody asked.
        client: from where the browser entered.
    """

    id: VisitId
    link_id: LinkId
    key: BrowserKey
    name: str | None
    began_at: datetime
    client: ClientIdentity


# --- whose things a visitor sees -------------------------------------------------------------------------------------

_SENDER = re.compile(r"link:([0-9a-f]{32}):([0-9a-f]{64})")
_ONE = "submission:"


def sender_of(link_id: LinkId, key: BrowserKey) -> Owner:
    """Who sends by a link: one browser. The submission belongs to the link's maker, and this sender sees it."""
    return Owner(f"link:{link_id}:{key}")


def link_in(owner: Owner) -> tuple[LinkId, BrowserKey] | None:
    """The link and the browser in what `sender_of` made; None in any other owner."""
    found = _SENDER.fullmatch(owner)
    return None if found is None else (LinkId(found[1]), BrowserKey(found[2]))


def only(submission_id: SubmissionId) -> Owner:
    """Who sees one submission and nothing else: whoever has entered a result link. It sends nothing."""
    return Owner(_ONE + submission_id)


def only_in(owner: Owner) -> SubmissionId | None:
    """The submission in what `only` made; None in any other owner."""
    return SubmissionId(owner.removeprefix(_ONE)) if owner.startswith(_ONE) else None


# --- addresses -------------------------------------------------------------------------------------------------------

LETTERS: Final[Mapping[LinkKind, str]] = {LinkKind.REQUEST: "r", LinkKind.RESULT: "s"}
"""The first part of the addresses of each kind."""


def address_of(kind: LinkKind, link_id: LinkId) -> str:
    """The path below which everything of a link lies."""
    return f"/{LETTERS[kind]}/{link_id}"


def path_of(visitor: Caller) -> str:
    """The same, of the link that a caller has entered."""
    if visitor.link is None:
        raise AssertionError("the caller has entered no link")
    is_request = link_in(visitor.owner) is not None
    return address_of(LinkKind.REQUEST if is_request else LinkKind.RESULT, visitor.link)


# --- what people give ------------------------------------------------------------------------------------------------


def checked_label(label: str) -> str:
    """A label without the blanks around it.

    Raises:
        BadRequest: it is empty, too long, or has characters that do not print.
    """
    label = unicodedata.normalize("NFC", label.strip())
    if not 1 <= len(label) <= LABEL_MAX or not label.isprintable():
        raise BadRequest(f"`label` must have 1 to {LABEL_MAX} printable characters.")
    return label


def checked_text(text: str | None) -> str | None:
    """Words for the sender; None if there are none.

    Raises:
        BadRequest: they are too long, or have other control characters than line ends and tabs.
    """
    text = unicodedata.normalize("NFC", (text or "").replace("\r\n", "\n").strip())
    if len(text) > TEXT_MAX or not all(each.isprintable() or each in "\n\t" for each in text):
        raise BadRequest(f"`text` must have at most {TEXT_MAX:,} characters, and none that control a terminal.")
    return text or None


def said_name(name: str) -> str | None:
    """The name that somebody gave; None if it is empty.

    Raises:
        BadRequest: it is too long, or has characters that do not print.
    """
    name = unicodedata.normalize("NFC", name.strip())
    if len(name) > NAME_MAX or not (name.isprintable() or not name):
        raise BadRequest(f"`name` must have at most {NAME_MAX} printable characters.")
    return name or None

"""Notices that have not expired."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from dropmill.model.client import ClientIdentity
from dropmill.model.ids import NoticeId, Owner
from dropmill.model.notices import Notice
from dropmill.ports.ledger.accounts import AccountNames


class NoticeLedger(AccountNames, Protocol):
    """Keeps notices."""

    async def post_notice(
        self, notice: Notice, client: ClientIdentity | None, *, visible_to: Owner | None = None
    ) -> None:
        """Keep a notice until it expires (`notice.posted`), and drop those that have expired.

        Args:
            notice: the notice.
            client: who posted it; None: the command line.
            visible_to: a submission of another owner is not found; None: those of all owners are.

        Raises:
            NotFound: there is no such submission, or no such account.
        """

    async def withdraw_notice(
        self,
        notice_id: NoticeId,
        now: datetime,
        account: str | None,
        client: ClientIdentity | None,
        *,
        visible_to: Owner | None = None,
    ) -> None:
        """Remove a notice's text (`notice.withdrawn`). Does nothing if that was done before.

        Args:
            notice_id: of the notice.
            now: those that have expired by then do not exist.
            account: of who withdraws it; None without accounts.
            client: who withdraws it; None: the command line.
            visible_to: of those to one submission, only those to this owner's; None: all.

        Raises:
            NotFound: there is no such notice, or it may not be seen.
        """

    async def notices(self, now: datetime, *, visible_to: Owner | None = None) -> Sequence[Notice]:
        """The notices that expire after `now`, in the order in which they were posted; withdrawn ones without text.

        Args:
            now: the time.
            visible_to: of those to one submission, only those to this owner's; None: all.
        """

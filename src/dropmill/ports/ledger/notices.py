"""Notices that have not expired."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from dropmill.model.client import ClientIdentity
from dropmill.model.notices import Notice


class NoticeLedger(Protocol):
    """Keeps notices."""

    async def post_notice(self, notice: Notice, client: ClientIdentity | None) -> None:
        """Keep a notice until it expires (`notice.posted`), and drop those that have expired.

        Args:
            notice: the notice.
            client: who posted it; None: the command line.

        Raises:
            NotFound: there is no such submission.
        """

    async def notices(self, now: datetime) -> Sequence[Notice]:
        """The notices that expire after `now`, in the order in which they were posted."""

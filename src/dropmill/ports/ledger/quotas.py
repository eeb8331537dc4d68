"""Quotas: what holders have and may have. Changes check them: see `uploads`, `submissions` and `jobs`.

Limits of an account are changed with the account (`AccountLedger.change_account`).
"""

from collections.abc import Collection, Mapping
from typing import Protocol

from dropmill.model.ids import Owner
from dropmill.model.quotas import Quota


class QuotaLedger(Protocol):
    """Reads quotas."""

    async def quotas(self, holders: Collection[Owner]) -> Mapping[Owner, Quota]:
        """The quota of each of these holders, also of one that has nothing yet."""

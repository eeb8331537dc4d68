"""Posts and withdraws notices, and lists those that people see."""

from collections.abc import Sequence
from datetime import timedelta

from dropmill.access.policy import visible_to
from dropmill.model.caller import Caller
from dropmill.model.clock import utc_now
from dropmill.model.errors import BadRequest, NotFound
from dropmill.model.ids import AccountId, NoticeId, SubmissionId, new_notice_id
from dropmill.model.notices import EXPIRES_MAX_S, TEXT_MAX, Notice
from dropmill.ports.ledger.notices import NoticeLedger


class Notices:
    """The notices of an operator. The feed shows them to those who are connected."""

    def __init__(self, ledger: NoticeLedger) -> None:
        self._ledger = ledger

    async def post(
        self,
        caller: Caller,
        text: str,
        *,
        submission_id: SubmissionId | None = None,
        account_id: AccountId | None = None,
        account_name: str | None = None,
        expires_in_s: float,
    ) -> Notice:
        """Post a notice; it is shown until it expires or is withdrawn.

        Args:
            caller: who posts it.
            text: what it says; blanks around it are dropped.
            submission_id: it is for those who follow this submission.
            account_id: it is for this account alone.
            account_name: so, by the account's name. Without any of the three it is for everybody.
            expires_in_s: after how many seconds it expires.

        Raises:
            BadRequest: the text is empty, too long, or has characters that do not print; or the time is too long; or
                it is for more than one of the three.
            NotFound: there is no such submission or account.
        """
        text = text.strip()
        if not text or len(text) > TEXT_MAX or not text.replace("\n", "").isprintable():
            raise BadRequest(f"`text` must have 1 to {TEXT_MAX} printable characters.")
        if not 1 <= expires_in_s <= EXPIRES_MAX_S:
            raise BadRequest(f"`expires_in` must be from 1 to {EXPIRES_MAX_S:.0f} seconds.")
        if sum(given is not None for given in (submission_id, account_id, account_name)) > 1:
            raise BadRequest("Give one of `submission_id`, `account_id` and `account`, or none.")
        if account_name is not None:
            found = await self._ledger.account_named(account_name)
            if found is None:
                raise NotFound("There is no such account.")
            account_id = found.id
        now = utc_now()
        notice = Notice(
            id=new_notice_id(),
            text=text,
            submission_id=submission_id,
            posted_at=now,
            expires_at=now + timedelta(seconds=expires_in_s),
            account=caller.account,
            account_id=account_id,
        )
        await self._ledger.post_notice(notice, caller.client, visible_to=visible_to(caller))
        return notice

    async def standing(self, caller: Caller) -> Sequence[Notice]:
        """The notices that are shown, the oldest first: to everybody, and to what the caller may see.

        Who sees what everybody sent sees those to any account here, to withdraw them, but on no page of their own.
        """
        found = await self._ledger.notices(utc_now(), visible_to=visible_to(caller))
        return [notice for notice in found if not notice.is_withdrawn]

    async def withdraw(self, caller: Caller, notice_id: NoticeId) -> None:
        """Take a notice off every page, also off those that are away now and come back. Twice is as once.

        Raises:
            NotFound: there is no such notice, or it has expired.
        """
        await self._ledger.withdraw_notice(
            notice_id, utc_now(), caller.account, caller.client, visible_to=visible_to(caller)
        )

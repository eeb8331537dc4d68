"""Browsers in which an account has signed in before: what others do wrong does not slow them down.

Without this, whoever fails all the time, from many addresses or behind the same one, could keep the owner of a name
waiting for ever. It is what OWASP calls a device cookie ("Slow Down Online Guessing Attacks with Device Cookies").

A mark is made with the hash of the password as key, which only the ledger has. So nothing has to be kept for it, nobody
else can make one, and another password ends all marks. It signs nobody in: it only says by whom attempts are counted.
"""

import hashlib
import hmac
import re
import secrets
from typing import Final

from dropmill.model.ids import AccountId

_MARK: Final = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{64})", re.ASCII)


def new_mark(account_id: AccountId, password_hash: str) -> str:
    """A mark for a browser in which this account has signed in with the password that has this hash."""
    number = secrets.token_hex(16)
    return f"{number}.{_seal(number, account_id, password_hash)}"


def number_of(mark: str | None, account_id: AccountId, password_hash: str) -> str | None:
    """The number of a browser that shows a mark of this account; None if it shows none."""
    found = None if mark is None else _MARK.fullmatch(mark)
    if found is None or not hmac.compare_digest(found[2], _seal(found[1], account_id, password_hash)):
        return None
    return found[1]


def _seal(number: str, account_id: AccountId, password_hash: str) -> str:
    said = f"known browser {number} of {account_id}".encode()
    return hmac.new(password_hash.encode(), said, hashlib.sha256).hexdigest()

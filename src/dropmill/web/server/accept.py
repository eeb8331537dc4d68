"""Which of some media types a client would rather have (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

ACCEPT_MAX = 2048  # characters; the library takes time for each entry, and no browser sends a tenth of it


def preferred_type(header: str, offered: Sequence[str]) -> str:
    """The offered media type that an `Accept` header likes best; the first one if it likes none or all.

    Args:
        header: as sent; only its first `ACCEPT_MAX` characters count, runs of blanks as one. "" if absent.
        offered: media types, the first one for clients that do not say.
    """
    # The library splits an entry by a pattern that takes quadratic time over a run of blanks.
    bounded = " ".join(header.split())[:ACCEPT_MAX]
    return parse_accept_header(bounded, MIMEAccept).best_match(offered, offered[0]) or offered[0]

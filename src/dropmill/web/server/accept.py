"""Which of several media types a client prefers (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

ACCEPT_MAX = 2048  # characters; the library needs time for each entry, and no browser sends a tenth of this


def preferred_type(header: str, offered: Sequence[str]) -> str:
    """The offered media type that an `Accept` header prefers; the first one if it prefers none.

    Args:
        header: as sent; "" if absent. Only its first `ACCEPT_MAX` characters count, and a run of blanks counts as one.
        offered: media types; the first one is the default.
    """
    # The library splits an entry by a pattern that takes quadratic time over a run of blanks.
    bounded = " ".join(header.split())[:ACCEPT_MAX]
    return parse_accept_header(bounded, MIMEAccept).best_match(offered, offered[0]) or offered[0]

"""Settings of live updates."""

from dataclasses import dataclass

from dropmill.settings import values
from dropmill.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class LiveSettings:
    """Read by `app` for `live`."""

    join_rate: int = setting(
        "--join-rate",
        values.count,
        2000,
        "Events per second that one account, or one address without an account, may get by joining topics, averaged "
        "over 10 seconds; further joins wait.",
        metavar="N",
    )

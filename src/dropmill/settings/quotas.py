"""Settings of quotas: what one owner may have, and how many requests one client may send."""

from dataclasses import dataclass

from dropmill.model.quotas import Limits
from dropmill.settings import values
from dropmill.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class QuotaSettings:
    """Read by `app` for the ledger, and by `web/server/guard` for each request."""

    quota_storage: int | None = setting(
        "--quota-storage",
        values.size,
        None,
        "Size of the files that the server keeps for one account at most, such as 20GiB; no limit by default.",
        metavar="SIZE",
    )
    quota_submissions: int | None = setting(
        "--quota-submissions",
        values.count,
        None,
        "Maximum number of submissions that one account opens on one day of UTC; no limit by default.",
        metavar="N",
    )
    quota_open: int | None = setting(
        "--quota-open",
        values.count,
        None,
        "Maximum number of submissions that one account has open at once; no limit by default.",
        metavar="N",
    )
    quota_running: int | None = setting(
        "--quota-running",
        values.count,
        None,
        "Maximum number of jobs of one account that run at once; further ones wait. No limit by default.",
        metavar="N",
    )
    quota_sockets: int | None = setting(
        "--quota-sockets",
        values.count,
        None,
        "Maximum number of WebSockets, polls and event streams that one account has open at once; no limit by default.",
        metavar="N",
    )
    rate_limit: values.Rate | None = setting(
        "--rate-limit",
        values.rate,
        None,
        "Maximum number of requests of one account, or of one address without an account, such as 600/m: per second "
        "(s), minute (m) or hour (h). Bytes of resumable uploads and static files do not count. No limit by default.",
        metavar="N/UNIT",
    )

    @property
    def owner_limits(self) -> Limits:
        """The limits of an owner that has none of its own."""
        return Limits(
            storage=self.quota_storage,
            submissions_a_day=self.quota_submissions,
            open_submissions=self.quota_open,
            running=self.quota_running,
            sockets=self.quota_sockets,
        )

"""Settings of several processes and hosts that work together."""

from dataclasses import dataclass
from pathlib import Path

from dropmill.settings import values
from dropmill.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class HostsSettings:
    """Read by `app`."""

    blobs: Path | None = setting(
        "--blobs",
        values.path,
        None,
        "Folder for files, results and output that all servers and workers share, such as an NFS mount; needs "
        "DROPMILL_DATABASE_URL. By default they are in the data folder.",
        metavar="DIR",
    )
    executor: str = setting(
        "--executor",
        values.one_of("local", "ledger"),
        "local",
        "local: this server runs the jobs. ledger: `dropmill worker` does, on this host and others; needs "
        "DROPMILL_DATABASE_URL and --blobs.",
        metavar="local|ledger",
    )
    lease: float = setting(
        "--lease",
        values.seconds,
        15.0,
        "Seconds without a sign of life after which others take over the work of a server or worker; the same for all. "
        "Without DROPMILL_DATABASE_URL it has no effect.",
        metavar="S",
    )

"""Settings of what the server keeps, logs and reports to others."""

from dataclasses import dataclass
from pathlib import Path

from dropmill.settings import values
from dropmill.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class UpkeepSettings:
    """Read by `app` for `upkeep`."""

    keep: float | None = setting(
        "--keep",
        values.age,
        None,
        "Time after which a settled submission's files, results and output are deleted, such as 30d; its history is "
        "kept. Forever by default.",
        metavar="AGE",
    )
    keep_size: int | None = setting(
        "--keep-size",
        values.size,
        None,
        "Maximum total size of files, results and output; above it the server deletes those of the oldest settled "
        "submissions. No limit by default.",
        metavar="SIZE",
    )
    keep_events: float | None = setting(
        "--keep-events",
        values.age,
        None,
        "Time after which events are deleted, once the event log holds them. Forever by default.",
        metavar="AGE",
    )
    log_file: Path | None = setting(
        "--log-file",
        values.path,
        None,
        "File for the event log. Default: log/dropmill.jsonl in the data folder.",
        metavar="FILE",
    )
    on_settled: str | None = setting(
        "--on-settled",
        values.http_url,
        None,
        "URL to call (POST) each time a submission settles; retried for 24 hours until it answers 2xx.",
        metavar="URL",
    )
    webhook_secret: str | None = setting(
        None,
        values.text,
        None,
        "Signs the calls of --on-settled. Only as a variable, or better in a file that DROPMILL_WEBHOOK_SECRET_FILE "
        "names: other users can read a command line.",
        metavar="SECRET",
        is_secret=True,
    )

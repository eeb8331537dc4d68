"""Settings of uploads: how large, how many, how slow, how long they may be unfinished."""

from dataclasses import dataclass

from dropmill.settings import values
from dropmill.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class IntakeSettings:
    """Read by `intake`, and by `web` for bodies of requests."""

    idle_timeout: float = setting(
        "--idle-timeout",
        values.seconds,
        30.0,
        "Seconds without a byte after which the server gives up on a request's body.",
        metavar="S",
    )
    min_rate: int = setting(
        "--min-rate",
        values.size,
        0,
        "Minimum upload rate in bytes per second, averaged over the idle timeout; 0, the default, sets no minimum.",
        metavar="SIZE",
    )
    seal_after: float = setting(
        "--seal-after",
        values.age,
        86400.0,
        "Time after which the server seals a submission that was opened for more files and received none. "
        "Default: 24h.",
        metavar="AGE",
    )
    upload_expiry: float = setting(
        "--upload-expiry",
        values.age,
        86400.0,
        "Time without a byte after which the server deletes an unfinished resumable upload. Default: 24h.",
        metavar="AGE",
    )
    max_file_size: int | None = setting(
        "--max-file-size",
        values.size,
        None,
        "Size of the largest file accepted, such as 20GiB; no limit by default.",
        metavar="SIZE",
    )
    max_submission_size: int | None = setting(
        "--max-submission-size",
        values.size,
        None,
        "Maximum total size of one submission's files; no limit by default.",
        metavar="SIZE",
    )
    max_files: int | None = setting(
        "--max-files",
        values.count,
        None,
        "Maximum number of files in one submission; no limit by default.",
        metavar="N",
    )
    accept: tuple[str, ...] = setting(
        "--accept",
        values.file_types,
        (),
        "Types of files accepted, such as .csv,image/*,application/pdf: extensions and media types; every type by "
        "default.",
        metavar="TYPES",
    )
    min_free: int = setting(
        "--min-free",
        values.size,
        2**30,
        "Free disk space below which the server refuses uploads with 507. Default: 1GiB.",
        metavar="SIZE",
    )
    max_uploads_per_client: int | None = setting(
        "--max-uploads-per-client",
        values.count,
        None,
        "Maximum number of requests with files from one address at once; no limit by default.",
        metavar="N",
    )

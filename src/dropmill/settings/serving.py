"""Settings of the HTTP server: where it listens, what its page says, how many connections it takes."""

from dataclasses import dataclass
from pathlib import Path

from dropmill.model.hosts import is_loopback
from dropmill.settings import values
from dropmill.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class ServingSettings:
    """Read by `cli/serve`, `web` and `app`."""

    bind: tuple[str, ...] = setting(
        "--bind",
        values.address,
        ("127.0.0.1:8000",),
        "Address to listen on; may be given several times.",
        metavar="HOST:PORT",
        many=True,
    )
    data: Path = setting(
        "--data",
        values.path,
        Path("data"),
        "Folder for files, output, database and log; created if missing. Each server needs its own.",
        metavar="DIR",
    )
    database_url: str | None = setting(
        None,
        values.database_url,
        None,
        "URL of a Postgres database for the ledger, such as postgresql://dropmill:password@db.lab/dropmill "
        "(docs/postgres.md); better in a file that DROPMILL_DATABASE_URL_FILE names. Default: an SQLite file in the "
        "data folder.",
        metavar="URL",
        is_secret=True,
    )
    title: str | None = setting(
        "--title",
        values.line,
        None,
        "Title of the page where files are dropped, such as what the script makes of them.",
        metavar="TEXT",
    )
    intro: str | None = setting(
        "--intro",
        values.line,
        None,
        "One sentence below that title: what to drop, and what comes of it.",
        metavar="TEXT",
    )
    certfile: Path | None = setting(
        "--certfile",
        values.path,
        None,
        "Certificate chain in PEM format; with --keyfile, the server speaks https instead of http.",
        metavar="FILE",
    )
    keyfile: Path | None = setting(
        "--keyfile",
        values.path,
        None,
        "The certificate's private key in PEM format, without a passphrase.",
        metavar="FILE",
    )
    hsts: float = setting(
        "--hsts",
        values.age,
        30 * 86400.0,
        "Time for which browsers that came by https use nothing else for this host name, on any port "
        "(Strict-Transport-Security). Default: 30d. For a name that is served by https for good, 365d.",
        metavar="AGE",
    )
    hsts_subdomains: bool = setting(
        "--hsts-subdomains",
        values.switch,
        False,
        "Have --hsts count for all names below this host name, too.",
        metavar="",
    )
    write_timeout: float = setting(
        "--write-timeout",
        values.seconds,
        60.0,
        "Seconds after which the server disconnects a client that reads nothing of what it is sent.",
        metavar="S",
    )
    max_connections: int = setting(
        "--max-connections",
        values.count,
        5000,
        "Maximum number of connections at once, not counting WebSockets.",
        metavar="N",
    )
    max_connections_per_client: int = setting(
        "--max-connections-per-client",
        values.count,
        1000,
        "Maximum number of connections from one address at once.",
        metavar="N",
    )
    max_sockets: int = setting(
        "--max-sockets", values.count, 5000, "Maximum number of WebSockets at once.", metavar="N"
    )
    max_sockets_per_client: int = setting(
        "--max-sockets-per-client",
        values.count,
        1000,
        "Maximum number of WebSockets from one address at once.",
        metavar="N",
    )
    reserved_descriptors: int | None = setting(
        "--reserved-descriptors",
        values.count,
        None,
        "Number of file descriptors that connections leave free for database, log and scripts. By default a quarter "
        "of the system's limit, at most 2048.",
        metavar="N",
    )

    @property
    def is_https(self) -> bool:
        """Whether `dropmill serve` speaks TLS itself."""
        return self.certfile is not None

    @property
    def is_loopback_only(self) -> bool:
        """Whether only this machine can reach the addresses of `bind`."""
        return all(is_loopback(values.split_address(address)[0]) for address in self.bind)

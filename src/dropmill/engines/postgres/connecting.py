"""Connections to Postgres: how they are opened, and what their errors mean."""

from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.exc import DBAPIError

from dropmill.model.errors import OutOfSpace, SettingsError, StorageUnavailable

CONNECT_TIMEOUT_S = 3
NAME = "dropmill"
"""`application_name` of every connection, by which a migration sees that a server runs."""

# A host that vanished without a word is noticed after about this long; one that is only slow answers TCP.
_SILENCE_S = 15
_TCP = {
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": _SILENCE_S * 1000,
}
STATEMENTS_PREPARED = 400  # on one connection; there are some hundred, and psycopg's default is 100

# Of SQLSTATE: https://www.postgresql.org/docs/15/errcodes-appendix.html
_FULL = "53100"
_AWAY = {
    "08": "its connection broke",
    "57P01": "it stops",
    "57P02": "it crashed",
    "57P03": "it starts",
    "57P05": "it ended an idle session",
    "57014": "it cancelled a statement",
    "25P03": "it ended a transaction that stood still",
    "25P04": "it ended a transaction that took too long",
    "53": "it lacks memory, connections or room",
    "40001": "it could not serialize transactions",
    "40P01": "it found a deadlock",
    "55P03": "a lock was not available in time",
    "25006": "it is read-only, because another server took over",
    "28": "it refuses the user",
    "3D000": "there is no such database",
    "58": "its disk has an error",
    "XX001": "its bytes on disk are wrong",
    "XX002": "its bytes on disk are wrong",
}
"""What a SQLSTATE that begins so means. None of them is a mistake of ours."""
_BROKEN = ("08", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04", "25006")
"""After these, a connection cannot be used again."""


class NotConnected(psycopg.OperationalError):
    """The server cannot be reached, or refuses."""


def connect(conninfo: str) -> "psycopg.Connection[Any]":
    """A new connection, in which each transaction is begun by its `BEGIN`.

    Args:
        conninfo: a URL or `key=value` words, as libpq reads them
            (https://www.postgresql.org/docs/15/libpq-connect.html#LIBPQ-CONNSTRING). It beats what is set here.

    Raises:
        NotConnected: the server cannot be reached, or refuses.
        SettingsError: the URL cannot be read.
    """
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:  # its text may contain the password
        raise SettingsError("DROPMILL_DATABASE_URL cannot be read; it must be a URL as libpq takes it.") from None
    words: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": NAME, **_TCP, **given}
    try:
        connection = psycopg.connect(**{**words, "client_encoding": "UTF8"}, autocommit=True)
    except psycopg.OperationalError as error:
        raise NotConnected(*error.args) from error
    connection.prepared_max = STATEMENTS_PREPARED
    return connection


def cause_of(error: BaseException) -> BaseException:
    """The driver's error inside one of SQLAlchemy's."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def fault_of(error: BaseException) -> OutOfSpace | StorageUnavailable | None:
    """The fault that an error of the driver means; None if it is a mistake in our code.

    Clients see the sentence: it names no host and no user.
    """
    cause = cause_of(error)
    if not isinstance(cause, psycopg.Error):
        return None
    if cause.sqlstate == _FULL:
        return OutOfSpace("The disk that holds the ledger is full; nothing was changed.")
    if is_of_the_driver(cause):
        return StorageUnavailable("The ledger's database cannot be reached now. Try again in a moment.")
    why = next((why for begin, why in _AWAY.items() if (cause.sqlstate or "").startswith(begin)), None)
    if why is None:
        return None
    return StorageUnavailable(f"The ledger's database is not available now: {why}. Try again in a moment.")


def is_of_the_driver(error: BaseException) -> bool:
    """Whether the driver, not the server, says that something does not work: a broken or refused connection."""
    return isinstance(error, psycopg.OperationalError) and error.sqlstate is None


def is_broken(error: BaseException) -> bool:
    """Whether an error means that its connection cannot be used again; not if there was none to use."""
    cause = cause_of(error)
    if not isinstance(cause, psycopg.Error) or isinstance(cause, NotConnected):
        return False
    return is_of_the_driver(cause) or (cause.sqlstate or "").startswith(_BROKEN)

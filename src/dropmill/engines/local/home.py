"""Where the ledger of a data folder is: in the folder, or in Postgres.

Bytes are in the folder, what is known of them in the ledger. A server that opened the folder with another ledger, or
with a new one, would not know these bytes, and its clean-up would delete them. So a folder whose ledger is in Postgres
has a file that says so, with the ledger's id; a server with other settings does not start.
"""

import os
from pathlib import Path

from dropmill.model.errors import SettingsError
from dropmill.private import opener

LEDGER_FILE = "ledger.sqlite"
MARKER = "ledger-in-postgres"
_ID_MAX = 200  # bytes of the marker that are read


class LedgerHome:
    """The marker of one data folder."""

    def __init__(self, data: Path) -> None:
        """Keep the folder, which may not exist yet."""
        self._data = data
        self._marker = data / MARKER

    @property
    def marked(self) -> str | None:
        """The id of the ledger in Postgres that the folder belongs to; None if it belongs to none. Reads the disk.

        Raises:
            SettingsError: the marker cannot be read.
        """
        try:
            with self._marker.open("rb") as file:
                return file.read(_ID_MAX).decode(errors="replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SettingsError(f"{self._marker} cannot be read ({error.strerror}).") from error

    def require(self, *, in_postgres: bool) -> None:
        """Return if the ledger may be where the settings say. Reads the disk.

        Raises:
            SettingsError: the folder's ledger is elsewhere; the sentence says what to do.
        """
        marked = self.marked
        if not in_postgres and marked is not None:
            raise SettingsError(
                f"The ledger of {self._data} is in Postgres: set DROPMILL_DATABASE_URL, or bring it back with "
                "`dropmill migrate --back`."
            )
        if in_postgres and marked is None and (self._data / LEDGER_FILE).exists():
            raise SettingsError(
                f"{self._data} has a ledger of its own, {LEDGER_FILE}: move it to Postgres with `dropmill migrate`, "
                "or choose another --data."
            )

    def settle(self, ledger_id: str) -> None:
        """Mark the folder, durably, as belonging to a ledger in Postgres; again for the same one changes nothing.

        Raises:
            SettingsError: it belongs to another one, or cannot be marked.
        """
        marked = self.marked
        if marked == ledger_id:
            return
        if marked is not None:
            raise SettingsError(
                f"{self._data} belongs to another ledger than DROPMILL_DATABASE_URL names ({MARKER} says {marked}, the "
                f"database {ledger_id}); with this one its files would be deleted. Set the right database or --data."
            )
        new = self._marker.with_name(f"{MARKER}.new")
        try:
            with open(new, "wb", opener=opener) as file:
                file.write(f"{ledger_id}\n".encode())
                file.flush()
                os.fsync(file.fileno())
            new.rename(self._marker)
            self._sync()
        except OSError as error:
            raise SettingsError(f"{self._marker} cannot be written ({error.strerror}).") from error

    def leave(self) -> None:
        """Remove the marker, durably: the ledger is in the folder again.

        Raises:
            SettingsError: it cannot be removed.
        """
        try:
            self._marker.unlink(missing_ok=True)
            self._sync()
        except OSError as error:
            raise SettingsError(f"{self._marker} cannot be removed ({error.strerror}).") from error

    def _sync(self) -> None:
        folder = os.open(self._data, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

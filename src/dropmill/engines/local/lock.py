"""One server a data folder: each of two servers on one folder would declare the other's attempts lost."""

import fcntl
import os
import secrets
from pathlib import Path

from dropmill.model.errors import DataFolderInUse, SettingsError
from dropmill.private import FILE_MODE, FOLDER_MODE


class FolderLock:
    """An advisory lock on `DIR/lock`. The kernel releases it when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Create the folder, and take the lock. Blocks.

        Raises:
            DataFolderInUse: another process holds it; the sentence names folder and pid.
            SettingsError: the folder cannot be created or written.
        """
        path = self._folder / "lock"
        try:
            self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise SettingsError(f"--data {self._folder}: cannot be used ({error.strerror}).") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise DataFolderInUse(
                f"The data folder {self._folder} is in use by the process {holder}; stop that one, "
                "or give this one a folder of its own with --data (DROPMILL_DATA). Run one server process a folder."
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def name(self) -> str:
        """Names this lock among all machines, for as long as this one runs. Reads the disk.

        The number of the system's start is part of it: a folder that was copied with its machine is another lock, and
        the lock of a machine that has crashed is nobody's.
        """
        found = self._folder.stat()
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:
            boot = secrets.token_hex(16)
        return f"{boot} {found.st_dev}:{found.st_ino}"

    def release(self) -> None:
        """Release the lock; does nothing if it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

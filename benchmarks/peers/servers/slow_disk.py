"""`dropmill` on a disk that takes 50 ms for each write: `python slow_disk.py serve ...`."""

import time
from typing import Any

from dropmill.cli import main
from dropmill.engines.disk.files import HashedFile

_write = HashedFile.write


def _write_slowly(file: HashedFile, data: Any) -> int:
    time.sleep(0.05)
    return _write(file, data)


HashedFile.write = _write_slowly  # type: ignore[method-assign]
main()

"""`dropmill` on a disk that takes 50 ms for each write: `python slow_disk.py serve ...`."""

import time
from typing import Any

from dropmill.cli import main
from dropmill.engines.disk import store as disk

_write = disk._HashedFile.write


def _write_slowly(file: disk._HashedFile, data: Any) -> int:
    time.sleep(0.05)
    return _write(file, data)


disk._HashedFile.write = _write_slowly  # type: ignore[method-assign]
main()

"""One process a data folder, also after the one before it was killed."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dropmill.engines.local.lock import FolderLock
from dropmill.model.errors import DataFolderInUse, SettingsError

HOLD = """
import sys
from pathlib import Path
from dropmill.engines.local.lock import FolderLock
FolderLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "data"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_with_one_line_that_names_folder_and_process(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    lock = FolderLock(tmp_path / "data")
    for _ in range(2):
        with pytest.raises(DataFolderInUse) as refused:
            lock.acquire()
        assert str(tmp_path / "data") in refused.value.detail
        assert f"process {holder.pid};" in refused.value.detail
        assert "--data" in refused.value.detail
        assert "\n" not in refused.value.detail
    lock.release()


def test_a_killed_process_leaves_the_folder_free(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait(timeout=20)
    lock = FolderLock(tmp_path / "data")
    lock.acquire()
    lock.release()


def test_a_released_folder_can_be_taken_again(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path / "a" / "b"), FolderLock(tmp_path / "a" / "b")
    first.acquire()
    with pytest.raises(DataFolderInUse):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_the_lock_is_not_handed_down_to_programs_that_are_started(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    lock.acquire()
    with subprocess.Popen(
        [sys.executable, "-c", "print(); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()  # it has become that program: descriptors are closed on the way there
        lock.release()
        again = FolderLock(tmp_path)
        again.acquire()
        again.release()
        child.communicate(b"\n", timeout=20)


def test_a_folder_that_cannot_be_made_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettingsError, match=r"--data .*file/data: cannot be used \(Not a directory\)"):
        FolderLock(tmp_path / "file" / "data").acquire()

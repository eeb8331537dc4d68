"""How small files are synced is chosen by what the machine is known to do."""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dropmill.engines.disk import syncing
from dropmill.engines.disk.syncing import Syncing, fsync_all, syncfs, syncing_for


@pytest.mark.parametrize(
    ("kind", "release", "how"),
    [
        ("ext4", "6.1.0-13-amd64", Syncing.WHOLE_DISK),
        ("xfs", "5.8", Syncing.WHOLE_DISK),
        ("ext4", "5.7.19", Syncing.EACH_FILE),
        ("ext4", "unknown", Syncing.EACH_FILE),
        ("overlay", "6.1.0", Syncing.EACH_FILE),
        ("btrfs", "6.1.0", Syncing.EACH_FILE),
        ("nfs4", "6.1.0", None),
        ("fuse.sshfs", "6.1.0", None),
        ("tmpfs", "6.1.0", None),
    ],
)
def test_each_file_system_gets_what_is_known_to_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, release: str, how: Syncing | None
) -> None:
    device = tmp_path.stat().st_dev
    line = f"36 35 {os.major(device)}:{os.minor(device)} / /data rw,noatime shared:1 - {kind} /dev/x rw\n"
    others = "35 1 0:99999 / /proc rw - proc proc rw\n"

    def mounts(*_: Any, **__: Any) -> io.StringIO:
        return io.StringIO(others + line)

    monkeypatch.setattr(syncing, "open", mounts, raising=False)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release))
    assert syncing_for(tmp_path) is how


def test_an_unknown_file_system_gets_an_fsync_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "open", lambda *_, **__: io.StringIO(""), raising=False)
    assert syncing_for(tmp_path) is Syncing.EACH_FILE


def test_files_and_folders_are_synced_and_a_deleted_one_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    with ThreadPoolExecutor(2) as threads:
        fsync_all([tmp_path / "a", tmp_path / "gone"], threads)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    syncfs(descriptor)
    os.close(descriptor)
    with pytest.raises(OSError, match="Bad file"):
        syncfs(descriptor)

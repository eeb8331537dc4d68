"""Promise 1 of small files: whenever the process was killed, what it answered is there after a start."""

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.engines.disk.killed import Live, journalled, opened

STORE = """
import asyncio, os, sys
from pathlib import Path
from dropmill.engines.disk import small
from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.disk.syncing import Syncing
from dropmill.ports.blobs import SmallPart

small.DRAIN_EVERY_S = 0.001
how = Syncing.WHOLE_DISK if sys.argv[2] == "WHOLE_DISK" else Syncing.EACH_FILE
if sys.argv[3] == "failing":  # each sync fails, so that files are written anew
    def fail(*_):
        raise OSError(5, "lost")
    small.syncing.syncfs = small.syncing.fsync_all = fail

async def main():
    store = DiskBlobStore(Path(sys.argv[1]), lambda _: how)
    await store.open()
    for number in range(8):
        parts = [SmallPart(extension="", data=b"content %d of %d" % (part, number)) for part in range(4)]
        stored = await store.store_small(parts)
        for part, blob in enumerate(stored):
            os.write(1, b"%s content %d of %d\\n" % (blob.key.encode(), part, number))
        await asyncio.sleep(0.003)
    os.write(1, b"%s deleted\\n" % stored[0].key.encode())
    await store.delete(stored[0].key)
    await store.close()

asyncio.run(main())
"""

KILLS = [
    *(("WHOLE_DISK", "working", call, when) for call in ("pwrite64", "fdatasync") for when in (1, 9, 17, 18, 20, 25)),
    *(("WHOLE_DISK", "working", call, when) for call in ("syncfs", "fchmod") for when in (1, 2, 7)),
    *(("WHOLE_DISK", "working", "unlink", when) for when in (1, 3, 4, 5)),
    *(("EACH_FILE", "working", "fsync", when) for when in (4, 6, 9, 30)),
    *(("WHOLE_DISK", "failing", call, when) for call in ("rename", "fsync", "unlink") for when in (1, 5, 9, 20)),
]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(("how", "disk", "call", "when"), KILLS)
async def test_what_was_answered_is_there_after_a_kill_and_the_loss_of_what_was_not_synced(
    tmp_path: Path, how: str, disk: str, call: str, when: int
) -> None:
    """Of each file whose record is still in the journal, the power cut leaves nothing in its own place."""
    data = tmp_path / "data"
    data.mkdir()
    words = [sys.executable, "-c", STORE, str(data), how, disk]
    injected = f"inject={call}:signal=KILL:when={when}"
    ran = await asyncio.to_thread(
        subprocess.run,
        ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", injected, *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    answered = dict(re.findall(r"^(\w{32}) (.*)$", ran.stdout, re.MULTILINE))
    deleted = {key for key, content in answered.items() if content == "deleted"}
    live = {key: content for key, content in answered.items() if key not in deleted}
    store = await opened(data)
    for key in journalled(data):
        store.path(key).unlink(missing_ok=True)
    await store.replay(Live(live))
    for key, content in live.items():
        assert store.path(key).read_bytes() == content.encode()
        assert store.path(key).stat().st_mode & 0o777 == 0o400
    await store.sweep()
    assert list(store.incoming.iterdir()) == []
    await store.close()

"""A config file that nothing can be renamed over: a save writes it in place, whole or repaired, or is refused.

The mount points are real ones, in a mount namespace of the test's own: that needs root and `unshare`.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.missing import missing
from tests.support.server import Server, read_answer
from tests.system.faults.killed_saves import FIRST, Saver, Story, killing, put, sha256

from dropmill.configfile import file_sync

pytestmark = pytest.mark.fresh

Make = Callable[..., Server]

# $0 is mounted over $1; what follows is the command. Nothing of this is seen outside of the namespace.
MOUNTED = 'mount --make-rprivate / && mount --bind "$0" "$1" && shift && exec "$@"'
READ_ONLY = 'mount --make-rprivate / && mount --bind "$0" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
CALLS = ("pwrite64", "ftruncate", "fsync", "unlink", "rename", "fdatasync")
THAT_COUNT = ("ftruncate", "fsync", "unlink")


@pytest.fixture(autouse=True)
def _mounting() -> None:
    """It is possible; without it the tests are skipped, but never in CI."""
    is_possible = shutil.which("unshare") is not None and subprocess.run(["unshare", "-m", "true"]).returncode == 0
    if not is_possible:
        missing("Mounting in a namespace needs root and unshare.")


def mounted(how: str, source: Path, target: Path) -> tuple[str, ...]:
    """The beginning of a command that sees `source` mounted over `target`."""
    target.touch()
    return ("unshare", "-m", "sh", "-c", how, str(source), str(target))


class Mounted(Story):
    """A story about a config that is a mount point; seen from outside, its file is `host.yaml`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.host = folder / "host.yaml"
        self.host.write_bytes(FIRST)
        super().__init__(Saver(mounted(MOUNTED, self.host, folder / "config.yaml")), folder)

    @property
    def on_disk(self) -> str:
        return sha256(self.host.read_bytes())

    @property
    def temporaries(self) -> list[str]:
        return [path.name for path in (self.folder / "aside").glob("*")]

    def look(self) -> None:
        """Count what a kill has left. A torn file is allowed here: `start` requires that it is repaired."""
        if self.on_disk not in (self.saved[-1], self._begun):
            self.fell["torn"] += 1

    def end(self) -> None:
        self._saver.end()


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path / "0")
    try:
        yield made
    finally:
        made.end()


@pytest.mark.skipif(shutil.which("strace") is None, reason="There is no strace; run: make test-setup")
def test_point_2_killed_before_each_call_of_a_save_in_place_the_file_is_repaired(story: Mounted, is_full: bool) -> None:
    """Large and small texts take turns, so that the file is too long between the write and the truncation."""
    kills = 0
    for call in CALLS if is_full else THAT_COUNT:
        for number in range(1, 31):
            for way in ("save large", "save"):
                pid = story.start(way)
                with killing(pid, call, number):
                    story.go()
                    if story.follow("saved"):
                        os.kill(pid, signal.SIGKILL)
                        story.follow("over")
                    story.look()
                kills += not story.is_answered
            if story.is_answered:
                break
    print(f"{kills} kills: {dict(story.fell)}")
    for place in ("before the commit", "torn"):
        assert story.fell[place], place


def test_point_2_a_mount_point_is_written_in_place_and_both_sides_are_the_same_after_a_restart(
    make_server: Make, tmp_path: Path
) -> None:
    host = tmp_path / "host.yaml"
    host.write_bytes(b"a: 1 # on the host\n")
    server = make_server(prefix=mounted(MOUNTED, host, tmp_path / "config.yaml"), config=tmp_path / "config.yaml")
    server.start()
    for text in (b"a: 2 # saved on the page\n", b"a: 3\n", b"# longer\na: 4\n" + b"# more\n" * 2000):
        before = server.http.get("/api/v1/config")
        answer = server.http.put("/api/v1/config", content=text, headers={"If-Match": before.headers["ETag"]})
        assert answer.status_code == 200
        assert host.read_bytes() == text
        assert server.http.get("/readyz").json()["config_problem"] is None
    assert server.stop() == 0
    server.start()
    assert server.http.get("/api/v1/config").content == text
    assert host.read_bytes() == text
    assert len(server.get("/config/revisions")["items"]) == 4
    host.write_bytes(b"a: 5 # edited on the host\n")
    assert server.http.get("/api/v1/config").content == b"a: 5 # edited on the host\n"
    assert list((server.data / "config-aside").iterdir()) == []


def test_point_2_a_mount_point_that_is_read_only_refuses_the_save_with_503(make_server: Make, tmp_path: Path) -> None:
    host = tmp_path / "host.yaml"
    host.write_bytes(b"a: 1\n")
    server = make_server(prefix=mounted(READ_ONLY, host, tmp_path / "config.yaml"), config=tmp_path / "config.yaml")
    server.start()
    etag = server.http.get("/api/v1/config").headers["ETag"]
    answer = server.http.put("/api/v1/config", content=b"a: 2\n", headers={"If-Match": etag})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "mount point" in answer.json()["detail"]
    assert "Nothing was saved" in answer.json()["detail"]
    assert server.http.get("/api/v1/config").content == host.read_bytes() == b"a: 1\n"
    assert server.http.get("/readyz").json()["config_problem"] is None


def test_point_2_of_saves_in_place_and_edits_on_the_host_none_is_lost(
    make_server: Make, tmp_path: Path, is_full: bool
) -> None:
    """An editor that opens the file waits until the save has ended; one that comes before makes the save stale."""
    host = tmp_path / "host.yaml"
    now = b"a: 1\n"
    host.write_bytes(now)
    server = make_server(prefix=mounted(MOUNTED, host, tmp_path / "config.yaml"), config=tmp_path / "config.yaml")
    server.start()
    for number in range(200 if is_full else 10):
        saved, edited = b"# race %d\nby: save\n" % number, b"# race %d\nby: editor, longer\n" % number
        with server.connect() as writer:
            writer.sendall(put(server, now, saved))
            time.sleep(number % 10 * 0.0008)
            host.write_bytes(edited)
            status, _, _ = read_answer(writer)
        assert status in (200, 412)
        now = server.http.get("/api/v1/config").content
        assert now == edited
        assert host.read_bytes() == edited
        newest = [item["sha256"] for item in server.get("/config/revisions?limit=2")["items"]]
        assert newest[0] == sha256(edited)
        assert status == 412 or newest[1] == sha256(saved)


# --- the file alone --------------------------------------------------------------------------------------------------


def test_point_2_an_editor_that_opens_the_file_meanwhile_waits_and_its_edit_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"a: 1\n")
    monkeypatch.setattr(file_sync, "_is_mount_point", lambda _: True)
    replacement = file_sync.prepare(path, b"a: 2\n", aside=tmp_path / "aside", keep=False)
    write = file_sync._write_whole
    editor = "import os, sys; f = os.open(sys.argv[1], os.O_WRONLY); os.write(f, b'a: 3'); os.close(f)"
    started: list[subprocess.Popen[bytes]] = []

    def write_while_somebody_comes(descriptor: int, text: bytes) -> None:
        started.append(subprocess.Popen([sys.executable, "-c", editor, str(path)]))
        with contextlib.suppress(subprocess.TimeoutExpired):
            started[0].wait(1.0)
        write(descriptor, text)

    monkeypatch.setattr(file_sync, "_write_whole", write_while_somebody_comes)
    is_there = replacement.put_in_place(file_sync.sha256_of(b"a: 1\n"))
    assert started[0].wait(20) == 0
    assert is_there
    assert path.read_bytes() == b"a: 3\n"


def test_point_2_in_a_folder_that_takes_no_new_files_the_file_is_written_in_place() -> None:
    """As a user who may write the file but not its folder; the config's path is a symbolic link."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        (folder / "etc").mkdir()
        (folder / "data").mkdir(mode=0o777)
        (folder / "etc" / "config.yaml").write_bytes(b"a: 1\n")
        (folder / "link.yaml").symlink_to("etc/config.yaml")
        for path, mode in ((folder, 0o755), (folder / "etc", 0o755), (folder / "data", 0o777)):
            path.chmod(mode)
        (folder / "etc" / "config.yaml").chmod(0o666)

        def save() -> None:
            replacement = file_sync.prepare(folder / "link.yaml", b"a: 2\n", aside=folder / "data" / "aside", keep=True)
            assert replacement.temporary is None
            assert replacement.put_in_place(file_sync.sha256_of(b"a: 1\n"))

        assert as_nobody(save) == 0
        assert (folder / "link.yaml").is_symlink()
        assert (folder / "etc" / "config.yaml").read_bytes() == b"a: 2\n"
        assert os.listdir(folder / "etc") == ["config.yaml"]
        assert [path.name for path in (folder / "data" / "aside").iterdir()] == ["config.yaml.rejected"]
        (folder / "etc" / "config.yaml").chmod(0o444)

        def refuse() -> None:
            with contextlib.suppress(file_sync.CannotBeWritten):
                file_sync.prepare(folder / "link.yaml", b"a: 3\n", aside=folder / "data" / "aside", keep=False)
                raise AssertionError

        assert as_nobody(refuse) == 0
        assert (folder / "etc" / "config.yaml").read_bytes() == b"a: 2\n"


def as_nobody(work: Callable[[], None]) -> int:
    """Do it in a fork without root's rights; 0 if it did not raise."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        work()
        code = 0
    finally:
        os._exit(code)

"""Points 3, 10 and 14 on a real server: its folder moved, its disk full, its clock stepped, its modes."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support import tus
from tests.support.server import Server
from tests.support.waiting import wait_until

Make = Callable[..., Server]


def refused(server: Server, status: int) -> str:
    """The code with which a file is refused."""
    answer = server.http.post("/api/v1/submissions", files=[("file", ("a.txt", b"a"))])
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    return str(answer.json()["code"])


def is_well(server: Server) -> bool:
    answer = server.http.get("/readyz")
    return answer.status_code == 200 and answer.json()["degraded"] == []


# --- the data folder -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stands_in", ["nothing", "an empty folder", "a copy"])
def test_a_data_folder_that_was_moved_is_refused_and_used_again_when_it_is_back(
    make_server: Make, stands_in: str
) -> None:
    """Point 10: nothing is acknowledged that would be found nowhere after a restart."""
    server = make_server().start()
    before = server.settled(server.send(("before.txt", b"before"))["id"])
    wait_until(lambda: len(server.log()) == len(server.events()))  # else the last lines go to the folder that stands in
    away = server.folder / "away"
    server.data.rename(away)
    if stands_in == "an empty folder":
        server.data.mkdir()
    if stands_in == "a copy":
        shutil.copytree(away, server.data)
    for _ in range(2):
        assert refused(server, 503) == "storage_unavailable"
    ready = server.http.get("/readyz")
    assert (ready.status_code, ready.json()["code"]) == (503, "storage_unavailable")
    assert "ledger" in ready.json()["degraded"]
    content = f"/api/v1/files/{before['files'][0]['id']}/content"
    assert server.http.get(content).status_code == 503  # not "removed"
    assert server.http.get("/", headers={"Accept": "text/html"}).status_code in (200, 503)
    if server.data.exists():
        shutil.rmtree(server.data)
    away.rename(server.data)
    wait_until(lambda: is_well(server))
    assert server.http.get(content).content == b"before"
    assert server.settled(server.send(("after.txt", b"after"))["id"])["counts"]["succeeded"] == 1
    events = server.events()
    assert [event["cursor"] for event in events] == list(range(1, len(events) + 1))
    # Read anew: the client's name may be found after the job has settled.
    wait_until(lambda: [line["cursor"] for line in server.log()] == [event["cursor"] for event in server.events()])
    lines = [line for line in server.said().splitlines() if "The ledger does not work" in line]
    assert len(lines) == 1  # not one each second
    assert server.stop() == 0


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a file system")
def test_a_full_disk_is_shown_and_the_server_is_back_when_there_is_room(make_server: Make) -> None:
    """Point 10."""
    server = make_server("--min-free", "1MiB")
    server.data.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", server.data], check=False, capture_output=True
    )
    if mounting.returncode != 0:
        pytest.skip(f"This machine mounts nothing: {mounting.stderr.decode().strip()}")
    try:
        server.start()
        server.settled(server.send(("before.txt", b"before"))["id"])
        filling = server.data / "filling"
        with contextlib.suppress(OSError), filling.open("wb", buffering=0) as rest:
            while True:  # whatever the server writes meanwhile
                rest.write(bytes(4096))
        assert refused(server, 507) == "out_of_space"
        assert "disk_space" in server.http.get("/readyz").json()["degraded"]
        assert server.http.get("/healthz").status_code == 200
        filling.unlink()
        wait_until(lambda: is_well(server))
        assert server.settled(server.send(("after.txt", b"after"))["id"])["counts"]["succeeded"] == 1
        assert server.stop() == 0
    finally:
        server.end()
        subprocess.run(["umount", "--lazy", server.data], check=True)


# --- the clock -------------------------------------------------------------------------------------------------------


def test_a_clock_that_steps_ends_no_upload_that_got_bytes_a_moment_ago(make_server: Make) -> None:
    """Point 10, with the clock of a real process stepped by 30 days while it runs."""
    server = make_server(
        *("--upload-expiry", "1h", "--keep", "1h", "--seal-after", "1h"),
        command=(sys.executable, "-m", "tests.support.serve_with_steps", "serve"),
        environment={"PYTHONPATH": str(Path(__file__).parents[3])},
    ).start()
    kept = server.settled(server.send(("kept.txt", b"kept"))["id"])["files"][0]["id"]
    url = tus.create(server.http, 8)
    assert tus.append(server.http, url, 0, b"half").status_code == 204
    first = server.events()[-1]["at"]
    server.process.send_signal(signal.SIGUSR1)
    assert tus.offset_of(server.http, url) == 4
    answer = tus.append(server.http, url, 4, b"half")
    assert answer.status_code == 204, answer.text
    assert server.http.get(f"/api/v1/files/{kept}/content").content == b"kept"
    last = wait_until(lambda: events[-1] if (events := server.events())[-1]["at"][:7] != first[:7] else None)
    assert last["at"] > first  # the process did see the step
    assert server.stop() == 0


# --- modes -----------------------------------------------------------------------------------------------------------

PROCESSOR = """
def process(path, results):
    print(path.read_text())  # stored files are 0400 and the script's own user's
    (results / "result.txt").write_text("result")
"""


def loose(folder: Path) -> dict[str, str]:
    """What group or others have any right to."""
    return {
        str(path.relative_to(folder.parent)): oct(mode)
        for path in (folder, *folder.rglob("*"))
        if (mode := path.lstat().st_mode & 0o777) & 0o077
    }


def test_nothing_in_the_data_folder_is_open_to_others_whatever_the_umask(make_server: Make) -> None:
    """Point 14: whoever creates it, while the server runs and after it has stopped."""
    server = make_server("--processor", "work:process")
    (server.folder / "work.py").write_text(PROCESSOR)
    server.config.chmod(0o664)
    umask = os.umask(0)
    try:
        server.start()
    finally:
        os.umask(umask)
    submission = server.settled(server.send(("a.txt", b"a" * 100_000), ("b.txt", b"b"))["id"])
    assert submission["counts"]["succeeded"] == 2
    url = tus.create(server.http, 8)
    assert tus.append(server.http, url, 0, b"half", **tus.checksum(b"half")).status_code == 204
    etag = server.http.get("/api/v1/config").headers["ETag"]
    assert server.http.put("/api/v1/config", content=b"a: 2\n", headers={"If-Match": etag}).status_code == 200
    wait_until(lambda: server.log())
    assert loose(server.data) == {}
    blobs = [path for path in (server.data / "blobs").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in blobs} == {0o400}
    assert server.config.stat().st_mode & 0o777 == 0o664  # its owner's business
    assert server.stop() == 0
    assert loose(server.data) == {}


def test_an_open_data_folder_is_tightened_at_start_with_a_line(make_server: Make) -> None:
    """Point 14: folders of older versions are readable by every local user."""
    server = make_server().start()
    server.settled(server.send(("a.txt", b"a"))["id"])
    assert server.stop() == 0
    for path in (server.data, server.data / "log", server.data / "blobs", *(server.data / "blobs").iterdir()):
        path.chmod(0o755)
    for path in (server.data / "ledger.sqlite", server.data / "log" / "dropmill.jsonl", server.data / "lock"):
        path.chmod(0o644)
    begun = len(server.said())
    server.start()
    assert loose(server.data) == {}
    lines = [line for line in server.said()[begun:].splitlines() if "Other users of this machine" in line]
    assert len(lines) == 1
    assert str(server.data) in lines[0]
    assert server.stop() == 0
    begun = len(server.said())
    server.start()
    assert "Other users" not in server.said()[begun:]

"""Clean-up that the kernel refused is done while the server runs; injected into a real server by strace."""

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.missing import not_allowed
from tests.support.server import Server, form, post, reset
from tests.support.waiting import wait_until

Make = Callable[..., Server]
HALF = bytes(600_000)

pytestmark = [
    pytest.mark.fresh,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]


@contextlib.contextmanager
def injected(server: Server, *injections: str) -> Iterator[None]:
    """While some of a server's system calls fail, each `CALLS:error=CODE`."""
    pid = server.process.pid
    calls = ",".join(injection.partition(":")[0] for injection in injections)
    rules = [argument for injection in injections for argument in ("-e", f"inject={injection}")]
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(pid), "-e", f"trace={calls}", *rules],
        stderr=subprocess.PIPE,
        text=True,
    )
    with tracer:
        try:
            wait_until(lambda: tracer.poll() is not None or _is_traced(pid))
            if tracer.poll() is not None:
                not_allowed(f"This process may not trace another: {tracer.communicate()[1]}")
            yield
        finally:
            if tracer.poll() is None:
                tracer.send_signal(signal.SIGINT)
            tracer.communicate()


def _is_traced(pid: int) -> bool:
    threads = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return all("TracerPid:\t0\n" not in status for status in threads)


def test_clean_up_that_the_disk_refused_is_done_while_the_server_runs(make_server: Make) -> None:
    """The half file cannot be removed, and the ledger cannot record that it will not come."""
    server = make_server().start()
    body = form([("whole", b"1"), ("half", HALF)])[:-100]
    with server.connect() as upload:
        upload.sendall(post(server, 1_000_000) + body)
        wait_until(lambda: [event for event in server.events() if event["subject"]["name"] == "half"])
        (submission,) = server.get("/submissions?limit=1")["items"]
        wait_until(lambda: len(server.arriving()) == 1)
        with injected(server, "unlink,unlinkat:error=EIO", "pwrite64:error=ENOSPC"):
            reset(upload)
            wait_until(lambda: "could not be removed and is tried again" in server.said())
            assert len(server.arriving()) == 1
            assert server.get(f"/submissions/{submission['id']}")["counts"]["receiving"] == 1
    wait_until(lambda: not server.arriving())
    settled = server.settled(submission["id"])
    assert [(file["name"], file["state"]) for file in settled["files"]] == [("whole", "stored"), ("half", "aborted")]
    assert server.stop() == 0


def test_a_work_folder_that_the_disk_refused_to_remove_goes_while_the_server_runs(make_server: Make) -> None:
    server = make_server("--processor", "fills:process")
    (server.folder / "fills.py").write_text("def process(path, work):\n    (work / 'left').touch()\n")
    server.start()
    attempts = server.data / "attempts"
    with injected(server, "unlink,unlinkat:error=EIO"):
        submission = server.settled(server.send(("a.txt", b"1"))["id"])
        wait_until(lambda: "could not be removed and is tried again" in server.said())
        assert len(list(attempts.iterdir())) == 1
    assert submission["counts"]["succeeded"] == 1
    wait_until(lambda: not list(attempts.iterdir()))
    assert server.stop() == 0

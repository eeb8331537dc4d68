"""A real server keeps its secrets from the scripts that it runs, as far as one user can."""

import os
from collections.abc import Callable

import pytest
from tests.support.server import Server

pytestmark = pytest.mark.fresh

SECRET = "f3a1-not-for-scripts"

# Looks into every process that it may, and says what it was given itself.
SPY = """
import ctypes, os

PR_GET_DUMPABLE = 3

def process(path):
    found, readable = [], []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                data = file.read()
            with open(f"/proc/{pid}/cmdline") as file:
                command = file.read().replace(chr(0), " ")
        except OSError:
            continue
        readable.append(int(pid))
        if open("secret.txt", "rb").read() in data:
            found.append(command)
    return {
        "found": found,
        "reads_its_slot": os.getppid() in readable,
        "is_dumpable": ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1,
        "names": sorted(os.environ),
    }
"""


@pytest.fixture
def make_scripted(make_server: Callable[..., Server]) -> Callable[..., Server]:
    """Makes servers that run the spy, without the capabilities by which root reads every process."""
    prefix = ("setpriv", "--bounding-set=-all") if os.geteuid() == 0 else ()

    def make(*flags: str, **environment: str) -> Server:
        made = make_server("--processor", "spy:process", *flags, environment=environment, prefix=prefix)
        (made.folder / "spy.py").write_text(SPY.replace('"secret.txt"', repr(str(made.folder / "secret.txt"))))
        (made.folder / "secret.txt").write_text(SECRET)
        return made

    return make


def spied(server: Server) -> dict[str, object]:
    """What the spy returns."""
    job = server.settled(server.send(("a.txt", b"a"))["id"])["files"][0]["job"]
    assert job["state"] == "succeeded", job
    value: dict[str, object] = job["value"]
    return value


def test_no_script_finds_a_secret_of_the_server_in_any_process(make_scripted: Callable[..., Server]) -> None:
    """Not in its own environment, its slot's, the server's or those of the server's other children."""
    server = make_scripted(
        "--on-settled", "http://127.0.0.1:9/", DROPMILL_WEBHOOK_SECRET=SECRET, MY_SECRET=SECRET, PGPASSWORD=SECRET
    ).start()
    value = spied(server)
    assert value["found"] == []
    assert value["reads_its_slot"] is True  # so it would have found it there
    assert value["is_dumpable"] is True  # a script can be traced as ever
    said = server.said()
    assert "DROPMILL_WEBHOOK_SECRET came in the environment" in said
    assert "DROPMILL_WEBHOOK_SECRET_FILE" in said
    assert "Scripts do not get these variables: MY_SECRET, PGPASSWORD." in said
    assert SECRET not in said


def test_a_clean_environment_is_said_once(make_scripted: Callable[..., Server]) -> None:
    """Scripts get the contract's list, what is passed on, and the variables of their job."""
    server = make_scripted("--env", "clean", "--pass-env", "EDITOR", EDITOR="vi", PAGER="less", LC_TIME="C").start()
    names = spied(server)["names"]
    assert isinstance(names, list)
    others = {name for name in names if not name.startswith("DROPMILL_JOB_")}
    assert {"PATH", "EDITOR", "LC_TIME"} <= others
    assert others <= {"PATH", "HOME", "LANG", "LC_TIME", "LC_CTYPE", "TZ", "TMPDIR", "EDITOR", "PYTHONUNBUFFERED"}
    lines = [line for line in server.said().splitlines() if "Scripts do not get" in line]
    assert len(lines) == 1
    assert "PAGER" in lines[0]
    assert "EDITOR" not in lines[0]


def test_a_secret_from_a_file_needs_no_line(make_scripted: Callable[..., Server]) -> None:
    """The server starts with it and says nothing."""
    server = make_scripted("--on-settled", "http://127.0.0.1:9/")
    server = make_scripted(
        "--on-settled", "http://127.0.0.1:9/", DROPMILL_WEBHOOK_SECRET_FILE=str(server.folder / "secret.txt")
    ).start()
    assert "came in the environment" not in server.said()
    assert "not signed" not in server.said()

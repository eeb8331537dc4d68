"""What `preloaded` starts is to its test what a new interpreter would be."""

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support import preloaded
from tests.support.preloaded import DROPMILL, DropmillProcess
from tests.support.server import Server, clean_environment
from tests.support.waiting import wait_until

STATUS = ("PPid", "Umask", "SigBlk", "SigIgn", "SigCgt", "NoNewPrivs", "CapEff")


@pytest.fixture(autouse=True)
def _can_fork() -> None:
    if preloaded.is_off or preloaded._preloaded() is None:
        pytest.skip("nothing is preloaded: --fresh, coverage, or another system than Linux")


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def descriptors(server: Server) -> Counter[str]:
    """What the server has open, by kind or by path in its folder."""
    found = [os.readlink(path) for path in Path(f"/proc/{server.process.pid}/fd").iterdir()]
    return Counter(
        name.removeprefix(str(server.folder)).partition("[" if "anon" not in name else "\0")[0] for name in found
    )


def seen(server: Server) -> dict[str, Any]:
    pid = server.process.pid
    status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "status": [status[name] for name in STATUS],
        "leads": (os.getsid(pid) == pid, os.getpgid(pid) == pid),
        "folder": Path(f"/proc/{pid}/cwd").readlink() == server.folder,
        "streams": [os.readlink(f"/proc/{pid}/fd/{n}").removeprefix(str(server.folder)) for n in range(3)],
        "limits": Path(f"/proc/{pid}/limits").read_text(),
        "said": server.said().replace(server.url, "URL"),
    }


def test_a_preloaded_server_is_seen_as_a_fresh_one_is(make_server: Callable[..., Server]) -> None:
    ours, fresh = make_server().start(), make_server(is_fresh=True).start()
    assert b"tests.support.preloaded" in command_line(ours.process.pid)
    assert b"tests.support.preloaded" not in command_line(fresh.process.pid)
    assert seen(ours) == seen(fresh)
    wait_until(lambda: descriptors(ours) == descriptors(fresh))
    assert [server.stop() for server in (ours, fresh)] == [0, 0]
    assert ours.said().replace(ours.url, "URL") == fresh.said().replace(fresh.url, "URL")


def test_a_kill_is_the_exit_code(make_server: Callable[..., Server]) -> None:
    server = make_server().start()
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (["--version"], {}),
        (["send", "--help"], {}),
        (["config", "check", "-"], {}),
        (["config", "check", "not there"], {}),
        (["serve"], {"DROPMILL_BIND": "nonsense"}),
        (["serve", "--nonsense"], {"DROPMILL_TOKEN": "\udce9"}),
    ],
)
def test_a_preloaded_command_says_and_returns_what_a_fresh_one_does(
    tmp_path: Path, words: list[str], environment: dict[str, str]
) -> None:
    said = []
    for start in (DropmillProcess[str], subprocess.Popen[str]):
        with start(
            [*DROPMILL, *words],
            cwd=tmp_path,
            env=clean_environment(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            said.append((*process.communicate("a: 1\n"), process.returncode))
    assert said[0] == said[1]
    assert "".join(said[0][:2])


@pytest.mark.parametrize(("name", "is_fresh"), [("DROPMILL_TOKEN", False), ("LC_ALL", True), ("PYTHONWARNINGS", True)])
def test_a_variable_that_may_change_what_is_imported_needs_a_fresh_process(name: str, is_fresh: bool) -> None:
    environment = clean_environment({name: "C.UTF-8" if name == "LC_ALL" else "ignore"})
    command = [*DROPMILL, "config", "check", "-"]
    with DropmillProcess[bytes](command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert (b"tests.support.preloaded" not in command_line(process.pid)) == is_fresh  # it waits for its input
        assert process.communicate(b"a: 1\n")[0]

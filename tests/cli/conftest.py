"""The command line is tested against real servers."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.preloaded import DROPMILL, DropmillProcess
from tests.support.server import Dropmill, clean_environment


@pytest.fixture
def dropmill(tmp_path: Path) -> Iterator[Dropmill]:
    """Starts `dropmill` with some words, its cache in the test's folder, what it says in pipes; see `preloaded`."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str | Path, **environment: str) -> "subprocess.Popen[str]":
        around = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "NO_PROXY": "*", "TZ": "UTC", **environment}
        started.append(
            DropmillProcess(
                [*DROPMILL, *map(str, words)],
                cwd=tmp_path,
                env=clean_environment(around),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run(dropmill: Dropmill) -> Callable[..., Any]:
    """Runs `dropmill` to its end: exit code, standard output, standard error."""

    def ended(*words: str | Path, **environment: str) -> tuple[int, str, str]:
        process = dropmill(*words, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    return ended


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs in the test's own process goes to loopback directly too."""
    monkeypatch.setenv("NO_PROXY", "*")
    for name in list(os.environ):
        if name.startswith("DROPMILL_"):
            monkeypatch.delenv(name)

"""A slot alone, spoken to as the pool does, on any Python: no server, no event loop, no ledger."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import dropmill
from dropmill.model.uploads import FileIdentity

SOURCES = Path(dropmill.__file__).parents[1]
PATIENCE_S = 60.0
VERSIONS = ("3.11", "3.12", "3.13")  # as pyproject.toml says


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How one run ended. `reports` are lines of the report pipe, without progress."""

    exit_code: int
    output: str
    results: Mapping[str, bytes]
    reports: tuple[str, ...] = ()


def interpreters() -> dict[str, str]:
    """The supported Pythons that are installed here, by version: this one, and those in PATH or beside it."""
    beside = [str(path) for path in sorted(Path(sys.base_prefix).parent.glob("*/bin/python3"))]
    found = {f"{sys.version_info.major}.{sys.version_info.minor}": sys.executable}
    for candidate in [*(shutil.which(f"python{version}") for version in VERSIONS), *beside]:
        if candidate is not None:
            code = "import sys; print('%d.%d' % sys.version_info[:2])"
            asked = subprocess.run([candidate, "-I", "-c", code], capture_output=True, text=True)
            if asked.returncode == 0 and (version := asked.stdout.strip()) in VERSIONS:
                found.setdefault(version, candidate)
    return found


class WarmSlot:
    """One slot process with `script:process` of a folder, for jobs one after the other."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        """Start it; `folder` holds `script.py` and takes each job's results."""
        self._folder = folder
        self._jobs = 0
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.settimeout(PATIENCE_S)
        with theirs, (folder / "slot.txt").open("wb") as said:
            self.process = subprocess.Popen(
                [python, "-P", "-m", "dropmill.slot", str(theirs.fileno()), "script:process"],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(SOURCES), "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        ready = json.loads(self.channel.recv(1 << 17))
        assert "ready" in ready, ready
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        try:
            self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.process.wait()

    def said(self) -> str:
        """What the slot itself has printed."""
        return (self._folder / "slot.txt").read_text()

    def begin(self, content: str) -> tuple[Path, int, int]:
        """Start a job on a file with this content; its folder, and the read ends of its output and its reports."""
        self._jobs += 1
        folder = self._folder / f"job{self._jobs}"
        for path in (folder, folder / "work", folder / "results"):
            path.mkdir()
        (folder / "file.txt").write_text(content)
        identity = list(FileIdentity.of((folder / "file.txt").lstat()))
        order: dict[str, Any] = {
            "environment": {},
            "work": str(folder / "work"),
            "results": str(folder / "results"),
            "folders": [],  # they stay, for the results to be read
            "makes_folders": False,
            "input": {"path": str(folder / "file.txt"), "identity": identity},
            "file": {"path": str(folder / "file.txt")},
            "groups": [],
            "limits": {"memory": None, "max_write": None, "cpu_time": None},
        }
        (output, output_end), (report, report_end) = os.pipe(), os.pipe()
        socket.send_fds(self.channel, [json.dumps({"run": order}).encode()], [output_end, report_end])
        os.close(output_end)
        os.close(report_end)
        return folder, output, report

    def run(self, content: str) -> Ended:
        """One job to its end, on a file with this content."""
        folder, output, report = self.begin(content)
        with open(output, encoding="utf-8") as printed, open(report, encoding="utf-8") as reports:
            text = printed.read()
            ended = json.loads(self.channel.recv(1 << 17))
            lines = reports.read().splitlines()
        return Ended(
            exit_code=ended["ended"],
            output=text,
            results=contents(folder / "results"),
            reports=tuple(line for line in lines if not line.startswith("p")),
        )


def run_script(folder: Path, content: str, python: str = sys.executable) -> Ended:
    """What `python script.py` itself does with a file of this content."""
    results = folder / "results"
    results.mkdir(parents=True)
    (folder / "work").mkdir()
    (folder / "file.txt").write_text(content)
    done = subprocess.run(
        [python, folder.parent / "script.py", folder / "file.txt", results],
        cwd=folder / "work",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        timeout=PATIENCE_S,
    )
    return Ended(exit_code=done.returncode, output=done.stdout.decode(), results=contents(results))


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}

"""Where the figures come from: the machine and the versions."""

import json
import os
import platform
import re
import sqlite3
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.peers.environment import which

PEERS = Path(__file__).parent / "peers"
PACKAGES = ("dropmill", "quart", "hypercorn", "uvloop", "aiofiles", "multipart", "sqlalchemy")


def describe_machine(folder: Path) -> str:
    """A few lines for the top of the output; `folder` is where the files are written."""
    cores = len(os.sched_getaffinity(0))
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return "\n".join(
        [
            f"# Dropmill benchmarks, {datetime.now(UTC):%Y-%m-%d}",
            "",
            f"{cores} cores ({_processor()}), {memory_gib:.0f} GiB, load {os.getloadavg()[0]:.1f} at the start; "
            f"{platform.system()} {platform.release()}, {_file_system(folder)}",
            f"{platform.python_implementation()} {platform.python_version()}; {packages}, "
            f"SQLite {sqlite3.sqlite_version}",
            f"Beside it: {', '.join(_peers())}",
        ]
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree
        return "(not installed)"


def _peers() -> list[str]:
    """The other servers and what runs them, with their versions."""
    lines = (PEERS / "requirements.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    packages = json.loads((PEERS / "servers" / "package.json").read_text())["dependencies"]
    found = [f"{name} {pinned[name]}" for name in ("aiohttp", "starlette", "uvicorn", "copyparty", "celery")]
    found.append(f"@tus/server {packages['@tus/server']}")
    for name, flag in {"nginx": "-v", "node": "--version", "redis-server": "--version", "gcc": "-dumpversion"}.items():
        if (path := which(name)) is not None:
            said = subprocess.run([path, flag], capture_output=True, text=True, check=False)
            number = re.search(r"\d+(?:\.\d+)+|\d+", said.stdout + said.stderr)
            found.append(f"{name} {number[0]}" if number else name)
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    """The type of the file system that a folder lies in."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    around = [(len(mount[1]), mount[2]) for mount in mounts if folder.is_relative_to(mount[1])]
    return max(around)[1] if around else "unknown file system"

"""What the peers run in: a Python environment, node's packages, a compiled program; made once in `benchmarks/out`."""

import functools
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
OUT = HERE.parent / "out"
SERVERS = HERE / "servers"
PATIENCE_S = 300.0


class Missing(Exception):
    """A peer cannot run here; says what it lacks."""


@functools.cache
def python() -> Path:
    """The interpreter that has the Python peers.

    Raises:
        Missing: they could not be installed.
    """
    folder = OUT / "python"
    wanted = HERE / "requirements.txt"
    installed = folder / "installed.txt"
    interpreter = folder / "bin" / "python"
    if not installed.exists() or installed.read_text() != wanted.read_text():
        venv.create(folder, clear=True, with_pip=True)
        _run(interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted)
        shutil.copy(wanted, installed)
    return interpreter


@functools.cache
def node_server() -> tuple[str, Path]:
    """node, and the tus server beside its packages.

    Raises:
        Missing: there is no node, or the packages could not be installed.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Missing("node and npm are not installed")
    folder = OUT / "node"
    wanted = SERVERS / "package.json"
    installed = folder / "installed.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not installed.exists() or installed.read_text() != wanted.read_text():
        shutil.copy(wanted, folder)
        _run(npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder)
        shutil.copy(wanted, installed)
    return node, Path(shutil.copy(SERVERS / "tus_server.mjs", folder))


@functools.cache
def receiver() -> Path:
    """The C receiver, compiled.

    Raises:
        Missing: there is no compiler.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise Missing("gcc is not installed")
    OUT.mkdir(exist_ok=True)
    _run(compiler, "-O2", "-D_GNU_SOURCE", "-pthread", "-o", OUT / "receiver", SERVERS / "receiver.c")
    return OUT / "receiver"


def _run(*words: str | Path) -> None:
    try:
        subprocess.run(words, check=True, timeout=PATIENCE_S, stdout=sys.stderr)
    except (OSError, subprocess.SubprocessError) as error:
        raise Missing(f"{Path(words[0]).name} failed: {error}".splitlines()[0]) from None

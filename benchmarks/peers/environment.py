"""What the peers run in: a Python environment, node's packages, a compiled program; made once in `benchmarks/out`."""

import functools
import os
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
    return _compiled("receiver", "-pthread", "receiver.c")


@functools.cache
def slow_disk() -> Path:
    """A library that, preloaded, makes writes to some files slow.

    Raises:
        Missing: there is no compiler.
    """
    return _compiled("slow_disk.so", "-shared", "-fPIC", "slow_disk.c", "-ldl")


def _compiled(name: str, *words: str) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise Missing("gcc is not installed")
    OUT.mkdir(exist_ok=True)
    _run(
        compiler,
        *("-O2", "-D_GNU_SOURCE", "-o", OUT / name),
        *(SERVERS / word if word.endswith(".c") else word for word in words),
    )
    return OUT / name


def which(name: str) -> str | None:
    """The path of a program of this machine, also where only an administrator looks for it; None if there is none."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def installed(name: str) -> str:
    """The path of a program that the machine must have.

    Raises:
        Missing: it is not installed.
    """
    found = which(name)
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def certificate(folder: Path) -> tuple[str, str]:
    """A certificate for 127.0.0.1 that nobody trusts, and its key; made once in `folder`.

    Raises:
        Missing: openssl is not installed or failed.
    """
    made, key = folder / "certificate.pem", folder / "key.pem"
    if not made.exists():
        words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
        _run(installed("openssl"), *words, *names, "-keyout", key, "-out", made)
    return str(made), str(key)


def _run(*words: str | Path) -> None:
    try:
        subprocess.run(words, check=True, timeout=PATIENCE_S, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines() or [f"exit code {error.returncode}"]
        raise Missing(f"{Path(words[0]).name} failed: {said[-1]}") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise Missing(f"{Path(words[0]).name} failed: {error}".splitlines()[0]) from None


def main() -> None:
    """Have everything made before the measurements, and say what cannot be."""
    for made in (python, node_server, receiver, slow_disk):
        try:
            made()
        except Missing as error:
            print(f"Some measurements are left out: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()

"""What is built from this tree works where it is installed: sdist, wheel and editable, each in its own environment.

The environments are fresh, but see the packages of the one that runs the tests: what is asked is whether Dropmill
brings all of its own along, not whether its requirements can be fetched.
"""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dropmill import __version__

ROOT = Path(__file__).parents[2]
SHIPPED = ("templates", "static", "config.yaml")

LOOK = """
import json, pathlib
import dropmill
from dropmill import assets

def files(path):
    found = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return {one.relative_to(path).as_posix(): one.read_text("utf-8", "surrogateescape") for one in found}

print(json.dumps({
    "package": str(pathlib.Path(dropmill.__file__).parent),
    "templates": files(assets.templates()),
    "static": files(assets.static()),
    "config.yaml": files(assets.default_config()),
}))
"""


def run(*words: str | Path) -> str:
    """What a program prints; a test fails with all that it said if it fails."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "DROPMILL_"))}
    ended = subprocess.run(words, cwd="/", env=clean, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, f"{words}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def in_tree(name: str) -> dict[str, str]:
    """The files of the tree that must be shipped, with their text."""
    path = ROOT / name
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return {one.relative_to(path).as_posix(): one.read_text("utf-8", "surrogateescape") for one in files}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sdist, and a wheel that was built from it rather than from the tree."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., Path]:
    """Installs what pip is told to into a fresh environment; gives the environment's `bin`."""

    def installed(*what: str | Path) -> Path:
        venv.create(tmp_path / "venv", with_pip=False)
        binaries = tmp_path / "venv" / "bin"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        # Folders named in a .pth are searched, but their own .pth files are not read: an editable Dropmill of the
        # environment that runs the tests is not seen.
        others = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        (tmp_path / "venv" / "lib" / version / "site-packages" / "others.pth").write_text("\n".join(sorted(others)))
        pip = (sys.executable, "-m", "pip", "--python", binaries / "python", "--disable-pip-version-check")
        run(*pip, "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed", *what)
        return binaries

    return installed


def look(binaries: Path) -> dict[str, Any]:
    assert run(binaries / "dropmill", "--version").split()[-1] == __version__
    found: dict[str, Any] = json.loads(run(binaries / "python", "-c", LOOK))
    return found


@pytest.mark.parametrize("pattern", ["*.whl", "*.tar.gz"])
def test_what_is_built_carries_all_it_needs(dist: Path, install: Callable[..., Path], pattern: str) -> None:
    (built,) = dist.glob(pattern)
    binaries = install(built)
    found = look(binaries)
    assert Path(found["package"]).is_relative_to(binaries.parent)
    for name in SHIPPED:
        assert found[name] == in_tree(name)
        assert found[name], name


def test_an_editable_installation_finds_the_tree(install: Callable[..., Path]) -> None:
    found = look(install("--editable", ROOT))
    assert Path(found["package"]) == ROOT / "src" / "dropmill"
    for name in SHIPPED:
        assert found[name] == in_tree(name)


def test_the_wheel_holds_the_package_its_types_and_its_licence_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"dropmill", f"dropmill-{__version__}.dist-info"}
    assert "dropmill/py.typed" in names
    assert f"dropmill-{__version__}.dist-info/licenses/LICENSE" in names
    sources = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    assert sources <= set(names)
    assert not [name for name in names if "__pycache__" in name]


def test_the_sdist_holds_what_is_needed_to_test_it(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "Makefile",
        "requirements-dev.txt",
        "PKG-INFO",
    } <= names
    assert "tests/packaging/test_packaging.py" in names
    assert not [name for name in names if name.startswith((".venv", "data/"))]

"""What is built for browsers is what the sources and the lock say, whole, and with its licences."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support.missing import missing

from dropmill.web.static_files import StaticFiles

ROOT = Path(__file__).parents[2]
FRONTEND = ROOT / "frontend"
VENDOR = ROOT / "static" / "vendor"


def test_every_vendored_file_has_the_sha256_that_is_listed() -> None:
    lines = (VENDOR / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir()}
    del found["SHA256SUMS"]
    assert found == listed


def test_every_bundle_is_vendored_and_nothing_else() -> None:
    bundles = {path.name for path in (FRONTEND / "bundles").iterdir()}
    assert {path.name for path in VENDOR.glob("*.js")} == bundles
    assert bundles


def test_the_lock_pins_every_package_by_hash_and_names_no_registry() -> None:
    lock = (FRONTEND / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    packages = re.findall(r'^    "node_modules/', lock, re.MULTILINE)
    assert len(re.findall(r'"integrity": "sha512-', lock)) == len(packages) > 0


@pytest.mark.parametrize("name", ["vendor", "dist"])
def test_a_rebuild_gives_the_same_bytes(tmp_path: Path, name: str) -> None:
    node = shutil.which("node")
    if node is None or not (FRONTEND / "node_modules" / "esbuild").exists():
        missing("There are no front-end packages to rebuild static/ from; run: make test-setup (needs npm)")
    subprocess.run([node, FRONTEND / "build.js", tmp_path], check=True, timeout=60)
    built = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
    assert built == {path.name: path.read_bytes() for path in (ROOT / "static" / name).iterdir()}, "run: make assets"


def test_pages_use_what_was_built() -> None:
    """They would use the sources if one of these had changed since."""
    assert not StaticFiles(ROOT / "static", from_sources=False).are_sources, "run: make assets"

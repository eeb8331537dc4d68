"""The pinned requirements: complete, hashed, and without a word on where packages come from."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXPORTS = ("requirements.txt", "requirements-build.txt", "requirements-dev.txt")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(name: str) -> dict[str, str]:
    """Each pinned package of an export with all of its block."""
    text = (ROOT / name).read_text()
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    return {block.partition("==")[0]: block for block in blocks}


def names(requirements: list[Any]) -> set[str]:
    found = (re.match(r"[A-Za-z0-9._-]+", one) for one in requirements if isinstance(one, str))
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in found if match}


@pytest.mark.parametrize("name", EXPORTS)
def test_every_package_is_pinned_with_hashes(name: str) -> None:
    assert pins(name)
    for package, block in pins(name).items():
        assert re.match(r"[a-z0-9-]+==\S+ (; .+ )?\\\n", block), package
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), package


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("requirements.txt", PROJECT["project"]["dependencies"]),
        ("requirements-build.txt", PROJECT["build-system"]["requires"]),
        ("requirements-dev.txt", PROJECT["dependency-groups"]["dev"]),
        ("requirements-dev.txt", PROJECT["project"]["dependencies"]),
    ],
)
def test_what_the_project_asks_for_is_pinned(name: str, wanted: list[Any]) -> None:
    assert names(wanted) <= set(pins(name))


def test_what_runs_in_tests_is_what_people_install() -> None:
    for name in ("requirements.txt", "requirements-build.txt"):
        for package, block in pins(name).items():
            assert pins("requirements-dev.txt")[package].split()[0] == block.split()[0]


@pytest.mark.parametrize("name", ["uv.lock", *EXPORTS])
def test_no_address_is_named(name: str) -> None:
    """Each machine's own pip says where packages come from; what is committed works behind any mirror."""
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-(-index|-extra|-find|i|f)", text, flags=re.MULTILINE)

"""Servers to be hurt, and a look at whether they still answer meanwhile."""

import random
import shutil
from collections.abc import Iterator

import pytest
from tests.support.missing import missing
from tests.system.faults.killed_saves import Saver


@pytest.fixture
def chance() -> random.Random:
    """Random numbers; the seed is printed, and shown if the test fails."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def strace() -> None:
    """It is there; without it the test is skipped with the line to run, but never in CI."""
    if shutil.which("strace") is None:
        missing("There is no strace; run: apt-get install -y strace (or: make test-setup)")


@pytest.fixture
def saver() -> Iterator[Saver]:
    made = Saver()
    try:
        yield made
    finally:
        made.end()

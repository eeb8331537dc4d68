"""What a test needs and the machine lacks."""

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip the test; in CI, where `make test-setup` has installed everything, fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)  # on a laptop that lacks the program


def not_allowed(reason: str) -> NoReturn:
    """Skip the test, in CI too: a container may forbid tracing or control groups, and no package changes that."""
    pytest.skip(reason)  # what it needs is a right, not a program

"""Servers to talk to, ended whatever becomes of the test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.server import Server


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers in folders of their own; they are not started yet."""
    made: list[Server] = []

    def make(*flags: str, **options: Any) -> Server:
        made.append(Server(tmp_path / f"server-{len(made)}", *flags, **options))
        return made[-1]

    yield make
    for server in made:
        server.end()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One started server, shared by a module's tests: each makes what it looks at."""
    running = Server(tmp_path_factory.mktemp("server"))
    try:
        yield running.start()
    finally:
        running.end()

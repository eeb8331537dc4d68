"""A cluster for each test, on the session's Postgres."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cluster import Cluster
from tests.support.postgres import Postgres


@pytest.fixture
def cluster(tmp_path: Path, postgres: Postgres) -> Iterator[Cluster]:
    """No server and no worker yet."""
    made = Cluster(tmp_path, postgres)
    yield made
    made.end()

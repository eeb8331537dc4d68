"""A cluster for each test, on the session's Postgres."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cluster import LEASE_S, Cluster
from tests.support.postgres import Postgres


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres) -> Iterator[Cluster]:
    """No server and no worker yet. Its parameter is the lease in seconds."""
    made = Cluster(tmp_path, postgres, getattr(request, "param", LEASE_S))
    yield made
    made.end()

"""Real ports on a folder of the test's own."""

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import preloaded, scenarios
from tests.support.clocks import WallClock
from tests.support.postgres import Postgres, running
from tests.support.server import Server

from dropmill.engines.disk.store import DiskBlobStore
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger

# A shell ignores it for what it runs in the background, and whatever the tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--full`: fault tests in full size, some minutes. `--fresh`: nothing starts from the preloaded process."""
    parser.addoption("--full", action="store_true", help="run the fault tests in full size, and clients in Go and Java")
    parser.addoption("--fresh", action="store_true", help="start each server and command in a new interpreter")


def pytest_configure(config: pytest.Config) -> None:
    """The marker and the flag that say what starts in a new interpreter; all else see `tests.support.preloaded`."""
    what = "servers of `make_server`, and of `server` if the module has the marker, start in a new interpreter"
    config.addinivalue_line("markers", f"fresh: {what}")
    preloaded.is_off = config.getoption("--fresh")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests that take seconds come first, so that no process is left with one of them at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/system/"))


@pytest.fixture
def is_full(request: pytest.FixtureRequest) -> bool:
    """Whether everything is to be done in full size."""
    return bool(request.config.getoption("--full"))


@pytest.fixture
def bus() -> LocalBus:
    """The bus to which `ledger` publishes its commits."""
    return LocalBus()


@pytest.fixture
async def ledger(tmp_path: Path, bus: LocalBus) -> AsyncIterator[SqliteLedger]:
    """A ledger with a first config revision, so that jobs can be queued; its `config.saved` is the event 1."""
    opened = SqliteLedger(tmp_path / "ledger.sqlite", bus.publish)
    await opened.open()
    await opened.enter(scenarios.node())
    await opened.save_revision(b"a: 1\n", base=None, client=None, account=None, message=None)
    yield opened
    await opened.close()


@pytest.fixture
async def blobs(tmp_path: Path) -> AsyncIterator[DiskBlobStore]:
    """An empty blob store in the test's folder."""
    store = DiskBlobStore(tmp_path)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def wall_clock(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    """The wall clock, to be stepped."""
    return WallClock(monkeypatch)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A Postgres server for all tests of this process; a crash may cost it all it has."""
    with running() as server:
        yield server


def _is_fresh(request: pytest.FixtureRequest) -> bool:
    return request.node.get_closest_marker("fresh") is not None


@pytest.fixture
def make_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers in folders of their own; they are not started yet."""
    made: list[Server] = []
    is_fresh = _is_fresh(request)

    def make(*flags: str, **options: Any) -> Server:
        made.append(Server(tmp_path / f"server-{len(made)}", *flags, **{"is_fresh": is_fresh, **options}))
        return made[-1]

    yield make
    for server in made:
        server.end()


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One started server, shared by a module's tests: each makes what it looks at."""
    running = Server(tmp_path_factory.mktemp("server"), is_fresh=_is_fresh(request))
    try:
        yield running.start()
    finally:
        running.end()

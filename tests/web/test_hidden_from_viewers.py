"""What a viewer is not shown of the server: how it is set up, its config, and what is wrong with it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from quart import Quart
from tests.support import scenarios
from tests.support.all_routes import all_routes
from tests.support.callers import ADA, OPAL, ROOT, named, signed_in

from dropmill.access.policy import Policy
from dropmill.configfile.reconcile import ConfigProblem
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.caller import Caller
from dropmill.web.services import Services

__all__ = ["signed_in"]

HTML = {"Accept": "text/html"}
QUOTE = "line 3: password: hunter2"

Get = Callable[[str, Caller | None], Awaitable[str]]


@pytest.fixture
async def site(
    tmp_path: Path, ledger: SqliteLedger, bus: LocalBus, signed_in: None
) -> AsyncIterator[tuple[Quart, Services]]:
    """A server whose config file cannot be used."""
    async with all_routes(tmp_path, ledger, bus) as (app, found):
        found.config._file.problem = ConfigProblem(sha256=None, sentence=QUOTE)
        yield app, found


@pytest.fixture
def found(site: tuple[Quart, Services]) -> Services:
    return site[1]


@pytest.fixture
def get(site: tuple[Quart, Services]) -> Get:
    """Gets a page, or what probes read, as somebody."""
    app, _ = site

    async def get(path: str, caller: Caller | None) -> str:
        answer = await app.test_client().get(path, headers=HTML | named(caller))
        assert answer.status_code == 200, (path, answer.status_code)
        text: str = await answer.get_data(as_text=True)
        return text

    return get


async def test_the_first_page_names_the_script_to_operators_alone(get: Get) -> None:
    viewer, operator = await get("/", ADA), await get("/", OPAL)
    assert "<code>true</code>" in operator
    assert "<code>true</code>" not in viewer
    assert "The script runs on it" in viewer


async def test_every_page_leads_to_the_config_only_those_who_may_see_it(get: Get, found: Services) -> None:
    for path in ("/", "/history"):
        assert 'class="no-config"' in await get(path, ADA)
        assert 'class="no-config"' not in await get(path, OPAL)
    found.policy = Policy(is_config_readable=True)
    assert 'class="no-config"' not in await get("/", ADA)


async def test_what_is_wrong_with_the_config_file_is_told_to_operators_alone(get: Get, found: Services) -> None:
    """It quotes a line of the config: on pages, and to probes, which nobody signs in for."""
    for path in ("/", "/history", "/readyz"):
        assert QUOTE in await get(path, OPAL)
        assert QUOTE not in await get(path, ADA)
    assert QUOTE not in await get("/readyz", None)
    found.policy = Policy(is_config_readable=True)
    assert QUOTE not in await get("/", ADA)


async def test_the_page_of_a_job_tells_the_newest_config_to_those_who_may_see_it(
    get: Get, ledger: SqliteLedger
) -> None:
    job_id = await scenarios.settled(ledger, await scenarios.opened(ledger, owner=ADA.owner))
    newest = await ledger.newest_revision()
    assert newest is not None
    assert f'"newest": "{newest.sha256}"' in await get(f"/jobs/{job_id}", ROOT)
    assert '"newest": null' in await get(f"/jobs/{job_id}", ADA)


async def test_the_page_of_the_history_follows_what_its_reader_may_hear(get: Get) -> None:
    expected: dict[Caller, Any] = {ADA: ADA.owner, OPAL: "all", ROOT: "all"}
    for caller, topic in expected.items():
        assert f'"topic": "{topic}"' in await get("/history", caller)


def make_config_readable(found: Services) -> None:
    """As `--config-readable` does."""
    found.policy = found.topics._policy = Policy(is_config_readable=True)


async def test_who_may_read_the_config_but_not_change_it_gets_no_editor(get: Get, found: Services) -> None:
    for caller, has_editor in ((OPAL, False), (ROOT, True)):
        page = await get("/config", caller)
        assert ('data-part="save"' in page) is ('data-part="fields"' in page) is has_editor
        assert ('<p class="notice">You may read the config, but not change it' in page) is not has_editor
    make_config_readable(found)
    assert 'data-part="save"' not in await get("/config", ADA)


async def test_revisions_name_people_to_operators_alone(get: Get, found: Services, ledger: SqliteLedger) -> None:
    newest = await ledger.newest_revision()
    await ledger.save_revision(
        b"by: the admin\n",
        base=None if newest is None else newest.sha256,
        client=replace(scenarios.CLIENT, ip="10.77.0.7"),
        account="root-of-all",
        message=None,
    )
    make_config_readable(found)
    for caller, is_named in ((ADA, False), (OPAL, True)):
        for path in ("/api/v1/config/revisions", "/api/v1/events?topic=config&limit=1000", "/config"):
            text = await get(path, caller)
            assert ("10.77.0.7" in text) is is_named, path
            assert ("root-of-all" in text) is (is_named and path != "/config"), path

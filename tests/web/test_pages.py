"""What the pages give their scripts, without a server."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support import scenarios
from tests.support.services import services_of

from dropmill.app import create_app
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.settings import Settings
from dropmill.web.services import EXTENSION


async def page_data(folder: Path, ledger: SqliteLedger, bus: LocalBus, path: str, **settings: Any) -> Any:
    """The JSON in a page of a server with these settings."""
    app = create_app(Settings(data=folder, command=("true",), **settings), owns_sockets=True)
    found = services_of(folder, ledger, bus)
    found.settings = replace(found.settings, **settings)
    app.extensions[EXTENSION] = found
    answer = await app.test_client().get(path)
    text = await answer.get_data(as_text=True)
    assert answer.status_code == 200, text
    data = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    return json.loads(data[1])


@pytest.mark.parametrize("is_submission", [False, True])
async def test_a_page_that_takes_files_knows_the_rules_for_them(
    tmp_path: Path, ledger: SqliteLedger, bus: LocalBus, is_submission: bool
) -> None:
    path = f"/submissions/{await scenarios.opened(ledger)}" if is_submission else "/"
    none = await page_data(tmp_path, ledger, bus, path)
    assert none["limits"] == {"max_file_size": None, "max_files": None, "max_submission_size": None}
    assert (none["accept"], none["accept_extensions"]) == ([], [])
    limits = {"max_file_size": 2**20, "max_files": 3, "max_submission_size": 2**21}
    some = await page_data(tmp_path, ledger, bus, path, accept=(".csv", "application/pdf"), **limits)
    assert some["limits"] == limits
    assert (some["accept"], some["accept_extensions"]) == ([".csv", "application/pdf"], [".pdf"])


async def test_the_first_page_has_the_words_of_the_scripts_author(
    tmp_path: Path, ledger: SqliteLedger, bus: LocalBus
) -> None:
    none = await page_data(tmp_path, ledger, bus, "/")
    assert (none["title"], none["intro"]) == (None, None)
    words = {"title": "Make <thumbnails>", "intro": "JPEG & PNG up to 2 GiB."}
    assert words.items() <= (await page_data(tmp_path, ledger, bus, "/", **words)).items()

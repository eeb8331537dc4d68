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
from dropmill.model.caller import EVERY_SCOPE, Authentication, Caller, Role
from dropmill.model.client import ClientIdentity
from dropmill.settings import Settings
from dropmill.web import sign_in
from dropmill.web.services import EXTENSION

TEMPLATES = Path(__file__).parents[2] / "templates"


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


async def test_what_a_page_gives_its_scripts_ends_no_script(
    tmp_path: Path, ledger: SqliteLedger, bus: LocalBus
) -> None:
    """Foreign text lies in JSON inside HTML: it must end neither."""
    title = "</script><script>alert('1')</script><!-- & \u2028"
    assert (await page_data(tmp_path, ledger, bus, "/", title=title))["title"] == title


def test_fields_for_passwords_hide_what_is_typed_and_let_managers_fill_them_in() -> None:
    found = set()
    for path in sorted(TEMPLATES.glob("*.html")):
        for field in re.findall(r"<input[^>]*>", path.read_text()):
            name = re.search(r'(?:name|data-part)="(password|current|new|repeat)"', field)
            if name is None and 'type="password"' not in field:
                continue
            found.add((path.name, name and name[1]))
            assert 'type="password"' in field, (path, field)
            assert re.search(r'autocomplete="(current|new)-password"', field), (path, field)
            assert not re.search(r"onpaste|readonly|maxlength", field), (path, field)
    assert {name for name, _ in found} == {"account.html", "base.html", "link-enter.html", "sign-in.html"}
    for script in sorted((TEMPLATES.parent / "static" / "js").rglob("*.js")):
        text = script.read_text()
        assert not ("password" in text and re.search(r'addEventListener\("(paste|copy|cut)"', text)), script


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


async def page_of(
    folder: Path,
    ledger: SqliteLedger,
    bus: LocalBus,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    caller: Caller | None,
    **settings: Any,
) -> tuple[int, str, str | None]:
    """Status, text and `Location` of a page that this caller asks for; None: nobody has signed in."""
    app = create_app(Settings(data=folder, command=("true",), **settings), owns_sockets=True)
    found = services_of(folder, ledger, bus)
    found.settings = replace(found.settings, **settings)
    app.extensions[EXTENSION] = found

    async def find_caller(_connection: Any) -> Caller | None:
        return caller

    monkeypatch.setattr("dropmill.web.server.guard.find_caller", find_caller)
    answer = await app.test_client().get(path, headers={"Host": "localhost", "Accept": "text/html"})
    return answer.status_code, await answer.get_data(as_text=True), answer.headers.get("Location")


def signed_in(role: Role, authentication: Authentication = Authentication.SESSION) -> Caller:
    """Somebody who has signed in."""
    client = ClientIdentity(ip="127.0.0.1")
    return Caller(client=client, account="Ada", role=role, scopes=EVERY_SCOPE, authentication=authentication)


@pytest.mark.parametrize(
    ("wanted", "base", "path"),
    [
        ("/history?state=failed", "", "/history?state=failed"),
        ("/drop/jobs/j1", "/drop", "/drop/jobs/j1"),
        (None, "", "/"),
        ("", "/drop", "/drop/"),
        ("//other.example/", "", "/"),
        ("/\\other.example/", "", "/"),
        ("/\t/other.example/", "", "/"),
        ("/\r\nSet-Cookie: a=b", "", "/"),
        ("https://other.example/", "", "/"),
        ("javascript:alert(1)", "", "/"),
        ("other", "", "/"),
        ("/other", "/drop", "/drop/other"),
        ("/dropped", "/drop", "/drop/dropped"),
        ("//drop/other", "/drop", "/drop/"),
    ],
)
def test_a_sign_in_leads_to_an_address_of_this_site_alone(wanted: str | None, base: str, path: str) -> None:
    assert sign_in.local_path(wanted, base) == path


async def test_whoever_needs_no_sign_in_is_led_on(
    tmp_path: Path, ledger: SqliteLedger, bus: LocalBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    everyone = Caller.everyone(ClientIdentity(ip="127.0.0.1"))
    for caller in (everyone, signed_in(Role.VIEWER)):
        answer = await page_of(tmp_path, ledger, bus, monkeypatch, "/sign-in?next=%2Fhistory%3Fq%3Dabc", caller)
        assert (answer[0], answer[2]) == (303, "/history?q=abc")
    status, text, _ = await page_of(tmp_path, ledger, bus, monkeypatch, "/sign-in?next=%2Fhistory", None)
    assert status == 200
    assert '<form class="fields" data-part="form" method="post">' in text
    assert "account-menu" not in text
    assert "sign-in-again" not in text


async def test_the_menu_and_the_pages_of_accounts_are_for_whom_they_concern(
    tmp_path: Path, ledger: SqliteLedger, bus: LocalBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    everyone = Caller.everyone(ClientIdentity(ip="127.0.0.1"))
    by_header = signed_in(Role.ADMIN, Authentication.HEADER)
    found = {}
    for name, caller in {
        "open": everyone,
        "viewer": signed_in(Role.VIEWER),
        "admin": signed_in(Role.ADMIN),
        "by header": by_header,
    }.items():
        first = (await page_of(tmp_path, ledger, bus, monkeypatch, "/history", caller))[1]
        statuses = [
            (await page_of(tmp_path, ledger, bus, monkeypatch, path, caller))[0] for path in ("/account", "/people")
        ]
        parts = [part in first for part in ('id="account-menu"', 'href="/people"', 'id="sign-in-again"')]
        found[name] = (*statuses, *parts)
    assert found == {
        "open": (404, 404, False, False, False),
        "viewer": (200, 403, True, False, True),
        "admin": (200, 200, True, True, True),
        "by header": (200, 200, True, True, False),
    }


@pytest.mark.parametrize(
    ("auth", "bind", "is_said"),
    [("off", "0.0.0.0:8000", True), ("off", "127.0.0.1:8000", False), ("auto", "127.0.0.1:8000", False)],
)
async def test_a_server_that_is_open_to_others_says_so_on_every_page(
    tmp_path: Path,
    ledger: SqliteLedger,
    bus: LocalBus,
    monkeypatch: pytest.MonkeyPatch,
    auth: str,
    bind: str,
    is_said: bool,
) -> None:
    everyone = Caller.everyone(ClientIdentity(ip="127.0.0.1"))
    for path in ("/", "/history", "/nowhere"):
        text = (await page_of(tmp_path, ledger, bus, monkeypatch, path, everyone, auth=auth, bind=(bind,)))[1]
        assert ("--auth off" in text.partition("<main")[0]) is is_said

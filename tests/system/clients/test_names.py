"""26 hostile names through the clients that people use: right on API, page and in the log, and safe in the zip.

`names.py` says which client cannot carry which names, and why.
"""

import asyncio
import io
import json
import os
import re
import shutil
import subprocess
import unicodedata
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import httpx
import pytest
import requests
from playwright.sync_api import Browser, Page, expect
from tests.support.missing import missing
from tests.support.page_actions import Watched
from tests.support.server import Server, read_answer
from tests.support.waiting import wait_until
from tests.system.clients import dotnet
from tests.system.clients.names import CLIENTS, SHOWN
from tests.system.clients.record import RECORDED, as_lines, words_of

HERE = Path(__file__).parent
SCRIPT = """
def process(file, results):
    (results / "name.txt").write_text(ascii(file.name))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A started server whose script leaves each file's name as a result."""
    server = Server(tmp_path_factory.mktemp("site"), "--processor", "names:process")
    (server.folder / "names.py").write_text(SCRIPT)
    try:
        yield server.start()
    finally:
        server.end()


def require(tool: str) -> str:
    """A program; without it the test is skipped, but never in CI."""
    found = shutil.which(tool)
    if found is None:
        missing(f"{tool} is not installed; run: make test-setup")
    return found


# --- what is looked at -----------------------------------------------------------------------------------------------


class Looking:
    """Looks at what arrived, wherever a person or a program can read it."""

    def __init__(self, site: Server, page: Page) -> None:
        """Look by this page of a browser."""
        self._site = site
        self._page = page

    def at_one(self, submission_id: str, client: str) -> None:
        """Fail unless a submission has all that a client can carry, in order: on API, page and log, and in the zip."""
        paths = [CLIENTS[client].arrives(name) for name in CLIENTS[client].carried]
        self.behind({submission_id: paths})
        self._page.goto(f"/submissions/{submission_id}")
        rows = self._page.get_by_role("list", name="Files").locator(".row-name bdi")
        expect(rows).to_have_count(len(paths))
        assert rows.all_text_contents() == [shown(path) for path in paths]
        self._page.get_by_role("button", name="Show all").click()
        self._page.get_by_role("textbox", name="Filter the log").fill("sent")
        stored = self._page.get_by_role("log").locator("li:has([title='upload.stored']) [data-part=about]")
        expect(stored).to_have_count(len(paths))
        assert sorted(stored.all_inner_texts()) == sorted(shown(base_name(path)) for path in paths)

    def at_each(self, submission_ids: Sequence[str], client: str) -> None:
        """The same for a client that sends each file as a submission of its own.

        The page is the one for browsers without scripts; the tables of all are shown at once, because a load each
        would take longer than all other tests of this module.
        """
        paths = [CLIENTS[client].arrives(name) for name in CLIENTS[client].carried]
        self.behind({one: [path] for one, path in zip(submission_ids, paths, strict=True)})
        pages = [self._site.http.get(f"/submissions/{one}").text for one in submission_ids]
        sheets = re.findall(r'<link rel="stylesheet"[^>]*>', pages[0])
        tables = [table for page in pages for table in re.findall(r"<table>.*?</table>", page, re.DOTALL)]
        html = "".join(["<!doctype html><link rel=icon href=data:,>", *sheets, *tables])
        self._page.route(
            "**/test/names", lambda route: route.fulfill(content_type="text/html; charset=utf-8", body=html)
        )
        self._page.goto("/test/names")
        self._page.unroute("**/test/names")
        assert self._page.locator("td:first-child bdi").all_inner_texts() == [shown(path) for path in paths]

    def behind(self, paths_of: Mapping[str, Sequence[str]]) -> None:
        """Fail unless each submission has files of these paths on API and log, and in the zip."""
        for submission_id, paths in paths_of.items():
            files = self._site.settled(submission_id)["files"]
            assert [(file["path"], file["name"]) for file in files] == [(path, base_name(path)) for path in paths]
        begun = in_log(self._site, paths_of.keys())
        for submission_id, paths in paths_of.items():
            names = [base_name(path) for path in paths]
            assert begun[submission_id] == names
            in_zip(self._site.http.get(f"/api/v1/submissions/{submission_id}/results.zip").content, names)


@pytest.fixture(scope="module")
def page(chromium: Browser, site: Server) -> Iterator[Page]:
    """One page for all, which must not complain."""
    context = chromium.new_context(base_url=site.url)
    opened = context.new_page()
    watched = Watched(opened)
    yield opened
    context.close()
    assert watched.complaints == []


@pytest.fixture
def looking(site: Server, page: Page) -> Looking:
    """Looks at what arrived at the site."""
    return Looking(site, page)


def base_name(path: str) -> str:
    return path.rpartition("/")[2]


def shown(path: str) -> str:
    return SHOWN.get(path, path)


def in_log(site: Server, submission_ids: Collection[str]) -> Mapping[str, Sequence[str]]:
    """The names of each submission's files in the log file, which follows the ledger."""

    def lines() -> list[Any]:
        found = [line for line in site.log() if line["submission"] in submission_ids]
        settled = {line["submission"] for line in found if line["event"] == "submission.settled"}
        return found if settled == set(submission_ids) else []

    found = wait_until(lines)
    return {
        one: [line["name"] for line in found if line["submission"] == one and line["event"] == "upload.started"]
        for one in submission_ids
    }


def in_zip(content: bytes, names: Sequence[str]) -> None:
    """Each file has a folder of its own, whose name any system can make, and in which nothing acts."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.namelist()
        assert sorted(archive.read(entry).decode() for entry in entries) == sorted(map(ascii, names))
    assert len({entry.casefold() for entry in entries}) == len(names)
    for entry in entries:
        folder, slash, rest = entry.rpartition("/")
        assert (slash, rest) == ("/", "name.txt")
        assert folder
        assert not re.search(r'[\x00-\x1f\x7f<>:"\\|?*\u202a-\u202e]', folder), entry
        assert not {"", ".", ".."} & set(folder.split("/")), entry
        assert not folder.endswith((".", " ")), entry
        assert not re.match(r"(con|prn|aux|nul)(\.|$)", folder, re.IGNORECASE), entry


# --- Python ----------------------------------------------------------------------------------------------------------


def test_requests(site: Server, looking: Looking) -> None:
    names = CLIENTS["requests"].carried
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(f"{site.url}/api/v1/submissions", files=[("file", (name, b"x")) for name in names])
    assert answer.status_code == 201, answer.text
    looking.at_one(answer.json()["id"], "requests")


def test_httpx(site: Server, looking: Looking) -> None:
    """It writes every control character as %XX, which HTML knows for line ends only: the tab stays escaped."""
    names = CLIENTS["httpx"].carried
    with httpx.Client(trust_env=False, timeout=30) as client:
        answer = client.post(f"{site.url}/api/v1/submissions", files=[("file", (name, b"x")) for name in names])
    assert answer.status_code == 201, answer.text
    looking.at_one(answer.json()["id"], "httpx")


def by_aiohttp(site: Server, names: Sequence[str], *, is_quoting: bool) -> str:
    """In a thread of its own, because the browser's tests keep an event loop in this one."""

    async def send() -> str:
        form = aiohttp.FormData(quote_fields=is_quoting)
        for name in names:
            form.add_field("file", b"x", filename=name)
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{site.url}/api/v1/submissions", data=form) as answer,
        ):
            assert answer.status == 201, await answer.text()
            return str((await answer.json())["id"])

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(send())).result()


@pytest.mark.parametrize("client", ["aiohttp", "aiohttp, unquoted"])
def test_aiohttp(site: Server, looking: Looking, client: str) -> None:
    """By default it percent-encodes all of a name, as nobody else does: such a name is shown as it was sent."""
    looking.at_one(by_aiohttp(site, CLIENTS[client].carried, is_quoting=client == "aiohttp"), client)


@pytest.mark.parametrize("client", ["aiohttp", "aiohttp, unquoted"])
def test_aiohttp_itself_refuses_line_ends(site: Server, client: str) -> None:
    before = site.get("/submissions?limit=1")["items"]
    for name in CLIENTS[client].cannot:
        with pytest.raises(ValueError, match="header injection"):
            by_aiohttp(site, [name], is_quoting=client == "aiohttp")
    assert site.get("/submissions?limit=1")["items"] == before


# --- programs --------------------------------------------------------------------------------------------------------


def run(*words: str, given: str | None = None) -> Any:
    """What a program prints, which is JSON."""
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_undici(site: Server, looking: Looking) -> None:
    """Node's own fetch."""
    answer = run(require("node"), str(HERE / "form.mjs"), site.url, given=as_lines(CLIENTS["undici"].carried))
    looking.at_one(answer["id"], "undici")


def quoted(text: str) -> str:
    """A text as curl's -F takes it between quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def by_curl(site: Server, files: Sequence[str], *flags: str) -> Any:
    """What is answered to one form; each file as the text behind `file=@`."""
    words = [require("curl"), "-sS", "-H", "Accept: application/json", *flags]
    for file in files:
        words += ["-F", f"file=@{file}"]
    return run(*words, f"{site.url}/api/v1/submissions")


@pytest.mark.parametrize("client", ["curl -F", "curl -F --form-escape"])
def test_curl_form(site: Server, looking: Looking, tmp_path: Path, client: str) -> None:
    (tmp_path / "x").write_text("x")
    files = [f"{tmp_path}/x;filename={quoted(name)}" for name in CLIENTS[client].carried]
    looking.at_one(by_curl(site, files, *client.split()[2:])["id"], client)


def test_curl_form_with_a_line_end_is_refused_and_nothing_stored(site: Server, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    for name in CLIENTS["curl -F --form-escape"].cannot:
        require_malformed(by_curl(site, [f"{tmp_path}/x;filename={quoted(name)}"], "--form-escape"))


def require_malformed(answer: Any) -> None:
    assert (answer["status"], answer["code"]) == (400, "malformed_upload")
    assert (answer["kept"], answer["submission"]) == ([], None)


def on_disk(folder: Path, name: str) -> Path:
    """A file of this name; its folders are made, too."""
    path = folder / "one" / "two" / "three" / name.removeprefix("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    return path


def test_curl_form_of_files_on_disk(site: Server, looking: Looking, tmp_path: Path) -> None:
    client = "curl -F of a file on disk"
    answer = by_curl(site, [quoted(str(on_disk(tmp_path, name))) for name in CLIENTS[client].carried])
    looking.at_one(answer["id"], client)


def test_curl_form_of_a_file_in_a_folder_sends_the_last_part(site: Server, looking: Looking, tmp_path: Path) -> None:
    names = list(CLIENTS["curl -F of a file on disk"].cannot)
    answer = by_curl(site, [quoted(str(on_disk(tmp_path, name))) for name in names])
    looking.behind({answer["id"]: [base_name(name) for name in names]})


def test_curl_form_of_a_file_whose_name_is_not_utf_8(site: Server, looking: Looking, tmp_path: Path) -> None:
    """It keeps what can be read of its name, and its extension."""
    path = os.fsencode(tmp_path) + b"/r\xe9sum\xe9.pdf"
    with open(path, "wb") as file:
        file.write(b"x")
    words = [require("curl").encode(), b"-sS", b"-F", b"file=@" + path, f"{site.url}/api/v1/submissions".encode()]
    said = subprocess.run(words, capture_output=True, timeout=60, check=True).stdout
    looking.behind({json.loads(said)["id"]: ["r\ufffdsum\ufffd.pdf"]})


@pytest.mark.parametrize("client", ["curl -T", "curl --data-binary", "wget"])
def test_names_in_addresses(site: Server, looking: Looking, tmp_path: Path, client: str) -> None:
    """The name is the last part of the address, with everything percent-encoded that is not plain."""
    (path := tmp_path / "x").write_text("x")
    words = {
        "curl -T": [require("curl"), "-sS", "-T", str(path)],
        "curl --data-binary": [require("curl"), "-sS", "-X", "PUT", "--data-binary", f"@{path}"],
        "wget": [require("wget"), "-qO-", "--method=PUT", f"--body-file={path}"],
    }[client]
    sent = [run(*words, f"{site.url}/send/{quote(name, safe='')}")["id"] for name in CLIENTS[client].carried]
    looking.at_each(sent, client)


def test_curl_names_a_file_on_disk_in_the_address(site: Server, looking: Looking, tmp_path: Path) -> None:
    """`-g`, because curl takes brackets and braces of a local name for a pattern."""
    client = "curl -T of a file on disk"
    words = (require("curl"), "-sS", "-g", "-T")
    sent = [run(*words, str(on_disk(tmp_path, name)), f"{site.url}/send/")["id"] for name in CLIENTS[client].carried]
    looking.at_each(sent, client)
    for name in CLIENTS[client].cannot:
        answer = run(*words, str(on_disk(tmp_path, name)), f"{site.url}/send/")
        looking.behind({answer["id"]: [re.split(r"[/\\]", name)[-1]]})


# --- Go, Java, .NET --------------------------------------------------------------------------------------------------


def replayed(site: Server, recording: str) -> Any:
    """What is answered to a recorded request."""
    request = (RECORDED / f"{recording}.http").read_bytes()
    request = re.sub(rb"(?im)^Host: .*?\r$", b"Host: " + site.host.encode() + b"\r", request, count=1)
    with site.connect() as connection:
        connection.sendall(request)
        return json.loads(read_answer(connection)[2])


@pytest.mark.parametrize("client", ["go", "java-HttpURLConnection", "java-HttpClient", "dotnet", "powershell"])
def test_recorded(site: Server, looking: Looking, client: str) -> None:
    looking.at_one(replayed(site, client)["id"], client)


@pytest.mark.parametrize("client", ["go", "java-HttpURLConnection", "java-HttpClient"])
def test_for_real(site: Server, looking: Looking, client: str, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--full"):
        pytest.skip("Go and Java run under --full only; their recorded bytes are replayed always")
    require(client.partition("-")[0])
    answer = run(*words_of(client, site.url), given=as_lines(CLIENTS[client].carried))
    looking.at_one(answer["id"], client)


def test_what_go_makes_of_a_line_end_is_refused_and_nothing_stored(site: Server) -> None:
    require_malformed(replayed(site, "go-refused"))


def test_a_recording_is_what_its_rules_write() -> None:
    """The two that are written from documentation are not edited by hand, and what .NET refuses is not in them."""
    writers: dict[str, Callable[[Sequence[str]], bytes]] = {"dotnet": dotnet.dotnet, "powershell": dotnet.powershell}
    for client, write in writers.items():
        assert (RECORDED / f"{client}.http").read_bytes() == write(CLIENTS[client].carried)
        for name in CLIENTS[client].cannot:
            with pytest.raises(ValueError, match="invalid"):
                write([name])


# --- every character -------------------------------------------------------------------------------------------------


def test_every_character_that_hides_or_turns_text_is_shown(site: Server, page: Page) -> None:
    """By the page's script, and by the server for browsers without scripts, in the same way."""
    hidden = [chr(code) for code in range(1, 0x110000) if unicodedata.category(chr(code)) in ("Cc", "Cf", "Zl", "Zp")]
    answer = site.http.put(f"/send/{quote(''.join(hidden), safe='')}", content=b"x").json()
    expected = "".join(
        chr(0x2400 + ord(one)) if one < " " else "\u2421" if one == "\x7f" else f"\u27e8U+{ord(one):04X}\u27e9"
        for one in hidden
    )
    page.goto(f"/submissions/{answer['id']}")
    row = page.get_by_role("list", name="Files").locator(".row-name bdi")
    expect(row).to_have_text(expected)
    assert f"<bdi>{expected}</bdi>" in site.http.get(f"/submissions/{answer['id']}").text

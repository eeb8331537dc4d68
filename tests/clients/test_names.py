"""26 hostile names through the clients that people use: right on API, page and in the log, and safe in the zip."""

import asyncio
import io
import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import httpx
import pytest
import requests
from tests.clients.names import NAMES, as_form, without_line_ends
from tests.clients.record import NAMES_OF, RECORDED, as_lines, words_of
from tests.serving.server import Server, read_answer, until

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
        reason = f"{tool} is not installed; run: make test-setup"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


# --- what is looked at -----------------------------------------------------------------------------------------------


def check(site: Server, submission_id: str, names: Sequence[str]) -> None:
    """Fail unless a submission has files of these names (their last parts), wherever one can read them."""
    names = [name.rpartition("/")[2] or name for name in names]
    submission = site.settled(submission_id)
    assert [file["name"] for file in submission["files"]] == names
    page = site.http.get(f"/submissions/{submission_id}", headers={"Accept": "text/html"}).text
    assert [file["name"] for file in on_page(page)] == names
    assert in_log(site, submission_id) == names
    in_zip(site.http.get(f"/api/v1/submissions/{submission_id}/results.zip").content, names)


def on_page(page: str) -> Any:
    """The files that a submission's page shows, from the data it carries."""
    found = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    return next(value["files"] for value in [data, *data.values()] if isinstance(value, dict) and "files" in value)


def in_log(site: Server, submission_id: str) -> list[str]:
    """The names of a submission's stored files, in the log file; it follows the ledger."""

    def lines() -> list[Any]:
        return [line for line in site.log() if line["submission"] == submission_id]

    until(lambda: any(line["event"] == "submission.settled" for line in lines()))
    return [line["name"] for line in lines() if line["event"] == "upload.started"]


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


def test_requests(site: Server) -> None:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(f"{site.url}/api/v1/submissions", files=[("file", (name, b"x")) for name in NAMES])
    assert answer.status_code == 201, answer.text
    check(site, answer.json()["id"], [as_form(name) for name in NAMES])


def test_httpx(site: Server) -> None:
    """It writes every control character as %XX, which HTML knows for line ends only: the tab stays escaped."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        answer = client.post(f"{site.url}/api/v1/submissions", files=[("file", (name, b"x")) for name in NAMES])
    assert answer.status_code == 201, answer.text
    check(site, answer.json()["id"], [as_form(name).replace("\t", "%09") for name in NAMES])


@pytest.mark.parametrize("is_quoting", [True, False])
def test_aiohttp(site: Server, is_quoting: bool) -> None:
    """By default it percent-encodes all of a name, as nobody else does: such a name is shown as it was sent.

    It refuses line ends itself.
    """
    names = without_line_ends()

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

    check(site, asyncio.run(send()), [as_form(quote(name, "") if is_quoting else name) for name in names])


# --- programs --------------------------------------------------------------------------------------------------------


def run(*words: str, given: str | None = None) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_undici(site: Server) -> None:
    """Node's own fetch."""
    said = run(require("node"), str(HERE / "form.mjs"), site.url, given=as_lines(NAMES))
    check(site, json.loads(said)["id"], [as_form(name) for name in NAMES])


@pytest.mark.parametrize("flags", [(), ("--form-escape",)], ids=["percent", "backslash"])
def test_curl_form(site: Server, tmp_path: Path, flags: Sequence[str]) -> None:
    names = without_line_ends() if flags else NAMES
    (tmp_path / "x").write_text("x")
    words = [require("curl"), "-sS", "-H", "Accept: application/json", *flags]
    for name in names:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        words += ["-F", f'file=@{tmp_path}/x;filename="{escaped}"']
    said = run(*words, f"{site.url}/api/v1/submissions")
    check(site, json.loads(said)["id"], [as_form(name) for name in names])


def test_curl_form_of_a_file_as_it_lies_on_disk(site: Server, tmp_path: Path) -> None:
    """A name that is not UTF-8 keeps what can be read of it, and its extension."""
    path = os.fsencode(tmp_path) + b"/r\xe9sum\xe9.pdf"
    with open(path, "wb") as file:
        file.write(b"x")
    words = [require("curl").encode(), b"-sS", b"-F", b"file=@" + path, f"{site.url}/api/v1/submissions".encode()]
    said = subprocess.run(words, capture_output=True, timeout=60, check=True).stdout
    check(site, json.loads(said)["id"], ["r\ufffdsum\ufffd.pdf"])


def in_address(names: Sequence[str]) -> Sequence[str]:
    """Names for the last part of an address; clients take `/` and `..` there for parts of the way."""
    return [name for name in names if "/" not in name and "\n" not in name and "\r" not in name]


@pytest.mark.parametrize("way", ["curl -T", "curl --data-binary", "wget"])
def test_names_in_addresses(site: Server, tmp_path: Path, way: str) -> None:
    path = tmp_path / "x"
    path.write_text("x")
    for name in in_address(NAMES)[:: 1 if way == "curl -T" else 5]:
        address = f"{site.url}/send/{quote(name, safe='')}"
        match way:
            case "curl -T":
                said = run(require("curl"), "-sS", "-T", str(path), address)
            case "curl --data-binary":
                said = run(require("curl"), "-sS", "-X", "PUT", "--data-binary", f"@{path}", address)
            case _:
                said = run(require("wget"), "-qO-", "--method=PUT", f"--body-file={path}", address)
        (file,) = json.loads(said)["files"]
        assert file["name"] == name


# --- Go, Java, .NET --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", NAMES_OF)
def test_recorded(site: Server, client: str) -> None:
    request = (RECORDED / f"{client}.http").read_bytes()
    request = re.sub(rb"(?im)^Host: .*?\r$", b"Host: " + site.host.encode() + b"\r", request, count=1)
    with site.connect() as connection:
        connection.sendall(request)
        status, _, body = read_answer(connection)
    assert status == 201, body
    check(site, json.loads(body)["id"], [as_form(name) for name in NAMES_OF[client]])


@pytest.mark.parametrize("client", ["go", "java-HttpURLConnection", "java-HttpClient"])
def test_for_real(site: Server, client: str, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--full"):
        pytest.skip("Go and Java run under --full only; their recorded bytes are replayed always")
    require(client.partition("-")[0])
    said = run(*words_of(client, site.url), given=as_lines(NAMES_OF[client]))
    check(site, json.loads(said)["id"], [as_form(name) for name in NAMES_OF[client]])


def test_a_recording_is_what_its_rules_write() -> None:
    """The two that are written from documentation are not edited by hand."""
    from tests.clients import dotnet

    writers: dict[str, Callable[[Sequence[str]], bytes]] = {"dotnet": dotnet.dotnet, "powershell": dotnet.powershell}
    for client, write in writers.items():
        assert (RECORDED / f"{client}.http").read_bytes() == write(NAMES_OF[client])

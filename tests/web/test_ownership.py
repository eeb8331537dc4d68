"""What belongs to somebody else is not there, byte for byte: for every route with an id, every list, topic and search.

The routes are those of the URL map, so that a new one with an id is asked, too.
"""

import base64
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from quart import Quart
from tests.support import scenarios
from tests.support.all_routes import all_routes
from tests.support.callers import ADA, BOB, CALLERS, OPAL, ROOT, named, signed_in
from tests.support.serving_in_process import served
from websockets.asyncio.client import connect

from dropmill.app import create_app
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.caller import Caller
from dropmill.model.ids import new_file_id
from dropmill.model.results import Result
from dropmill.model.uploads import UploadState
from dropmill.ports.ledger.uploads import ResumableUpload
from dropmill.settings import Settings
from dropmill.web.routes import BELOW_LINKS_ALONE, keys_of

__all__ = ["signed_in"]

OURS = {"Origin": "http://localhost"}
FORM = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc\r\n--B--\r\n'
SECRET = "payroll-of-ada"
IDS = ("submission_id", "job_id", "file_id")
NOWHERE = dict.fromkeys(IDS, "0" * 32)

RULES = sorted(create_app(Settings(auth="off")).url_map.iter_rules(), key=lambda rule: rule.rule)
REQUESTS = [
    pytest.param(key.partition(" ")[0], rule.rule, id=f"{key} {rule.rule}")
    for rule in RULES
    if rule.arguments & set(IDS)
    for key in sorted(keys_of(rule))
    if key != "OPTIONS uploads.options" and key not in BELOW_LINKS_ALONE
]


@dataclass
class Site:
    """All routes over a real ledger and store, and what Ada has there: a settled job, and a file that is to come."""

    app: Quart
    ledger: SqliteLedger
    ids: Mapping[str, str]
    upload: str

    @property
    def client(self) -> Any:
        return self.app.test_client()

    async def ask(self, caller: Caller, method: str, rule: str, ids: Mapping[str, str]) -> tuple[int, str]:
        """Status and text of an answer to a request about these ids; in the text, they are named as in the rule."""
        ids = {**ids, "path": "r.txt"}
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: ids[found[1]], rule)
        headers = {**named(caller), **OURS, "Tus-Resumable": "1.0.0"}
        data = b""
        if "/uploads" in rule:
            headers |= {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
            headers |= {"X-HTTP-Method-Override": "HEAD"} if method == "POST" else {}
        elif rule.endswith("/files") and method == "POST":
            headers, data = headers | {"Content-Type": "multipart/form-data; boundary=B"}, FORM
        answer = await self.client.open(path, method=method, headers=headers, data=data)
        text = await answer.get_data(as_text=True) + repr(sorted(answer.headers))
        for name, value in ids.items():
            text = text.replace(value, f"<{name}>")
        return answer.status_code, text

    async def get(self, caller: Caller, path: str, **headers: str) -> tuple[int, str]:
        answer = await self.client.get(path, headers=named(caller) | headers)
        return answer.status_code, await answer.get_data(as_text=True)


@pytest.fixture
async def site(tmp_path: Path, ledger: SqliteLedger, bus: LocalBus, signed_in: None) -> AsyncIterator[Site]:
    submission_id = await scenarios.opened(ledger, account="ada", owner=ADA.owner)
    stored = scenarios.blob()
    results = (Result(path="r.txt", size=stored.size, sha256=stored.sha256, blob=stored.key),)
    job_id = await scenarios.queued(ledger, submission_id, f"{SECRET}.txt")
    order = await scenarios.claimed(ledger)
    outcome = replace(scenarios.SUCCEEDED, results=results)
    assert await ledger.end_attempt(job_id, order.number, outcome)
    upload = ResumableUpload(
        file_id=new_file_id(), submission_id=submission_id, name=f"{SECRET}.bin", path=f"{SECRET}.bin",
        state=UploadState.ANNOUNCED, size=9, received=0, partial="x.bin", metadata="",
        expected_sha256=None, expires_at=None, ip="", account=None,
    )  # fmt: skip
    await ledger.announce_uploads([upload])
    ids = {"submission_id": submission_id, "job_id": job_id, "file_id": (await ledger.job(job_id)).file_id}
    async with all_routes(tmp_path, ledger, bus) as (app, _):
        yield Site(app, ledger, ids, upload.file_id)


@pytest.mark.parametrize(("method", "rule"), REQUESTS)
async def test_every_route_with_an_id_says_the_same_of_what_is_anothers_as_of_what_is_not_there(
    site: Site, method: str, rule: str
) -> None:
    ids = {**site.ids, "file_id": site.upload} if "/uploads" in rule else site.ids
    before = await site.ledger.newest_cursor()
    theirs, nothing = [await site.ask(BOB, method, rule, each) for each in (ids, NOWHERE)]
    assert theirs[0] == 404
    assert theirs == nothing
    assert await site.ledger.newest_cursor() == before
    if not rule.endswith("results.zip"):  # whose bytes are missing here
        for caller in (ADA, OPAL, ROOT):
            status, _ = await site.ask(caller, method, rule, ids)
            assert status != 404, (caller.account, method, rule)


LISTS = [
    "/api/v1/submissions",
    "/api/v1/jobs",
    "/api/v1/history",
    "/api/v1/history?format=csv",
    "/api/v1/log?limit=1000",
    "/history",
]


@pytest.mark.parametrize("path", LISTS)
async def test_no_list_has_what_is_anothers(site: Site, path: str) -> None:
    status, text = await site.get(BOB, path)
    assert status == 200
    assert [secret for secret in (SECRET, *site.ids.values()) if secret in text] == []
    for caller in (ADA, OPAL, ROOT):
        status, text = await site.get(caller, path)
        assert (status, site.ids["submission_id"] in text) == (200, True), caller.account


@pytest.mark.parametrize("path", ["/api/v1/submissions", "/api/v1/jobs", "/api/v1/history", "/history"])
async def test_a_search_for_what_is_anothers_finds_what_a_search_for_nonsense_finds(site: Site, path: str) -> None:
    texts = (SECRET, site.ids["file_id"][:12], site.ids["submission_id"], scenarios.blob().sha256)
    for text in texts:
        nonsense = "z" * len(text)
        found, nothing = [
            (status, page.replace(asked, "?"))
            for asked in (text, nonsense)
            for status, page in [await site.get(BOB, f"{path}?q={asked}")]
        ]
        assert found == nothing
    assert site.ids["submission_id"] in (await site.get(ADA, f"{path}?q={SECRET}"))[1]


async def test_jobs_of_a_submission_are_those_that_one_may_see(site: Site) -> None:
    path = f"/api/v1/jobs?submission={site.ids['submission_id']}"
    assert json.loads((await site.get(BOB, path))[1]) == {"items": [], "next": None}
    assert len(json.loads((await site.get(ADA, path))[1])["items"]) == 1


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_events_of_what_is_anothers_are_not_found(site: Site, kind: str) -> None:
    foreign = (f"submission:{site.ids['submission_id']}", ADA.owner, "all", "config")
    nothing = await site.get(BOB, "/api/v1/events?topic=nothing", Accept=kind)
    nobodys = await site.get(BOB, f"/api/v1/events?topic=submission:{'0' * 32}", Accept=kind)
    assert nothing[0] == nobodys[0] == 404
    for topic in foreign:
        assert await site.get(BOB, f"/api/v1/events?topic={topic}", Accept=kind) in (nothing, nobodys)
    for topic in foreign[:2]:
        status, text = await site.get(ADA, f"/api/v1/events?topic={topic}")
        assert (status, SECRET in text) == (200, True)
    assert (await site.get(BOB, f"/api/v1/events?topic={BOB.owner}"))[0] == 200


async def test_a_poll_and_a_socket_refuse_what_is_anothers(site: Site) -> None:
    joins = [f"submission:{site.ids['submission_id']}", f"output:{site.ids['job_id']}", ADA.owner, "all", "nothing"]
    _, text = await site.get(BOB, "/api/v1/live?wait=0&" + "&".join(f"join={topic}" for topic in joins))
    first, *replies, last = json.loads(text)
    assert (first["type"], last["type"]) == ("hello", "poll")
    assert [(reply["ok"], reply["error"]["code"]) for reply in replies] == [(False, "not_found")] * len(joins)
    async with (
        served(site.app) as port,
        connect(f"ws://127.0.0.1:{port}/api/v1/live", proxy=None, additional_headers=named(BOB)) as opened,
    ):
        assert json.loads(await opened.recv())["type"] == "hello"
        for number, topic in enumerate(joins):
            await opened.send(json.dumps({"type": "join", "id": number, "topic": topic}))
        for number, command in enumerate(("cancel", "retry"), len(joins)):
            await opened.send(json.dumps({"type": command, "id": number, "job_id": site.ids["job_id"]}))
        for number in range(len(joins) + 2):
            reply = json.loads(await opened.recv())
            assert (reply["re"], reply["ok"], reply["error"]["code"]) == (number, False, "not_found")


async def test_an_upload_does_not_join_what_is_anothers(site: Site) -> None:
    told = []
    for submission_id in (site.ids["submission_id"], "0" * 32):
        metadata = f"filename YQ==,submission {base64.b64encode(submission_id.encode()).decode()}"
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "1", "Upload-Metadata": metadata}
        answer = await site.client.post("/api/v1/uploads", headers=named(BOB) | headers)
        told.append((answer.status_code, await answer.get_data()))
    assert told[0] == told[1]
    assert told[0][0] == 404


async def test_what_is_sent_belongs_to_the_account_that_sends_it(site: Site) -> None:
    headers: dict[str, Any] = {"Idempotency-Key": "one key of everybody"}
    ids = []
    for caller in (ADA, BOB, CALLERS["sender"]):
        answer = await site.client.post("/api/v1/submissions", json={"files": []}, headers=named(caller) | headers)
        if answer.status_code == 201:
            ids.append((await answer.get_json())["id"])
    assert len(set(ids)) == len(ids) >= 2
    assert (await site.get(BOB, f"/api/v1/submissions/{ids[1]}"))[0] == 200
    assert (await site.get(BOB, f"/api/v1/submissions/{ids[0]}"))[0] == 404
    assert (await site.get(ADA, f"/api/v1/submissions/{ids[1]}"))[0] == 404

"""Quotas and request rates over HTTP, on a real server: parallel uploads at the limit, endless bodies, lower limits."""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import websockets.sync.client
from tests.support.server import Server
from tests.support.tus import OCTETS, TUS, append, metadata, offset_of
from tests.support.waiting import PATIENCE_S, wait_until
from websockets.exceptions import InvalidStatus

from dropmill.intake.limits import HOLD_EVERY_BYTES

Make = Callable[..., Server]

PASSWORD = "correct horse battery"
KB, MIB = 1000, 1024 * 1024
STORAGE = 1000 * KB
SIZE = 90 * KB  # over what is stored together with others, so that each way in is its own
ENOUGH = 4096 * MIB
"""What an endless body has. The server answers long before, and reads on for a few seconds for the client's sake."""
Account = tuple[httpx.Client, str]
"""A program that is signed in, and the id of its account."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that requires sign-in and gives each account `STORAGE` bytes."""
    running = Server(
        tmp_path_factory.mktemp("server"), "--auth", "required", "--quota-storage", str(STORAGE), "--concurrency", "4"
    )
    try:
        yield running.start()
    finally:
        running.end()


@pytest.fixture(scope="module")
def admin(server: Server) -> Iterator[httpx.Client]:
    """A browser of the first account."""
    (first,) = re.findall(r"http://\S+/sign-in#first=(\S+)", server.said())
    with httpx.Client(
        base_url=server.url, headers={"Origin": server.url}, timeout=PATIENCE_S, trust_env=False
    ) as browser:
        said = {"first": first, "name": "root", "password": PASSWORD}
        assert browser.post("/api/v1/session", json=said).status_code == 204
        yield browser


@pytest.fixture
def account(server: Server, admin: httpx.Client, request: pytest.FixtureRequest) -> Iterator[Account]:
    """A program with a token of a new account, and the account's id."""
    name = re.sub(r"\W", "-", request.node.name)[-60:]
    made = admin.post("/api/v1/accounts", json={"name": name, "role": "viewer", "password": PASSWORD})
    assert made.status_code == 201, made.text
    with httpx.Client(base_url=server.url, headers={"Origin": server.url}, trust_env=False) as browser:
        assert browser.post("/api/v1/session", json={"name": name, "password": PASSWORD}).status_code == 204
        token = browser.post("/api/v1/tokens", json={"scopes": ["send", "read"]}).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=PATIENCE_S, trust_env=False) as program:
        yield program, made.json()["id"]


def set_limits(admin: httpx.Client, account_id: str, **limits: Any) -> Any:
    answer = admin.patch(f"/api/v1/accounts/{account_id}", json={"limits": limits})
    assert answer.status_code == 200, answer.text
    return answer.json()


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def used(client: httpx.Client) -> Any:
    return client.get("/api/v1/quota").json()["usage"]


def files_of(client: httpx.Client) -> list[Any]:
    """All files of an account."""
    submissions = client.get("/api/v1/submissions?limit=1000").json()["items"]
    return [
        file
        for submission in submissions
        for file in client.get(f"/api/v1/submissions/{submission['id']}").json()["files"]
    ]


# --- ways in ---------------------------------------------------------------------------------------------------------


def by_put(client: httpx.Client, content: bytes) -> httpx.Response:
    return client.put("/send/a.bin", content=content)


def by_form(client: httpx.Client, content: bytes) -> httpx.Response:
    return client.post("/api/v1/submissions", files={"file": ("a.bin", content)})


def by_put_of_unknown_size(client: httpx.Client, content: bytes) -> httpx.Response:
    return client.put("/send/a.bin", content=iter([content[: SIZE // 2], content[SIZE // 2 :]]))


def by_tus(client: httpx.Client, content: bytes) -> httpx.Response:
    headers = TUS | {"Upload-Length": str(len(content)), "Upload-Metadata": metadata(filename="a.bin")}
    made = client.post("/api/v1/uploads", headers=headers)
    return made if made.status_code != 201 else append(client, made.headers["Location"], 0, content)


def by_tus_of_deferred_length(client: httpx.Client, content: bytes) -> httpx.Response:
    headers = TUS | {"Upload-Defer-Length": "1", "Upload-Metadata": metadata(filename="a.bin")}
    url = client.post("/api/v1/uploads", headers=headers).headers["Location"]
    answer = append(client, url, 0, content)
    if answer.status_code == 204:
        answer = append(client, url, len(content), b"", **{"Upload-Length": str(len(content))})
    if answer.status_code != 204:
        assert client.delete(url, headers=TUS).status_code == 204
    return answer


def by_announcement(client: httpx.Client, content: bytes) -> httpx.Response:
    made = client.post("/api/v1/submissions", json={"files": [{"name": "a.bin", "size": len(content)}]})
    if made.status_code != 201:
        return made
    answer = append(client, made.json()["files"][0]["upload_url"], 0, content)
    client.post(f"/api/v1/submissions/{made.json()['id']}/seal")
    return answer


WAYS = (by_put, by_form, by_put_of_unknown_size, by_tus, by_tus_of_deferred_length, by_announcement)


@pytest.mark.parametrize("way", WAYS)
def test_each_way_in_takes_the_last_byte_and_refuses_the_next(
    server: Server, account: Account, way: Callable[[httpx.Client, bytes], httpx.Response]
) -> None:
    client, _ = account
    assert by_put(client, os.urandom(STORAGE - SIZE)).status_code == 201
    refused = way(client, os.urandom(SIZE + 1))
    assert code_of(refused) == (413, "quota_exceeded")
    assert (refused.json()["reason"], refused.json()["limit"]) == ("storage", STORAGE)
    assert used(client)["storage"] == STORAGE - SIZE
    assert way(client, os.urandom(SIZE)).status_code in (201, 204)
    assert used(client)["storage"] == STORAGE
    assert used(client)["open_submissions"] == 0
    assert sum(file["size"] for file in files_of(client) if file["state"] == "stored") == STORAGE
    wait_until(lambda: not server.arriving(), PATIENCE_S)


def test_parallel_uploads_by_all_ways_get_exactly_what_fits(server: Server, account: Account) -> None:
    client, _ = account
    content = os.urandom(SIZE)
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda way: way(client, content), WAYS * 5))
    # Some that came while others were under way may have been refused for bytes that were given back after that.
    while (answer := by_put(client, content)).status_code == 201:
        answers.append(answer)
    counts = Counter(answer.status_code for answer in answers)
    assert set(counts) <= {201, 204, 413}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 413} == {"quota_exceeded"}
    stored = [file for file in files_of(client) if file["state"] == "stored"]
    assert len(stored) == counts[201] + counts[204] == STORAGE // SIZE
    assert used(client)["storage"] == len(stored) * SIZE
    wait_until(lambda: not server.arriving(), PATIENCE_S)


def test_small_files_of_one_form_are_taken_as_far_as_they_fit(account: Account) -> None:
    client, _ = account
    assert by_put(client, os.urandom(STORAGE - 5000)).status_code == 201
    form = [("file", (f"{number}.bin", os.urandom(1000))) for number in range(9)]
    answer = client.post("/api/v1/submissions", files=form)
    assert code_of(answer) == (413, "quota_exceeded")
    kept = answer.json()["kept"]
    assert 0 < len(kept) <= 5
    assert used(client)["storage"] == STORAGE - 5000 + 1000 * len(kept)
    shown = client.get(f"/api/v1/submissions/{answer.json()['submission']}").json()["files"]
    assert {file["name"] for file in shown if file["state"] == "stored"} == set(kept)


@pytest.mark.parametrize("is_form", [False, True])
def test_an_endless_body_is_stopped_soon_after_the_limit(server: Server, account: Account, is_form: bool) -> None:
    client, _ = account
    brought = 0

    def endless() -> Iterator[bytes]:
        nonlocal brought
        if is_form:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
        piece = os.urandom(256 * 1024)
        while brought < ENOUGH:
            brought += len(piece)
            yield piece

    headers = {"Content-Type": "multipart/form-data; boundary=b"} if is_form else {}
    with contextlib.suppress(httpx.TransportError):  # it was still writing when the server closed the connection
        answer = client.request(
            "POST" if is_form else "PUT",
            "/api/v1/submissions" if is_form else "/send/a.bin",
            content=endless(),
            headers=headers,
        )
        assert code_of(answer) == (413, "quota_exceeded")
    assert brought < ENOUGH
    wait_until(lambda: not server.arriving(), PATIENCE_S)
    assert used(client)["storage"] == 0
    assert [file["state"] for file in files_of(client)] == ["aborted"]


def test_an_upload_of_deferred_length_stops_at_the_limit_and_goes_on_once_there_is_room(
    admin: httpx.Client, account: Account
) -> None:
    client, account_id = account
    set_limits(admin, account_id, storage=2 * HOLD_EVERY_BYTES)
    headers = TUS | {"Upload-Defer-Length": "1", "Upload-Metadata": metadata(filename="a.bin")}
    url = client.post("/api/v1/uploads", headers=headers).headers["Location"]
    content = os.urandom(3 * HOLD_EVERY_BYTES)
    with contextlib.suppress(httpx.TransportError):  # it was still writing when the server closed the connection
        assert code_of(append(client, url, 0, content)) == (413, "quota_exceeded")
    offset = offset_of(client, url)
    assert HOLD_EVERY_BYTES < offset <= 2 * HOLD_EVERY_BYTES
    assert used(client)["storage"] == offset
    sized = {"Upload-Length": str(len(content))}
    assert code_of(append(client, url, offset, content[offset:], **sized)) == (413, "quota_exceeded")
    set_limits(admin, account_id, storage=len(content))
    assert append(client, url, offset, content[offset:], **sized).status_code == 204
    (file,) = files_of(client)
    assert (file["state"], file["size"]) == ("stored", len(content))


def test_an_upload_that_is_terminated_gives_its_bytes_back(account: Account) -> None:
    client, _ = account
    headers = TUS | {"Upload-Length": str(STORAGE), "Upload-Metadata": metadata(filename="a.bin")}
    url = client.post("/api/v1/uploads", headers=headers).headers["Location"]
    append(client, url, 0, b"some")
    assert used(client)["storage"] == STORAGE
    refused = client.post("/api/v1/uploads", headers=headers | OCTETS | {"Upload-Length": "1"}, content=b"x")
    assert code_of(refused) == (413, "quota_exceeded")
    assert client.delete(url, headers=TUS).status_code == 204
    assert used(client)["storage"] == 0


def test_a_refused_announcement_leaves_nothing_open(account: Account) -> None:
    client, _ = account
    files = {"files": [{"name": "a.bin", "size": STORAGE}, {"name": "b.bin", "size": 1}]}
    for headers in ({}, {"Idempotency-Key": "one"}):
        answer = client.post("/api/v1/submissions", json=files, headers=headers)
        assert code_of(answer) == (413, "quota_exceeded")
        assert used(client)["open_submissions"] == used(client)["storage"] == 0
    files["files"].pop()
    answer = client.post("/api/v1/submissions", json=files, headers={"Idempotency-Key": "two"})
    assert answer.status_code == 201
    repeat = client.post("/api/v1/submissions", json=files, headers={"Idempotency-Key": "two"})
    assert repeat.json()["id"] == answer.json()["id"]


# --- limits of an account --------------------------------------------------------------------------------------------


def test_a_lowered_limit_deletes_nothing(admin: httpx.Client, account: Account) -> None:
    client, account_id = account
    content = os.urandom(500)
    kept = client.put("/send/a.bin", content=content).json()
    shown = set_limits(admin, account_id, storage=100)
    assert shown["own_limits"] == {"storage": 100}
    assert shown["quota"]["usage"]["storage"] == 500
    assert code_of(client.put("/send/b.bin", content=b"x")) == (413, "quota_exceeded")
    assert client.get(f"/api/v1/files/{kept['files'][0]['id']}/content").content == content
    assert set_limits(admin, account_id, storage=None)["own_limits"] == {}
    assert client.put("/send/b.bin", content=b"x").status_code == 201


def test_an_account_may_have_no_limit_at_all(admin: httpx.Client, account: Account) -> None:
    client, account_id = account
    assert set_limits(admin, account_id, storage="none")["quota"]["limits"]["storage"] is None
    assert by_put(client, os.urandom(2 * STORAGE)).status_code == 201
    listed = {one["id"]: one for one in admin.get("/api/v1/accounts").json()["items"]}
    assert listed[account_id]["own_limits"] == {"storage": "none"}
    assert listed[account_id]["quota"]["usage"]["storage"] == 2 * STORAGE


@pytest.mark.parametrize(
    "limits",
    [
        [],
        "none",
        {"storage": -1},
        {"storage": 1.5},
        {"storage": True},
        {"storage": "1"},
        {"storage": 2**63 - 1},
        {"running": 0},
        {"files": 1},
        {"storage": 5, "nonsense": 1},
    ],
)
def test_limits_that_are_none_are_refused_and_change_nothing(
    admin: httpx.Client, account: Account, limits: Any
) -> None:
    client, account_id = account
    answer = admin.patch(f"/api/v1/accounts/{account_id}", json={"limits": limits, "role": "operator"})
    assert code_of(answer) == (400, "bad_request")
    assert client.get("/api/v1/quota").json()["limits"]["storage"] == STORAGE
    assert client.get("/api/v1/session").json()["role"] == "viewer"


def test_nobody_changes_their_own_limits_but_an_admin(account: Account) -> None:
    client, account_id = account
    assert client.patch(f"/api/v1/accounts/{account_id}", json={"limits": {"storage": "none"}}).status_code == 403
    assert client.get("/api/v1/quota").json()["limits"]["storage"] == STORAGE


def test_too_many_submissions_are_refused_with_the_time_until_the_next_one(
    admin: httpx.Client, account: Account
) -> None:
    client, account_id = account
    set_limits(admin, account_id, submissions_a_day=2, open_submissions=1)
    opened = client.post("/api/v1/submissions", json={"files": []})
    assert opened.status_code == 201
    refused = client.post("/api/v1/submissions", json={"files": []})
    assert code_of(refused) == (429, "too_many_submissions")
    assert (refused.json()["reason"], refused.headers["Retry-After"]) == ("open_submissions", "5")
    assert client.put("/send/a.txt", content=b"x").status_code == 201
    client.post(f"/api/v1/submissions/{opened.json()['id']}/seal")
    for answer in (
        client.post("/api/v1/submissions", json={"files": []}),
        client.put("/send/a.txt", content=b"x"),
        client.post("/api/v1/submissions", files={"file": ("a.txt", b"x")}),
        client.post("/api/v1/uploads", headers=TUS | {"Upload-Length": "1"}),
    ):
        assert code_of(answer) == (429, "too_many_submissions")
        assert answer.json()["reason"] == "submissions_a_day"
        assert 0 < int(answer.headers["Retry-After"]) <= 86_400
    assert len(files_of(client)) == 1


def test_jobs_of_one_account_run_no_more_at_once_than_they_may_and_all_of_them_run(
    server: Server, admin: httpx.Client, account: Account
) -> None:
    """Four slots are free, and all wait for the one place that the account has."""
    client, account_id = account
    set_limits(admin, account_id, running=1)
    sent = client.post("/api/v1/submissions", files=[("file", (f"{n}.txt", b"x")) for n in range(12)]).json()
    counts = wait_until(lambda: settled(client, sent["id"]), PATIENCE_S)
    assert counts["succeeded"] == 12
    running = most = 0
    for event in client.get(f"/api/v1/events?topic=submission:{sent['id']}&limit=1000").json()["events"]:
        running += event["name"] == "attempt.started"
        running -= event["name"] in ("attempt.succeeded", "attempt.failed", "attempt.lost", "attempt.cancelled")
        most = max(most, running)
    assert most == 1


def settled(client: httpx.Client, submission_id: str) -> Any:
    found = client.get(f"/api/v1/submissions/{submission_id}").json()
    return found["counts"] if found["state"] == "settled" else None


def test_an_account_has_no_more_live_connections_than_it_may(
    server: Server, admin: httpx.Client, account: Account
) -> None:
    client, account_id = account
    set_limits(admin, account_id, sockets=1)

    def connected() -> websockets.sync.client.ClientConnection:
        return websockets.sync.client.connect(
            f"ws://{server.host}/api/v1/live",
            additional_headers={"Authorization": client.headers["Authorization"]},
            proxy=None,
        )

    with connected():
        with pytest.raises(InvalidStatus) as refused:
            connected()
        assert refused.value.response.status_code == 429
        assert code_of(client.post("/api/v1/live", json={"joins": [], "wait": 0})) == (429, "too_many_connections")
        events = client.get("/api/v1/events?topic=all", headers={"Accept": "text/event-stream"})
        assert events.status_code in (403, 404, 429)  # `all` is not for viewers
    wait_until(lambda: client.post("/api/v1/live", json={"joins": [], "wait": 0}).status_code == 200, PATIENCE_S)


# --- without accounts ------------------------------------------------------------------------------------------------


def test_each_browser_of_a_private_server_has_a_quota(make_server: Make) -> None:
    server = make_server("--private", "--quota-storage", "100").start()
    for _ in range(2):
        with httpx.Client(base_url=server.url, trust_env=False, timeout=PATIENCE_S) as browser:
            browser.get("/")
            assert browser.put("/send/a.txt", content=b"x" * 100).status_code == 201
            assert code_of(browser.put("/send/a.txt", content=b"x")) == (413, "quota_exceeded")


def test_on_an_open_server_all_share_one(make_server: Make) -> None:
    server = make_server("--quota-storage", "100").start()
    server.send(("a.txt", b"x" * 60))
    assert code_of(server.http.put("/send/a.txt", content=b"x" * 41)) == (413, "quota_exceeded")
    assert server.get("/quota")["usage"]["storage"] == 60


def test_what_is_removed_after_its_time_gives_its_bytes_back(make_server: Make) -> None:
    server = make_server("--quota-storage", "100", "--keep-size", "50").start()
    first = server.send(("a.txt", b"x" * 100))
    server.settled(first["id"])
    wait_until(lambda: server.get("/quota")["usage"]["storage"] == 0, PATIENCE_S)
    assert server.http.get(f"/api/v1/files/{first['files'][0]['id']}/content").status_code == 410
    server.send(("b.txt", b"x" * 100))


# --- request rates ---------------------------------------------------------------------------------------------------


def test_who_sends_too_many_requests_is_told_when_to_go_on_and_uploads_do_not_count(make_server: Make) -> None:
    server = make_server("--rate-limit", "5/h").start()
    headers = TUS | {"Upload-Length": "3", "Upload-Metadata": metadata(filename="a.bin")}
    url = server.http.post("/api/v1/uploads", headers=headers).headers["Location"]
    for _ in range(4):
        assert server.http.get("/api/v1/jobs").status_code == 200
    refused = server.http.get("/api/v1/jobs")
    assert code_of(refused) == (429, "too_many_requests")
    assert 0 < int(refused.headers["Retry-After"]) <= 720
    assert offset_of(server.http, url) == 0
    for offset in range(3):
        assert append(server.http, url, offset, b"x").status_code == 204
    assert server.http.get("/healthz").status_code == 200
    page = server.http.get("/", headers={"Accept": "text/html"})
    assert page.status_code == 429
    assert "text/html" in page.headers["Content-Type"]
    with pytest.raises(InvalidStatus) as socket:
        websockets.sync.client.connect(f"ws://{server.host}/api/v1/live", proxy=None).close()
    assert socket.value.response.status_code == 429

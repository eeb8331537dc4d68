"""Who did what, and who was refused: recorded with account and address, for admins; and no secret anywhere."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.preloaded import DROPMILL
from tests.support.server import Server, clean_environment
from tests.support.waiting import PATIENCE_S, wait_until
from tests.web.api.test_accounts import PASSWORD, bearer, client, code_of, first_sign_in

from dropmill.model.events import AuditKind

SLOW = "import time\n\ndef process(file, results):\n    time.sleep(60 if file.name == 'slow' else 0)\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that requires sign-in, with the accounts root, olga (an operator), ada and bob."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "slow.py").write_text(SLOW)
    running = Server(folder, "--auth", "required", "--processor", "slow:process")
    try:
        running.start()
        root = client(running)
        assert root.post("/api/v1/session", json=first_sign_in(running)).status_code == 204
        for name, role in (("olga", "operator"), ("ada", "viewer"), ("bob", "viewer")):
            made = {"name": name, "role": role, "password": PASSWORD}
            assert root.post("/api/v1/accounts", json=made).status_code == 201
        yield running
    finally:
        running.end()


def audit(server: Server, **query: Any) -> list[Any]:
    """The audit as root sees it, the newest first."""
    answer = client(server, "root").get("/api/v1/audit", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def found(server: Server, name: str, **data: Any) -> Any:
    """The newest event of this name with such data, once it is there."""

    def newest() -> Any:
        fitting = [event for event in audit(server) if event["name"] == name and data.items() <= event["data"].items()]
        return fitting[0] if fitting else None

    return wait_until(newest)


def who(event: Any) -> tuple[str, str, str]:
    """Account, address and program of who did it."""
    subject = event["subject"]
    return subject["account"], subject["client"]["ip"], subject["client"]["user_agent"]


def test_the_audit_is_for_admins(server: Server) -> None:
    for name in ("ada", "olga"):
        assert code_of(client(server, name).get("/api/v1/audit")) == (403, "forbidden")
    assert server.http.get("/api/v1/audit").status_code == 401
    root = client(server, "root")
    token = root.post("/api/v1/tokens", json={"scopes": ["read"], "expires_in": 60}).json()["token"]
    assert server.http.get("/api/v1/audit", headers=bearer(token)).status_code == 403


def test_the_audit_is_paged_backwards(server: Server) -> None:
    root = client(server, "root")
    everything, before = [], None
    while True:
        page = root.get("/api/v1/audit", params={"limit": 3} | ({} if before is None else {"before": before})).json()
        everything += page["items"]
        if (before := page["next"]) is None:
            break
    cursors = [event["cursor"] for event in everything]
    assert cursors == sorted(cursors, reverse=True)
    assert {"account.signed_in", "account.changed"} <= {event["name"] for event in everything}
    assert cursors == [event["cursor"] for event in root.get("/api/v1/audit", params={"limit": 1000}).json()["items"]]


def test_the_audit_is_narrowed_down_to_a_kind_and_to_somebody(server: Server) -> None:
    root, ada = client(server, "root"), client(server, "ada")
    ada.post("/api/v1/tokens", json={"scopes": ["read"], "expires_in": 60})

    def narrowed(**query: Any) -> list[Any]:
        answer = root.get("/api/v1/audit", params=query | {"limit": 1000})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["items"])

    everything = narrowed()
    kinds = {kind: narrowed(kind=kind) for kind in AuditKind}
    found = [event["cursor"] for some in kinds.values() for event in some]
    assert sorted(found, reverse=True) == [event["cursor"] for event in everything]
    assert {event["name"] for event in kinds[AuditKind.SIGN_INS]} == {"account.signed_in"}
    made = [event["subject"]["account"] for event in narrowed(who="ROOT", kind="accounts")]
    assert made[-4:] == ["bob", "ada", "olga", "root"]  # root made them
    changes = [event["data"]["change"] for event in narrowed(who="ada", kind="accounts")]
    assert changes == ["token_made", "added"]
    assert narrowed(who="127.0.0.1") == [event for event in everything if event["subject"]["client"]]
    assert narrowed(who="127.0.0.2") == narrowed(who="a") == []
    paged: list[Any] = []
    before: int | None = None
    while before != 0:
        query: dict[str, Any] = {"limit": 2, "who": "ada"} | ({} if before is None else {"before": before})
        page = root.get("/api/v1/audit", params=query).json()
        paged += page["items"]
        before = page["next"] or 0
    assert paged == narrowed(who="ada")


BAD_PAGES = [{"limit": 0}, {"before": "x"}, {"before": -1}, {"before": 2**64}, {"kind": "x"}, {"who": "x" * 201}]


@pytest.mark.parametrize("query", BAD_PAGES)
def test_a_bad_page_is_refused(server: Server, query: dict[str, Any]) -> None:
    assert client(server, "root").get("/api/v1/audit", params=query).status_code == 400


def test_who_cancels_and_who_retries_is_recorded_though_somebody_else_sent_it(server: Server) -> None:
    ada, olga = client(server, "ada"), client(server, "olga")
    sent = ada.post("/api/v1/submissions", files={"f": ("slow", b"x")}).json()
    job = wait_until(lambda: ada.get(f"/api/v1/submissions/{sent['id']}").json()["files"][0]["job"])
    wait_until(lambda: ada.get(f"/api/v1/jobs/{job['id']}").json()["state"] == "running")
    assert olga.post(f"/api/v1/jobs/{job['id']}/cancel").status_code == 202
    wait_until(lambda: ada.get(f"/api/v1/jobs/{job['id']}").json()["state"] == "cancelled")
    assert olga.post(f"/api/v1/submissions/{sent['id']}/retry").status_code == 202
    cancelled, retried = found(server, "job.cancel_requested"), found(server, "job.retry_requested")
    assert who(cancelled) == who(retried) == ("olga", "127.0.0.1", "browser of olga")
    assert (cancelled["subject"]["job_id"], retried["subject"]["job_id"]) == (job["id"], None)
    assert retried["subject"]["submission_id"] == sent["id"]
    assert retried["data"] == {"count": 1}
    assert ada.post(f"/api/v1/submissions/{sent['id']}/cancel").status_code == 202
    assert who(found(server, "job.cancel_requested")) == ("ada", "127.0.0.1", "browser of ada")
    settled = [event for event in server_events(ada, sent["id"]) if event["name"] == "job.settled"]
    assert settled[0]["subject"]["account"] == "ada"  # whose job it is


def server_events(browser: httpx.Client, submission: str) -> list[Any]:
    """The events of a submission."""
    answer = browser.get("/api/v1/events", params={"topic": f"submission:{submission}", "limit": 1000})
    return list(answer.json()["events"])


def test_refusals_are_recorded_by_reason_and_counted(server: Server) -> None:
    bob = client(server, "bob")
    for _ in range(3):
        assert bob.get("/api/v1/accounts").status_code == 403
        assert server.http.get("/api/v1/jobs", headers=bearer("dmill_" + "x" * 46)).status_code == 401
    forbidden, bad = (
        found(server, "account.refused", reason="forbidden"),
        found(server, "account.refused", reason="bad_credentials"),
    )
    assert forbidden["data"]["route"] == "GET accounts.index"
    assert who(forbidden) == ("bob", "127.0.0.1", "browser of bob")
    assert (bad["subject"]["account"], bad["data"]["route"]) == (None, "GET jobs.index")
    assert sum(event["name"] == "account.refused" for event in audit(server, limit=1000)) <= 8
    wrong = {"name": "ada", "password": "wrong password"}
    for _ in range(8):
        answer = client(server).post("/api/v1/session", json=wrong)
    assert code_of(answer) == (429, "too_many_attempts")
    assert found(server, "account.refused", reason="throttled")["subject"]["account"] == "ada"
    assert found(server, "account.refused", reason="wrong_password")["subject"]["account"] == "ada"


def test_a_config_save_names_the_account(server: Server) -> None:
    root = client(server, "root")
    etag = root.get("/api/v1/config").headers["ETag"]
    assert root.put("/api/v1/config", content=b"a: 1\n", headers={"If-Match": etag}).status_code == 200
    assert who(found(server, "config.saved")) == ("root", "127.0.0.1", "browser of root")


def test_the_command_line_prints_the_audit_beside_the_server(server: Server) -> None:
    run(server, "account", "add", "eve", "--password-stdin", given=PASSWORD + "\n")
    lines = run(server, "log", "--audit", "--json").splitlines()
    names = [json.loads(line)["event"] for line in lines]
    assert set(names) <= {event["name"] for event in audit(server, limit=1000)}
    assert "account.changed  eve -  Account changed: added, by the command line\n" in run(server, "log", "--audit")
    assert len(run(server, "log", "--audit", "--last", "2").splitlines()) == 2
    assert run(server, "log", "--last", "0") == ""
    assert len(run(server, "log", "--json").splitlines()) > len(lines)


def run(server: Server, *words: str, given: str = "") -> str:
    """What a command on the server's data folder prints."""
    ended = subprocess.run(
        [*DROPMILL, *words, "--data", str(server.data), "--config", str(server.config)],
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
        cwd=server.folder,
        env=clean_environment({}),
    )
    return ended.stdout


def test_the_log_is_followed_until_it_is_interrupted(server: Server) -> None:
    words = [*DROPMILL, "log", "--audit", "--follow", "--last", "0", "--data", str(server.data)]
    said = server.folder / "followed.txt"
    with said.open("wb") as out, subprocess.Popen(words, stdout=out, env=clean_environment({})) as following:
        try:

            def heard() -> bool:
                client(server, "root")
                return "account.signed_in  root 127.0.0.1" in said.read_text()

            wait_until(heard)
            following.send_signal(signal.SIGINT)
            assert following.wait(PATIENCE_S) == 0
        finally:
            following.kill()


def test_no_secret_is_in_any_log_output_error_event_or_address(tmp_path: Path) -> None:
    """Secrets are sent where they belong and where they do not; then all that is kept or said is searched."""
    running = Server(tmp_path / "server", "--auth", "required")
    try:
        running.start()
        secrets = {"password": "pass-0123456789-word", "wrong": "wrong-0123456789-word", "new": "new-0123456789-word"}
        first = first_sign_in(running)["first"]
        root = client(running)
        made = {"first": first, "name": "root", "password": secrets["password"]}
        answers = [root.post("/api/v1/session", json=made)]
        assert answers[0].status_code == 204
        secrets["session"] = root.cookies["dropmill_session"]
        wished = {"scopes": ["read"], "expires_in": 600}
        secrets["token"] = root.post("/api/v1/tokens", json=wished).json()["token"]
        secrets["revoked"] = (gone := root.post("/api/v1/tokens", json=wished).json())["token"]
        assert root.delete(f"/api/v1/tokens/{gone['id']}").status_code == 204
        for secret in list(secrets.values()):
            answers += [
                client(running).post("/api/v1/session", json={"name": secret, "password": secret}),
                client(running).post("/api/v1/session", json={"name": "root", "password": secret[:-1] + "?"}),
                client(running).post("/api/v1/session", json={"first": secret, "name": "eve", "password": secret}),
                client(running).post("/api/v1/session", content=json.dumps({"name": secret})[:-1]),
                running.http.get("/api/v1/jobs", headers=bearer(secret)),
                running.http.get("/api/v1/jobs", headers={"Authorization": f"Basic {secret}"}),
                running.http.get("/api/v1/jobs", headers={"Cookie": f"dropmill_session={secret}"}),
                running.http.get("/healthz", headers={"Referer": f"{running.url}/?token={secret}"}),
                root.put("/api/v1/session/password", json={"current": secret + "?", "new": secrets["new"]}),
                root.delete(f"/api/v1/tokens/{secret}"),
                root.post("/api/v1/accounts", json={"name": "x", "role": secret, "password": secret}),
                root.post("/api/v1/accounts", json={"name": "x", "role": "viewer", "password": secret[:4]}),
            ]
        assert {answer.status_code for answer in answers} >= {204, 400, 401, 404, 429}
        root.put("/api/v1/session/password", json={"current": secrets["password"], "new": secrets["new"]})
        root.delete("/api/v1/session")
        said = [answer.content + repr(answer.headers.raw).encode() for answer in answers[1:]]
        wait_until(lambda: "account.signed_out" in (running.data / "log" / "dropmill.jsonl").read_text())
        running.stop()
        kept = {path: path.read_bytes() for path in running.data.rglob("*") if path.is_file()}
        for name, secret in secrets.items():
            secret_bytes = secret.encode()
            assert [path for path, text in kept.items() if secret_bytes in text] == [], name
            assert secret not in running.said(), name
            assert not any(secret_bytes in text for text in said), name
        assert b"account.refused" in b"".join(kept.values())
    finally:
        running.end()

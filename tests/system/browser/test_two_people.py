"""Two people in two browsers of one server, with accounts and with `--private`: neither sees the other's things."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.support.page_actions import SETTLED, submit, text_file, verdict
from tests.support.preloaded import DROPMILL
from tests.support.server import Server

Open = Callable[..., Page]
PASSWORD = "correct horse battery"
ASK = """async ([path, accept]) => {
  const answer = await fetch(path, { headers: { accept } });
  return [answer.status, await answer.text()];
}"""
POST = """async ([path, given]) => {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(given) });
  return [answer.status, await answer.json()];
}"""
JOIN = """(topic) => new Promise((resolve) => {
  const socket = new WebSocket(`${location.origin.replace("http", "ws")}/api/v1/live`);
  socket.onopen = () => socket.send(JSON.stringify({ type: "join", id: 7, topic, after: 0 }));
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "reply") { socket.close(); resolve(message); }
  };
})"""


@pytest.fixture(scope="module", params=["accounts", "private"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which people have accounts, or are told apart by their browsers."""
    folder = tmp_path_factory.mktemp("site")
    has_accounts = request.param == "accounts"
    server = Server(folder, *(("--auth", "required") if has_accounts else ("--private",)))
    try:
        server.start()
        for name, role in (("ada", "admin"), ("bob", "viewer"), ("eve", "viewer")) if has_accounts else ():
            command = [
                *DROPMILL,
                "account",
                "add",
                name,
                "--role",
                role,
                "--password-stdin",
                "--data",
                str(server.data),
            ]
            subprocess.run(command, input=f"{PASSWORD}\n", text=True, check=True, cwd=folder, capture_output=True)
        yield server
    finally:
        server.end()


@pytest.fixture
def has_accounts(request: pytest.FixtureRequest) -> bool:
    """Whether people sign in."""
    found: bool = request.node.callspec.params["site"] == "accounts"
    return found


@pytest.fixture
def person(open_page: Open, has_accounts: bool) -> Callable[[str], Page]:
    """Opens a page as somebody, in a browser of their own."""

    def arrive(name: str) -> Page:
        page = open_page("/sign-in" if has_accounts else "/")
        if has_accounts:
            page.get_by_label("Name").fill(name)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url(lambda url: "/sign-in" not in url)
        return page

    return arrive


def ask(page: Page, path: str, accept: str = "application/json") -> tuple[int, str]:
    """Status and text of what a browser is answered that asks with its cookie."""
    status, text = page.evaluate(ASK, [path, accept])
    return status, text


def topic_of(page: Page) -> str:
    """The topic with all that is about the person at a page."""
    found = page.evaluate("JSON.parse(document.getElementById('page-data').textContent).topic")
    assert re.match("account:|browser:", found), found
    return str(found)


def test_neither_of_two_people_sees_anything_of_the_other(
    person: Callable[[str], Page], has_accounts: bool, tmp_path: Path
) -> None:
    bob, eve = person("bob"), person("eve")
    submission = submit(bob, text_file(tmp_path / "plan-of-bob.txt"))
    expect(verdict(bob)).to_have_text(SETTLED)
    state: dict[str, Any] = json.loads(ask(bob, f"/api/v1/submissions/{submission}")[1])
    (file,) = state["files"]
    job, file_id = file["job"]["id"], file["id"]

    never = "0" * 32  # an id that nobody has
    for kind, found in (("submissions", submission), ("jobs", job)):
        answer = eve.goto(f"/{kind}/{found}")
        assert answer is not None
        assert answer.status == 404
        expect(eve.get_by_text("plan-of-bob")).to_have_count(0)
    for path, found in (
        *(("/api/v1/submissions/{}", submission), ("/api/v1/submissions/{}/files", submission)),
        *(
            ("/api/v1/jobs/{}", job),
            ("/api/v1/jobs/{}/output", job),
        ),
        *(("/api/v1/files/{}/content", file_id), ("/api/v1/events?topic=submission:{}", submission)),
    ):
        status, text = ask(eve, path.format(found))
        assert (status, text.replace(found, never)) == ask(eve, path.format(never)), path
        assert status == 404, path
        assert ask(bob, path.format(found))[0] == 200, path

    eve.goto("/history")
    expect(eve.get_by_text("plan-of-bob")).to_have_count(0)
    for path in ("submissions", "submissions?q=plan", "jobs", "jobs?q=plan", "history?q=plan", "log"):
        assert submission not in ask(eve, f"/api/v1/{path}")[1], path
        assert submission in ask(bob, f"/api/v1/{path}")[1], path

    bob.goto("/history")
    for topic in (f"submission:{submission}", topic_of(bob), "all"):
        if topic != "all":
            assert bob.evaluate(JOIN, topic)["ok"] is True
        assert eve.evaluate(JOIN, topic)["error"]["code"] == "not_found"
        status, messages = eve.evaluate(POST, ["/api/v1/live", {"joins": [{"topic": topic, "after": 0}], "wait": 0}])
        assert (status, [one["ok"] for one in messages if one["type"] == "reply"]) == (200, [False])
        assert {one["type"] for one in messages} <= {"hello", "reply", "poll"}
        status, _ = ask(eve, f"/api/v1/events?topic={topic}", "text/event-stream")
        assert status in (403, 404)
    for command in ("cancel", "retry"):
        assert eve.evaluate(POST, [f"/api/v1/jobs/{job}/{command}", {}])[0] == 404
    if has_accounts:
        ada = person("ada")
        assert submission in ask(ada, "/api/v1/submissions")[1]
        ada.goto(f"/submissions/{submission}")
        expect(ada.get_by_text("plan-of-bob").first).to_be_visible()


def test_only_who_sent_something_hears_of_it(person: Callable[[str], Page], has_accounts: bool, tmp_path: Path) -> None:
    bob, eve = person("bob"), person("eve")
    eve.goto("/history")
    submission = submit(bob, text_file(tmp_path / "for-bob.txt"))
    expect(verdict(bob)).to_have_text(SETTLED)
    if has_accounts:
        ada = person("ada")
        given = {"text": "Your files are with us.", "account": "bob"}
        assert ada.evaluate(POST, ["/api/v1/notices", given])[0] == 201
        expect(bob.get_by_text("Your files are with us.")).to_be_visible()
        expect(eve.get_by_text("Your files are with us.")).to_have_count(0)
    eve.goto("/")
    other = submit(eve, text_file(tmp_path / "for-eve.txt"))
    expect(verdict(eve)).to_have_text(SETTLED)
    bob.goto("/history")
    expect(bob.get_by_role("link", name="for-bob.txt")).to_be_visible()
    expect(bob.get_by_text("for-eve")).to_have_count(0)
    eve.goto("/history")
    expect(eve.get_by_role("link", name="for-eve.txt")).to_be_visible()
    expect(eve.get_by_text("for-bob")).to_have_count(0)
    for page, own in ((bob, submission), (eve, other)):
        assert [found["id"] for found in json.loads(ask(page, "/api/v1/submissions?q=for-")[1])["items"]] == [own]

"""`dropmill notice`: what an operator says on every page, until it expires or is withdrawn."""

import json
from collections.abc import Callable

import pytest
from tests.support.server import Server

Run = Callable[..., tuple[int, str, str]]


def test_a_notice_is_posted_listed_and_withdrawn(server: Server, run: Run) -> None:
    code, out, _ = run("notice", "Restart at six", "--expires", "2h", "--server", server.url, "--json")
    posted = json.loads(out)
    assert (code, posted["text"]) == (0, "Restart at six")
    code, out, _ = run("notice", "--list", "--server", server.url)
    assert code == 0
    assert f"{posted['id']}  Shown until {posted['expires_at']} to everybody: Restart at six\n" in out
    assert run("notice", "--withdraw", posted["id"], "--server", server.url) == (0, "", "")
    code, out, _ = run("notice", "--list", "--server", server.url, "--json")
    assert (code, [line for line in out.splitlines() if posted["id"] in line]) == (0, [])
    names = [(event["name"], event["data"]["id"]) for event in server.events() if event["name"].startswith("notice.")]
    assert names == [("notice.posted", posted["id"]), ("notice.withdrawn", posted["id"])]


def test_a_notice_that_there_is_not_is_an_error(server: Server, run: Run) -> None:
    for notice_id in ("0" * 32, "../submissions", ""):
        code, out, err = run("notice", "--withdraw", notice_id, "--server", server.url)
        assert (code, out) == (1, "")
        assert err.startswith("dropmill: ")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("text", "--list"),
        ("text", "--withdraw", "1"),
        ("--list", "--withdraw", "1"),
        ("--list", "--expires", "1h"),
        ("--withdraw", "1", "--submission", "2"),
    ],
)
def test_words_that_contradict_each_other_change_nothing(server: Server, run: Run, words: tuple[str, ...]) -> None:
    before = server.events()
    code, out, err = run("notice", *words, "--server", server.url)
    assert (code, out) == (2, "")
    assert "Usage" in err
    assert server.events() == before

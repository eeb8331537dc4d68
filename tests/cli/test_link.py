"""`dropmill link`: makes addresses by which people without an account send files or look at a submission."""

import contextlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.preloaded import DROPMILL, DropmillProcess
from tests.support.server import Server, clean_environment

Run = Callable[..., tuple[int, str, str]]
TERMS = {"NO_PROXY": "*", "TZ": "UTC"}


def entered(url: str, **given: str) -> tuple[httpx.Client, str]:
    """A browser that has entered a link, and the link's address."""
    base, secret = url.split("#")
    browser = httpx.Client(trust_env=False)
    browser.post(f"{base}/api/v1/enter", json={"secret": secret, **given}).raise_for_status()
    return browser, base


def test_a_link_is_made_used_listed_and_revoked(server: Server, run: Run) -> None:
    words = ("--label", "Drawings", "--expires", "2h", "--max-files", "2", "--max-size", "1MiB", "--asks-name")
    code, out, err = run("link", "create", *words, "--server", server.url)
    assert (code, err) == (0, "")
    assert re.fullmatch(re.escape(server.url) + r"/r/[0-9a-f]{32}#[\w-]{43}\n", out)
    browser, base = entered(out.strip(), name="Grace")
    with contextlib.closing(browser):
        sent = browser.post(f"{base}/api/v1/submissions", files={"file": ("a.txt", b"abc")})
        assert sent.status_code == 201
        code, out, _ = run("link", "list", "--server", server.url, "--json")
        [link] = map(json.loads, out.splitlines())
        assert (code, link["label"], link["files"], link["size"], link["max_size"]) == (0, "Drawings", 1, 3, 2**20)
        code, out, _ = run("link", "list", "--server", server.url)
        assert (code, link["id"] in out, "Drawings" in out) == (0, True, True)
        assert run("link", "revoke", link["id"], "--server", server.url) == (0, "", "")
        assert browser.get(f"{base}/api/v1/invitation").status_code == 404
    code, out, err = run("link", "revoke", link["id"], "--server", server.url)
    assert (code, out) == (1, "")
    assert "no such link" in err


def test_a_result_link_shows_its_submission(server: Server, run: Run) -> None:
    sent = httpx.post(f"{server.url}/api/v1/submissions", files={"file": ("a.txt", b"abc")}, trust_env=False)
    submission_id = sent.json()["id"]
    code, out, _ = run("link", "result", submission_id, "--server", server.url, "--json")
    made = json.loads(out)
    assert (code, made["link"]["submission_id"]) == (0, submission_id)
    assert made["url_without_script"] == made["url"].replace("#", "/")
    browser, base = entered(made["url"])
    with contextlib.closing(browser):
        seen = browser.get(f"{base}/api/v1/submissions/{submission_id}").json()
    assert (seen["id"], seen["client"]) == (submission_id, None)
    code, _, err = run("link", "result", "0" * 32, "--server", server.url)
    assert code == 1
    assert "no such submission" in err


def test_a_passphrase_comes_from_standard_input(server: Server, tmp_path: Path) -> None:
    words: list[Any] = ["link", "create", "--label", "x", "--passphrase-stdin", "--server", server.url]
    for given, code in (("open sesame\n", 0), ("short\n", 1), ("", 1)):
        process = DropmillProcess(
            [*DROPMILL, *words],
            cwd=tmp_path,
            env=clean_environment({"XDG_CACHE_HOME": str(tmp_path), **TERMS}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        out, err = process.communicate(given, timeout=60)
        assert process.returncode == code, err
        if code:
            assert (out, "passphrase" in err) == ("", True)
            continue
        base, secret = out.strip().split("#")
        refused = httpx.post(f"{base}/api/v1/enter", json={"secret": secret}, trust_env=False)
        assert refused.json()["asks"] == ["passphrase"]
        entered(out.strip(), passphrase="open sesame")[0].close()


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("create",),
        ("create", "--label", "x", "--max-files", "0"),
        ("create", "--label", "x", "--max-size", "some"),
        ("create", "--label", "x", "--expires", "soon"),
        ("create", "--label", ""),
        ("create", "--label", "x", "--expires", "500d"),
        ("result",),
        ("revoke",),
        ("revoke", "../submissions"),
    ],
)
def test_what_a_link_cannot_be_is_one_line_and_makes_none(server: Server, run: Run, words: tuple[str, ...]) -> None:
    more = ("--server", server.url) if words else ()
    code, out, err = run("link", *words, *more)
    assert code in (1, 2)
    assert err or "Usage" in out
    code, out, _ = run("link", "list", "--server", server.url, "--json")
    assert [line for line in out.splitlines() if '"label":"x"' in line and '"has_passphrase":false' in line] == []

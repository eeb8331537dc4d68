"""What belongs to https, in a real browser: cookies, sockets; and what stays in the browser after a sign-out."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.support.certificates import make_certificate
from tests.support.page_actions import submit, text_file
from tests.support.server import Server
from tests.support.waiting import wait_until

Open = Callable[..., Page]
PASSWORD = "correct horse battery"

KEPT = """async () => {
    const asked = indexedDB.open("dropmill");
    const database = await new Promise((resolve) => asked.addEventListener("success", () => resolve(asked.result)));
    const store = database.transaction("kept").objectStore("kept");
    const all = store.getAll();
    await new Promise((resolve) => all.addEventListener("success", resolve));
    database.close();
    return { files: all.result.length, keys: Object.keys(localStorage).sort() };
}"""
"""What the browser keeps of files, and the keys of what it keeps besides."""

KEEP = """async () => {
    const asked = indexedDB.open("dropmill");
    const database = await new Promise((resolve) => asked.addEventListener("success", () => resolve(asked.result)));
    const changing = database.transaction("kept", "readwrite");
    changing.objectStore("kept").add({ submission: "one", at: Date.now(), from: null, files: [], gone: [] });
    await new Promise((resolve) => changing.addEventListener("complete", resolve));
    database.close();
}"""
"""Has the browser keep files of a submission that has not been sent whole."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that speaks https and requires sign-in."""
    folder = tmp_path_factory.mktemp("site")
    certificate, key = make_certificate(folder)
    (folder / "plain.py").write_text("def process(path):\n    print('done')\n")
    tls = ("--certfile", str(certificate), "--keyfile", str(key))
    flags = ("--processor", "plain:process", "--auth", "required", *tls)
    server = Server(folder, *flags, certificate=certificate)
    try:
        yield server.start()
    finally:
        server.end()


@pytest.fixture(scope="module")
def signed_in(site: Server) -> dict[str, str]:
    """Name and password of the first account."""
    link = wait_until(lambda: re.search(r"/sign-in#first=(\S+)", site.said()))
    first = {"first": link[1], "name": "ada", "password": PASSWORD}
    assert site.http.post("/api/v1/session", json=first).status_code == 204
    return first


def sign_in(page: Page) -> None:
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Account of ada")).to_be_visible()
    expect(page.locator("[data-connection=live]")).to_be_visible()  # so the page takes files


def cookies(page: Page) -> dict[str, Any]:
    return {str(one.get("name")): one for one in page.context.cookies()}


def test_every_cookie_is_for_https_and_this_host_alone(open_page: Open, signed_in: dict[str, str]) -> None:
    page = open_page("/sign-in", ignore_https_errors=True)
    page.locator("#language-button").click()
    expect(page.locator("html")).to_have_attribute("lang", "de")
    page.locator("#language-button").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    sign_in(page)
    found = cookies(page)
    assert set(found) == {f"__Host-dropmill_{name}" for name in ("session", "known", "language")}
    assert {(one["secure"], one["path"], one["domain"]) for one in found.values()} == {(True, "/", "127.0.0.1")}
    same_site = {name.removeprefix("__Host-dropmill_"): one["sameSite"] for name, one in found.items()}
    assert same_site == {"session": "Lax", "known": "Strict", "language": "Lax"}
    assert found["__Host-dropmill_session"]["httpOnly"]
    assert found["__Host-dropmill_known"]["httpOnly"]
    assert page.evaluate("document.cookie") == "__Host-dropmill_language=en"


def test_the_socket_of_a_page_is_encrypted_as_the_page_is(open_page: Open, signed_in: dict[str, str]) -> None:
    page = open_page("/sign-in", ignore_https_errors=True)
    with page.expect_websocket() as opened:
        sign_in(page)
    assert opened.value.url.startswith("wss://")


def test_after_a_sign_out_the_browser_keeps_nothing_of_the_person(
    open_page: Open, signed_in: dict[str, str], tmp_path: Path
) -> None:
    page = open_page("/sign-in", ignore_https_errors=True)
    sign_in(page)
    page.get_by_role("button", name="Dark theme").click()
    submit(page, text_file(tmp_path / "secret name.txt"))
    page.wait_for_url("**/submissions/*")
    expect(page.get_by_role("link", name="secret name.txt")).to_be_visible()
    page.evaluate(KEEP)
    kept = page.evaluate(KEPT)
    assert kept["files"] > 0
    assert any(key.startswith("dropmill-submissions") for key in kept["keys"])
    page.get_by_role("button", name="Account of ada").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in")
    assert "__Host-dropmill_session" not in cookies(page)
    kept = page.evaluate(KEPT)
    assert kept["files"] == 0
    assert {"dropmill-theme"} <= set(kept["keys"]) <= {"dropmill-theme", "dropmill-socket", "dropmill-client"}
    page.go_back()
    expect(page.get_by_label("Password")).to_be_visible()
    expect(page.get_by_text("secret name.txt")).to_have_count(0)

"""Links on a whole server: below a sub-path, through a kill, and the results for who may see them."""

import contextlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.support.server import Server
from tests.support.waiting import wait_until

Make = Callable[..., Server]
TUS = {"Tus-Resumable": "1.0.0"}
CHUNK = {**TUS, "Content-Type": "application/offset+octet-stream"}
FORWARDED = {
    "Host": "drop.example",
    "Origin": "https://drop.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-For": "203.0.113.7",
}


def made(server: Server, **wanted: Any) -> tuple[str, str]:
    """The path of a new link, and its secret."""
    answer = server.http.post("/api/v1/links", json={"label": "Drawings", **wanted})
    assert answer.status_code == 201, answer.text
    base, secret = answer.json()["url"].split("#")
    return base.removeprefix(server.url), secret


def entered(server: Server, base: str, secret: str, **given: str) -> httpx.Client:
    """A browser that has entered a link."""
    browser = httpx.Client(base_url=server.url, timeout=30, trust_env=False)
    answer = browser.post(f"{base}/api/v1/enter", json={"secret": secret, **given})
    assert answer.status_code == 200, answer.text
    return browser


@pytest.mark.parametrize("kept", [True, False], ids=["kept by the proxy", "stripped by the proxy"])
def test_below_a_sub_path_everything_of_a_link_has_it(make_server: Make, kept: bool) -> None:
    flags = ("--auth", "off", "--public-url", "https://drop.example/files", "--trusted-proxy", "127.0.0.1/32")
    server = make_server(*flags).start()
    cookies: dict[str, str] = {}

    def ask(method: str, path: str, **more: Any) -> httpx.Response:
        sent = path if kept else path.removeprefix("/files")
        return server.http.request(method, sent, headers={**FORWARDED, **cookies, **more.pop("headers", {})}, **more)

    answer = ask("POST", "/files/api/v1/links", json={"label": "Drawings"}).json()
    base, secret = answer["url"].removeprefix("https://drop.example").split("#")
    assert base == f"/files/r/{answer['id']}"
    assert f'data-base="{base}"' in ask("GET", base).text
    door = ask("POST", f"{base}/{secret}", data={"x": "y"})
    assert (door.status_code, door.headers["Location"]) == (303, base)
    cookie = door.headers["Set-Cookie"]
    assert cookie.startswith("__Secure-dropmill_link=")
    assert {f"Path={base}", "Secure", "HttpOnly"} <= set(cookie.split("; "))
    cookies["Cookie"] = cookie.partition(";")[0]
    opened = ask("POST", f"{base}/api/v1/submissions", json={"files": [{"name": "a", "size": 1}]})
    shape = opened.json()
    assert opened.headers["Location"] == f"{base}/api/v1/submissions/{shape['id']}"
    url = shape["files"][0]["upload_url"]
    assert url.startswith(f"{base}/api/v1/uploads/")
    assert ask("HEAD", url, headers=TUS).status_code == 200
    [used] = [event for event in server_events(server, ask) if event["name"] == "link.used"]
    assert used["subject"]["client"]["ip"] == "203.0.113.7"


def server_events(server: Server, ask: Callable[..., httpx.Response]) -> list[Any]:
    found: list[Any] = ask("GET", "/files/api/v1/events?topic=all&limit=1000").json()["events"]
    return found


def test_a_visitor_goes_on_after_the_server_was_killed(make_server: Make) -> None:
    server = make_server().start()
    base, secret = made(server, shows_results=True, max_size=6, max_files=1)
    browser = entered(server, base, secret)
    shape = browser.post(f"{base}/api/v1/submissions", json={"files": [{"name": "a.txt", "size": 6}]}).json()
    url = shape["files"][0]["upload_url"]
    browser.patch(url, headers={**CHUNK, "Upload-Offset": "0"}, content=b"abc").raise_for_status()
    server.kill()
    server.start()
    with httpx.Client(base_url=server.url, cookies=dict(browser.cookies), timeout=30, trust_env=False) as again:
        assert again.head(url, headers=TUS).headers["Upload-Offset"] == "3"
        refused = again.post(f"{base}/api/v1/submissions", json={"files": [{"name": "b.txt", "size": 1}]})
        assert (refused.status_code, refused.json()["code"]) == (413, "link_used_up")
        again.patch(url, headers={**CHUNK, "Upload-Offset": "3"}, content=b"def").raise_for_status()
        again.post(f"{base}/api/v1/submissions/{shape['id']}/seal").raise_for_status()

        def settled() -> Any:
            seen = again.get(f"{base}/api/v1/submissions/{shape['id']}").json()
            return seen if seen["state"] == "settled" else None

        [file] = wait_until(settled)["files"]
        output = again.get(f"{base}/api/v1/jobs/{file['job']['id']}/output")
        assert (file["job"]["state"], output.status_code) == ("succeeded", 200)
        assert "a.txt" in output.text
    browser.close()


def test_a_revocation_outlives_a_restart(make_server: Make) -> None:
    server = make_server().start()
    base, secret = made(server)
    with contextlib.closing(entered(server, base, secret)) as browser:
        link_id = base.rpartition("/")[2]
        assert server.http.delete(f"/api/v1/links/{link_id}").status_code == 204
        assert browser.get(f"{base}/api/v1/invitation").status_code == 404
        cookies = dict(browser.cookies)
    assert server.stop() == 0
    server.start()
    with httpx.Client(base_url=server.url, cookies=cookies, timeout=30, trust_env=False) as again:
        assert again.get(f"{base}/api/v1/invitation").status_code == 404
        assert again.get(base).status_code == 404
        assert again.post(f"{base}/api/v1/enter", json={"secret": secret}).status_code == 404
    assert secret not in server.said()
    assert secret not in repr(server.log())

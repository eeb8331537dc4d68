"""Signing in, sessions, tokens and accounts over HTTP and sockets, on a real server that requires sign-in."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets.sync.client
from tests.support.server import Server
from tests.support.waiting import PATIENCE_S, wait_until
from websockets.exceptions import InvalidStatus

PASSWORD = "correct horse battery"
FORM = {"Origin": "", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that requires sign-in, with the accounts root, ada and bob."""
    running = Server(tmp_path_factory.mktemp("server"), "--auth", "required")
    try:
        running.start()
        root = client(running)
        assert root.post("/api/v1/session", json=first_sign_in(running)).status_code == 204
        for name in ("ada", "bob"):
            made = {"name": name, "role": "viewer", "password": PASSWORD}
            assert root.post("/api/v1/accounts", json=made).status_code == 201
        yield running
    finally:
        running.end()


def first_sign_in(server: Server) -> dict[str, str]:
    """What the one-time link's page sends."""
    (link,) = re.findall(r"http://\S+/sign-in#first=(\S+)", server.said())
    return {"first": link, "name": "root", "password": PASSWORD}


def client(server: Server, name: str | None = None, password: str = PASSWORD) -> httpx.Client:
    """A browser, which keeps cookies and says where its requests come from; signed in with a name."""
    headers = {"Origin": server.url, "User-Agent": f"browser of {name}"}
    made = httpx.Client(base_url=server.url, headers=headers, timeout=PATIENCE_S, trust_env=False)
    _opened.append(made)
    if name is not None:
        answer = made.post("/api/v1/session", json={"name": name, "password": password})
        assert (answer.status_code, answer.content) == (204, b"")
    return made


_opened: list[httpx.Client] = []


@pytest.fixture(autouse=True)
def _close_clients() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# --- who is let in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["submissions", "jobs/x", "config", "events", "log", "nowhere", "session", "accounts"])
def test_nobody_gets_anything_of_the_api(server: Server, path: str) -> None:
    for headers in ({}, bearer("dmill_" + "x" * 46), bearer("x" * 30), {"Cookie": f"dropmill_session={'a' * 43}"}):
        answer = server.http.get(f"/api/v1/{path}", headers=headers)
        assert code_of(answer) == (401, "sign_in_required")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert server.http.put("/send/x.txt", content=b"x").status_code == 401


def test_probes_and_files_of_pages_are_for_all_and_tell_nothing_of_the_config(server: Server) -> None:
    assert server.http.get("/healthz").json() == {"ok": True}
    assert server.http.get("/readyz").json()["config_problem"] is None
    page = server.http.get("/sign-in")
    assert page.status_code == 200
    for address in re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text):
        assert server.http.get(address).status_code == 200


def test_a_socket_of_nobody_is_refused_before_it_is_accepted(server: Server) -> None:
    for headers in ({}, bearer("x" * 30)):
        with pytest.raises(InvalidStatus) as caught:
            websockets.sync.client.connect(
                f"ws://{server.host}/api/v1/live", additional_headers=headers, proxy=None
            ).close()
        assert caught.value.response.status_code == 401


def test_a_cookie_is_kept_from_scripts_and_other_sites(server: Server) -> None:
    answer = client(server).post("/api/v1/session", json={"name": "Ada", "password": PASSWORD})
    session, mark = answer.headers.get_list("Set-Cookie")
    assert re.fullmatch(
        r"dropmill_session=[\w-]{43}; Expires=[^;]+; Max-Age=2592000; HttpOnly; Path=/; SameSite=Lax", session
    )
    assert re.fullmatch(
        r"dropmill_known=[0-9a-f.]{97}; Expires=[^;]+; Max-Age=31536000; HttpOnly; Path=/; SameSite=Strict", mark
    )


def test_who_has_signed_in_here_before_is_not_kept_out_by_others_who_fail(server: Server) -> None:
    """From the same address, as behind a proxy or in an office; not even after signing out."""
    browser = client(server, "bob")
    assert browser.delete("/api/v1/session").status_code == 204
    wrong = {"name": "bob", "password": "a wrong password"}
    stranger = client(server)
    answers = [code_of(stranger.post("/api/v1/session", json=wrong)) for _ in range(12)]
    assert (429, "too_many_attempts") in answers
    assert browser.post("/api/v1/session", json=wrong | {"password": PASSWORD}).status_code == 204


def test_who_signs_in_is_told_who_they_are_until_they_sign_out(server: Server) -> None:
    browser = client(server, "ada")
    said = browser.get("/api/v1/session").json()
    assert (said["account"], said["role"]) == ("ada", "viewer")
    assert said["expires_at"] > "2026"
    cookies = dict(browser.cookies)
    answer = browser.delete("/api/v1/session")
    assert answer.status_code == 204
    assert set(browser.cookies) == {"dropmill_known"}
    assert (
        browser.get(
            "/api/v1/session", headers={"Cookie": f"dropmill_session={cookies['dropmill_session']}"}
        ).status_code
        == 401
    )


@pytest.mark.parametrize(("name", "password"), [("ada", "wrong password"), ("nobody", PASSWORD)])
def test_a_wrong_name_and_a_wrong_password_get_the_same_answer(server: Server, name: str, password: str) -> None:
    answer = client(server).post("/api/v1/session", json={"name": name, "password": password})
    assert (code_of(answer), answer.json()["detail"]) == (
        (401, "wrong_credentials"),
        "The name or the password is wrong.",
    )


@pytest.mark.parametrize(
    "given", [{}, {"name": 1, "password": PASSWORD}, {"name": "ada"}, [1], {"first": 1, "name": "x", "password": "y"}]
)
def test_what_is_no_sign_in_is_refused(server: Server, given: Any) -> None:
    assert client(server).post("/api/v1/session", json=given).status_code == 400


def test_a_token_in_the_address_opens_nothing(server: Server) -> None:
    token = client(server, "ada").post("/api/v1/tokens", json={}).json()["token"]
    assert server.http.get("/api/v1/submissions", headers=bearer(token)).status_code == 200
    for name in ("token", "access_token", "authorization"):
        assert server.http.get(f"/api/v1/submissions?{name}={token}").status_code == 401


def test_the_form_signs_in_without_a_script_and_leads_to_pages_of_this_server_only(server: Server) -> None:
    for wanted, reached in {
        "/history": "/history",
        "//evil.example": "/",
        "/\\evil.example": "/",
        "https://e.example": "/",
        "": "/",
    }.items():
        answer = client(server).post("/sign-in", params={"next": wanted}, data={"name": "ada", "password": PASSWORD})
        assert (answer.status_code, answer.headers["Location"]) == (303, reached)
        assert "dropmill_session" in answer.headers["Set-Cookie"]
    refused = client(server).post("/sign-in", data={"name": "ada", "password": "<wrong>"})
    assert (refused.status_code, 'role="alert"' in refused.text) == (401, True)
    assert "&lt;wrong&gt;" not in refused.text


# --- submissions -----------------------------------------------------------------------------------------------------


def test_a_submission_names_its_account_and_the_account_is_in_the_log(server: Server) -> None:
    browser = client(server, "ada")
    made = browser.post("/api/v1/submissions", files={"file": ("a.txt", b"a")}).json()
    assert made["account"] == "ada"
    name, text = "account.signed_in", (server.data / "log" / "dropmill.jsonl").read_text()
    lines = wait_until(lambda: [json.loads(line) for line in text.splitlines() if name in line])
    assert {"ada"} <= {line["account"] for line in lines}
    assert PASSWORD not in text


# --- one's own sessions and tokens -----------------------------------------------------------------------------------


def test_sessions_are_listed_and_ended_one_by_one(server: Server) -> None:
    client(server, "root").post("/api/v1/accounts", json={"name": "eve", "role": "viewer", "password": PASSWORD})
    browser, other = client(server, "eve"), client(server, "eve")
    found = browser.get("/api/v1/sessions").json()["items"]
    assert [one["is_current"] for one in found] == [False, True]
    assert found[0].keys() == {"id", "created_at", "last_used_at", "expires_at", "client", "user_agent", "is_current"}
    assert (found[0]["client"], found[0]["user_agent"]) == ("127.0.0.1", "browser of eve")
    assert browser.delete(f"/api/v1/sessions/{found[0]['id']}").status_code == 204
    wait_until(lambda: other.get("/api/v1/session").status_code == 401)
    assert code_of(browser.delete(f"/api/v1/sessions/{found[0]['id']}")) == (404, "not_found")
    assert browser.get("/api/v1/session").status_code == 200


def test_a_new_password_ends_the_other_sessions(server: Server) -> None:
    client(server, "root").post("/api/v1/accounts", json={"name": "pam", "role": "viewer", "password": PASSWORD})
    browser, other = client(server, "pam"), client(server, "pam")
    path = "/api/v1/session/password"
    assert code_of(browser.put(path, json={"current": "wrong one", "new": "another password"})) == (
        401,
        "wrong_credentials",
    )
    assert browser.put(path, json={"current": PASSWORD, "new": "short"}).status_code == 400
    assert browser.put(path, json={"current": PASSWORD, "new": "another password"}).status_code == 204
    wait_until(lambda: other.get("/api/v1/session").status_code == 401)
    assert browser.get("/api/v1/session").status_code == 200
    client(server, "pam", "another password")


def test_a_token_is_shown_once_and_works_until_it_is_revoked(server: Server) -> None:
    browser = client(server, "ada")
    made = browser.post("/api/v1/tokens", json={"scopes": ["read"], "expires_in": 3600, "name": "nightly"}).json()
    assert made.keys() == {"id", "token"}
    assert server.http.get("/api/v1/session", headers=bearer(made["token"])).json()["account"] == "ada"
    (found,) = [one for one in browser.get("/api/v1/tokens").json()["items"] if one["id"] == made["id"]]
    assert found.keys() == {"id", "name", "scopes", "prefix", "created_at", "expires_at", "last_used_at"}
    assert (found["name"], found["scopes"]) == ("nightly", ["read"])
    assert made["token"].startswith(found["prefix"])
    assert made["token"] not in browser.get("/api/v1/tokens").text
    assert browser.delete(f"/api/v1/tokens/{made['id']}").status_code == 204
    wait_until(lambda: server.http.get("/api/v1/session", headers=bearer(made["token"])).status_code == 401)


@pytest.mark.parametrize(
    "given",
    [
        {"scopes": ["all"]},
        {"scopes": "read"},
        {"scopes": []},
        {"expires_in": 0},
        {"expires_in": "1h"},
        {"name": 1},
        {"scopes": [[]]},
    ],
)
def test_what_is_no_token_is_refused(server: Server, given: Any) -> None:
    assert client(server, "ada").post("/api/v1/tokens", json=given).status_code == 400


# --- accounts --------------------------------------------------------------------------------------------------------


def test_accounts_are_added_changed_listed_and_removed(server: Server) -> None:
    root = client(server, "root")
    path = "/api/v1/accounts"
    made = root.post(path, json={"name": "Zoe", "role": "operator", "password": PASSWORD}).json()
    times = {"created_at", "disabled_at", "removed_at", "last_seen_at"}
    assert made.keys() == {"id", "name", "role", *times, "own_limits", "quota"}
    assert code_of(root.post(path, json={"name": "ZOE", "role": "viewer", "password": PASSWORD})) == (409, "name_taken")
    own = f"{path}/{made['id']}"
    assert root.patch(own, json={"role": "viewer", "is_disabled": True}).json()["disabled_at"] is not None
    assert code_of(client(server).post("/api/v1/session", json={"name": "zoe", "password": PASSWORD})) == (
        401,
        "wrong_credentials",
    )
    assert root.patch(own, json={"is_disabled": False, "password": "another password"}).json()["disabled_at"] is None
    client(server, "zoe", "another password")
    assert root.delete(own).status_code == 204
    assert code_of(root.patch(own, json={"role": "admin"})) == (404, "not_found")
    (found,) = [one for one in root.get(path).json()["items"] if one["id"] == made["id"]]
    assert found["removed_at"] is not None
    again = root.post(path, json={"name": "Zoe", "role": "viewer", "password": PASSWORD}).json()
    assert again["id"] != made["id"]


def test_who_is_no_admin_neither_sees_nor_changes_accounts(server: Server) -> None:
    ada, path = client(server, "ada"), "/api/v1/accounts"
    own = f"{path}/{ada.get('/api/v1/session').json()['id']}"
    made = {"name": "x", "role": "admin", "password": PASSWORD}
    for answer in (
        ada.get(path),
        ada.post(path, json=made),
        ada.patch(own, json={"role": "admin"}),
        ada.delete(own),
    ):
        assert code_of(answer) == (403, "forbidden")
    assert ada.get("/api/v1/session").json()["role"] == "viewer"


def test_the_last_admin_stays(server: Server) -> None:
    root = client(server, "root")
    own = f"/api/v1/accounts/{root.get('/api/v1/session').json()['id']}"
    for change in ({"role": "viewer"}, {"is_disabled": True}):
        assert code_of(root.patch(own, json=change)) == (409, "last_admin")
    assert code_of(root.delete(own)) == (409, "last_admin")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"name": "x", "password": PASSWORD},
        {"name": "x", "role": "king", "password": PASSWORD},
        {"name": "x", "role": ["admin"], "password": PASSWORD},
        {"name": "x", "role": "viewer", "password": "short"},
        {"name": "\n", "role": "viewer", "password": PASSWORD},
    ],
)
def test_what_is_no_account_is_refused(server: Server, given: Any) -> None:
    assert client(server, "root").post("/api/v1/accounts", json=given).status_code == 400


def test_fields_that_nobody_asked_for_set_nothing(server: Server) -> None:
    """A request cannot set what its call is not for."""
    root = client(server, "root")
    more = {
        "id": "a" * 32,
        "created_at": "2000-01-01T00:00:00Z",
        "removed_at": "2000-01-01T00:00:00Z",
        "is_disabled": True,
    }
    made = root.post("/api/v1/accounts", json={"name": "kim", "role": "viewer", "password": PASSWORD, **more}).json()
    assert (made["id"] != more["id"], made["created_at"] > "2026", made["removed_at"], made["disabled_at"]) == (
        True,
        True,
        None,
        None,
    )
    kim = client(server, "kim")
    given = {"current": PASSWORD, "new": "another password", "role": "admin", "name": "root", "id": more["id"]}
    assert kim.put("/api/v1/session/password", json=given).status_code == 204
    assert kim.get("/api/v1/session").json()["role"] == "viewer"
    changed = root.patch(
        f"/api/v1/accounts/{made['id']}", json={"name": "root", "id": more["id"], "removed_at": "x"}
    ).json()
    assert (changed["id"], changed["name"], changed["removed_at"]) == (made["id"], "kim", None)


# --- the start -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [
        ("--bind", "0.0.0.0:0"),
        ("--public-url", "http://drop.example"),
        ("--trusted-proxy", "127.0.0.1"),
        ("--allowed-origin", "https://a.example"),
    ],
)
def test_a_server_that_others_may_reach_requires_sign_in(
    make_server: Callable[..., Server], flags: tuple[str, str]
) -> None:
    started = make_server(*flags).start()
    assert started.http.get("/api/v1/submissions", headers={"Host": "localhost"}).status_code == 401
    assert "/sign-in#first=" in started.said()


def test_a_server_for_this_machine_alone_is_open(make_server: Callable[..., Server]) -> None:
    started = make_server("--allowed-origin", "http://localhost:5173").start()
    assert started.http.get("/api/v1/session").json() == {
        "account": None,
        "id": None,
        "role": "admin",
        "expires_at": None,
    }
    assert "first=" not in started.said()


def test_a_one_time_link_is_spent_once_and_a_new_start_prints_another(make_server: Callable[..., Server]) -> None:
    started = make_server("--auth", "required").start()
    old = first_sign_in(started)
    started.stop()
    started.start()
    new = re.findall(r"#first=(\S+)", started.said())[-1]
    browser = client(started)
    assert code_of(browser.post("/api/v1/session", json=old)) == (401, "wrong_credentials")
    assert browser.post("/api/v1/session", json=old | {"first": new, "password": "short"}).status_code == 400
    assert browser.post("/api/v1/session", json=old | {"first": new}).status_code == 204
    assert browser.get("/api/v1/session").json()["role"] == "admin"
    assert code_of(client(started).post("/api/v1/session", json=old | {"first": new, "name": "other"})) == (
        401,
        "wrong_credentials",
    )
    started.stop()
    started.start()
    assert started.said().count("#first=") == 2
    cookie = {"Cookie": f"dropmill_session={browser.cookies['dropmill_session']}"}
    assert (
        started.http.get("/api/v1/session", headers=cookie).json()["account"] == "root"
    )  # sessions outlive the server


def test_nobody_signs_in_over_plain_http_from_elsewhere_unless_told_to(make_server: Callable[..., Server]) -> None:
    for flags, code in (((), (403, "insecure_http")), (("--insecure-http",), (401, "wrong_credentials"))):
        started = make_server("--auth", "required", "--allowed-host", "drop.example", *flags).start()
        given = {"name": "ada", "password": PASSWORD}
        headers = {"Host": "drop.example", "Origin": "http://drop.example"}
        assert code_of(started.http.post("/api/v1/session", json=given, headers=headers)) == code
        assert code_of(started.http.post("/api/v1/session", json=given)) == (401, "wrong_credentials")


def test_no_token_works_over_plain_http_from_elsewhere_unless_told_to(make_server: Callable[..., Server]) -> None:
    """Whoever sent it must notice, though others may have read it by then."""
    for flags, status in (((), 403), (("--insecure-http",), 200)):
        started = make_server("--auth", "required", "--allowed-host", "drop.example", *flags).start()
        root = client(started)
        assert root.post("/api/v1/session", json=first_sign_in(started)).status_code == 204
        token = root.post("/api/v1/tokens", json={}).json()["token"]
        answer = started.http.get("/api/v1/jobs", headers={**bearer(token), "Host": "drop.example"})
        assert answer.status_code == status
        if status == 403:
            assert code_of(answer) == (403, "insecure_http")
            nobodys = started.http.get("/api/v1/jobs", headers={**bearer("x"), "Host": "drop.example"})
            assert nobodys.content == answer.content  # it was not looked at
        assert started.http.get("/api/v1/jobs", headers=bearer(token)).status_code == 200
        if status == 403:
            with started.connect() as plain, pytest.raises(InvalidStatus) as caught:
                websockets.sync.client.connect(
                    "ws://drop.example/api/v1/live", sock=plain, additional_headers=bearer(token), proxy=None
                ).close()
            assert caught.value.response.status_code == 403


def test_who_guesses_has_to_wait_and_others_need_not(make_server: Callable[..., Server], tmp_path: Path) -> None:
    started = make_server("--auth", "required").start()
    for _ in range(5):
        answer = client(started).post("/api/v1/session", json={"name": "ada", "password": "guess"})
        assert answer.status_code == 401
    answer = client(started).post("/api/v1/session", json={"name": "ada", "password": "guess"})
    assert (code_of(answer), answer.headers["Retry-After"]) == ((429, "too_many_attempts"), "1")
    assert client(started).post("/api/v1/session", json={"name": "bob", "password": "guess"}).status_code == 401

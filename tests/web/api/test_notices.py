"""Notices to one account, on a real server that requires sign-in."""

from collections.abc import Iterator

import httpx
import pytest
from tests.support.server import Server
from tests.web.api.test_accounts import PASSWORD, client, code_of, first_sign_in


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with the accounts root, olga (an operator) and ada."""
    running = Server(tmp_path_factory.mktemp("server"), "--auth", "required")
    try:
        running.start()
        root = client(running)
        assert root.post("/api/v1/session", json=first_sign_in(running)).status_code == 204
        for name, role in (("olga", "operator"), ("ada", "viewer")):
            made = {"name": name, "role": role, "password": PASSWORD}
            assert root.post("/api/v1/accounts", json=made).status_code == 201
        yield running
    finally:
        running.end()


def test_a_notice_to_an_account_is_on_its_pages_alone(server: Server) -> None:
    olga, ada, root = (client(server, name) for name in ("olga", "ada", "root"))
    assert code_of(olga.post("/api/v1/notices", json={"text": "x", "account": "nobody"})) == (404, "not_found")
    both = {"text": "x", "account": "ada", "submission_id": "y"}
    assert code_of(olga.post("/api/v1/notices", json=both)) == (400, "bad_request")
    posted = olga.post("/api/v1/notices", json={"text": "Your disk is full", "account": "ADA"})
    assert posted.status_code == 201, posted.text
    ids = {name: one.get("/api/v1/session").json()["id"] for name, one in (("ada", ada), ("olga", olga))}
    assert posted.json()["account_id"] == ids["ada"]
    by_id = {"text": "To you", "account_id": ids["olga"]}
    assert olga.post("/api/v1/notices", json=by_id).status_code == 201
    shown = {name: notices(one) for name, one in (("ada", ada), ("olga", olga), ("root", root))}
    assert shown == {"ada": ["Your disk is full"], "olga": ["To you"], "root": []}
    assert [notice["text"] for notice in ada.get("/api/v1/notices").json()["items"]] == ["Your disk is full"]
    assert len(root.get("/api/v1/notices").json()["items"]) == 2  # to withdraw them


def notices(browser: httpx.Client) -> list[str]:
    """The notices that a page of this browser is told of."""
    messages = browser.post("/api/v1/live", json={"wait": 0, "joins": []}).json()
    return [message["text"] for message in messages if message["type"] == "notice"]

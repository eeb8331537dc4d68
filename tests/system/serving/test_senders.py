"""Who is sending, as pages hear it from a real server: until a connection breaks, and not after a restart."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.server import Server, form, hear, post
from tests.support.tus import create, offset_of, patch_head
from tests.support.waiting import wait_until
from websockets.sync.client import ClientConnection

Make = Callable[..., Server]

CHUNK = 1 << 20


def announced(server: Server, *sizes: int) -> Any:
    """An open submission of announced files."""
    files = [{"name": f"{number}.bin", "size": size} for number, size in enumerate(sizes)]
    answer = server.http.post("/api/v1/submissions", json={"files": files})
    assert answer.status_code == 201, answer.text
    return answer.json()


def join(client: ClientConnection, submission_id: str) -> Any:
    """Follow a submission; the files that are being sent."""
    client.send(json.dumps({"type": "join", "id": 1, "topic": f"submission:{submission_id}"}))
    return hear(client, "sending")["file_ids"]


def sending(server: Server, submission_id: str) -> list[str]:
    """The same, as the API has it."""
    return [file["id"] for file in server.get(f"/submissions/{submission_id}")["files"] if file["is_sending"]]


@pytest.mark.parametrize("is_form", [False, True])
def test_a_page_hears_that_the_connection_of_an_upload_broke(server: Server, is_form: bool) -> None:
    submission = announced(server, 2 * CHUNK)
    (file,) = submission["files"]
    with server.live() as client:
        assert join(client, submission["id"]) == sending(server, submission["id"]) == []
        with server.connect() as connection:
            if is_form:
                body = form([(file["name"], bytes(CHUNK))], is_closed=False)
                head = post(server, 2 * CHUNK, f"/api/v1/submissions/{submission['id']}/files")
                connection.sendall(head + body)
            else:
                connection.sendall(patch_head(server, file["upload_url"], 0, 2 * CHUNK) + bytes(CHUNK))
            assert hear(client, "sending")["file_ids"] == [file["id"]]
            assert sending(server, submission["id"]) == [file["id"]]
        assert hear(client, "sending")["file_ids"] == []
        assert sending(server, submission["id"]) == []
    (now,) = server.get(f"/submissions/{submission['id']}")["files"]
    assert now["state"] == ("aborted" if is_form else "receiving")


def test_a_connection_that_died_silently_sends_until_the_idle_limit(make_server: Make) -> None:
    server = make_server("--idle-timeout", "2").start()
    submission = announced(server, 2 * CHUNK)
    (file,) = submission["files"]
    with server.live() as client, server.connect() as connection:
        assert join(client, submission["id"]) == []
        connection.sendall(patch_head(server, file["upload_url"], 0, 2 * CHUNK) + bytes(CHUNK))
        assert hear(client, "sending")["file_ids"] == [file["id"]]
        assert hear(client, "sending")["file_ids"] == []  # nothing was closed
    assert offset_of(server.http, file["upload_url"]) == CHUNK


def test_after_a_kill_nobody_sends(make_server: Make) -> None:
    server = make_server().start()
    submission = announced(server, 2 * CHUNK)
    (file,) = submission["files"]
    with server.connect() as connection:
        connection.sendall(patch_head(server, file["upload_url"], 0, 2 * CHUNK) + bytes(CHUNK))
        wait_until(lambda: sending(server, submission["id"]) == [file["id"]])
        server.kill()
    server.start()
    with server.live() as client:
        assert join(client, submission["id"]) == sending(server, submission["id"]) == []
    (now,) = server.get(f"/submissions/{submission['id']}")["files"]
    assert (now["state"], now["is_sending"]) == ("receiving", False)


def test_an_upload_of_its_own_is_followed_too(server: Server) -> None:
    url = create(server.http, 2 * CHUNK)
    with server.connect() as connection:
        connection.sendall(patch_head(server, url, 0, 2 * CHUNK) + bytes(CHUNK))
        newest = server.get("/submissions?limit=1")["items"][0]["id"]
        with server.live() as client:
            first = join(client, newest)
            assert (first or hear(client, "sending")["file_ids"]) == [url.rpartition("/")[2]]

"""Forms that fill announced files by id: however often one is sent, each file counts once."""

from typing import Any

from tests.support.server import Server


def announce(server: Server, *names: str) -> Any:
    body = {"files": [{"name": name, "size": 4} for name in names]}
    return server.http.post("/api/v1/submissions", json=body).json()


def send(server: Server, submission: Any, *files: Any) -> Any:
    parts = [(f"file:{file['id']}", (file["name"], b"data")) for file in files]
    return server.http.post(f"/api/v1/submissions/{submission['id']}/files", files=parts)


def test_a_form_sent_twice_fills_each_file_once(server: Server) -> None:
    submission = announce(server, "a.txt", "b.txt", "c.txt")
    first, second, third = submission["files"]
    assert send(server, submission, first, second).status_code == 201
    answer = send(server, submission, first, second, third)
    assert answer.status_code == 201
    assert [(file["id"], file["state"]) for file in answer.json()["files"]] == [
        (file["id"], "stored") for file in submission["files"]
    ]
    assert send(server, submission, *submission["files"]).status_code == 201
    server.http.post(f"/api/v1/submissions/{submission['id']}/seal")
    assert server.settled(submission["id"])["counts"]["succeeded"] == 3


def test_files_of_one_name_are_told_apart(server: Server) -> None:
    submission = announce(server, "same.txt", "same.txt")
    files = send(server, submission, submission["files"][1]).json()["files"]
    assert [file["state"] for file in files] == ["announced", "stored"]


def test_a_file_that_was_ended_stays_ended(server: Server) -> None:
    submission = announce(server, "a.txt", "b.txt")
    ended, other = submission["files"]
    assert server.http.delete(ended["upload_url"], headers={"Tus-Resumable": "1.0.0"}).status_code == 204
    files = send(server, submission, ended, other).json()["files"]
    assert [file["state"] for file in files] == ["aborted", "stored"]


def test_an_id_of_another_submission_or_of_none_is_not_found(server: Server) -> None:
    submission, other = announce(server, "a.txt"), announce(server, "a.txt")
    for wrong in (other["files"][0], {"id": "nobody", "name": "a.txt"}):
        answer = send(server, submission, wrong)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert server.get(f"/submissions/{other['id']}")["files"][0]["state"] == "announced"

"""The whole of what Dropmill is for, from outside, with curl as the client."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from tests.support.server import CONFIG, Server, clean_environment, form, post, read_answer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.fresh

SUBMISSIONS = "/api/v1/submissions"
CONFIG_PATH = "/api/v1/config"


def curl(server: Server, *arguments: str) -> tuple[int, str]:
    """Status and body of what curl was answered."""
    made = subprocess.run(
        ["curl", "-sS", "--noproxy", "*", "-w", "\n%{http_code}", *arguments, server.url + SUBMISSIONS],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env=clean_environment(),
    )
    body, _, status = made.stdout.rpartition("\n")
    return int(status), body


def test_two_files_sent_by_curl_are_both_processed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "first.txt").write_text("one\n")
    (tmp_path / "second.csv").write_bytes(bytes(70_000))

    status, body = curl(server, "-F", f"file=@{tmp_path}/first.txt", "-F", f"anything=@{tmp_path}/second.csv")

    assert status == 201
    settled = server.settled(json.loads(body)["id"])
    shown = [(file["name"], file["size"], file["state"], file["job"]["state"]) for file in settled["files"]]
    assert shown == [("first.txt", 4, "stored", "succeeded"), ("second.csv", 70_000, "stored", "succeeded")]
    assert settled["counts"]["succeeded"] == 2
    assert settled["client"]["ip"] == "127.0.0.1"
    assert settled["client"]["user_agent"].startswith("curl/")


def test_the_log_file_tells_the_story_one_object_a_line(server: Server) -> None:
    submission = server.settled(server.send(("story.txt", b"told"))["id"])["id"]

    def story() -> list[dict[str, object]] | None:
        lines = [line for line in server.log() if line["submission"] == submission]
        names = {line["event"] for line in lines}
        return lines if {"submission.settled", "client.identified"} <= names else None

    lines = wait_until(story)
    names = [line["event"] for line in lines if line["event"] != "client.identified"]
    assert names == [
        "submission.opened",
        "upload.started",
        "upload.stored",
        "job.queued",
        *(name for name in names if name in ("submission.sealed", "attempt.started", "attempt.succeeded")),
        "job.settled",
        "submission.settled",
    ]
    assert {"submission.sealed", "attempt.started", "attempt.succeeded"} <= set(names)
    assert all(line["ip"] == "127.0.0.1" for line in lines)
    assert all({"host", "domain", "verified", "at", "cursor", "message"} <= set(line) for line in lines)
    assert {line["name"] for line in lines if line["file"]} == {"story.txt"}
    cursors = [line["cursor"] for line in server.log()]
    assert cursors == list(range(1, len(cursors) + 1))


def test_the_ledger_and_the_log_file_tell_the_same(server: Server) -> None:
    server.settled(server.send(("same.txt", b"x"))["id"])
    events = server.events()
    lines = wait_until(lambda: found if len(found := server.log()) >= len(events) else None)
    assert [(line["cursor"], line["event"]) for line in lines][: len(events)] == [
        (event["cursor"], event["name"]) for event in events
    ]


def test_a_submission_is_created_at_its_location(server: Server) -> None:
    answer = server.http.post(SUBMISSIONS, files={"file": ("a.txt", b"a")})
    assert answer.status_code == 201
    found = server.http.get(answer.headers["Location"])
    assert found.json()["id"] == answer.json()["id"]


def test_a_browsers_form_is_sent_on_to_the_page(server: Server) -> None:
    html = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    answer = server.http.post(SUBMISSIONS, files={"file": ("a.txt", b"a")}, headers=html)
    assert answer.status_code == 303
    page = server.http.get(answer.headers["Location"], headers=html)
    assert page.status_code == 200
    assert "a.txt" in page.text


def test_lists_lead_from_the_newest_to_the_oldest(server: Server) -> None:
    made = [server.send((f"{n}.txt", b"x"))["id"] for n in range(3)]
    first = server.get("/submissions?limit=2")
    assert [item["id"] for item in first["items"]] == [made[2], made[1]]
    second = server.get(f"/submissions?limit=1&before={first['next']}")
    assert [item["id"] for item in second["items"]] == [made[0]]
    assert [job["submission_id"] for job in server.get(f"/jobs?submission={made[0]}")["items"]] == [made[0]]


def test_files_are_listed_in_their_order(server: Server) -> None:
    names = [f"{n:02}.txt" for n in range(7)]
    submission = server.send(*((name, b"x") for name in names))["id"]
    seen: list[str] = []
    following = ""
    while True:
        page = server.get(f"/submissions/{submission}/files?limit=3{following}")
        seen += [file["name"] for file in page["items"]]
        if page["next"] is None:
            break
        following = f"&before={page['next']}"
    assert seen == names


def test_output_is_read_from_an_offset_of_an_attempt(server: Server) -> None:
    job = server.settled(server.send(("report.txt", b"12345"))["id"])["files"][0]["job"]
    path = f"/api/v1/jobs/{job['id']}/output"

    whole = server.http.get(path)
    assert whole.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "report.txt" in whole.text
    assert job["output_size"] == len(whole.content)

    rest = server.http.get(path, params={"attempt": 1, "from": 4})
    assert rest.content == whole.content[4:]
    assert rest.headers["Dropmill-Offset"] == "4"
    assert server.http.get(path, params={"from": len(whole.content)}).content == b""
    assert server.http.get(path, params={"attempt": 2}).status_code == 404


def test_a_retry_is_a_second_attempt(server: Server) -> None:
    submission = server.settled(server.send(("again.txt", b"x"))["id"])
    job = submission["files"][0]["job"]["id"]
    assert server.http.post(f"/api/v1/jobs/{job}/retry").status_code == 202
    numbers = wait_until(
        lambda: (
            [attempt["number"] for attempt in found["attempts"]]
            if (found := server.get(f"/jobs/{job}"))["state"] == "succeeded" and len(found["attempts"]) == 2
            else None
        )
    )
    assert numbers == [1, 2]
    assert server.http.post(f"/api/v1/jobs/{job}/cancel").status_code == 409


def test_files_are_added_to_an_open_submission_until_it_is_sealed(server: Server) -> None:
    opened = server.http.post(SUBMISSIONS, json={"files": []})
    assert (opened.status_code, opened.json()["state"]) == (201, "open")
    path = opened.headers["Location"]

    assert server.http.post(f"{path}/files", files={"f": ("one", b"1")}).status_code == 201
    assert server.http.get(path).json()["state"] == "open"
    assert server.http.post(f"{path}/seal").status_code == 200
    assert server.http.post(f"{path}/seal").status_code == 200
    late = server.http.post(f"{path}/files", files={"f": ("two", b"2")})
    assert (late.status_code, late.json()["code"]) == (409, "submission_sealed")
    assert [file["name"] for file in server.settled(opened.json()["id"])["files"]] == ["one"]


def test_the_last_form_can_seal_the_submission(server: Server) -> None:
    opened = server.http.post(SUBMISSIONS, json={"files": []}).json()["id"]
    server.http.post(f"{SUBMISSIONS}/{opened}/files?seal=1", files={"f": ("only", b"1")})
    assert server.settled(opened)["counts"]["succeeded"] == 1


@pytest.mark.parametrize("json", [{}, {"files": [{"name": "a"}]}, {"files": None}, []])
def test_announcing_what_is_not_offered_yet_is_refused(server: Server, json: object) -> None:
    answer = server.http.post(SUBMISSIONS, json=json)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_the_config_is_replaced_byte_for_byte(server: Server) -> None:
    before = server.http.get(CONFIG_PATH)
    assert before.headers["Content-Type"] == "application/yaml"
    new = before.content + b"more: 1  # kept too\r\n"

    saved = server.http.put(CONFIG_PATH, content=new, headers={"If-Match": before.headers["ETag"]})

    assert saved.status_code == 200
    assert server.http.get(CONFIG_PATH).content == new == server.config.read_bytes()
    assert server.http.get(CONFIG_PATH).headers["ETag"] == saved.headers["ETag"]
    history = server.get("/config/revisions")["items"]
    assert history[0]["sha256"] == saved.headers["ETag"].strip('"')
    assert server.http.get(f"{CONFIG_PATH}/revisions/{history[-1]['sha256']}").content == CONFIG


def test_a_stale_save_is_refused_and_told_what_is_current(server: Server) -> None:
    before = server.http.get(CONFIG_PATH)
    server.http.put(CONFIG_PATH, content=before.content + b"# theirs\n", headers={"If-Match": before.headers["ETag"]})
    theirs = server.http.get(CONFIG_PATH)

    mine = server.http.put(CONFIG_PATH, content=b"mine: 1\n", headers={"If-Match": before.headers["ETag"]})

    assert mine.status_code == 412
    problem = mine.json()
    assert problem["code"] == "config_conflict"
    assert problem["current_etag"] == theirs.headers["ETag"]
    assert problem["current"] == theirs.text
    assert server.config.read_bytes() == theirs.content


def test_a_save_must_say_what_it_replaces(server: Server) -> None:
    answer = server.http.put(CONFIG_PATH, content=b"a: 1\n")
    assert (answer.status_code, answer.json()["code"]) == (428, "if_match_required")


def test_a_broken_config_is_refused_with_the_line(server: Server) -> None:
    before = server.http.get(CONFIG_PATH)
    answer = server.http.put(CONFIG_PATH, content=b"a: 1\nb: [1\nc: 2\n", headers={"If-Match": before.headers["ETag"]})
    assert (answer.status_code, answer.json()["code"]) == (422, "config_invalid")
    assert {"line", "column", "path", "message"} <= set(answer.json()["errors"][0])
    assert server.config.read_bytes() == before.content


def test_checking_saves_nothing(server: Server) -> None:
    before = server.http.get(CONFIG_PATH).content
    assert server.http.post(f"{CONFIG_PATH}/check", content=b"a: 1\n").json() == {"errors": [], "warnings": []}
    assert server.http.post(f"{CONFIG_PATH}/check", content=b"a: 1\na: 2\n").json()["errors"][0]["line"] == 2
    assert server.http.get(CONFIG_PATH).content == before


def test_events_are_waited_for_without_a_socket(server: Server) -> None:
    newest = server.events()[-1]["cursor"] if server.events() else 0
    with server.connect() as waiting:
        path = f"/api/v1/events?topic=all&after={newest}&wait=20"
        waiting.sendall(f"GET {path} HTTP/1.1\r\nHost: {server.host}\r\nConnection: close\r\n\r\n".encode())
        server.send(("wake.txt", b"x"))
        answer = b"".join(iter(lambda: waiting.recv(65536), b""))
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert body["events"][0]["cursor"] == newest + 1
    assert body["cursor"] >= newest + 1
    assert server.get(f"/events?after={10**9}")["events"] == []


def test_a_body_in_pieces_makes_the_same_bytes(server: Server) -> None:
    body = form([("p.txt", b"payload\r\n--b\r\n-")])
    sums = set()
    for size in (1, 5, 20, 41):
        with server.connect() as connection:
            connection.sendall(post(server, len(body)))
            for start in range(0, len(body), size):
                connection.sendall(body[start : start + size])
            status, _, answer = read_answer(connection)
        assert status == 201
        sums.add(json.loads(answer)["files"][0]["sha256"])
    assert sums == {hashlib.sha256(b"payload\r\n--b\r\n-").hexdigest()}

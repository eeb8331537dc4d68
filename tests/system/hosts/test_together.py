"""Servers and workers that share a ledger and a folder do together what one server does alone."""

import hashlib
import json
import random
import select
import signal

import pytest
from tests.support import tus
from tests.support.cluster import Cluster
from tests.support.server import form, post, read_answer
from tests.support.waiting import wait_until
from websockets.exceptions import ConnectionClosedError

CONTENT = random.Random(3).randbytes(1_500_000)


def test_a_file_sent_to_one_server_is_run_by_a_worker_and_seen_on_the_other(cluster: Cluster) -> None:
    first, second = cluster.server(), cluster.server()
    cluster.worker("--concurrency", "2")
    with second.live() as live:
        live.send('{"type": "join", "topic": "all"}')
        sent = first.send(("a.txt", b"hello\n"))
        settled = second.settled(sent["id"])
    assert settled["counts"]["succeeded"] == 1, first.events()
    for server in (first, second):
        [file] = server.get(f"/submissions/{sent['id']}/files")["items"]
        job = server.get(f"/jobs/{file['job']['id']}")
        assert job["value"] == {"size": 6, "sha256": hashlib.sha256(b"hello\n").hexdigest()}
        output = server.http.get(f"/api/v1/jobs/{job['id']}/output")
        assert "attempt 1 in" in output.text
        assert server.http.get(f"/api/v1/jobs/{job['id']}/results/size.txt").text == "6"
    assert first.events() == second.events()
    cursors = [event["cursor"] for event in first.events()]
    assert cursors == list(range(1, len(cursors) + 1))
    wait_until(lambda: [line["cursor"] for line in second.log()] == cursors)


def test_a_request_that_is_repeated_at_another_server_waits_for_the_first_and_adds_nothing(cluster: Cluster) -> None:
    first, second = cluster.server(), cluster.server()
    cluster.worker("--concurrency", "1")
    body = form([("a.txt", b"a"), ("b.txt", b"b")])
    key = "Idempotency-Key: the same\r\n"
    with first.connect() as begun, second.connect() as repeated:
        begun.sendall(post(first, len(body)).replace(b"\r\n\r\n", f"\r\n{key}\r\n".encode()) + body[:-20])
        wait_until(lambda: "upload.stored" in [event["name"] for event in second.events()])
        repeated.sendall(post(second, len(body)).replace(b"\r\n\r\n", f"\r\n{key}\r\n".encode()) + body)
        assert select.select([repeated], [], [], 0.5)[0] == []  # it waits
        begun.sendall(body[-20:])
        answers = [read_answer(connection) for connection in (begun, repeated)]
    assert [status for status, _, _ in answers] == [201, 201] or [status for status, _, _ in answers] == [201, 200]
    [one, other] = [json.loads(text)["id"] for _, _, text in answers]
    assert one == other
    assert second.settled(one)["counts"]["succeeded"] == 2
    assert len(second.get("/submissions?limit=9")["items"]) == 1


def test_a_server_that_stops_is_not_ready_and_the_other_goes_on(cluster: Cluster) -> None:
    """As a proxy sees a rolling restart."""
    first, second = cluster.server(), cluster.server()
    cluster.worker("--concurrency", "1")
    url = tus.create(first.http, len(CONTENT), "a.bin")
    assert tus.append(first.http, url, 0, CONTENT[:700_000]).status_code == 204
    with first.live() as live:
        first.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosedError, match="1012"):
            list(live)
    assert first.wait() == 0
    assert second.http.get("/readyz").json()["ok"]
    assert tus.offset_of(second.http, url) == 700_000
    first.start()
    assert tus.append(first.http, url, 700_000, CONTENT[700_000:]).status_code == 204
    [submission] = second.get("/submissions?limit=9")["items"]
    assert second.settled(submission["id"])["counts"]["succeeded"] == 1
    assert first.events() == second.events()
    for server in (first, second):
        wait_until(lambda: [line["cursor"] for line in server.log()] == [each["cursor"] for each in second.events()])  # noqa: B023


def test_a_config_that_one_server_saves_is_used_everywhere_and_in_every_file(cluster: Cluster) -> None:
    first, second = cluster.server(), cluster.server()
    cluster.worker("--concurrency", "1")
    found = first.http.get("/api/v1/config")
    saved = first.http.put("/api/v1/config", content=b"name: new\n", headers={"If-Match": found.headers["ETag"]})
    assert saved.status_code == 200, saved.text
    assert second.http.get("/api/v1/config").content == b"name: new\n"
    wait_until(lambda: second.config.read_bytes() == first.config.read_bytes() == b"name: new\n")
    refused = second.http.put("/api/v1/config", content=b"name: other\n", headers={"If-Match": found.headers["ETag"]})
    assert refused.status_code == 412
    second.config.write_bytes(b"name: by hand\n")
    wait_until(lambda: first.http.get("/api/v1/config").content == b"name: by hand\n")
    wait_until(lambda: first.config.read_bytes() == b"name: by hand\n")
    second.stop()
    second.start()
    assert [event["name"] for event in first.events() if event["name"].startswith("config")] == ["config.saved"] * 3

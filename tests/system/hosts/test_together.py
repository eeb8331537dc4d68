"""Servers and workers that share a ledger and a folder do together what one server does alone."""

import hashlib

from tests.support.cluster import Cluster
from tests.support.waiting import wait_until


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

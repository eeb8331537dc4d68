"""A worker or a server that is killed, suspended or stopped while others live: no file is lost, none settles twice."""

import hashlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support import tus
from tests.support.cluster import LEASE_S, Cluster
from tests.support.server import Server
from tests.support.waiting import wait_until

PAUSE_S = 3 * LEASE_S


def running(server: Server, count: int) -> list[Any]:
    """The jobs that run, once there are so many."""

    def found() -> Any:
        jobs = server.get("/jobs?state=running&limit=100")["items"]
        return jobs if len(jobs) == count else None

    jobs: list[Any] = wait_until(found)
    return jobs


def names_of(server: Server, name: str) -> list[Any]:
    return [event for event in server.events() if event["name"] == name]


def require_once(servers: list[Server], submission_id: str, jobs: int) -> None:
    """Each job has exactly one final state, cursors have no gap, and all servers and logs say the same."""
    events = servers[0].events()
    settled = Counter(event["subject"]["job_id"] for event in events if event["name"] == "job.settled")
    assert len(settled) == jobs
    assert set(settled.values()) == {1}
    assert len([event for event in events if event["name"] == "submission.settled"]) == 1
    assert [event["cursor"] for event in events] == list(range(1, len(events) + 1))
    for server in servers:
        assert server.events() == events
        wait_until(lambda: [line["cursor"] for line in server.log()] == [event["cursor"] for event in events])  # noqa: B023


def children_of(pid: int) -> set[int]:
    """All living descendants of a process."""
    found: set[int] = set()
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found |= {int(child)} | children_of(int(child))
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def pids_in(server: Server, job_id: str) -> list[int]:
    """The processes that its attempts' output names."""
    text = server.http.get(f"/api/v1/jobs/{job_id}/output").text
    return [int(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith("attempt ")]


def begun(cluster: Cluster, server: Server, names: list[str]) -> tuple[str, list[Any]]:
    """A submission whose jobs all run and wait."""
    sent = server.send(*((name, name.encode()) for name in names))
    return sent["id"], running(server, len(names))


def test_the_jobs_of_a_worker_that_was_killed_are_run_by_another(cluster: Cluster) -> None:
    servers = [cluster.server(), cluster.server()]
    killed = cluster.worker("--concurrency", "3")
    names = [f"{number}.txt" for number in range(3)]
    with cluster.held(*names):
        submission_id, jobs = begun(cluster, servers[0], names)
        killed.process.kill()
        killed.process.wait()
        cluster.worker("--concurrency", "3")
        wait_until(lambda: len(names_of(servers[0], "attempt.lost")) == 3)
        again = running(servers[1], 3)
        assert {job["id"] for job in again} == {job["id"] for job in jobs}
    assert servers[1].settled(submission_id)["counts"]["succeeded"] == 3
    require_once(servers, submission_id, 3)
    numbers = Counter(event["subject"]["attempt"] for event in names_of(servers[0], "attempt.started"))
    assert numbers == {1: 3, 2: 3}


def test_a_worker_that_was_suspended_for_longer_than_its_lease_begins_anew(cluster: Cluster) -> None:
    server = cluster.server()
    suspended = cluster.worker("--concurrency", "1")
    with cluster.held("a.txt"):
        submission_id, [job] = begun(cluster, server, ["a.txt"])
        [pid] = wait_until(lambda: pids_in(server, job["id"]))
        pids = {suspended.process.pid}
        os.kill(suspended.process.pid, signal.SIGSTOP)
        try:
            cluster.worker("--concurrency", "1")
            wait_until(lambda: names_of(server, "attempt.lost"))
            wait_until(lambda: not is_alive(pid))  # its slot heard nothing for two leases, and ended it
            running(server, 1)
        finally:
            os.kill(suspended.process.pid, signal.SIGCONT)
        wait_until(lambda: suspended.said().count("Dropmill is working.") == 2)
    assert {suspended.process.pid} == pids
    assert server.settled(submission_id)["counts"]["succeeded"] == 1
    require_once([server], submission_id, 1)
    cluster.workers[1].stop()
    assert server.settled(server.send(("b.txt", b"b"))["id"])["counts"]["succeeded"] == 1  # the first one works again


def test_a_worker_that_is_stopped_hands_its_jobs_back_at_once(cluster: Cluster) -> None:
    server = cluster.server()
    stopped = cluster.worker("--concurrency", "2", "--grace", "0.2", "--max-attempts", "1")
    with cluster.held("a.txt", "b.txt"):
        submission_id, _ = begun(cluster, server, ["a.txt", "b.txt"])
        assert stopped.stop() == 0
        assert len(names_of(server, "attempt.lost")) == 2
        assert server.get(f"/submissions/{submission_id}")["counts"]["queued"] == 2  # not failed: it does not count
        cluster.worker("--concurrency", "2", "--max-attempts", "1")
        running(server, 2)
    assert server.settled(submission_id)["counts"]["succeeded"] == 2
    require_once([server], submission_id, 2)


def test_a_running_job_is_cancelled_from_another_server_and_timed_out_by_its_worker(cluster: Cluster) -> None:
    servers = [cluster.server(), cluster.server()]
    cluster.worker("--concurrency", "1", "--timeout", "300", "--grace", "0.2")
    with cluster.held("a.txt"):
        submission_id, [job] = begun(cluster, servers[0], ["a.txt"])
        answer = servers[1].http.post(f"/api/v1/jobs/{job['id']}/cancel")
        assert answer.status_code in (200, 202, 204), answer.text
        assert servers[0].settled(submission_id)["counts"]["cancelled"] == 1
        cluster.workers[0].stop()
        cluster.worker("--concurrency", "1", "--timeout", "0.5", "--grace", "0.2")
        sent = servers[0].send(("a.txt", b"again"))
        assert servers[1].settled(sent["id"])["counts"]["failed"] == 1
    [file] = servers[1].get(f"/submissions/{sent['id']}/files")["items"]
    assert servers[1].get(f"/jobs/{file['job']['id']}")["error"]["type"] == "timed_out"


def test_an_upload_goes_on_at_the_other_server_when_its_own_is_killed(cluster: Cluster) -> None:
    content = random.Random(7).randbytes(24 * 2**20)
    killed, other = cluster.server(), cluster.server()
    cluster.worker("--concurrency", "1")
    url = tus.create(killed.http, len(content), "big.bin")
    first = 9 * 2**20
    assert tus.append(killed.http, url, 0, content[:first]).status_code == 204
    assert tus.offset_of(other.http, url) == first
    with killed.connect() as connection:
        connection.sendall(tus.patch_head(killed, url, first, len(content) - first))
        connection.sendall(content[first : first + 5 * 2**20])
        wait_until(lambda: tus.offset_of(other.http, url) > first)
        killed.kill()
    offset = tus.offset_of(other.http, url)
    assert offset >= first
    answer = tus.append(other.http, url, offset, content[offset:])
    if answer.status_code == 409:  # bytes were still on their way to the disk
        offset = tus.offset_of(other.http, url)
        answer = tus.append(other.http, url, offset, content[offset:])
    assert answer.status_code == 204, answer.text
    wait_until(lambda: names_of(other, "submission.settled"))
    [stored] = names_of(other, "upload.stored")
    assert stored["data"] == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    [job] = other.get("/jobs?limit=9")["items"]
    assert other.get(f"/jobs/{job['id']}")["value"]["sha256"] == stored["data"]["sha256"]
    assert list((cluster.shared / "incoming").iterdir()) == []


def test_a_form_whose_server_is_killed_is_given_up_and_its_submission_sealed(cluster: Cluster) -> None:
    killed, other = cluster.server(), cluster.server()
    cluster.worker("--concurrency", "1")
    body = b'--B\r\nContent-Disposition: form-data; name="f"; filename="{}.txt"\r\n\r\n'
    with killed.connect() as connection:
        head = f"POST /api/v1/submissions HTTP/1.1\r\nHost: {killed.host}\r\nContent-Length: 99999999\r\n"
        connection.sendall(head.encode() + b"Content-Type: multipart/form-data; boundary=B\r\n\r\n")
        connection.sendall(body.replace(b"{}", b"whole") + b"whole\r\n" + body.replace(b"{}", b"half") + bytes(10**6))
        wait_until(lambda: len(names_of(other, "upload.started")) == 2 and names_of(other, "upload.stored"))
        killed.kill()
    [submission] = other.get("/submissions?limit=9")["items"]
    assert other.settled(submission["id"])["counts"] == {**submission["counts"], "receiving": 0, "aborted": 1} | {
        "queued": 0,
        "running": 0,
        "succeeded": 1,
    }
    wait_until(lambda: list((cluster.shared / "incoming").iterdir()) == [])  # its leftovers are removed, too


def test_a_database_that_is_away_for_all_costs_nobody_anything(cluster: Cluster) -> None:
    server = cluster.server()
    worker = cluster.worker("--concurrency", "2")
    other = cluster.worker("--concurrency", "2")
    names = [f"{number}.txt" for number in range(4)]
    with cluster.held(*names):
        submission_id, _ = begun(cluster, server, names)
        cluster.postgres.kill()
        time.sleep(PAUSE_S)
        cluster.postgres.start()
        wait_until(lambda: server.http.get("/readyz").status_code == 200)
        time.sleep(2 * LEASE_S)  # whoever judged too soon would have by now
        assert names_of(server, "attempt.lost") == []
    settled = server.settled(submission_id)
    failed = [event["data"]["error"] for event in names_of(server, "attempt.failed")]
    assert settled["counts"]["succeeded"] == 4, failed
    require_once([server], submission_id, 4)
    for each in (worker, other):
        assert each.said().count("Dropmill is working.") == 1


def test_a_server_that_was_suspended_for_longer_than_its_lease_begins_anew(cluster: Cluster) -> None:
    suspended, other = cluster.server(), cluster.server()
    cluster.worker("--concurrency", "1")
    suspended.flags = ("--bind", suspended.host, *suspended.flags[2:])
    suspended.stop()
    suspended.start()  # on a port that it will find again
    with suspended.connect() as connection:
        head = f"POST /api/v1/submissions HTTP/1.1\r\nHost: {suspended.host}\r\nContent-Length: 99999999\r\n"
        connection.sendall(head.encode() + b"Content-Type: multipart/form-data; boundary=B\r\n\r\n")
        connection.sendall(b'--B\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\n' + bytes(10**6))
        wait_until(lambda: names_of(other, "upload.started"))
        os.kill(suspended.process.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: names_of(other, "upload.aborted"))
        finally:
            os.kill(suspended.process.pid, signal.SIGCONT)
        wait_until(lambda: suspended.said().count("Dropmill is serving") == 3)
    assert suspended.settled(suspended.send(("b.txt", b"b"))["id"])["counts"]["succeeded"] == 1
    wait_until(lambda: list((cluster.shared / "incoming").iterdir()) == [])
    assert suspended.events() == other.events()


def test_fifty_jobs_settle_once_each_although_a_worker_is_killed_among_them(cluster: Cluster) -> None:
    servers = [cluster.server(), cluster.server()]
    killed, _ = cluster.worker("--concurrency", "2"), cluster.worker("--concurrency", "2")
    sent = servers[0].send(*((f"{number}.txt", b"x" * number) for number in range(50)))
    wait_until(lambda: len(names_of(servers[1], "job.settled")) > 5)
    killed.process.kill()
    killed.process.wait()
    assert servers[1].settled(sent["id"])["counts"]["succeeded"] == 50
    require_once(servers, sent["id"], 50)

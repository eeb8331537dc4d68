"""Orders that another process gives on the ledger of a running server, cancels at any moment, and long queues."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.server import Server
from tests.support.waiting import wait_until

Make = Callable[..., Server]

SCRIPT = """
import pathlib, time
here = pathlib.Path(__file__).parent
def process(path: pathlib.Path, file):
    if file.name.startswith("slow"):
        time.sleep(600)
"""

# What a second web process will do: it opens the ledger beside the server and gives an order, and no hint.
ORDER = """
import asyncio, pathlib, sys
from dropmill.engines.sqlite.ledger import SqliteLedger
async def main(path, order, job_id):
    ledger = SqliteLedger(pathlib.Path(path), lambda _: None)
    await ledger.open(without_lock=True)
    try:
        await getattr(ledger, order)(job_id)
    finally:
        await ledger.close()
asyncio.run(main(*sys.argv[1:]))
"""


def scripted(make_server: Make, *flags: str) -> Server:
    server = make_server("--processor", "script:process", "--grace", "0.2", *flags)
    (server.folder / "script.py").write_text(SCRIPT)
    return server


def ledger_of(server: Server) -> Path:
    (path,) = server.data.glob("*.sqlite")
    return path


def order(server: Server, what: str, job_id: str) -> None:
    subprocess.run([sys.executable, "-c", ORDER, str(ledger_of(server)), what, job_id], check=True)


def job_of(server: Server, submission: str) -> Any:
    return server.get(f"/submissions/{submission}")["files"][0]["job"]


def test_a_cancel_by_another_process_ends_the_attempt(make_server: Make) -> None:
    server = scripted(make_server).start()
    submission = server.send(("slow.txt", b"1"))["id"]
    job = wait_until(lambda: (job := job_of(server, submission))["state"] == "running" and job)
    order(server, "request_cancel", job["id"])
    assert server.settled(submission)["counts"]["cancelled"] == 1
    assert server.get(f"/jobs/{job['id']}")["attempts"][0]["state"] == "cancelled"
    assert server.stop() == 0


def test_a_job_that_another_process_queued_is_run_without_a_hint(make_server: Make) -> None:
    server = scripted(make_server).start()
    submission = server.send(("quick.txt", b"1"))["id"]
    server.settled(submission)
    job_id = job_of(server, submission)["id"]
    order(server, "retry_job", job_id)
    wait_until(lambda: len(server.get(f"/jobs/{job_id}")["attempts"]) == 2 or None)
    assert server.settled(submission)["counts"]["succeeded"] == 1
    assert server.stop() == 0


def test_a_cancel_is_taken_at_whatever_moment_it_comes(make_server: Make) -> None:
    """While the job waits, between its pick-up and its process, and while that runs: never a conflict."""
    server = scripted(make_server, "--concurrency", "2").start()
    for _ in range(15):
        submission = server.send(("slow.txt", b"1"))["id"]
        job_id = job_of(server, submission)["id"]
        assert server.http.post(f"/api/v1/jobs/{job_id}/cancel").status_code == 202
        assert server.settled(submission)["counts"]["cancelled"] == 1
    assert server.stop() == 0


def test_a_server_starts_with_ten_thousand_jobs_that_wait(make_server: Make) -> None:
    """They are made by copying the rows of one that waits, as ten thousand files in one submission would have left."""
    server = scripted(make_server, "--concurrency", "1").start()
    blocked = server.send(("slow.txt", b"1"))["id"]
    many = server.send(("quick.txt", b"1"))["id"]
    server.kill()
    with closing(sqlite3.connect(ledger_of(server))) as ledger:
        for table, keys in (("files", ("id",)), ("jobs", ("id", "file_id"))):
            columns = [row[1] for row in ledger.execute(f"PRAGMA table_info({table})") if row[1] != "seq"]
            changed = {
                **{key: f"{key} || n.n" for key in keys},
                "queued_cursor": "queued_cursor + n.n",
                "tag": "tag + n.n",
            }
            values = [changed.get(column, column) for column in columns]
            ledger.execute(
                "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 9999)"
                f" INSERT INTO {table} ({','.join(columns)}) SELECT {','.join(values)} FROM {table}, n"
                " WHERE submission_id = ?",
                [many],
            )
        ledger.execute("UPDATE turns SET waiting = waiting + 9999")
        ledger.execute("UPDATE submissions SET queued = 10000, last_tag = last_tag + 9999 WHERE id = ?", [many])
        ledger.commit()
    server.start()
    assert server.http.post(f"/api/v1/submissions/{blocked}/cancel").status_code == 202  # it was lost, and waits again
    wait_until(lambda: server.get(f"/submissions/{many}")["counts"]["succeeded"] or None)
    page = server.get(f"/jobs?state=queued&submission={many}&limit=2")["items"]
    places = [job["position"] for job in page]  # newest first
    assert places[0] == places[1] + 1
    assert 9000 < places[0] <= 10_000
    lone = server.send(("quick.txt", b"1"))["id"]
    assert server.settled(lone)["counts"]["succeeded"] == 1
    assert server.get(f"/submissions/{many}")["counts"]["queued"] > 5000
    assert server.http.post(f"/api/v1/submissions/{many}/cancel").status_code == 202
    assert server.settled(many)["counts"]["queued"] == 0
    assert server.stop() == 0

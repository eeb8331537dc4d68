"""Two people press Submit one after the other: neither waits for the other's script."""

import time
from collections.abc import Callable

import pytest
from tests.support.server import Server

pytestmark = pytest.mark.fresh

Make = Callable[..., Server]


def test_two_uploads_are_processed_side_by_side(make_server: Make, is_full: bool) -> None:
    seconds = 8 if is_full else 2
    server = make_server("--command", "bash slow.sh {path}", "--concurrency", "2")
    (server.folder / "slow.sh").write_text(f'sleep {seconds}\nwc -c < "$1"\n')
    server.start()
    first = server.send(("first.txt", b"1"))
    time.sleep(seconds / 8)
    second = server.send(("second.txt", b"22"))
    settled = [server.settled(one["id"]) for one in (first, second)]
    (one,), (two,) = ([file["job"] for file in submission["files"]] for submission in settled)
    assert one["started_at"] < two["started_at"] < one["settled_at"] < two["settled_at"]
    assert [job["state"] for job in (one, two)] == ["succeeded"] * 2
    assert server.http.get(f"/api/v1/jobs/{two['id']}/output").text == "2\n"

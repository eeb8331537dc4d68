"""`GET /api/v1/log`: the lines of the log file, over HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.server import Server
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("log") / "server")
    try:
        yield made.start()
    finally:
        made.end()


def lines(server: Server, query: str = "") -> list[bytes]:
    answer = server.http.get(f"/api/v1/log{query}")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    return answer.content.splitlines(keepends=True)


def test_point_17_the_log_over_http_is_the_log_file(server: Server) -> None:
    names = ["plain.txt", "ünïcödé.txt", 'quote".txt', "del\x7f.txt"]
    for name in names:
        assert server.http.post("/api/v1/submissions", files={"f": (name, b"x")}).status_code == 201

    def written() -> bytes | None:
        text = Path(server.data / "log" / "dropmill.jsonl").read_bytes()
        return text if text.count(b'"event":"submission.settled"') >= len(names) else None

    text = wait_until(written)
    found = lines(server, "?limit=1000")
    assert b"".join(found[: text.count(b"\n")]) == text
    cursors = [json.loads(line)["cursor"] for line in found]
    assert cursors == list(range(1, len(found) + 1))
    assert lines(server) == found[:50]
    assert lines(server, "?limit=2") == found[:2]
    assert lines(server, "?after=2&limit=3") == found[2:5]
    assert lines(server, f"?after={cursors[-1]}") == []
    assert lines(server, f"?after={cursors[-1] + 1000}") == []


def test_point_17_a_page_of_the_log_has_a_thousand_lines_at_most(server: Server) -> None:
    for _ in range(3):
        files = [("f", (f"{number}.txt", b"")) for number in range(120)]
        assert server.http.post("/api/v1/submissions", files=files).status_code == 201
    wait_until(lambda: len(lines(server, "?after=1000&limit=1")) == 1)
    assert len(lines(server, "?limit=5000")) == 1000
    assert [json.loads(line)["cursor"] for line in lines(server, "?after=7&limit=250")] == list(range(8, 258))


@pytest.mark.parametrize("query", ["?limit=0", "?limit=x", "?after=-1", "?after=1&after=2", f"?after={2**64}"])
def test_point_17_a_bad_cursor_or_limit_is_refused(server: Server, query: str) -> None:
    answer = server.http.get(f"/api/v1/log{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_parameter")

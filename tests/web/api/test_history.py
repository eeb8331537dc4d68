"""`GET /api/v1/history`: submissions by state, date and text, as JSON and CSV, page by page."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from tests.support.server import Server
from tests.support.waiting import wait_until

from dropmill.model.errors import BadParameter
from dropmill.web.api.history import EARLIEST, LATEST, moment, search_text

SCRIPT = """
def process(path, file, results):
    if "broken" in file.name:
        raise ValueError("no column named weight")
    if "result" in file.name:
        (results / "made.txt").write_text("x")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("history")
    made = Server(folder / "server", "--processor", "script:process")
    (made.folder / "script.py").write_text(SCRIPT)
    try:
        yield made.start()
    finally:
        made.end()


def send(server: Server, *names: str) -> str:
    """A settled submission."""
    files = [("f", (name, name.encode())) for name in names]
    submission_id = str(server.http.post("/api/v1/submissions", files=files).json()["id"])
    wait_until(lambda: server.get(f"/submissions/{submission_id}")["state"] == "settled")
    return submission_id


def ids(page: Any) -> list[str]:
    return [item["id"] for item in page["items"]]


@pytest.fixture(scope="module")
def sent(server: Server) -> list[str]:
    """Three settled submissions, the newest first."""
    made = [send(server, "result one.csv", "two.csv"), send(server, "broken.csv"), send(server, "last.csv")]
    return made[::-1]


def test_a_plain_list_names_the_first_file_of_each_submission(server: Server, sent: list[str]) -> None:
    listed = server.get("/submissions")["items"]
    assert ids({"items": listed}) == sent
    assert [item["first_file"]["name"] for item in listed] == ["last.csv", "broken.csv", "result one.csv"]


def test_a_page_says_what_each_submission_was_and_how_it_ended(server: Server, sent: list[str]) -> None:
    page = server.get("/history")
    assert (ids(page), page["previous"], page["next"]) == (sent, None, None)
    last, broken, first = page["items"]
    assert (first["first_file"]["name"], first["file_count"], first["result_count"]) == ("result one.csv", 2, 1)
    assert [item["outcome"] for item in (last, broken, first)] == ["succeeded", "failed", "succeeded"]
    assert broken["first_file"]["error"] == "no column named weight"
    assert first["client"]["ip"] == "127.0.0.1"


def test_a_text_a_state_or_an_id_finds_it(server: Server, sent: list[str]) -> None:
    last, broken, first = sent
    found = server.get("/history?q=TWO.csv")
    assert (ids(found), found["items"][0]["match"]["name"]) == ([first], "two.csv")
    assert ids(server.get("/history?q=no column")) == [broken]
    assert ids(server.get("/history?q= no column ")) == [broken]
    assert ids(server.get("/history?q=127.0.0.1")) == sent
    assert ids(server.get("/history?state=failed")) == [broken]
    assert ids(server.get("/history?state=succeeded&q=.csv")) == [last, first]
    assert ids(server.get("/history?state=running")) == []
    file = server.get(f"/submissions/{first}")["files"][1]
    for text in (first[:8], file["id"][:8], file["job"]["id"][:8], file["sha256"][:8], file["sha256"]):
        assert ids(server.get(f"/history?q={text}")) == [first], text
    today = datetime.now(UTC).date()
    tomorrow = today + timedelta(days=1)
    assert ids(server.get(f"/history?from={today}&to={tomorrow}")) == sent
    assert ids(server.get(f"/history?from={tomorrow}")) == []


def test_pages_lead_to_both_sides(server: Server, sent: list[str]) -> None:
    first = server.get("/history?limit=1")
    second = server.get(f"/history?limit=1&before={first['next']}")
    third = server.get(f"/history?limit=1&before={second['next']}")
    assert [ids(page) for page in (first, second, third)] == [[one] for one in sent]
    assert third["next"] is None
    assert server.get(f"/history?limit=1&after={third['previous']}") == second
    assert server.get(f"/history?limit=1&after={second['previous']}") == first


def test_csv_is_asked_for_by_accept_or_by_the_address_and_has_everything(server: Server, sent: list[str]) -> None:
    for path, accept in (("?q=.csv", "text/csv"), ("?q=.csv&format=csv", "text/html,*/*;q=0.8")):
        answer = server.http.get(f"/api/v1/history{path}", headers={"Accept": accept})
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="history.csv"'
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
        assert [row["id"] for row in rows] == sent
        assert [row["outcome"] for row in rows] == ["succeeded", "failed", "succeeded"]
        assert rows[2]["results"] == "1"
    one = server.http.get(f"/api/v1/history?limit=1&before={server.get('/history?limit=1')['next']}&format=csv")
    assert [row["id"] for row in csv.DictReader(io.StringIO(one.text, newline=""))] == sent[1:2]
    for accept in ("*/*", "", "application/json", "text/csv;q=0.1, application/json"):
        answer = server.http.get("/api/v1/history", headers={"Accept": accept})
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Vary"] == "Accept"


def test_csv_has_more_than_one_read_brings(server: Server, sent: list[str]) -> None:
    count = 505
    for _ in range(count):
        assert server.http.post("/api/v1/submissions", json={"files": []}).status_code == 201
    answer = server.http.get("/api/v1/history?format=csv")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert len({row["id"] for row in rows}) == len(rows) == count + len(sent)
    assert [row["id"] for row in rows[-3:]] == sent


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("q=ab", "at least 3 characters"),
        ("q=%20ab%20", "at least 3 characters"),
        ("q=abc&q=abd", "more than once"),
        ("state=done", "must be one of running"),
        ("from=yesterday", "`from` must be a day"),
        ("to=2026-02-30", "`to` must be a day"),
        ("to=2026-02-01T10:00:00", "`to` must be a day"),
        ("before=x", "must be the `next`"),
        ("after=x", "must be the `previous`"),
        ("before=1&after=1", "not both"),
        ("limit=0", "at least 1"),
        ("format=xml", "must be one of csv, json"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_refused(server: Server, query: str, words: str) -> None:
    for accept in ("application/json", "text/csv"):
        answer = server.http.get(f"/api/v1/history?{query}", headers={"Accept": accept})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_parameter")
        assert words in answer.json()["detail"]


def test_a_search_text_is_trimmed_and_counted_as_people_count() -> None:
    assert search_text(None) is search_text("") is search_text(" \t ") is None
    assert search_text("  a b ") == "a b"
    assert search_text("e\u0301te\u0301") == "été"
    with pytest.raises(BadParameter):
        search_text("e\u0301e\u0301")


def test_a_day_is_a_whole_one_and_a_time_is_exact() -> None:
    day = datetime(2026, 11, 20, tzinfo=UTC)
    assert moment(None, "from") is None
    assert moment("2026-11-20", "from") == day
    assert moment("2026-11-20", "to", is_end=True) == day + timedelta(days=1)
    in_berlin = datetime(2026, 11, 20, 1, tzinfo=timezone(timedelta(hours=1)))
    for text in ("2026-11-20T01:00:00+01:00", "2026-11-20T01:00:00 01:00", "2026-11-20T00:00:00Z"):
        assert moment(text, "from") == moment(text, "to", is_end=True) == in_berlin


@pytest.mark.parametrize("text", ["0001-01-01", "0001-01-01T00:00:00+14:00", "1969-12-31"])
def test_a_time_before_all_others_is_no_error(text: str) -> None:
    """A date field in a browser gives such years while its year is typed."""
    assert moment(text, "from") == EARLIEST
    assert moment(text, "to", is_end=True) in (EARLIEST, EARLIEST + timedelta(days=1))


@pytest.mark.parametrize("text", ["9999-12-31", "9999-12-31T23:59:59-14:00"])
def test_a_time_after_all_others_is_no_error(text: str) -> None:
    found = moment(text, "to", is_end=True)
    assert found is not None
    assert found >= LATEST

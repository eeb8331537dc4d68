"""The page `/history` as the server writes it: addresses, refusals, days."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from tests.support.server import Server

from dropmill.web.history import _day_label

HTML = {"Accept": "text/html"}


def test_a_day_has_its_name_or_its_date_in_the_language_of_the_page() -> None:
    today = datetime.now(UTC).date()
    assert _day_label(today, "en") == "Today"
    assert _day_label(today - timedelta(days=1), "de") == "Gestern"
    old = datetime(2026, 3, 5, tzinfo=UTC).date()
    assert [_day_label(old, language) for language in ("en", "de")] == [
        "Thursday, March 5, 2026",
        "Donnerstag, 5. März 2026",
    ]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("q=ab", "Type at least three characters."),
        ("state=done", "There is no such state to filter by."),
        ("from=yesterday", "A date must be a day, such as 2026-11-20."),
        ("before=x", "The address names a page of the list that does not exist."),
        ("before=1&after=1", "The address names two pages of the list."),
        ("q=e%CC%81a", "Type at least 3 characters."),
    ],
)
def test_what_cannot_be_asked_is_refused_on_the_page_which_keeps_what_was_typed(
    server: Server, query: str, words: str
) -> None:
    page = server.http.get(f"/history?{query}&to=", headers=HTML)
    assert page.status_code == 400
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert words in page.text
    assert 'type="search" name="q"' in page.text
    if query == "q=ab":
        assert 'value="ab"' in page.text


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("state=failed&state=failed", "The address gives the same filter twice."),
        (f"q={'a' * 201}", "The text is longer than 200 characters."),
    ],
)
def test_an_address_that_no_page_links_to_gets_a_page_that_says_why(server: Server, query: str, words: str) -> None:
    page = server.http.get(f"/history?{query}", headers=HTML)
    assert page.status_code == 400
    assert words in page.text


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("q=ab", "Geben Sie mindestens drei Zeichen ein."),
        ("q=e%CC%81a", "Geben Sie mindestens 3 Zeichen ein."),
        ("state=done", "Einen solchen Zustand gibt es nicht."),
        ("from=yesterday", "Ein Datum muss ein Tag sein, etwa 2026-11-20."),
        ("before=x", "Die Adresse nennt eine Seite der Liste, die es nicht gibt."),
    ],
)
def test_the_reason_is_in_the_language_of_the_page(server: Server, query: str, words: str) -> None:
    page = server.http.get(f"/history?{query}", headers=HTML | {"Accept-Language": "de"})
    assert page.status_code == 400
    assert words in page.text
    assert "must" not in page.text.partition("<main")[2].partition("</main")[0]


def test_what_is_asked_is_shown_as_text(server: Server) -> None:
    page = server.http.get("/history?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E", headers=HTML)
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "alert(1)" in page.text


def test_the_list_of_before_leads_to_the_history(server: Server) -> None:
    for search in ("", "?before=7"):
        answer = server.http.get(f"/submissions{search}", headers=HTML)
        assert (answer.status_code, answer.headers["Location"]) == (308, f"/history{search}")


def test_the_page_of_newer_ones_that_reaches_the_newest_is_the_first_page(server: Server) -> None:
    server.http.post("/api/v1/submissions", json={"files": []})
    answer = server.http.get("/history?after=0&q=127.0.0.1", headers=HTML)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/history?q=127.0.0.1")


def test_every_filter_stays_in_every_address(server: Server) -> None:
    page = server.http.get("/history?q=a+b%26c&state=failed&from=2026-01-01&to=2026-01-02", headers=HTML).text
    addresses = re.findall(r'href="([^"]*history[^"]*)"', page.partition("<main")[2])
    filters = ("q=a+b%26c&amp;", "from=2026-01-01&amp;to=2026-01-02")
    kept = [address for address in addresses if all(one in address for one in filters)]
    assert len(kept) == len(addresses) - 1  # "Show all" alone forgets them

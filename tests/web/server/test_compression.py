import gzip

import brotli
import pytest
from quart import Quart, Response

from dropmill.web.server.compression import IN_THREAD, compress_page, compressed, preferred_coding

SMALL = "<p>Über</p>" * 100
LARGE = "<p>Über</p>" * IN_THREAD


@pytest.fixture
def app() -> Quart:
    """An app with pages of several sizes, and an answer that is none."""
    made = Quart(__name__)
    made.after_request(compress_page)
    pages = {"/tiny": "<p>", "/small": SMALL, "/large": LARGE}
    for path, text in pages.items():
        made.add_url_rule(path, path, lambda text=text: Response(text, content_type="text/html; charset=utf-8"))
    made.add_url_rule("/json", "json", lambda: Response("[]" * 1000, content_type="application/json"))
    return made


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", None),
        ("gzip, deflate, br, zstd", "br"),
        ("br, gzip", "br"),
        ("gzip, deflate", "gzip"),
        ("identity", None),
        ("br;q=0.1, gzip", "gzip"),
        ("*", "br"),
        ("br;q=0", None),
        ("gzip;q=0, *", "br"),
        ("GZIP", "gzip"),
        (";;q=,\x00", None),
        (" " * 100_000 + "br", "br"),
        ("x," * 100_000 + "br", None),
    ],
)
def test_the_coding_is_the_one_that_the_browser_prefers(header: str, coding: str | None) -> None:
    assert preferred_coding(header) == coding


@pytest.mark.parametrize("path", ["/small", "/large"])
@pytest.mark.parametrize("coding", ["br", "gzip"])
async def test_a_page_is_compressed(app: Quart, path: str, coding: str) -> None:
    answer = await app.test_client().get(path, headers={"Accept-Encoding": coding})
    body = await answer.get_data(as_text=False)
    decode = brotli.decompress if coding == "br" else gzip.decompress
    assert decode(body).decode() == (SMALL if path == "/small" else LARGE)
    assert (answer.headers["Content-Encoding"], answer.headers["Vary"]) == (coding, "Accept-Encoding")
    assert int(answer.headers["Content-Length"]) == len(body)


@pytest.mark.parametrize("path", ["/tiny", "/json", "/small"])
async def test_what_gains_nothing_and_what_nobody_asked_for_is_sent_as_it_is(app: Quart, path: str) -> None:
    accepted = {} if path == "/small" else {"Accept-Encoding": "br"}
    answer = await app.test_client().get(path, headers=accepted)
    assert "Content-Encoding" not in answer.headers
    assert ("Vary" in answer.headers) == (path != "/json")


@pytest.mark.parametrize(
    ("path", "site", "is_compressed"),
    [
        ("/small?q=guess", "cross-site", False),
        ("/small?q=guess", "same-site", False),
        ("/small?q=guess", "same-origin", True),
        ("/small?q=guess", "none", True),
        ("/small", "cross-site", True),
    ],
)
async def test_a_page_with_the_words_of_another_site_is_not_compressed(
    app: Quart, path: str, site: str, is_compressed: bool
) -> None:
    answer = await app.test_client().get(path, headers={"Accept-Encoding": "br", "Sec-Fetch-Site": site})
    assert ("Content-Encoding" in answer.headers) == is_compressed


def test_the_smallest_form_is_kept_of_what_is_sent_often() -> None:
    data = b"".join(b"line %d of a script\n" % number for number in range(2000))
    assert len(compressed(data, "br")) < len(compressed(data, "gzip")) < len(data)
    assert compressed(data, "gzip") == compressed(data, "gzip")

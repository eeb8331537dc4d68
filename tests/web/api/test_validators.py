"""ETags and ranges behind proxies that compress: accepted where the hash decides, not where bytes would be mixed."""

import pytest
from tests.support.server import CONFIG, Server

from dropmill.web.server.guard import EXACT

BYTES = b"0123456789"


def etag(server: Server) -> str:
    tag = server.http.get("/api/v1/config").headers["ETag"]
    assert len(tag) == 66
    return str(tag)


@pytest.mark.parametrize(
    "form", ["{}", 'W/"{}"', '"{}-gzip"', 'W/"{}-gzip"', '"{}--gzip"', '"{};gzip"', '"{}-br"', '"{}-zstd"']
)
def test_an_etag_that_a_proxy_has_rewritten_names_the_config(server: Server, form: str) -> None:
    tag = form.format(etag(server) if form == "{}" else etag(server).strip('"'))
    saved = server.http.put("/api/v1/config", content=CONFIG + b"# more\n", headers={"If-Match": tag})
    assert saved.status_code == 200
    back = server.http.put("/api/v1/config", content=CONFIG, headers={"If-Match": f"W/{saved.headers['ETag']}"})
    assert back.status_code == 200


@pytest.mark.parametrize(
    "form", ["{}", "*", '"{}', 'w/"{}"', 'W/"{}', '"{}-other"', '"{}gzip"', '"{}-gzip-gzip"', '"x{}"', 'W/"stale"']
)
def test_what_is_no_etag_of_the_config_stays_a_conflict(server: Server, form: str) -> None:
    tag = form.format(etag(server).strip('"'))
    saved = server.http.put("/api/v1/config", content=b"a: 1\n", headers={"If-Match": tag})
    assert (saved.status_code, saved.json()["code"]) == (412, "config_conflict")
    assert server.config.read_bytes() == CONFIG


def test_a_stale_etag_is_a_conflict_in_every_form(server: Server) -> None:
    stale = etag(server).strip('"')
    current = server.http.put("/api/v1/config", content=b"a: 1\n", headers={"If-Match": f'"{stale}"'}).headers["ETag"]
    for tag in (f'"{stale}"', f'W/"{stale}"', f'"{stale}-gzip"'):
        assert server.http.put("/api/v1/config", content=b"b: 1\n", headers={"If-Match": tag}).status_code == 412
    assert server.http.put("/api/v1/config", content=CONFIG, headers={"If-Match": current}).status_code == 200


def test_what_counts_by_its_bytes_must_not_be_transformed(server: Server) -> None:
    file = server.settled(server.send(("a.bin", BYTES))["id"])["files"][0]
    sha256 = server.get("/config/revisions")["items"][0]["sha256"]
    paths = [f"/files/{file['id']}/content", f"/jobs/{file['job']['id']}/output"]
    for path in (*paths, "/config", f"/config/revisions/{sha256}"):
        answer = server.http.get(f"/api/v1{path}")
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, EXACT), path
    unchanged = server.http.get(f"/api/v1{paths[0]}", headers={"If-None-Match": f'W/"{file["sha256"]}"'})
    assert (unchanged.status_code, unchanged.headers["Cache-Control"]) == (304, EXACT)


@pytest.mark.parametrize(
    ("if_range", "status"),
    [('"{}"', 206), ('W/"{}"', 200), ('"{}-gzip"', 200), ("{}", 200), ("Sat, 28 Nov 2026 00:00:00 GMT", 200)],
)
def test_a_range_is_joined_with_nothing_that_a_proxy_has_compressed(server: Server, if_range: str, status: int) -> None:
    file = server.settled(server.send(("a.bin", BYTES))["id"])["files"][0]
    headers = {"Range": "bytes=4-", "If-Range": if_range.format(file["sha256"])}
    answer = server.http.get(f"/api/v1/files/{file['id']}/content", headers=headers)
    assert (answer.status_code, answer.content) == (status, BYTES[4:] if status == 206 else BYTES)

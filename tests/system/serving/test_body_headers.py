"""Headers that change what a body means: refused by name before anything is stored, or honoured; never ignored."""

import base64
import hashlib
from typing import Any

import httpx
import pytest
from tests.support.server import Server

BODY = b"hello"
OCTETS = {"Content-Type": "application/offset+octet-stream"}
TUS = {"Tus-Resumable": "1.0.0"}
FORM = {"file": ("a.txt", BODY)}


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


SHA256 = b64(hashlib.sha256(BODY).digest())
WRONG = b64(hashlib.sha256(b"other").digest())


def put(server: Server, headers: dict[str, str]) -> httpx.Response:
    return server.http.put("/send/a.txt", content=BODY, headers=headers)


def post(server: Server, headers: dict[str, str]) -> httpx.Response:
    return server.http.post("/api/v1/submissions", files=FORM, headers=headers)


def add(server: Server, headers: dict[str, str]) -> httpx.Response:
    opened = server.http.post("/api/v1/submissions", json={"files": []}).json()["id"]
    try:
        return server.http.post(f"/api/v1/submissions/{opened}/files", files=FORM, headers=headers)
    finally:
        server.http.post(f"/api/v1/submissions/{opened}/seal")


def create(server: Server, headers: dict[str, str]) -> httpx.Response:
    return server.http.post("/api/v1/uploads", headers=TUS | {"Upload-Length": "5"} | headers)


def create_with_bytes(server: Server, headers: dict[str, str]) -> httpx.Response:
    return server.http.post("/api/v1/uploads", content=BODY, headers=TUS | OCTETS | {"Upload-Length": "5"} | headers)


def append(server: Server, headers: dict[str, str]) -> httpx.Response:
    made = create(server, {}).headers["Location"]
    return server.http.patch(made, content=BODY, headers=TUS | OCTETS | {"Upload-Offset": "0"} | headers)


WAYS = [put, post, add, create, create_with_bytes, append]


def stored(server: Server) -> int:
    return sum(event["name"] in ("upload.started", "upload.stored") for event in server.events())


def opened(server: Server) -> int:
    return sum(event["name"] == "submission.opened" for event in server.events())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Upload-Concat", "partial"),
        ("Upload-Concat", "final;/api/v1/uploads/a /api/v1/uploads/b"),
        ("Upload-Complete", "?0"),
        ("Upload-Complete", "yes"),
        ("Upload-Incomplete", "?1"),
        ("Content-Range", "bytes 0-4/10"),
        ("Content-Range", "bytes 5-9/10"),
        ("Content-Range", "bytes 0-4/*"),
        ("Content-Range", "lines 0-4/5"),
    ],
)
def test_header_that_says_a_part_is_refused_by_name(server: Server, way: Any, header: str, value: str) -> None:
    before = stored(server)
    answer = way(server, {header: value})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert header in answer.json()["detail"]
    assert stored(server) == before


@pytest.mark.parametrize("way", [put, post, create, create_with_bytes])
def test_header_that_says_a_part_is_refused_before_an_upload_exists(server: Server, way: Any) -> None:
    before = opened(server)
    for headers in ({"Upload-Concat": "partial"}, {"Upload-Complete": "?0"}, {"Upload-Incomplete": "?1"}):
        assert way(server, headers).status_code == 400
    assert opened(server) == before


@pytest.mark.parametrize("way", WAYS)
def test_headers_that_say_whole_are_ignored(server: Server, way: Any) -> None:
    """What Apple's systems send with every upload, and a range that covers all."""
    said = {"Upload-Complete": "?1", "Upload-Incomplete": "?0", "Upload-Draft-Interop-Version": "6"}
    answer = way(server, said | {"Content-Range": "bytes 0-4/5", "Want-Repr-Digest": "sha-512=3"})
    assert answer.is_success, answer.text


@pytest.mark.parametrize(
    ("way", "headers"),
    [
        (put, {"Upload-Length": "6"}),
        (put, {"Upload-Length": "5, 6"}),
        (put, {"Upload-Offset": "5"}),
        (put, {"Upload-Checksum": f"sha256 {SHA256}"}),
        (put, {"Upload-Defer-Length": "1"}),
        (post, {"Upload-Length": "5"}),
        (post, {"Upload-Offset": "1"}),
        (post, {"Upload-Checksum": f"sha256 {SHA256}"}),
        (create, {"Upload-Offset": "5"}),
        (create_with_bytes, {"Upload-Length": "10", "Upload-Complete": "?1"}),
        (append, {"Upload-Defer-Length": "1"}),
    ],
)
def test_a_length_that_contradicts_is_refused_by_name(server: Server, way: Any, headers: dict[str, str]) -> None:
    before = stored(server)
    answer = way(server, headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert any(name in answer.json()["detail"] for name in headers)
    assert stored(server) == before


def test_a_length_that_agrees_is_taken(server: Server) -> None:
    assert put(server, {"Upload-Length": "5", "Upload-Offset": "0"}).status_code == 201


def test_an_upload_length_without_a_content_length_is_refused(server: Server) -> None:
    answer = server.http.put("/send/a.txt", content=iter([BODY]), headers={"Upload-Length": "5"})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("header", ["Content-Encoding", "Content-Transfer-Encoding"])
def test_an_encoded_body_is_refused_by_name(server: Server, way: Any, header: str) -> None:
    for value in ("gzip", "identity, br", "base64"):
        answer = way(server, {header: value})
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
        assert header in answer.json()["detail"]
    assert way(server, {"Content-Encoding": "Identity", "Content-Transfer-Encoding": "binary"}).is_success


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=B", "multipart/byteranges; boundary=B"])
def test_a_form_is_no_file_of_its_own(server: Server, kind: str) -> None:
    """`curl -X PUT -F` would store the form's boundaries as the file."""
    assert put(server, {"Content-Type": kind}).json()["code"] == "unsupported_media_type"


# --- digests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "header", "form"),
    [
        (put, "Repr-Digest", "sha-256=:{}:"),
        (put, "Content-Digest", "md5=:AAAA:, sha-256=:{}:"),
        (put, "Digest", "SHA-256={}"),
        (create_with_bytes, "Repr-Digest", "sha-256=:{}:"),
        (create_with_bytes, "Content-Digest", "sha-256=:{}:"),
        (create_with_bytes, "Upload-Checksum", "sha256 {}"),
        (append, "Content-Digest", "sha-256=:{}:"),
        (append, "Upload-Checksum", "sha256 {}"),
    ],
)
def test_a_digest_of_a_file_is_checked(server: Server, way: Any, header: str, form: str) -> None:
    assert way(server, {header: form.format(SHA256)}).is_success
    wrong = way(server, {header: form.format(WRONG)})
    assert wrong.status_code in (400, 460)
    assert wrong.json()["code"] in ("digest_mismatch", "checksum_mismatch")


@pytest.mark.parametrize(
    ("way", "headers"),
    [
        (put, {"Content-MD5": b64(hashlib.md5(BODY).digest())}),
        (put, {"Repr-Digest": "sha-512=:AAAA:"}),
        (put, {"Repr-Digest": f"sha-256={SHA256}"}),
        (put, {"Digest": "md5=AAAA"}),
        (put, {"Repr-Digest": f"sha-256=:{SHA256}:", "Content-Digest": f"sha-256=:{WRONG}:"}),
        (put, {"Repr-Digest": f"sha-256=:{SHA256}:, sha-256=:{WRONG}:"}),
        *((post, {name: f"sha-256=:{SHA256}:"}) for name in ("Repr-Digest", "Content-Digest", "Digest", "Content-MD5")),
        (append, {"Repr-Digest": f"sha-256=:{SHA256}:"}),
        (append, {"Digest": f"sha-256={SHA256}"}),
        (append, {"Content-Digest": f"sha-256=:{SHA256}:", "Upload-Checksum": f"sha256 {SHA256}"}),
        (append, {"Upload-Checksum": "md5 AAAA"}),
        (create_with_bytes, {"Upload-Checksum": "crc32 AAAA"}),
        (create, {"Repr-Digest": f"sha-256=:{SHA256}:", "Upload-Metadata": f"sha256 {b64(b'0' * 64)}"}),
    ],
)
def test_a_digest_that_nobody_would_check_is_refused(server: Server, way: Any, headers: dict[str, str]) -> None:
    before = stored(server)
    answer = way(server, headers)
    assert answer.status_code == 400
    assert any(name in answer.json()["detail"] for name in headers) or "contradict" in answer.json()["detail"]
    assert stored(server) == before


def test_a_checksum_of_an_unknown_algorithm_leaves_no_upload(server: Server) -> None:
    before = opened(server)
    assert create_with_bytes(server, {"Upload-Checksum": "crc32 AAAA"}).status_code == 400
    assert opened(server) == before

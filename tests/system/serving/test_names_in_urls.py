"""`/send` takes any name that a form takes, with real curl; what it does not take is answered with what to do."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.support.server import Server


def curl(*words: str) -> tuple[int, Any]:
    """Status and JSON of what curl got."""
    done = subprocess.run(
        ["curl", "-sS", "--path-as-is", "-w", "\n%{http_code}", *words], check=True, capture_output=True, timeout=60
    )
    body, _, status = done.stdout.decode().rpartition("\n")
    return int(status), json.loads(body) if body else None


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    path = tmp_path / "sent ü.txt"
    path.write_bytes(b"bytes")
    return path


@pytest.mark.parametrize(
    ("in_url", "path", "name"),
    [
        ("%2Fetc%2Fpasswd", "/etc/passwd", "passwd"),
        ("/etc/passwd", "/etc/passwd", "passwd"),
        ("a%0Ab.txt", "a\nb.txt", "a\nb.txt"),
        ("a%0D%0Ab.txt", "a\r\nb.txt", "a\r\nb.txt"),
        ("%0A", "\n", "\n"),
        ("a%2F%2Fb.txt", "a//b.txt", "b.txt"),
        ("..%2F..%2Fx.txt", "../../x.txt", "x.txt"),
        ("../../x.txt", "../../x.txt", "x.txt"),
        ("folder/a.txt", "folder/a.txt", "a.txt"),
        ("folder/", "folder/", "folder/"),
        ("%C3%BC%3F%23%25.txt", "ü?#%.txt", "ü?#%.txt"),
        ("%FF.txt", "\ufffd.txt", "\ufffd.txt"),
    ],
)
def test_a_name_in_a_url_is_a_name_as_in_a_form(server: Server, sent: Path, in_url: str, path: str, name: str) -> None:
    base = f"{server.url}/send"
    # curl would append the file's name to an address that ends in a slash.
    words = (
        ["-X", "PUT", "--data-binary", f"@{sent}", "-H", "Content-Type:"] if in_url.endswith("/") else ["-T", str(sent)]
    )
    status, submission = curl(*words, f"{base}/{in_url}")
    assert status == 201
    (file,) = submission["files"]
    assert (file["path"], file["name"], file["size"]) == (path, name, 5)
    if "\n" not in path and path != "\ufffd.txt":
        (by_form,) = server.send((path, b"bytes"))["files"]
        assert (by_form["path"], by_form["name"]) == (path, name)


def test_a_name_that_cannot_be_kept_is_refused_as_in_a_form(server: Server, sent: Path) -> None:
    status, problem = curl("-T", str(sent), f"{server.url}/send/a%00b")
    assert (status, problem["code"]) == (400, "bad_file_name")


def test_curl_appends_the_name_to_an_address_that_ends_in_a_slash(server: Server, sent: Path) -> None:
    status, submission = curl("-T", str(sent), f"{server.url}/send/")
    assert (status, submission["files"][0]["name"]) == (201, sent.name)


@pytest.mark.parametrize("address", ["/send", "/send/"])
def test_a_file_without_a_name_is_told_how_to_give_one(server: Server, address: str) -> None:
    answer = server.http.put(address, content=b"bytes")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "curl -T FILE URL/send/" in answer.json()["detail"]


def test_curl_without_the_slash_is_told_to_add_it(server: Server, sent: Path) -> None:
    status, problem = curl("-T", str(sent), f"{server.url}/send")
    assert status == 404
    assert "a slash at the end" in problem["detail"]


@pytest.mark.parametrize("address", ["/send", "/send/", "/send/x.txt", "/send/%2Fx"])
def test_a_post_to_send_is_told_what_to_do(server: Server, sent: Path, address: str) -> None:
    for words in (("--data-binary", f"@{sent}"), ("-F", f"file=@{sent}")):
        status, problem = curl(*words, f"{server.url}{address}")
        assert (status, problem["code"]) == (405, "method_not_allowed")
        assert "curl -T FILE URL/send/" in problem["detail"]
    answer = server.http.post(address, content=b"")
    assert {word.strip() for word in answer.headers["Allow"].split(",")} == {"OPTIONS", "PUT"}


def test_a_form_that_is_put_is_not_stored_as_a_file(server: Server, sent: Path) -> None:
    before = server.get("/submissions")["items"]
    status, problem = curl("-X", "PUT", "-F", f"file=@{sent}", f"{server.url}/send/x.txt")
    assert (status, problem["code"]) == (415, "unsupported_media_type")
    assert server.get("/submissions")["items"] == before


def test_a_resumable_upload_begins_at_the_address_with_a_slash_too(server: Server) -> None:
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "1"}
    assert server.http.options("/api/v1/uploads/").headers["Tus-Version"] == "1.0.0"
    made = server.http.post("/api/v1/uploads/", headers=tus)
    assert made.status_code == 201
    assert server.http.head(made.headers["Location"], headers=tus).headers["Upload-Offset"] == "0"


@pytest.mark.parametrize("address", ["/api/v1/submissions/", "/api/v1/config/", "/submissions/", "/healthz/"])
def test_an_address_with_a_slash_too_many_says_so(server: Server, address: str) -> None:
    answer = server.http.get(address)
    assert answer.status_code == 404
    assert "without the slash" in answer.json()["detail"]
    assert "without the slash" not in server.http.get("/nowhere/").json()["detail"]

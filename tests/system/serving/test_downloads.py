"""Results and files on their way out, over a real server: what comes, under which headers, and what never does."""

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.server import Server, read_answer
from tests.support.waiting import wait_until

Make = Callable[..., Server]

LEAVE = r"""
import os, pathlib, sys, time
HERE = pathlib.Path(__file__).parent

def process(file, results):
    kind = file.name.partition(".")[0]
    if kind == "nested":
        (results / "sub" / "deeper").mkdir(parents=True)
        (results / "sub" / "deeper" / "out.html").write_text("<script>alert(1)</script>")
        (results / "thumb.webp").write_bytes(bytes(range(256)))
        (results / "nothing.csv").touch()
    elif kind == "odd":
        (results / "new\nline").write_text("n")
        os.mkdir(os.fsencode(results) + b"/latin\xe4")
        (results / os.fsdecode(b"latin\xe4") / "..x").write_text("d")
        (results / "a?b#c;d%2f&e=f").write_text("q")
        (results / "C:\\x\\..\\y.txt").write_text("w")
        (results / "passwd").symlink_to("/etc/passwd")
        (results / "etc").symlink_to("/etc")
        (results / "input").hardlink_to(file)
        os.mkfifo(results / "pipe")
    elif kind == "large":
        with (results / "large.bin").open("wb") as made:
            made.truncate(512 << 20)
    elif kind == "swaps":
        os.unlink(file)
        os.symlink("/etc/passwd", file)
    elif kind == "removes":
        os.unlink(file)
    elif kind == "numbered":
        (results / "number").write_text(str(file.attempt) * 3_000_000)
    elif kind == "many":
        for number in range(300):
            (results / f"{number:03}.txt").write_text(f"number {number}")
    elif kind == "waits":
        (results / "x").write_text("x")
        print("left", flush=True)
        while not (HERE / "go-on").exists():
            time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A started server whose script leaves what a file is called after."""
    server = Server(tmp_path_factory.mktemp("site"), "--processor", "leave:process", "--concurrency", "2")
    (server.folder / "leave.py").write_text(LEAVE)
    try:
        yield server.start()
    finally:
        server.end()


def left(server: Server, *names: str) -> Any:
    """A settled submission of files with these names."""
    return server.settled(server.send(*((name, f"the file {name}".encode()) for name in names))["id"])


def blobs(server: Server) -> list[Path]:
    return [path for path in (server.data / "blobs").rglob("*") if path.is_file()]


# --- results ---------------------------------------------------------------------------------------------------------


def test_each_result_is_listed_and_comes_as_it_was_left(site: Server) -> None:
    (file,) = left(site, "nested.txt")["files"]
    job = file["job"]
    expected = {
        "nothing.csv": (b"", "text/csv"),
        "sub/deeper/out.html": (b"<script>alert(1)</script>", "application/octet-stream"),
        "thumb.webp": (bytes(range(256)), "image/webp"),
    }
    assert [one["path"] for one in job["results"]] == list(expected)
    assert job["result_count"] == 3
    assert site.get(f"/jobs/{job['id']}") == job
    assert site.get(f"/jobs?submission={job['submission_id']}")["items"] == [job]
    for one in job["results"]:
        content, kind = expected[one["path"]]
        assert (one["size"], one["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        for method in ("GET", "HEAD"):
            answer = site.http.request(method, one["url"])
            assert answer.status_code == 200
            assert answer.content == (content if method == "GET" else b"")
            headers = answer.headers
            assert headers["Content-Type"] == kind
            assert headers["Content-Length"] == str(len(content))
            assert headers["Content-Disposition"].startswith('attachment; filename="')
            assert headers["Content-Security-Policy"].startswith("sandbox")
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["ETag"] == f'"{one["sha256"]}"'
        again = site.http.get(one["url"], headers={"If-None-Match": f'W/"x", "{one["sha256"]}"'})
        assert (again.status_code, again.content) == (304, b"")


def test_odd_names_are_escaped_and_what_is_no_file_is_refused_and_said(site: Server) -> None:
    (file,) = left(site, "odd.txt")["files"]
    job = file["job"]
    assert job["state"] == "succeeded"
    contents = {one["path"]: site.http.get(one["url"]).text for one in job["results"]}
    assert contents == {
        "C:\\x\\..\\y.txt": "w",
        "a?b#c;d%2f&e=f": "q",
        "latin%E4/..x": "d",
        "new%0Aline": "n",
    }
    output = site.http.get(f"/api/v1/jobs/{job['id']}/output").text
    for name, why in (
        ("passwd", "is a symbolic link"),
        ("etc", "is a symbolic link"),
        ("input", "is linked from elsewhere"),
        ("pipe", "is a named pipe"),
    ):
        assert f"dropmill: {name} was not taken as a result: it {why}.\n" in output
    answer = site.http.get(f"/api/v1/submissions/{job['submission_id']}/results.zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert {name: archive.read(name).decode() for name in archive.namelist()} == {
            "odd.txt/C_/x/y.txt": "w",
            "odd.txt/a_b#c;d%2f&e=f": "q",
            "odd.txt/latin%E4/..x": "d",
            "odd.txt/new%0Aline": "n",
        }


@pytest.mark.parametrize(
    "path",
    [
        "passwd",
        "..",
        "../" * 8 + "etc/passwd",
        "%2e%2e/" * 8 + "etc/passwd",
        "..%2f" * 8 + "etc%2fpasswd",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "thumb.webp/",
        "thumb.webp/x",
        "thumb.webp%00",
        "THUMB.WEBP",
        "sub",
        "sub/",
        "%ff%fe",
        "x" * 5000,
    ],
)
def test_any_other_path_is_not_found(site: Server, path: str) -> None:
    if not hasattr(site, "nested_job"):
        site.nested_job = left(site, "nested.txt")["files"][0]["job"]["id"]  # type: ignore[attr-defined]
    with site.connect() as connection:
        target = f"/api/v1/jobs/{site.nested_job}/results/{path}"  # type: ignore[attr-defined]
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {site.host}\r\nConnection: close\r\n\r\n".encode())
        status, _, body = read_answer(connection)
    assert status in (404, 308), body
    assert b"root:" not in body


def test_unknown_jobs_attempts_and_submissions_are_not_found(site: Server) -> None:
    job = left(site, "nested.txt")["files"][0]["job"]
    base = f"/api/v1/jobs/{job['id']}/results/thumb.webp"
    assert site.http.get(f"{base}?attempt=1").status_code == 200
    for path in (
        f"{base}?attempt=2",
        f"{base}?attempt=0",
        "/api/v1/jobs/none/results/x",
        "/api/v1/files/none/content",
        "/api/v1/submissions/none/results.zip",
        f"/api/v1/submissions/{left(site, 'nothing.txt')['id']}/results.zip",
    ):
        answer = site.http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert site.http.get(f"{base}?attempt=x").status_code == 400


RANGES = {
    "bytes=0-0": (206, b"t", "bytes 0-0/15"),
    "bytes=4-7": (206, b"file", "bytes 4-7/15"),
    "bytes=4-": (206, b"file ranges", "bytes 4-14/15"),
    "bytes=-6": (206, b"ranges", "bytes 9-14/15"),
    "bytes=-600": (206, b"the file ranges", "bytes 0-14/15"),
    "bytes=9-600": (206, b"ranges", "bytes 9-14/15"),
    "bytes=15-": (416, None, "bytes */15"),
    "bytes=99999999999999999999-": (416, None, "bytes */15"),
    "bytes=9-2": (200, b"the file ranges", None),
    "bytes=0-1,4-5": (200, b"the file ranges", None),
    "bytes=" + "0-," * 4000 + "0-": (200, b"the file ranges", None),
    "bytes=a-b": (200, b"the file ranges", None),
    "lines=1-2": (200, b"the file ranges", None),
    "": (200, b"the file ranges", None),
}


@pytest.mark.parametrize("asked", RANGES, ids=lambda asked: asked[:20])
def test_one_range_is_sent_and_what_cannot_be_read_gets_it_all(site: Server, asked: str) -> None:
    if not hasattr(site, "range_file"):
        site.range_file = left(site, "ranges")["files"][0]  # type: ignore[attr-defined]
    file: Any = site.range_file  # type: ignore[attr-defined]
    status, content, told = RANGES[asked]
    answer = site.http.get(f"/api/v1/files/{file['id']}/content", headers={"Range": asked})
    assert answer.status_code == status
    assert answer.headers.get("Content-Range") == told
    if content is None:
        assert answer.json()["code"] == "range_not_satisfiable"
    else:
        assert answer.content == content
        assert answer.headers["Accept-Ranges"] == "bytes"
    head = site.http.head(f"/api/v1/files/{file['id']}/content", headers={"Range": asked})
    assert head.status_code == status
    etag = f'"{file["sha256"]}"'
    for condition, is_held in ((etag, True), ('"another"', False), ("Fri, 20 Nov 2026 10:00:00 GMT", False)):
        headers = {"Range": asked, "If-Range": condition}
        answer = site.http.get(f"/api/v1/files/{file['id']}/content", headers=headers)
        assert answer.status_code == (status if is_held else 200)


def test_ten_thousand_ranges_cost_nothing(site: Server) -> None:
    file = left(site, "thousands")["files"][0]
    with site.connect() as connection:
        ranges = "0-," * 10_000 + "0-"
        head = f"GET /api/v1/files/{file['id']}/content HTTP/1.1\r\nHost: {site.host}\r\nRange: bytes={ranges}\r\n\r\n"
        before = cpu_s(site)
        connection.sendall(head.encode())
        assert read_answer(connection)[0] in (200, 400, 416, 431)
    assert cpu_s(site) - before < 1


def cpu_s(server: Server) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- uploaded files --------------------------------------------------------------------------------------------------


def test_an_uploaded_file_comes_back_under_its_own_name(site: Server) -> None:
    (file,) = left(site, "Übersicht 2026.csv")["files"]
    answer = site.http.get(f"/api/v1/files/{file['id']}/content")
    assert answer.content == "the file Übersicht 2026.csv".encode()
    assert answer.headers["Content-Disposition"] == (
        "attachment; filename=\"Ubersicht 2026.csv\"; filename*=UTF-8''%C3%9Cbersicht%202026.csv"
    )
    assert answer.headers["Content-Type"] == "text/csv"
    assert answer.headers["ETag"] == f'"{file["sha256"]}"'


@pytest.mark.parametrize("name", ["swaps", "removes"])
def test_a_file_that_its_script_replaced_or_removed_is_gone_not_followed(site: Server, name: str) -> None:
    (file,) = left(site, name)["files"]
    assert file["job"]["error"]["type"] == "input_changed"
    for method in ("GET", "HEAD"):
        answer = site.http.request(method, f"/api/v1/files/{file['id']}/content")
        assert answer.status_code == 410
        assert "root:" not in answer.text


def _hide_a_change(path: Path) -> None:
    """Change the last byte in place, and set the modification time back."""
    before = path.stat()
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    path.chmod(0o400)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_file_that_is_changed_in_place_while_it_is_sent_cuts_the_answer_off(site: Server) -> None:
    job = left(site, "large")["files"][0]["job"]["id"]
    (result,) = (path for path in blobs(site) if path.stat().st_size == 512 << 20)
    with site.connect() as reader:
        address = f"/api/v1/jobs/{job}/results/large.bin"
        reader.sendall(f"GET {address} HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
        assert b" 200" in reader.recv(1000)
        _hide_a_change(result)
        received = 0
        while more := reader.recv(1 << 20):
            received += len(more)
    assert received < 512 << 20
    result.unlink()


def test_what_was_changed_in_place_is_never_sent_under_its_old_hash(make_server: Make) -> None:
    """A file, a result and a zip; before and after a restart."""
    server = make_server("--processor", "leave:process")
    (server.folder / "leave.py").write_text(LEAVE)
    server.start()
    submission = left(server, "numbered")
    (file,) = submission["files"]
    (found,) = server.get(f"/jobs/{file['job']['id']}")["results"]
    result = next(path for path in blobs(server) if path.stat().st_size == found["size"])
    content = next(path for path in blobs(server) if path != result)
    addresses = [
        f"/api/v1/files/{file['id']}/content",
        f"/api/v1/jobs/{file['job']['id']}/results/number",
    ]
    archive = f"/api/v1/submissions/{submission['id']}/results.zip"
    assert [server.http.get(address).status_code for address in [*addresses, archive]] == [200] * 3

    _hide_a_change(result)
    _hide_a_change(content)
    for _ in range(2):
        for address in addresses:
            for method in ("GET", "HEAD"):
                answer = server.http.request(method, address, headers={"Range": "bytes=0-0"})
                assert (answer.status_code, "ETag" in answer.headers) == (410, False)
        with pytest.raises(httpx.HTTPError):
            server.http.get(archive)
        server.stop()
        server.start()
    _hide_a_change(result)
    _hide_a_change(content)
    assert [server.http.get(address).status_code for address in [*addresses, archive]] == [200] * 3


# --- all of them -----------------------------------------------------------------------------------------------------


def test_all_results_of_a_submission_come_as_one_sound_zip(site: Server) -> None:
    submission = left(site, "nested.txt", "many.txt", "nested.txt", "none.txt", "sub/many.txt")
    path = f"/api/v1/submissions/{submission['id']}/results.zip"
    answer = site.http.get(path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/zip"
    assert (
        answer.headers["Content-Length"] == str(len(answer.content)) == site.http.head(path).headers["Content-Length"]
    )
    assert answer.headers["Content-Disposition"] == f'attachment; filename="results-{submission["id"][:8]}.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        folders = {name.removesuffix("/000.txt") for name in names if name.endswith("/000.txt")}
        assert len(names) == len(set(names)) == 606
        assert len(folders) == 2
        assert {name for name in names if name.startswith("nested")} == {
            f"nested{number}.txt/{path}"
            for number in ("", " (2)")
            for path in ("nothing.csv", "sub/deeper/out.html", "thumb.webp")
        }
        for folder in folders:
            for number in range(300):
                assert archive.read(f"{folder}/{number:03}.txt") == f"number {number}".encode()


def test_a_list_shows_some_of_many_results_and_one_job_all(site: Server) -> None:
    (file,) = left(site, "many.txt")["files"]
    assert (file["job"]["result_count"], len(file["job"]["results"])) == (300, 20)
    job = site.get(f"/jobs/{file['job']['id']}")
    assert [one["path"] for one in job["results"]] == [f"{number:03}.txt" for number in range(300)]
    settled = [e for e in site.events(f"submission:{job['submission_id']}") if e["name"] == "job.settled"]
    assert settled[0]["data"]["result_count"] == 300
    assert settled[0]["data"]["results"][0] == {"path": "000.txt", "size": 8}


def test_half_a_gigabyte_passes_without_filling_memory(site: Server) -> None:
    """As a result, and inside a zip, both at once."""
    submission = left(site, "large.bin")
    (file,) = submission["files"]
    (one,) = file["job"]["results"]
    assert one["size"] == 512 << 20
    before = site.resident_bytes
    most = before
    for path in (one["url"], f"/api/v1/submissions/{submission['id']}/results.zip"):
        received = 0
        with site.http.stream("GET", path) as answer:
            assert answer.status_code == 200
            for piece in answer.iter_raw():
                received += len(piece)
                if received % (1 << 24) < len(piece):
                    most = max(most, site.resident_bytes)
            assert received == int(answer.headers["Content-Length"])
    assert most - before < 48 << 20


def test_a_reader_that_goes_away_leaves_no_descriptor_open(site: Server) -> None:
    submission = left(site, "numbered.txt")
    (one,) = submission["files"][0]["job"]["results"]

    def held() -> int:
        found = 0
        for entry in Path(f"/proc/{site.process.pid}/fd").iterdir():
            try:
                found += "/blobs/" in os.readlink(entry)
            except FileNotFoundError:
                continue
        return found

    for path in (one["url"], f"/api/v1/submissions/{submission['id']}/results.zip"):
        for _ in range(5):
            with site.connect() as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {site.host}\r\n\r\n".encode())
                assert connection.recv(100)
    wait_until(lambda: held() == 0)


def test_a_retry_while_a_result_is_downloaded_does_not_touch_what_is_sent(site: Server) -> None:
    (file,) = left(site, "numbered.txt")["files"]
    job = file["job"]
    url = job["results"][0]["url"]
    gathered = b""
    with site.http.stream("GET", url) as answer:
        pieces = answer.iter_raw(65536)
        gathered += next(pieces)
        assert site.http.post(f"/api/v1/jobs/{job['id']}/retry").status_code == 202
        site.settled(job["submission_id"])
        gathered += b"".join(pieces)
    assert gathered == b"1" * 3_000_000
    assert site.http.get(url).content == b"2" * 3_000_000
    assert site.http.get(f"{url}?attempt=1").content == b"1" * 3_000_000
    answer = site.http.get(f"/api/v1/submissions/{job['submission_id']}/results.zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.read("numbered.txt/number") == b"2" * 3_000_000


# --- kept and not kept -----------------------------------------------------------------------------------------------


def test_too_many_results_fail_the_attempt_and_none_stays(make_server: Make) -> None:
    server = make_server("--processor", "leave:process", "--max-results", "299")
    (server.folder / "leave.py").write_text(LEAVE)
    server.start()
    (file,) = left(server, "many.txt")["files"]
    assert file["job"]["state"] == "failed"
    assert file["job"]["error"]["type"] == "too_many_results"
    assert file["job"]["results"] == []
    assert len(blobs(server)) == 1


def test_a_kill_between_take_over_and_the_ledgers_commit_leaves_no_orphan(make_server: Make) -> None:
    """The ledger's writer is held by a lock of ours, so the results are in the store and recorded nowhere."""
    import sqlite3

    server = make_server("--processor", "leave:process")
    (server.folder / "leave.py").write_text(LEAVE)
    server.start()
    submission = server.send(("waits.txt", b"x"))
    job_id = server.get(f"/submissions/{submission['id']}")["files"][0]["job"]["id"]
    wait_until(lambda: server.http.get(f"/api/v1/jobs/{job_id}/output").content)
    with sqlite3.connect(server.data / "ledger.sqlite", isolation_level=None) as held:
        held.execute("BEGIN IMMEDIATE")
        (server.folder / "go-on").touch()
        wait_until(lambda: len(blobs(server)) == 2)
        server.kill()
        held.execute("ROLLBACK")
    held.close()
    wait_until(lambda: not server.strays())
    assert len(blobs(server)) == 2

    server.start()
    (file,) = server.settled(submission["id"])["files"]
    assert [attempt["state"] for attempt in file["job"]["attempts"]] == ["lost", "succeeded"]
    (one,) = file["job"]["results"]
    assert server.http.get(one["url"]).text == "x"
    assert len(blobs(server)) == 2
    assert list((server.data / "attempts").iterdir()) == []


def test_results_outlive_a_restart(make_server: Make) -> None:
    server = make_server("--processor", "leave:process")
    (server.folder / "leave.py").write_text(LEAVE)
    server.start()
    (file,) = left(server, "nested.txt")["files"]
    server.kill()
    server.start()
    for one in file["job"]["results"]:
        assert hashlib.sha256(server.http.get(one["url"]).content).hexdigest() == one["sha256"]

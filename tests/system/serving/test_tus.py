"""Resumable uploads against a real server: killed, restarted, cut off, used by a client that is not ours, by curl."""

import base64
import contextlib
import hashlib
import io
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import tusclient.client
import tusclient.exceptions
from tests.support.faulty_proxy import Proxy
from tests.support.server import Server, post, read_answer
from tests.support.tus import TUS, append, checksum, create, metadata, offset_of, patch_head
from tests.support.waiting import PATIENCE_S, wait_until

Make = Callable[..., Server]

CHUNK = 1 << 20


@pytest.fixture
def chance() -> random.Random:
    """Random numbers; the seed is printed, and shown if the test fails."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    return random.Random(seed)


def submission_of(server: Server, url: str) -> Any:
    """The submission that holds an upload, settled."""
    file_id = url.rpartition("/")[2]
    for item in server.get("/submissions?limit=1000")["items"]:
        found = server.settled(item["id"])
        if any(file["id"] == file_id for file in found["files"]):
            return found
    raise AssertionError("no submission has that upload")


def require_processed_once(server: Server, url: str, content: bytes) -> None:
    """Stored with these bytes, by its hash and by its download; one job, one attempt."""
    submission = submission_of(server, url)
    (file,) = [file for file in submission["files"] if url.endswith(file["id"])]
    assert (file["state"], file["size"]) == ("stored", len(content))
    assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert file["job"]["state"] == "succeeded"
    assert len(file["job"]["attempts"]) == 1
    assert server.http.get(f"/api/v1/files/{file['id']}/content").content == content


def on_disk(server: Server) -> list[int]:
    """Sizes of the files on their way in."""
    return sorted(
        path.stat().st_size for path in (server.data / "incoming").iterdir() if not path.name.endswith(".chunk")
    )


# --- killed and restarted --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_checked", [False, True])
def test_after_a_kill_an_upload_stands_where_the_disk_says(
    make_server: Make, chance: random.Random, is_checked: bool
) -> None:
    """Killed at random moments of its PATCHes; an offset that was answered is never taken back."""
    server, content = make_server(), chance.randbytes(6 * CHUNK)
    url = create(server.start().http, len(content), sha256=hashlib.sha256(content).hexdigest())
    kills, answered = 2, 0
    while kills:
        # One more chunk, or part of it, is on its way when the kill comes.
        delay_s, reached = chance.uniform(0, 0.03), answered
        killer = threading.Timer(delay_s, server.process.kill)
        killer.start()
        with contextlib.suppress(httpx.TransportError):
            while reached < len(content) - 2 * CHUNK:
                chunk = content[reached : reached + CHUNK // 2 + 77]
                headers = checksum(chunk) if is_checked else {}
                answer = append(server.http, url, reached, _slowly(chunk), **headers)
                assert answer.status_code == 204, answer.text
                reached = int(answer.headers["Upload-Offset"])
        killer.join()
        kills -= 1
        server.kill()
        left = on_disk(server)
        server.start()
        now = offset_of(server.http, url)
        assert reached <= now <= min(reached + CHUNK // 2 + 77, len(content))
        assert on_disk(server) in ([now], [])
        if is_checked:
            assert now in (reached, reached + CHUNK // 2 + 77)
        else:
            assert left in ([now], [])
        answered = now
    assert append(server.http, url, answered, content[answered:]).status_code == 204
    require_processed_once(server, url, content)
    assert server.arriving() == []


def _slowly(content: bytes) -> Iterator[bytes]:
    for at in range(0, len(content), 64 * 1024):
        yield content[at : at + 64 * 1024]


def test_a_checksum_that_was_not_whole_when_the_server_died_counts_nothing(make_server: Make) -> None:
    server, content = make_server(), random.Random(1).randbytes(3 * CHUNK)
    url = create(server.start().http, len(content))
    append(server.http, url, 0, content[:CHUNK], **checksum(content[:CHUNK]))
    told = "".join(f"{name}: {value}\r\n" for name, value in checksum(content[CHUNK:]).items())
    with server.connect() as connection:
        connection.sendall(patch_head(server, url, CHUNK, 2 * CHUNK, told) + content[CHUNK : 2 * CHUNK])
        wait_until(lambda: on_disk(server) and on_disk(server)[0] > CHUNK)
        server.kill()
    assert on_disk(server)[0] > CHUNK
    server.start()
    assert offset_of(server.http, url) == CHUNK
    assert on_disk(server) == [CHUNK]
    append(server.http, url, CHUNK, content[CHUNK:])
    require_processed_once(server, url, content)


def test_a_stop_in_the_middle_keeps_what_has_come(make_server: Make) -> None:
    server, content = make_server(), random.Random(2).randbytes(2 * CHUNK)
    url = create(server.start().http, len(content))
    with server.connect() as connection:
        connection.sendall(patch_head(server, url, 0, len(content)) + content[:CHUNK])
        wait_until(lambda: on_disk(server))
        assert server.stop() == 0
    server.start()
    now = offset_of(server.http, url)
    assert 0 < now <= CHUNK
    append(server.http, url, now, content[now:])
    require_processed_once(server, url, content)


def test_an_upload_nobody_goes_on_with_is_gone_after_its_time(make_server: Make) -> None:
    server = make_server("--upload-expiry", "0.3").start()
    url = create(server.http, 100)
    append(server.http, url, 0, b"x" * 50)
    wait_until(lambda: not server.arriving())
    for answer in (
        server.http.head(url, headers=TUS),
        append(server.http, url, 50, b"x" * 50),
        server.http.delete(url, headers=TUS),
    ):
        assert answer.status_code == 410
        assert "Upload-Offset" not in answer.headers
    (file,) = submission_of(server, url)["files"]
    assert (file["state"], file["error"]) == ("aborted", "no byte came for too long")


# --- a foreign client ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_checked", [False, True])
def test_tuspy_resumes_over_cuts_and_a_restart(make_server: Make, chance: random.Random, is_checked: bool) -> None:
    server, content = make_server(), chance.randbytes(5 * CHUNK + 12345)
    server.start()
    with Proxy(lambda: server.host) as proxy:
        proxy.cut_at(chance.randrange(len(content)) for _ in range(4))
        client = tusclient.client.TusClient(f"{proxy.url}/api/v1/uploads")
        url, is_restarted, stopped = None, False, 0
        for _ in range(50):
            try:
                uploader = client.uploader(
                    file_stream=io.BytesIO(content),
                    url=url,
                    chunk_size=CHUNK,
                    metadata={"filename": "ä b.tar.gz", "relativePath": "x/ä b.tar.gz"},
                    upload_checksum=is_checked,
                )
                uploader.upload(stop_at=len(content) if is_restarted else len(content) // 2)
                if is_restarted:
                    break
                url, is_restarted = uploader.url, True
                server.stop()
                server.start()
            except (tusclient.exceptions.TusUploadFailed, tusclient.exceptions.TusCommunicationError):
                stopped += 1
                url = uploader.url or url
        assert stopped
        assert url is not None
    path = "/api" + url.partition("/api")[2]
    require_processed_once(server, path, content)
    (file,) = submission_of(server, path)["files"]
    assert (file["name"], file["path"]) == ("ä b.tar.gz", "x/ä b.tar.gz")


def test_a_hundred_uploads_at_once_do_not_mix(make_server: Make, chance: random.Random) -> None:
    server = make_server().start()
    contents = [chance.randbytes(50_000 + 1000 * number) for number in range(100)]

    def send(content: bytes) -> str:
        with httpx.Client(base_url=server.url, timeout=PATIENCE_S, trust_env=False) as client:
            url = create(client, len(content))
            half = len(content) // 2
            assert append(client, url, 0, content[:half]).status_code == 204
            assert append(client, url, half, content[half:], **checksum(content[half:])).status_code == 204
            return url

    with ThreadPoolExecutor(20) as threads:
        urls = list(threads.map(send, contents))
    found = {}
    for item in server.get("/submissions?limit=1000")["items"]:
        (file,) = server.settled(item["id"])["files"]
        found[file["id"]] = file["sha256"]
    assert [found[url.rpartition("/")[2]] for url in urls] == [hashlib.sha256(one).hexdigest() for one in contents]
    assert server.arriving() == []


# --- what the protocol says ------------------------------------------------------------------------------------------


def test_a_server_tells_what_it_speaks(make_server: Make) -> None:
    server = make_server("--max-file-size", "1MiB").start()
    told = server.http.options("/api/v1/uploads")
    assert told.status_code == 204
    assert told.headers["Tus-Version"] == "1.0.0"
    assert set(told.headers["Tus-Extension"].split(",")) == {
        "creation",
        "creation-with-upload",
        "creation-defer-length",
        "checksum",
        "expiration",
        "termination",
    }
    assert told.headers["Tus-Checksum-Algorithm"] == "sha1,sha256"
    assert told.headers["Tus-Max-Size"] == str(CHUNK)
    other = server.http.head("/api/v1/uploads/x", headers={"Tus-Resumable": "0.2.2"})
    assert (other.status_code, other.headers["Tus-Version"]) == (412, "1.0.0")


def test_an_upload_from_beginning_to_end_as_the_protocol_has_it(server: Server) -> None:
    """Size told later, first bytes with the creation, a POST for clients that have no PATCH."""
    http = server.http
    told = {"Upload-Defer-Length": "1", "Upload-Metadata": metadata(filename="a.txt"), "Upload-Offset": "0"}
    octets = {"Content-Type": "application/offset+octet-stream"}
    made = http.post("/api/v1/uploads", headers=TUS | told | octets, content=b"hel")
    assert (made.status_code, made.headers["Upload-Offset"]) == (201, "3")
    assert made.headers["Tus-Resumable"] == "1.0.0"
    assert "Upload-Expires" in made.headers
    url = made.headers["Location"]
    assert url.startswith("/api/v1/uploads/")  # relative: behind a proxy nobody knows better
    head = http.head(url, headers=TUS)
    assert (head.headers["Upload-Offset"], head.headers["Upload-Defer-Length"]) == ("3", "1")
    assert head.headers["Upload-Metadata"] == metadata(filename="a.txt")
    assert head.headers["Cache-Control"] == "no-store"
    assert "Upload-Length" not in head.headers
    override = {"X-HTTP-Method-Override": "PATCH", "Upload-Offset": "3", "Upload-Length": "5"}
    patched = http.post(url, headers=TUS | octets | override, content=b"lo")
    assert (patched.status_code, patched.headers["Upload-Offset"]) == (204, "5")
    assert http.head(url, headers=TUS).headers["Upload-Length"] == "5"
    require_processed_once(server, url, b"hello")


def test_a_chunk_that_was_damaged_on_its_way_is_refused_with_460(server: Server) -> None:
    url, content = create(server.http, CHUNK), random.Random(3).randbytes(CHUNK)
    with Proxy(lambda: server.host) as proxy, httpx.Client(base_url=proxy.url, trust_env=False) as client:
        proxy.damage_at(CHUNK // 2)
        assert append(client, url, 0, content, **checksum(content)).status_code == 460
        assert offset_of(client, url) == 0
        assert append(client, url, 0, content, **checksum(content)).status_code == 204
    require_processed_once(server, url, content)


# --- one file as a body ----------------------------------------------------------------------------------------------

CURL = shutil.which("curl")
needs_curl = pytest.mark.skipif(CURL is None, reason="needs curl")


def curl(*words: str, given: bytes | None = None) -> tuple[int, str]:
    """The number of the answer that curl got, and the answer with its headers."""
    assert CURL is not None
    command = [CURL, "--silent", "--show-error", "--include", "--max-time", str(PATIENCE_S), *words]
    ended = subprocess.run(command, input=given, capture_output=True, check=True, timeout=2 * PATIENCE_S)
    answer = ended.stdout.decode().rpartition("HTTP/1.1 100 \r\n\r\n")[2]
    return int(answer.split()[1]), answer


def repr_digest(content: bytes) -> str:
    return f"Repr-Digest: sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


@needs_curl
def test_curl_sends_a_file_with_its_digest(server: Server, tmp_path: Path) -> None:
    content = random.Random(5).randbytes(2 * CHUNK)
    path = tmp_path / "my file.iso"
    path.write_bytes(content)
    status, answer = curl("-T", str(path), f"{server.url}/send/", "-H", repr_digest(content))
    assert status == 201
    location = next(line for line in answer.splitlines() if line.lower().startswith("location:"))
    (file,) = server.settled(location.rpartition("/")[2].strip())["files"]
    assert (file["name"], file["sha256"]) == ("my file.iso", hashlib.sha256(content).hexdigest())
    status, answer = curl("-T", str(path), f"{server.url}/send/", "-H", repr_digest(b"other"))
    assert status == 400
    assert "digest_mismatch" in answer
    wait_until(lambda: not server.arriving())
    stored = [path.name for path in (server.data / "blobs").rglob("*") if path.is_file()]
    status, _ = curl("-T", "-", f"{server.url}/send/from%20a%20pipe.txt", given=b"piped")  # in chunks
    assert status == 201
    assert len([path for path in (server.data / "blobs").rglob("*") if path.is_file()]) == len(stored) + 1


def test_a_lost_answer_can_be_asked_for_again(server: Server) -> None:
    sent = {"Idempotency-Key": "one"}
    first = server.http.put("/send/a.txt", content=b"abc", headers=sent)
    again = server.http.put("/send/a.txt", content=b"abc", headers=sent)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["Location"] == first.headers["Location"]
    form = {"file": ("b.txt", b"def")}
    first = server.http.post("/api/v1/submissions", files=form, headers={"Idempotency-Key": "two"})
    again = server.http.post("/api/v1/submissions", files=form, headers={"Idempotency-Key": "two"})
    assert first.json()["id"] == again.json()["id"]
    assert len(server.settled(again.json()["id"])["files"]) == 1
    announced = {"files": [{"name": "c.txt", "size": 3}]}
    first = server.http.post("/api/v1/submissions", json=announced, headers={"Idempotency-Key": "three"})
    again = server.http.post("/api/v1/submissions", json=announced, headers={"Idempotency-Key": "three"})
    assert [file["upload_url"] for file in first.json()["files"]] == [f["upload_url"] for f in again.json()["files"]]


def test_idempotency_another_request_under_the_same_key_is_422(server: Server) -> None:
    def refused(answer: httpx.Response, first: httpx.Response) -> bool:
        problem = answer.json()
        return (answer.status_code, problem["code"], problem["submission"]) == (
            422,
            "idempotency_mismatch",
            first.json()["id"],
        )

    key = {"Idempotency-Key": "mismatch put"}
    first = server.http.put("/send/a.txt", content=b"abc", headers=key)
    assert refused(server.http.put("/send/never-stored.txt", content=b"abc", headers=key), first)
    assert refused(server.http.put("/send/a.txt", content=b"abcd", headers=key), first)
    assert refused(server.http.put("/send/a.txt", content=iter([b"ab"]), headers=key), first)
    assert refused(server.http.post("/api/v1/submissions", files={"f": ("a.txt", b"abc")}, headers=key), first)
    assert refused(server.http.post("/api/v1/submissions", json={"files": []}, headers=key), first)
    assert server.http.put("/send/a.txt", content=b"xyz", headers=key).json()["id"] == first.json()["id"]
    key = {"Idempotency-Key": "mismatch form"}
    first = server.http.post("/api/v1/submissions", files={"f": ("a.txt", b"abc")}, headers=key)
    two = [("f", ("a.txt", b"abc")), ("f", ("never-stored.txt", b"def"))]
    assert refused(server.http.post("/api/v1/submissions", files=two, headers=key), first)
    key = {"Idempotency-Key": "mismatch announcement"}
    first = server.http.post("/api/v1/submissions", json={"files": [{"name": "a", "size": 1}]}, headers=key)
    for other in ([], [{"name": "a", "size": 2}], [{"name": "a", "size": 1, "path": "b/a"}]):
        assert refused(server.http.post("/api/v1/submissions", json={"files": other}, headers=key), first)
    assert not [event for event in server.events() if event["subject"]["name"] == "never-stored.txt"]


def test_the_same_key_at_once_is_one_file(server: Server) -> None:
    content = random.Random(6).randbytes(CHUNK)

    def put(_: int) -> str:
        with httpx.Client(base_url=server.url, timeout=PATIENCE_S, trust_env=False) as client:
            answer = client.put("/send/a.bin", content=content, headers={"Idempotency-Key": "at once"})
            assert answer.status_code == 201, answer.text
            return str(answer.json()["id"])

    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(put, range(8)))
    assert len(ids) == 1
    (file,) = server.settled(ids.pop())["files"]
    assert file["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_repeat_does_not_trust_a_first_request_that_is_being_cut(server: Server) -> None:
    """The client lost its connection and sends again at once; the server may not have noticed yet."""
    content = random.Random(7).randbytes(CHUNK)
    key = {"Idempotency-Key": "cut"}
    with server.connect() as dead:
        head = f"PUT /send/a.bin HTTP/1.1\r\nHost: {server.host}\r\nIdempotency-Key: cut\r\nContent-Length: {CHUNK}\r\n"
        dead.sendall(head.encode() + b"\r\n" + content[: CHUNK // 2])
        wait_until(server.arriving)
        timer = threading.Timer(0.2, lambda: dead.shutdown(socket.SHUT_RDWR))
        timer.start()
        answer = server.http.put("/send/a.bin", content=content, headers=key)
        timer.join()
    assert answer.status_code == 201
    (file,) = server.settled(answer.json()["id"])["files"]
    assert file["sha256"] == hashlib.sha256(content).hexdigest()


# --- too large, told early -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes files up to 1 MiB."""
    made = Server(tmp_path_factory.mktemp("narrow"), "--max-file-size", "1MiB")
    try:
        yield made.start()
    finally:
        made.end()


@needs_curl
def test_curl_is_told_before_it_sends_what_is_too_large(narrow: Server, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(8 * CHUNK))
    wait = ("-H", "Expect: 100-continue", "--expect100-timeout", "20")
    told = ("-w", "\n%{size_upload}")
    begun = time.monotonic()
    status, answer = curl("-T", str(path), f"{narrow.url}/send/", *wait, *told)
    assert status == 413
    assert "file_too_large" in answer
    assert answer.splitlines()[-1] == "0"  # not a byte of it was sent
    assert time.monotonic() - begun < 15  # curl did not wait for its patience to end
    small = tmp_path / "small.bin"
    small.write_bytes(bytes(CHUNK))
    status, answer = curl("-T", str(small), f"{narrow.url}/send/", *wait, *told)
    assert status == 201
    assert answer.splitlines()[-1] == str(CHUNK)
    url = create(narrow.http, 100)
    patch = ["-X", "PATCH", "-T", str(small), "-H", "Tus-Resumable: 1.0.0", "-H", "Upload-Offset: 0", "-H"]
    status, answer = curl(narrow.url + url, *patch, "Content-Type: application/offset+octet-stream", *wait, *told)
    assert status == 413
    assert answer.splitlines()[-1] == "0"


@pytest.mark.parametrize("expects", [False, True])
def test_a_client_that_only_writes_reads_the_refusal_afterwards(narrow: Server, expects: bool) -> None:
    """It sends all of a body that was refused at once, and must not be reset before it looks."""
    with narrow.connect() as connection:
        more = "Expect: 100-continue\r\n" if expects else ""
        head = f"PUT /send/a HTTP/1.1\r\nHost: {narrow.host}\r\n{more}Content-Length: {8 * CHUNK}\r\n\r\n"
        connection.sendall(head.encode())
        for _ in range(8):
            connection.sendall(bytes(CHUNK))
        status, _, body = read_answer(connection)
    assert (status, b"file_too_large" in body) == (413, True)


def test_a_body_that_was_waited_for_is_asked_for_once(server: Server) -> None:
    for path in ("/send/a.txt", "/api/v1/submissions"):
        body = b'--B\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nx\r\n--B--\r\n'
        with server.connect() as connection:
            head = post(server, len(body), path)
            if path.startswith("/send"):
                head = head.replace(b"POST", b"PUT", 1).replace(b"multipart/form-data; boundary=B", b"text/plain")
            connection.sendall(head.replace(b"\r\n\r\n", b"\r\nExpect: 100-Continue\r\n\r\n"))
            assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
            connection.sendall(body)
            assert read_answer(connection)[0] == 201


def test_what_needs_no_body_is_answered_without_asking_for_one(server: Server) -> None:
    with server.connect() as connection:
        line = f"GET /healthz HTTP/1.1\r\nHost: {server.host}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        connection.sendall(line.encode())
        assert read_answer(connection)[0] == 200


@pytest.mark.parametrize("ending", [socket.SHUT_WR, socket.SHUT_RDWR])
def test_what_has_come_whole_is_stored_though_its_client_has_left(server: Server, ending: int) -> None:
    before = len(server.get("/submissions?limit=1000")["items"])
    content = random.Random(ending).randbytes(CHUNK)
    with server.connect() as connection:
        head = f"PUT /send/left.bin HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: {CHUNK}\r\n\r\n"
        connection.sendall(head.encode() + content)
        connection.shutdown(ending)

    def sent() -> list[Any]:
        return list(server.get("/submissions?limit=1000")["items"][: -before or None])

    (submission,) = wait_until(sent)
    (file,) = server.settled(submission["id"])["files"]
    assert (file["state"], file["sha256"]) == ("stored", hashlib.sha256(content).hexdigest())

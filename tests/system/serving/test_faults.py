"""What goes wrong around it: killed, cut off, stalled, a bad script, no DNS, a second one, a wrong setting."""

import collections
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.support.name_server import NameServer
from tests.support.server import SERVE, Server, clean_environment, form, hear, post, read_answer, reset
from tests.support.waiting import wait_until

pytestmark = pytest.mark.fresh

Make = Callable[..., Server]
HALF = bytes(600_000)  # more than is gathered before a file is begun on disk

SCRIPT = """
import ctypes, os, pathlib, signal, sys, time

def process(file):
    print("began", file.name, flush=True)
    match file.name:
        case "raises": raise ValueError("no such column")
        case "exits": sys.exit(3)
        case "leaves": os._exit(4)
        case "crashes": ctypes.string_at(0)
        case "kills-its-slot": os.kill(os.getppid(), signal.SIGKILL)
        case "waits":
            while not pathlib.Path(__file__).with_name("go-on").exists():
                time.sleep(0.01)
    return file.size
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A started server whose script does what a file is called, and that waits 0.3 s for a body."""
    flags = ("--processor", "odd:process", "--concurrency", "2", "--idle-timeout", "0.3")
    server = Server(tmp_path_factory.mktemp("odd"), *flags, is_fresh=True)
    (server.folder / "odd.py").write_text(SCRIPT)
    try:
        yield server.start()
    finally:
        server.end()


# --- killed ----------------------------------------------------------------------------------------------------------


def test_after_a_kill_every_stored_file_is_processed_and_settles_once(make_server: Make) -> None:
    server = make_server("--processor", "odd:process", "--concurrency", "1")
    (server.folder / "odd.py").write_text(SCRIPT)
    server.start()
    submissions = [server.send(("waits", b"1"), ("queued", b"2"))["id"], server.send(("also", b"3"))["id"]]
    job = server.get(f"/submissions/{submissions[0]}")["files"][0]["job"]["id"]
    wait_until(lambda: server.http.get(f"/api/v1/jobs/{job}/output").content)
    body = form([("whole", b"4"), ("half", HALF)])[:-100]
    with server.connect() as upload:
        upload.sendall(post(server, 1_000_000) + body)
        wait_until(lambda: [event for event in server.events() if event["subject"]["name"] == "half"])
        submissions.append(server.get("/submissions?limit=1")["items"][0]["id"])
        wait_until(server.arriving)
        began = [event["cursor"] for event in server.events()]
        server.kill()
    wait_until(lambda: not server.strays())

    (server.folder / "go-on").touch()
    server.start()
    settled = [server.settled(submission) for submission in submissions]

    states = {
        file["name"]: (file["state"], file["job"] and file["job"]["state"]) for s in settled for file in s["files"]
    }
    assert states == {
        "waits": ("stored", "succeeded"),
        "queued": ("stored", "succeeded"),
        "also": ("stored", "succeeded"),
        "whole": ("stored", "succeeded"),
        "half": ("aborted", None),
    }
    events = server.events()
    ends = collections.Counter(event["subject"]["job_id"] for event in events if event["name"] == "job.settled")
    assert len(ends) == 4
    assert set(ends.values()) == {1}
    assert [event["cursor"] for event in events][: len(began)] == began
    assert server.arriving() == []
    kept = [path for path in (server.data / "blobs").rglob("*") if path.is_file()]
    assert len(kept) == 4
    wait_until(lambda: len(server.log()) >= len(events))
    assert [line["cursor"] for line in server.log()] == list(range(1, len(server.log()) + 1))


# --- cut off, stalled ------------------------------------------------------------------------------------------------


def test_a_pause_between_two_parts_settles_the_submission_once(make_server: Make) -> None:
    server = make_server().start()
    body = form([("one", b"1"), ("two", b"2")])
    at = body.index(b"two")  # a part ends where the next one's boundary stands
    first, second = body[:at], body[at:]
    with server.live() as page, server.connect() as upload:
        page.send(json.dumps({"type": "join", "id": 1, "topic": "all", "after": 0}))
        upload.sendall(post(server, len(first + second)) + first)
        names: list[str] = []
        while "job.settled" not in names:  # the first file is through before the second begins
            names += [event["name"] for event in hear(page, "events")["events"]]
        assert "submission.settled" not in names
        upload.sendall(second)
        status, _, answer = read_answer(upload)
    assert status == 201
    submission = server.settled(json.loads(answer)["id"])
    assert submission["counts"]["succeeded"] == 2
    told = [event["name"] for event in server.events(f"submission:{submission['id']}")]
    assert told.count("submission.settled") == 1
    assert told[-1] in ("submission.settled", "client.identified")


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("cut", ["fin", "rst", "stall"])
def test_an_upload_that_breaks_off_keeps_what_was_whole_and_nothing_else(
    odd: Server, cut: str, is_chunked: bool
) -> None:
    whole, half = form([(f"whole-{cut}-{is_chunked}", b"1")], is_closed=False), form([("half", HALF)])[:-100]
    body = whole + half
    upload = odd.connect()
    with upload:
        if is_chunked:
            upload.sendall(post(odd, None) + f"{len(body):x}\r\n".encode() + body + b"\r\n")
        else:
            upload.sendall(post(odd, len(body) + 1000) + body)
        wait_until(lambda: odd.arriving())
        if cut == "fin":
            upload.shutdown(socket.SHUT_WR)
        elif cut == "rst":
            reset(upload)
        else:
            status, _, answer = read_answer(upload)
            assert (status, json.loads(answer)["code"]) == (408, "body_idle")
            assert json.loads(answer)["kept"] == [f"whole-{cut}-{is_chunked}"]
        wait_until(lambda: not odd.arriving())
    submission = odd.settled(odd.get("/submissions?limit=1")["items"][0]["id"])
    shown = [(file["name"][:5], file["state"]) for file in submission["files"]]
    assert shown == [("whole", "stored"), ("half", "aborted")]
    assert submission["files"][1]["error"]
    assert submission["counts"]["succeeded"] == 1


@pytest.mark.parametrize("end", range(0, 130, 13))
def test_wherever_a_body_is_cut_no_half_file_is_left(odd: Server, end: int) -> None:
    body = form([("cut", b"some bytes")])
    with odd.connect() as upload:
        upload.sendall(post(odd, len(body)) + body[: min(end, len(body) - 1)])
        upload.shutdown(socket.SHUT_WR)
        read_answer(upload)
    wait_until(lambda: not odd.arriving())
    newest = odd.get("/submissions?limit=1")["items"]
    if newest:
        assert odd.settled(newest[0]["id"])["counts"]["receiving"] == 0


def test_a_stalled_config_save_changes_nothing(odd: Server) -> None:
    before = odd.http.get("/api/v1/config")
    head = f"PUT /api/v1/config HTTP/1.1\r\nHost: {odd.host}\r\nIf-Match: {before.headers['ETag']}\r\n"
    with odd.connect() as saving:
        saving.sendall(f"{head}Content-Length: 100\r\n\r\na: 1\n".encode())
        status, _, answer = read_answer(saving)
    assert (status, json.loads(answer)["code"]) == (408, "body_idle")
    assert odd.config.read_bytes() == before.content


# --- the script ------------------------------------------------------------------------------------------------------


def test_a_script_that_ends_badly_ends_its_own_job_alone(odd: Server) -> None:
    names = ("raises", "exits", "leaves", "crashes", "good")
    submission = odd.settled(odd.send(*((name, b"xy") for name in names))["id"])
    jobs = {file["name"]: file["job"] for file in submission["files"]}
    shown = {
        name: (job["state"], job["exit_code"], job["error"] and job["error"]["type"]) for name, job in jobs.items()
    }
    assert shown["good"] == ("succeeded", 0, None)
    assert jobs["good"]["value"] == 2
    assert shown["raises"][0] == "failed"
    assert shown["raises"][2] == "ValueError"
    assert jobs["raises"]["error"]["message"] == "no such column"
    assert "Traceback" in odd.http.get(f"/api/v1/jobs/{jobs['raises']['id']}/output").text
    assert shown["exits"][:2] == ("failed", 3)
    assert shown["leaves"][:2] == ("failed", 4)
    assert shown["crashes"][:2] == ("failed", -11)
    assert {job["output_size"] > 0 for job in jobs.values()} == {True}


def test_a_script_that_kills_its_slot_loses_no_job_but_its_own(make_server: Make) -> None:
    server = make_server("--processor", "odd:process", "--concurrency", "1", "--max-attempts", "2")
    (server.folder / "odd.py").write_text(SCRIPT)
    server.start()
    submission = server.settled(server.send(("kills-its-slot", b"x"), ("good", b"x"))["id"])
    shown = {file["name"]: (file["job"]["state"], len(file["job"]["attempts"])) for file in submission["files"]}
    assert shown == {"kills-its-slot": ("failed", 2), "good": ("succeeded", 1)}
    # what else the server runs is not taken for what the script left behind
    assert server.http.post("/api/v1/config/check", content=b"a: 1\n").json() == {"errors": [], "warnings": []}
    assert server.stop() == 0
    assert server.strays() == []


# --- DNS -------------------------------------------------------------------------------------------------------------


def test_the_log_tells_the_clients_name_and_domain(make_server: Make) -> None:
    with NameServer() as names:
        names.pointers["127.0.0.1"] = ["pc7.lab.example.com"]
        names.addresses["pc7.lab.example.com"] = ["127.0.0.1"]
        server = make_server(environment={"DROPMILL_DNS_SERVERS": names.address}).start()
        submission = server.settled(server.send(("a", b"a"))["id"])["id"]
        identified = wait_until(lambda: next((e for e in server.log() if e["event"] == "client.identified"), None))
        client = wait_until(lambda: c if (c := server.get(f"/submissions/{submission}")["client"])["host"] else None)
        assert (client["host"], client["verified"], client["domain"]) == ("pc7.lab.example.com", True, "example.com")
        assert {identified[key] for key in ("host",)} == {"pc7.lab.example.com"}
        assert (identified["verified"], identified["domain"], identified["ip"]) == (True, "example.com", "127.0.0.1")
        server.settled(server.send(("b", b"b"))["id"])
        again = wait_until(lambda: [e for e in server.log() if e["event"] == "client.identified"][1:])
        assert again[0]["host"] == "pc7.lab.example.com"


def test_a_config_revision_tells_its_authors_name_unless_dns_keeps_it_waiting(make_server: Make) -> None:
    with NameServer() as names:
        names.pointers["127.0.0.1"] = ["pc7.lab.example.com"]
        names.addresses["pc7.lab.example.com"] = ["127.0.0.1"]
        names.is_silent = True
        server = make_server(environment={"DROPMILL_DNS_SERVERS": names.address}).start()

        def author(text: bytes) -> tuple[str, str | None]:
            etag = server.http.get("/api/v1/config").headers["ETag"]
            saved = server.http.put("/api/v1/config", content=text, headers={"If-Match": etag}).json()
            return saved["client"]["ip"], saved["client"]["host"]

        assert author(b"a: 1\n") == ("127.0.0.1", None)
        assert server.stop() == 0
        names.is_silent = False
        server.start()
        assert author(b"a: 2\n") == ("127.0.0.1", "pc7.lab.example.com")
        logged = wait_until(lambda: [e for e in server.log() if e["event"] == "config.saved" and e["host"]])
        assert (logged[0]["host"], logged[0]["domain"]) == ("pc7.lab.example.com", "example.com")


def test_dns_that_does_not_answer_changes_nothing_but_the_name(make_server: Make) -> None:
    with NameServer() as names:
        names.is_silent = True
        server = make_server(environment={"DROPMILL_DNS_SERVERS": names.address}).start()
        submission = server.settled(server.send(("a", b"a"))["id"])
        assert submission["counts"]["succeeded"] == 1
        before = [event["name"] for event in server.events()]
        events = wait_until(lambda: found if "client.identified" in str(found := server.events()) else None)
        assert "submission.settled" in before or "client.identified" in before  # settled without waiting for the name
        (identified,) = [event for event in events if event["name"] == "client.identified"]
        assert identified["data"] == {"host": None, "verified": False, "domain": None}
        opened = next(event for event in events if event["name"] == "submission.opened")
        settled = next(event for event in events if event["name"] == "submission.settled")
        assert opened["cursor"] < settled["cursor"] < identified["cursor"]
        assert server.get(f"/submissions/{submission['id']}")["client"]["host"] is None


# --- a second one ----------------------------------------------------------------------------------------------------


def refused(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> str:
    """The one line with which a start is refused."""
    ended = subprocess.run(
        [*SERVE, *arguments],
        cwd=folder,
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2, (ended.returncode, ended.stderr)
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("dropmill: ")
    return line


def test_a_second_server_on_the_same_folder_is_refused(odd: Server, tmp_path: Path) -> None:
    line = refused(tmp_path, "--bind", "127.0.0.1:0", "--data", str(odd.data))
    assert str(odd.data) in line
    assert str(odd.process.pid) in line
    assert "DROPMILL_DATA" in line
    assert odd.http.get("/healthz").status_code == 200


def test_a_port_in_use_is_told(odd: Server, tmp_path: Path) -> None:
    line = refused(tmp_path, "--bind", odd.host)
    assert f"--bind {odd.host}" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "environment", "word"),
    [
        ([], {"DROPMILL_X": "1"}, "DROPMILL_X"),
        (["--bind", "nonsense"], {}, "--bind"),
        (["--bind", "127.0.0.1:0", "--processor", "nothing.here:f"], {}, "nothing.here"),
        (["--bind", "127.0.0.1:0", "--command", "/no/such/program {path}"], {}, "/no/such/program"),
        (["--bind", "127.0.0.1:0", "--data", "/dev/null/data"], {}, "--data"),
    ],
)
def test_an_unusable_setting_stops_the_start_with_one_line(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], word: str
) -> None:
    assert word in refused(tmp_path, *arguments, environment=environment)


# --- deployed by Hypercorn itself ------------------------------------------------------------------------------------

HYPERCORN = (sys.executable, "-m", "hypercorn", "dropmill.asgi:app")


def test_hypercorn_serves_it_to_those_who_sign_in_unless_told_that_it_is_open(tmp_path: Path) -> None:
    """It does not say where it listens, so the app cannot know who could reach it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*free.getsockname())
    said = tmp_path / "said.txt"
    with said.open("wb") as written:
        running = subprocess.Popen(
            [*HYPERCORN, "--bind", address], cwd=tmp_path, env=clean_environment(), stdout=written, stderr=written
        )
    try:
        (line,) = wait_until(lambda: [line for line in said.read_text().splitlines() if "/sign-in#first=" in line])
        assert line.startswith("dropmill: there is no account yet")

        def refused() -> int | None:
            try:
                return httpx.get(f"http://{address}/api/v1/submissions", trust_env=False).status_code
            except httpx.TransportError:
                return None

        assert wait_until(refused) == 401
    finally:
        running.terminate()
        running.wait(60)


def test_hypercorn_serves_it_with_one_process_a_folder(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*free.getsockname())
    environment = clean_environment({"DROPMILL_AUTH": "off", "DROPMILL_DATA": str(tmp_path / "data")})

    def start(said: Path, at: str) -> "subprocess.Popen[bytes]":
        with said.open("wb") as written:
            return subprocess.Popen(
                [*HYPERCORN, "--bind", at], cwd=tmp_path, env=environment, stdout=written, stderr=written
            )

    first = start(tmp_path / "first.txt", address)
    try:
        host, port = address.split(":")

        def answered() -> int | None:
            assert first.poll() is None, (tmp_path / "first.txt").read_text()
            try:
                with socket.create_connection((host, int(port)), 1) as connection:
                    connection.sendall(f"GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
                    return read_answer(connection)[0]
            except OSError:
                return None

        assert wait_until(answered) == 200
        with socket.create_connection((host, int(port)), 10) as connection:
            body = form([("a.txt", b"a")])
            head = f"POST /api/v1/submissions HTTP/1.1\r\nHost: {address}\r\nContent-Length: {len(body)}\r\n"
            connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=B\r\n\r\n".encode() + body)
            assert read_answer(connection)[0] == 201

        second = start(tmp_path / "second.txt", "127.0.0.1:0")
        try:
            second.wait(60)
        finally:
            second.kill()
            second.wait()
        (line,) = (tmp_path / "second.txt").read_text().splitlines()
        assert (tmp_path / "data" / "lock").read_text().strip() in line
        assert "DROPMILL_DATA" in line
    finally:
        first.terminate()
        end = first.wait(60)
    assert end == 0, (tmp_path / "first.txt").read_text()

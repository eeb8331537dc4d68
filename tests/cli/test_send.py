"""`dropmill send`: what arrives is what was there, however often it is interrupted."""

import contextlib
import hashlib
import http.server
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from tests.support.faulty_link import Line
from tests.support.server import Dropmill, Server, clean_environment
from tests.support.waiting import wait_until

from dropmill.cli.send import is_final
from dropmill.client import Refused

MIB = 1024 * 1024
INTERRUPTED = 128 + signal.SIGINT
GOES_ON = "the same command continues where this stopped, or seals it with --abandon.\n"
TINY = 10
Make = Callable[..., Server]
Run = Callable[..., tuple[int, str, str]]

FUSSY = """
def process(path):
    with open(path, "rb") as file:
        assert b"bad" not in file.read(100), "there is something bad in it"
"""


class Answering(http.server.ThreadingHTTPServer):
    """Another server, or a proxy: answers everything the same; counts what it is asked."""

    daemon_threads = True

    def __init__(self, status: int, kind: str, body: bytes) -> None:
        self.asked = 0
        told = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told.asked += 1
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - the library's names

            def log_message(self, *said: object) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def answering(status: int, kind: str, body: bytes = b"<h1>Welcome</h1>") -> Iterator[Answering]:
    with Answering(status, kind, body) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            yield other
        finally:
            other.shutdown()
            thread.join()


def open_submissions(server: Server) -> list[str]:
    return [submission["id"] for submission in server.get("/submissions?state=open&limit=1000")["items"]]


@pytest.fixture
def line(server: Server) -> Iterator[Line]:
    """A line to the shared server."""
    with Line(port_of(server)) as carrying:
        yield carrying


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


def submission_of(out: str) -> str:
    """The id that a run ended with."""
    found = re.search(r"/submissions/(\S+)$", out, re.MULTILINE)
    assert found is not None, out
    return found[1]


def digests(server: Server, submission_id: str) -> dict[str, str]:
    """Path and SHA-256 of each stored file, read back from the server unless it is one of the many tiny ones."""
    files = server.get(f"/submissions/{submission_id}/files?limit=1000")["items"]
    stored = [file for file in files if file["state"] == "stored"]
    assert len({file["path"] for file in stored}) == len(stored)
    found = {}
    for file in stored:
        found[file["path"]] = file["sha256"]
        if file["size"] > TINY:
            content = server.http.get(f"/api/v1/files/{file['id']}/content").content
            assert file["sha256"] == hashlib.sha256(content).hexdigest()
    return found


def notes(tmp_path: Path) -> list[Path]:
    """What is kept to go on with."""
    return list((tmp_path / "cache" / "dropmill" / "unfinished").glob("*"))


def made(path: Path, size: int) -> str:
    """A new file of random bytes; its SHA-256."""
    content = os.urandom(size)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_a_folder_arrives_with_its_paths(server: Server, run: Run, tmp_path: Path) -> None:
    """Small and large, empty, nested, with names that forms and terminals do not like; a pipe is left out."""
    top = tmp_path / "top"
    names = ["a.txt", "deep/er/b.txt", "deep/ä ö 漢.txt", 'deep/a"quoted%22".txt', "new\nline", "-x", "sp ace;.txt"]
    wanted = {f"top/{name}": made(top / name, 1000 + number) for number, name in enumerate(names)}
    wanted |= {f"top/many/{number}": made(top / "many" / str(number), TINY) for number in range(260)}
    wanted["top/empty"] = made(top / "empty", 0)
    wanted["top/large.bin"] = made(top / "large.bin", 9 * MIB)
    wanted["single.txt"] = made(tmp_path / "elsewhere" / "single.txt", 5)
    os.mkfifo(top / "pipe")
    code, out, err = run("send", "top", "elsewhere/single.txt", "--server", server.url)
    assert (code, err) == (0, f"dropmill: {top}/pipe is not a regular file and is left out.\n")
    submission = submission_of(out)
    assert digests(server, submission) == wanted
    assert server.get(f"/submissions/{submission}")["state"] != "open"
    assert len([line for line in out.splitlines() if line.startswith("sent ")]) == len(wanted) - 1
    assert notes(tmp_path) == []


def test_files_of_the_same_name_both_arrive(server: Server, run: Run, tmp_path: Path) -> None:
    wanted = {
        made(tmp_path / "one" / "x.bin", 9 * MIB),
        made(tmp_path / "two" / "x.bin", 7),
        made(tmp_path / "x.bin", 8),
    }
    code, out, _ = run("send", "one/x.bin", "two/x.bin", "x.bin", "--server", server.url)
    assert code == 0
    files = server.get(f"/submissions/{submission_of(out)}")["files"]
    assert {file["sha256"] for file in files} == wanted
    assert [file["path"] for file in files] == ["x.bin"] * 3


def test_a_file_that_is_named_twice_is_sent_once(server: Server, run: Run, tmp_path: Path) -> None:
    made(tmp_path / "x.bin", 7)
    code, out, _ = run("send", "x.bin", "x.bin", "--server", server.url, "--watch")
    assert code == 0
    assert out.splitlines()[-1].endswith("counts=1 succeeded")


def test_after_ctrl_c_it_goes_on_where_it_stood(
    server: Server, line: Line, dropmill: Dropmill, run: Run, tmp_path: Path
) -> None:
    """Twice, and after SIGTERM; the small file that was there is not sent again, nor are the chunks."""
    wanted = {"large.bin": made(tmp_path / "large.bin", 24 * MIB), "small.txt": made(tmp_path / "small.txt", 100)}
    for allowed, number in ((5 * MIB, signal.SIGINT), (6 * MIB, signal.SIGINT), (3 * MIB, signal.SIGTERM)):
        line.allow(allowed)
        before = line.passed
        sending = dropmill("send", "large.bin", "small.txt", "--server", line.url)
        wait_until(lambda at=before + allowed: line.passed >= at)  # type: ignore[misc]
        sending.send_signal(number)
        _, err = sending.communicate(timeout=60)
        assert sending.returncode == 128 + number
        said = re.fullmatch(rf"dropmill: Interrupted\. The submission stays open until (.*); {re.escape(GOES_ON)}", err)
        assert said, err
        left_s = (datetime.strptime(f"{said[1]}+0000", "%Y-%m-%d %H:%M%z") - datetime.now(UTC)).total_seconds()
        assert 86400 - 120 < left_s <= 86400, "what has arrived is kept for a day"
        line.cut()
        assert len(notes(tmp_path)) == 1
    line.allow(None)
    before = line.passed
    code, out, err = run("send", "large.bin", "small.txt", "--server", line.url)
    assert (code, err) == (0, "")
    assert line.passed - before < 20 * MIB
    assert "1 of 2 files have already arrived." in out
    assert digests(server, submission_of(out)) == wanted
    events = [event["name"] for event in server.events(f"submission:{submission_of(out)}")]
    assert events.count("upload.started") == len(wanted)
    assert notes(tmp_path) == []


def test_a_server_that_is_killed_and_comes_back_is_waited_for(
    make_server: Make, dropmill: Dropmill, tmp_path: Path
) -> None:
    server = make_server().start()
    wanted = {"large.bin": made(tmp_path / "large.bin", 24 * MIB), "small.txt": made(tmp_path / "small.txt", 100)}
    with Line(port_of(server)) as line:
        line.allow(8 * MIB)
        sending = dropmill("send", "large.bin", "small.txt", "--server", line.url)
        wait_until(lambda: line.passed >= 8 * MIB)
        server.kill()
        line.cut()
        line.allow(None)
        line.target = port_of(server.start())
        out, err = sending.communicate(timeout=60)
    assert sending.returncode == 0, err
    assert "Trying again in 0.5 s." in err
    submission = submission_of(out)
    assert digests(server, submission) == wanted
    assert server.settled(submission)["counts"]["succeeded"] == len(wanted)


def test_a_cut_form_is_completed_file_by_file(server: Server, line: Line, dropmill: Dropmill, tmp_path: Path) -> None:
    wanted = {f"top/{number:02}": made(tmp_path / "top" / f"{number:02}", MIB // 2) for number in range(12)}
    line.allow(2 * MIB)
    sending = dropmill("send", "top", "--server", line.url)
    wait_until(lambda: line.passed >= 2 * MIB)
    line.cut()
    line.allow(None)
    out, err = sending.communicate(timeout=60)
    assert sending.returncode == 0, err
    assert digests(server, submission_of(out)) == wanted
    jobs = server.settled(submission_of(out))["counts"]
    assert jobs["succeeded"] == len(wanted)


def test_a_chunk_that_arrives_as_other_bytes_is_sent_again(
    server: Server, line: Line, run: Run, tmp_path: Path
) -> None:
    content = os.urandom(9 * MIB) + b"the mark" + os.urandom(MIB)
    (tmp_path / "marked.bin").write_bytes(content)
    line.alter(b"the mark", b"the mork")
    code, out, err = run("send", "marked.bin", "--server", line.url)
    assert (code, err) == (0, "")
    assert digests(server, submission_of(out)) == {"marked.bin": hashlib.sha256(content).hexdigest()}
    assert line.faults == 1


def test_a_small_file_that_arrives_as_other_bytes_is_told(line: Line, run: Run, tmp_path: Path) -> None:
    """Forms carry no checksum; the comparison at the end finds it."""
    (tmp_path / "marked.txt").write_bytes(b"here is the mark")
    line.alter(b"the mark", b"the mork")
    code, _, err = run("send", "marked.txt", "--server", line.url)
    assert code == 1
    assert err == "dropmill: marked.txt did not arrive as it was read here (SHA-256 differs); send it again.\n"


def test_a_proxy_that_limits_bodies_is_passed_in_smaller_chunks(
    server: Server, line: Line, run: Run, tmp_path: Path
) -> None:
    wanted = {f"top/{number}": made(tmp_path / "top" / str(number), MIB) for number in range(2)}
    wanted["top/large.bin"] = made(tmp_path / "top" / "large.bin", 9 * MIB)
    line.body_limit = 300 * 1024
    code, out, err = run("send", "top", "--server", line.url)
    assert (code, err) == (0, "")
    assert digests(server, submission_of(out)) == wanted
    assert line.faults >= 2  # the form, and the first chunk


def test_what_changed_since_is_sent_anew(
    server: Server, line: Line, dropmill: Dropmill, run: Run, tmp_path: Path
) -> None:
    made(tmp_path / "large.bin", 12 * MIB)
    line.allow(5 * MIB)
    sending = dropmill("send", "large.bin", "--server", line.url)
    wait_until(lambda: line.passed >= 5 * MIB)
    sending.send_signal(signal.SIGINT)
    sending.communicate(timeout=60)
    line.cut()
    line.allow(None)
    (first,) = open_submissions(server)
    wanted = made(tmp_path / "large.bin", 12 * MIB)
    code, out, _ = run("send", "large.bin", "--server", line.url)
    assert code == 0
    assert digests(server, submission_of(out)) == {"large.bin": wanted}
    assert submission_of(out) != first
    assert server.settled(first)["counts"]["aborted"] == 1
    assert notes(tmp_path) == []


def test_one_changed_file_alone_does_not_end_a_run_of_several(
    server: Server, line: Line, dropmill: Dropmill, run: Run, tmp_path: Path
) -> None:
    """What was interrupted can still go on with the others."""
    made(tmp_path / "top" / "large.bin", 12 * MIB)
    made(tmp_path / "top" / "other.bin", 9 * MIB)
    line.allow(5 * MIB)
    sending = dropmill("send", "top/large.bin", "top/other.bin", "--server", line.url)
    wait_until(lambda: line.passed >= 5 * MIB)
    sending.send_signal(signal.SIGINT)
    sending.communicate(timeout=60)
    line.cut()
    line.allow(None)
    (first,) = open_submissions(server)
    made(tmp_path / "top" / "large.bin", 12 * MIB)
    assert submission_of(run("send", "top/large.bin", "--server", line.url)[1]) != first
    assert open_submissions(server) == [first]
    code, out, _ = run("send", "top/large.bin", "top/other.bin", "--server", line.url)
    assert (code, submission_of(out)) == (0, first)
    assert open_submissions(server) == []


def test_a_submission_that_was_sealed_meanwhile_is_not_gone_on_with(
    server: Server, line: Line, dropmill: Dropmill, run: Run, tmp_path: Path
) -> None:
    wanted = made(tmp_path / "large.bin", 12 * MIB)
    line.allow(5 * MIB)
    sending = dropmill("send", "large.bin", "--server", line.url)
    wait_until(lambda: line.passed >= 5 * MIB)
    sending.send_signal(signal.SIGINT)
    sending.communicate(timeout=60)
    line.cut()
    line.allow(None)
    first = server.get("/submissions?limit=1")["items"][0]["id"]
    assert server.http.post(f"/api/v1/submissions/{first}/seal").status_code == 200
    code, out, _ = run("send", "large.bin", "--server", line.url)
    assert code == 0
    assert submission_of(out) != first
    assert digests(server, submission_of(out)) == {"large.bin": wanted}


def test_an_upload_that_the_server_gave_up_begins_again(
    server: Server, line: Line, dropmill: Dropmill, run: Run, tmp_path: Path
) -> None:
    wanted = made(tmp_path / "large.bin", 12 * MIB)
    line.allow(5 * MIB)
    sending = dropmill("send", "large.bin", "--server", line.url)
    wait_until(lambda: line.passed >= 5 * MIB)
    (file,) = server.get(f"/submissions/{server.get('/submissions?limit=1')['items'][0]['id']}")["files"]
    ended = server.http.delete(f"/api/v1/uploads/{file['id']}", headers={"Tus-Resumable": "1.0.0"})
    assert ended.status_code == 204
    line.cut()
    line.allow(None)
    out, err = sending.communicate(timeout=60)
    assert sending.returncode == 0, err
    assert digests(server, submission_of(out)) == {"large.bin": wanted}


def test_watching_tells_the_end_and_whether_it_is_good(make_server: Make, run: Run, tmp_path: Path) -> None:
    server = make_server("--processor", "fussy:process")
    (server.folder / "fussy.py").write_text(FUSSY)
    server.start()
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / "bad.txt").write_text("bad")
    code, out, err = run("send", "good.txt", "--server", server.url, "--watch")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].endswith("counts=1 succeeded")
    code, out, err = run("send", "good.txt", "bad.txt", "--server", server.url, "--watch")
    assert (code, err) == (1, "")
    assert "something bad" in out
    assert out.splitlines()[-1].endswith("counts=1 succeeded, 1 failed")
    assert run("send", "bad.txt", "--server", server.url)[0] == 0  # sent it is; nobody asked what became of it


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--max-file-size", "1KiB"), r"^dropmill: .*over the limit of 1 KiB for one file.* \(413\)$"),
        (("--min-free", "8000TiB"), r"^dropmill: .*too little room.* \(507\)$"),
        (("--max-files", "1"), r"^dropmill: .*\(413\)$"),
    ],
    ids=["too large", "no room", "too many"],
)
def test_a_refusal_is_one_line(
    make_server: Make, run: Run, tmp_path: Path, flags: tuple[str, str], sentence: str
) -> None:
    server = make_server(*flags).start()
    for name in ("one.bin", "two.bin"):
        made(tmp_path / name, 9000)
    code, out, err = run("send", "one.bin", "two.bin", "--server", server.url)
    assert (code, out) == (1, "")
    assert re.fullmatch(sentence, err.rstrip("\n")), err


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (
            ("file.txt", "--server", "http://127.0.0.1:9"),
            1,
            r"http://127.0.0.1:9 cannot be reached \(Connection refused\)\.",
        ),
        (("file.txt", "--server", "gopher://x"), 1, r"'gopher://x' is not the address of a server, such as .*"),
        (("nothing",), 1, r"There is no file to send\."),
    ],
)
def test_what_cannot_be_sent_is_told_in_one_line(
    run: Run, tmp_path: Path, words: tuple[str, ...], code: int, sentence: str
) -> None:
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "nothing").mkdir()
    ended, out, err = run("send", *words)
    assert (ended, out) == (code, "")
    assert re.fullmatch(f"dropmill: {sentence}\n", err), err


def test_server_and_token_can_be_variables(server: Server, run: Run, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    code, out, _ = run("send", "file.txt", DROPMILL_SERVER=server.url, DROPMILL_TOKEN="secret")
    assert code == 0
    assert out.splitlines()[-1].startswith(server.url)


def test_on_a_terminal_each_file_has_a_bar(server: Server, tmp_path: Path) -> None:
    made(tmp_path / "large.bin", 9 * MIB)
    made(tmp_path / "small.bin", 9)
    mine, theirs = pty.openpty()
    sending = subprocess.Popen(
        [sys.executable, "-m", "dropmill", "send", "large.bin", "small.bin", "--server", server.url],
        cwd=tmp_path,
        env=clean_environment({"XDG_CACHE_HOME": str(tmp_path), "NO_PROXY": "*", "TERM": "xterm", "COLUMNS": "100"}),
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    while select.select([mine], [], [], 20)[0]:
        try:
            said += os.read(mine, 65536)
        except OSError:  # the terminal's end, once nobody has it open
            break
    os.close(mine)
    assert sending.wait(20) == 0
    rows = said.decode().split("\n")
    assert any("large.bin" in row and "100%" in row for row in rows)
    assert any("1 small files" in row and "100%" in row for row in rows)


# --- what cannot be sent is left out ---------------------------------------------------------------------------------


def test_send_names_what_cannot_be_read_and_sends_the_rest(server: Server, run: Run, tmp_path: Path) -> None:
    """A dead link, a link to itself, a link to a folder, in a folder and named by hand; a path that is not there."""
    top = tmp_path / "top"
    wanted = {"top/good.txt": made(top / "good.txt", 10), "top/large.bin": made(top / "large.bin", 9 * MIB)}
    (top / "dead.txt").symlink_to("nowhere")
    (top / "loop.txt").symlink_to("loop.txt")
    (top / "elsewhere").symlink_to(tmp_path)
    code, out, err = run("send", "top", "top/dead.txt", "not-there", "--server", server.url)
    assert code == 1
    assert sorted(err.splitlines()) == [
        f"dropmill: {tmp_path}/not-there cannot be read (No such file or directory) and is left out.",
        f"dropmill: {top}/dead.txt is a broken link and is left out.",
        f"dropmill: {top}/dead.txt is a broken link and is left out.",
        f"dropmill: {top}/elsewhere is a link to a folder and is left out.",
        f"dropmill: {top}/loop.txt is a broken link and is left out.",
    ]
    assert digests(server, submission_of(out)) == wanted
    assert submission_of(out) not in open_submissions(server)


def test_send_names_what_it_may_not_read_and_sends_the_rest(server: Server, tmp_path: Path) -> None:
    """Root may read everything, so it gives that up."""
    top = tmp_path / "top"
    wanted = {"top/good.txt": made(top / "good.txt", 10)}
    made(top / "secret.txt", 10)
    made(top / "locked" / "in.txt", 10)
    (top / "secret.txt").chmod(0)
    (top / "locked").chmod(0)
    lowered = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*lowered, sys.executable, "-m", "dropmill", "send", "top", "--server", server.url],
        cwd=tmp_path,
        env=clean_environment({"XDG_CACHE_HOME": str(tmp_path / "cache"), "NO_PROXY": "*"}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    (top / "locked").chmod(0o755)
    assert done.returncode == 1, done.stderr
    assert sorted(done.stderr.splitlines()) == [
        f"dropmill: {top}/locked cannot be read (Permission denied) and is left out.",
        f"dropmill: {top}/secret.txt cannot be read (Permission denied) and is left out.",
    ]
    assert digests(server, submission_of(done.stdout)) == wanted
    assert len(server.get(f"/submissions/{submission_of(done.stdout)}")["files"]) == len(wanted)  # others unannounced


@pytest.mark.parametrize("change", ["grows", "shrinks", "is rewritten", "vanishes"])
def test_send_names_a_file_that_changes_under_it_and_sends_the_rest(
    server: Server, line: Line, dropmill: Dropmill, tmp_path: Path, change: str
) -> None:
    """The changing one is announced, and half of it is over, when it changes."""
    changing = tmp_path / "a-changing.bin"
    made(changing, 24 * MIB)
    wanted = {"good.bin": made(tmp_path / "good.bin", 9 * MIB), "small.txt": made(tmp_path / "small.txt", 10)}
    line.allow(6 * MIB)
    before = line.passed
    sending = dropmill("send", changing, "good.bin", "small.txt", "--server", line.url)
    wait_until(lambda: line.passed >= before + 6 * MIB)
    match change:
        case "grows":
            with changing.open("ab") as file:
                file.write(b"more")
        case "shrinks":
            os.truncate(changing, 20 * MIB)
        case "is rewritten":
            with changing.open("r+b") as rewritten:
                rewritten.seek(23 * MIB)
                rewritten.write(b"other")
        case _:
            changing.unlink()
    line.allow(None)
    out, err = sending.communicate(timeout=60)
    submission = submission_of(out)
    if change == "vanishes":  # it was open: what was read is what there was
        wanted["a-changing.bin"] = next(
            file["sha256"]
            for file in server.get(f"/submissions/{submission}")["files"]
            if file["path"] == changing.name
        )
        assert err == "dropmill: a-changing.bin was changed after it was sent; the server has the earlier content.\n"
    else:
        assert err == f"dropmill: {changing} was changed while it was sent and is left out.\n"
    assert sending.returncode == 1
    assert digests(server, submission) == wanted
    assert submission not in open_submissions(server)
    assert server.settled(submission)["counts"]["aborted"] == (change != "vanishes")


def test_send_names_a_small_file_that_changes_before_its_turn(
    server: Server, line: Line, dropmill: Dropmill, tmp_path: Path
) -> None:
    names = [f"{number:03}" for number in range(260)]  # more than go in one form
    for name in names:
        made(tmp_path / "top" / name, 30_000)
    line.allow(2 * MIB)
    before = line.passed
    sending = dropmill("send", "top", "--server", line.url)
    wait_until(lambda: line.passed >= before + 2 * MIB)
    with (tmp_path / "top" / "259").open("ab") as file:
        file.write(b"more")
    line.allow(None)
    out, err = sending.communicate(timeout=60)
    assert (sending.returncode, err) == (
        1,
        f"dropmill: {tmp_path}/top/259 was changed while it was sent and is left out.\n",
    )
    assert set(digests(server, submission_of(out))) == {f"top/{name}" for name in names[:-1]}


# --- nothing is left open --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [("--max-file-size", "1KiB"), ("--max-files", "1")])
def test_send_leaves_no_open_submission_when_it_is_refused(
    make_server: Make, run: Run, tmp_path: Path, flags: tuple[str, str]
) -> None:
    server = make_server(*flags).start()
    for name in ("one.bin", "two.bin"):
        made(tmp_path / name, 9000)
    assert run("send", "one.bin", "two.bin", "--server", server.url)[0] == 1
    assert open_submissions(server) == []
    assert notes(tmp_path) == []


def test_send_leaves_no_open_submission_when_it_is_interrupted_with_nothing_to_go_on_with(
    server: Server, line: Line, dropmill: Dropmill, tmp_path: Path
) -> None:
    """Its cache folder cannot be written, so a second run would know nothing of this one."""
    made(tmp_path / "large.bin", 24 * MIB)
    (tmp_path / "cache").write_text("no folder")
    before = set(open_submissions(server))
    line.allow(5 * MIB)
    passed = line.passed
    sending = dropmill("send", "large.bin", "--server", line.url)
    wait_until(lambda: line.passed >= passed + 5 * MIB)
    sending.send_signal(signal.SIGINT)
    line.allow(None)
    _, err = sending.communicate(timeout=60)
    assert sending.returncode == INTERRUPTED
    assert err.endswith("dropmill: Interrupted; the submission is sealed with what had arrived.\n")
    assert set(open_submissions(server)) <= before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_send_leaves_no_open_submission_when_it_is_stopped_before_a_byte_has_arrived(
    server: Server, line: Line, dropmill: Dropmill, tmp_path: Path, number: signal.Signals
) -> None:
    """Of a chunk that is cut nothing counts, so a second run would have nothing to go on with."""
    made(tmp_path / "large.bin", 12 * MIB)
    before, arriving = set(open_submissions(server)), server.arriving()
    line.allow(MIB // 4)
    passed = line.passed
    sending = dropmill("send", "large.bin", "--server", line.url)
    wait_until(lambda: line.passed >= passed + MIB // 4)
    (submission,) = set(open_submissions(server)) - before
    sending.send_signal(number)
    line.allow(None)
    _, err = sending.communicate(timeout=60)
    assert (sending.returncode, err) == (128 + number, "dropmill: Interrupted; nothing was sent.\n")
    assert server.settled(submission)["counts"]["aborted"] == 1
    assert sorted(server.arriving()) == sorted(arriving)
    assert notes(tmp_path) == []


def test_send_goes_on_with_what_it_could_not_seal(
    server: Server, line: Line, dropmill: Dropmill, run: Run, tmp_path: Path
) -> None:
    """The server is away when it is interrupted, so what became of the form is not known."""
    wanted = {"small.bin": made(tmp_path / "small.bin", 4 * MIB)}
    before = set(open_submissions(server))
    line.allow(MIB)
    passed = line.passed
    sending = dropmill("send", "small.bin", "--server", line.url)
    wait_until(lambda: line.passed >= passed + MIB)
    line.target = 9
    sending.send_signal(signal.SIGINT)
    _, err = sending.communicate(timeout=60)
    stays = "the server seals it, by default after a day"
    assert (sending.returncode, err) == (
        INTERRUPTED,
        f"dropmill: Interrupted. The submission stays open until {stays}; {GOES_ON}",
    )
    (submission,) = set(open_submissions(server)) - before
    line.cut()
    line.allow(None)
    line.target = port_of(server)
    code, out, err = run("send", "small.bin", "--server", line.url)
    assert (code, err, submission_of(out)) == (0, "", submission)
    assert digests(server, submission) == wanted
    assert set(open_submissions(server)) == before
    assert notes(tmp_path) == []


def test_abandoning_seals_what_was_interrupted(
    server: Server, line: Line, dropmill: Dropmill, run: Run, tmp_path: Path
) -> None:
    """The bytes of the unfinished upload are gone at once; what had arrived whole is processed."""
    made(tmp_path / "top" / "large.bin", 12 * MIB)
    made(tmp_path / "top" / "small.txt", 10)
    before, arriving = set(open_submissions(server)), server.arriving()
    line.allow(5 * MIB)
    passed = line.passed
    sending = dropmill("send", "top", "--server", line.url)
    wait_until(lambda: line.passed >= passed + 5 * MIB)
    sending.send_signal(signal.SIGINT)
    sending.communicate(timeout=60)
    line.cut()
    line.allow(None)
    (submission,) = set(open_submissions(server)) - before
    made(tmp_path / "top" / "large.bin", 12 * MIB)  # it was the wrong one: the reason to give it up
    code, out, err = run("send", "top", "--server", line.url, "--abandon")
    said = f"{line.url}/submissions/{submission} is sealed; what had not arrived is discarded.\n"
    assert (code, out, err) == (0, said, "")
    counts = server.settled(submission)["counts"]
    assert (counts["succeeded"], counts["aborted"]) == (1, 1)
    assert sorted(server.arriving()) == sorted(arriving)
    assert notes(tmp_path) == []
    assert run("send", "top", "--server", line.url, "--abandon") == (
        1,
        "",
        "dropmill: No interrupted run with these files is recorded here.\n",
    )


def test_what_nobody_goes_on_with_is_sealed_by_the_server(
    make_server: Make, dropmill: Dropmill, tmp_path: Path
) -> None:
    """The end of `--upload-expiry` ends the upload, and then `--seal-after` the submission."""
    server = make_server("--upload-expiry", "2", "--seal-after", "2").start()
    made(tmp_path / "large.bin", 12 * MIB)
    made(tmp_path / "small.txt", 10)
    with Line(port_of(server)) as line:
        line.allow(5 * MIB)
        sending = dropmill("send", "large.bin", "small.txt", "--server", line.url)
        wait_until(lambda: line.passed >= 5 * MIB)
        sending.kill()
        sending.communicate(timeout=60)
        line.cut()
    (submission,) = [item["id"] for item in server.get("/submissions")["items"]]
    assert len(notes(tmp_path)) == 1
    settled = server.settled(submission)
    assert (settled["counts"]["succeeded"], settled["counts"]["aborted"]) == (1, 1)
    assert [file["error"] for file in settled["files"] if file["state"] == "aborted"] == ["no byte came for too long"]
    assert server.arriving() == []


def test_stopping_while_it_watches_says_that_all_was_sent(
    make_server: Make, dropmill: Dropmill, tmp_path: Path
) -> None:
    server = make_server("--command", "sleep 600", "--grace", "0").start()
    made(tmp_path / "small.txt", 10)
    sending = dropmill("send", "small.txt", "--server", server.url, "--watch")
    wait_until(lambda: any(event["name"] == "attempt.started" for event in server.events()))
    assert sending.stdout is not None
    while "attempt.started" not in sending.stdout.readline():
        pass
    sending.send_signal(signal.SIGINT)
    _, err = sending.communicate(timeout=60)
    assert (sending.returncode, err) == (
        INTERRUPTED,
        "dropmill: Interrupted; everything was sent, and the server continues to process it.\n",
    )
    assert open_submissions(server) == []


@pytest.mark.parametrize(
    ("status", "is_so"),
    [(400, True), (401, True), (413, True), (422, True), (408, False), (429, False), (500, False), (507, False)],
)
def test_what_a_server_may_get_over_does_not_give_up_what_has_arrived(status: int, is_so: bool) -> None:
    """A disk that is full after three of four gigabytes is no reason to begin anew."""
    assert is_final(Refused(httpx.Response(status, request=httpx.Request("PATCH", "http://x/")))) == is_so


def test_abandoning_cannot_be_watched(run: Run) -> None:
    code, _, err = run("send", "x", "--abandon", "--watch")
    assert (code, "so there is nothing to --watch" in err) == (2, True)


# --- somebody else answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "text/html", b"<h1>Welcome</h1>"),
        (404, "text/html; charset=utf-8", b"<h1>Not found</h1>"),
        (404, "application/json", b'{"detail": "Not Found"}'),
        (200, "application/json", b'{"status": "ok"}'),
        (201, "application/json", b'["id"]'),
        (502, "text/html", b"bad gateway"),
    ],
)
def test_send_names_a_wrong_server(run: Run, tmp_path: Path, status: int, kind: str, body: bytes) -> None:
    made(tmp_path / "a.txt", 1)
    with answering(status, kind, body) as other:
        code, out, err = run("send", "a.txt", "--server", other.url)
    assert (code, out) == (1, "")
    phrase = http.HTTPStatus(status).phrase
    if body.startswith(b"["):
        assert err == f"dropmill: {other.url}/api/v1/submissions answered something that is not from Dropmill.\n"
    else:
        answer = f"{status} {phrase}, {kind.partition(';')[0]}"
        assert err == f"dropmill: {other.url} is not a Dropmill server (it answered {answer}).\n"


def test_send_names_a_proxy_that_answers_in_place_of_the_server(server: Server, run: Run, tmp_path: Path) -> None:
    made(tmp_path / "a.txt", 1)
    with answering(403, "text/html") as proxy:
        code, out, err = run("send", "a.txt", "--server", server.url, http_proxy=proxy.url, NO_PROXY="")
    assert proxy.asked
    assert (code, out) == (1, "")
    assert err == (
        f"dropmill: The proxy {proxy.url} (http_proxy) answered in place of {server.url} (403 Forbidden, text/html), "
        "which can be reached without it; set NO_PROXY=127.0.0.1.\n"
    )


def test_send_tells_a_wrong_server_behind_a_proxy_and_one_that_only_the_proxy_reaches_apart(
    run: Run, tmp_path: Path
) -> None:
    made(tmp_path / "a.txt", 1)
    with answering(200, "text/html") as proxy, answering(200, "text/html") as other:
        around = {"HTTP_PROXY": proxy.url.replace("//", "//me:secret@"), "NO_PROXY": ""}
        _, _, err = run("send", "a.txt", "--server", other.url, **around)
        named = f"The proxy {proxy.url} (http_proxy)"
        assert err == f"dropmill: {other.url} is not a Dropmill server, neither through {named} nor without it.\n"
        _, _, err = run("send", "a.txt", "--server", "http://127.0.0.1:9", **around)
    assert err == (
        f"dropmill: {named} brought an answer from http://127.0.0.1:9 that is not Dropmill's (200 OK, text/html); "
        "without it http://127.0.0.1:9 cannot be reached.\n"
    )


def test_send_names_a_proxy_that_is_not_there(server: Server, run: Run, tmp_path: Path) -> None:
    made(tmp_path / "a.txt", 1)
    code, _, err = run("send", "a.txt", "--server", server.url, http_proxy="http://127.0.0.1:9", NO_PROXY="")
    assert code == 1
    assert err == (
        "dropmill: The proxy http://127.0.0.1:9 (http_proxy) cannot be reached (Connection refused); "
        "to go without it, set NO_PROXY=127.0.0.1.\n"
    )

"""`dropmill send`: what arrives is what was there, however often it is interrupted."""

import hashlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Dropmill
from tests.serving.line import Line
from tests.serving.server import Server, clean_environment, until

from dropmill.cli.sending import INTERRUPTED

MIB = 1024 * 1024
TINY = 10
Make = Callable[..., Server]
Run = Callable[..., tuple[int, str, str]]

FUSSY = """
def process(path):
    with open(path, "rb") as file:
        assert b"bad" not in file.read(100), "there is something bad in it"
"""


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
    assert (code, err) == (0, f"dropmill: {top}/pipe is no file and is left out.\n")
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


def test_after_ctrl_c_it_goes_on_where_it_stood(
    server: Server, line: Line, dropmill: Dropmill, run: Run, tmp_path: Path
) -> None:
    """Twice; the small file that was there is not sent again, nor are the chunks."""
    wanted = {"large.bin": made(tmp_path / "large.bin", 24 * MIB), "small.txt": made(tmp_path / "small.txt", 100)}
    for allowed in (5 * MIB, 6 * MIB):
        line.allow(allowed)
        before = line.passed
        sending = dropmill("send", "large.bin", "small.txt", "--server", line.url)
        until(lambda at=before + allowed: line.passed >= at)  # type: ignore[misc]
        sending.send_signal(signal.SIGINT)
        _, err = sending.communicate(timeout=20)
        assert sending.returncode == INTERRUPTED
        assert err == "dropmill: Interrupted; the same command goes on where this stopped.\n"
        line.cut()
        assert len(notes(tmp_path)) == 1
    line.allow(None)
    before = line.passed
    code, out, err = run("send", "large.bin", "small.txt", "--server", line.url)
    assert (code, err) == (0, "")
    assert line.passed - before < 20 * MIB
    assert "1 of 2 files are there already." in out
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
        until(lambda: line.passed >= 8 * MIB)
        server.kill()
        line.cut()
        line.allow(None)
        line.target = port_of(server.start())
        out, err = sending.communicate(timeout=30)
    assert sending.returncode == 0, err
    assert "Trying again in 0.5 s." in err
    submission = submission_of(out)
    assert digests(server, submission) == wanted
    assert server.settled(submission)["counts"]["succeeded"] == len(wanted)


def test_a_cut_form_is_completed_file_by_file(server: Server, line: Line, dropmill: Dropmill, tmp_path: Path) -> None:
    wanted = {f"top/{number:02}": made(tmp_path / "top" / f"{number:02}", MIB // 2) for number in range(12)}
    line.allow(2 * MIB)
    sending = dropmill("send", "top", "--server", line.url)
    until(lambda: line.passed >= 2 * MIB)
    line.cut()
    line.allow(None)
    out, err = sending.communicate(timeout=30)
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
    assert err == "dropmill: marked.txt arrived with other bytes than were read here (SHA-256); send it again.\n"


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
    until(lambda: line.passed >= 5 * MIB)
    sending.send_signal(signal.SIGINT)
    sending.communicate(timeout=20)
    line.cut()
    line.allow(None)
    wanted = made(tmp_path / "large.bin", 12 * MIB)
    code, out, _ = run("send", "large.bin", "--server", line.url)
    assert code == 0
    assert digests(server, submission_of(out)) == {"large.bin": wanted}


def test_a_submission_that_was_sealed_meanwhile_is_not_gone_on_with(
    server: Server, line: Line, dropmill: Dropmill, run: Run, tmp_path: Path
) -> None:
    wanted = made(tmp_path / "large.bin", 12 * MIB)
    line.allow(5 * MIB)
    sending = dropmill("send", "large.bin", "--server", line.url)
    until(lambda: line.passed >= 5 * MIB)
    sending.send_signal(signal.SIGINT)
    sending.communicate(timeout=20)
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
    until(lambda: line.passed >= 5 * MIB)
    (file,) = server.get(f"/submissions/{server.get('/submissions?limit=1')['items'][0]['id']}")["files"]
    ended = server.http.delete(f"/api/v1/uploads/{file['id']}", headers={"Tus-Resumable": "1.0.0"})
    assert ended.status_code == 204
    line.cut()
    line.allow(None)
    out, err = sending.communicate(timeout=20)
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
        (("--max-file-size", "1KiB"), r"^dropmill: .*larger than the 1024 bytes.* \(413\)$"),
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
        (("file.txt", "--server", "gopher://x"), 1, r"'gopher://x' is no address of a server, such as .*"),
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

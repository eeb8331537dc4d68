"""`dropmill config`: on the ledger and the file, beside a running server and without one."""

import asyncio
import hashlib
import io
import itertools
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support import scenarios
from tests.support.server import CONFIG, Server, clean_environment, hear
from tests.support.waiting import wait_until

from dropmill.cli import main
from dropmill.engines.sqlite.ledger import SqliteLedger

FIRST = b"# first\r\na: 1 # \xc3\xa9"
SECOND = b"# second\na: 2\n"


@pytest.fixture
def config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., Any]:
    """Runs `dropmill config` in this process, to its end: exit code, the bytes it wrote, what it complained of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")

    def ended(*words: str | Path, stdin: bytes = b"", **environment: str) -> tuple[int, bytes, str]:
        capfdbinary.readouterr()
        with monkeypatch.context() as around:
            around.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            for name, value in environment.items():
                around.setenv(name, value)
            with pytest.raises(SystemExit) as caught:
                main(["config", *map(str, words)], prog_name="dropmill")
        assert isinstance(caught.value.code, int)
        out, err = capfdbinary.readouterr()
        return caught.value.code, out, err.decode()

    return ended


Config = Callable[..., tuple[int, bytes, str]]


def folders(server: Server) -> list[str | Path]:
    return ["--data", server.data, "--config", server.config]


def put(server: Server, text: bytes, message: str = "") -> str:
    """The SHA-256 of a text that is saved over what is there."""
    etag = server.http.get("/api/v1/config").headers["ETag"]
    headers = httpx.Headers([(b"If-Match", etag.encode()), (b"Dropmill-Message", message.encode())])
    answer = server.http.put("/api/v1/config", content=text, headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["sha256"])


def sha256_of(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


# --- check -----------------------------------------------------------------------------------------------------------


def test_a_valid_text_is_ok(config: Config, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(CONFIG)
    (tmp_path / "other.yaml").write_bytes(b"")
    assert config("check") == (0, b"config.yaml: ok\n", "")
    assert config("check", "other.yaml") == (0, b"other.yaml: ok\n", "")
    assert config("check", "-", stdin=CONFIG) == (0, b"<stdin>: ok\n", "")
    assert config("check", DROPMILL_CONFIG="other.yaml")[1] == b"other.yaml: ok\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "other.yaml"]


def test_what_is_wrong_is_told_line_by_line(config: Config) -> None:
    text = b"a: no\nb: !x 1\nc: 010\nc: 2\n"
    code, out, err = config("check", "-", stdin=text)
    assert (code, err) == (1, "")
    lines = out.decode().splitlines()
    assert [line.rpartition(": ")[0].split(": ")[:2] for line in lines] == [
        ["<stdin>:1:4", "warning"],
        ["<stdin>:2:4", "error"],
        ["<stdin>:3:4", "warning"],
        ["<stdin>:4:1", "error"],
    ]
    assert config("check", "-", stdin=b"a: no\n")[0] == 0  # a warning is no error


def test_the_schema_beside_the_file_is_obeyed(config: Config, tmp_path: Path) -> None:
    (tmp_path / "config.schema.json").write_text(json.dumps({"properties": {"a": {"type": "integer"}}}))
    (tmp_path / "config.yaml").write_bytes(b"# no number\na: b\n")
    code, out, _ = config("check")
    assert (code, out.decode().startswith("config.yaml:2:4: error: ")) == (1, True)
    assert config("check", "-", stdin=b"a: b\n")[0] == 1


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_one_line(config: Config, name: str) -> None:
    code, out, err = config("check", name)
    assert (code, out, err.count("\n")) == (2, b"", 1)
    assert err.startswith(f"dropmill: {name}: ")


# --- show and history ------------------------------------------------------------------------------------------------


def test_bytes_are_shown_as_they_are(server: Server, config: Config) -> None:
    first, second = put(server, FIRST), put(server, SECOND)
    assert config("show", *folders(server)) == (0, SECOND, "")
    assert config("show", first[:8].upper(), *folders(server)) == (0, FIRST, "")
    assert config("show", second, DROPMILL_DATA=str(server.data))[1] == SECOND


def test_history_is_a_line_each_newest_first(server: Server, config: Config) -> None:
    secret = put(server, b"token: swordfish\n")
    first, second = put(server, FIRST, "raise the limit \u00e9"), put(server, SECOND)
    assert server.http.delete(f"/api/v1/config/revisions/{secret}").status_code == 204
    code, out, _ = config("history", "--limit", "3", *folders(server))
    assert code == 0
    lines = [line.split() for line in out.decode().splitlines()]
    assert [line[0] for line in lines] == [second[:12], first[:12], secret[:12]]
    assert "raise the limit \u00e9" in out.decode()
    assert [line[3:6] for line in lines] == [["14", "B", "newest"], ["18", "B", "127.0.0.1"], ["17", "B", "purged"]]
    shown = [json.loads(line) for line in config("history", "--json", *folders(server))[1].splitlines()]
    assert shown == server.get("/config/revisions")["items"]
    assert len(config("history", "--limit", "1", *folders(server))[1].splitlines()) == 1
    assert config("history", "--limit", "0", *folders(server))[0] == 2


def test_a_reader_that_has_enough_gets_no_complaint(server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dropmill", "config", "show", *map(str, folders(server))]
    put(server, b"# " + b"x" * 500_000)
    with subprocess.Popen(
        command, cwd=tmp_path, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as showing:
        assert showing.stdout is not None
        assert showing.stderr is not None
        showing.stdout.close()
        assert showing.stderr.read() == b""
    assert showing.returncode == 0


# --- restore ---------------------------------------------------------------------------------------------------------


def test_a_running_server_and_its_pages_hear_of_a_restore(
    server: Server, run: Callable[..., tuple[int, str, str]]
) -> None:
    first = put(server, FIRST)
    put(server, SECOND)
    newest = server.events("config")[-1]["cursor"]
    with server.live() as connection:
        connection.send(json.dumps({"type": "join", "id": 1, "topic": "config", "after": newest}))
        assert hear(connection, "reply")["ok"]
        code, out, err = run("config", "restore", first[:6], *folders(server))
        assert (code, err) == (0, "")
        assert out == f"{first[:12]} is the newest revision now; before, it was {sha256_of(SECOND)[:12]}.\n"
        written = server.config.stat()
        (event,) = hear(connection, "events")["events"]
    assert (event["name"], event["data"]["sha256"]) == ("config.saved", first)
    assert event["data"]["message"] == f"restored {first[:12]} on the command line"
    assert event["subject"]["client"] is None
    answer = server.http.get("/api/v1/config")
    assert (answer.content, answer.headers["ETag"]) == (FIRST, f'"{first}"')
    assert server.config.read_bytes() == FIRST
    put(server, SECOND)  # the server goes on from there
    assert [item["sha256"] for item in server.get("/config/revisions?limit=2")["items"]] == [sha256_of(SECOND), first]
    assert written.st_ino != server.config.stat().st_ino
    wait_until(lambda: any(line["event"] == "config.saved" and first[:12] in line["message"] for line in server.log()))


def test_the_file_is_written_once_by_whoever_is_first(server: Server, config: Config) -> None:
    first = put(server, FIRST)
    put(server, SECOND)
    after = server.events("config")[-1]["cursor"]
    config("restore", first, *folders(server))
    written = server.config.stat()
    page = server.get(f"/events?topic=config&after={after}&wait=20")
    assert [event["name"] for event in page["events"]] == ["config.saved"]
    assert server.http.get("/api/v1/config").content == FIRST  # it has looked at the file by now
    assert (server.config.stat().st_ino, server.config.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)


def test_without_a_server_ledger_and_file_are_changed_alike(make_server: Callable[..., Server], config: Config) -> None:
    server = make_server().start()
    first, _ = put(server, FIRST), put(server, SECOND)
    assert server.stop() == 0
    files = set(server.data.iterdir())
    server.config.write_bytes(b"a: outside\n")  # nobody has noticed yet: it is not lost
    code, out, _ = config("restore", first, *folders(server))
    assert code == 0
    assert out.decode().endswith(f"before, it was {sha256_of(b'a: outside' + bytes([10]))[:12]}.\n")
    assert server.config.read_bytes() == FIRST
    assert set(server.data.iterdir()) == files
    assert config("restore", first, *folders(server))[1].decode() == (
        f"{first[:12]} is the newest revision already; nothing was changed.\n"
    )
    server.start()
    messages = [item["message"] for item in server.get("/config/revisions")["items"]]
    assert messages[:2] == [f"restored {first[:12]} on the command line", "changed outside of Dropmill"]
    assert len(messages) == 5
    assert server.http.get("/api/v1/config").content == FIRST


def test_a_revision_that_may_not_be_used_by_now_is_refused(server: Server, config: Config) -> None:
    first, second = put(server, FIRST), put(server, SECOND)
    schema = server.config.with_name("config.schema.json")
    schema.write_text(json.dumps({"properties": {"a": {"minimum": 2}}}))
    try:
        code, _, err = config("restore", first, *folders(server))
    finally:
        schema.unlink()
    assert code == 1
    assert err.splitlines()[0].startswith("line 2, column 4: ")
    assert server.http.get("/api/v1/config").headers["ETag"] == f'"{second}"'


def test_what_names_no_one_revision_is_refused(server: Server, config: Config) -> None:
    texts = (b"# %d\n" % number for number in itertools.count())
    seen: dict[str, bytes] = {}
    for text in texts:  # some thousands, until two begin alike
        other = seen.setdefault(sha256_of(text)[:6], text)
        if other != text:
            break
    one, _ = put(server, other), put(server, text)
    for word, code, said in (
        (one[:6], 2, "matches 2 revisions"),
        (one[:5], 2, "at least the first 6 digits"),
        ("newest", 2, "at least the first 6 digits"),
        (one + "0", 2, "at least the first 6 digits"),
        ("0" * 64, 1, "There is no revision"),
    ):
        found = config("restore", word, *folders(server))
        assert (found[0], found[1], found[2].count("\n")) == (code, b"", 1), word
        assert said in found[2]
    assert config("restore", one[:20], *folders(server))[0] == 0


def test_a_purged_revision_is_not_restored(server: Server, config: Config) -> None:
    secret, _ = put(server, b"token: swordfish\n"), put(server, FIRST)
    assert server.http.delete(f"/api/v1/config/revisions/{secret}").status_code == 204
    for command in ("restore", "show"):
        code, out, err = config(command, secret, *folders(server))
        assert (code, out) == (1, b"")
        assert "no longer kept" in err


# --- whose file it is ------------------------------------------------------------------------------------------------

FOREIGN = b"# somebody else's\nsecret: FOREIGN\n"


def require(server: Server, text: bytes, foreign: Path | None = None) -> None:
    """The server serves this text and its file holds it, and nothing of a foreign file is in its history."""
    assert server.http.get("/api/v1/config").content == text  # the server has looked at its file by then
    assert server.config.read_bytes() == text
    assert sha256_of(FOREIGN) not in [item["sha256"] for item in server.get("/config/revisions")["items"]]
    if foreign is not None:
        assert [path.read_bytes() for path in foreign.iterdir()] == [FOREIGN] * len(list(foreign.iterdir()))


@pytest.fixture(params=["empty", "with another config.yaml"])
def foreign(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder that is not the server's; the command line runs there."""
    folder = tmp_path_factory.mktemp("foreign")
    if request.param != "empty":
        (folder / "config.yaml").write_bytes(FOREIGN)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("is_running", [True, False], ids=["running", "stopped"])
def test_point_8_a_restore_in_another_folder_changes_the_servers_file_and_stays(
    make_server: Callable[..., Server], config: Config, foreign: Path, monkeypatch: pytest.MonkeyPatch, is_running: bool
) -> None:
    server = make_server().start()
    first, _ = put(server, FIRST), put(server, SECOND)
    if not is_running:
        assert server.stop() == 0
    monkeypatch.chdir(foreign)
    before = sorted(foreign.iterdir())
    code, _, err = config("restore", first, "--data", server.data)
    assert (code, err) == (0, "")
    assert server.config.read_bytes() == FIRST
    if not is_running:
        server.start()
    require(server, FIRST, foreign)
    assert len(server.get("/config/revisions")["items"]) == 4
    assert sorted(foreign.iterdir()) == before


@pytest.mark.parametrize("name", ["config.yaml", "none.yaml", "no/such/folder/config.yaml"])
@pytest.mark.parametrize("how", ["flag", "relative flag", "variable"])
def test_point_8_another_config_than_the_servers_is_refused_with_one_line(
    server: Server, config: Config, foreign: Path, monkeypatch: pytest.MonkeyPatch, name: str, how: str
) -> None:
    first, _ = put(server, FIRST), put(server, SECOND)
    monkeypatch.chdir(foreign)
    before = sorted(foreign.iterdir())
    path = name if how == "relative flag" else str(foreign / name)
    words, around = ([], {"DROPMILL_CONFIG": path}) if how == "variable" else (["--config", path], {})
    for command in (["restore", first], ["show"], ["history"], ["check"]):
        code, out, err = config(*command, "--data", server.data, *words, **around)
        assert (code, out, err.count("\n")) == (2, b"", 1), command
        assert err.startswith(f"dropmill: --config {path}: ")
        assert str(server.config) in err
    require(server, SECOND, foreign)
    assert sorted(foreign.iterdir()) == before


@pytest.mark.parametrize("spelling", ["absolute", "relative", "with dots", "a linked folder", "a link", "variable"])
def test_point_8_the_servers_own_config_is_known_however_it_is_written(
    server: Server, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    first, _ = put(server, FIRST), put(server, SECOND)
    around: dict[str, str] = {}
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = str(server.config)
    if spelling in ("relative", "with dots"):
        monkeypatch.chdir(server.folder if spelling == "relative" else folder)
        path = "config.yaml" if spelling == "relative" else f"../elsewhere/{os.path.relpath(path, folder)}"
    elif spelling == "a linked folder":
        (folder / "linked").symlink_to(server.folder)
        path = "linked/config.yaml"
    elif spelling == "a link":
        (folder / "link.yaml").symlink_to(server.config)
        path = "link.yaml"
    words = ["--config", path]
    if spelling == "variable":
        words, around = [], {"DROPMILL_CONFIG": path}
    assert config("restore", first, "--data", server.data, *words, **around)[::2] == (0, "")
    require(server, FIRST)
    assert [entry.is_symlink() for entry in folder.iterdir()] == ([True] if "link" in spelling else [])


@pytest.mark.parametrize("is_named", [True, False])
def test_point_8_a_config_that_is_a_link_stays_one(
    make_server: Callable[..., Server], config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_named: bool
) -> None:
    """The server's path is the link; its target, which a deployment may have swapped meanwhile, is what is written."""
    folder = tmp_path / "etc"
    folder.mkdir()
    for name in ("old.yaml", "new.yaml"):
        (folder / name).write_bytes(CONFIG)
    link = folder / "config.yaml"
    link.symlink_to("old.yaml")
    server = make_server(config=link).start()
    first, _ = put(server, FIRST), put(server, SECOND)
    (folder / "new.yaml").write_bytes(SECOND)
    (folder / "next").symlink_to("new.yaml")
    (folder / "next").rename(link)
    monkeypatch.chdir(tmp_path)
    words = ["--config", folder / "new.yaml"] if is_named else []
    assert config("restore", first, "--data", server.data, *words)[::2] == (0, "")
    require(server, FIRST)
    assert link.is_symlink()
    assert [(folder / name).read_bytes() for name in ("old.yaml", "new.yaml")] == [SECOND, FIRST]


def test_point_8_what_only_reads_needs_no_config(
    server: Server, config: Config, foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = put(server, FIRST), put(server, SECOND)
    monkeypatch.chdir(foreign)
    assert config("show", "--data", server.data) == (0, SECOND, "")
    assert config("show", first, "--data", server.data) == (0, FIRST, "")
    code, out, err = config("history", "--limit", "2", "--data", server.data)
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.decode().splitlines()] == [second[:12], first[:12]]
    assert config("check", "--data", server.data) == (0, f"{server.config}: ok\n".encode(), "")
    any_file = foreign / "config.yaml"
    any_file.write_bytes(b"a: 1\na: 2\n")
    assert config("check", "config.yaml", "--data", server.data)[0] == 1
    schema = server.config.with_name("config.schema.json")
    schema.write_text(json.dumps({"properties": {"a": {"maximum": 2}}}))
    try:
        assert config("check", "-", "--data", server.data, stdin=b"a: 3\n")[0] == 1
        assert config("check", "-", "--data", server.data, stdin=b"a: 2\n")[0] == 0
    finally:
        schema.unlink()


def test_point_8_a_server_that_was_started_with_another_config_has_moved_there(
    make_server: Callable[..., Server], config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server().start()
    first, _ = put(server, FIRST), put(server, SECOND)
    assert server.stop() == 0
    left, server.config = server.config, tmp_path / "moved.yaml"
    server.config.write_bytes(b"moved: true\n")
    server.start()
    require(server, b"moved: true\n")
    for is_running in (True, False):
        if not is_running:
            assert server.stop() == 0
        code, _, err = config("restore", first, "--data", server.data, "--config", left)
        assert (code, err.count("\n"), str(server.config) in err) == (2, 1, True)
    monkeypatch.chdir(left.parent)  # where `config.yaml` is the file of before
    assert config("restore", first, "--data", server.data)[::2] == (0, "")
    assert (server.config.read_bytes(), left.read_bytes()) == (FIRST, SECOND)
    server.start()
    require(server, FIRST)
    assert left.read_bytes() == SECOND
    assert server.stop() == 0
    server.config = left  # and back: what is there is an edit again, not a file that fell behind
    server.start()
    require(server, SECOND)


def test_point_8_a_copy_of_a_data_folder_does_not_write_the_first_servers_file(
    make_server: Callable[..., Server], config: Config, tmp_path: Path
) -> None:
    server = make_server().start()
    first, _ = put(server, FIRST), put(server, SECOND)
    copy = tmp_path / "copy"
    assert server.stop() == 0
    shutil.copytree(server.data, copy)
    code, out, err = config("restore", first, "--data", copy)
    assert (code, out, err.count("\n")) == (2, b"", 1)
    assert str(server.data) in err
    assert "start `dropmill serve` here first" in err
    assert config("show", "--data", copy) == (0, SECOND, "")
    assert server.config.read_bytes() == SECOND
    server.data, server.config = copy, tmp_path / "copied.yaml"
    server.config.write_bytes(SECOND)
    server.start()
    assert config("restore", first, "--data", copy)[::2] == (0, "")
    require(server, FIRST)


def test_point_8_on_another_host_nothing_is_written(
    server: Server, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = put(server, FIRST), put(server, SECOND)
    here = platform.node()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(platform, "node", lambda: "another-host")
        code, out, err = config("restore", first, *folders(server))
        assert (code, out, err.count("\n")) == (2, b"", 1)
        assert (here in err, str(server.config) in err) == (True, True)
        assert config("show", *folders(server)) == (0, SECOND, "")
    require(server, SECOND)


async def test_point_8_a_data_folder_that_no_server_has_used_yet_names_no_file(config: Config, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "config.yaml").write_bytes(FOREIGN)
    ledger = SqliteLedger(tmp_path / "data" / "ledger.sqlite", lambda _: None)
    await ledger.open()
    await scenarios.save(ledger)
    await ledger.close()
    code, out, err = await asyncio.to_thread(config, "restore", sha256_of(b"a: 1\n"))
    assert (code, out, err.count("\n")) == (2, b"", 1)
    assert "start `dropmill serve`" in err
    assert (tmp_path / "config.yaml").read_bytes() == FOREIGN


# --- what is not there -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["show"], ["history"], ["restore", "abcdef"]])
def test_nothing_is_made_where_nothing_is(config: Config, tmp_path: Path, words: list[str]) -> None:
    code, out, err = config(*words)
    assert (code, out, err) == (2, b"", f"dropmill: --data {tmp_path / 'data'}: there is no such folder.\n")
    (tmp_path / "data").mkdir()
    code, out, err = config(*words)
    assert (code, out, err.count("\n")) == (2, b"", 1)
    assert "There is no database" in err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_older_database_is_left_to_the_server(config: Config, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "ledger.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.execute("INSERT INTO alembic_version VALUES ('0001')")
    connection.close()
    before = path.read_bytes()
    code, _, err = config("history")
    assert (code, err.count("\n")) == (2, 1)
    assert "start `dropmill serve` once" in err
    (tmp_path / "config.yaml").write_bytes(b"a: 1\n")
    assert config("check") == (0, b"config.yaml: ok\n", "")  # as before an upgrade's first start
    assert path.read_bytes() == before


def test_an_unknown_setting_is_told(config: Config) -> None:
    code, _, err = config("history", DROPMILL_DATE="x")
    assert (code, err.count("\n")) == (2, 1)
    assert "DROPMILL_DATE" in err

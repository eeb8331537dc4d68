"""A real server whose ledger is in Postgres."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from tests.support.postgres import Postgres
from tests.support.preloaded import DROPMILL
from tests.support.server import Server, clean_environment
from tests.support.waiting import wait_until

Make = Callable[..., Server]


@pytest.fixture
def url(postgres: Postgres) -> str:
    """A database of the test's own."""
    return postgres.url(postgres.make_database())


def said_by(server: Server, url: str, *words: str, given: str = "") -> tuple[int, str]:
    """A command with the server's settings: exit code, and what it printed."""
    ended = subprocess.run(
        [*DROPMILL, *words, "--data", str(server.data), "--config", str(server.config)],
        cwd=server.folder,
        env=clean_environment({"DROPMILL_DATABASE_URL": url}),
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_files_are_processed_and_everything_is_there_after_a_restart(make_server: Make, url: str) -> None:
    server = make_server(environment={"DROPMILL_DATABASE_URL": url}).start()
    sent = server.settled(server.send(("a.txt", b"one\n"), ("b.txt", b"two\n"))["id"])
    assert sent["counts"]["succeeded"] == 2
    server.stop()
    assert not (server.data / "ledger.sqlite").exists()
    again = server.start().get(f"/submissions/{sent['id']}")
    assert again == sent
    cursors = [event["cursor"] for event in server.events()]
    assert cursors == list(range(1, len(cursors) + 1))
    wait_until(lambda: [line["cursor"] for line in server.log()] == [event["cursor"] for event in server.events()])


def test_commands_work_on_the_ledger_beside_the_server(make_server: Make, url: str) -> None:
    server = make_server(environment={"DROPMILL_DATABASE_URL": url}).start()
    server.settled(server.send(("a.txt", b"one\n"))["id"])
    assert (
        said_by(server, url, "account", "add", "ada", "--role", "admin", "--password-stdin", given="correct horse\n")[0]
        == 0
    )
    assert "ada" in said_by(server, url, "account", "list")[1]
    code, token = said_by(server, url, "token", "create", "--scope", "read")
    assert (code, len(token.splitlines())) == (0, 1)
    assert "a.txt" in said_by(server, url, "log")[1]
    code, history = said_by(server, url, "config", "history")
    assert code == 0
    assert history
    code, found = said_by(server, url, "doctor")
    assert "Postgres 15" in found
    assert code == 0, found
    assert "account.changed" in [event["name"] for event in server.events()]


def test_the_url_may_come_from_a_file_and_nobody_prints_its_password(
    make_server: Make, url: str, tmp_path: Path
) -> None:
    file = tmp_path / "url"
    file.write_text(f"{url}\n")
    server = make_server(environment={"DROPMILL_DATABASE_URL_FILE": str(file)}).start()
    server.settled(server.send(("a.txt", b"one\n"))["id"])
    server.stop()
    password = url.partition("dropmill:")[2].partition("@")[0]
    assert password not in server.said()
    file.write_text(url.replace(password, "wrong-" + password))
    with pytest.raises(AssertionError, match="cannot be reached") as refused:
        server.start()
    assert password not in str(refused.value).partition("assert")[0]


def test_an_unusable_url_is_refused_without_being_repeated(make_server: Make) -> None:
    for unusable in ("mysql://dropmill:hush@db.lab/dropmill", "postgresql://dropmill:hush@db.lab:port/dropmill"):
        server = make_server(environment={"DROPMILL_DATABASE_URL": unusable})
        with pytest.raises(AssertionError, match=r"DROPMILL_DATABASE_URL|cannot be reached"):
            server.start()
        assert "hush" not in server.said()


def test_a_folder_with_a_ledger_of_its_own_is_refused(make_server: Make, url: str) -> None:
    """With another ledger, the clean-up would take its files for nobody's."""
    server = make_server().start()
    kept = server.settled(server.send(("a.txt", b"one\n"))["id"])
    server.stop()
    other = make_server(environment={"DROPMILL_DATABASE_URL": url})
    other.data = server.data
    with pytest.raises(AssertionError, match=r"has a ledger of its own.*dropmill migrate"):
        other.start()
    code, said = said_by(server, url, "log")
    assert (code, "has a ledger of its own" in said) == (2, True)
    assert server.start().get(f"/submissions/{kept['id']}") == kept


def test_a_folder_whose_ledger_is_in_postgres_is_refused_without_it_or_with_another(
    make_server: Make, postgres: Postgres, url: str
) -> None:
    server = make_server(environment={"DROPMILL_DATABASE_URL": url}).start()
    kept = server.settled(server.send(("a.txt", b"one\n"))["id"])
    server.stop()
    for environment, why in (
        ({}, "The ledger of .* is in Postgres: set DROPMILL_DATABASE_URL"),
        ({"DROPMILL_DATABASE_URL": postgres.url(postgres.make_database())}, "belongs to another ledger"),
    ):
        other = make_server(environment=environment)
        other.data = server.data
        with pytest.raises(AssertionError, match=why):
            other.start()
    assert server.start().get(f"/submissions/{kept['id']}") == kept
    assert server.http.get(f"/api/v1/files/{kept['files'][0]['id']}/content").content == b"one\n"


def test_two_schemas_of_one_database_hold_two_ledgers(make_server: Make, url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE SCHEMA one")
        connection.execute("CREATE SCHEMA two")
    servers = [
        make_server(environment={"DROPMILL_DATABASE_URL": f"{url}?options=-csearch_path%3D{schema}"}).start()
        for schema in ("one", "two")
    ]
    for server, name in zip(servers, ("first.txt", "second.txt"), strict=True):
        server.settled(server.send((name, b"one\n"))["id"])
    for server, name in zip(servers, ("first.txt", "second.txt"), strict=True):
        assert len(server.get("/submissions")["items"]) == 1
        assert len(server.get(f"/submissions?q={name[1:-1]}")["items"]) == 1
        assert server.events()[0]["cursor"] == 1

"""`dropmill doctor`: says what is missing before a server does, and touches nothing."""

import asyncio
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.certificates import make_certificate
from tests.support.server import Server

from dropmill.cli.doctor import host, network
from dropmill.cli.doctor.findings import FAIL, OK, WARN, Finding
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.config import ConfigLocation
from dropmill.settings import Settings

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    """Settings in the test's folder."""

    def made(**others: Any) -> Settings:
        return Settings(**{"data": tmp_path / "data", "config": tmp_path / "config.yaml", "min_free": 1, **others})

    return made


Make = Callable[..., Settings]


def levels(findings: Iterator[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def said(findings: Iterator[Finding], level: str) -> str:
    """The sentence of the only finding of a level."""
    (sentence,) = [finding.sentence for finding in findings if finding.level == level]
    return sentence


def test_a_running_server_and_the_network_to_it_are_well(server: Server, run: Run) -> None:
    before = sorted(path for path in server.data.rglob("*") if "incoming" not in path.parts)
    newest = server.events()[-1]["cursor"]
    code, out, err = run("doctor", "--data", server.data, "--config", server.config, "--url", server.url)
    assert (code, err) == (0, "")
    found = {line[6:22].strip(): line for line in out.splitlines()}
    assert set(found) == {*host.HOST_CHECKS, *network.NETWORK_CHECKS}
    assert f"process {server.process.pid}" in found["lock"]
    assert all(line.startswith(("ok", "warn")) for line in out.splitlines())
    assert all(line.startswith("ok") for subject, line in found.items() if subject.startswith("network"))
    assert sorted(path for path in server.data.rglob("*") if "incoming" not in path.parts) == before
    assert server.events()[-1]["cursor"] == newest
    assert server.http.get("/healthz").status_code == 200


def test_before_the_first_start_nothing_is_made(settings: Make, tmp_path: Path, run: Run) -> None:
    code, out, _ = run("doctor", "--data", tmp_path / "data", "--config", tmp_path / "config.yaml", "--min-free", "1")
    assert code == 0
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "config.yaml").exists()
    assert "no server is running there" in out


def test_a_failure_is_exit_1_and_the_rest_is_looked_at(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("doctor", "--min-free", "8000TiB", "--processor", "missing:nothing")
    failed = [line for line in out.splitlines() if line.startswith(FAIL)]
    assert code == 1
    assert [line[6:22].strip() for line in failed] == ["disk", "processor"]
    assert "certificate" in out
    assert run("doctor", "--concurrency", "none")[:2] == (
        1,
        "FAIL  settings         --concurrency 'none': must be a whole number.\n",
    )


def test_a_data_folder_that_is_none(settings: Make, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    assert "is not a folder" in said(host.check_data_folder(settings()), FAIL)


def test_a_network_file_system_is_warned_of(settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    assert levels(host.check_data_folder(settings())) == [OK]
    monkeypatch.setattr(host, "_file_system", lambda path: "nfs4")
    assert "local disk" in said(host.check_data_folder(settings()), WARN)


@pytest.mark.parametrize(
    ("schema", "level"), [("0001", OK), (None, OK), ("9999", FAIL)], ids=["older", "none yet", "newer"]
)
def test_the_schema_of_the_database(settings: Make, tmp_path: Path, schema: str | None, level: str) -> None:
    (tmp_path / "data").mkdir()
    if schema is not None:
        with sqlite3.connect(tmp_path / "data" / "ledger.sqlite") as connection:
            connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
            connection.execute("INSERT INTO alembic_version VALUES (?)", (schema,))
        connection.close()
    assert levels(host.check_database(settings())) == [level]


def test_a_database_that_is_none(settings: Make, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ledger.sqlite").write_bytes(b"something else" * 1000)
    assert "cannot be read" in said(host.check_database(settings()), FAIL)


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b"a: 1\n", [OK]), (b"a: 1\n\tb: 2\n", [FAIL]), (b"a: 1\na: 2\n", [FAIL]), (b"on: yes\nmode: 010\n", [WARN, OK])],
    ids=["valid", "a tab", "a key twice", "a pitfall"],
)
def test_the_config_is_checked(settings: Make, tmp_path: Path, text: bytes, expected: list[str]) -> None:
    (tmp_path / "config.yaml").write_bytes(text)
    found = list(host.check_config(settings()))
    assert sorted({finding.level for finding in found}) == sorted(expected)
    assert (tmp_path / "config.yaml").read_bytes() == text


@pytest.mark.parametrize(
    ("on_disk", "is_written", "level", "word"),
    [
        (b"a: 2\n", True, None, ""),
        (b"a: 3 # edited\n", True, WARN, "it was edited"),
        (b"a: 1\n", False, FAIL, "saving it there has failed"),
        (None, True, WARN, "is missing"),
    ],
    ids=["the same", "edited", "never written", "missing"],
)
def test_point_2_a_config_that_differs_from_the_newest_revision_is_told(
    settings: Make, tmp_path: Path, on_disk: bytes | None, is_written: bool, level: str | None, word: str
) -> None:
    (tmp_path / "data").mkdir()
    if on_disk is not None:
        (tmp_path / "config.yaml").write_bytes(on_disk)

    async def save() -> None:
        ledger = SqliteLedger(tmp_path / "data" / "ledger.sqlite", lambda _: None)
        await ledger.open()
        location = settings().config_location
        await ledger.use_config_file(location)
        base = None
        for text, found_at in ((b"a: 1\n", location), (b"a: 2\n", location if is_written else None)):
            saved = await ledger.save_revision(
                text, base=base, client=None, account=None, message=None, found_at=found_at
            )
            base = saved.sha256
        await ledger.close()

    asyncio.run(save())
    found = [finding for finding in host.check_config(settings()) if finding.level != OK]
    if level is None:
        assert found == []
    else:
        (only,) = found
        assert only.level == level
        assert word in only.sentence


@pytest.mark.parametrize("on_disk", [b"a: 2\n", None])
def test_point_8_a_config_that_is_not_the_one_the_server_edits_is_told(
    settings: Make, tmp_path: Path, on_disk: bytes | None
) -> None:
    (tmp_path / "data").mkdir()
    if on_disk is not None:
        (tmp_path / "config.yaml").write_bytes(on_disk)
    servers = settings(config=tmp_path / "elsewhere" / "config.yaml").config_location

    async def use(location: ConfigLocation) -> None:
        ledger = SqliteLedger(tmp_path / "data" / "ledger.sqlite", lambda _: None)
        await ledger.open()
        await ledger.use_config_file(location)
        await ledger.close()

    asyncio.run(use(servers))
    (warning,) = [finding for finding in host.check_config(settings()) if finding.level != OK]
    assert (warning.level, servers.path in warning.sentence) == (WARN, True)
    for elsewhere in (servers._replace(host="another"), servers._replace(data_folder="/another")):
        asyncio.run(use(elsewhere))  # what its path means here, nobody knows
        assert [finding for finding in host.check_config(settings()) if finding.level != OK] == []


def test_the_schema_beside_the_config_is_obeyed(settings: Make, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a: b\n")
    schema = tmp_path / "config.schema.json"
    schema.write_text('{"properties": {"a": {"type": "integer"}}}')
    assert "line 1: " in said(host.check_config(settings()), FAIL)
    schema.write_text("{")
    assert "config.schema.json cannot be used" in said(host.check_config(settings()), WARN)


def test_an_executable_must_be_there(settings: Make) -> None:
    assert levels(host.check_processor(settings(command=("cat", "{path}")))) == [OK]
    assert levels(host.check_processor(settings(command=("no-such-program", "{path}")))) == [FAIL]


def test_a_log_file_that_cannot_be_written(settings: Make, tmp_path: Path) -> None:
    assert levels(host.check_log_file(settings())) == [OK]
    assert levels(host.check_log_file(settings(log_file=tmp_path))) == [FAIL]


def test_a_name_server_that_says_nothing_is_warned_of(settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "DNS_WAIT_S", 0.2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert levels(host.check_dns(settings(dns_servers=(address,)))) == [WARN]


def test_a_name_server_that_answers_anything_is_well(settings: Make) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as serving:
        serving.bind(("127.0.0.1", 0))

        def answer() -> None:
            question, asker = serving.recvfrom(512)
            serving.sendto(question[:2] + b"\x81\x83" + question[4:], asker)

        answering = threading.Thread(target=answer)
        answering.start()
        address = f"127.0.0.1:{serving.getsockname()[1]}"
        assert levels(host.check_dns(settings(dns_servers=(address,)))) == [OK]
        answering.join()


def test_a_certificate_is_told_with_its_end(settings: Make, tmp_path: Path) -> None:
    assert levels(host.check_certificate(settings())) == [OK]
    for days, level in ((90, OK), (3, WARN)):
        certfile, keyfile = make_certificate(tmp_path, days=days)
        told = said(host.check_certificate(settings(certfile=certfile, keyfile=keyfile)), level)
        assert f"{days - 1} days" in told
    assert levels(host.check_certificate(settings(certfile=certfile, keyfile=certfile))) == [FAIL]

"""`dropmill account` and `dropmill token` on the ledger alone; beside a server they are tested in `tests/web/api`."""

import asyncio
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dropmill.access.secrets import token_prefix
from dropmill.cli import main
from dropmill.engines.sqlite.ledger import SqliteLedger

PASSWORD = "correct horse battery\n"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command on a data folder with an empty ledger: exit code, standard output, standard error."""

    async def made() -> None:
        ledger = SqliteLedger(tmp_path / "ledger.sqlite", lambda _: None)
        await ledger.open()
        await ledger.close()

    asyncio.run(made())
    monkeypatch.setenv("DROPMILL_DATA", str(tmp_path))

    def ended(*words: str, stdin: str = "") -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as caught:
            main(list(words), prog_name="dropmill")
        assert isinstance(caught.value.code, int)
        return caught.value.code, *capsys.readouterr()

    return ended


def added(run: Run, name: str, role: str = "viewer") -> None:
    assert run("account", "add", name, "--role", role, "--password-stdin", stdin=PASSWORD)[0] == 0


def accounts(run: Run) -> dict[str, tuple[str, bool, bool]]:
    """Role, and whether disabled and removed, by name."""
    found = [json.loads(line) for line in run("account", "list", "--json")[1].splitlines()]
    return {one["name"]: (one["role"], bool(one["disabled_at"]), bool(one["removed_at"])) for one in found}


def test_accounts_are_added_changed_and_removed(run: Run) -> None:
    added(run, "Ada", "admin")
    added(run, "bob")
    assert run("account", "role", "BOB", "operator")[0] == 0
    assert run("account", "disable", "bob")[0] == 0
    assert accounts(run) == {"Ada": ("admin", False, False), "bob": ("operator", True, False)}
    assert run("account", "enable", "bob")[0] == 0
    assert run("account", "password", "bob", "--password-stdin", stdin="another password\n")[0] == 0
    assert run("account", "remove", "bob")[0] == 0
    assert accounts(run)["bob"] == ("operator", False, True)
    code, out, _ = run("account", "list")
    assert (code, [line.split()[:3] for line in out.splitlines()]) == (
        0,
        [["bob", "operator", "removed"], ["Ada", "admin", "-"]],
    )


def test_what_cannot_be_done_is_refused_with_one_line(run: Run) -> None:
    added(run, "Ada", "admin")
    refused = {
        ("account", "add", "ADA", "--password-stdin"): "case does not distinguish names",
        ("account", "add", "\x1b[2J", "--password-stdin"): "printable characters",
        ("account", "role", "ada", "viewer"): "is the only admin",
        ("account", "remove", "ada"): "is the only admin",
        ("account", "disable", "nobody"): "There is no account 'nobody'",
        ("token", "create", "--expires", "soon"): "--expires",
        ("token", "revoke", "nothing"): "There is no such token",
    }
    for words, sentence in refused.items():
        code, out, err = run(*words, stdin=PASSWORD)
        assert (code, out, err.count("\n"), sentence in err) == (1, "", 1, True), err
    for password in ("short\n", "", "\n"):
        assert run("account", "add", "bob", "--password-stdin", stdin=password)[0] == 1
    assert accounts(run) == {"Ada": ("admin", False, False)}


def test_a_password_is_typed_twice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["correct horse battery", "correct horse batterie"]
    monkeypatch.setattr("getpass.getpass", lambda _prompt: typed.pop(0))
    code, _, err = run("account", "add", "ada")
    assert (code, "differ" in err) == (1, True)
    typed += ["correct horse battery"] * 2
    assert run("account", "add", "ada")[0] == 0


def test_a_token_is_printed_alone_listed_without_its_secret_and_revoked(run: Run) -> None:
    added(run, "Ada", "admin")
    code, out, err = run("token", "create", "--scope", "send", "--scope", "read", "--expires", "90d", "--name", "night")
    token = out.strip()
    assert (code, err, out) == (0, "", f"{token}\n")
    prefix = token_prefix(token)
    assert prefix is not None
    (found,) = [json.loads(line) for line in run("token", "list", "--json")[1].splitlines()]
    assert (found["account"], found["scopes"], found["name"], found["prefix"]) == (
        "Ada",
        ["read", "send"],
        "night",
        prefix,
    )
    assert token not in run("token", "list")[1]
    assert run("token", "revoke", found["id"])[0] == 0
    assert run("token", "list")[1] == ""


def test_without_a_name_a_token_is_for_the_only_account(run: Run) -> None:
    assert "There are 0 accounts" in run("token", "create")[2]
    added(run, "Ada", "admin")
    added(run, "bob")
    assert "There are 2 accounts" in run("token", "create")[2]
    code, _, err = run("token", "create", "--account", "bob", "--scope", "admin")
    assert (code, "cannot have the scope admin" in err) == (1, True)
    run("account", "remove", "bob")
    assert run("token", "create")[0] == 0


def test_without_a_ledger_the_folder_is_named(run: Run, tmp_path: Path) -> None:
    code, _, err = run("account", "list", "--data", str(tmp_path / "nowhere"))
    assert (code, "there is no such folder" in err) == (2, True)


def own_limits(run: Run, name: str) -> object:
    return json.loads(run("account", "limits", name, "--json")[1])["own_limits"]


def test_an_account_gets_limits_of_its_own_and_loses_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DROPMILL_QUOTA_STORAGE", "20GiB")
    added(run, "ada")
    code, said, _ = run("account", "limits", "ada")
    assert code == 0
    assert re.search(r"(?m)^storage +0 of 21,474,836,480 \(the server's\)$", said)
    assert run("account", "limits", "ADA", "--storage", "50GB", "--running", "none", "--sockets", "3")[0] == 0
    assert own_limits(run, "ada") == {"storage": 50 * 10**9, "running": "none", "sockets": 3}
    _, said, _ = run("account", "limits", "ada", "--storage", "default", "--open-submissions", "2")
    assert "no limit (its own)" in said
    assert own_limits(run, "ada") == {"open_submissions": 2, "running": "none", "sockets": 3}


@pytest.mark.parametrize(
    "words", [("--storage", "much"), ("--storage", "-1"), ("--running", "0"), ("--running", "1.5"), ("--files", "3")]
)
def test_a_limit_that_is_none_is_refused_with_what_it_may_be(run: Run, words: tuple[str, str]) -> None:
    added(run, "ada")
    code, _, problem = run("account", "limits", "ada", *words)
    assert code == 2
    assert "none or default" in problem or "No such option" in problem
    assert own_limits(run, "ada") == {}
    assert run("account", "limits", "bob")[0] == 1


def test_an_account_is_given_to_somebody_whom_others_vouch_for(run: Run) -> None:
    added(run, "ada", "admin")
    code, out, _ = run("account", "link", "ADA", "--proxy-user", "Alice")
    assert (code, out) == (0, "ada belongs to alice of proxy now.\n")
    assert run("account", "list")[1].rstrip().endswith("alice of proxy")
    added(run, "bob")
    code, _, said = run("account", "link", "bob", "--proxy-user", "ALICE")
    assert code == 1
    assert "They have the account 'ada' already" in said
    assert run("account", "unlink", "ada")[0] == 0
    assert run("account", "link", "bob", "--issuer", "https://id.example", "--subject", "0815")[0] == 0
    assert run("account", "list")[1].splitlines()[0].endswith("0815 of https://id.example")
    assert run("account", "unlink", "ada")[0] == 1


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--issuer", "https://id.example"),
        ("--subject", "x"),
        ("--proxy-user", "x", "--issuer", "https://id.example", "--subject", "x"),
        ("--issuer", "proxy", "--subject", "x"),
        ("--issuer", "https://id.example", "--subject", ""),
        ("--issuer", "https://id.example", "--subject", "x" * 256),
        ("--proxy-user", "x" * 65),
        ("--proxy-user", "a\x00b"),
    ],
)
def test_who_cannot_be_named_is_refused_and_nothing_changes(run: Run, words: tuple[str, ...]) -> None:
    added(run, "ada")
    before = run("account", "list")[1]
    assert run("account", "link", "ada", *words)[0] in (1, 2)
    assert run("account", "list")[1] == before

"""Which of the server's variables scripts get, and what they find of its secrets."""

from pathlib import Path
from typing import Any

import pytest

from dropmill.processing.environment import ScriptEnvironment
from dropmill.settings import Settings

SERVER = {
    "PATH": "/usr/bin",
    "HOME": "/h",
    "LANG": "C.UTF-8",
    "LC_ALL": "C",
    "LC_TIME": "C",
    "TZ": "UTC",
    "TMPDIR": "/t",
    "EDITOR": "vi",
    "LC": "no locale",
    "PGPASSWORD": "of the database",
    "DROPMILL_DATA": "/d",
    "DROPMILL_WEBHOOK_SECRET": "hush",
    "NOTIFY_SOCKET": "@x",
}
CLEAN = {name: SERVER[name] for name in ("PATH", "HOME", "LANG", "LC_ALL", "LC_TIME", "TZ", "TMPDIR")}
OURS = {"PYTHONUNBUFFERED": "1"}


def environment(server: dict[str, str], **settings: Any) -> ScriptEnvironment:
    return ScriptEnvironment.from_settings(Settings(**settings), server, Path("/home/a"))


def test_scripts_get_the_servers_environment_without_its_own_and_its_secrets() -> None:
    """By default; a line names what is missing that a script might want."""
    found = environment(SERVER)
    assert found.variables == CLEAN | {"EDITOR": "vi", "LC": "no locale"} | OURS
    assert found.withheld == ("PGPASSWORD",)
    assert found.notice == ("Scripts do not get these variables: PGPASSWORD. --pass-env NAME passes one on.")
    assert environment({"HOME": "/h", "DROPMILL_DATA": "/d"}).notice is None


def test_a_secret_is_kept_back_under_whatever_name() -> None:
    """People set a variable of their own and let the setting refer to it; an address may hold a password."""
    url = "https://bob:p%40ss@a.example/hook"
    server = {"MY_SECRET": "hush", "HOOK": url, "HOOK_PASSWORD": "p@ss", "HOOK_RAW": "p%40ss", "USER": "bob"}
    found = environment(server, webhook_secret="hush", on_settled=url)
    assert found.variables == {"USER": "bob"} | OURS
    assert found.withheld == ("HOOK", "HOOK_PASSWORD", "HOOK_RAW", "MY_SECRET")
    assert environment({"HOOK": "https://a.example"}, on_settled="https://a.example").withheld == ()


def test_a_clean_environment_has_what_the_contract_lists() -> None:
    """And says once which others there were."""
    found = environment(SERVER, env="clean")
    assert found.variables == CLEAN | OURS
    assert found.withheld == ("EDITOR", "LC", "PGPASSWORD")


@pytest.mark.parametrize("kind", ["all", "clean"])
def test_a_variable_can_be_passed_on(kind: str) -> None:
    """Also one that would be taken for the server's secret; one that is not there is none."""
    found = environment(SERVER, env=kind, pass_env=("PGPASSWORD", "EDITOR", "MISSING"))
    assert found.variables["PGPASSWORD"] == "of the database"
    assert found.variables["EDITOR"] == "vi"
    assert "MISSING" not in found.variables
    assert not {"PGPASSWORD", "EDITOR"} & set(found.withheld)


def test_search_paths_still_lead_to_where_the_server_was_started() -> None:
    """Attempts run elsewhere."""
    server = {"PYTHONPATH": "src:/opt/lib::../lib", "PATH": "bin:/usr/bin", "PYTHONUNBUFFERED": ""}
    assert environment(server).variables == {
        "PYTHONPATH": "/home/a/src:/opt/lib:/home/a:/home/lib",
        "PATH": "/home/a/bin:/usr/bin",
        "PYTHONUNBUFFERED": "",
    }
    assert environment({"PYTHONPATH": ""}).variables["PYTHONPATH"] == ""

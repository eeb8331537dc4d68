"""A config with tags of its own, from the page's request to the script, on a real server."""

import subprocess
from collections.abc import Callable
from typing import Any

from tests.support.server import SERVE, Server, clean_environment
from tests.support.waiting import wait_until

Make = Callable[..., Server]

TAGGED = b"""\
# kept
password: !secret db_password
hook: !!python/object/apply:os.system ["touch constructed"]
list: !Join [a, !Ref b]
1: one
true: yes it is
plain: 1 # kept
"""
PROCESSOR = """
def process(path, config):
    return repr(config)
"""
VALUES: dict[Any, Any] = {
    "password": "db_password",
    "hook": ["touch constructed"],
    "list": ["a", "b"],
    1: "one",
    "true": "yes it is",
    "plain": 2,
}


def test_point_15_a_tagged_config_is_saved_edited_restored_and_given_as_plain_data(make_server: Make) -> None:
    server = make_server("--processor", "script:process", "--config-tags", "keep")
    (server.folder / "script.py").write_text(PROCESSOR)
    server.start()
    url = "/api/v1/config"

    def etag() -> str:
        return server.http.get(url).headers["ETag"]

    assert server.http.post(f"{url}/check", content=TAGGED).json()["errors"] == []
    saved = server.http.put(url, content=TAGGED, headers={"If-Match": etag()})
    assert saved.status_code == 200
    assert server.config.read_bytes() == TAGGED

    def patch(path: str, value: Any) -> Any:
        headers = {"If-Match": etag(), "Content-Type": "application/json-patch+json"}
        return server.http.patch(url, json=[{"op": "replace", "path": path, "value": value}], headers=headers)

    refused = patch("/password", "mine")
    assert (refused.status_code, refused.json()["reason"]) == (409, "tagged")
    assert patch("/plain", 2).status_code == 200
    assert server.config.read_bytes() == TAGGED.replace(b"plain: 1", b"plain: 2")
    form = server.http.post(f"{url}/form", json={"text": TAGGED.decode()}).json()
    assert {field["path"]: field["tag"] for field in form["fields"] if field["tag"]} == {
        "/password": "!secret",
        "/hook": "!!python/object/apply:os.system",
        "/list": "!Join",
        "/list/1": "!Ref",
    }
    sent = server.http.post("/api/v1/submissions", files={"f": ("a.txt", b"x")}).json()

    def settled() -> Any:
        found = server.get(f"/submissions/{sent['id']}")
        return found if found["state"] == "settled" else None

    job = wait_until(settled)["files"][0]["job"]
    assert job["state"] == "succeeded"
    assert job["value"] == repr(VALUES)
    restored = server.http.post(f"{url}/revisions/{saved.headers['ETag'][1:-1]}/restore", headers={"If-Match": etag()})
    assert restored.status_code == 200
    assert server.config.read_bytes() == TAGGED
    assert not list(server.folder.rglob("constructed"))
    assert server.stop() == 0


def test_point_15_the_command_line_checks_with_the_same_setting(make_server: Make) -> None:
    server = make_server()
    server.config.write_bytes(TAGGED)
    check = [*SERVE[:-1], "config", "check", str(server.config)]
    plain = subprocess.run(check, capture_output=True, text=True, env=clean_environment(), check=False)
    assert plain.returncode == 1
    assert "The tag !secret is not one of YAML's core tags; --config-tags keep accepts such tags" in plain.stdout
    kept = subprocess.run(
        [*check, "--config-tags", "keep"], capture_output=True, text=True, env=clean_environment(), check=False
    )
    assert (kept.returncode, kept.stdout.splitlines()[-1]) == (0, f"{server.config}: ok")
    environment = clean_environment({"DROPMILL_CONFIG_TAGS": "keep"})
    assert subprocess.run(check, capture_output=True, env=environment, check=False).returncode == 0

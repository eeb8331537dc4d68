"""The config over HTTP, asked of a real server: value edits, forms, schema, history, purging, and who may not."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.server import CONFIG, Server
from tests.support.waiting import wait_until

MIB = 1 << 20
PATCH_TYPE = "application/json-patch+json"
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}}

Answer = httpx.Response


def current(server: Server) -> tuple[bytes, str]:
    """The config's text and ETag."""
    answer = server.http.get("/api/v1/config")
    assert answer.status_code == 200
    return answer.content, answer.headers["ETag"]


def put(server: Server, text: bytes, etag: str | None = None, **headers: str) -> Answer:
    """A save over what is there now, unless another ETag is given."""
    etag = etag or current(server)[1]
    return server.http.put("/api/v1/config", content=text, headers={"If-Match": etag, **headers})


def patch(server: Server, operations: Any, etag: str | None = None, **headers: str) -> Answer:
    content = operations if isinstance(operations, bytes) else json.dumps(operations).encode()
    around = {"If-Match": etag or current(server)[1], "Content-Type": PATCH_TYPE, **headers}
    return server.http.patch("/api/v1/config", content=content, headers=around)


def form(server: Server, asked: Any) -> Answer:
    content = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    return server.http.post("/api/v1/config/form", content=content, headers={"Content-Type": "application/json"})


def newest(server: Server) -> Any:
    return server.get("/config/revisions?limit=1")["items"][0]


@pytest.fixture(autouse=True)
def _same_text_for_each(server: Server) -> None:
    assert put(server, CONFIG).status_code == 200


@contextmanager
def unchanged(server: Server) -> Iterator[None]:
    """What is done inside changes no byte and makes no revision."""
    before = current(server), newest(server), server.config.read_bytes()
    yield
    assert (current(server), newest(server), server.config.read_bytes()) == before


# --- value edits -----------------------------------------------------------------------------------------------------


def test_a_patch_changes_its_values_alone_and_is_a_revision(server: Server) -> None:
    operations = [
        {"op": "test", "path": "/name", "value": "bar"},
        {"op": "replace", "path": "/name", "value": "foo"},
        {"op": "replace", "path": "/list/1", "value": 20},
    ]
    answer = patch(server, operations, **{"Dropmill-Message": "by a script"})
    assert answer.status_code == 200, answer.text
    text, etag = current(server)
    assert text == b"# kept\nname: foo   # aligned\nlist: [1,   20]\n"
    assert server.config.read_bytes() == text
    assert answer.headers["ETag"] == etag
    answered = answer.json()
    assert f'"{answered["sha256"]}"' == etag
    assert (answered["message"], answered["removed_comments"], answered["is_purged"]) == ("by a script", [], False)
    assert answered["client"]["ip"] == "127.0.0.1"
    assert newest(server) == {key: value for key, value in answered.items() if key != "removed_comments"}


def test_what_a_removal_takes_with_it_is_told(server: Server) -> None:
    answer = patch(server, [{"op": "remove", "path": "/name"}])
    assert answer.status_code == 200
    assert answer.json()["removed_comments"] == ["# aligned"]
    assert current(server)[0] == b"# kept\nlist: [1,   2]\n"


@pytest.mark.parametrize("operations", [[], [{"op": "replace", "path": "/name", "value": "bar"}]])
def test_a_patch_that_changes_nothing_gives_the_newest_revision(server: Server, operations: Any) -> None:
    with unchanged(server):
        answer = patch(server, operations)
        assert answer.status_code == 200
        assert answer.json()["sha256"] == newest(server)["sha256"]


def test_a_patch_names_what_it_changes_as_a_save_does(server: Server) -> None:
    operations = [{"op": "replace", "path": "/name", "value": "foo"}]
    with unchanged(server):
        missing = server.http.patch("/api/v1/config", json=operations, headers={"Content-Type": PATCH_TYPE})
        assert (missing.status_code, missing.json()["code"]) == (428, "if_match_required")
        text, etag = current(server)
        for stale in ('"' + "0" * 64 + '"', "W/" + etag[1:], "*", etag.strip('"')):
            answer = patch(server, operations, stale)
            assert (answer.status_code, answer.json()["code"]) == (412, "config_conflict")
            assert (answer.json()["current"], answer.json()["current_etag"]) == (text.decode(), etag)


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "", "application/merge-patch+json"])
def test_a_patch_of_another_type_is_refused(server: Server, kind: str) -> None:
    with unchanged(server):
        answer = patch(server, [{"op": "replace", "path": "/name", "value": "foo"}], **{"Content-Type": kind})
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[",
        b"\xff\xfe",
        b"\xff[]",
        b"{}",
        b"null",
        b"[null]",
        b"[[]]",
        b"[{}]",
        b'[{"op": "replace", "path": "/name"}]',
        b'[{"op": "replace", "path": "name", "value": 1}]',
        b'[{"op": "replace", "path": ["name"], "value": 1}]',
        b'[{"op": "move", "from": "/name", "path": "/other"}]',
        b'[{"op": ["replace"], "path": "/name", "value": 1}]',
        b'[{"op": "replace", "path": "/name", "value": NaN}]',
        b'[{"op": "replace", "path": "/name", "value": -Infinity}]',
        b'[{"op": "replace", "path": "/name", "value": 1e999}]',
        b'[{"op": "replace", "path": "/name", "value": "\\ud800"}]',
        b'[{"op": "replace", "path": "/\\ud800", "value": 1}]',
        b'[{"op": "replace", "path": "/name", "value": 1, "value": 2}]',
        b'[{"op": "replace", "path": "/name", "value": ' + b"9" * 10_000 + b"}]",
        b'[{"op": "add", "path": "/list/-", "value": ' + b"[" * 500 + b"]" * 500 + b"}]",
        b"[" * 100_000,
        json.dumps([{"op": "remove", "path": "/name"}] * 101).encode(),
    ],
    ids=range(24),
)
def test_what_is_no_patch_is_refused(server: Server, content: bytes) -> None:
    with unchanged(server):
        answer = patch(server, content)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request"), answer.text


def test_an_edit_that_cannot_be_exact_is_refused_with_its_reason(server: Server) -> None:
    with unchanged(server):
        answer = patch(server, [{"op": "add", "path": "/list/-", "value": 3}])
        assert (answer.status_code, answer.json()["code"]) == (409, "config_edit_refused")
        assert (answer.json()["reason"], answer.json()["path"]) == ("flow", "/list/-")
        answer = patch(
            server,
            [{"op": "replace", "path": "/name", "value": "foo"}, {"op": "test", "path": "/name", "value": "bar"}],
        )
        assert (answer.status_code, answer.json()["reason"]) == (409, "test_failed")  # all of it, or nothing


def test_a_patch_is_bounded_in_itself_and_in_what_comes_of_it(server: Server) -> None:
    assert put(server, b"# " + b"x" * (MIB // 2) + b"\nname: 1\n").status_code == 200
    with unchanged(server):
        answer = patch(server, b" " * (MIB + 1))
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        answer = patch(server, [{"op": "replace", "path": "/name", "value": "x" * (MIB // 2)}])
        assert (answer.status_code, answer.json()["code"]) == (422, "config_invalid")


def test_a_patch_that_breaks_off_changes_nothing(server: Server) -> None:
    with unchanged(server):
        connection = server.connect()
        head = f"PATCH /api/v1/config HTTP/1.1\r\nHost: {server.host}\r\nContent-Type: {PATCH_TYPE}\r\n"
        head += f"If-Match: {current(server)[1]}\r\nContent-Length: 60\r\n\r\n"
        connection.sendall(head.encode() + b'[{"op": "replace", "path": "/name"')
        connection.close()
        assert server.http.get("/healthz").status_code == 200
    assert [path.name for path in server.config.parent.glob(".config*")] == []


# --- forms -----------------------------------------------------------------------------------------------------------


def test_a_form_shows_a_text_that_is_not_saved(server: Server) -> None:
    with unchanged(server):
        asked = {
            "text": "# kept\r\nport: 80 # web\r\n",
            "patch": [{"op": "replace", "path": "/port", "value": 8080}],
        }
        answer = form(server, asked)
        assert answer.status_code == 200, answer.text
        shown = answer.json()
        assert list(shown) == ["text", "removed_comments", "fields", "is_cut", "errors", "warnings"]
        assert shown["text"] == "# kept\r\nport: 8080 # web\r\n"
        (port,) = [field for field in shown["fields"] if field["path"] == "/port"]
        assert (port["kind"], port["value"], port["line"]) == ("integer", 8080, 2)
        assert (shown["errors"], shown["warnings"], shown["is_cut"]) == ([], [], False)


def test_a_form_of_a_text_that_is_not_valid_has_its_errors_and_no_fields(server: Server) -> None:
    shown = form(server, {"text": "a: 1\nb: !x 2\n"}).json()
    assert shown["fields"] == []
    assert [(error["line"], error["column"]) for error in shown["errors"]] == [(2, 4)]
    answer = form(server, {"text": "b: !x 2\n", "patch": [{"op": "remove", "path": "/b"}]})
    assert (answer.status_code, answer.json()["code"]) == (422, "config_invalid")
    assert answer.json()["errors"][0]["line"] == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"text": 1}',
        b'{"text": "a: 1", "patch": {}}',
        b'{"text": "\\ud800"}',
        b'{"text": "", "text": ""}',
    ],
)
def test_what_asks_for_no_form_is_refused(server: Server, content: bytes) -> None:
    answer = form(server, content)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_a_form_takes_the_longest_text_however_it_is_escaped_and_no_more(server: Server) -> None:
    longest = "# " + "\u00e9" * (MIB // 2 - 1)
    shown = form(server, {"text": longest}).json()
    assert (shown["errors"], shown["text"]) == ([], longest)
    assert form(server, json.dumps({"text": longest}).encode()).json()["errors"] == []
    assert "1,048,577 bytes" in form(server, {"text": longest + "x"}).json()["errors"][0]["message"]
    answer = form(server, b" " * (7 * MIB + 100))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


# --- the schema ------------------------------------------------------------------------------------------------------


@pytest.fixture
def schema(server: Server) -> Iterator[Path]:
    """Where the schema's file may be put; it is gone after the test."""
    path = server.config.with_name("config.schema.json")
    yield path
    path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)


def test_without_a_schema_there_is_none_to_get(server: Server, schema: Path) -> None:
    answer = server.http.get("/api/v1/config/schema")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_schema_is_given_as_it_is_and_used_for_every_text(server: Server, schema: Path) -> None:
    raw = b"\n" + json.dumps(SCHEMA, indent=3).encode() + b"\r\n"
    schema.write_bytes(raw)
    answer = server.http.get("/api/v1/config/schema")
    assert (answer.status_code, answer.content) == (200, raw)
    assert answer.headers["Content-Type"] == "application/schema+json"
    assert answer.headers["ETag"].strip('"').isalnum()
    with unchanged(server):
        wrong = b"# too long\nname: abcdef\n"
        checked = server.http.post("/api/v1/config/check", content=wrong).json()
        assert [(error["line"], error["path"]) for error in checked["errors"]] == [(2, "/name")]
        for answer in (
            put(server, wrong),
            patch(server, [{"op": "replace", "path": "/name", "value": "abcdef"}]),
        ):
            assert (answer.status_code, answer.json()["code"]) == (422, "config_invalid")
            assert [error["path"] for error in answer.json()["errors"]] == ["/name"]
        fields = form(server, {"text": "name: a\n"}).json()["fields"]
        assert [field["schema"]["maxLength"] for field in fields if field["path"] == "/name"] == [5]
    assert patch(server, [{"op": "replace", "path": "/name", "value": "abcde"}]).status_code == 200


def test_an_older_revision_that_the_schema_forbids_by_now_is_not_restored(server: Server, schema: Path) -> None:
    put(server, b"name: abcdef\n")
    old = newest(server)["sha256"]
    put(server, b"name: abc\n")
    schema.write_text(json.dumps(SCHEMA))
    with unchanged(server):
        answer = restore(server, old)
        assert (answer.status_code, answer.json()["code"]) == (422, "config_invalid")


def unusable_text(path: Path) -> None:
    path.write_bytes(b'{"type": "objekt"}')


def unusable_size(path: Path) -> None:
    path.write_bytes(b" " * (MIB + 1))


def unusable_kind(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("spoil", [unusable_text, unusable_size, unusable_kind])
def test_a_schema_that_cannot_be_used_locks_nothing(
    server: Server, schema: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(schema)
    answer = server.http.get("/api/v1/config/schema")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "config.schema.json cannot be" in answer.json()["detail"]
    checked = server.http.post("/api/v1/config/check", content=b"a: 1\n").json()
    assert checked["errors"] == []
    (warning,) = checked["warnings"]
    assert warning["message"].startswith("config.schema.json cannot be")
    assert warning["message"].endswith("the config is checked without it")
    assert put(server, b"a: 1\n").status_code == 200
    assert patch(server, [{"op": "replace", "path": "/a", "value": 2}]).status_code == 200
    assert len(form(server, {"text": "a: 1\n"}).json()["warnings"]) == 1


# --- history ---------------------------------------------------------------------------------------------------------


def restore(server: Server, sha256: str, etag: str | None = None, **headers: str) -> Answer:
    around = {"If-Match": etag or current(server)[1], **headers}
    return server.http.post(f"/api/v1/config/revisions/{sha256}/restore", headers=around)


def purge(server: Server, sha256: str) -> Answer:
    return server.http.delete(f"/api/v1/config/revisions/{sha256}")


def saved(server: Server, text: bytes) -> str:
    """The SHA-256 of a new revision."""
    answer = put(server, text)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["sha256"])


def test_an_older_revision_can_be_the_newest_again(server: Server) -> None:
    first = saved(server, b"first: 1 # \xc3\xa9\r\n")
    second = saved(server, b"second: 2\n")
    answer = restore(server, first)
    assert answer.status_code == 200
    assert current(server) == (b"first: 1 # \xc3\xa9\r\n", answer.headers["ETag"])
    assert newest(server)["message"] == f"restored {first[:12]}"
    assert restore(server, second, **{"Dropmill-Message": "back"}).json()["message"] == "back"
    with unchanged(server):
        assert restore(server, second).json()["sha256"] == second


def test_a_restore_names_what_it_replaces_as_a_save_does(server: Server) -> None:
    first = saved(server, b"first: 1\n")
    saved(server, b"second: 2\n")
    with unchanged(server):
        missing = server.http.post(f"/api/v1/config/revisions/{first}/restore")
        assert (missing.status_code, missing.json()["code"]) == (428, "if_match_required")
        stale = restore(server, first, f'"{first}"')
        assert (stale.status_code, stale.json()["code"]) == (412, "config_conflict")
        unknown = restore(server, "0" * 64)
        assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("message", ["x" * 201, "a\tb"])
@pytest.mark.parametrize("call", [lambda s, **h: patch(s, [], **h), lambda s, **h: restore(s, "0" * 64, **h)])
def test_a_message_is_short_and_printable(server: Server, call: Callable[..., Answer], message: str) -> None:
    with unchanged(server):
        assert call(server, **{"Dropmill-Message": message}).status_code == 400


def test_a_purged_text_is_gone_and_its_record_stays(server: Server) -> None:
    secret = saved(server, b"token: swordfish-1\n")
    saved(server, b"token: none\n")
    for _ in range(2):
        answer = purge(server, secret)
        assert (answer.status_code, answer.content) == (204, b"")
    gone = server.http.get(f"/api/v1/config/revisions/{secret}")
    assert (gone.status_code, gone.json()["code"]) == (410, "removed")
    assert (restore(server, secret).status_code, restore(server, secret).json()["code"]) == (410, "removed")
    items = server.get("/config/revisions")["items"]
    assert [(item["sha256"], item["is_purged"]) for item in items[:2]] == [(items[0]["sha256"], False), (secret, True)]
    purged = [event for event in server.events("config") if event["name"] == "config.purged"]
    assert [event["data"] for event in purged].count({"sha256": secret}) == 1
    assert purged[-1]["subject"]["client"]["ip"] == "127.0.0.1"
    assert saved(server, b"token: swordfish-1\n") == secret
    assert server.http.get(f"/api/v1/config/revisions/{secret}").content == b"token: swordfish-1\n"


def test_what_is_in_use_or_unknown_is_not_purged(server: Server) -> None:
    with unchanged(server):
        answer = purge(server, newest(server)["sha256"])
        assert (answer.status_code, answer.json()["code"]) == (409, "revision_in_use")
        for unknown in ("0" * 64, "x", "0" * 5000):
            assert (purge(server, unknown).status_code, purge(server, unknown).json()["code"]) == (404, "not_found")


def test_of_a_purged_secret_no_copy_stays_in_the_servers_folders(make_server: Callable[..., Server]) -> None:
    """Not in the ledger, nor in what attempts were given, nor in what was kept aside."""
    server = make_server("--command", "sleep 60").start()
    leaked = b"token: swordfish-2\n"
    secret = saved(server, leaked)
    submission = server.send(("a.txt", b"a"))
    (file,) = submission["files"]
    wait_until(lambda: server.get(f"/jobs/{file['job']['id']}")["state"] == "running")
    saved(server, b"token: none\n")
    answer = purge(server, secret)
    assert (answer.status_code, answer.json()["code"], answer.json()["jobs"]) == (409, "revision_in_use", 1)
    assert holders(server) == {"ledger", "configs"}
    server.http.post(f"/api/v1/jobs/{file['job']['id']}/cancel")
    server.settled(submission["id"])
    server.config.with_name("config.yaml.rejected").write_bytes(leaked)
    assert purge(server, secret).status_code == 204
    assert holders(server) == set()
    assert server.get(f"/jobs/{file['job']['id']}")["attempts"][0]["config_revision"] == secret
    assert server.stop() == 0
    assert holders(server) == set()


def holders(server: Server) -> set[str]:
    """The ledger's files and the folders that contain the secret."""
    found = set()
    for path in server.folder.rglob("*"):
        if path.is_file() and b"swordfish-2" in path.read_bytes():
            found.add("ledger" if path.name.startswith("ledger.sqlite") else path.parent.name)
    return found


# --- who may not -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", ""),
        ("PATCH", ""),
        ("POST", "/check"),
        ("POST", "/form"),
        ("POST", "/revisions/{sha256}/restore"),
        ("DELETE", "/revisions/{sha256}"),
    ],
)
@pytest.mark.parametrize("kind", ["text/plain", PATCH_TYPE])
@pytest.mark.parametrize("whence", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_page_of_another_site_changes_nothing(
    server: Server, method: str, path: str, kind: str, whence: dict[str, str]
) -> None:
    sha256 = saved(server, b"other: 1\n")
    saved(server, b"newest: 1\n")
    with unchanged(server):
        headers = {"If-Match": current(server)[1], "Content-Type": kind, **whence}
        url = "/api/v1/config" + path.format(sha256=sha256)
        answer = server.http.request(method, url, content=b"a: 1\n", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_a_file_that_cannot_be_used_is_told_where_readiness_is(server: Server) -> None:
    def problem() -> Any:
        return server.http.get("/readyz").json()["config_problem"]

    assert server.http.get("/readyz").json() == {"ok": True, "degraded": [], "config_problem": None}
    good = server.config.read_bytes()
    server.config.write_bytes(b"a: !x 1\n")
    assert wait_until(problem).startswith("line 1, column 4: The tag !x")
    assert current(server)[0] == good
    server.config.write_bytes(good)
    wait_until(lambda: problem() is None)


# --- what changed ----------------------------------------------------------------------------------------------------


def test_the_changed_keys_of_two_revisions_are_told(server: Server) -> None:
    assert put(server, b"size: 1\noutput: {format: webp}\n# changes 1\n").status_code == 200
    first = newest(server)["sha256"]
    assert put(server, b"size: 2\noutput: {format: png}\n# changes 2\n").status_code == 200
    second = newest(server)["sha256"]
    answer = {"from": first, "to": second, "keys": ["size", "output.format"], "is_cut": False}
    assert server.get(f"/config/changes?from={first}&to={second}") == answer
    assert server.get(f"/config/changes?from={first}") == answer
    assert server.get(f"/config/changes?from={second}")["keys"] == []
    for query, status, code in (
        ("", 400, "bad_parameter"),
        (f"to={second}", 400, "bad_parameter"),
        (f"from={'0' * 64}", 404, "not_found"),
        (f"from={first}&to=nothing", 404, "not_found"),
    ):
        refused = server.http.get(f"/api/v1/config/changes?{query}")
        assert (refused.status_code, refused.json()["code"]) == (status, code), query
    assert server.http.delete(f"/api/v1/config/revisions/{first}").status_code == 204
    refused = server.http.get(f"/api/v1/config/changes?from={first}")
    assert (refused.status_code, refused.json()["code"]) == (410, "removed")

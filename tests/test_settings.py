"""Settings: flags before variables before defaults, unusable ones refused by name, every one documented."""

import ast
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import dropmill
from dropmill.model.caller import Role
from dropmill.model.errors import SettingsError
from dropmill.settings import GROUPS, SECRET_BYTES, Settings, environment_name, secrets_in, split_address

DOCUMENT = Path(__file__).parents[1] / "docs" / "settings.md"
SOURCES = Path(dropmill.__file__).parent
FIELDS = {field.name: field for field in dataclasses.fields(Settings)}


def load(flags: Mapping[str, Any] | None = None, **environment: str) -> Settings:
    return Settings.load(flags or {}, environment)


def default_in_words(field: "dataclasses.Field[Any]") -> str:
    if field.default is dataclasses.MISSING:
        return "CPU cores"
    if field.default is False:
        return "off"
    if field.default in (None, ()):
        return "none"
    value = ", ".join(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{value:.12g}`" if isinstance(value, float) else f"`{value}`"


def row(field: "dataclasses.Field[Any]") -> str:
    flag = f"`{field.metadata['flag']} {field.metadata['metavar']}".strip().replace("|", r"\|") + "`"
    flag = flag if field.metadata["flag"] else "none"
    default = default_in_words(field)
    return f"| {flag} | `{environment_name(field.name)}` | {default} | {field.metadata['doc']} |"


HEAD = ["| Flag | Variable | Default | Meaning |", "|---|---|---|---|"]


def test_the_document_says_what_the_code_says() -> None:
    """Each group of settings has its heading and its table in docs/settings.md, in the order of `--help`."""
    wanted = []
    for title, group in GROUPS.items():
        wanted += [f"### {title}", "", *HEAD, *map(row, group), ""]
    assert "\n".join(wanted) in DOCUMENT.read_text(), "docs/settings.md should have:\n" + "\n".join(wanted)


def test_each_setting_is_in_one_group() -> None:
    """A field outside of the groups would be missing from `--help` and from the document."""
    assert sorted(field.name for group in GROUPS.values() for field in group) == sorted(FIELDS)


def reads_of_settings(tree: ast.AST) -> set[str]:
    """The attributes that code reads of a `settings`, whoever holds it."""
    held = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return {node.attr for node in held if ast.unparse(node.value).rpartition(".")[2] in ("settings", "_settings")}


def reads_of_properties() -> dict[str, set[str]]:
    """What each property of `Settings` reads of its own object."""
    found = {}
    for module in (SOURCES / "settings").glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.FunctionDef) and isinstance(getattr(Settings, node.name, None), property):
                inner = [each for each in ast.walk(node) if isinstance(each, ast.Attribute)]
                found[node.name] = {each.attr for each in inner if ast.unparse(each.value) == "self"}
    return found


def test_something_reads_each_setting() -> None:
    """A setting, or a property made of settings, that no code outside of `settings/` reads has no effect."""
    read: set[str] = set()
    for module in SOURCES.rglob("*.py"):
        if SOURCES / "settings" not in module.parents:
            read |= reads_of_settings(ast.parse(module.read_text()))
    properties = reads_of_properties()
    for name in properties:
        read |= properties[name] if name in read else set()
    assert FIELDS.keys() | properties.keys() <= read, sorted((FIELDS.keys() | properties.keys()) - read)


def test_the_variables_of_the_clients_are_no_settings() -> None:
    assert load(DROPMILL_SERVER="http://a.example", DROPMILL_TOKEN="t") == load()


def test_only_the_concurrency_depends_on_the_machine() -> None:
    computed = [name for name, field in FIELDS.items() if field.default is dataclasses.MISSING]
    assert computed == ["concurrency"]
    assert load().concurrency == os.cpu_count()


def test_every_flag_is_named_as_its_field() -> None:
    flags = {name: field.metadata["flag"] for name, field in FIELDS.items() if not is_secret(field)}
    assert flags == {name: "--" + name.replace("_", "-") for name in flags}


def is_secret(field: "dataclasses.Field[Any]") -> bool:
    return not field.repr


def test_a_secret_is_no_flag_and_is_not_shown() -> None:
    secrets = {name for name, field in FIELDS.items() if is_secret(field)}
    assert secrets == {"webhook_secret", "oidc_client_secret", "database_url"}
    assert all(FIELDS[name].metadata["flag"] is None for name in secrets)
    settings = load(DROPMILL_WEBHOOK_SECRET="hidden", DROPMILL_ON_SETTLED="https://a.example/hook")
    assert settings.webhook_secret == "hidden"
    assert "hidden" not in repr(settings)


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    """Without the one line end that editors put behind it, and with any other blank."""
    file = tmp_path / "secret"
    for content, secret in (
        (b"hush\n", "hush"),
        (b"hush\r\n", "hush"),
        (b" h\xc3\xbc\n\n", " hü\n"),
        (b"hush", "hush"),
    ):
        file.write_bytes(content)
        settings = load(DROPMILL_WEBHOOK_SECRET_FILE=str(file), DROPMILL_WEBHOOK_SECRET="")
        assert settings.webhook_secret == secret
    assert secrets_in({"DROPMILL_WEBHOOK_SECRET_FILE": str(file)}) == []
    assert secrets_in({"DROPMILL_WEBHOOK_SECRET": "hush"}) == ["DROPMILL_WEBHOOK_SECRET"]


def test_a_secret_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path) -> None:
    """The error quotes nothing of its content."""
    file = tmp_path / "secret"
    for content in (b"", b"\n", b"hush\xff", b"x" * (SECRET_BYTES + 1)):
        file.write_bytes(content)
        with pytest.raises(SettingsError, match="DROPMILL_WEBHOOK_SECRET_FILE") as refused:
            load(DROPMILL_WEBHOOK_SECRET_FILE=str(file))
        assert "hush" not in refused.value.detail
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SettingsError, match=r"DROPMILL_WEBHOOK_SECRET_FILE .* cannot be read"):
            load(DROPMILL_WEBHOOK_SECRET_FILE=str(path))
    file.write_bytes(b"hush")
    with pytest.raises(SettingsError, match="both set"):
        load(DROPMILL_WEBHOOK_SECRET_FILE=str(file), DROPMILL_WEBHOOK_SECRET="other")
    with pytest.raises(SettingsError, match="DROPMILL_BIND_FILE"):
        load(DROPMILL_BIND_FILE=str(file))  # no secret


def test_variables_to_pass_on_have_names_of_others() -> None:
    """None of the server's own reaches a script."""
    assert load(DROPMILL_PASS_ENV="A, b_1").pass_env == ("A", "b_1")
    for name in ("DROPMILL_WEBHOOK_SECRET", "A=b", "1A", "A-B", ""):
        with pytest.raises(SettingsError, match="--pass-env"):
            load({"pass_env": [name]})
    with pytest.raises(SettingsError, match="--env"):
        load({"env": "none"})


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example",
        "a.example/hook",
        "http://",
        "https://:80/",
        "http://a.example:99999",
        "http://a b/",
        "",
        "http://[",
    ],
)
def test_the_webhook_has_a_whole_http_address(url: str) -> None:
    with pytest.raises(SettingsError, match="--on-settled"):
        load({"on_settled": url})


def test_an_allowed_origin_is_kept_as_browsers_send_it() -> None:
    given = ["HTTPS://A.Example:443/", "http://[0:0::1]:8000", "http://localhost:3000"]
    kept = ("https://a.example", "http://[::1]:8000", "http://localhost:3000")
    assert load({"allowed_origin": given}).allowed_origin == kept


def test_exit_codes_stand_between_commas() -> None:
    assert load({"retry_exit_codes": "75,111,-9"}).retry_exit_codes == (75, 111, -9)
    assert load(DROPMILL_RETRY_EXIT_CODES="75, 111").retry_exit_codes == (75, 111)
    for codes in ("0", "256", "-65", ",", "x", "1,,x"):
        with pytest.raises(SettingsError, match="--retry-exit-codes"):
            load({"retry_exit_codes": codes})


def test_the_accepted_types_stand_between_commas() -> None:
    assert load({"accept": ".CSV, image/*,.csv,,application/PDF"}).accept == (".csv", "image/*", "application/pdf")
    assert load(DROPMILL_ACCEPT=".tar.gz").accept == (".tar.gz",)


def test_without_anything_it_serves_loopback() -> None:
    settings = load()
    assert settings.bind == ("127.0.0.1:8000",)
    assert settings.is_loopback_only
    assert settings.log_path == Path("data/log/dropmill.jsonl")


def test_a_flag_beats_its_variable_which_beats_the_default() -> None:
    assert load({"grace": None}).grace == 5.0
    assert load({"grace": None}, DROPMILL_GRACE="7").grace == 7.0
    assert load({"grace": "9"}, DROPMILL_GRACE="7").grace == 9.0


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load(DROPMILL_TIMEOUT="").timeout is None


def test_a_flag_that_was_not_repeated_counts_as_not_given() -> None:
    assert load({"bind": ()}, DROPMILL_BIND="[::1]:9000").bind == ("[::1]:9000",)


def test_a_variable_holds_a_list_between_commas() -> None:
    settings = load(DROPMILL_DNS_SERVERS="127.0.0.1:5353, [::1]:5353,")
    assert settings.dns_servers == ("127.0.0.1:5353", "[::1]:5353")


def test_a_command_is_split_as_a_shell_splits_it() -> None:
    assert load({"command": "wc -c '{path}' \"two words\""}).command == ("wc", "-c", "{path}", "two words")


def test_the_log_file_may_stand_elsewhere() -> None:
    assert load({"log_file": "/var/log/drop.jsonl"}).log_path == Path("/var/log/drop.jsonl")
    assert load({"data": "/srv/drop"}).log_path == Path("/srv/drop/log/dropmill.jsonl")


def test_an_unknown_variable_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="DROPMILL_GRACES"):
        load(DROPMILL_GRACES="1")


def test_variables_of_others_are_none_of_our_business() -> None:
    assert load(PATH="/bin", dropmill_grace="x") == load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bind", ["8000"]),
        ("bind", ["localhost:"]),
        ("bind", [":8000"]),
        ("bind", ["::1:8000"]),
        ("bind", ["127.0.0.1:70000"]),
        ("bind", ["127.0.0.1:\u0668"]),
        ("data", ""),
        ("processor", ""),
        ("command", ""),
        ("command", "wc 'unclosed"),
        ("concurrency", "0"),
        ("concurrency", "two"),
        ("timeout", "0"),
        ("timeout", "-1"),
        ("timeout", "inf"),
        ("timeout", "nan"),
        ("grace", "-1"),
        ("grace", "nan"),
        ("max_attempts", "0"),
        ("idle_timeout", "0"),
        ("seal_after", "0"),
        ("auth", "maybe"),
        ("allowed_origin", ["*"]),
        ("allowed_origin", ["null"]),
        ("allowed_origin", ["a.example"]),
        ("allowed_origin", ["ftp://a.example"]),
        ("allowed_origin", ["https://a.example/page"]),
        ("allowed_origin", ["https://u@a.example"]),
        ("jwt_issuer", "issuer.example"),
        ("jwt_keys", "http://issuer.example/keys"),
        ("jwt_keys", "ftp://issuer.example/keys"),
        ("oidc_issuer", "http://id.example"),
        ("oidc_issuer", "https://id.example/?realm=main"),
        ("oidc_issuer", "https://me:secret@id.example"),
        ("oidc_issuer", "id.example"),
        ("oidc_scope", ["openid profile"]),
        ("oidc_roles", ["root=ops"]),
        ("auth_header", ""),
        ("auth_header", "Remote User"),
        ("auth_header", "Remote_User"),
        ("auth_header", "Authorization"),
        ("auth_header", "X-Forwarded-For"),
        ("auth_group", ["ops"]),
        ("auth_group", ["root=ops"]),
        ("auth_group", ["admin="]),
        ("auth_group", ["admin=a|b"]),
        ("dns_servers", ["127.0.0.1"]),
        ("title", " "),
        ("title", "two\nlines"),
        ("intro", "x" * 301),
        ("accept", ","),
        ("accept", "csv"),
        ("accept", "*/*"),
        ("accept", ".csv,image/"),
        ("accept", "text/csv; charset=utf-8"),
    ],
)
def test_an_unusable_value_is_refused_by_its_flag(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=FIELDS[name].metadata["flag"]):
        load({name: value})


def test_an_unusable_variable_is_refused_by_its_name() -> None:
    with pytest.raises(SettingsError, match="DROPMILL_CONCURRENCY 'many'"):
        load(DROPMILL_CONCURRENCY="many")


def test_a_server_runs_one_processor() -> None:
    with pytest.raises(SettingsError, match="--processor and --command"):
        load({"processor": "a:b", "command": "wc"})


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"command": "cat {path}"}, "--command"),
        ({"fresh_process": "on"}, "--fresh-process"),
        ({"memory": "1GiB"}, "--memory"),
        ({"cpu_time": "5"}, "--cpu-time"),
        ({"max_write": "1MiB"}, "--max-write"),
        ({"max_processes": "9"}, "--max-processes"),
        ({"reuse": "0"}, "--reuse"),
    ],
)
def test_what_cannot_go_with_a_reused_process_is_refused_by_name(flags: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load({"reuse": "10", **flags})


BY_HEADER = {"auth_header": "Remote-User", "trusted_proxy": ["127.0.0.1"]}
GROUPED = {"auth_groups_header": "Remote-Groups", "auth_group": ["admin=ops"]}


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"auth_header": "Remote-User"}, "--trusted-proxy"),
        (BY_HEADER | {"auth": "off"}, "--auth off"),
        (BY_HEADER | {"auth_groups_header": "Remote-Groups"}, "--auth-group"),
        (BY_HEADER | {"auth_group": ["admin=ops"]}, "--auth-groups-header"),
        (GROUPED, "--auth-header"),
    ],
)
def test_a_sign_in_by_header_that_is_set_in_part_is_refused_by_name(flags: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load(flags)


JWT = {"jwt_issuer": "https://issuer.example", "jwt_audience": "dropmill", "jwt_keys": "/etc/keys.json"}


@pytest.mark.parametrize("missing", sorted(JWT))
def test_jwts_are_checked_in_full_or_not_at_all(missing: str) -> None:
    with pytest.raises(SettingsError, match=f"--{missing.replace('_', '-')} is not set"):
        load({name: value for name, value in JWT.items() if name != missing})
    with pytest.raises(SettingsError, match="--auth off"):
        load(JWT | {"auth": "off"})
    assert load({**JWT, "auth_group": ["admin=ops"]}).auth_group == ((Role.ADMIN, "ops"),)


OIDC = {
    "oidc_issuer": "https://id.example/realms/main",
    "oidc_client_id": "drop",
    "public_url": "https://drop.example",
}


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({name: value for name, value in OIDC.items() if name != "public_url"}, "--public-url"),
        ({name: value for name, value in OIDC.items() if name != "oidc_client_id"}, "--oidc-client-id"),
        ({"oidc_client_id": "drop", "public_url": "https://drop.example"}, "--oidc-issuer"),
        ({"oidc_roles": ["admin=ops"]}, "--oidc-issuer"),
        (OIDC | {"auth": "off"}, "--auth off"),
    ],
    ids=["no public URL", "no client id", "no issuer", "roles alone", "open server"],
)
def test_a_provider_with_which_nobody_could_sign_in_is_refused_by_name(flags: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        Settings.load(flags, {})


def test_a_provider_is_set_by_variables_and_its_secret_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("geheim\n")
    found = Settings.load(
        {},
        {f"DROPMILL_{name.upper()}": value for name, value in OIDC.items()}
        | {"DROPMILL_OIDC_CLIENT_SECRET_FILE": str(tmp_path / "secret")}
        | {"DROPMILL_OIDC_ROLES": "admin=ops, operator=staff"},
    )
    assert found.oidc_roles == ((Role.ADMIN, "ops"), (Role.OPERATOR, "staff"))
    assert found.oidc_client_secret == "geheim"
    assert "geheim" in found.secrets
    assert "geheim" not in repr(found)
    assert Settings.load({**OIDC, "auth_group": ["admin=ops"]}, {}).auth_group == ((Role.ADMIN, "ops"),)


def test_groups_give_roles_as_flags_and_as_a_variable() -> None:
    roles = ((Role.ADMIN, "ops"), (Role.OPERATOR, "night shift"))
    assert load({**BY_HEADER, **GROUPED, "auth_group": ["admin=ops", "operator=night shift"]}).auth_group == roles
    given = load({**BY_HEADER, "auth_groups_header": "Groups"}, DROPMILL_AUTH_GROUP="admin=ops, operator=night shift")
    assert given.auth_group == roles


@pytest.mark.parametrize(
    ("address", "parts"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:8000", ("::1", 8000)), ("localhost:0", ("localhost", 0))],
)
def test_an_address_is_split(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize(
    ("bind", "is_loopback"),
    [
        (["127.0.0.1:8000"], True),
        (["127.8.8.8:1"], True),
        (["[::1]:8000", "localhost:8001"], True),
        (["0.0.0.0:8000"], False),
        (["[::]:8000"], False),
        (["127.0.0.1:8000", "192.0.2.1:8000"], False),
        (["drop.example:8000"], False),
    ],
)
def test_only_loopback_addresses_count_as_loopback(bind: list[str], is_loopback: bool) -> None:
    assert load({"bind": bind}).is_loopback_only is is_loopback


@pytest.mark.parametrize(
    ("flags", "environment", "said"),
    [
        ({"bind": ("127.0.0.1:0", "nowhere")}, {}, "--bind 'nowhere': must be HOST:PORT"),
        ({}, {"DROPMILL_BIND": "127.0.0.1:0, nowhere"}, "DROPMILL_BIND 'nowhere': must be HOST:PORT"),
        ({"concurrency": "two"}, {}, "--concurrency 'two': must be a whole number."),
        ({"concurrency": "9" * 5000}, {}, "must be a whole number."),
        ({"timeout": "soon"}, {}, "--timeout 'soon': must be a number."),
        ({"config_tags": "maybe"}, {}, "--config-tags 'maybe': must be refuse or keep."),
    ],
)
def test_point_17_an_error_shows_the_value_that_is_wrong(
    flags: dict[str, Any], environment: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(flags, environment)
    assert said in caught.value.detail
    assert not any(word in caught.value.detail for word in ("('", "literal", "convert"))

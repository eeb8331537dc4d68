"""Application tags that are kept, and keys that Python takes for one: what scripts get, and that nothing is lost."""

import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.support.fakes.config_ledger import FakeLedger, location_of
from tests.support.scenarios import CALLER

from dropmill.configfile import file_sync
from dropmill.configfile.parser import ParserProcess
from dropmill.configfile.revisions import ConfigFile
from dropmill.configfile.schema.schema import Schema
from dropmill.configfile.yaml.document import examine
from dropmill.configfile.yaml.edits import apply, parse_patch
from dropmill.configfile.yaml.form import fields_of
from dropmill.model.errors import ConfigEditRefused, ConfigInvalid
from dropmill.slot.config import load_config

TAGGED = """\
# kept
password: !secret db_password # from the vault
shared: !include common.yaml
vault: !vault |
  $ANSIBLE_VAULT;1.1;AES256
  6238
hook: !!python/name:os.system
object: !!python/object/apply:os.system ["false"]
port: !ENV ${PORT}
number: !int 0123
no: !x no
list: !Join
  - a
  - !Ref b
flow: !Sub [x, !GetAtt y.z]
map: !Map
  a: 1
  !key b: 2
anchored: &one !secret shared
behind: !secret &two other
again: [*one, *two]
empty: !reset
bytes: !!binary aGVsbG8=
set: !!set {a, b}
date: !!timestamp 2026-01-02
plain: 1
"""
VALUES: dict[str, Any] = {
    "password": "db_password",
    "shared": "common.yaml",
    "vault": "$ANSIBLE_VAULT;1.1;AES256\n6238\n",
    "hook": "",
    "object": ["false"],
    "port": "${PORT}",
    "number": "0123",
    "no": "no",
    "list": ["a", "b"],
    "flow": ["x", "y.z"],
    "map": {"a": 1, "b": 2},
    "anchored": "shared",
    "behind": "other",
    "again": ["shared", "other"],
    "empty": "",
    "bytes": "aGVsbG8=",
    "set": {"a": None, "b": None},
    "date": datetime.date(2026, 1, 2),
    "plain": 1,
}
TEXTS = {
    TAGGED: VALUES,
    "%TAG !e! tag:example.com,2026:\n---\na: !e!x 1\nb: !<tag:y> {c: 2}\n": {"a": "1", "b": {"c": 2}},
    "!root\na: 1\n": {"a": 1},
    "a: !x\n  <<: !include b.yaml\n  c: 1\n": {"a": {"<<": "b.yaml", "c": 1}},
    "a: &a !x {b: !y 1}\nc: {<<: *a, d: 2}\n": {"a": {"b": "1"}, "c": {"b": "1", "d": 2}},
    "%TAG !! tag:example.com,2026:\n---\na: !!int 1\n": {"a": "1"},
}


def both(text: str, tmp_path: Path, *, keeps_tags: bool = True) -> dict[Any, Any]:
    """What the check makes of a text, which must be what a script is given."""
    document = examine(text.encode(), keeps_tags=keeps_tags)
    assert document.report.errors == ()
    path = tmp_path / "attempt.yaml"
    path.write_text(text)
    loaded = load_config(str(path))
    assert repr(loaded) == repr(document.values)
    return loaded


@pytest.mark.parametrize("text", TEXTS)
def test_point_15_what_a_tag_stands_beside_is_given_as_plain_data(text: str, tmp_path: Path) -> None:
    assert both(text, tmp_path) == TEXTS[text]
    assert type(both(text, tmp_path)) is dict


@pytest.mark.parametrize("text", TEXTS)
def test_point_15_without_the_setting_such_tags_are_refused(text: str) -> None:
    (first, *_) = examine(text.encode()).report.errors
    assert "--config-tags keep" in first.message or "directive %TAG" in first.message


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: !x 1\na: 2\n", "twice"),
        ("!x a: 1\na: 2\n", "twice"),
        ("a: !!int [1]\n", "does not fit a list"),
        ("a: !!int b\n", "is not a whole number"),
        ("a: !e!x 1\n", "handle !e! is not declared"),
        ("!x [1]\n", "must be a mapping"),
        ("!x a\n", "must be a mapping"),
        ("? !x [a]\n: 1\n", "cannot be a key"),
        ("a: {<<: [!x b]}\n", "'<<' merges mappings"),
        ("%FOO x\n---\na: 1\n", "directive %FOO"),
        ("a: &a !x [*a]\n", "refers to a value that contains it"),
    ],
)
def test_point_15_what_is_refused_stays_refused_when_tags_are_kept(text: str, word: str) -> None:
    assert word in examine(text.encode(), keeps_tags=True).report.errors[0].message


def test_point_15_the_form_names_the_tag_as_it_is_written_and_edits_nothing_there() -> None:
    fields, _ = fields_of(examine(TAGGED.encode(), keeps_tags=True), None)
    by_path = {field.path: field for field in fields}
    tags = {path: field.tag for path, field in by_path.items() if field.tag is not None}
    assert tags["/password"] == "!secret"
    assert tags["/hook"] == "!!python/name:os.system"
    assert tags["/list"] == "!Join"
    assert tags["/list/1"] == "!Ref"
    assert tags["/empty"] == "!reset"
    assert by_path["/password"].value == "db_password"
    assert by_path["/password"].refusal == "tagged"
    assert by_path["/empty"].refusal == "tagged"
    assert (by_path["/plain"].tag, by_path["/plain"].refusal) == (None, None)
    assert by_path["/date"].tag is None


@pytest.mark.parametrize("path", ["/password", "/vault", "/hook", "/empty", "/list/1", "/flow/1", "/number"])
def test_point_15_a_tagged_value_is_not_edited(path: str) -> None:
    document = examine(TAGGED.encode(), keeps_tags=True)
    with pytest.raises(ConfigEditRefused) as caught:
        apply(document, parse_patch([{"op": "replace", "path": path, "value": "new"}]))
    assert caught.value.extra == {"reason": "tagged", "path": path}


@pytest.mark.parametrize(
    ("operation", "old", "new"),
    [
        ({"op": "replace", "path": "/plain", "value": 2}, "plain: 1\n", "plain: 2\n"),
        ({"op": "add", "path": "/list/-", "value": "c"}, "  - !Ref b\n", "  - !Ref b\n  - c\n"),
        ({"op": "replace", "path": "/map/a", "value": 3}, "  a: 1\n", "  a: 3\n"),
        ({"op": "remove", "path": "/password"}, "password: !secret db_password # from the vault\n", ""),
    ],
)
def test_point_15_edits_beside_tags_change_their_node_alone(operation: dict[str, Any], old: str, new: str) -> None:
    edited = apply(examine(TAGGED.encode(), keeps_tags=True), parse_patch([operation]))
    assert edited.document.text == TAGGED.replace(old, new, 1)
    assert edited.document.report.is_valid


def test_point_15_a_schema_sees_the_plain_value() -> None:
    schema = Schema.parse(b'{"properties": {"password": {"type": "string"}, "number": {"type": "integer"}}}')
    (error,) = schema.add_findings(examine(TAGGED.encode(), keeps_tags=True)).errors
    assert error.path == "/number"


@pytest_asyncio.fixture
async def config(tmp_path: Path) -> AsyncIterator[ConfigFile]:
    path = tmp_path / "config.yaml"
    path.write_text("a: 1\n")
    parser = ParserProcess(keeps_tags=True)
    opened = ConfigFile(location_of(path), FakeLedger(), parser, aside=tmp_path / "aside")
    await opened.open()
    yield opened
    await parser.close()


async def test_point_15_saves_edits_and_restores_take_tags(config: ConfigFile) -> None:
    first = file_sync.sha256_of(b"a: 1\n")
    saved = await config.save(CALLER, TAGGED.encode(), first, None)
    assert config.path.read_text() == TAGGED
    operations = parse_patch([{"op": "replace", "path": "/plain", "value": 2}])
    revision, _ = await config.edit(CALLER, operations, saved.sha256, None)
    assert config.path.read_text() == TAGGED.replace("plain: 1", "plain: 2")
    restored = await config.restore(CALLER, saved.sha256, revision.sha256, None)
    assert restored.sha256 == saved.sha256
    form = await config.form(CALLER, TAGGED.encode(), ())
    assert {field["tag"] for field in form.fields} >= {"!secret", "!vault", None}


# --- keys that Python takes for one ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1: a\ntrue: b\n", {1: "a", "true": "b"}),
        ("true: a\n1: b\n0: c\nfalse: d\n", {True: "a", "1": "b", 0: "c", "false": "d"}),
        ("1: a\n1.0: b\n", {1: "a", "1.0": "b"}),
        ('1: a\n"1": b\n', {1: "a", "1": "b"}),
        ("1: a\n1.0: b\ntrue: c\n", {1: "a", "1.0": "b", "true": "c"}),
        ("x: {1: a, true: b}\n", {"x": {1: "a", "true": "b"}}),
    ],
)
def test_point_17_keys_that_differ_in_yaml_are_no_duplicates_and_no_value_is_lost(
    text: str, values: dict[Any, Any], tmp_path: Path
) -> None:
    found = both(text, tmp_path, keeps_tags=False)
    assert repr(found) == repr(values)
    is_one_to_python = '"1"' not in text
    assert any("Python takes both for one" in each.message for each in examine(text.encode()).report.warnings) is (
        is_one_to_python
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("1: a\n0x1: b\n", "The key '0x1' appears twice; first on line 1"),
        ("true: a\nTrue: b\n", "twice"),
        ('1: a\ntrue: b\n"true": c\n', "twice"),
        ("a: &a {1: x}\nb: {<<: *a, true: y}\n", "equal in Python"),
        ("a: &a {1: x}\nc: &c {1.0: x}\nb: {<<: [*a, *c]}\n", "equal in Python"),
    ],
)
def test_point_17_a_value_that_would_be_lost_is_refused(text: str, word: str) -> None:
    (error,) = examine(text.encode()).report.errors
    assert word in error.message


def test_point_17_merging_says_nothing_twice() -> None:
    report = examine(b"a: &a {010: x, 2: y}\nb: {<<: *a, 3: z}\n").report
    assert report.is_valid
    assert [finding.path for finding in report.warnings] == ["/a/010"]


def test_point_17_such_a_key_is_edited_by_its_text() -> None:
    document = examine(b"1: a\ntrue: b\n")
    edited = apply(document, parse_patch([{"op": "replace", "path": "/true", "value": "c"}]))
    assert edited.document.text == "1: a\ntrue: c\n"
    assert edited.document.values == {1: "a", "true": "c"}


def test_point_15_the_default_keeps_tags_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid):
        apply(examine(TAGGED.encode()), ())

"""Which values differ between two accepted documents, by their keys.

The values count, not their spelling: comments, quotes, `0x10` for `16` and the order of keys change nothing. A list is
compared as a whole.
"""

import json
import re
from collections.abc import Iterator
from typing import Final

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from dropmill.configfile.yaml.document import Document
from dropmill.configfile.yaml.findings import plain, shown
from dropmill.configfile.yaml.nodes import kind_of, members_of, value_of

KEYS_MAX: Final = 100  # of an answer; nobody reads more

_BARE: Final = re.compile(r"[^\s.\"]+")


def changed_keys(before: Document, after: Document) -> tuple[list[str], bool]:
    """The keys whose values differ, such as `output.format`: those of `after` in its order, then those that are gone.

    A key that has a dot, a blank or a quote in it is in quotes, as in JSON.

    Returns:
        At most `KEYS_MAX` of them, and whether there are more.
    """
    found: list[str] = []
    for path in _changes((before, before.root), (after, after.root), ()):
        if len(found) == KEYS_MAX:
            return found, True
        found.append(plain(".".join(map(_written, path))))
    return found, False


def _written(key: str) -> str:
    key = shown(key)
    return key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)


_Place = tuple[Document, Node | None]
"""A node and its document, which knows the application tags. No node: an empty document, which is a mapping."""


def _changes(before: _Place, after: _Place, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not (_is_mapping(before) and _is_mapping(after) and _tag(before) == _tag(after)):
        if not _are_same(before, after):
            yield path
        return
    olds, news = _members(before), _members(after)
    for key, node in news.items():
        if key not in olds:
            yield (*path, key[1])
        else:
            yield from _changes((before[0], olds[key]), (after[0], node), (*path, key[1]))
    yield from ((*path, key[1]) for key in olds if key not in news)


def _is_mapping(place: _Place) -> bool:
    return place[1] is None or isinstance(place[1], MappingNode)


def _tag(place: _Place) -> str | None:
    """The application tag of a node; None if it has none."""
    return place[0].tags.get(id(place[1]))


def _members(place: _Place) -> dict[tuple[str, str], Node]:
    """The members of a mapping by the kind and text of their keys: `1` and `"1"` are two."""
    document, node = place
    if not isinstance(node, MappingNode):
        return {}
    return {(document.tags.get(id(key)) or str(key.tag), key.value): value for key, value in members_of(node)}


def _are_same(before: _Place, after: _Place) -> bool:
    old, new = before[1], after[1]
    if _tag(before) != _tag(after) or old is None or new is None or kind_of(old) != kind_of(new):
        return False
    if isinstance(old, ScalarNode) and isinstance(new, ScalarNode):
        return repr(value_of(old)) == repr(value_of(new))  # NaN is no change of NaN
    if isinstance(old, MappingNode):
        return next(_changes(before, after, ()), None) is None
    return len(old.value) == len(new.value) and all(
        _are_same((before[0], one), (after[0], other)) for one, other in zip(old.value, new.value, strict=True)
    )

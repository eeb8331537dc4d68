"""The config of an attempt as plain data.

ruamel.yaml is imported inside the function, and nowhere else in the slot: most slots never need it.
"""

from __future__ import annotations

from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:  # each import makes the slot larger, and every fork of it slower
    from typing import Any


def load_config(path: str) -> dict[Any, Any]:
    """The config file as plain data.

    A value with an application tag, which only a server that keeps tags accepts, becomes text, a list or a mapping: no
    tag constructs an object. Where Python takes several keys for the same one (`1` and `true`), all but the first
    become text.

    Raises:
        OSError: the file cannot be read.
        Exception: it cannot be parsed; beside its own errors ruamel.yaml raises RecursionError, KeyError, ValueError.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import SafeConstructor
    from ruamel.yaml.nodes import MappingNode, ScalarNode

    core = "tag:yaml.org,2002:"
    names = ("null", "bool", "int", "float", "str", "timestamp", "seq", "map")

    def plain(constructor: Any, node: Any) -> Any:
        if isinstance(node, ScalarNode):
            return node.value
        is_mapping = isinstance(node, MappingNode)
        return constructor.construct_yaml_map(node) if is_mapping else constructor.construct_yaml_seq(node)

    class Plain(SafeConstructor):
        def flatten_mapping(self, node: Any) -> None:
            numbers: dict[str, Callable[[Any], float]] = {
                "bool": self.construct_yaml_bool,
                "int": self.construct_yaml_int,
                "float": self.construct_yaml_float,
            }
            found = set()
            for key, value in node.value:
                kind = str(key.tag).removeprefix(core)
                if kind == "merge" and isinstance(value, ScalarNode):
                    key.tag = f"{core}str"
                elif kind in numbers:
                    number = numbers[kind](key)
                    key.tag = f"{core}str" if number in found else key.tag
                    found.add(number)
            super().flatten_mapping(node)

    Plain.yaml_constructors = {core + name: SafeConstructor.yaml_constructors[core + name] for name in names}
    Plain.yaml_constructors[None] = plain
    yaml = YAML(typ="safe", pure=True)  # YAML 1.2; the loader written in C would read `no` as False
    yaml.Constructor = Plain
    yaml.composer.warn_double_anchors = False  # an anchor may be defined again (YAML 1.2.2, section 7.1)
    with open(path, "rb") as file:
        loaded = yaml.load(file.read())
    return loaded if loaded is not None else {}

"""Turns the errors of a JSON Schema validator into sentences for people who never heard of JSON Schema.

For example `quality.png must be a whole number from 0 to 9, not 'many'`. The place of an error in the text is found by
`schema`.
"""

import difflib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dropmill.configfile.yaml.nodes import Path

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

_LONGEST_VALUE: Final = 40  # characters of a value that a sentence quotes
_LONGEST_NAME: Final = 100
_MOST_CHOICES: Final = 12  # values of an enum that a sentence lists
_MOST_NAMES: Final = 1_000  # names compared with an unknown one

_PLAIN_NAME: Final = re.compile(r"[\w-]+")
_TYPES: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "empty (null)",
    "array": "a list",
    "object": "a mapping (key: value)",
}
_FORMATS: Final = {
    "email": "an e-mail address",
    "idn-email": "an e-mail address",
    "ipv4": "an IPv4 address",
    "ipv6": "an IPv6 address",
    "date": "a date such as 2026-12-31",
    "time": "a time such as 13:30:00Z",
    "date-time": "a date and time such as 2026-12-31T13:30:00Z",
    "duration": "a duration such as PT15M",
    "hostname": "a host name",
    "idn-hostname": "a host name",
    "uri": "a web address (URI)",
    "uuid": "a UUID",
    "regex": "a regular expression",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Complaint:
    """One thing that is wrong.

    Attributes:
        path: from the root to the value, or to the mapping that has `key`.
        key: the name in that mapping which should not be there; None if the value itself is wrong.
        is_of_whole: whether it is about a list or mapping as a whole, so that its key is the place to show.
        message: a sentence without its full stop.
    """

    path: Path
    message: str
    key: str | None = None
    is_of_whole: bool = False


def complaints(error: "ValidationError", values: Any, is_hidden: Callable[[Path], bool]) -> Iterator[Complaint]:
    """The complaints of one error of the validator: one for each unknown or missing key, else a single one.

    Args:
        error: of the whole config.
        values: the config, as the validator got it.
        is_hidden: whether the value at a place is secret; secret values are not quoted.
    """
    error = _most_telling(error)
    path: Path = tuple(error.absolute_path)
    value = error.instance
    schema = error.schema if isinstance(error.schema, Mapping) else {}
    is_shown = not (is_secret(schema) or is_hidden(path))
    for part in path:
        values = values[part]
    if isinstance(values, dict) and isinstance(value, str):  # `propertyNames`: the instance is a key of the mapping
        message = f"The name of {name_of((*path, value))} {_demand(error, schema, is_shown)}"
        yield Complaint(path=path, key=value, message=message)
    elif error.validator in ("required", "dependentRequired", "dependencies"):
        for message in _missing(path, error):
            yield Complaint(path=path, message=message, is_of_whole=True)
    elif error.validator in ("additionalProperties", "unevaluatedProperties"):
        known = [str(name) for name in schema.get("properties", {})]
        for key in _unknown(error, schema):
            message = f"{name_of((*path, key))} is not a known setting{_alike(key, known)}"
            yield Complaint(path=path, key=key, message=message)
    else:
        message = f"{name_of(path)} {_demand(error, schema, is_shown)}"
        yield Complaint(path=path, message=message, is_of_whole=isinstance(value, dict | list))


def name_of(path: Path) -> str:
    """A place as people write it, `quality.sizes[2]`; `The config` for the root."""
    name = ""
    for part in path:
        if isinstance(part, int):
            name += f"[{part}]"
        else:
            name += "." * bool(name) + (part if _PLAIN_NAME.fullmatch(part) else f"'{part}'")
    if len(name) > _LONGEST_NAME:
        name = "…" + name[-_LONGEST_NAME:]
    return name or "The config"


def is_secret(schema: Mapping[str, Any]) -> bool:
    """Whether a schema marks its values as secret: pages do not show them, sentences do not quote them."""
    return schema.get("writeOnly") is True or schema.get("format") == "password"


def _most_telling(error: "ValidationError") -> "ValidationError":
    if not error.context:
        return error
    from jsonschema.exceptions import best_match

    return best_match([error]) or error


def _missing(path: Path, error: "ValidationError") -> Iterator[str]:
    value: Any = error.instance
    wanted: Any = error.validator_value
    if isinstance(wanted, list):
        # The validator has one error for each missing name; only its message says which name.
        for name in wanted:
            if name not in value and error.message.startswith(repr(name)):
                yield f"{name_of((*path, name))} is missing"
    else:
        for trigger, names in wanted.items():
            for name in names if isinstance(names, list) else []:
                if error.message == f"{name!r} is a dependency of {trigger!r}":
                    yield f"{name_of((*path, name))} is missing: it goes with {name_of((*path, trigger))}"


def _unknown(error: "ValidationError", schema: Mapping[str, Any]) -> Iterator[str]:
    keys: Any = error.instance
    for key in keys:
        if error.validator == "unevaluatedProperties":
            # Only the validator knows which keys other keywords evaluated, and only its message says so.
            if repr(key) in error.message:
                yield key
        elif key not in schema.get("properties", {}) and not any(
            re.search(pattern, key) for pattern in schema.get("patternProperties", {})
        ):
            yield key


def _alike(name: str, known: list[str]) -> str:
    names = {each.casefold(): each for each in known[:_MOST_NAMES] if len(each) <= _LONGEST_NAME}
    alike = difflib.get_close_matches(name[:_LONGEST_NAME].casefold(), names, n=1)
    return f"; did you mean '{names[alike[0]]}'?" if alike else ""


def _demand(error: "ValidationError", schema: Mapping[str, Any], is_shown: bool) -> str:
    """What a value must be or have; begins with a verb."""
    value: Any = error.instance
    wanted: Any = error.validator_value
    but_is = f", not {_quoted(value)}" if is_shown else ""
    it_is = f" (it is {_quoted(value)})" if is_shown else ""
    match error.validator:
        case None:  # the schema `false`
            return "is not allowed here"
        case "not" if wanted == {}:
            return "is not allowed here"
        case "enum":
            choices = [each for each in wanted if isinstance(each, str)]
            alike = _alike(value, choices) if is_shown and isinstance(value, str) else ""
            return f"must be {_expected(schema, 'enum')}{alike or it_is}"
        case "type" | "const" | "format" | "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            if error.validator == "type" and isinstance(value, str):
                but_is = but_is.replace("not '", "not the text '", 1)
            return f"must be {_expected(schema, error.validator) or 'something else'}{but_is}"
        case "multipleOf" | "divisibleBy":
            return f"must be a multiple of {_quoted(wanted)}{but_is}"
        case "minLength":
            return "must not be empty" if wanted == 1 else f"must have at least {wanted} characters"
        case "maxLength":
            return f"must have at most {_counted(wanted, 'character', 'characters')}"
        case "pattern":
            return f"must match the pattern {_cut(str(wanted))}{but_is}"
        case "minItems":
            return f"must have at least {_counted(wanted, 'entry', 'entries')}"
        case "maxItems":
            return f"must have at most {_counted(wanted, 'entry', 'entries')}"
        case "items" | "additionalItems" | "unevaluatedItems":
            return "has more entries than are allowed"
        case "uniqueItems":
            return "must not hold the same entry twice"
        case "contains" | "minContains":
            return "has too few entries of the kind that it must hold"
        case "maxContains":
            return "has too many entries of the kind that it must hold"
        case "minProperties":
            return f"must have at least {_counted(wanted, 'key', 'keys')}"
        case "maxProperties":
            return f"must have at most {_counted(wanted, 'key', 'keys')}"
        case "anyOf" | "oneOf":
            if not error.context:
                return "fits more than one of the forms it may have; it must fit exactly one"
            return _alternatives(error, it_is)
        case "not":
            return f"must not be what it is here{it_is}"
        case other:
            return f"does not fit what the schema says under '{_cut(str(other))}'"


def _alternatives(error: "ValidationError", it_is: str) -> str:
    """What the branches of an anyOf or oneOf want, if each of them can be said briefly."""
    wants: dict[str, None] = {}
    branches: set[Any] = set()
    for inner in error.context or ():
        branch = (
            inner.relative_schema_path[0] if inner.relative_schema_path else None
        )  # None: `false`, which no value fits
        if branch is None or branch in branches:
            continue
        branches.add(branch)
        schema = inner.schema if isinstance(inner.schema, Mapping) else {}
        expected = None if inner.relative_path else _expected(schema, str(inner.validator))
        if expected is None or is_secret(schema):
            return "has none of the forms it may have"
        wants[expected] = None
    return f"must be {' or '.join(wants)}{it_is}" if wants else "is not allowed here"


def _expected(schema: Mapping[str, Any], keyword: str | None) -> str | None:
    """What a schema asks for, as a noun; None if it cannot be said briefly."""
    if keyword == "const" or (keyword == "enum" and len(schema["enum"]) == 1):
        return _quoted(schema["const"] if keyword == "const" else schema["enum"][0])
    if keyword == "enum":
        choices = [_quoted(each, quotes="") for each in schema["enum"]]
        more = ", …" if len(choices) > _MOST_CHOICES else ""
        return f"one of: {', '.join(choices[:_MOST_CHOICES])}{more}"
    if keyword == "format":
        name = str(schema["format"])
        return _FORMATS.get(name, f"of the format '{_cut(name)}'")
    if keyword not in ("type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        return None
    types = schema.get("type")
    types = [types] if isinstance(types, str) else types if isinstance(types, list) else []
    if keyword != "type":  # a bound was crossed: it is a number
        types = [each for each in types if each in ("integer", "number")] or ["number"]
    names = [_TYPES.get(str(each), str(each)) + _bounds(str(each), schema) for each in types]
    return " or ".join(names) or None


def _bounds(type_name: str, schema: Mapping[str, Any]) -> str:
    if type_name not in ("integer", "number"):
        return ""
    least, most = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if above is True:  # draft 4: a mark on `minimum`
        least, above = None, least
    if below is True:
        most, below = None, most
    if least is not None and most is not None:
        return f" from {_quoted(least)} to {_quoted(most)}"
    low = [f"of at least {_quoted(least)}"] if least is not None else []
    low += [f"above {_quoted(above)}"] if above is not None and above is not False else []
    high = [f"at most {_quoted(most)}" if low else f"of at most {_quoted(most)}"] if most is not None else []
    high += [f"below {_quoted(below)}"] if below is not None and below is not False else []
    return "".join(f" {words}" for words in [" and ".join(low + high)] if words)


def _quoted(value: Any, quotes: str = "'") -> str:
    """A value, short enough for a sentence."""
    match value:
        case str():
            return f"{quotes}{_cut(value)}{quotes}" if value else "the empty text"
        case bool():
            return "true" if value else "false"
        case None:
            return "empty (null)"
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case float() if math.isnan(value):
            return ".nan"
        case float() if math.isinf(value):
            return ".inf" if value > 0 else "-.inf"
        case _:
            return _cut(json.dumps(value))


def _cut(text: str) -> str:
    text = text.replace("\n", " ")
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _counted(number: Any, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"

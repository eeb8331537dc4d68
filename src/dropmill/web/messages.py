"""The texts that people read on the pages, in each language: `catalogue/<language>/<area>.json`.

A message is named `area.key`. It is a text, or a choice by a number:

- `"Drop files here"`, `"Sent by {client}"`: a text, with values in braces.
- `{"one": "{n} file", "other": "{n} files"}`: chosen by the value `n` and the plural rules of the language (CLDR).
- `{"ordinal": {"one": "{n}st", ..., "other": "{n}th"}}`: chosen by the rules for ordinal numbers.

`static/js/core/messages.js` reads the same catalogue by the same rules; a page embeds the areas that it needs. English
is complete; a test compares the other languages with it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from babel import Locale
from babel.numbers import format_decimal
from markupsafe import Markup, escape

Message = str | Mapping[str, Any]

LANGUAGES = ("en", "de")
"""Language codes (ISO 639-1) with a catalogue; the first is used where nobody asked for another one."""

COOKIE = "dropmill_language"
"""The cookie that holds the language which a person has chosen on a page."""

_CATALOGUE = Path(__file__).parent / "catalogue"
_VALUE = re.compile(r"\{(\w+)\}")


@cache
def area(language: str, name: str) -> Mapping[str, Message]:
    """All messages of one area, by key.

    Args:
        language: one of `LANGUAGES`.
        name: the area, such as `core`.

    Raises:
        FileNotFoundError: there is no such area.
    """
    found: Mapping[str, Message] = json.loads((_CATALOGUE / language / f"{name}.json").read_bytes())
    return found


def translate(language: str, name: str, /, **values: object) -> Markup:
    """A message as HTML text, in which each value is escaped unless it is `Markup`; whole numbers get separators.

    Args:
        language: one of `LANGUAGES`.
        name: `area.key`.
        values: what stands in braces. The number `n` chooses the plural form.

    Raises:
        KeyError: there is no such message, or it needs another value.
    """
    where, _, key = name.partition(".")
    text = _form(language, area(language, where)[key], values)
    # Alternating: text, name of a value, text, ...
    pieces = _VALUE.split(text)
    return Markup("").join(
        _shown(language, values[piece]) if at % 2 else escape(piece) for at, piece in enumerate(pieces)
    )


def has(name: str) -> bool:
    """Whether there is a message `area.key`."""
    where, _, key = name.partition(".")
    return key in area(LANGUAGES[0], where)


def embedded(language: str, areas: Sequence[str]) -> Mapping[str, object]:
    """The messages of some areas, as the scripts of a page read them."""
    return {"language": language, "areas": {name: area(language, name) for name in areas}}


def choose(chosen: str | None, accepted: str | None) -> str:
    """The language of a page.

    Args:
        chosen: what the person has chosen; None, or a language without a catalogue, lets the browser decide.
        accepted: the best of `LANGUAGES` by the browser's Accept-Language; None if it names none of them.
    """
    return chosen if chosen in LANGUAGES else accepted or LANGUAGES[0]


def _form(language: str, message: Message, values: Mapping[str, Any]) -> str:
    if isinstance(message, str):
        return message
    locale = Locale(language)
    if "ordinal" in message:
        return _of(message["ordinal"], locale.ordinal_form(values["n"]))
    return _of(message, locale.plural_form(values["n"]))


def _of(forms: Mapping[str, Any], form: str) -> str:
    found: str = forms.get(form, forms["other"])
    return found


def number(language: str, value: float) -> str:
    """A number with the separators of a language."""
    return format_decimal(value, locale=language)


def _shown(language: str, value: object) -> Markup:
    if isinstance(value, bool) or not isinstance(value, int):
        return escape(value)
    return escape(number(language, value))

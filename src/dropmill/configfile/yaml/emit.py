"""Writes values as YAML: in one line, as a block of lines, as new members of a block collection.

It writes text without quotes only if readers of YAML 1.2 and of YAML 1.1 read the same text. `locate` finds the place
of a text and what surrounds it. Nothing here reads YAML: `edits` proves the result by reading the whole document again.
"""

import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.resolver import VersionedResolver

Quotes = Literal["'", '"'] | None

# Without tab, line ends, U+0085, U+2028, U+2029 (line ends to ruamel) and U+FEFF, which need escapes.
_SHOWN: Final = r"\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff"
_IN_ONE_LINE: Final = re.compile(f"[{_SHOWN}]*")
_IN_LINES: Final = re.compile(f"[{_SHOWN}\t\n]*")
_TO_ESCAPE: Final = re.compile(f'[^{_SHOWN}]|[\\\\"]')
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"}
_NOT_PLAIN: Final = re.compile(r"---|\.\.\.|[,\[\]{}#&*!|>'\"%@`]|[-?:](?:[ ,\[\]{}]|$)|.*(?::(?: |$)| #)")
_NOT_PLAIN_IN_FLOW: Final = re.compile(r"[?:]|.*(?:[,\[\]{}]|:$)")
_BREAK: Final = re.compile(r"(?<=[^ \t]) (?=[^ \t])")
_RESOLVERS: Final = (VersionedResolver((1, 2)), VersionedResolver((1, 1)))
_WIDTH: Final = 60  # the least width at which folded text is broken, however short the old lines were


def is_date(text: str) -> bool:
    """Whether text without quotes is a date or time to YAML; the day need not exist."""
    is_date = str(_RESOLVERS[0].resolve(ScalarNode, text, (True, False))).endswith(":timestamp")
    return is_date and not text.endswith("\n")


def can_be_plain(text: str, *, in_flow: bool) -> bool:
    """Whether text without quotes is the same text to every reader."""
    return (
        text == text.strip()
        and _IN_ONE_LINE.fullmatch(text) is not None
        and _NOT_PLAIN.match(text) is None
        and not (in_flow and _NOT_PLAIN_IN_FLOW.match(text))
        and all(str(each.resolve(ScalarNode, text, (True, False))).endswith(":str") for each in _RESOLVERS)
    )


def in_one_line(value: Any, *, quotes: Quotes, in_flow: bool) -> str:
    """A scalar, or an empty collection, written in one line.

    Args:
        value: JSON: str, int, float, bool, None, {} or [].
        quotes: those preferred around text; None prefers none. Text that they cannot hold gets double quotes.
        in_flow: whether the place is within brackets or braces.
    """
    if isinstance(value, str):
        if quotes is None and can_be_plain(value, in_flow=in_flow):
            return value
        if quotes != '"' and _IN_ONE_LINE.fullmatch(value) is not None:
            return "'" + value.replace("'", "''") + "'"
        return '"' + _TO_ESCAPE.sub(_escape, value) + '"'
    if isinstance(value, float):
        digits, _, exponent = repr(value).partition("e")
        if exponent and "." not in digits:
            digits += ".0"  # 1e+16 is text to readers of YAML 1.1
        return digits + ("e" + exponent if exponent else "")
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    if char in _ESCAPES:
        return _ESCAPES[char]
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def literal_lines(text: str) -> list[str] | None:
    """The lines of a literal block scalar (`|`) without the line ends at its end; None if it cannot be one."""
    body = text.rstrip("\n")
    if not body or body.lstrip("\n")[0] in " \t" or _IN_LINES.fullmatch(text) is None:
        return None
    return body.split("\n")


def folded_lines(text: str, width: int) -> list[str] | None:
    """The lines of a folded block scalar (`>`), broken at `width` where words end; None if it cannot be one."""
    lines = literal_lines(text)
    if lines is None or not lines[0] or any(line != line.strip(" \t") for line in lines):
        return None
    folded: list[str] = []
    for line in lines:
        if line and folded:
            folded.append("")  # folding removes one of the line ends between two lines of text
        folded += _broken(line, max(width, _WIDTH))
    return folded


def _broken(line: str, width: int) -> list[str]:
    first, *words = _BREAK.split(line)
    lines = [first]
    for word in words:
        if len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How a document lays out its block collections.

    Attributes:
        mapping_step: columns that a mapping within a mapping is indented by.
        sequence_step: columns that a sequence within a mapping is indented by; may be 0.
    """

    mapping_step: int = 2
    sequence_step: int = 2


def member_lines(head: str, value: Any, *, column: int, quotes: Quotes, layout: Layout) -> list[str]:
    """The lines of a new member of a block collection, without line ends.

    Args:
        head: what precedes the value: a written key with its colon, or a dash; spaces after a dash are kept.
        value: JSON.
        column: of the head, from 0.
        quotes: as for `in_one_line`.
        layout: of the document.
    """
    indent = " " * column
    is_item = head.startswith("-")
    if not value or not isinstance(value, dict | list):
        blocks = literal_lines(value) if isinstance(value, str) and "\n" in value.rstrip("\n") else None
        if blocks is not None and not value.endswith("\n\n"):
            deeper = indent + " " * layout.mapping_step
            mark = "|" if value.endswith("\n") else "|-"
            return [f"{indent}{_open(head)}{mark}", *(deeper + line if line else "" for line in blocks)]
        return [indent + _open(head) + in_one_line(value, quotes=quotes, in_flow=False)]
    if is_item:
        inner = column + len(_open(head))
    else:
        inner = column + (layout.mapping_step if isinstance(value, dict) else layout.sequence_step)
    lines: list[str] = []
    if isinstance(value, dict):
        for key, member in value.items():
            name = in_one_line(key, quotes=None, in_flow=False) + ":"
            lines += member_lines(name, member, column=inner, quotes=quotes, layout=layout)
    else:
        for item in value:
            lines += member_lines("-", item, column=inner, quotes=quotes, layout=layout)
    if is_item:
        return [indent + _open(head) + lines[0].lstrip(" "), *lines[1:]]
    return [indent + head, *lines]


def _open(head: str) -> str:
    return head if head.endswith(" ") else head + " "

"""Value edits: JSON Patch on a config's text, changing the bytes of the edited nodes alone."""

from dataclasses import dataclass
from typing import Any, Literal

from dropmill.configfile.document import Document


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One operation of a JSON Patch (RFC 6902), parsed.

    Attributes:
        path: the tokens of its JSON pointer, unescaped; () is the whole document.
        value: of `test`, `replace` and `add`: JSON; None for null, and for `remove`.
    """

    kind: Literal["test", "replace", "add", "remove"]
    path: tuple[str, ...]
    value: Any = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Edited:
    """The document after an edit.

    Attributes:
        document: of the new text; its report is valid.
        removed_comments: comments that went away with what was removed, each from its `#` on, in the order of the text.
    """

    document: Document
    removed_comments: tuple[str, ...]

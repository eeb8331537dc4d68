"""What declares one setting: its flag, its parser, its default and its documentation."""

from collections.abc import Callable
from dataclasses import field
from typing import Any


def setting(
    flag: str | None,
    parse: Callable[[str], Any],
    default: Any,
    doc: str,
    *,
    metavar: str,
    many: bool = False,
    is_secret: bool = False,
) -> Any:
    """A dataclass field with its documentation as metadata.

    Args:
        flag: of the command line; None for a setting that is a variable alone.
        parse: one of `dropmill.settings.values`.
        default: the value when neither flag nor variable is given; a function is called for it.
        doc: what `dropmill serve --help` and docs/settings.md print.
        metavar: the value's placeholder; "" for a flag without a value.
        many: whether the flag may be repeated; the value is a tuple then.
        is_secret: whether `repr` hides it and a file may hold it.
    """
    metadata = {"flag": flag, "parse": parse, "doc": doc, "metavar": metavar, "many": many, "is_secret": is_secret}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata, repr=not is_secret)

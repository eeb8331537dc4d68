"""Pages by a key that rises, and what may be asked of a list."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select

from dropmill.engines.sql.clients import Row
from dropmill.model.errors import BadParameter
from dropmill.model.ids import Owner
from dropmill.model.numbers import whole_number


def page_key(text: str | None) -> int | None:
    """Where a page begins; None: at the newest.

    Raises:
        BadParameter: no page gave this key.
    """
    if text is None:
        return None
    key = whole_number(text)
    if key is None:
        raise BadParameter("`before` must be the `next` of the page before.")
    return key


def page_of(found: Sequence[Row], limit: int, key: str = "seq") -> tuple[Sequence[Row], str | None]:
    """Cut what was read with one row more than the page holds; returns it with the key of the next page."""
    if len(found) <= limit:
        return found, None
    return found[:limit], str(found[limit - 1][key])


def one_of(text: str | None, choices: Sequence[str]) -> str | None:
    """A state that was asked for; None if none was.

    Raises:
        BadParameter: there is no such state.
    """
    if text is not None and text not in choices:
        raise BadParameter(f"`state` must be one of {', '.join(choices)}.")
    return text


def seen_by(query: Select[Any], owner: ColumnElement[Any], visible_to: Owner | None) -> Select[Any]:
    """What a query finds, as far as it is `visible_to` somebody; None: all of it."""
    return query if visible_to is None else query.where(owner == visible_to)

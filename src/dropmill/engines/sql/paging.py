"""Pages of lists by a rising key, and the parameters of lists."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, false, select

from dropmill.engines.sql.clients import Row
from dropmill.engines.sql.tables import jobs, submissions
from dropmill.model.errors import BadParameter
from dropmill.model.ids import Owner
from dropmill.model.links import link_in, only_in
from dropmill.model.numbers import whole_number


def page_key(text: str | None, name: str = "before", of: str = "next") -> int | None:
    """The key at which a page begins, given as the parameter `name`; None: at the newest.

    Raises:
        BadParameter: it is no key.
    """
    if text is None:
        return None
    key = whole_number(text)
    if key is None:
        raise BadParameter(f"`{name}` must be the `{of}` of another page.", reason="not_a_page")
    return key


def page_of(found: Sequence[Row], limit: int, key: str = "seq") -> tuple[Sequence[Row], str | None]:
    """Cut rows, read with one more than the page holds, to the page; returns them and the key of the next page."""
    if len(found) <= limit:
        return found, None
    return found[:limit], str(found[limit - 1][key])


def one_of(text: str | None, choices: Sequence[str]) -> str | None:
    """The requested state, checked; None if none was requested.

    Raises:
        BadParameter: it is none of `choices`.
    """
    if text is not None and text not in choices:
        raise BadParameter(f"`state` must be one of {', '.join(choices)}.", reason="not_a_choice")
    return text


def seen_by(query: Select[Any], owner: Column[Any], visible_to: Owner | None) -> Select[Any]:
    """The query, restricted to rows that `visible_to` sees; None: not restricted."""
    return query if visible_to is None else query.where(is_seen(owner, visible_to))


def is_seen(owner: Column[Any], visible_to: Owner) -> ColumnElement[bool]:
    """Whether somebody sees a row: its owner, or, of submissions and jobs, who follows a link to it.

    Args:
        owner: the column of the table.
        visible_to: who.
    """
    if link_in(visible_to) is not None:
        is_it = submissions.c.sender == visible_to
    elif (one := only_in(visible_to)) is not None:
        is_it = submissions.c.id == one
    else:
        return owner == visible_to
    if owner.table is submissions:
        return is_it
    if owner.table is jobs:
        return jobs.c.submission_id.in_(select(submissions.c.id).where(is_it))
    return false()


def sees(visible_to: Owner | None, submission: Row) -> bool:
    """Whether somebody sees a submission's row; None: whoever sees everything."""
    if visible_to is None:
        return True
    if link_in(visible_to) is not None:
        return bool(submission["sender"] == visible_to)
    if (one := only_in(visible_to)) is not None:
        return bool(submission["id"] == one)
    return bool(submission["owner"] == visible_to)

"""Query parameters: each is given at most once and well-formed, else the answer is 400."""

from quart import request

from dropmill.model.errors import BadParameter
from dropmill.model.numbers import whole_number

LIMIT_DEFAULT = 50
LIMIT_MAX = 1000
TEXT_MAX = 200
QUERY_MAX = 8 * 1024  # bytes of a whole query; the library needs time for each parameter in it


def text(name: str, most: int = TEXT_MAX) -> str | None:
    """A text of at most so many characters; None if absent or empty.

    Raises:
        BadParameter: it is given twice, or too long.
    """
    if len(request.query_string) > QUERY_MAX:
        raise BadParameter(f"The query is longer than {QUERY_MAX} bytes.")
    values = request.args.getlist(name)
    if len(values) > 1:
        raise BadParameter(f"`{name}` is given more than once.", reason="repeated")
    if values and len(values[0]) > most:
        raise BadParameter(f"`{name}` is longer than {most} characters.", reason="too_long", limit=most)
    return values[0] if values and values[0] else None


def texts(name: str, *, most: int) -> list[str]:
    """Short texts of a parameter that may be repeated.

    Raises:
        BadParameter: there are more than `most`, or one is empty or too long.
    """
    if len(request.query_string) > QUERY_MAX:
        raise BadParameter(f"The query is longer than {QUERY_MAX} bytes.")
    values = request.args.getlist(name)
    if len(values) > most:
        raise BadParameter(f"`{name}` is given more than {most} times.")
    if not all(0 < len(value) <= TEXT_MAX for value in values):
        raise BadParameter(f"`{name}` must have 1 to {TEXT_MAX} characters.")
    return values


def number(name: str) -> int | None:
    """A whole number, 0 or more; None if absent.

    Raises:
        BadParameter: it is not one, or given twice.
    """
    value = text(name)
    if value is None:
        return None
    found = whole_number(value)
    if found is None:
        raise BadParameter(f"`{name}` must be a whole number, 0 or more.")
    return found


def limit() -> int:
    """How many items a list may have; more than `LIMIT_MAX` counts as `LIMIT_MAX`.

    Raises:
        BadParameter: it is 0, or not a whole number.
    """
    value = number("limit")
    if value is None:
        return LIMIT_DEFAULT
    if value == 0:
        raise BadParameter("`limit` must be at least 1.")
    return min(value, LIMIT_MAX)

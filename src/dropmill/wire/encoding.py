"""JSON as text: compact ASCII out; in, only what says each thing once."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

Json = dict[str, Any]
"""Any JSON object."""


def dumps(message: Mapping[str, Any]) -> str:
    """A JSON object on one line, in ASCII, without blanks."""
    return json.dumps(message, separators=(",", ":"))


def loads_unique(text: str) -> Any:
    """JSON in which no object has a key twice.

    Raises:
        ValueError, RecursionError: it is not.
    """
    return json.loads(text, object_pairs_hook=_unique)


def loads_strict(text: bytes) -> Any:
    """JSON as RFC 8259 defines it, with no key twice, no NaN, and no number that overflows a float.

    Raises:
        ValueError, RecursionError: it is not.
    """
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)


def _unique(pairs: Sequence[tuple[str, Any]]) -> Json:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("an object has a key twice")
    return made


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is too large")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")

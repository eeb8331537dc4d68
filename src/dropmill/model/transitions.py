"""The rule for every change of state."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from dropmill.model.errors import IllegalTransition

_State = TypeVar("_State", bound=StrEnum)


def require_transition(table: Mapping[_State, frozenset[_State]], now: _State, then: _State, what: str) -> None:
    """Return if `now` may become `then`, else raise.

    Raises:
        IllegalTransition: naming `what`, the state it is in and the one that was asked for.
    """
    if then not in table[now]:
        raise IllegalTransition(f"The {what} is {now}; it cannot become {then}.")

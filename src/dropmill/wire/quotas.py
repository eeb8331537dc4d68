"""Quotas as clients get them, and changes of limits as they send them."""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, TypedDict

from dropmill.model.errors import BadRequest
from dropmill.model.quotas import ACCOUNT_LIMITS, COUNT_MAX, LimitChange, Quota

NONE: Final = "none"
_LEAST: Final = {"storage": 0}  # of nothing else there may be none at all


class UsageJson(TypedDict):
    """What an owner has; `storage` in bytes."""

    storage: int
    submissions_a_day: int
    open_submissions: int
    running: int


class LimitsJson(TypedDict):
    """What an owner may have at most; null: no limit."""

    storage: int | None
    submissions_a_day: int | None
    open_submissions: int | None
    running: int | None
    sockets: int | None


class QuotaJson(TypedDict):
    """An owner's quota."""

    limits: LimitsJson
    usage: UsageJson


OwnLimitsJson: TypeAlias = dict[str, int | Literal["none"]]
"""The limits that an account has instead of the server's."""


def quota_json(quota: Quota) -> QuotaJson:
    """A quota."""
    limits, usage = quota.limits, quota.usage
    return {
        "limits": {
            "storage": limits.storage,
            "submissions_a_day": limits.submissions_a_day,
            "open_submissions": limits.open_submissions,
            "running": limits.running,
            "sockets": limits.sockets,
        },
        "usage": {
            "storage": usage.storage,
            "submissions_a_day": usage.submissions_a_day,
            "open_submissions": usage.open_submissions,
            "running": usage.running,
        },
    }


def own_limits_json(quota: Quota) -> OwnLimitsJson:
    """The limits that an account has of its own."""
    return {name: "none" if most is None else most for name, most in quota.own.items() if name in ACCOUNT_LIMITS}


def limit_change_of(given: object) -> LimitChange:
    """A change of an account's limits: a number sets one, `"none"` lifts it, null takes the server's again.

    Raises:
        BadRequest: it has another form.
    """
    if not isinstance(given, Mapping):
        raise BadRequest("`limits` must be an object.")
    own: dict[str, int | None] = {}
    dropped: set[str] = set()
    for name, most in given.items():
        if name not in ACCOUNT_LIMITS:
            raise BadRequest(f"`limits` has no {name!r}; it may have {', '.join(ACCOUNT_LIMITS)}.")
        if most is None:
            dropped.add(name)
        elif most == NONE:
            own[name] = None
        else:
            own[name] = _number(name, most)
    return LimitChange(own=own, dropped=frozenset(dropped))


def _number(name: str, given: Any) -> int:
    least = _LEAST.get(name, 1)
    if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= COUNT_MAX:
        raise BadRequest(f'`limits.{name}` must be a whole number from {least} on, "none" or null.')
    return given

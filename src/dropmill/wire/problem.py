"""Errors as problem documents (RFC 9457)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dropmill.wire.encoding import Json

MEDIA_TYPE = "application/problem+json"


def problem_json(status: int, title: str, detail: str, code: str, extra: Mapping[str, Any]) -> Json:
    """An error; the members of `extra` follow the common ones."""
    return {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code, **extra}


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteProblem:
    """An error as the server's answer describes it.

    Attributes:
        code: stable, for programs.
        sentence: for a person.
    """

    code: str
    sentence: str


def remote_problem(problem: Mapping[str, Any]) -> RemoteProblem:
    """The error that `problem_json` described; somebody else's document has a code of "None"."""
    return RemoteProblem(code=str(problem.get("code")), sentence=str(problem.get("detail") or problem.get("title")))

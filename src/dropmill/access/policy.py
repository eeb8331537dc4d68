"""Who may do what: one table, and the questions that everybody asks of it. Nothing here reads or remembers anything.

A right has two halves. *What* somebody may do follows from role and scopes: `Policy`. *Whose* things somebody sees
follows from the owner: `visible_to`, which every read and change hands to the ledger, so that what belongs to others is
not found there. `dropmill.web.routes` says which action each route is, `dropmill.live` which each command of a socket
and each topic is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from dropmill.model.caller import Authentication, Caller, Role, Scope
from dropmill.model.errors import Forbidden
from dropmill.model.ids import Owner
from dropmill.model.internal import AnyCaller, Internal


class Action(StrEnum):
    """What a caller may want to do."""

    SEND = "send"
    """Open, fill and seal a submission, and continue its uploads."""

    READ = "read"
    """See submissions, files, events and notices."""

    READ_RESULTS = "read_results"
    """See what becomes of files: jobs with their output and results. Some links show only that files have arrived."""

    CONTROL = "control"
    """Cancel jobs, and queue them again."""

    FOLLOW_ALL = "follow_all"
    """Hear of everything that happens, whoever sent it."""

    SEE_SERVER = "see_server"
    """See how the server is set up and what is wrong with it: the script's name, the config file's state."""

    POST_NOTICE = "post_notice"

    READ_CONFIG = "read_config"
    """See the config and its history."""

    SEE_AUTHORS = "see_authors"
    """See who saved the config, and from where."""

    CHANGE_CONFIG = "change_config"
    """Save, restore and purge the config, and have texts checked, which takes long."""

    MANAGE_SIGN_INS = "manage_sign_ins"
    """See and end one's own sessions, make and revoke one's own tokens, set one's own password."""

    MAKE_LINKS = "make_links"
    """Let people without an account send files, or look at a submission; see such links, and revoke them."""

    ADMINISTER = "administer"
    """Add, change and remove accounts."""

    READ_AUDIT = "read_audit"
    """See what people did to the server, and what they were refused, with their addresses."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What an action needs.

    Attributes:
        role: the least.
        scope: that the credential must have.
        is_about_own: whether it is about things that have an owner; those of others need `operator`.
        is_about_all: whether it shows the things of everybody at once, so only to who sees all of them.
    """

    role: Role
    scope: Scope
    is_about_own: bool = False
    is_about_all: bool = False


RULES: Final[Mapping[Action, Rule]] = {
    Action.SEND: Rule(role=Role.VIEWER, scope=Scope.SEND, is_about_own=True),
    Action.READ: Rule(role=Role.VIEWER, scope=Scope.READ, is_about_own=True),
    Action.READ_RESULTS: Rule(role=Role.VIEWER, scope=Scope.READ, is_about_own=True),
    Action.CONTROL: Rule(role=Role.VIEWER, scope=Scope.SEND, is_about_own=True),
    Action.FOLLOW_ALL: Rule(role=Role.OPERATOR, scope=Scope.READ, is_about_all=True),
    Action.SEE_SERVER: Rule(role=Role.OPERATOR, scope=Scope.READ),
    Action.POST_NOTICE: Rule(role=Role.OPERATOR, scope=Scope.ADMIN),
    Action.READ_CONFIG: Rule(role=Role.OPERATOR, scope=Scope.CONFIG),
    Action.SEE_AUTHORS: Rule(role=Role.OPERATOR, scope=Scope.CONFIG),
    Action.CHANGE_CONFIG: Rule(role=Role.ADMIN, scope=Scope.CONFIG),
    Action.MANAGE_SIGN_INS: Rule(role=Role.VIEWER, scope=Scope.ADMIN),
    Action.MAKE_LINKS: Rule(role=Role.OPERATOR, scope=Scope.ADMIN, is_about_own=True),
    Action.ADMINISTER: Rule(role=Role.ADMIN, scope=Scope.ADMIN),
    Action.READ_AUDIT: Rule(role=Role.ADMIN, scope=Scope.ADMIN, is_about_all=True),
}

FOR_VISITORS: Final = frozenset({Action.SEND, Action.READ, Action.READ_RESULTS})
"""What somebody may do at most who has followed a link, whatever the rules say of viewers."""

_RANK: Final[Mapping[Role, int]] = {role: rank for rank, role in enumerate(Role)}


class Policy:
    """What callers may do on one server."""

    def __init__(self, *, is_config_readable: bool = False) -> None:
        """Take over the rules.

        Args:
            is_config_readable: whether viewers may read the config, too (`--config-readable`).
        """
        self._rules = dict(RULES)
        if is_config_readable:
            self._rules[Action.READ_CONFIG] = replace(RULES[Action.READ_CONFIG], role=Role.VIEWER, scope=Scope.READ)

    def may(self, caller: Caller, action: Action, owner: Owner | None = None) -> bool:
        """Whether a caller may do something.

        Args:
            caller: who.
            action: what.
            owner: of what it is done to; None: whoever that is, because the ledger will look.
        """
        rule = self._rules[action]
        if caller.link is not None and action not in FOR_VISITORS:
            return False
        if action is Action.READ_RESULTS and not caller.sees_results:
            return False
        if _RANK[caller.role] < _RANK[rule.role] or rule.scope not in caller.scopes:
            return False
        if rule.is_about_all:
            return visible_to(caller) is None
        return owner is None or not rule.is_about_own or visible_to(caller) in (None, owner)

    def require(self, caller: Caller, action: Action) -> None:
        """Return if a caller may do something, to things of their own at least.

        Raises:
            Forbidden: the role or the scopes do not suffice; the sentence says which.
        """
        if self.may(caller, action):
            return
        rule = self._rules[action]
        if caller.link is not None:
            raise Forbidden("The link is not for this.")
        if _RANK[caller.role] < _RANK[rule.role]:
            raise Forbidden(f"This needs the role {rule.role.value}; your account is {caller.role.value}.")
        if rule.scope not in caller.scopes:
            raise Forbidden(f"This needs a credential with the scope {rule.scope.value}.")
        raise Forbidden("This shows what others have sent; you may see your own.")


def may_read_audit(caller: Caller) -> bool:
    """Whether a caller sees what others did with their accounts, whatever else it sees of them."""
    return Policy().may(caller, Action.READ_AUDIT)  # no setting changes this rule


def visible_to(caller: AnyCaller) -> Owner | None:
    """The owner whose things a caller may see and change; None: everybody's.

    Those of all owners are seen by operators, and by everybody on an open server; but there, a browser that is known by
    its cookie (`--private`) is alone with its own.
    """
    if isinstance(caller, Internal):
        return None
    is_known_by_cookie = caller.authentication is Authentication.NONE and caller.browser is not None
    sees_all = _RANK[caller.role] >= _RANK[Role.OPERATOR] and not is_known_by_cookie
    return None if sees_all else caller.owner

"""Which action each route is: the guard lets nobody in without looking here, and nothing that is not here is served.

A key is a method and an endpoint; `HEAD` counts as `GET` where there is one, and a socket's method is `SOCKET`. What
`OPTIONS` says of a route by itself, and addresses without a route, are no entries: see `access_of`.
"""

from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import Any, Final, TypeAlias

from quart import Request, Websocket
from werkzeug.routing import Rule

from dropmill.access.policy import Action


class Open(Enum):
    """Access that is no action."""

    TO_ALL = auto()
    """Nobody has to sign in."""

    TO_CALLERS = auto()
    """Whoever has signed in; everybody, where nobody has to."""


Access: TypeAlias = Action | Open

ROUTES: Final[Mapping[str, Access]] = {
    "GET pages.drop": Open.TO_CALLERS,
    "GET pages.sign_in": Open.TO_ALL,
    "POST pages.sign_in": Open.TO_ALL,
    "GET pages.sign_in_with_provider": Open.TO_ALL,
    "GET pages.back_from_provider": Open.TO_ALL,
    "GET pages.account": Action.MANAGE_SIGN_INS,
    "GET pages.people": Action.ADMINISTER,
    "GET pages.audit": Action.READ_AUDIT,
    "GET pages.links": Action.MAKE_LINKS,
    "GET pages.history": Action.READ,
    "GET pages.submissions": Action.READ,
    "GET pages.submission": Action.READ,
    "GET pages.job": Action.READ,
    "GET pages.config": Action.READ_CONFIG,
    "GET pages.styleguide": Open.TO_CALLERS,
    "GET link_pages.home": Open.TO_ALL,
    "GET link_pages.door": Open.TO_ALL,
    "POST link_pages.door": Open.TO_ALL,
    "GET link_pages.submission": Action.READ,
    "POST invitations.enter": Open.TO_ALL,
    "GET invitations.read": Action.READ,
    "POST submissions.create": Action.SEND,
    "POST submissions.add_files": Action.SEND,
    "POST submissions.seal": Action.SEND,
    "POST submissions.retry": Action.CONTROL,
    "POST submissions.cancel": Action.CONTROL,
    "GET submissions.index": Action.READ,
    "GET submissions.read": Action.READ,
    "GET submissions.files": Action.READ,
    "PUT send.put": Action.SEND,
    "PUT send.put_without_name": Action.SEND,
    "OPTIONS uploads.options": Open.TO_ALL,
    "POST uploads.create": Action.SEND,
    "HEAD uploads.head": Action.SEND,
    "PATCH uploads.append": Action.SEND,
    "DELETE uploads.terminate": Action.SEND,
    "POST uploads.override": Action.SEND,
    "GET jobs.index": Action.READ,
    "GET jobs.read": Action.READ_RESULTS,
    "GET jobs.output": Action.READ_RESULTS,
    "POST jobs.cancel": Action.CONTROL,
    "POST jobs.retry": Action.CONTROL,
    "GET downloads.result": Action.READ_RESULTS,
    "GET downloads.content": Action.READ_RESULTS,
    "GET downloads.archive": Action.READ_RESULTS,
    "GET history.read": Action.READ,
    "GET log.lines": Action.READ,
    "GET log.audit": Action.READ_AUDIT,
    "GET events.read_events": Action.READ,
    "SOCKET live.socket": Action.READ,
    "GET live.poll_by_query": Action.READ,
    "POST live.poll": Action.READ,
    "POST live.presence": Action.CHANGE_CONFIG,
    "POST notices.post": Action.POST_NOTICE,
    "DELETE notices.withdraw": Action.POST_NOTICE,
    "GET notices.standing": Action.READ,
    "GET config.read": Action.READ_CONFIG,
    "GET config.schema": Action.READ_CONFIG,
    "GET config.changes": Action.READ_CONFIG,
    "GET config.revisions": Action.READ_CONFIG,
    "GET config.revision_text": Action.READ_CONFIG,
    "PUT config.save": Action.CHANGE_CONFIG,
    "PATCH config.edit": Action.CHANGE_CONFIG,
    "POST config.check": Action.CHANGE_CONFIG,
    "POST config.form": Action.CHANGE_CONFIG,
    "POST config.restore": Action.CHANGE_CONFIG,
    "DELETE config.purge": Action.CHANGE_CONFIG,
    "POST sessions.sign_in": Open.TO_ALL,
    "GET sessions.who": Open.TO_CALLERS,
    "GET quotas.own": Open.TO_CALLERS,
    "DELETE sessions.sign_out": Open.TO_CALLERS,
    "PUT sessions.change_password": Action.MANAGE_SIGN_INS,
    "GET sessions.index": Action.MANAGE_SIGN_INS,
    "DELETE sessions.end": Action.MANAGE_SIGN_INS,
    "GET tokens.index": Action.MANAGE_SIGN_INS,
    "POST tokens.make": Action.MANAGE_SIGN_INS,
    "DELETE tokens.revoke": Action.MANAGE_SIGN_INS,
    "GET links.index": Action.MAKE_LINKS,
    "POST links.make": Action.MAKE_LINKS,
    "DELETE links.revoke": Action.MAKE_LINKS,
    "GET accounts.index": Action.ADMINISTER,
    "POST accounts.add": Action.ADMINISTER,
    "PATCH accounts.change": Action.ADMINISTER,
    "DELETE accounts.remove": Action.ADMINISTER,
    "GET ops.healthz": Open.TO_ALL,
    "GET ops.readyz": Open.TO_ALL,
    "GET static": Open.TO_ALL,
    "GET static_files.built": Open.TO_ALL,
}

BELOW_LINKS_ALONE: Final = frozenset(
    {
        *("GET link_pages.home", "GET link_pages.door", "POST link_pages.door", "GET link_pages.submission"),
        *("POST invitations.enter", "GET invitations.read"),
    }
)
"""What there is below a link, and nowhere else."""

BELOW_LINKS: Final = BELOW_LINKS_ALONE | {
    *("POST submissions.create", "POST submissions.add_files", "POST submissions.seal"),
    *("GET submissions.index", "GET submissions.read", "GET submissions.files"),
    *("OPTIONS uploads.options", "POST uploads.create", "POST uploads.override"),
    *("HEAD uploads.head", "PATCH uploads.append", "DELETE uploads.terminate"),
    *("GET jobs.read", "GET jobs.output"),
    *("GET downloads.result", "GET downloads.content", "GET downloads.archive"),
    *("GET static", "GET static_files.built"),
    *("GET events.read_events", "SOCKET live.socket", "GET live.poll_by_query", "POST live.poll"),
}
"""What there is below a link. All other routes are none there, whatever their action."""

PREFLIGHT = "Access-Control-Request-Method"  # a browser asks whether a page of another origin may send a request

_API = ("/api/v1", "/send")


def require_complete(rules: Iterable[Rule], routes: Mapping[str, Access] = ROUTES) -> None:
    """Return if every route has its entry.

    Raises:
        AssertionError: one has none, so it would be unclear who may use it.
    """
    missing = {key for rule in rules for key in keys_of(rule)} - routes.keys()
    if missing:
        raise AssertionError(f"dropmill.web.routes does not say who may use {', '.join(sorted(missing))}")


def keys_of(rule: Any) -> Iterable[str]:
    """The keys of a route's methods, without the `OPTIONS` that Quart adds."""
    if rule.websocket:
        return {f"SOCKET {rule.endpoint}"}
    methods = set(rule.methods or ())
    if getattr(rule, "provide_automatic_options", False):
        methods.discard("OPTIONS")
    if "GET" in methods:
        methods.discard("HEAD")
    return {f"{method} {rule.endpoint}" for method in methods}


def is_api(path: str) -> bool:
    """Whether a path is for programs; the others are for people, probes and browsers that show a page."""
    return any(f"{path}/".startswith(f"{prefix}/") for prefix in _API)


def name_of(connection: Request | Websocket) -> str | None:
    """The route of a request or a socket as the audit names it; None where there is none, or a path of no route."""
    if connection.url_rule is None:
        return None
    return f"{'SOCKET' if isinstance(connection, Websocket) else connection.method} {connection.url_rule.endpoint}"


def route_of(connection: Request | Websocket) -> str | None:
    """The key in `ROUTES` of a request or a socket; None for a path of no route."""
    name, rule = name_of(connection), connection.url_rule
    if name is not None and rule is not None and name.startswith("HEAD ") and "GET" in (rule.methods or ()):
        return f"GET {rule.endpoint}"
    return name


def is_there(connection: Request | Websocket, *, below_link: bool) -> bool:
    """Whether there is a route at this address: below a link there are others than elsewhere."""
    key = _key_of(connection)
    return key is not None and (key in BELOW_LINKS if below_link else key not in BELOW_LINKS_ALONE)


def access_without_route(connection: Request | Websocket) -> Open:
    """Who may hear that there is nothing here: whoever may not use the API does not learn which addresses it has."""
    return Open.TO_CALLERS if is_api(connection.path) else Open.TO_ALL


def _key_of(connection: Request | Websocket) -> str | None:
    rule: Any = connection.url_rule
    if rule is None:
        return None
    method = "SOCKET" if isinstance(connection, Websocket) else connection.method
    return f"GET {rule.endpoint}" if method == "HEAD" and "GET" in rule.methods else f"{method} {rule.endpoint}"


def access_of(connection: Request | Websocket, routes: Mapping[str, Access] = ROUTES) -> Access:
    """Who may send this request, or open this socket.

    Raises:
        AssertionError: its route has no entry.
    """
    rule: Any = connection.url_rule
    method = "SOCKET" if isinstance(connection, Websocket) else connection.method
    if method == "OPTIONS" and PREFLIGHT in connection.headers:
        return Open.TO_ALL
    if (key := _key_of(connection)) is None:
        return access_without_route(connection)
    found = routes.get(key)
    if found is not None:
        return found
    if method == "OPTIONS":
        return Open.TO_CALLERS
    raise AssertionError(f"dropmill.web.routes does not say who may use {method} {rule.endpoint}")

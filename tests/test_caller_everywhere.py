"""Every operation and every read says who asks; what handlers reach says so first, and the ledger is out of reach."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import dropmill.web
from dropmill.access.accounts import Accounts
from dropmill.access.links import Links
from dropmill.access.oidc import Oidc
from dropmill.access.policy import Policy
from dropmill.access.quotas import Quotas
from dropmill.access.sessions import Sessions
from dropmill.access.tokens import Tokens
from dropmill.configfile.revisions import ConfigFile
from dropmill.intake.resumable import Uploads
from dropmill.intake.submissions import Intake
from dropmill.live.notices import Notices
from dropmill.live.subscriber import Subscriber
from dropmill.live.topics import Topics
from dropmill.live.views import Views
from dropmill.model.caller import Caller
from dropmill.model.internal import AnyCaller
from dropmill.processing.jobs import Jobs
from dropmill.upkeep.event_log import EventLog
from dropmill.web.services import Services

NO_OPERATIONS = {
    "settings": "what the person decided who started the server",
    "processor": "the script's name, and how it is started",
    "blobs": "bytes by a key, known only from a record that was read for a caller",
    "resolver": "DNS",
    "live": "what subscribers share; the feed follows only what `Topics` lets a caller into",
    "health": "which parts of the server fail now",
    "sign_ins": "find out who a caller is",
    "oidc": "signs in with an identity provider; who that is is not known yet",
    "visits": "find out who a caller is that has entered a link",
    "refusals": "count who was refused",
    "is_open": "a flag",
    "is_draining": "a flag",
    "membership": "says whether this process still has its lease",
    "closers": "end sockets and polls when the server stops",
}
"""Members of `Services` that are no capability, and what they are instead."""

WORK_OF_ITS_OWN = "the server's own work"
MEMORY_ONLY = "a number in memory; `Views` asks for files that it has read for a caller"
FOR_UPLOADS = "for `Uploads`, whose operations have taken the caller"

WITHOUT_CALLER = {
    "Intake.recover": WORK_OF_ITS_OWN,
    "Intake.run": WORK_OF_ITS_OWN,
    "Intake.sweep": WORK_OF_ITS_OWN,
    "Intake.seal_stale": WORK_OF_ITS_OWN,
    "Intake.expect_leftovers": WORK_OF_ITS_OWN,
    "Intake.drain": WORK_OF_ITS_OWN,
    "Intake.received": MEMORY_ONLY,
    "Intake.require_running": FOR_UPLOADS,
    "Intake.identify": FOR_UPLOADS,
    "Intake.store": FOR_UPLOADS,
    "Uploads.recover": WORK_OF_ITS_OWN,
    "Uploads.run": WORK_OF_ITS_OWN,
    "Uploads.drain": WORK_OF_ITS_OWN,
    "Uploads.received": MEMORY_ONLY,
    "ConfigFile.open": WORK_OF_ITS_OWN,
    "ConfigFile.watch": WORK_OF_ITS_OWN,
    "EventLog.open": WORK_OF_ITS_OWN,
    "EventLog.run": WORK_OF_ITS_OWN,
    "EventLog.flush": WORK_OF_ITS_OWN,
    "EventLog.make_durable": WORK_OF_ITS_OWN,
    "Topics.of_ledger": "the same for all callers",
    "Topics.require_answer": "tells nothing but that the ledger can be read, to probes that nobody signs in for",
    "Jobs.wake": "a hint; the ledger decides what may run",
    "Sessions.sign_in": "who signs in is not known yet",
    "Sessions.sign_in_first": "who signs in is not known yet",
    "Sessions.sign_in_vouched": "who signs in is not known yet",
    "Sessions.offer_first": "for the terminal, at the start",
    "Sessions.offers_first": "the same for all callers",
    "Links.live": "tells nothing but that there is a link, to who knows its id",
    "Links.opened_by": "who shows the secret is not known yet",
    "Links.enter": "who enters is not known yet",
    "Subscriber.run": "of one caller, whom its constructor takes",
    "Subscriber.handle": "of one caller, whom its constructor takes",
    "Subscriber.interject": "of one caller, whom its constructor takes",
    "Subscriber.greet": "of one caller, whom its constructor takes",
    "Subscriber.close": "of one caller, whom its constructor takes",
    "Subscriber.progress_seen": "of one caller, whom its constructor takes",
}
"""Public functions of capabilities that take no caller, and why."""

CAPABILITIES = (
    *(Policy, Intake, Uploads, Jobs, ConfigFile, Views, Topics, Notices, EventLog),
    *(Accounts, Sessions, Tokens, Quotas, Links),
)
PORTS_IN_WEB = {"BlobStore", "Inflow"}  # where bytes are stored, and what they may be taken from


def public_functions(capability: type) -> Iterator[tuple[str, Any]]:
    """Everything on a class that may be called or read from outside, with the name it has in the list above."""
    for name, member in vars(capability).items():
        if not name.startswith("_"):
            found = member.fget if isinstance(member, property) else inspect.unwrap(getattr(capability, name))
            if inspect.isfunction(found):
                yield f"{capability.__name__}.{name}", found


def takes_caller_first(function: Any) -> bool:
    parameters = list(inspect.signature(function).parameters)
    return parameters[1:2] == ["caller"] and get_type_hints(function)["caller"] in (Caller, AnyCaller)


OPERATIONS = [
    pytest.param(name, function, id=name)
    for capability in (*CAPABILITIES, Subscriber)
    for name, function in public_functions(capability)
]


@pytest.mark.parametrize(("name", "function"), OPERATIONS)
def test_an_operation_takes_the_caller_first_unless_it_is_an_exception(name: str, function: Any) -> None:
    assert takes_caller_first(function) != (name in WITHOUT_CALLER)


def test_a_subscriber_is_of_one_caller() -> None:
    assert takes_caller_first(Subscriber.__init__)


def test_every_exception_is_still_there() -> None:
    names = {name for capability in (*CAPABILITIES, Subscriber) for name, _ in public_functions(capability)}
    assert WITHOUT_CALLER.keys() <= names


def test_all_that_handlers_reach_is_a_capability_or_has_no_operations() -> None:
    """A capability that is added to the services is looked at here."""
    hints = get_type_hints(Services, localns={"Oidc": Oidc})
    members = {name: kind for name, kind in hints.items() if name not in NO_OPERATIONS}
    assert set(members.values()) == set(CAPABILITIES)
    assert NO_OPERATIONS.keys() <= hints.keys()


def test_only_one_module_of_web_makes_callers() -> None:
    makers = {
        path.name
        for path, tree in modules()
        for node in ast.walk(tree)
        if name(node) == "everyone" or (isinstance(node, ast.Call) and name(node.func) == "Caller")
    }
    assert makers == {"caller.py"}


def test_web_does_not_touch_the_ledger_nor_any_port_but_the_store_of_bytes() -> None:
    touched = {
        f"{path.name}:{node.lineno}"
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name | ast.keyword)
        and (name(node) or "").lower().lstrip("_").startswith("ledger")
    }
    imported = {
        f"{module}.{alias.name}".removeprefix(".")
        for _, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module in [node.module or "" if isinstance(node, ast.ImportFrom) else ""]
        for alias in node.names
    }
    ports = {found.rpartition(".")[2] for found in imported if f"{found}.".startswith("dropmill.ports.")}
    assert (touched, ports) == (set(), PORTS_IN_WEB)


def modules() -> Iterator[tuple[Path, ast.Module]]:
    """The modules of `dropmill.web`, parsed."""
    for path in sorted(Path(dropmill.web.__file__ or "").parent.rglob("*.py")):
        yield path, ast.parse(path.read_bytes())


def name(node: ast.AST) -> str | None:
    """What a node of a name, an attribute or a keyword argument is called."""
    match node:
        case ast.Name(id=text) | ast.Attribute(attr=text) | ast.keyword(arg=text):
            return text
    return None

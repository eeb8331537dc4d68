"""Who asks: found once, before any handler runs, of a request and of a socket in the same way."""

import ipaddress

import httpx
from quart import Blueprint, Quart, websocket
from tests.support.serving_in_process import served
from websockets.asyncio.client import connect

from dropmill.model.caller import Authentication, Caller, Role
from dropmill.model.client import ClientIdentity
from dropmill.settings import Settings
from dropmill.web.routes import Open
from dropmill.web.server import connection, forwarding, guard
from dropmill.web.server.caller import caller_if_known, current_caller
from dropmill.web.services import EXTENSION

HEADERS = {"X-Forwarded-For": "203.0.113.5, 192.0.2.7", "User-Agent": "curl/8\t(x)"}
CLIENT = ClientIdentity(ip="192.0.2.7", user_agent="curl/8\\t(x)")


class _Running:
    """All that the guard asks of the services."""

    is_draining = False
    is_open = True


def app_that_notes(found: list[Caller]) -> Quart:
    """An app behind a trusted proxy and the guard, whose handlers note who called."""
    app, routes = Quart(__name__), Blueprint("routes", __name__)

    @routes.get("/request")
    async def handle() -> str:
        found.append(current_caller())
        return ""

    @routes.websocket("/socket")
    async def serve() -> None:
        found.append(current_caller())
        await websocket.send("")

    connection.install(app)
    settings = Settings(auth="off", trusted_proxy=(ipaddress.ip_network("127.0.0.0/8"),))
    guard.install(app, settings, {"GET routes.handle": Open.TO_CALLERS, "SOCKET routes.serve": Open.TO_CALLERS})
    app.register_blueprint(routes)
    forwarding.install(app, settings)
    app.extensions[EXTENSION] = _Running()
    return app


async def test_a_request_and_a_socket_of_one_client_have_the_same_caller() -> None:
    """The client is the one that a trusted proxy forwards; there is no account."""
    found: list[Caller] = []
    async with served(app_that_notes(found)) as port:
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/request", headers=HEADERS)).status_code == 200
        url = f"ws://127.0.0.1:{port}/socket"
        agent, others = HEADERS["User-Agent"], {"X-Forwarded-For": HEADERS["X-Forwarded-For"]}
        async with connect(url, proxy=None, user_agent_header=agent, additional_headers=others) as opened:
            await opened.recv()
    by_request, by_socket = found
    assert by_request == by_socket == Caller.everyone(CLIENT)
    assert (by_request.role, by_request.authentication) == (Role.ADMIN, Authentication.NONE)


async def test_a_request_that_the_guard_refuses_has_no_caller() -> None:
    """A page about the refusal can show nothing that only a caller may see."""
    app, seen = app_that_notes([]), []

    @app.after_request
    async def note(response: object) -> object:
        seen.append(caller_if_known())
        return response

    client = app.test_client()
    assert (await client.get("/request", headers={"Host": "evil.example"})).status_code == 421
    assert (await client.get("/request", headers={"Host": "localhost"})).status_code == 200
    assert [caller is None for caller in seen] == [True, False]

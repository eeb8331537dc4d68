"""`dropmill serve` with accounts that live in memory: the answers that the pages of accounts expect of the API.

`ada` is an admin and `bob` a viewer, both with the password `PASSWORD`. `POST /test/end` ends every session, as an
expiry does.
"""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from quart import Blueprint, Quart, Response, g, redirect, render_template, request

import dropmill.app
from dropmill.model.caller import EVERY_SCOPE, Authentication, Caller, Role
from dropmill.model.errors import DropmillError
from dropmill.origin.network import identify
from dropmill.text import time_text
from dropmill.web.server import guard
from dropmill.web.server.caller import caller_if_known
from dropmill.web.services import services

PASSWORD = "correct horse battery"  # of the tests' own accounts
COOKIE = "dropmill_session"
OPEN = ("/sign-in", "/static", "/healthz", "/readyz", "/test", "/api/v1/session")


class SignInRequired(DropmillError):
    """As the API's."""

    code = "sign_in_required"
    status = 401
    title = "Sign in first"


class WrongCredentials(DropmillError):
    """As the API's."""

    code = "wrong_credentials"
    status = 401
    title = "Not signed in"


class LastAdmin(DropmillError):
    """As the API's."""

    code = "last_admin"
    status = 409
    title = "This is the last admin"


def now(**later: float) -> str:
    """A time as the API writes it."""
    found = time_text(datetime.now(UTC) + timedelta(**later))
    assert found is not None
    return found


class Accounts:
    """What the API keeps."""

    def __init__(self) -> None:
        self.people = [self.person("ada", "admin"), self.person("bob", "viewer")]
        self.passwords = {"ada": PASSWORD, "bob": PASSWORD}
        self.sessions: dict[str, dict[str, Any]] = {}
        self.tokens: list[dict[str, Any]] = []

    @staticmethod
    def person(name: str, role: str) -> dict[str, Any]:
        """An account, as the API answers it."""
        times = {"disabled_at": None, "removed_at": None, "last_seen_at": None}
        return {"id": f"acc_{name}", "name": name, "role": role, "created_at": now(), **times}

    def named(self, name: str) -> dict[str, Any] | None:
        """The account of that name that can be used."""
        return next(
            (one for one in self.people if one["name"] == name and not one["removed_at"] and not one["disabled_at"]),
            None,
        )


accounts = Accounts()
api = Blueprint("fake_accounts", __name__)


def find_caller(connection: Any) -> Any:
    """Whose session the cookie names."""
    session = accounts.sessions.get(connection.cookies.get(COOKIE, ""))
    account = session and accounts.named(session["account"])
    if session is None or account is None:
        if connection.path.startswith(OPEN):
            return None
        raise SignInRequired("Sign in first.")
    g.session = session
    client = identify(connection.remote_addr, connection.headers.get("User-Agent"))
    role = Role(account["role"])
    return Caller(
        client=client,
        account=account["name"],
        role=role,
        scopes=EVERY_SCOPE,
        authentication=Authentication.SESSION,
    )


@api.post("/sign-in")
async def sign_in_by_form() -> Any:
    """What the page posts without scripts."""
    try:
        return await signed_in(await request.form, Response(status=303, headers={"Location": "/"}))
    except WrongCredentials as error:
        return await render_template("sign-in.html", offers_first=False, refused=error), 401


@api.get("/test/first")
async def first() -> Any:
    """`/sign-in` while there is no account."""
    if caller_if_known() is not None:
        return redirect("/", 303)
    return await render_template("sign-in.html", offers_first=True, refused=None)


@api.post("/api/v1/session")
async def sign_in() -> Any:
    """Sign in, or make the first account."""
    return await signed_in(await request.get_json(), Response(status=204))


async def signed_in(given: Any, response: Response) -> Response:
    """The response with the session's cookie."""
    name, password = given["name"], given["password"]
    if given.get("first") == "the-secret":
        accounts.people.append(accounts.person(name, "admin"))
        accounts.passwords[name] = password
    elif "first" in given or accounts.named(name) is None or accounts.passwords[name] != password:
        raise WrongCredentials("The name or the password is wrong.")
    secret = secrets.token_hex(8)
    accounts.sessions[secret] = {
        "id": f"ses_{len(accounts.sessions)}",
        "account": name,
        "created_at": now(),
        "last_used_at": now(),
        "expires_at": now(days=7),
        "client": request.remote_addr,
        "user_agent": request.headers.get("User-Agent"),
    }
    response.set_cookie(COOKIE, secret, httponly=True, samesite="Lax")
    return response


@api.delete("/api/v1/session")
async def sign_out() -> Any:
    """End this session."""
    accounts.sessions.pop(request.cookies.get(COOKIE, ""), None)
    return Response(status=204)


@api.put("/api/v1/session/password")
async def change_password() -> Any:
    """Change one's own."""
    given, name = await request.get_json(), g.session["account"]
    if accounts.passwords[name] != given["current"]:
        raise WrongCredentials("The current password is wrong.")
    accounts.passwords[name] = given["new"]
    for secret in [one for one, held in accounts.sessions.items() if held is not g.session]:
        del accounts.sessions[secret]
    return Response(status=204)


@api.get("/api/v1/sessions")
async def list_sessions() -> Any:
    """One's own."""
    own = [one for one in accounts.sessions.values() if one["account"] == g.session["account"]]
    return {"items": [{**one, "is_current": one is g.session} for one in own], "next": None}


@api.delete("/api/v1/sessions/<session_id>")
async def end_session(session_id: str) -> Any:
    """End another one."""
    for secret in [one for one, held in accounts.sessions.items() if held["id"] == session_id]:
        del accounts.sessions[secret]
    return Response(status=204)


@api.get("/api/v1/tokens")
async def list_tokens() -> Any:
    """One's own."""
    return {"items": accounts.tokens, "next": None}


@api.post("/api/v1/tokens")
async def make_token() -> Any:
    """Make one; its text is answered once."""
    given = await request.get_json()
    made = {
        "id": f"tok_{len(accounts.tokens)}",
        "name": given.get("name"),
        "scopes": given["scopes"],
        "prefix": "dmill_abcd",
        "created_at": now(),
        "expires_at": None if given["expires_in"] is None else now(seconds=given["expires_in"]),
        "last_used_at": None,
    }
    accounts.tokens.append(made)
    return {"id": made["id"], "token": "dmill_abcdefgh"}, 201


@api.delete("/api/v1/tokens/<token_id>")
async def revoke_token(token_id: str) -> Any:
    """Revoke one."""
    accounts.tokens = [one for one in accounts.tokens if one["id"] != token_id]
    return Response(status=204)


@api.get("/api/v1/accounts")
async def list_accounts() -> Any:
    """Everybody."""
    return {"items": accounts.people, "next": None}


@api.post("/api/v1/accounts")
async def add_account() -> Any:
    """Add somebody."""
    given = await request.get_json()
    made = accounts.person(given["name"], given["role"])
    accounts.people.append(made)
    accounts.passwords[made["name"]] = given["password"]
    return made, 201


@api.patch("/api/v1/accounts/<account_id>")
async def change_account(account_id: str) -> Any:
    """Change role, password, or whether it can be used."""
    given = await request.get_json()
    found = next(one for one in accounts.people if one["id"] == account_id)
    if found["role"] == "admin" and (given.get("is_disabled") or given.get("role", "admin") != "admin"):
        raise LastAdmin("No other account could administer the server.")
    if "is_disabled" in given:
        found["disabled_at"] = now() if given["is_disabled"] else None
    if "password" in given:
        accounts.passwords[found["name"]] = given["password"]
    found["role"] = given.get("role", found["role"])
    return found


@api.delete("/api/v1/accounts/<account_id>")
async def remove_account(account_id: str) -> Any:
    """Remove somebody; the record stays."""
    next(one for one in accounts.people if one["id"] == account_id)["removed_at"] = now()
    return Response(status=204)


@api.post("/test/end")
async def end_all() -> Any:
    """End every session, and what they have open."""
    accounts.sessions.clear()
    for close in list(services().closers):
        await close(4401, "sign in again")
    return Response(status=204)


if __name__ == "__main__":
    make = dropmill.app.create_app

    def create_app(*args: Any, **options: Any) -> Quart:
        app = make(*args, **options)
        app.register_blueprint(api)
        return app

    pytest.MonkeyPatch().setattr(guard, "find_caller", find_caller)
    pytest.MonkeyPatch().setattr(dropmill.app, "create_app", create_app)
    from dropmill.cli import main

    main()

"""`dropmill token`: what programs show instead of a password.

Works on the data folder, whether or not a server runs on it.
"""

from typing import Any, Final

import click

from dropmill.access.accounts import Accounts
from dropmill.access.passwords import Passwords
from dropmill.access.tokens import Tokens
from dropmill.cli.format import printable
from dropmill.cli.offline import run_on_ledger
from dropmill.cli.options import folder_options
from dropmill.model.accounts import Account, Token
from dropmill.model.caller import Scope
from dropmill.model.errors import BadRequest, NotFound
from dropmill.model.ids import TokenId
from dropmill.model.internal import Internal
from dropmill.ports.ledger import Ledger
from dropmill.settings import values
from dropmill.text import time_text
from dropmill.wire.accounts import token_json
from dropmill.wire.encoding import dumps

WHO: Final = Internal.COMMAND_LINE
SCOPES: Final = click.Choice([scope.value for scope in Scope])


@click.group("token")
def command() -> None:
    """Make and revoke tokens, with which programs sign in.

    All of this works with or without a running server.
    """


@command.command()
@click.option("--account", "name", metavar="NAME", help="Whose token. Not needed if there is only one account.")
@click.option(
    "--scope", "scopes", type=SCOPES, multiple=True, help="What it may be used for; may be given several times."
)
@click.option("--expires", metavar="AGE", help="After which time it expires, such as 90d. By default never.")
@click.option("--name", "label", metavar="TEXT", help="What you call it.")
@folder_options
def create(name: str | None, scopes: tuple[str, ...], expires: str | None, label: str | None, **flags: Any) -> None:
    """Print a new token; nothing can print it again.

    Without --scope it may be used for all that the role of its account allows.
    """

    async def work(ledger: Ledger) -> None:
        account = await _account(ledger, name)
        _, secret = await Tokens(ledger).make_for(
            WHO,
            account,
            scopes=[Scope(scope) for scope in scopes] or None,
            expires_in_s=None if expires is None else _seconds(expires),
            name=label,
        )
        print(secret)

    run_on_ledger(flags, work)


@command.command("list")
@folder_options
@click.option("--json", "as_json", is_flag=True, help="Print each token as one line of JSON.")
def list_(as_json: bool, **flags: Any) -> None:
    """List the tokens, newest first: id, beginning, account, scopes, when it expires and was last used."""

    async def work(ledger: Ledger) -> None:
        names = {account.id: account.name for account in await Accounts(ledger, Passwords()).list(WHO)}
        for token in await Tokens(ledger).list_all(WHO):
            account = names[token.account_id]
            print(dumps({**token_json(token), "account": account}) if as_json else _line(token, account))

    run_on_ledger(flags, work)


@command.command()
@click.argument("token_id", metavar="ID")
@folder_options
def revoke(token_id: str, **flags: Any) -> None:
    """Revoke the token with this id, or with this beginning of the token."""

    async def work(ledger: Ledger) -> None:
        tokens = Tokens(ledger)
        found = [one for one in await tokens.list_all(WHO) if token_id in (one.id, one.prefix)]
        if not found:
            raise NotFound("There is no such token; `dropmill token list` lists them.")
        await tokens.revoke_any(WHO, TokenId(found[0].id))
        print(f"{found[0].prefix}... was revoked.")

    run_on_ledger(flags, work)


async def _account(ledger: Ledger, name: str | None) -> Account:
    accounts = Accounts(ledger, Passwords())
    if name is not None:
        return await accounts.named(WHO, name)
    present = [account for account in await accounts.list(WHO) if account.removed_at is None]
    if len(present) != 1:
        raise BadRequest(f"There are {len(present)} accounts; name one with --account.")
    return present[0]


def _seconds(expires: str) -> float:
    try:
        return values.age(expires)
    except ValueError as error:
        raise BadRequest(f"--expires: {expires} {error}.") from None


def _line(token: Token, account: str) -> str:
    scopes = ",".join(sorted(token.scopes))
    expires = time_text(token.expires_at) or "never expires"
    used = time_text(token.last_used_at) or "never used"
    words = [token.id, token.prefix, printable(account), scopes, expires, used, printable(token.name or "")]
    return "  ".join(words).rstrip()

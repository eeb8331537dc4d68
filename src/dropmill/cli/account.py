"""`dropmill account`: who may sign in. Works on the data folder, whether or not a server runs on it.

A running server ends what an account may no longer do within two seconds.
"""

from collections.abc import Callable
from typing import Any, Final

import click

from dropmill.access.accounts import Accounts
from dropmill.access.passwords import Passwords
from dropmill.access.quotas import Quotas
from dropmill.cli.format import printable
from dropmill.cli.offline import asked_password, run_on_ledger
from dropmill.cli.options import folder_options
from dropmill.model.accounts import ISSUER_MAX, NAME_MAX, SUBJECT_MAX, Account, Identity, checked_name
from dropmill.model.caller import Role
from dropmill.model.internal import Internal
from dropmill.model.quotas import ACCOUNT_LIMITS, LimitChange, Quota
from dropmill.ports.ledger import Ledger
from dropmill.settings import values
from dropmill.text import time_text
from dropmill.wire.accounts import account_json
from dropmill.wire.encoding import dumps
from dropmill.wire.quotas import NONE

WHO: Final = Internal.COMMAND_LINE
DEFAULT: Final = "default"
ROLES: Final = click.Choice([role.value for role in Role])


@click.group("account")
def command() -> None:
    """Add, change and remove those who may sign in.

    All of this works with or without a running server.
    """


def _password_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")(command)
    return folder_options(command)


@command.command()
@click.argument("name")
@click.option("--role", type=ROLES, default=Role.VIEWER.value, help="What it may do. Default: viewer")
@_password_options
def add(name: str, role: str, password_stdin: bool, **flags: Any) -> None:
    """Add an account; asks twice for its password."""

    async def work(ledger: Ledger) -> None:
        checked_name(name)  # before a person types a password
        account = await _accounts(ledger).add(WHO, name, Role(role), asked_password(from_stdin=password_stdin))
        print(f"{printable(account.name)} can sign in now, as {account.role}.")

    run_on_ledger(flags, work)


@command.command()
@click.argument("name")
@_password_options
def password(name: str, password_stdin: bool, **flags: Any) -> None:
    """Set another password; ends the account's sessions, but not its tokens."""

    async def work(ledger: Ledger) -> None:
        account = await _accounts(ledger).named(WHO, name)
        new = asked_password(from_stdin=password_stdin)
        await _accounts(ledger).change(WHO, account.id, password=new)
        print(f"{printable(account.name)} has another password now; its sessions have ended.")

    run_on_ledger(flags, work)


@command.command()
@click.argument("name")
@click.argument("new_role", metavar="ROLE", type=ROLES)
@folder_options
def role(name: str, new_role: str, **flags: Any) -> None:
    """Give an account another role."""

    async def work(ledger: Ledger) -> None:
        account = await _accounts(ledger).named(WHO, name)
        await _accounts(ledger).change(WHO, account.id, role=Role(new_role))
        print(f"{printable(account.name)} is {new_role} now.")

    run_on_ledger(flags, work)


@command.command()
@click.argument("name")
@folder_options
def disable(name: str, **flags: Any) -> None:
    """Keep an account from being used until it is enabled; ends its sessions."""
    _set_disabled(name, True, "cannot be used now", flags)


@command.command()
@click.argument("name")
@folder_options
def enable(name: str, **flags: Any) -> None:
    """Let a disabled account be used again."""
    _set_disabled(name, False, "can be used again", flags)


def _set_disabled(name: str, is_disabled: bool, said: str, flags: Any) -> None:
    async def work(ledger: Ledger) -> None:
        account = await _accounts(ledger).named(WHO, name)
        await _accounts(ledger).change(WHO, account.id, is_disabled=is_disabled)
        print(f"{printable(account.name)} {said}.")

    run_on_ledger(flags, work)


@command.command()
@click.argument("name")
@click.option("--proxy-user", metavar="USER", help="Whom the proxy calls so (--auth-header).")
@click.option("--issuer", metavar="URL", help="The issuer that knows them (--jwt-issuer, --oidc-issuer).")
@click.option("--subject", metavar="SUBJECT", help="Who it is there: `sub` of their tokens.")
@folder_options
def link(name: str, proxy_user: str | None, issuer: str | None, subject: str | None, **flags: Any) -> None:
    """Give an account to somebody whom a proxy or an issuer of tokens vouches for.

    They get it with all that it has sent, without its password. Whoever knows that can still sign in. If groups give
    roles (--auth-group), theirs count from the next visit on.
    """

    async def work(ledger: Ledger) -> None:
        identity = _identity(proxy_user, issuer, subject)
        account = await _accounts(ledger).named(WHO, name)
        await _accounts(ledger).link(WHO, account.id, identity)
        print(f"{printable(account.name)} belongs to {_printable_identity(identity)} now.")

    run_on_ledger(flags, work)


@command.command()
@click.argument("name")
@folder_options
def unlink(name: str, **flags: Any) -> None:
    """Take an account from somebody whom a proxy or an issuer vouches for; ends its sessions and what they have open.

    Their next visit makes another account. Give this one a password to sign in to it.
    """

    async def work(ledger: Ledger) -> None:
        account = await _accounts(ledger).named(WHO, name)
        await _accounts(ledger).link(WHO, account.id, None)
        print(f"{printable(account.name)} belongs to nobody any more; it needs a password.")

    run_on_ledger(flags, work)


def _identity(proxy_user: str | None, issuer: str | None, subject: str | None) -> Identity:
    if proxy_user is not None and issuer is None and subject is None:
        return Identity.of_proxy(checked_name(proxy_user, "--proxy-user"))
    if proxy_user is not None or issuer is None or subject is None:
        raise click.UsageError("Name somebody by --proxy-user, or by --issuer and --subject.")
    if not 1 <= len(subject) <= SUBJECT_MAX or not subject.isprintable():
        raise click.UsageError(f"--subject must have 1 to {SUBJECT_MAX} printable characters.")
    if "://" not in issuer or not issuer.isprintable() or len(issuer) > ISSUER_MAX:
        raise click.UsageError(f"--issuer must be an address of at most {ISSUER_MAX} characters, as --jwt-issuer is.")
    return Identity(issuer=issuer, subject=subject)


def _printable_identity(identity: Identity) -> str:
    return printable(f"{identity.subject} of {identity.issuer}")


@command.command("list")
@folder_options
@click.option("--json", "as_json", is_flag=True, help="Print each account as one line of JSON.")
def list_(as_json: bool, **flags: Any) -> None:
    """List the accounts, newest first; also those that were removed."""

    async def work(ledger: Ledger) -> None:
        listed = await _accounts(ledger).list(WHO)
        quotas = await Quotas(ledger).of_accounts(WHO, listed)
        for account in listed:
            print(dumps(account_json(account, quotas[account.id])) if as_json else _line(account))

    run_on_ledger(flags, work)


class _Limit(click.ParamType[Any]):
    """A limit; None for none, and `default` for the server's."""

    def __init__(self, parse: Callable[[str], int], name: str) -> None:
        self._parse = parse
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As `LimitChange` has it."""
        if value in (DEFAULT, NONE):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}, {NONE} or {DEFAULT}.", param, ctx)


_SIZE, _COUNT = _Limit(values.size, "size"), _Limit(values.count, "n")


@command.command()
@click.argument("name")
@click.option("--storage", type=_SIZE, help="Size of the files that are kept for it at most, such as 20GiB.")
@click.option("--submissions-a-day", type=_COUNT, help="Submissions that it opens on one day of UTC.")
@click.option("--open-submissions", type=_COUNT, help="Submissions that it has open at once.")
@click.option("--running", type=_COUNT, help="Jobs of it that run at once; further ones wait.")
@click.option("--sockets", type=_COUNT, help="WebSockets, polls and event streams that it has open at once.")
@folder_options
@click.option("--json", "as_json", is_flag=True, help="Print the account as one line of JSON.")
def limits(name: str, as_json: bool, **flags: Any) -> None:
    """Give an account limits of its own, and print what it has.

    `none` lifts a limit, `default` takes the server's again. What an account has stays, also above a lower limit.
    """
    given = {limit: flags.pop(limit) for limit in ACCOUNT_LIMITS}
    change = LimitChange(
        own={limit: None if most == NONE else most for limit, most in given.items() if most not in (None, DEFAULT)},
        dropped=frozenset(limit for limit, most in given.items() if most == DEFAULT),
    )

    async def work(ledger: Ledger) -> None:
        account = await _accounts(ledger).named(WHO, name)
        if change.own or change.dropped:
            await _accounts(ledger).change(WHO, account.id, limits=change)
        quota = (await Quotas(ledger).of_accounts(WHO, [account]))[account.id]
        if as_json:
            print(dumps(account_json(account, quota)))
            return
        for limit in ACCOUNT_LIMITS:
            print(_limit_line(limit, quota))

    run_on_ledger(flags, work)


def _limit_line(limit: str, quota: Quota) -> str:
    """One limit of an account, and what it has of it, as far as the ledger knows."""
    most, used = getattr(quota.limits, limit), getattr(quota.usage, limit, None)
    of_limit = "no limit" if most is None else f"{most:,}"
    whose = "its own" if limit in quota.own else "the server's"
    return f"{limit.replace('_', '-'):<18} {'-' if used is None else f'{used:,}':>20} of {of_limit} ({whose})"


@command.command()
@click.argument("name")
@folder_options
def remove(name: str, **flags: Any) -> None:
    """Remove an account with its sessions and tokens.

    What it has sent stays. A later account of the same name does not see it.
    """

    async def work(ledger: Ledger) -> None:
        account = await _accounts(ledger).named(WHO, name)
        await _accounts(ledger).remove(WHO, account.id)
        print(f"{printable(account.name)} was removed.")

    run_on_ledger(flags, work)


def _accounts(ledger: Ledger) -> Accounts:
    return Accounts(ledger, Passwords())


def _line(account: Account) -> str:
    state = "removed" if account.removed_at else "disabled" if account.disabled_at else "-"
    seen = time_text(account.last_seen_at) or "never seen"
    of = "" if account.identity is None else f"  {_printable_identity(account.identity)}"
    return f"{printable(account.name):<{NAME_MAX // 3}}  {account.role:<8}  {state:<8}  {seen}{of}"

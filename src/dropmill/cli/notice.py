"""`dropmill notice`: tells something to everybody with a page open, who follows one submission, or has one account."""

import click

from dropmill.cli.format import printable, stop_with
from dropmill.cli.options import client_options
from dropmill.client import ApiClient, ClientError
from dropmill.settings import values
from dropmill.wire.encoding import Json, dumps

EXPIRES = "24h"


@click.command("notice")
@click.argument("text", required=False)
@click.option("--submission", metavar="ID", help="Only for those who follow this submission.")
@click.option("--account", metavar="NAME", help="Only on the pages of this account.")
@click.option("--expires", metavar="AGE", help=f"When it disappears, such as 30m or 7d. Default: {EXPIRES}")
@click.option("--list", "is_list", is_flag=True, help="Print the notices that are shown now.")
@click.option("--withdraw", metavar="ID", help="Take a notice off every page.")
@client_options
@click.option("--json", "as_json", is_flag=True, help="Print each notice as one line of JSON.")
def command(
    text: str | None,
    submission: str | None,
    account: str | None,
    expires: str | None,
    is_list: bool,
    withdraw: str | None,
    server: str,
    token: str | None,
    insecure_http: bool,
    as_json: bool,
) -> None:
    """Show TEXT on every page until it expires.

    With --submission: on the pages of that submission; with --account: on the pages of that account. Who opens a page
    later sees it, too. Without TEXT: --list or --withdraw.
    """
    if (text is not None) + is_list + (withdraw is not None) != 1:
        raise click.UsageError("Give one of TEXT, --list and --withdraw ID.")
    if text is None and not (submission is None and account is None and expires is None):
        raise click.UsageError("--submission, --account and --expires belong to a TEXT.")
    if submission is not None and account is not None:
        raise click.UsageError("Give --submission or --account, not both.")
    try:
        expires_in_s = values.age(expires or EXPIRES)
    except ValueError as error:
        stop_with(f"--expires: {expires} {error}.")
    try:
        with ApiClient(server, token=token, insecure_http=insecure_http) as client:
            if text is not None:
                posted = client.post_notice(text, submission_id=submission, account=account, expires_in_s=expires_in_s)
                print(dumps(posted) if as_json else f"{_until(posted)}. Withdraw it with --withdraw {posted['id']}")
            elif withdraw is not None:
                client.withdraw_notice(withdraw)
            else:
                for notice in client.notices():
                    print(dumps(notice) if as_json else _line(notice))
    except ClientError as error:
        stop_with(str(error))


def _until(notice: Json) -> str:
    return f"Shown until {printable(str(notice['expires_at']))}"


def _line(notice: Json) -> str:
    about, account = notice["submission_id"], notice["account_id"]
    whom = "to everybody" if about is None else f"to submission {printable(str(about))}"
    whom = whom if account is None else f"to account {printable(str(account))}"
    text = printable(str(notice["text"]).replace("\n", " "))
    return f"{printable(str(notice['id']))}  {_until(notice)} {whom}: {text}"

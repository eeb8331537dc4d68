"""`dropmill notice`: tells something to everybody who has a page open, or follows one submission."""

import click

from dropmill.cli.format import printable, stop_with
from dropmill.cli.options import client_options
from dropmill.client import ApiClient, ClientError
from dropmill.settings import values
from dropmill.wire.encoding import dumps


@click.command("notice")
@click.argument("text")
@click.option("--submission", metavar="ID", help="Only for those who follow this submission.")
@click.option("--expires", metavar="AGE", default="24h", help="When it disappears, such as 30m or 7d. Default: 24h")
@client_options
@click.option("--json", "as_json", is_flag=True, help="Print the notice as one line of JSON.")
def command(
    text: str,
    submission: str | None,
    expires: str,
    server: str,
    token: str | None,
    insecure_http: bool,
    as_json: bool,
) -> None:
    """Show TEXT on every page until it expires.

    With --submission: on the pages of that submission. Who opens a page later sees it, too.
    """
    try:
        expires_in_s = values.age(expires)
    except ValueError as error:
        stop_with(f"--expires: {expires} {error}.")
    try:
        with ApiClient(server, token=token, insecure_http=insecure_http) as client:
            posted = client.post_notice(text, submission_id=submission, expires_in_s=expires_in_s)
    except ClientError as error:
        stop_with(str(error))
    print(dumps(posted) if as_json else f"Shown until {printable(str(posted['expires_at']))}.")

"""`dropmill link`: lets people without an account send files, or look at a submission."""

import sys
from typing import Any, Final

import click

from dropmill.access.passwords import PASSWORD_MAX
from dropmill.cli.format import printable, stop_with
from dropmill.cli.options import client_options
from dropmill.client import ApiClient, ClientError
from dropmill.settings import values
from dropmill.text import size_text
from dropmill.wire.encoding import Json, dumps

EXPIRES: Final = "30d"


@click.group("link")
def command() -> None:
    """Let people without an account send files, or look at a submission.

    All of this asks a running server.
    """


@command.command()
@click.option("--label", metavar="TEXT", required=True, help="What you call the link; the sender sees it, too.")
@click.option("--text", metavar="TEXT", help="Words for the sender.")
@click.option("--expires", metavar="AGE", default=EXPIRES, help=f"When it ends, such as 12h or 7d. Default: {EXPIRES}")
@click.option("--max-files", metavar="N", type=click.IntRange(min=1), help="Most files that it takes in total.")
@click.option("--max-size", metavar="SIZE", help="Most bytes that it takes in total, such as 2GiB.")
@click.option("--max-submissions", metavar="N", type=click.IntRange(min=1), help="Most submissions that it takes.")
@click.option("--passphrase-stdin", is_flag=True, help="Who enters needs a passphrase; read it from standard input.")
@click.option("--asks-name", is_flag=True, help="Ask the sender for a name. Nobody checks it.")
@click.option("--shows-results", is_flag=True, help="Show the sender what the script makes of the files.")
@client_options
@click.option("--json", "as_json", is_flag=True, help="Print all that the server answers as one line of JSON.")
def create(
    label: str,
    text: str | None,
    expires: str,
    max_files: int | None,
    max_size: str | None,
    max_submissions: int | None,
    passphrase_stdin: bool,
    asks_name: bool,
    shows_results: bool,
    server: str,
    token: str | None,
    insecure_http: bool,
    as_json: bool,
) -> None:
    """Print the address of a new link by which anybody can send files; nothing can print it again.

    Whoever has the address can use it until it expires, is used up, or you revoke it.
    """
    wanted: dict[str, Any] = {
        "label": label,
        "text": text,
        "expires_in": _seconds(expires),
        "max_files": max_files,
        "max_size": None if max_size is None else _size(max_size),
        "max_submissions": max_submissions,
        "asks_name": asks_name,
        "shows_results": shows_results,
    }
    if passphrase_stdin:
        wanted["passphrase"] = sys.stdin.readline(PASSWORD_MAX + 2).rstrip("\r\n")
    _make(server, token, wanted, insecure_http=insecure_http, as_json=as_json)


@command.command()
@click.argument("submission")
@click.option("--label", metavar="TEXT", help="What the page is called.")
@click.option("--expires", metavar="AGE", default=EXPIRES, help=f"When it ends, such as 12h or 7d. Default: {EXPIRES}")
@client_options
@click.option("--json", "as_json", is_flag=True, help="Print all that the server answers as one line of JSON.")
def result(
    submission: str,
    label: str | None,
    expires: str,
    server: str,
    token: str | None,
    insecure_http: bool,
    as_json: bool,
) -> None:
    """Print the address of a new link by which anybody can look at SUBMISSION; nothing can print it again.

    It shows its files, output and results, live while it runs, and not who sent it.
    """
    wanted = {"kind": "result", "submission_id": submission, "label": label, "expires_in": _seconds(expires)}
    _make(server, token, wanted, insecure_http=insecure_http, as_json=as_json)


@command.command("list")
@client_options
@click.option("--json", "as_json", is_flag=True, help="Print each link as one line of JSON.")
def list_(server: str, token: str | None, insecure_http: bool, as_json: bool) -> None:
    """List the links, newest first; also those that have ended."""
    try:
        with ApiClient(server, token=token, insecure_http=insecure_http) as client:
            for link in client.links():
                print(dumps(link) if as_json else _line(link))
    except ClientError as error:
        stop_with(str(error))


@command.command()
@click.argument("link_id", metavar="ID")
@client_options
def revoke(link_id: str, server: str, token: str | None, insecure_http: bool) -> None:
    """End a link at once, with what is being sent by it. What has arrived stays."""
    try:
        with ApiClient(server, token=token, insecure_http=insecure_http) as client:
            client.revoke_link(link_id)
    except ClientError as error:
        stop_with(str(error))


def _make(server: str, token: str | None, wanted: Json, *, insecure_http: bool, as_json: bool) -> None:
    try:
        with ApiClient(server, token=token, insecure_http=insecure_http) as client:
            made = client.make_link(wanted)
    except ClientError as error:
        stop_with(str(error))
    print(dumps(made) if as_json else printable(str(made["url"])))


def _seconds(expires: str) -> float:
    try:
        return values.age(expires)
    except ValueError as error:
        stop_with(f"--expires: {expires} {error}.")


def _size(text: str) -> int:
    try:
        return values.positive_size(text)
    except ValueError as error:
        stop_with(f"--max-size: {text} {error}.")


def _line(link: Json) -> str:
    of = "sends files" if link["kind"] == "request" else f"shows {link['submission_id']}"
    used = f"{link['submissions']} submissions, {link['files']} files, {size_text(int(link['size']))}"
    until = f"until {link['expires_at']}" if link["state"] == "live" else str(link["state"])
    what = f"{link['id']}  {until}  {of}" + (f" ({used})" if link["kind"] == "request" else "")
    return f"{printable(what)}: {printable(str(link['label']))}"

"""`dropmill migrate`: move the ledger of a data folder to Postgres, or back into the folder."""

import os
from typing import Any

import click

from dropmill.cli.format import stop_with
from dropmill.cli.options import settings_options
from dropmill.model.errors import DropmillError, SettingsError
from dropmill.settings import Settings


def _data_option(command: Any) -> Any:
    return settings_options(command, ("data",))


@click.command("migrate")
@click.argument("url", metavar="[URL]", required=False)
@click.option("--back", is_flag=True, help="Move the ledger from Postgres back into the data folder.")
@_data_option
def command(url: str | None, back: bool, **flags: Any) -> None:
    """Move the ledger to Postgres, or back.

    The ledger of the data folder goes to the database that URL names, or comes back from it (--back). Without URL it is
    the one that DROPMILL_DATABASE_URL names: other users can read a command line, and with it a
    password. The server must not run. Everything is copied and compared before it counts; the original is kept.
    """
    environment = dict(os.environ)
    if url is not None:
        environment = {**environment, "DROPMILL_DATABASE_URL": url, "DROPMILL_DATABASE_URL_FILE": ""}
    try:
        settings = Settings.load(flags, environment)
        if settings.database_url is None:
            raise SettingsError("Give the URL of the Postgres database, or set DROPMILL_DATABASE_URL.")
        from dropmill.app import move_ledger  # 0.5 s

        moved = move_ledger(settings, is_back=back)
    except SettingsError as error:
        stop_with(error.detail, 2)
    except DropmillError as error:
        stop_with(error.detail)
    for name, count in moved.counts.items():
        if count:
            click.echo(f"{count:>12,} {name}")
    click.echo(f"All rows are the same; the events' SHA-256 is {moved.events_sha256}.")
    click.echo(f"The original is kept: {moved.original}. Once you do not need it any more, delete it.")
    if back:
        click.echo("Start the server without DROPMILL_DATABASE_URL.")
    else:
        click.echo("Start the server with DROPMILL_DATABASE_URL.")

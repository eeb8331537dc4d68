"""The options that several words share: settings of a server, and the server a client speaks to."""

import os
from collections.abc import Callable, Collection
from dataclasses import Field
from typing import Any, Final

import click

from dropmill.settings import GROUPS, environment_name

LOCAL_SERVER: Final = "http://127.0.0.1:8000"
TOKEN_FILE: Final = "DROPMILL_TOKEN_FILE"  # noqa: S105  # the name of a variable
TOKEN_BYTES: Final = 4096  # of that file; more is no token
OTHERS: Final = "Options"
"""The heading of options that are in no group of settings."""

_HEADINGS: Final = {field.name: heading for heading, group in GROUPS.items() for field in group}


class SettingsCommand(click.Command):
    """A command whose `--help` lists the settings under the headings of their groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group, then one for the other options."""
        sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in (*GROUPS, OTHERS)}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                sections[_HEADINGS.get(parameter.name or "", OTHERS)].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def settings_options(command: Callable[..., Any], names: Collection[str] | None = None) -> Callable[..., Any]:
    """Add a flag for each setting that has one; `names` limits them to these fields."""
    for field in reversed([field for group in GROUPS.values() for field in group]):
        if field.metadata["flag"] is not None and (names is None or field.name in names):
            command = _option(field)(command)
    return command


def _option(field: "Field[Any]") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    metadata = field.metadata
    return click.option(
        metadata["flag"],
        field.name,
        metavar=metadata["metavar"] or None,
        multiple=metadata["many"],
        is_flag=not metadata["metavar"],
        flag_value="on" if not metadata["metavar"] else None,
        help=f"{metadata['doc']} [{environment_name(field.name)}]",
    )


def folder_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the settings that name a data folder and its config."""
    return settings_options(command, ("data", "config", "config_tags"))


def client_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what a client needs: `--server`, `--token` and `--insecure-http`."""
    command = click.option(
        "--insecure-http",
        is_flag=True,
        help="Send the token over plain http to another machine, too; everyone on the network in between can read it.",
    )(command)
    command = click.option(
        "--token",
        metavar="T",
        envvar="DROPMILL_TOKEN",
        callback=_token,
        help="Your token, where the server requires sign-in. [DROPMILL_TOKEN, or in a file: DROPMILL_TOKEN_FILE]",
    )(command)
    return click.option(
        "--server",
        metavar="URL",
        envvar="DROPMILL_SERVER",
        default=LOCAL_SERVER,
        help=f"URL of the server. Default: {LOCAL_SERVER} [DROPMILL_SERVER]",
    )(command)


def _token(context: click.Context, _parameter: click.Parameter, given: str | None) -> str | None:
    """The token that was given; without one, the content of the file that the variable names."""
    path = os.environ.get(TOKEN_FILE)
    if given or not path:
        return given or None
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(TOKEN_BYTES).strip() or None
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{TOKEN_FILE} {path!r}: the file cannot be read ({error}).", context) from None

"""The options that several words share: settings of a server, and the server a client speaks to."""

from collections.abc import Callable, Collection
from dataclasses import Field
from typing import Any, Final

import click

from dropmill.settings import GROUPS, environment_name

LOCAL_SERVER: Final = "http://127.0.0.1:8000"
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
    """Add what a client needs: `--server` and `--token`."""
    command = click.option(
        "--token",
        metavar="T",
        envvar="DROPMILL_TOKEN",
        help="Your token, where the server requires sign-in. [DROPMILL_TOKEN]",
    )(command)
    return click.option(
        "--server",
        metavar="URL",
        envvar="DROPMILL_SERVER",
        default=LOCAL_SERVER,
        help=f"URL of the server. Default: {LOCAL_SERVER} [DROPMILL_SERVER]",
    )(command)

"""The command line: what can be typed.

What a command does stands in a module beside, loaded when it is run: sending needs nothing of the server, and works
where the server does not.
"""

from collections.abc import Callable, Collection
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from dropmill import __version__
from dropmill.settings import Settings, environment_name

LOCAL_SERVER = "http://127.0.0.1:8000"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dropmill")
def main() -> None:
    """A web drop zone in front of a script: drop files, each is processed, every step is seen live."""


def _settings_options(command: Callable[..., Any], names: Collection[str] | None = None) -> Callable[..., Any]:
    for f in reversed(fields(Settings)):
        metadata = f.metadata
        if metadata["flag"] is None or (names is not None and f.name not in names):
            continue
        command = click.option(
            metadata["flag"],
            f.name,
            metavar=metadata["metavar"] or None,
            multiple=metadata["many"],
            is_flag=not metadata["metavar"],
            flag_value="on" if not metadata["metavar"] else None,
            help=f"{metadata['doc']} [{environment_name(f.name)}]",
        )(command)
    return command


def _folder_options(command: Callable[..., Any]) -> Callable[..., Any]:
    return _settings_options(command, ("data", "config", "config_tags"))


def _client_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--token", metavar="T", envvar="DROPMILL_TOKEN", help="Who you are, where sign-in is required. [DROPMILL_TOKEN]"
    )(command)
    return click.option(
        "--server",
        metavar="URL",
        envvar="DROPMILL_SERVER",
        default=LOCAL_SERVER,
        help=f"Where Dropmill serves. Default: {LOCAL_SERVER} [DROPMILL_SERVER]",
    )(command)


@main.command()
@_settings_options
def serve(**flags: Any) -> None:
    """Serve the drop zone until SIGTERM or Ctrl-C."""
    from dropmill.cli.serve import run

    run(flags)


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@_client_options
@click.option("--watch", "is_watching", is_flag=True, help="Follow to the end; exit 0 only if every job succeeded.")
@click.option(
    "--abandon", "is_abandoned", is_flag=True, help="Send nothing; seal what an interrupted run of these left open."
)
def send(paths: tuple[Path, ...], server: str, token: str | None, is_watching: bool, is_abandoned: bool) -> None:
    """Send files and folders as one submission.

    What was interrupted goes on where it stopped when the same command is run again.
    """
    from dropmill.cli.send import abandon, run

    if is_abandoned and is_watching:
        raise click.UsageError("--abandon sends nothing, so there is nothing to --watch.")
    if is_abandoned:
        abandon(paths, server, token)
        return
    run(paths, server, token, is_watching=is_watching)


@main.command()
@click.argument("submission", required=False)
@_client_options
@click.option("--json", "as_json", is_flag=True, help="Each event as one line of JSON.")
def watch(submission: str | None, server: str, token: str | None, as_json: bool) -> None:
    """Follow events until Ctrl-C: those to come, or all of one submission."""
    from dropmill.cli.watch import run

    run(submission, server, token, as_json=as_json)


@main.command()
@_settings_options
@click.option("--url", metavar="URL", help="Also check the connection to a running server at this address.")
def doctor(url: str | None, **flags: Any) -> None:
    """Check what a server with these settings needs; exit 1 if something is missing."""
    from dropmill.cli.doctor.host import run

    run(flags, url)


@main.group("config")
def config_group() -> None:
    """Check the script's config, show it and its history, go back; also while a server runs."""


@config_group.command()
@click.argument("file", required=False)
@_folder_options
def check(file: str | None, **flags: Any) -> None:
    """Check FILE as a save would, - for standard input, by default the config itself.

    Exit 0 if it is valid, 1 if not. The schema is config.schema.json in the same folder.
    """
    from dropmill.cli.config import check as run

    run(flags, file)


@config_group.command()
@click.argument("revision", required=False)
@_folder_options
def show(revision: str | None, **flags: Any) -> None:
    """Write the newest revision, or the one whose SHA-256 begins with REVISION, byte for byte."""
    from dropmill.cli.config import show as run

    run(flags, revision)


@config_group.command()
@_folder_options
@click.option("--limit", type=click.IntRange(1), default=50, metavar="N", help="At most so many lines. Default: 50.")
@click.option("--json", "as_json", is_flag=True, help="Each revision as one line of JSON.")
def history(limit: int, as_json: bool, **flags: Any) -> None:
    """List the revisions, newest first: SHA-256, when, size, who, why."""
    from dropmill.cli.config import history as run

    run(flags, limit, as_json=as_json)


@config_group.command()
@click.argument("revision")
@_folder_options
def restore(revision: str, **flags: Any) -> None:
    """Save the revision whose SHA-256 begins with REVISION as the newest one."""
    from dropmill.cli.config import restore as run

    run(flags, revision)

"""The command line: one module for each word that can be typed.

`main` imports the module of the word that was typed and no other: `dropmill send` needs nothing of the server, and
works where the server does not. These modules share `options` and `format`; none imports this one.
"""

import gc
import sys
from importlib import import_module
from typing import Any, Final

import click

from dropmill import __version__

WORDS: Final = {
    "serve": "Serve the drop zone until SIGTERM or Ctrl-C.",
    "worker": "Run the jobs of servers that share a ledger in Postgres.",
    "send": "Send files and folders as one submission.",
    "watch": "Follow events until Ctrl-C.",
    "notice": "Show TEXT on every page until it expires.",
    "link": "Let people without an account send files, or look at a submission.",
    "log": "Print what has happened, or who did what (--audit).",
    "config": "Check the script's config, show it and its history, restore it.",
    "account": "Add, change and remove those who may sign in.",
    "token": "Make and revoke tokens, with which programs sign in.",
    "migrate": "Move the ledger to Postgres, or back.",
    "doctor": "Check what a server with these settings needs.",
}
"""What `dropmill --help` says about each word. The module of a word has its `command`."""


class _Words(click.Group):
    """Imports a word's module when the word is used; lists the words without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(WORDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in WORDS:
            return None
        command: click.Command = _imported(f"dropmill.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(WORDS.items()))


def _imported(name: str) -> Any:
    """A module, whose objects and those of all that it imports are out of sight of the garbage collector.

    They live as long as the process. Looking at them again and again took a third of the time of a start and an end of
    `dropmill serve`, and would hold up its event loop.
    """
    if name in sys.modules:
        return sys.modules[name]
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        gc.enable()


@click.group(cls=_Words, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dropmill")
def main() -> None:
    """A web drop zone in front of a script: drop files, each is processed, every step is seen live."""

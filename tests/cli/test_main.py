"""The words of the command line: each has its module, its line in `--help`, and imports no more than it needs."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from dropmill.cli import WORDS, main
from dropmill.settings import GROUPS


@pytest.mark.parametrize("word", WORDS)
def test_the_list_of_words_says_what_each_word_says_itself(word: str) -> None:
    """The list is written down, because making it of the commands would import every one of them."""
    command = main.get_command(click.Context(main), word)
    assert command is not None
    assert (command.name, WORDS[word]) == (word, (command.help or "").partition("\n")[0])


@pytest.mark.parametrize("word", ["serve", "doctor"])
def test_help_lists_every_setting_below_the_heading_of_its_group(word: str) -> None:
    """In the order of the groups, and of the fields in each."""
    shown = CliRunner().invoke(main, [word, "--help"]).output
    wanted = []
    for heading, group in GROUPS.items():
        wanted += [f"\n{heading}:\n", *(f"\n  {field.metadata['flag']}" for field in group if field.metadata["flag"])]
    at = 0
    for text in wanted:
        at = shown.find(text, at)
        assert at >= 0, text
    assert shown.index("\nOptions:\n") > at
    assert "\n  -h, --help" in shown


@pytest.mark.parametrize("word", ["--help", "send", "watch"])
def test_a_client_imports_nothing_of_the_server(word: str) -> None:
    """So that it works where the server cannot run, and starts quickly."""
    lines = (
        "import sys",
        "from dropmill.cli import main",
        f"main([*{[word, '--help']!r}], standalone_mode=False)",
        "print([name for name in sys.modules if name.startswith('dropmill.')], file=sys.stderr)",
    )
    ended = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    imported = {name.split(".")[1] for name in ended.stderr.split("'") if name.startswith("dropmill.")}
    assert imported <= {"cli", "client", "model", "settings", "shellwords", "text", "wire"}


def test_the_garbage_collector_runs_and_leaves_out_what_a_word_imports() -> None:
    """Ten thousands of objects that live as long as the process."""
    lines = (
        "import gc",
        "from dropmill.cli import main",
        "main(['send', '--help'], standalone_mode=False)",
        "print(gc.isenabled(), gc.get_freeze_count() > 10_000)",
    )
    ended = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "True True"

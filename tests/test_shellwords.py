"""Command lines are split as a shell does it, and what only a shell acts on is refused."""

import os
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dropmill.shellwords import ShellSyntax, split_words


@pytest.mark.parametrize(
    ("text", "syntax"),
    [
        ("cat {path} | wc -l", "|"),
        ("wc -l < {path}", "<"),
        ("wc -l {path} > out", ">"),
        ("wc -l {path} >> out", ">>"),
        ("wc {path} >out", ">"),
        ("wc {path}>out", ">"),
        ("wc {path} 2>&1", "2>&1"),
        ("wc {path} 2>/dev/null", "2>"),
        ("wc {path} 2>&-", "2>&-"),
        ("a && b", "&&"),
        ("a || b", "||"),
        ("a ; b", ";"),
        ("foo; bar", ";"),
        ("foo;", ";"),
        ("a &", "&"),
        ("curl http://a.example/?a=1&b=2", "?"),
        ("curl http://a.example/a&b=2", "&"),
        ("(a)", "("),
        ("diff <(sort {path}) x", "<("),
        ("echo $HOME", "$HOME"),
        ("echo a$HOME", "$HOME"),
        ('echo "$HOME/x"', "$HOME"),
        ("echo ${HOME}", "${HOME}"),
        ("echo ${path", "${path"),
        ("echo $(date)", "$("),
        ('echo "$(date)"', "$("),
        ("echo $((1+1))", "$(("),
        ("echo $1", "$1"),
        ("echo $$", "$$"),
        ("echo $?", "$?"),
        ("echo $'a\\n'", "$'"),
        ('echo $"a"', '$"'),
        ("echo `date`", "`"),
        ('echo "`date`"', "`"),
        ("cat ~", "~"),
        ("~/bin/tool {path}", "~"),
        ("~bob/tool {path}", "~bob"),
        ("cat *.txt", "*"),
        ("cat a?", "?"),
        ("cat [ab].txt", "["),
        ("convert {path}[0] {results}/a.png", "["),
        ("cat {path} # all of it", "#"),
        ("#", "#"),
        ("LANG=C sort {path}", "LANG="),
        ("cat a\ncat b", "a line break"),
        ("\\\n~", "~"),
    ],
)
def test_shell_syntax_in_a_command_is_refused(text: str, syntax: str) -> None:
    """The sentence names what a shell would act on, and bash -c."""
    with pytest.raises(ShellSyntax) as refused:
        split_words(text)
    assert f"in a shell {syntax} " in str(refused.value)
    assert "bash -c '...'" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ()),
        (" \t\n", ()),
        ("\n  wc -l {path}\n", ("wc", "-l", "{path}")),
        ("wc \\\n  -l", ("wc", "-l")),
        ("a\\\nb", ("ab",)),
        ("sed 's/a*/b/' {path}", ("sed", "s/a*/b/", "{path}")),
        (
            "bash -c 'cat \"$1\" | wc; echo ~ `date` #' - {path}",
            ("bash", "-c", 'cat "$1" | wc; echo ~ `date` #', "-", "{path}"),
        ),
        ('awk "{print \\$1}"', ("awk", "{print $1}")),
        ("awk '{print $1}'", ("awk", "{print $1}")),
        ('echo "a\\"b" "a\\\\b" "a\\`b" "a\\nb" "a\\\nb"', ("echo", 'a"b', "a\\b", "a`b", "a\\nb", "ab")),
        ("echo \\$HOME \\| \\* \\~ \\; \\#", ("echo", "$HOME", "|", "*", "~", ";", "#")),
        ("echo '|' \"*\" '~' \"a;b\" '#'", ("echo", "|", "*", "~", "a;b", "#")),
        ("echo '' \"\" a''b", ("echo", "", "", "ab")),
        ("echo a~ a#b 5$ $ \"$\" '$'", ("echo", "a~", "a#b", "5$", "$", "$", "$")),
        ("grep [ a=b --x={path}", ("grep", "[", "a=b", "--x={path}")),
        ("env LANG=C sort", ("env", "LANG=C", "sort")),
        ("a\rb", ("a\rb",)),
    ],
)
def test_quoted_and_plain_words_pass_as_they_are(text: str, words: tuple[str, ...]) -> None:
    """Quotes, escapes, joined lines, and characters that mean something only elsewhere."""
    assert split_words(text) == words


@pytest.mark.parametrize("text", ["a 'b", 'a "b', 'a "b\\"', "a\\", 'a "b\\'])
def test_what_a_shell_would_wait_for_is_refused(text: str) -> None:
    """An open quote or a backslash at the end."""
    with pytest.raises(ValueError, match=r"not closed|backslash") as refused:
        split_words(text)
    assert not isinstance(refused.value, ShellSyntax)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="aé0 \t\n'\"\\$=~#*?[]{}!%^-,.:@/|&;<>()`", max_size=24))
@example('"\\a\\$\\"\\\\\\`"')
@example("a \\\n b")
@example('""')
def test_words_are_those_of_a_real_shell(text: str) -> None:
    """Whatever is not refused, a shell makes the same words of; an open quote is one for it, too."""
    try:
        words = split_words(text)
    except ShellSyntax:
        return
    except ValueError as error:
        if "closed" in str(error):
            assert shell_words(text) is None
        return
    # Empty lines in front would be commands of their own there; here they are how a variable was written.
    assert shell_words(text.lstrip(" \t\n")) == words


def shell_words(text: str) -> tuple[str, ...] | None:
    """What `sh` makes of the text; None if it finds an error in it."""
    script = """eval "set -- $TEXT" && printf '%s\\0' "$#" "$@" """
    done = subprocess.run(["sh", "-f", "-c", script], env={"TEXT": text, "PATH": os.defpath}, capture_output=True)
    if done.returncode != 0:
        return None
    count, *words = done.stdout.decode().removesuffix("\0").split("\0")
    assert int(count) == len(words)
    return tuple(words)

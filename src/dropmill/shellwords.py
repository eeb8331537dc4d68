"""The words of a command line, split as a POSIX shell splits them, for programs that are run without a shell.

A shell would act on more than quotes: operators, variables, patterns, comments. Nothing here does, so a text that has
such syntax is refused instead of being passed on as it is (POSIX.1-2024, Shell Command Language, 2.2, 2.3, 2.6).
`shlex` does not know afterwards what was quoted, and reads a backslash inside double quotes in another way.
"""

import re
from typing import NoReturn

_BLANKS = " \t"
_OPERATOR = re.compile(r"[0-9]*[|&;<>()]+(?:(?<=&)[0-9-])?")
_VARIABLE = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|[0-9*@#?$!-]|\{[^}]*\}?|\(+)")
_QUOTE = re.compile(r"\$['\"]")  # where a shell knows it, an escape or a translation
_HOME = re.compile(r"~[^\s/]*")
_SET = re.compile(r"\[[^\s]+\]")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")


class ShellSyntax(ValueError):
    """The text has what only a shell acts on; the message says what, and what to do."""


def split_words(text: str) -> tuple[str, ...]:
    """The words that a shell would make of a text.

    Raises:
        ShellSyntax: a shell would act on it: an operator, a variable, `~`, a pattern for file names, a command in
            backquotes, a comment, a variable set for the command, a second line.
        ValueError: a quote is not closed, or a backslash stands at the end.
    """
    return tuple(_Reader(text).words())


class _Reader:
    """Reads a text from its beginning to its end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def words(self) -> list[str]:
        found: list[str] = []
        while self._skip_blanks(is_first=not found):
            begin = self._at
            word = self._word()
            if not found and (assignment := _ASSIGNMENT.match(self._text, begin, self._at)):
                _refuse(assignment[0], "sets a variable", "env NAME=VALUE COMMAND sets one, too")
            if word is not None:
                found.append(word)
        return found

    def _skip_blanks(self, *, is_first: bool) -> bool:
        """Go to the next word; False at the end. Lines may be empty before the first word and behind the last one."""
        begin = self._at
        while self._at < len(self._text) and self._text[self._at] in _BLANKS + "\n":
            self._at += 1
        is_over = self._at == len(self._text)
        if not is_first and not is_over and "\n" in self._text[begin : self._at]:
            _refuse("a line break", "ends the command", "a backslash before it joins the lines")
        return not is_over

    def _word(self) -> str | None:
        """The word that begins here; None if there was but a joined line."""
        parts: list[str] = []
        text = self._text
        begin = self._at
        while self._at < len(text) and (character := text[self._at]) not in _BLANKS + "\n":
            if character == "\\":
                self._escape(parts)
            elif character == "'":
                end = text.find("'", self._at + 1)
                if end < 0:
                    raise ValueError("has a ' that is not closed")
                parts.append(text[self._at + 1 : end])
                self._at = end + 1
            elif character == '"':
                self._double_quoted(parts)
            else:
                self._check_unquoted(is_begin=not parts, begin=begin)
                parts.append(character)
                self._at += 1
        return "".join(parts) if parts else None

    def _escape(self, parts: list[str]) -> None:
        following = self._text[self._at + 1 : self._at + 2]
        if not following:
            raise ValueError("ends in a backslash")
        if following != "\n":  # that one joins two lines
            parts.append(following)
        self._at += 2

    def _double_quoted(self, parts: list[str]) -> None:
        self._at += 1
        parts.append("")  # also "" is a word
        while (character := self._text[self._at : self._at + 1]) != '"':
            if not character:
                raise ValueError('has a " that is not closed')
            following = self._text[self._at + 1 : self._at + 2]
            if character == "\\" and following and following in '$`"\\\n':
                self._escape(parts)
                continue
            self._check_expansion()
            parts.append(character)
            self._at += 1
        self._at += 1

    def _check_expansion(self) -> None:
        """Refuse what a shell replaces, inside double quotes, too."""
        if found := _VARIABLE.match(self._text, self._at):
            _refuse(found[0], "is replaced")
        if self._text[self._at] == "`":
            _refuse("`", "begins a command whose output replaces it")

    def _check_unquoted(self, *, is_begin: bool, begin: int) -> None:
        """Refuse what a shell acts on where nothing is quoted."""
        self._check_expansion()
        text, at = self._text, self._at
        if text[at] in "|&;<>()":
            digits = begin if text[begin:at].isdigit() else at
            found = _OPERATOR.match(text, digits)
            _refuse(found[0] if found else text[at], "is an operator")
        if text[at] in "*?" or _SET.match(text, at):
            _refuse(text[at], "is a pattern for file names")
        if quote := _QUOTE.match(text, at):
            _refuse(quote[0], "begins a quote of another kind")
        if is_begin and (home := _HOME.match(text, at)):
            _refuse(home[0], "is a home folder")
        if is_begin and text[at] == "#":
            _refuse("#", "begins a comment")


def _refuse(syntax: str, meaning: str, way: str = "single quotes pass it on as it is") -> NoReturn:
    raise ShellSyntax(
        f"no shell is run, and in a shell {syntax} {meaning}; {way}, and bash -c '...' leaves it all to a shell"
    )

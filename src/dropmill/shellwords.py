"""Splits a command line into words as a POSIX shell does, for programs that run without a shell.

A shell acts on more than quotes: operators, variables, patterns, comments (POSIX.1-2024, Shell Command Language, 2.2,
2.3, 2.6). Nothing here does, so text with such syntax is refused rather than passed to the program. `shlex` is no
replacement: it does not say which parts were quoted, and treats a backslash inside double quotes differently.
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
    """The text has syntax that only a shell acts on; the message names it, and says what to do."""


def split_words(text: str) -> tuple[str, ...]:
    """The words into which a shell would split a text.

    Raises:
        ShellSyntax: a shell would act on part of it: an operator, a variable, `~`, a pattern for file names, a command
            in backquotes, a comment, a variable set for the command, a second line.
        ValueError: a quote is not closed, or the text ends in a backslash.
    """
    return tuple(_Reader(text).words())


class _Reader:
    """Reads a text once, from its beginning to its end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def words(self) -> list[str]:
        found: list[str] = []
        while self._skip_blanks(is_first=not found):
            begin = self._at
            word = self._word()
            if not found and (assignment := _ASSIGNMENT.match(self._text, begin, self._at)):
                _refuse(assignment[0], "sets a variable", "env NAME=VALUE COMMAND does the same")
            if word is not None:
                found.append(word)
        return found

    def _skip_blanks(self, *, is_first: bool) -> bool:
        """Go to the next word; False at the end. Empty lines may precede the first word and follow the last one."""
        begin = self._at
        while self._at < len(self._text) and self._text[self._at] in _BLANKS + "\n":
            self._at += 1
        is_over = self._at == len(self._text)
        if not is_first and not is_over and "\n" in self._text[begin : self._at]:
            _refuse("a line break", "ends the command", "a backslash before it joins the lines")
        return not is_over

    def _word(self) -> str | None:
        """The word that begins here; None if there is only a backslash that joins two lines."""
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
        if following != "\n":  # a backslash and a line end join two lines
            parts.append(following)
        self._at += 2

    def _double_quoted(self, parts: list[str]) -> None:
        self._at += 1
        parts.append("")  # "" is a word as well
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
        """Refuse what a shell replaces, inside double quotes as well."""
        if found := _VARIABLE.match(self._text, self._at):
            _refuse(found[0], "is replaced")
        if self._text[self._at] == "`":
            _refuse("`", "begins a command whose output replaces it")

    def _check_unquoted(self, *, is_begin: bool, begin: int) -> None:
        """Refuse what a shell acts on outside of quotes."""
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


def _refuse(syntax: str, meaning: str, way: str = "single quotes keep it as it is") -> NoReturn:
    raise ShellSyntax(
        f"no shell is run, and in a shell {syntax} {meaning}; {way}, and bash -c '...' runs all of it in a shell"
    )

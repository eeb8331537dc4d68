"""Every text that people read on a page comes from the catalogue.

What is looked for: words between tags and in attributes that are read, in templates; and literals in the scripts that
look like something to be read. A literal that only looks so is an exception below, with its reason.
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pytest

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "templates"
SCRIPTS = ROOT / "static" / "js"

UNFINISHED: set[str] = {
    "static/js/submission/overall.js",
    "static/js/submission/row-text.js",
    "templates/submission.html",
}
"""Files whose texts are not in the catalogue yet. The list may only become shorter."""

# --- templates -------------------------------------------------------------------------------------------------------

READ = {
    "alt",
    "aria-description",
    "aria-label",
    "aria-roledescription",
    "data-empty",
    "data-label",
    "placeholder",
    "title",
}
NAMES = {"Dropmill", "YAML"}  # the same in each language
_WORD = re.compile(r"[^\W\d_]{2,}")


class TextsOfTemplate(HTMLParser):
    """Collects what people read in HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style", "kbd"):
            self._inside.append(tag)
        self.found += [value for name, value in attrs if name in READ and value]

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.found.append(data.strip())


def texts_of_template(source: str) -> list[str]:
    """Texts in a template that do not come from the catalogue."""
    environment = jinja2.Environment(autoescape=True)
    html, written = "", []
    for _, kind, value in environment.lex(source):
        if kind == "data":
            html += value
        elif kind == "string":
            written.append(value[1:-1])
    parser = TextsOfTemplate()
    parser.feed(html)
    parser.close()
    # In an expression, a word with a capital or several words; anything else is a name for the code.
    literals = [text for text in written if re.search(r"^[A-Z][a-z]|[a-z] [a-z]", text)]
    return [text for text in [*parser.found, *literals] if set(_WORD.findall(text)) - NAMES]


# --- scripts ---------------------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.DOTALL)
_PATTERN = re.compile(r"/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/[a-z]*")
_BEFORE_PATTERN = re.compile(r"(?:[=(,:!&|?{};\[]|=>|\breturn)\s*$")
_FOR_DEVELOPERS = re.compile(
    r"(?:\bfrom|\bimport|\bimport\(|new (?:\w*Error|RegExp)\(|querySelector(?:All)?\(|closest\(|matches\(|matchMedia\("
    r"|(?:add|remove)EventListener\(|(?:get|set|remove|has)Attribute\(|\b(?:font|padding|margin|border|transform)\w*:)\s*$"
)
_CODE = re.compile(r"[\[{]|\w=")  # selectors, cookies
_READ = re.compile(
    r"[^\W\d_]{2,}[,.:;!?]* [^\W\d_]{2,}"  # two words
    r"|\0[,.:;!?]? [a-z]{2,}|[a-z]{2,}[,:]? \0"  # a word beside a value
    r"|^[A-Z][a-z]{2,}[.!?]?$"  # one word with a capital
)
EXCEPTIONS = {
    *("Enter", "Escape", "Delete", "Home", "End", "Tab", "Backspace", "Space"),  # names of keys
    *("Accept", "Authorization", "Location"),  # headers
    "sha256 \0",  # a header's value
    "Files",  # a drag's data type
    *("Chrome", "Edg", "Edge", "Firefox", "Opera", "Safari"),  # browsers
    *("Android", "Linux", "Macintosh", "Windows"),  # their systems
    *("Item", "Key", "Pair"),  # nodes of YAML's syntax tree
    *("changed outside of Dropmill", "at start-up"),  # messages that the server writes
}


def literals(source: str, at: int = 0, *, is_inside: bool = False) -> Iterator[tuple[str, str]]:
    """Each string literal of a script with what stands before it; values in a template literal are NUL."""
    end = len(source)
    while at < end:
        if (found := _PLAIN.match(source, at)) is not None:
            if found[0][0] in "\"'":
                yield source[:at], found[0][1:-1]
            at = found.end()
        elif source[at] == "`":
            start, text, inner = at, "", []
            at += 1
            while source[at] != "`":
                if source.startswith("${", at):
                    after = _end_of_value(source, at + 2)
                    inner.append((at + 2, after))
                    text, at = text + "\0", after + 1
                else:
                    step = 2 if source[at] == "\\" else 1
                    text, at = text + source[at : at + step], at + step
            at += 1
            yield source[:start], text
            for begin, after in inner:
                yield from literals(source[:after], begin)
        elif (
            source[at] == "/"
            and _BEFORE_PATTERN.search(source, max(0, at - 40), at)
            and (pattern := _PATTERN.match(source, at))
        ):
            at = pattern.end()
        else:
            at += 1


def _end_of_value(source: str, at: int) -> int:
    """Where the brace closes that `${` has opened."""
    depth = 1
    while True:
        if (found := _PLAIN.match(source, at)) is not None:
            at = found.end()
            continue
        if source[at] == "`":
            at += 1
            while source[at] != "`":
                if source.startswith("${", at):
                    at = _end_of_value(source, at + 2) + 1
                else:
                    at += 2 if source[at] == "\\" else 1
        elif source[at] == "{":
            depth += 1
        elif source[at] == "}":
            depth -= 1
            if depth == 0:
                return at
        at += 1


def texts_of_script(source: str) -> list[str]:
    """Texts in a script that do not come from the catalogue."""
    found = [
        text
        for before, text in literals(source)
        if _READ.search(text)
        and not _CODE.search(text)
        and text not in EXCEPTIONS
        and not _FOR_DEVELOPERS.search(before[-60:])
    ]
    return found + re.findall(r"(?<!const )\bcounted\([^)]*\)", source)


def texts_of(path: Path) -> list[str]:
    """Texts in a file that do not come from the catalogue."""
    return (texts_of_template if path.suffix == ".html" else texts_of_script)(path.read_text())


NOT_READ = {
    "static/js/config/editor-theme.js",  # a style sheet in the form that the editor takes
    "templates/styleguide.html",  # for development
}
FILES = {
    name: path
    for path in [*TEMPLATES.glob("*.html"), *SCRIPTS.rglob("*.js")]
    if (name := path.relative_to(ROOT).as_posix()) not in NOT_READ
}


@pytest.mark.parametrize("name", sorted(set(FILES) - UNFINISHED))
def test_every_text_is_in_the_catalogue(name: str) -> None:
    assert texts_of(FILES[name]) == []


@pytest.mark.parametrize("name", sorted(UNFINISHED))
def test_an_unfinished_file_is_taken_off_the_list_once_it_is_clean(name: str) -> None:
    assert name in FILES, "there is no such file any more: take it off the list"
    assert texts_of(FILES[name]), "its texts are in the catalogue: take it off the list"


@pytest.mark.parametrize(
    "source",
    [
        "<p>Drop files</p>",
        "<button aria-label='Close'></button>",
        "<img alt='A picture'>",
        "<input placeholder='{{ name }} of'>",
        "<td data-label='Size'>{{ size }}</td>",
        "{% if x %}<b>new</b>{% endif %}",
        "{{ 'Nothing yet' if x else y }}",
        "{% for word in ['All', 'Failed'] %}{{ word }}{% endfor %}",
    ],
)
def test_a_text_of_a_template_is_found(source: str) -> None:
    assert len(texts_of_template(source)) >= 1


@pytest.mark.parametrize(
    "source",
    [
        "<p>{{ t('upload.drop') }}: {{ n }} · 3</p>",
        "<button aria-label=\"{{ t('core.close') }}\" data-part='close'>+</button>",
        "{# Two words #}<script>const answer = 'Two words';</script><!-- Two words -->",
        "{% set page_name = 'upload' %}<a class='button primary' href='/x'>Dropmill</a>",
    ],
)
def test_what_is_no_text_of_a_template_is_not_found(source: str) -> None:
    assert texts_of_template(source) == []


@pytest.mark.parametrize(
    "source",
    [
        'setText(x, "Nothing was sent.");',
        "setText(x, 'Retry');",
        "x = `${n} files`;",
        "x = `${a ? `in ${b}` : ''}`;",
        "x = `${a ? 'not confirmed' : ''}`;",
        'x = y.replace(/"/g, "") + "more files";',
        'counted(n, "file")',
        'throw new Problem(0, { detail: "The connection broke." });',
    ],
)
def test_a_text_of_a_script_is_found(source: str) -> None:
    assert len(texts_of_script(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        'x = t("upload.too_large", { name: "n" });',
        '// "Two words"\n/* `Two words` */ x = 1;',
        'import { t } from "./some words.js";',
        'throw new Error("the page lacks it");',
        'x.querySelector("li a");',
        'x.matches("textarea, select");',
        "x = /[\"'] two words/.test(y);",
        'x = `[data-part="${name}"] b`;',
        "x = a / b; y = c / d;",
    ],
)
def test_what_is_no_text_of_a_script_is_not_found(source: str) -> None:
    assert texts_of_script(source) == []

"""What a check of a config's text reports: errors and warnings, each with its line, column and JSON pointer.

Positions are 1-based, columns count UTF-16 units as browsers do, lines end with LF, CR LF or CR.
"""

import re
from bisect import bisect_right
from dataclasses import asdict, dataclass
from typing import Any, Final

MAX_BYTES: Final = 1_048_576  # of a config's text: the API's 1 MiB
MAX_FINDINGS: Final = 100  # of each kind; nobody reads more, and an answer stays small
MAX_MESSAGE: Final = 300  # characters of a message or path: names in the text may be as long as the text

BOM: Final = "\ufeff"
LINE_END: Final = re.compile(r"\r\n?|\n")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """An error or a warning about a place in a config's text.

    Attributes:
        line: from 1.
        column: from 1, in UTF-16 units; a byte order mark is not counted.
        path: JSON pointer (RFC 6901) to the value or key; "" for the whole document, or if the text cannot be read.
        message: a sentence without its full stop.
    """

    line: int
    column: int
    path: str
    message: str

    def as_json(self) -> dict[str, Any]:
        """The finding as the API and the ledger show it."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a check found, in the order of the text.

    Attributes:
        errors: why the text is refused; at most `MAX_FINDINGS`. Text that breaks YAML's grammar gets one.
        warnings: what is accepted, but may not mean what its author thinks.
    """

    errors: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()

    @property
    def is_valid(self) -> bool:
        """Whether the text is accepted."""
        return not self.errors


def refusal(message: str) -> Report:
    """A report that refuses the text as a whole."""
    return Report(errors=(Finding(line=1, column=1, path="", message=message),))


def check_size(text: bytes) -> Report | None:
    """A report that refuses text over `MAX_BYTES`, else None. Cheap: call it before passing a text on."""
    if len(text) > MAX_BYTES:
        return refusal(f"The config has {len(text):,} bytes; at most {MAX_BYTES:,} are accepted")
    return None


def shown(name: Any) -> str:
    """A name from the text, short enough for a sentence."""
    text = str(name)
    return text if len(text) <= 60 else text[:59] + "…"


class Findings:
    """Collects findings by index into a text, and computes their lines and columns.

    Keeps at most `MAX_FINDINGS` of each kind, the first ones.
    """

    def __init__(self, text: str) -> None:
        self.errors: list[Finding] = []
        self.warnings: list[Finding] = []
        self._text = text
        self._starts = [0, *(end.end() for end in LINE_END.finditer(text))]

    def add_error(self, index: int, path: tuple[Any, ...], message: str) -> None:
        """Why the text is refused; `path` from the root, keys and list indexes, `message` without a full stop."""
        self._add(self.errors, index, path, message)

    def add_warning(self, index: int, path: tuple[Any, ...], message: str) -> None:
        """What may not mean what its author thinks; arguments as for `add_error`."""
        self._add(self.warnings, index, path, message)

    def _add(self, to: list[Finding], index: int, path: tuple[Any, ...], message: str) -> None:
        if len(to) >= MAX_FINDINGS:
            return
        line, column = self.position(index)
        pointer = "".join("/" + str(part)[:MAX_MESSAGE].replace("~", "~0").replace("/", "~1") for part in path)
        to.append(Finding(line=line, column=column, path=plain(pointer), message=plain(message)))

    def position(self, index: int) -> tuple[int, int]:
        """Line and column, from 1, the column in UTF-16 units."""
        line = bisect_right(self._starts, index)
        before = self._text[self._starts[line - 1] : index]
        if line == 1:
            before = before.removeprefix(BOM)
        return line, len(before.encode("utf-16-le")) // 2 + 1

    def report(self) -> Report:
        """All findings, in the order of the text."""
        return Report(errors=_sorted(self.errors), warnings=_sorted(self.warnings))


def plain(text: str) -> str:
    """Text of bounded length that UTF-8 can encode: escapes in YAML can make lone surrogates."""
    return text[:MAX_MESSAGE].encode("utf-8", "backslashreplace").decode()


def _sorted(findings: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: (finding.line, finding.column)))

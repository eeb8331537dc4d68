"""Names that people, scripts and attackers give files, and what each client makes of them on the wire."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

NAMES = (
    "plain.txt",
    'a"quote.txt',
    "an'apostrophe.txt",
    "back\\slash.txt",
    "new\nline.txt",
    "carriage\rreturn.txt",
    "both\r\nof them.txt",
    "tab\there.txt",
    "percent%22.txt",
    "100%.txt",
    "semi;colon=x, y.txt",
    "composed-\u00e4\u00f6\u00fc.txt",
    "decomposed-a\u0308.txt",
    "\U0001f4a9 \U0001f468\u200d\U0001f469\u200d\U0001f467.txt",
    "invoice\u202efdp.exe",
    "...dots",
    "../../up.txt",
    "/etc/passwd",
    "trailing dot.",
    "trailing space ",
    "n" * 251 + ".txt",
    "con.txt",
    "=?utf-8?B?YS50eHQ=?=",
    "filename*=utf-8''x.txt",
    "  spaces  in  it.txt",
    "\u6f22\u5b57.tar.gz",
)
assert len(set(NAMES)) == 26

# How a page shows what cannot be seen, as docs/decisions/pages.md has it; every other name is shown as it is.
SHOWN = {
    "new\nline.txt": "new\u240aline.txt",
    "carriage\rreturn.txt": "carriage\u240dreturn.txt",
    "both\r\nof them.txt": "both\u240d\u240aof them.txt",
    "tab\there.txt": "tab\u2409here.txt",
    "\U0001f4a9 \U0001f468\u200d\U0001f469\u200d\U0001f467.txt": (
        "\U0001f4a9 \U0001f468\u27e8U+200D\u27e9\U0001f469\u27e8U+200D\u27e9\U0001f467.txt"
    ),
    "invoice\u202efdp.exe": "invoice\u27e8U+202E\u27e9fdp.exe",
}


def _as_it_is(name: str) -> str:
    return name


def as_form(name: str) -> str:
    """What arrives of a name through a client that escapes as browsers do: nobody can tell %22 from a quote."""
    return name.replace("%22", '"')


@dataclass(frozen=True, kw_only=True)
class Client:
    """What a client makes of a name.

    Attributes:
        arrives: the path that arrives of a name that it carries.
        cannot: the names that it cannot carry, and why not. What happens to them is in the tests, too.
    """

    arrives: Callable[[str], str] = as_form
    cannot: Mapping[str, str] = field(default_factory=dict)

    @property
    def carried(self) -> Sequence[str]:
        """The names that it carries."""
        return [name for name in NAMES if name not in self.cannot]


def _cannot(characters: str, reason: str) -> Mapping[str, str]:
    return {name: reason for name in NAMES if set(characters) & set(name)}


_CRLF = {"both\r\nof them.txt": "the line end is written into the part's header as it is, and ends it"}
_NO_FILE_NAME = _cannot("/", "no file on a disk is called so; the part behind the last slash is sent")

CLIENTS = {
    "requests": Client(),
    "httpx": Client(arrives=lambda name: as_form(name).replace("\t", "%09")),
    "aiohttp": Client(
        arrives=lambda name: as_form(quote(name, "")), cannot=_cannot("\r\n", "it refuses line ends itself")
    ),
    "aiohttp, unquoted": Client(cannot=_cannot("\r\n", "it refuses line ends itself")),
    "undici": Client(),
    "curl -F": Client(),
    "curl -F --form-escape": Client(cannot=_CRLF),
    "curl -F of a file on disk": Client(cannot=_NO_FILE_NAME),
    "curl -T": Client(arrives=_as_it_is),
    "curl -T of a file on disk": Client(
        arrives=_as_it_is,
        cannot={**_NO_FILE_NAME, "back\\slash.txt": "curl takes a backslash for the end of a folder's name"},
    ),
    "curl --data-binary": Client(arrives=_as_it_is),
    "wget": Client(arrives=_as_it_is),
    "go": Client(cannot=_CRLF),  # before Go 1.25
    "java-HttpURLConnection": Client(),
    "java-HttpClient": Client(),
    "dotnet": Client(cannot=_cannot('"\r\n', ".NET refuses quotes and line ends itself")),
    "powershell": Client(cannot=_cannot('"\r\n', ".NET refuses quotes and line ends itself")),
}

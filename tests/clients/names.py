"""Names that people, scripts and attackers give files, and what each client makes of them on the wire."""

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


def as_form(name: str) -> str:
    """What arrives of a name through a client that escapes as browsers do: nobody can tell %22 from a quote."""
    return name.replace("%22", '"')


def without_line_ends(names: tuple[str, ...] = NAMES) -> tuple[str, ...]:
    """For clients that refuse these in a name, or put them into the header as they are."""
    return tuple(name for name in names if "\r" not in name and "\n" not in name)

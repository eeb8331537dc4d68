"""The error of a failed attempt, in the script's own words if there are any.

An exception, or the text that a callable gives to `SystemExit`, is the script's own. A script that exits with a number
usually prints the reason as its last line before, so that line is the message. A signal comes from outside: then the
last line is about something else, and the message names the signal. Paths of the server mean nothing to the person who
sent the file, so each message has the client's name for the file in place of the stored one, and no path of the data
folder.
"""

import re
import signal
from collections.abc import Iterable

from dropmill.model.jobs import JobError
from dropmill.text import visible

LAST_LINE_BYTES = 8 * 1024  # of the end of an output, searched for its last line
LINE_CHARACTERS = 500  # longest line of output that becomes a message whole
MESSAGE_CHARACTERS = 4000

# Each kind of repetition ends where the next escape may begin, so no text takes more than linear time.
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_]|[ -/]+[0-~])")
_LINE_END = re.compile(r"[\r\n]+")
_TO_THE_SERVER = "dropmill: "  # lines that report progress say nothing about an error


def last_line(output: bytes) -> str:
    """The last line with a visible character, as visible text.

    Args:
        output: the end of an attempt's output, at most `LAST_LINE_BYTES`.

    Returns:
        At most `LINE_CHARACTERS` characters, without colours and other terminal escapes; "" if there is none.
    """
    text = _ESCAPE.sub("", output.decode(errors="replace"))
    for line in reversed(_LINE_END.split(text)):
        shown = visible(" ".join(line.split()))
        if shown and not shown.startswith(_TO_THE_SERVER):
            return shown if len(shown) <= LINE_CHARACTERS else shown[: LINE_CHARACTERS - 1] + "…"
    return ""


def exit_error(code: int, line: str) -> JobError:
    """The error of a process that ended with a code other than 0.

    Args:
        code: -n means signal n.
        line: the last line that the script wrote; "" for none.
    """
    if code > 0:
        return JobError(type="exit_code", message=line or f"exited with code {code}")
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a real-time signal
        name = "a signal"
    return JobError(type="signal", message=f"killed by {name} (signal {-code})")


def in_clients_words(error: JobError, names: Iterable[tuple[str, str]]) -> JobError:
    """The error as visible text of lines, without terminal escapes, with other names in place of the server's.

    Args:
        error: as the script or the server gave it.
        names: the server's, each with what takes its place; replaced one after the other.
    """
    message = error.message
    for own, other in names:
        message = message.replace(own, other)
    lines = _ESCAPE.sub("", message.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
    shown = "\n".join(visible(line.expandtabs(4)) for line in lines)
    return JobError(type=visible(error.type), message=shown[:MESSAGE_CHARACTERS])

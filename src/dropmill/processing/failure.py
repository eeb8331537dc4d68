"""The error of a failed attempt, in the script's own words if there are any.

An exception, or the text that a callable gives to `SystemExit`, is the script's own. An executable usually prints the
reason as its last line and exits, so that line is the message. A signal comes from outside: then the last line is about
something else, and the message names the signal. The name of the stored file means nothing to the person who sent it,
so each message has the client's name for the file in its place.
"""

import re
import signal
from dataclasses import replace
from pathlib import Path

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
        line: the last line that an executable wrote; "" for none, and for a callable.
    """
    if code > 0:
        return JobError(type="exit_code", message=line or f"exited with code {code}")
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a real-time signal
        name = "a signal"
    return JobError(type="signal", message=f"killed by {name} (signal {-code})")


def in_clients_words(error: JobError, stored: Path, name: str) -> JobError:
    """The error with the client's name for the file wherever its message names the stored one.

    Args:
        error: as the script or the server gave it.
        stored: the file that the script was given.
        name: the client's name for it.
    """
    message = error.message
    for one in (str(stored), stored.name):  # a generated name: no other text contains it
        message = message.replace(one, visible(name))
    return error if message == error.message else replace(error, message=message[:MESSAGE_CHARACTERS])

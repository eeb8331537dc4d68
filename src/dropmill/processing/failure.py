"""The error of an attempt that failed, in the script's own words where it has said any.

An exception, or the text that a callable gives to `SystemExit`, is the script's own. An executable usually writes why
it fails as its last line and exits, so that line is the message. A signal comes from outside: there the script's last
line is about something else, and the signal is named. The message never names the stored file, whose name means nothing
to the person who sent it, but the client's name for it.
"""

import re
import signal
from dataclasses import replace
from pathlib import Path

from dropmill.model.jobs import JobError
from dropmill.text import visible

LAST_LINE_BYTES = 8 * 1024  # of the end of an output, in which its last line is looked for
LINE_CHARACTERS = 500  # of a line of output as a message; the output has the rest
MESSAGE_CHARACTERS = 4000

# Each kind of repetition ends where the next escape may begin, so no text takes more than linear time.
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_]|[ -/]+[0-~])")
_LINE_END = re.compile(r"[\r\n]+")
_TO_THE_SERVER = "dropmill: "  # lines that report progress are no words about an error


def last_line(output: bytes) -> str:
    """The last line that shows something, as one line of visible text.

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
    for one in (str(stored), stored.name):  # a generated name, which no other text holds by chance
        message = message.replace(one, visible(name))
    return error if message == error.message else replace(error, message=message[:MESSAGE_CHARACTERS])

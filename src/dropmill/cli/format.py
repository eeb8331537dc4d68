"""How the command line prints things: one line each, without characters that a terminal would obey."""

import sys
from datetime import datetime
from typing import Any, NoReturn

from dropmill.text import visible

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
SECONDS_SHOWN = 60.0  # a longer duration is printed in minutes


def printable(text: object) -> str:
    """Foreign text with unprintable characters escaped, so that a file's name cannot control the terminal."""
    return visible(str(text))


def size_text(size: int) -> str:
    """A number of bytes, rounded, such as `1.2 GiB`."""
    amount = float(size)
    for unit in UNITS:
        if amount < 1024 or unit == UNITS[-1]:
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def event_line(event: Any) -> str:
    """An Event of the contract as one line: local time, name, file, its other data."""
    at = datetime.fromisoformat(event["at"]).astimezone().strftime("%H:%M:%S")
    subject, data = event["subject"], event["data"]
    words = [at, f"{event['name']:<20}"]
    if subject["name"] is not None:
        words.append(printable(subject["name"]))
    elif subject["submission_id"] is not None:
        words.append(f"submission {printable(subject['submission_id'])}")
    words += [f"{key}={printable(text)}" for key, value in data.items() if (text := _value_text(key, value))]
    return "  ".join(words)


def _value_text(key: str, value: Any) -> str:
    if value is None or value in ([], {}):
        return ""
    match key, value:
        case "size" | "output_size", int():
            return size_text(value)
        case "duration", int() | float():
            return f"{value:.1f}s" if value < SECONDS_SHOWN else f"{value / 60:.1f}min"
        case "sha256" | "config_revision", str():
            return value[:12]
        case "counts", dict():
            return ", ".join(f"{number} {state}" for state, number in value.items() if number)
        case "error", {"type": kind, "message": message}:
            return f"{kind}: {message}"
        case "results", _:
            return ""  # `result_count` is printed as well
        case "result_count", 0:
            return ""
    return str(value)


def say_wait(reason: str, seconds: float) -> None:
    """Print why a request is repeated, and in how many seconds."""
    print(f"dropmill: {printable(reason)} Trying again in {seconds:g} s.", file=sys.stderr, flush=True)


def stop_with(sentence: str, code: int = 1) -> NoReturn:
    """Print one line to standard error and end the process with `code`."""
    print(f"dropmill: {printable(sentence)}", file=sys.stderr)
    sys.exit(code)

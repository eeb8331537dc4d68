"""What the server and its slots say to each other.

    server to slot    {"run": {...}} with two descriptors, the output pipe and the report pipe
                      {"signal": "terminate"}   SIGTERM to the attempt's process group
                      {"signal": "kill"}        SIGKILL to the group and to every descendant of the slot
                      {"alive": true}           the server is not suspended; only if the slot waits for that
                      end of the socket: kill everything and exit
    slot to server    {"ready": {...}} or {"error": "..."}   once, when the callable is imported and fits; with `reload`
                                                the files that `files_of_modules` found
                      {"ended": -9, "is_tidy": true, "is_input_same": true}
                                                once the last descendant is gone: the exit code; whether the attempt's
                                                folders are removed; whether the input has its identity still (null: the
                                                disk did not say)
                                                with `reuse` also "is_last": whether the slot ends
                      {"refused": null} or {"refused": [28, "No space left on device", "/path"]}
                                                nothing was run: the input has another identity; the disk refuses
    attempt to server, on the report pipe: lines of one letter and JSON
                      p[3, 10, "label"]  progress; p[null, null, "label"] keeps the numbers
                      v{...}  the value returned    e["Type", "message"]  an error

The socket is of type SOCK_SEQPACKET, so that a message is never cut.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii

TYPE_CHECKING = False
if TYPE_CHECKING:  # each import makes the slot larger, and every fork of it slower
    from typing import Any

# Under the default socket buffer (208 KiB). Names are bounded; a real message is about 2 KiB.
MESSAGE_BYTES = 128 * 1024
VALUE_BYTES = 64 * 1024  # longest returned value that is kept, as JSON; larger data belongs in the results folder
LABEL_CHARACTERS = 200  # keeps a progress line under PIPE_BUF (4 KiB), so that lines of several processes never mix

# Bound before a script can replace `json.dumps`.
_encode = json.JSONEncoder().encode
_encode_value = json.JSONEncoder(allow_nan=False).encode


def report_line(kind: str, what: Any) -> bytes:
    """A line for the report pipe.

    Args:
        kind: `p`, `v` or `e`.
        what: anything that JSON can hold.
    """
    return f"{kind}{_encode(what)}\n".encode()


def error_line(kind: str, message: str) -> bytes:
    """The line that reports an error; whatever a script did to `json`."""
    return f"e[{encode_basestring_ascii(kind)},{encode_basestring_ascii(message)}]\n".encode()


def value_line(value: Any, most: int) -> bytes:
    """The line that reports a returned value: null if JSON cannot hold it or it is longer than `most` bytes."""
    if value is None:
        return b"vnull\n"
    try:
        text = _encode_value(value)
    except Exception:  # TypeError, ValueError, RecursionError, and what a script has made of `json`
        return b"vnull\n"
    return f"v{text}\n".encode() if len(text) <= most else b"vnull\n"

"""What the servers beside Dropmill tell their clients: events as large as Dropmill's, one a message."""

import json
from datetime import UTC, datetime

PAUSE_S = 1.0  # from the last client that joined to the first event

CLIENT = {"ip": "203.0.113.7", "host": "client.example.org", "domain": "example.org"}


def event(number: int, count: int) -> str:
    """The message with an event's number, counted from 0; the last one of all says that it is."""
    told = {
        "cursor": number + 1,
        "name": "submission.settled" if number == count - 1 else "attempt.started",
        "at": datetime.now(UTC).isoformat(),
        "submission": f"{7:026d}",
        "file": f"{number:026d}",
        "job": f"{number:026d}",
        "path": f"{number}.bin",
        "client": CLIENT,
        "data": {"attempt": 1, "slot": 2, "config": "ab" * 32},
    }
    return json.dumps({"type": "events", "topic": f"submission:{7:026d}", "events": [told]}, separators=(",", ":"))

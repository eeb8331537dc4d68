"""Labels for states, events and server parts: one table for every page, with and without scripts.

Code, API and log file use the glossary's words; people read these labels.
"""

from collections.abc import Mapping, Sequence

from dropmill.model.events import EventName

STATE_WORDS: Mapping[str, str] = {
    # uploads
    "announced": "To be sent",
    "receiving": "Sending",
    "stored": "Sent",
    "aborted": "Not sent",
    # uploads, on the page that sends them
    "paused": "Paused",
    "retrying": "Retrying",
    "refused": "Refused",
    # jobs
    "queued": "Waiting",
    "running": "Processing",
    "succeeded": "Succeeded",
    "failed": "Failed",
    "cancelled": "Cancelled",
    # attempts only
    "lost": "Lost",
    # submissions
    "open": "Being sent",
    "processing": "Being processed",
    "settled": "Completed",
}

EVENT_WORDS: Mapping[str, str] = {
    **{name.value: name.value.partition(".")[2].replace("_", " ") for name in EventName},  # unless it is below
    "client.identified": "identified",
    "submission.opened": "opened",
    "submission.sealed": "all sent",
    "submission.settled": "finished",
    "upload.started": "sending",
    "upload.stored": "sent",
    "upload.aborted": "not sent",
    "job.queued": "waiting",
    "job.settled": "completed",
    "attempt.started": "picked up",
    "attempt.succeeded": "processed",
    "attempt.failed": "failed",
    "attempt.cancelled": "cancelled",
    "attempt.lost": "lost",
    "config.saved": "config saved",
    "config.rejected": "config rejected",
    "config.purged": "config purged",
}

PART_WORDS: Mapping[str, str] = {
    "attempt_clean_up": "removal of temporary script files",
    "attempts": "recording of attempts",
    "config": "config file",
    "config_watch": "config file watcher",
    "disk_space": "disk space for new files",
    "event_log": "event log",
    "file_store": "file store",
    "intake": "closing of abandoned submissions",
    "ledger": "database",
    "retention": "removal of old files",
    "slots": "starting scripts",
    "upload_clean_up": "clean-up of interrupted uploads",
    "uploads": "removal of expired uploads",
    "webhook": "webhook",
}
"""Parts of the server as `/readyz` lists them in `degraded`."""

WORDS: Mapping[str, Mapping[str, str]] = {"states": STATE_WORDS, "events": EVENT_WORDS, "parts": PART_WORDS}
"""All tables, as page data for the scripts."""


def part_words(parts: Sequence[str]) -> str:
    """Labels for parts of the server, comma-separated; an unknown part is its own label."""
    return ", ".join(PART_WORDS.get(part, part) for part in parts)


def state_word(state: str) -> str:
    """Label for a state; an unknown state is its own label."""
    return STATE_WORDS.get(state, state)

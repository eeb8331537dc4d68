"""People's words for states and events: one table for every page, with scripts and without.

Code, API and log file keep the glossary's words; these are what a person reads.
"""

from collections.abc import Mapping, Sequence

STATE_WORDS: Mapping[str, str] = {
    # uploads
    "announced": "To be sent",
    "receiving": "Sending",
    "stored": "Sent",
    "aborted": "Not sent",
    # uploads, as the page that sends them knows more
    "paused": "Paused",
    "retrying": "Retrying",
    "refused": "Refused",
    # jobs
    "queued": "Waiting",
    "running": "Processing",
    "succeeded": "Succeeded",
    "failed": "Failed",
    "cancelled": "Cancelled",
    # attempts, where they differ
    "lost": "Lost",
    # submissions
    "open": "Being sent",
    "processing": "Being processed",
    "settled": "Completed",
}

EVENT_WORDS: Mapping[str, str] = {
    "client.identified": "identified",
    "submission.opened": "opened",
    "submission.sealed": "all sent",
    "submission.settled": "all of it",
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
    "config.rejected": "config refused",
    "config.purged": "config purged",
    "account.signed_in": "signed in",
    "account.signed_out": "signed out",
}

PART_WORDS: Mapping[str, str] = {
    "attempt_clean_up": "removal of what scripts left",
    "attempts": "recording of attempts",
    "config": "config file",
    "config_watch": "watching of the config file",
    "disk_space": "disk space for new files",
    "event_log": "event log",
    "file_store": "file store",
    "intake": "closing of abandoned submissions",
    "ledger": "database",
    "retention": "removal of old files",
    "slots": "start of script processes",
    "upload_clean_up": "clean-up after broken uploads",
    "uploads": "removal of expired uploads",
    "webhook": "webhook",
}
"""Parts of the server as `/readyz` lists them in `degraded`."""

WORDS: Mapping[str, Mapping[str, str]] = {"states": STATE_WORDS, "events": EVENT_WORDS, "parts": PART_WORDS}
"""All tables as the pages' scripts get them."""


def part_words(parts: Sequence[str]) -> str:
    """What a person reads for parts of the server; an unknown one reads as itself."""
    return ", ".join(PART_WORDS.get(part, part) for part in parts)


def state_word(state: str) -> str:
    """What a person reads for a state; an unknown one reads as itself."""
    return STATE_WORDS.get(state, state)

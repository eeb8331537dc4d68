"""People's words for states and events: one table for every page, with scripts and without.

Code, API and log file keep the glossary's words; these are what a person reads.
"""

from collections.abc import Mapping

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

WORDS: Mapping[str, Mapping[str, str]] = {"states": STATE_WORDS, "events": EVENT_WORDS}
"""Both tables as the pages' scripts get them."""


def state_word(state: str) -> str:
    """What a person reads for a state; an unknown one reads as itself."""
    return STATE_WORDS.get(state, state)

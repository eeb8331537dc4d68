"""`dropmill log`: what has happened, from the ledger in the data folder, whether or not a server runs on it."""

import asyncio
import sys
from typing import Any, Final

import click

from dropmill.cli.format import printable
from dropmill.cli.offline import run_on_ledger
from dropmill.cli.options import folder_options
from dropmill.model.events import TOPIC_ALL, TOPIC_AUDIT, Event
from dropmill.model.ids import Cursor
from dropmill.ports.ledger import Ledger
from dropmill.text import time_text
from dropmill.wire.log_line import log_line, message_of

EVENTS_A_READ: Final = 500
POLL_S: Final = 1.0  # the server's processes hear of each other's changes as fast


@click.command("log")
@click.option("--audit", "is_audit", is_flag=True, help="Only what people did to the server, and were refused.")
@click.option("--follow", is_flag=True, help="Wait for further events until Ctrl-C.")
@click.option("--last", metavar="N", type=click.IntRange(0), help="Begin with the last N events. Default: all")
@folder_options
@click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON, as the log file has it.")
def command(is_audit: bool, follow: bool, last: int | None, as_json: bool, **flags: Any) -> None:
    """Print what has happened, or who did what (--audit).

    All events that the ledger keeps, the oldest first. With --audit: sign-ins and sign-outs, refusals, changes of
    accounts, tokens and the config, notices, cancels and retries, each with the account and the address of who did it.
    """
    topic = TOPIC_AUDIT if is_audit else TOPIC_ALL

    async def work(ledger: Ledger) -> None:
        after = Cursor(0) if last is None else await _begin(ledger, topic, last)
        while True:
            page = await ledger.events(topic, after=after, limit=EVENTS_A_READ)
            for event in page.events:
                sys.stdout.write(log_line(event) if as_json else _line(event))
            after = page.cursor
            if len(page.events) == EVENTS_A_READ:
                continue
            sys.stdout.flush()
            if not follow:
                return
            await asyncio.sleep(POLL_S)

    try:
        run_on_ledger(flags, work)
    except KeyboardInterrupt:
        return


async def _begin(ledger: Ledger, topic: str, last: int) -> Cursor:
    """The cursor after which the last so many events of a topic are."""
    newest = await ledger.newest_cursor()
    if last == 0:
        return newest
    page = await ledger.events_before(topic, before=Cursor(newest + 1), limit=last)
    return Cursor(page.events[0].cursor - 1) if page.events else newest


def _line(event: Event) -> str:
    subject, client = event.subject, event.subject.client
    who = f"{subject.account or '-'} {'-' if client is None else client.ip}"
    about = [subject.name, subject.job_id or subject.submission_id]
    parts = [time_text(event.at), event.name, who, message_of(event), *(part for part in about if part)]
    return printable("  ".join(str(part) for part in parts)) + "\n"

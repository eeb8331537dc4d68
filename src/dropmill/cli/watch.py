"""`dropmill watch`: prints events as they happen, one line each."""

import asyncio
import os
import sys

import click

from dropmill.cli.format import event_line, say_wait, stop_with
from dropmill.cli.options import client_options
from dropmill.client import AsyncClient, ClientError, Gap
from dropmill.wire.encoding import dumps

GAPS = {
    "removed": "the server has removed older events; the following are those it still keeps.",
    "other_ledger": "the server has another ledger than before; the following are its new events.",
}


@click.command("watch")
@click.argument("submission", required=False)
@client_options
@click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")
def command(submission: str | None, server: str, token: str | None, insecure_http: bool, as_json: bool) -> None:
    """Follow events until Ctrl-C.

    Without SUBMISSION: all events from now on. With it: every event of that submission, from the first.
    """
    topic, after = ("all", None) if submission is None else (f"submission:{submission}", 0)
    try:
        client = AsyncClient(server, token=token, insecure_http=insecure_http, on_wait=say_wait)
        asyncio.run(_print(client, topic, after, as_json))
    except ClientError as error:
        stop_with(str(error))
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        # The reader has enough (`dropmill watch | head`). Python would report the pipe again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _print(client: AsyncClient, topic: str, after: int | None, as_json: bool) -> None:
    async for event in client.follow(topic, after, on_gap=_say_gap):
        print(dumps(event) if as_json else event_line(event), flush=True)


def _say_gap(gap: Gap) -> None:
    print(f"dropmill: {GAPS[gap.reason]}", file=sys.stderr)

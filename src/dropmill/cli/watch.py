"""`dropmill watch`: prints events as they happen, one line each."""

import os
import sys

import click

from dropmill.cli.format import event_line, say_wait, stop_with
from dropmill.cli.options import client_options
from dropmill.client import ApiClient, ClientError
from dropmill.wire.encoding import dumps


@click.command("watch")
@click.argument("submission", required=False)
@client_options
@click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")
def command(submission: str | None, server: str, token: str | None, as_json: bool) -> None:
    """Follow events until Ctrl-C.

    Without SUBMISSION: all events from now on. With it: every event of that submission, from the first.
    """
    try:
        with ApiClient(server, token=token, on_wait=say_wait) as client:
            after, topic = 0, "all"
            if submission is None:
                after = client.newest_cursor()
            else:
                topic = f"submission:{client.submission(submission)['id']}"
            for event in client.follow(topic, after, on_gap=_say_gap):
                print(dumps(event) if as_json else event_line(event), flush=True)
    except ClientError as error:
        stop_with(str(error))
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        # The reader has enough (`dropmill watch | head`). Python would report the pipe again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say_gap() -> None:
    print("dropmill: the server has removed older events; the following are those it still keeps.", file=sys.stderr)

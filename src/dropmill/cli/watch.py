"""`dropmill watch`: events as they happen, one line each."""

import json
import os
import sys

from dropmill.cli.format import event_line, say_wait, stop_with
from dropmill.client import ApiClient, ClientError


def run(submission_id: str | None, server: str, token: str | None, *, as_json: bool) -> None:
    """Print events until Ctrl-C, which is how this ends well.

    Args:
        submission_id: the one to follow, from its beginning; None follows everything from now on.
        server: its URL.
        token: who asks; None without sign-in.
        as_json: each event as the API tells it.
    """
    try:
        with ApiClient(server, token=token, on_wait=say_wait) as client:
            after, topic = 0, "all"
            if submission_id is None:
                after = client.newest_cursor()
            else:
                topic = f"submission:{client.submission(submission_id)['id']}"
            for event in client.follow(topic, after, on_gap=_say_gap):
                print(json.dumps(event, separators=(",", ":")) if as_json else event_line(event), flush=True)
    except ClientError as error:
        stop_with(str(error))
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        # Whoever read us has enough (`dropmill watch | head`). Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say_gap() -> None:
    print("dropmill: older events have been removed by then; these are the ones that are kept.", file=sys.stderr)

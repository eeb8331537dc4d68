"""Saves configs one after the other until it is killed: the real file, ledger and parser, without a server around them.

`python -m tests.system.faults.config_writer` makes a fork for each line `FOLDER WAY NUMBER` that it reads, since
loading all that takes longer than what is tested. A fork opens the config in that folder and says `ready PID SHA256`
(of the newest revision); then, before it begins, waits for any line. It saves by one way, again and again, and writes
`begin SHA256`, `checked`, `saved SHA256` of each; the numbers in the texts count from NUMBER. After its
end there is a line `over`.
"""

import asyncio
import hashlib
import os
import re
import traceback
from pathlib import Path
from typing import Any

from tests.support.scenarios import CALLER

from dropmill.configfile.parser import ParserProcess
from dropmill.configfile.revisions import ConfigFile
from dropmill.configfile.yaml.edits import Operation
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.config import ConfigLocation

WAYS = ("save", "save large", "edit", "restore")
LARGE = 300_000  # bytes


def main() -> None:
    """Make forks until the end of standard input."""
    while line := os.read(0, 1000):
        folder, way, number = line.decode().rstrip("\n").split("\t")
        if pid := os.fork():
            os.waitpid(pid, 0)
            say("over")
            continue
        try:
            asyncio.run(save_until_killed(Path(folder), way, int(number)))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)


def say(line: str) -> None:
    """A line for whoever kills; what was written before a kill arrives."""
    os.write(1, f"{line}\n".encode())


class Telling(ParserProcess):
    """Signals that a text has been read: what follows is the part that matters."""

    async def check(self, *args: Any, **named: Any) -> Any:
        report = await super().check(*args, **named)
        say("checked")
        return report

    async def edit(self, *args: Any, **named: Any) -> Any:
        edit = await super().edit(*args, **named)
        say("checked")
        return edit


async def save_until_killed(folder: Path, way: str, number: int) -> None:
    """Open, wait, save."""
    ledger = SqliteLedger(folder / "ledger.sqlite", lambda cursor: None)
    await ledger.open()
    parser = Telling()
    await parser.start()
    location = ConfigLocation(host="here", path=str(folder / "config.yaml"), data_folder=str(folder))
    config = ConfigFile(location, ledger, parser, aside=folder / "aside")
    await config.open()
    text, newest = await config.read(CALLER)
    say(f"ready {os.getpid()} {newest.sha256}")
    os.read(0, 1000)  # nothing else runs yet that it could hold up
    while True:
        number += 1
        older = (await ledger.revisions(before=None, limit=2)).items[1:]
        if way == "restore" and older:
            say(f"begin {older[0].sha256}")
            newest = await config.restore(CALLER, older[0].sha256, newest.sha256, None)
        elif way == "edit":
            text = re.sub(rb"number: \d+", b"number: %d" % number, text)
            say(f"begin {hashlib.sha256(text).hexdigest()}")
            operation = Operation(kind="replace", path=("number",), value=number)
            newest, _ = await config.edit(CALLER, [operation], newest.sha256, None)
        else:
            new = text_of(number, LARGE if way == "save large" else number * 137 % 5000)
            say(f"begin {hashlib.sha256(new).hexdigest()}")
            newest = await config.save(CALLER, new, newest.sha256, None)
        say(f"saved {newest.sha256}")


def text_of(number: int, size: int) -> bytes:
    """A config of about that size, unlike all others, with a last line to be missed."""
    return b"# save %d\nnumber: %d # of this save\n%b\n# end\n" % (number, number, b"# " + b"x" * size)


if __name__ == "__main__":
    main()

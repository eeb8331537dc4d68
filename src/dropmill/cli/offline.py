"""What commands on the ledger share: it is opened beside a server that may run."""

import asyncio
import getpass
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

from dropmill.cli.format import stop_with
from dropmill.model.errors import BadRequest, DropmillError, SettingsError
from dropmill.ports.ledger import Ledger
from dropmill.settings import Settings


@asynccontextmanager
async def ledger_of(settings: Settings) -> AsyncIterator[Ledger]:
    """The ledger of the settings, open until the block ends. It is neither made nor migrated.

    Raises:
        SettingsError: there is none, or this version cannot use it.
    """
    from dropmill.app import offline_ledger  # 0.5 s, and more memory than `config check FILE` needs

    data = settings.data.absolute()
    if settings.database_url is None and not await asyncio.to_thread(data.is_dir):
        raise SettingsError(f"--data {data}: there is no such folder.")
    ledger = offline_ledger(settings)
    try:
        await ledger.open(without_lock=True)
        yield ledger
    finally:
        await ledger.close()


def run_on_ledger(flags: Mapping[str, Any], work: Callable[[Ledger], Coroutine[Any, Any, None]]) -> None:
    """Do something with the ledger of the settings; an error ends the process with one line."""

    async def run() -> None:
        async with ledger_of(Settings.load(flags, os.environ)) as ledger:
            await work(ledger)

    try:
        asyncio.run(run())
        sys.stdout.flush()
    except SettingsError as error:
        stop_with(error.detail, 2)
    except DropmillError as error:
        stop_with(error.detail)
    except BrokenPipeError:
        # The reader has enough. Python would report the pipe again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def asked_password(*, from_stdin: bool) -> str:
    """A new password: the first line of standard input, or typed twice on the terminal.

    Raises:
        BadRequest: the two differ, or nothing was given.
    """
    if from_stdin:
        password = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    else:
        try:
            password = getpass.getpass("Password: ")
            if getpass.getpass("The same again: ") != password:
                raise BadRequest("The two passwords differ; nothing was changed.")
        except EOFError:
            raise BadRequest("No password was given.") from None
    if not password:
        raise BadRequest("No password was given.")
    return password

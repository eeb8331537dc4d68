"""`dropmill worker`: runs the jobs of servers that share a ledger in Postgres and a folder, until a signal stops it."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dropmill import descriptors
from dropmill.app import Worker
from dropmill.cli.again import begin_anew
from dropmill.cli.options import SettingsCommand, settings_options
from dropmill.model.errors import DropmillError
from dropmill.processing.processor import Processor
from dropmill.settings import GROUPS, Settings

OWN = ("data", *(field.name for group in ("Script", "Several hosts") for field in GROUPS[group]))
"""The settings with a flag; a worker reads every variable that a server reads."""


def _own_options(command: Callable[..., Any]) -> Callable[..., Any]:
    return settings_options(command, OWN)


@click.command("worker", cls=SettingsCommand)
@_own_options
@click.option(
    "--queue",
    "queues",
    metavar="NAME",
    multiple=True,
    help="Run the jobs of this queue; may be given several times. Default: those without a queue.",
)
def command(queues: tuple[str, ...], **flags: Any) -> None:
    """Run the jobs of servers that share a ledger in Postgres."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        settings = Settings.load({**flags, "executor": "ledger"}, os.environ)
        descriptors.raise_limit()
        worker = Worker(settings, Processor.from_settings(settings, Path.cwd()), queues)
        asyncio.run(_work(worker))
    except DropmillError as error:
        print(f"dropmill: {error.detail}", file=sys.stderr)
        sys.exit(2)
    if worker.is_gone:
        begin_anew()
    if worker.failure is not None:
        sys.exit(1)


async def _work(worker: Worker) -> None:
    stopping = asyncio.Event()
    worker.on_failure = stopping.set
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await worker.open()
    for notice in worker.notices:
        print(notice)
    print("Dropmill is working.", flush=True)
    await stopping.wait()
    await worker.close()

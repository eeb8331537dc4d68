"""`dropmill doctor`: checks this machine (`host`), and with `--url` the connection to a running server (`network`)."""

import os
import sys
from typing import Any, Final

import click

from dropmill.cli.doctor.findings import FAIL, Findings, fail
from dropmill.cli.doctor.host import HOST_CHECKS
from dropmill.cli.doctor.network import NETWORK_CHECKS, ServerConnection
from dropmill.cli.format import printable
from dropmill.cli.options import SettingsCommand, settings_options
from dropmill.model.errors import DropmillError
from dropmill.settings import Settings

SUBJECT_COLUMNS: Final = max(map(len, (*HOST_CHECKS, *NETWORK_CHECKS)))


@click.command("doctor", cls=SettingsCommand)
@settings_options
@click.option("--url", metavar="URL", help="Also check the connection to a running server at this address.")
def command(url: str | None, **flags: Any) -> None:
    """Check what a server with these settings needs.

    Exit 1 if something will not work. Nothing is changed.
    """
    try:
        settings = Settings.load(flags, os.environ)
    except DropmillError as error:
        _report("settings", iter([fail(error.detail)]))
        sys.exit(1)
    failures = sum(_report(subject, check(settings)) for subject, check in HOST_CHECKS.items())
    if url is not None:
        failures += _check_network(url, settings)
    sys.exit(1 if failures else 0)


def _check_network(url: str, settings: Settings) -> int:
    try:
        server = ServerConnection(url, auth_header=settings.auth_header, auth_groups_header=settings.auth_groups_header)
    except ValueError as error:
        return _report("network", iter([fail(f"--url {url}: {error}")]))
    failures = 0
    for subject, check in NETWORK_CHECKS.items():
        failures += _report(subject, check(server))
        if not server.is_open:
            break
    return failures


def _report(subject: str, findings: Findings) -> int:
    """Print a line for each finding; returns how many are failures. An `OSError` of the check is one."""
    failures = 0
    try:
        for finding in findings:
            print(f"{finding.level:<5} {subject:<{SUBJECT_COLUMNS}} {printable(finding.sentence)}", flush=True)
            failures += finding.level == FAIL
    except OSError as error:
        failures += 1
        print(f"{FAIL:<5} {subject:<{SUBJECT_COLUMNS}} {printable(error)}", flush=True)
    return failures

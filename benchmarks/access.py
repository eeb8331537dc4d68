"""What sign-in costs: one check of a session or a token, and the same work with sign-in on and off, in turn."""

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from benchmarks import history, paired
from benchmarks.bench import ASK_S, GIB, PATIENCE_S, SLOWEST_JOB_S, SUBMISSIONS, Bench, Work, Wrong, quiet_disk
from benchmarks.client import BLOCK_BYTES, block, small_files
from benchmarks.programs import ROOT, Program
from benchmarks.table import Table, middle
from dropmill.access.accounts import Accounts
from dropmill.access.passwords import Passwords
from dropmill.access.refusals import Refusals
from dropmill.access.sessions import Sessions
from dropmill.access.sign_ins import SignIns
from dropmill.access.tokens import Tokens
from dropmill.engines.local.bus import LocalBus
from dropmill.engines.sqlite.ledger import SqliteLedger
from dropmill.model.caller import Role
from dropmill.model.client import ClientIdentity
from dropmill.model.internal import Internal

CHECKS = 10_000
PASSWORD = "correct horse battery"  # of an account that is removed with its folder
FORM = "multipart/form-data; boundary=benchmark-5f1c0a7d"
MODES = {True: "required", False: "off"}


def measure(bench: Bench) -> Sequence[Table]:
    """CPU of a check whose answer is in memory; uploads, dispatch and reads with sign-in on against off."""
    bench.say(f"access: {CHECKS:,} checks of a session and of a token")
    checks = [asyncio.run(_checks(bench.folder / f"access-{number}.sqlite")) for number in range(bench.rounds)]
    pairs = paired.PAIRS if bench.rounds > 1 else 1
    found: dict[bool, list[dict[str, Work]]] = {True: [], False: []}
    for number in range(pairs):
        for is_on in (True, False) if number % 2 == 0 else (False, True):
            bench.say(f"access, pair {number + 1} of {pairs}: --auth {MODES[is_on]}")
            found[is_on].append(_all_work(bench, is_on=is_on))
    return [
        Table(
            title=f"A check of a sign-in, its answer in memory: {CHECKS:,} in a loop",
            columns=("credential", "CPU µs a check"),
            rows=[
                (name, middle([1e6 * check[at] / CHECKS for check in checks], 1))
                for at, name in enumerate(("session", "token"))
            ],
        ),
        Table(
            title=f"Sign-in on against off, {pairs} pairs",
            columns=("work", "wall, on", "wall, off", "ratio", "CPU, on", "CPU, off", "ratio"),
            rows=paired.rows(found[True], found[False]),
            notes=["Milliseconds, the server's processes together. Ratios are within each pair; CPU decides."],
        ),
    ]


def run(bench: Bench) -> None:
    """The same work with sign-in on, marked."""
    _all_work(bench, is_on=True)


async def _checks(path: Path) -> tuple[float, float]:
    """CPU seconds of the checks of a session, and of a token."""
    bus, passwords = LocalBus(), Passwords()
    ledger = SqliteLedger(path, bus.publish)
    await ledger.open()
    try:
        who = Internal.COMMAND_LINE
        account = await Accounts(ledger, passwords).add(who, "ada", Role.ADMIN, PASSWORD)
        sessions = Sessions(ledger, passwords, Refusals(ledger), idle_s=3600, lifetime_s=3600)
        client = ClientIdentity(ip="127.0.0.1", host=None, verified=None, domain=None, user_agent=None)
        secret = (await sessions.sign_in(client, "ada", PASSWORD)).secret
        _, token = await Tokens(ledger).make_for(who, account)
        sign_ins = SignIns(ledger=ledger, bus=bus, idle_s=3600)
        found = []
        for check, shown in ((sign_ins.by_session, secret), (sign_ins.by_token, token)):
            if await check(shown) is None:
                raise Wrong("nobody is signed in")
            began = time.process_time()
            for _ in range(CHECKS):
                await check(shown)
            found.append(time.process_time() - began)
        return found[0], found[1]
    finally:
        passwords.close()
        await ledger.close()


def _all_work(bench: Bench, *, is_on: bool) -> dict[str, Work]:
    found: dict[str, Work] = {}
    scale, mode = bench.scale, ("--auth", MODES[is_on])
    with bench.dropmill("nothing", *mode) as program, _client(program, is_on=is_on) as client:
        client.send("PUT", "/send/warm", block())
        client.form(2)
        quiet_disk()
        with bench.work("one file", program, scale.upload_bytes / GIB, "GiB") as found["upload"]:
            client.send("PUT", "/send/large", scale.upload_bytes)
        with bench.work("small files", program, scale.single_files, "file") as found["small files"]:
            for number in range(scale.single_files):
                client.send("PUT", f"/send/{number}", b"x" * 1024)
        client.wait_settled()
        with bench.work("jobs that do nothing", program, scale.jobs, "job") as found["dispatch"]:
            client.form(scale.jobs)
    with history.served(bench, scale.history_jobs, 0, *mode) as program, _client(program, is_on=is_on) as client:
        for path in (SUBMISSIONS, "/api/v1/jobs"):
            client.send("GET", path)
            with bench.work(f"GET {path}", program, scale.requests, "request") as found[f"GET {path}"]:
                for _ in range(scale.requests):
                    client.send("GET", path)
    return found


class _Client:
    """One kept connection, which signs in with a token if there is one."""

    def __init__(self, program: Program, headers: Mapping[str, str]) -> None:
        self._connection = HTTPConnection("127.0.0.1", program.port, timeout=PATIENCE_S)
        self._headers = headers

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def send(self, method: str, path: str, body: bytes | int = b"", **headers: str) -> bytes:
        """The answer's body; `body` may be a number of random bytes, a multiple of the block.

        Raises:
            Wrong: it was refused.
        """
        size = body if isinstance(body, int) else len(body)
        blocks = itertools.repeat(block(), body // BLOCK_BYTES) if isinstance(body, int) else body
        sent = {**self._headers, **headers, "Content-Length": str(size)}
        self._connection.request(method, path, blocks, sent)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status not in (200, 201):
            raise Wrong(f"{method} {path} was answered with {answer.status}: {text[:200]!r}")
        return text

    def form(self, files: int) -> None:
        """Send small files in one form, and wait until all are processed."""
        form = small_files([block()[n : n + 1024] for n in range(files)])
        self.send("POST", SUBMISSIONS, form.head + form.tail, **{"Content-Type": FORM})
        self.wait_settled(files)

    def wait_settled(self, files: int = 1) -> None:
        """Wait until the newest submission is processed."""
        end = time.monotonic() + PATIENCE_S + files * SLOWEST_JOB_S
        while json.loads(self.send("GET", f"{SUBMISSIONS}?limit=1"))["items"][0]["state"] != "settled":
            if time.monotonic() > end:
                raise Wrong(f"a submission of {files} files had not settled")
            time.sleep(ASK_S)


@contextmanager
def _client(program: Program, *, is_on: bool) -> Iterator[_Client]:
    client = _Client(program, {"Authorization": f"Bearer {_token(program)}"} if is_on else {})
    try:
        yield client
    finally:
        client.close()


def _token(program: Program) -> str:
    """A token of a new admin, made on the data folder beside the running server."""
    data = ("--data", str(program.folder / "data"))
    _dropmill("account", "add", "ada", "--role", "admin", "--password-stdin", *data, given=f"{PASSWORD}\n")
    return _dropmill("token", "create", *data).strip()


def _dropmill(*words: str, given: str = "") -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "dropmill", *words], input=given, capture_output=True, text=True, check=True, cwd=ROOT
    )
    return ended.stdout

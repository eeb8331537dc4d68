"""Checks config texts in a warm child process, so that the event loop never waits for YAML.

Ruamel reads some 11,000 lines a second and holds the interpreter meanwhile: even in a thread it delays the loop by
up to 167 ms, and a thread cannot be stopped. The child runs `document.check_text` on one text at a time, within a time
and a memory limit; it is replaced when it dies, and dies with the server. It knows nothing of files or of the ledger.

Wire: frames of a 4-byte big-endian length and that many bytes. The child sends an empty frame once it is ready; then
each frame sent to it (a text) is answered by one (a report as JSON). The end of its standard input ends it.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import resource
import signal
import struct
import sys
from typing import Any, BinaryIO, Final, cast

from dropmill.configfile.document import Finding, Report, check_size, check_text, refusal
from dropmill.model.errors import Unavailable

TIME_LIMIT_S: Final = 10.0  # ordinary text of 1 MiB takes about 3
START_LIMIT_S: Final = 30.0  # about 0.2 on an idle machine
MEMORY_LIMIT: Final = 1 << 30  # bytes of address space; 20,000 lines take about 60 MiB
MAX_WAITING: Final = 32  # checks in line; more than that is no person typing

_LENGTH: Final = struct.Struct(">I")
_MAX_ANSWER: Final = 4 << 20  # bytes; 200 findings of 600 characters, each escaped, stay below
_PR_SET_PDEATHSIG: Final = 1


class ParserProcess:
    """Checks texts, one at a time, in a child process that is started on the first use if not by `start`."""

    def __init__(self, *, time_limit_s: float = TIME_LIMIT_S) -> None:
        self._time_limit_s = time_limit_s
        self._child: _Child | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._is_closed = False

    async def start(self) -> None:
        """Have the child ready, so that the first check does not wait for it.

        Raises:
            Unavailable: it does not start.
        """
        async with self._turn:
            await self._ready_child()

    async def close(self) -> None:
        """End the child for good; a check that runs is cut off and raises `Unavailable`."""
        self._is_closed = True
        await self._end_child()

    async def check(self, text: bytes) -> Report:
        """What there is to say about a text. One that takes too long, or too much memory, is refused.

        Cancelling gives the check up at once: the child is ended, the next check starts another.

        Raises:
            Unavailable: too many checks are waiting, no child can be started, or this is closed.
        """
        if (too_large := check_size(text)) is not None:
            return too_large
        if self._waiting >= MAX_WAITING:
            raise Unavailable("Too many configs are waiting to be checked; try again in a few seconds.")
        self._waiting += 1
        try:
            async with self._turn:
                return await self._check(text)
        finally:
            self._waiting -= 1

    async def _check(self, text: bytes) -> Report:
        for _ in range(2):  # the child may have been killed while it was idle: that says nothing about this text
            child = await self._ready_child()
            answer: bytes | None = None
            try:
                async with asyncio.timeout(self._time_limit_s):
                    answer = await child.ask(text)
                return _parse(answer)
            except TimeoutError:
                return refusal(f"The config takes too long to read: more than {self._time_limit_s:g} seconds")
            except (asyncio.IncompleteReadError, OSError):
                continue
            finally:
                if answer is None:  # also when cancelled: what it would answer belongs to nobody
                    await self._end_child()
        return refusal("The config cannot be read: the process that reads it died of it, twice")

    async def _ready_child(self) -> "_Child":
        if self._is_closed:
            raise Unavailable("The server is stopping; configs are not checked any more.")
        if self._child is not None and self._child.is_alive:
            return self._child
        await self._end_child()
        is_ready = False
        try:
            self._child = await _Child.spawn()
            async with asyncio.timeout(START_LIMIT_S):
                await self._child.receive()
            is_ready = True
            return self._child
        except (TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            raise Unavailable(
                "The process that checks configs does not start; the server's output says why."
            ) from error
        finally:
            if not is_ready:
                await self._end_child()

    async def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.end()


class _Child:
    """The child process, seen from the server."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._texts = cast(asyncio.StreamWriter, process.stdin)
        self._answers = cast(asyncio.StreamReader, process.stdout)

    @classmethod
    async def spawn(cls) -> "_Child":
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "dropmill.configfile.parser"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        return cls(process)

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def ask(self, text: bytes) -> bytes:
        self._texts.write(_LENGTH.pack(len(text)) + text)
        await self._texts.drain()
        return await self.receive()

    async def receive(self) -> bytes:
        (length,) = _LENGTH.unpack(await self._answers.readexactly(_LENGTH.size))
        if length > _MAX_ANSWER:
            raise OSError(f"the parser announces an answer of {length} bytes")
        return await self._answers.readexactly(length)

    async def end(self) -> None:
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        self._texts.close()
        await self._process.wait()  # short: nothing survives the kill


def _parse(answer: bytes) -> Report:
    members = json.loads(answer)
    return Report(
        errors=tuple(Finding(**finding) for finding in members["errors"]),
        warnings=tuple(Finding(**finding) for finding in members["warnings"]),
    )


# --- The child -------------------------------------------------------------------------------------------------------


def main() -> None:
    """Answer texts with reports until standard input ends."""
    # A Ctrl-C on the terminal is for the server, which ends this child itself. Not a session of its own: by that the
    # server tells what scripts left behind, and ends it.
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere the end of standard input has to do, once a running check has ended
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    # Ruamel prints to standard output when it is puzzled: keep that out of the wire.
    with os.fdopen(os.dup(1), "wb") as wire:
        os.dup2(2, 1)
        _serve(sys.stdin.buffer, wire)


def _serve(texts: BinaryIO, answers: BinaryIO) -> None:
    _send(answers, b"")
    while len(head := texts.read(_LENGTH.size)) == _LENGTH.size:
        report = check_text(texts.read(_LENGTH.unpack(head)[0]))
        members: dict[str, Any] = {
            "errors": [finding.as_json() for finding in report.errors],
            "warnings": [finding.as_json() for finding in report.warnings],
        }
        _send(answers, json.dumps(members).encode())


def _send(answers: BinaryIO, frame: bytes) -> None:
    answers.write(_LENGTH.pack(len(frame)) + frame)
    answers.flush()


if __name__ == "__main__":
    main()

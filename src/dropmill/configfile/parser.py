"""Reads, edits, shows and compares config texts in a warm child process, so that the event loop never waits for YAML.

Ruamel reads some 11,000 lines a second and holds the interpreter lock meanwhile: even in a thread it delays the loop by
up to 167 ms, and a thread cannot be stopped. The child runs `document`, `edits`, `schema`, `form` and `changes`, one
call at a time, within a time and a memory limit. The server replaces it when it dies, and it dies with the server. It
knows nothing of files or of the ledger.

The child keeps the last two documents that it has read. To check a text, edit it and show the result, it reads the old
and the new text once each.

Wire: frames of a 4-byte big-endian length and that many bytes. The child sends an empty frame once it is ready. A
request is three frames: `{"call", "operations", "schema_limit_s"}` (null without a schema), the text, and the schema or
the older text to compare it with.
The answer is two: JSON, with the findings or an `error` to raise, and the new text. The end of its standard input ends
the child.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from dropmill.configfile.frames import KEEP_TAGS, LENGTH
from dropmill.configfile.yaml.edits import Operation
from dropmill.configfile.yaml.findings import MAX_BYTES, Finding, Report, check_size, refusal
from dropmill.model.errors import BadRequest, ConfigEditRefused, ConfigInvalid, Unavailable

TIME_LIMIT_S: Final = 10.0  # for reading once; ordinary text of 1 MiB takes about 3
EDIT_READS: Final = 3  # how many times as long an edit may take: it reads the old text and the new one, or more
SCHEMA_LIMIT_S: Final = 5.0  # of processor time, to check against a schema; 16,000 lines take about 0.5
START_LIMIT_S: Final = 30.0  # about 0.2 on an idle machine
MAX_WAITING: Final = 32  # calls in the queue; people who type do not make more

_MAX_ANSWER: Final = 16 << 20  # bytes; findings, fields and removed comments, each escaped, stay below
_RAISED: Final = {error.code: error for error in (BadRequest, ConfigEditRefused, ConfigInvalid)}

_Call = Literal["check", "edit", "form", "changes"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """The result of a value edit.

    Attributes:
        text: the new text; every byte outside of the edited places is unchanged.
        removed_comments: comments that were removed together with values, each from its `#` on.
        report: of the new text, which is valid YAML; it may have errors that the schema found.
    """

    text: bytes
    removed_comments: tuple[str, ...]
    report: Report


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """A text as a form shows it.

    Attributes:
        text: after the edit, if there was one.
        removed_comments: as in `Edit`.
        fields: `Field.as_json` of each, the config itself first; none if the text is not valid YAML.
        is_cut: whether there are more fields than a form shows; these are the first.
        report: of the text.
    """

    text: bytes
    removed_comments: tuple[str, ...]
    fields: list[dict[str, Any]]
    is_cut: bool
    report: Report


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """How the values of two texts differ.

    Attributes:
        keys: see `changed_keys`.
        is_cut: whether there are more.
    """

    keys: tuple[str, ...]
    is_cut: bool


class ParserProcess:
    """Works on texts, one at a time, in a child process; `start` or the first call starts it."""

    def __init__(
        self,
        *,
        time_limit_s: float = TIME_LIMIT_S,
        schema_limit_s: float = SCHEMA_LIMIT_S,
        keeps_tags: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            time_limit_s: seconds for reading a text once.
            schema_limit_s: seconds of processor time for checking it against a schema.
            keeps_tags: whether application tags are accepted.
            environment: of the child, which other processes of this user can read; None: that of this process.
        """
        self._keeps_tags = keeps_tags
        self._environment = environment
        self._time_limit_s = time_limit_s
        self._schema_limit_s = schema_limit_s
        self._child: _Child | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._is_closed = False

    async def start(self) -> None:
        """Start the child, so that the first call does not wait for it.

        Raises:
            Unavailable: it does not start.
        """
        async with self._turn:
            await self._ready_child()

    async def close(self) -> None:
        """End the child for good. A call that is running raises `Unavailable`."""
        self._is_closed = True
        await self._end_child()

    async def check(self, text: bytes, schema: bytes | None = None) -> Report:
        """What a check finds in a text. A text that takes too long, or too much memory, is refused.

        Cancelling ends the child at once; the next call starts another. This holds for every call.

        Args:
            text: of any size; one over `MAX_BYTES` is refused.
            schema: JSON Schema, as text; None without one. A schema that cannot be used becomes a warning.

        Raises:
            Unavailable: too many calls are waiting, the child does not start, or this is closed.
        """
        try:
            members, _ = await self._ask("check", text, (), schema)
        except _Refused as error:
            return error.report
        return _report(members)

    async def edit(self, text: bytes, operations: Sequence[Operation], schema: bytes | None = None) -> Edit:
        """The text with its values edited. The caller decides whether errors that the schema finds matter.

        Raises:
            ConfigInvalid: the text is not valid YAML, or would not be after the edit.
            ConfigEditRefused: the edit cannot be exact, or (`too_costly`) takes too long or too much memory.
            Unavailable: as for `check`.
        """
        members, new = await self._ask_to_edit("edit", text, operations, schema)
        return Edit(text=new, removed_comments=tuple(members["removed_comments"]), report=_report(members))

    async def form(self, text: bytes, operations: Sequence[Operation] = (), schema: bytes | None = None) -> Form:
        """The text, edited if there are operations, and its fields.

        Raises:
            ConfigInvalid: there are operations, and the text is not valid YAML, or would not be after them.
            ConfigEditRefused: as for `edit`.
            Unavailable: as for `check`.
        """
        try:
            if operations:
                members, new = await self._ask_to_edit("form", text, operations, schema)
            else:
                members, new = await self._ask("form", text, (), schema)
        except _Refused as error:
            return Form(text=text, removed_comments=(), fields=[], is_cut=False, report=error.report)
        return Form(
            text=new,
            removed_comments=tuple(members["removed_comments"]),
            fields=members["fields"],
            is_cut=members["is_cut"],
            report=_report(members),
        )

    async def changes(self, before: bytes, after: bytes) -> Changes:
        """The keys whose values differ between two texts.

        Raises:
            ConfigInvalid: one of them is not valid YAML, or they take too long or too much memory; with `errors`.
            Unavailable: as for `check`.
        """
        try:
            members, _ = await self._ask("changes", after, (), None, older=before)
        except _Refused as error:
            raise _invalid(error.report) from None
        return Changes(keys=tuple(members["keys"]), is_cut=members["is_cut"])

    async def _ask_to_edit(
        self, call: _Call, text: bytes, operations: Sequence[Operation], schema: bytes | None
    ) -> tuple[dict[str, Any], bytes]:
        try:
            return await self._ask(call, text, operations, schema)
        except _TooLarge as error:
            raise _invalid(error.report) from None
        except _Refused as error:
            sentence = f"{error.report.errors[0].message}. Send fewer operations at once, or edit the text."
            raise ConfigEditRefused(sentence, reason="too_costly", path="") from None

    async def _ask(
        self,
        call: _Call,
        text: bytes,
        operations: Sequence[Operation],
        schema: bytes | None,
        *,
        older: bytes | None = None,
    ) -> tuple[dict[str, Any], bytes]:
        if (too_large := check_size(text)) is not None:
            raise _TooLarge(too_large)
        if self._waiting >= MAX_WAITING:
            raise Unavailable("Too many configs are waiting to be checked; try again in a few seconds.")
        schema_limit_s = None if schema is None else self._schema_limit_s
        # Not `asdict`: it copies a value of a megabyte member by member, which blocks the event loop for 0.9 s.
        asked = [{"kind": each.kind, "path": each.path, "value": each.value} for each in operations]
        head = {"call": call, "operations": asked, "schema_limit_s": schema_limit_s}
        frames = (json.dumps(head).encode(), text, (older or schema or b"")[: MAX_BYTES + 1])
        limit_s = self._time_limit_s * (EDIT_READS if operations else 1 if older is None else 2)
        self._waiting += 1
        try:
            async with self._turn:
                answer, new = await self._ask_child(frames, limit_s, limit_s + 2 * (schema_limit_s or 0))
        finally:
            self._waiting -= 1
        members = json.loads(answer)
        if "error" in members:
            raise _RAISED[members["error"]](members["detail"], **members["extra"])
        return members, new

    async def _ask_child(self, frames: Sequence[bytes], told_limit_s: float, limit_s: float) -> tuple[bytes, bytes]:
        for _ in range(2):  # the child may have been killed while idle, which is not the fault of this text
            child = await self._ready_child()
            answer: tuple[bytes, bytes] | None = None
            try:
                async with asyncio.timeout(limit_s):
                    answer = await child.ask(frames)
                return answer
            except TimeoutError:
                sentence = f"The config takes too long to read: more than {told_limit_s:g} seconds"
                raise _Refused(refusal(sentence)) from None
            except (asyncio.IncompleteReadError, OSError):
                continue
            finally:
                if answer is None:  # also when cancelled: nobody would read its answer
                    await self._end_child()
        raise _Refused(refusal("The config cannot be read: the process that reads it died twice"))

    async def _ready_child(self) -> "_Child":
        if self._is_closed:
            raise Unavailable("The server is stopping; it no longer checks configs.")
        if self._child is not None and self._child.is_alive:
            return self._child
        await self._end_child()
        is_ready = False
        try:
            self._child = await _Child.spawn(self._environment, keeps_tags=self._keeps_tags)
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
        self._requests = cast(asyncio.StreamWriter, process.stdin)
        self._answers = cast(asyncio.StreamReader, process.stdout)

    @classmethod
    async def spawn(cls, environment: Mapping[str, str] | None, *, keeps_tags: bool) -> "_Child":
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "dropmill.configfile.parser_child", *([KEEP_TAGS] if keeps_tags else [])),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        return cls(process)

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def ask(self, frames: Sequence[bytes]) -> tuple[bytes, bytes]:
        for frame in frames:
            self._requests.write(LENGTH.pack(len(frame)) + frame)
        await self._requests.drain()
        return await self.receive(), await self.receive()

    async def receive(self) -> bytes:
        (length,) = LENGTH.unpack(await self._answers.readexactly(LENGTH.size))
        if length > _MAX_ANSWER:
            raise OSError(f"the parser announces an answer of {length} bytes")
        return await self._answers.readexactly(length)

    async def end(self) -> None:
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        self._requests.close()
        await self._process.wait()  # short: nothing survives the kill


class _Refused(Exception):
    """The text cannot be read as it is; `report` says why."""

    def __init__(self, report: Report) -> None:
        super().__init__(report)
        self.report = report


class _TooLarge(_Refused):
    """The text is over the size limit; no process was asked."""


def _report(members: dict[str, Any]) -> Report:
    return Report(
        errors=tuple(Finding(**finding) for finding in members["errors"]),
        warnings=tuple(Finding(**finding) for finding in members["warnings"]),
    )


def _invalid(report: Report) -> ConfigInvalid:
    return ConfigInvalid("The text is not a valid config.", errors=[finding.as_json() for finding in report.errors])

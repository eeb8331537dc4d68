"""The child process of `parser`: works on one call at a time, within limits, until its standard input ends.

It imports as little as it can, because every start of a server waits for it.
"""

import ctypes
import gc
import hashlib
import json
import os
import resource
import signal
import sys
from dataclasses import replace
from typing import Any, BinaryIO, Final, NoReturn

from dropmill.configfile.frames import KEEP_TAGS, LENGTH
from dropmill.configfile.schema.schema import Schema, SchemaUnusable
from dropmill.configfile.yaml.changes import changed_keys
from dropmill.configfile.yaml.document import Document, examine
from dropmill.configfile.yaml.edits import Operation, apply
from dropmill.configfile.yaml.findings import Finding, Report
from dropmill.configfile.yaml.form import Field, fields_of
from dropmill.model.errors import ConfigInvalid, DropmillError

MEMORY_LIMIT: Final = 1 << 30  # bytes of address space; two documents kept and a third being read take 200 MiB at most

_KEPT_DOCUMENTS: Final = 2  # the text being edited, and the result of the last edit; or the two last compared
_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Answer requests until standard input ends."""
    # A Ctrl-C on the terminal goes to the server, which ends this child itself. Not a new session: the server takes
    # processes in other sessions for leftovers of scripts, and kills them.
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere the end of standard input ends it, after a running call
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    signal.signal(signal.SIGPROF, _raise_time_is_up)
    # The objects of a parse live until it ends; collecting garbage meanwhile took 13 % of its time.
    gc.set_threshold(500_000)
    # Ruamel prints some warnings to standard output: keep them out of the wire.
    with os.fdopen(os.dup(1), "wb") as wire:
        os.dup2(2, 1)
        _serve(sys.stdin.buffer, wire)


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    reader = _Reader(keeps_tags=KEEP_TAGS in sys.argv)
    _send(answers, b"")
    while (head := _receive(requests)) is not None:
        text, schema = _receive(requests), _receive(requests)
        if text is None or schema is None:
            return
        members, new = reader.answer(json.loads(head), text, schema)
        _send(answers, json.dumps(members).encode())
        _send(answers, new)


def _receive(requests: BinaryIO) -> bytes | None:
    """A frame; None at the end."""
    head = requests.read(LENGTH.size)
    return requests.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else None


def _send(answers: BinaryIO, frame: bytes) -> None:
    answers.write(LENGTH.pack(len(frame)) + frame)
    answers.flush()


class _Reader:
    """Answers requests one after the other, and keeps what it has read. Use it in the main thread: it sets signals."""

    def __init__(self, *, keeps_tags: bool) -> None:
        self._keeps_tags = keeps_tags
        self._documents: dict[bytes, Document] = {}  # by the SHA-256 of their text, the oldest first
        self._schema: tuple[bytes, Schema | str] | None = None  # a text, and its schema or why that cannot be used

    def answer(self, head: dict[str, Any], text: bytes, other: bytes) -> tuple[dict[str, Any], bytes]:
        """The answer's members and the new text, as the wire carries them."""
        if head["call"] == "changes":
            return self._compare(other, text), b""
        operations = [Operation(**{**each, "path": tuple(each["path"])}) for each in head["operations"]]
        try:
            document = self._read(text)
            removed_comments: tuple[str, ...] = ()
            if operations or head["call"] == "edit":
                edited = apply(document, operations)
                document, removed_comments = edited.document, edited.removed_comments
                text = document.text.encode()
                self._keep(text, document)
        except DropmillError as error:
            return {"error": error.code, "detail": error.detail, "extra": dict(error.extra)}, b""
        wants_fields = head["call"] == "form"
        if head["schema_limit_s"] is None:
            report = document.report
            fields, is_cut = fields_of(document, None) if wants_fields else ([], False)
        else:
            report, fields, is_cut = self._judge(document, other, head["schema_limit_s"], wants_fields)
        members = {
            "errors": [finding.as_json() for finding in report.errors],
            "warnings": [finding.as_json() for finding in report.warnings],
            "removed_comments": removed_comments,
            "fields": [field.as_json() for field in fields],
            "is_cut": is_cut,
        }
        return members, text

    def _compare(self, before: bytes, after: bytes) -> dict[str, Any]:
        old, new = self._read(before), self._read(after)
        errors = [finding.as_json() for finding in (*old.report.errors, *new.report.errors)]
        if errors:
            detail = "One of the two texts is not a valid config."
            return {"error": ConfigInvalid.code, "detail": detail, "extra": {"errors": errors}}
        keys, is_cut = changed_keys(old, new)
        return {"keys": keys, "is_cut": is_cut}

    def _read(self, text: bytes) -> Document:
        document = self._documents.get(hashlib.sha256(text).digest())
        if document is None:
            document = examine(text, keeps_tags=self._keeps_tags)
        self._keep(text, document)
        return document

    def _keep(self, text: bytes, document: Document) -> None:
        name = hashlib.sha256(text).digest()
        self._documents.pop(name, None)
        self._documents[name] = document
        while len(self._documents) > _KEPT_DOCUMENTS:
            del self._documents[next(iter(self._documents))]

    def _judge(
        self, document: Document, schema_text: bytes, limit_s: float, wants_fields: bool
    ) -> tuple[Report, list[Field], bool]:
        """Report and fields according to a schema. Without it and with a warning if it cannot be used."""
        fields: list[Field] = []
        is_cut = False
        try:
            try:
                signal.setitimer(signal.ITIMER_PROF, limit_s, limit_s)
                schema = self._usable(schema_text)
                report = schema.add_findings(document)
                if wants_fields:
                    fields, is_cut = fields_of(document, schema)
                return report, fields, is_cut
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
        except SchemaUnusable as error:
            reason = str(error)
        except _TimeIsUp:
            reason = f"it takes more than {limit_s:g} seconds to check the config against it; a 'pattern' may be why"
        said = f"config.schema.json cannot be used: {reason}; the config is checked without it"
        first = Finding(line=1, column=1, path="", message=said)
        if wants_fields:
            fields, is_cut = fields_of(document, None)
        return replace(document.report, warnings=(first, *document.report.warnings)), fields, is_cut

    def _usable(self, text: bytes) -> Schema:
        if self._schema is None or self._schema[0] != text:
            try:
                self._schema = (text, Schema.parse(text))
            except SchemaUnusable as error:
                self._schema = (text, str(error))
        schema = self._schema[1]
        if isinstance(schema, str):
            raise SchemaUnusable(schema)
        return schema


class _TimeIsUp(BaseException):  # no `Exception`, because libraries would handle it as an error of their own
    """Checking against the schema took longer than allowed."""


def _raise_time_is_up(*_: object) -> NoReturn:
    raise _TimeIsUp


if __name__ == "__main__":
    main()

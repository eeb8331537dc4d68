"""The file `config.schema.json` beside a config: passed to the parser process with each text.

It is read again for every text, so that a change needs no restart. A schema that cannot be used becomes a warning, and
the text is checked without it: a typing error in the schema must not lock the config.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from dropmill.configfile import file_sync
from dropmill.configfile.parser import Edit, Form, ParserProcess
from dropmill.configfile.schema.schema import SchemaUnusable
from dropmill.configfile.yaml.edits import Operation
from dropmill.configfile.yaml.findings import MAX_BYTES, Finding, Report
from dropmill.model.faults import OF_THE_FILE, fault_of

SCHEMA_NAME: Final = "config.schema.json"


class SchemaFile:
    """The schema beside one config, if there is one. `check`, `edit` and `form` are those of `ParserProcess`."""

    def __init__(self, config: Path, parser: ParserProcess) -> None:
        """Touch nothing yet.

        Args:
            config: the config's file; the schema of a symbolic link lies beside the link.
            parser: does the work.
        """
        self.path: Final = config.parent / SCHEMA_NAME
        self._parser = parser

    async def read(self) -> bytes | None:
        """Its exact bytes; None if there is none.

        Raises:
            SchemaUnusable: it cannot be read, is too large, or is not a schema.
        """
        text = await self._read()
        # Any warning about an empty config is about the schema.
        if text is not None and (warnings := (await self._parser.check(b"", text)).warnings):
            raise SchemaUnusable(warnings[0].message)
        return text

    async def check(self, text: bytes) -> Report:
        """What a check finds in a config's text."""
        schema, warnings = await self._read_or_warn()
        return _with(warnings, await self._parser.check(text, schema))

    async def edit(self, text: bytes, operations: Sequence[Operation]) -> Edit:
        """A config's text with its values edited."""
        schema, warnings = await self._read_or_warn()
        edit = await self._parser.edit(text, operations, schema)
        return replace(edit, report=_with(warnings, edit.report))

    async def form(self, text: bytes, operations: Sequence[Operation]) -> Form:
        """A config's text as a form shows it, edited if there are operations."""
        schema, warnings = await self._read_or_warn()
        form = await self._parser.form(text, operations, schema)
        return replace(form, report=_with(warnings, form.report))

    async def _read(self) -> bytes | None:
        try:
            text = await asyncio.to_thread(file_sync.read, self.path)
        except OSError as error:
            if error.errno not in OF_THE_FILE:
                raise fault_of(error, SCHEMA_NAME) from error
            raise SchemaUnusable(f"{SCHEMA_NAME} cannot be read: {error.strerror or error}") from error
        if text is not None and len(text) > MAX_BYTES:
            raise SchemaUnusable(f"{SCHEMA_NAME} cannot be used: it has more than {MAX_BYTES:,} bytes")
        return text

    async def _read_or_warn(self) -> tuple[bytes | None, tuple[Finding, ...]]:
        try:
            return await self._read(), ()
        except SchemaUnusable as error:
            said = f"{error}; the config is checked without it"
            return None, (Finding(line=1, column=1, path="", message=said),)


def _with(warnings: tuple[Finding, ...], report: Report) -> Report:
    return replace(report, warnings=(*warnings, *report.warnings))

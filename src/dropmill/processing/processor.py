"""What a processor is: a Python callable or an argv template, checked at start-up, filled in for each attempt.

Nothing runs here. The slot (`dropmill.slot.callable`) imports a callable and reads its parameters, because importing it
runs the user's code.
"""

import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dropmill.model.errors import ProcessorError
from dropmill.model.jobs import AttemptSpec
from dropmill.model.uploads import FileIdentity
from dropmill.processing.environment import ScriptEnvironment
from dropmill.settings import ENVIRONMENT_PREFIX, Settings
from dropmill.wire.clients import client_json

DEFAULT_TARGET = "dropmill.processing.default:process"
PLACEHOLDERS = ("path", "config", "results", "work", "job_id")

_BRACED_WORD = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptPaths:
    """The paths of one attempt, absolute.

    Attributes:
        input: the file to process.
        config: a file with the bytes of the attempt's config revision.
        results: folder; its files are offered for download.
        work: scratch folder, the working directory of the script.
    """

    input: Path
    config: Path
    results: Path
    work: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Processor:
    """The user's script: exactly one of `target` and `argv` is set.

    Attributes:
        target: callable as `module:function`, importable from `directory`.
        argv: template whose first word is an absolute path.
        label: its name on the pages.
        directory: the server's working directory.
        environment: variables of each attempt, before those of its job.
        is_fresh: whether each attempt of a callable gets a new interpreter.
        is_reloaded: whether the callable is imported again when its files change.
        reuse: how many attempts run in one process of a callable; None: each has its own.
    """

    target: str | None
    argv: tuple[str, ...] | None
    label: str
    directory: Path
    environment: ScriptEnvironment = field(repr=False)  # of whoever started the server
    is_fresh: bool = False
    is_reloaded: bool = False
    reuse: int | None = None

    @classmethod
    def from_settings(cls, settings: Settings, directory: Path) -> "Processor":
        """The processor of the settings; the built-in one if they name none. Reads the disk and the environment.

        Args:
            settings: `command` or `processor` or neither.
            directory: absolute; modules are imported from here, and relative paths start here.

        Raises:
            ProcessorError: it cannot be used; one sentence says why.
        """
        environment = ScriptEnvironment.from_settings(settings, os.environ, directory)
        if settings.command is not None:
            label = shlex.join(settings.command).replace("'{", "{").replace("}'", "}")
            argv = _resolve(settings.command, directory)
            return cls(target=None, argv=argv, label=label, directory=directory, environment=environment)
        target = settings.processor or DEFAULT_TARGET
        if not _TARGET.fullmatch(target):
            raise ProcessorError(f"--processor {target!r} must be MODULE:FUNCTION, for example thumbs.make:process.")
        return cls(
            target=target,
            argv=None,
            label=target,
            directory=directory,
            environment=environment,
            is_fresh=settings.fresh_process,
            is_reloaded=settings.reload and not settings.fresh_process,
            reuse=settings.reuse,
        )

    def message(
        self,
        order: AttemptSpec,
        paths: AttemptPaths,
        limits: Mapping[str, Any],
        stored: tuple[Path, FileIdentity],
        *,
        makes_folders: bool,
    ) -> bytes:
        """The message that makes a slot run one attempt (`dropmill.slot.protocol`); small, because bytes stay on disk.

        Args:
            order: the attempt.
            paths: its paths.
            limits: what `Limiter.enter` returned.
            stored: where the stored file is, and the identity that it must have before and after the attempt.
            makes_folders: whether the slot makes the attempt's folders; False: they are there.
        """
        what: dict[str, Any] = {
            "environment": job_environment(order, paths),
            "work": str(paths.work),
            "folders": [str(paths.work.parent), str(paths.work), str(paths.results)],
            "makes_folders": makes_folders,
            "input": {"path": str(stored[0]), "identity": stored[1]},
            **limits,
        }
        if self.argv is not None:
            what["argv"] = self._fill(order, paths)
        else:
            if self.is_fresh:
                what |= {"target": self.target, "directory": str(self.directory)}
            what |= {
                "results": str(paths.results),
                "config": str(paths.config),
                "config_sha256": order.config.sha256,
                "file": {
                    "name": order.file_name,
                    "path": str(paths.input),
                    "size": order.size,
                    "sha256": order.sha256,
                    "job_id": order.job_id,
                    "submission_id": order.submission_id,
                    "attempt": order.number,
                    "client": client_json(order.client),
                },
            }
        return json.dumps({"run": what}).encode()

    def _fill(self, order: AttemptSpec, paths: AttemptPaths) -> list[str]:
        values = {
            "path": str(paths.input),
            "config": str(paths.config),
            "results": str(paths.results),
            "work": str(paths.work),
            "job_id": str(order.job_id),
        }
        # One pass: braces in a value are not replaced again.
        return [_BRACED_WORD.sub(lambda match: values[match[1]], word) for word in self.argv or ()]


def job_environment(order: AttemptSpec, paths: AttemptPaths) -> dict[str, str]:
    """The variables that describe a job to its script, which gets no other `DROPMILL_` variables."""
    values = {
        "ID": order.job_id,
        "ATTEMPT": str(order.number),
        "PATH": str(paths.input),
        "FILE_NAME": order.file_name,
        "FILE_PATH": order.file_path,
        "SIZE": str(order.size),
        "SHA256": order.sha256,
        "CONFIG": str(paths.config),
        "RESULTS": str(paths.results),
        "WORK": str(paths.work),
        "CLIENT_IP": order.client.ip,
        "CLIENT_HOST": order.client.host or "",
    }
    return {f"{ENVIRONMENT_PREFIX}JOB_{name}": _for_environment(value) for name, value in values.items()}


def _for_environment(value: str) -> str:
    """The text as an environment variable can hold it: without NUL and lone surrogates."""
    return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _resolve(template: tuple[str, ...], directory: Path) -> tuple[str, ...]:
    for word in template:
        for match in _BRACED_WORD.finditer(word):
            if match[1] not in PLACEHOLDERS:
                raise ProcessorError(
                    f"--command: {match[0]} is no placeholder; use {' '.join(f'{{{p}}}' for p in PLACEHOLDERS)}. "
                    "If the program needs these braces, put the call into a script file and name that."
                )
    return _find_program(template[0], directory), *(_absolute_if_file(word, directory) for word in template[1:])


def _absolute_if_file(word: str, directory: Path) -> str:
    """The word, made absolute if it names a file below `directory`: attempts run in another folder."""
    path = Path(os.path.normpath(directory / word))
    return str(path) if path.is_relative_to(directory) and path.is_file() else word


def _find_program(word: str, directory: Path) -> str:
    if _BRACED_WORD.search(word):
        raise ProcessorError(f"--command: the first word must be the program to run, not {word}.")
    # As in a shell, a bare word is first searched in PATH; only then a file in the working directory counts.
    found = shutil.which(word) if "/" not in word else None
    path = Path(found or os.path.normpath(directory / word))
    if not path.exists():
        where = "" if "/" in word else " in PATH or in the working directory"
        raise ProcessorError(f"--command: there is no program {word}{where}.")
    if not path.is_file():
        raise ProcessorError(f"--command: {word} is not a file.")
    if not os.access(path, os.X_OK):
        raise ProcessorError(f"--command: {word} is not executable; chmod +x {shlex.quote(str(path))} makes it so.")
    _check_first_line(word, path, directory)
    return str(path.absolute())


def _check_first_line(word: str, path: Path, directory: Path) -> None:
    """Refuse a script that the kernel cannot start: its error, "No such file or directory", names the wrong file."""
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except PermissionError:  # it may be executable without being readable
        return
    first_line = head.partition(b"\n")[0]
    if not head.startswith(b"#!"):
        if head and b"\0" not in head:
            raise ProcessorError(f"--command: {word} is a text file without a first line such as #!/bin/sh.")
        return
    if first_line.endswith(b"\r"):
        raise ProcessorError(
            f"--command: {word} has Windows line ends (CRLF), so its first line names no interpreter; "
            f"sed -i 's/\\r$//' {shlex.quote(str(path))} fixes it."
        )
    interpreter = os.fsdecode(first_line[2:].split(maxsplit=1)[0]) if first_line[2:].split() else ""
    if not interpreter.startswith("/") or not Path(interpreter).exists():
        raise ProcessorError(f"--command: the interpreter {interpreter!r} in the first line of {word} does not exist.")

"""The built-in processor: prints what it gets. It shows that everything works, and is an example of a script."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from dropmill.slot.file import ProcessorFile
from dropmill.text import visible

PREVIEW_CHARACTERS = 500  # of a line; a file may be one line of gigabytes


def process(file: ProcessorFile, config: Mapping[str, Any]) -> None:
    """Print a greeting, the file's name, size and path, and its first lines.

    Args:
        file: the dropped file.
        config: `greeting`, printed first unless empty; `preview_lines`, how many lines of the file to print.
    """
    greeting = config.get("greeting")
    if greeting:
        print(greeting)  # noqa: T201 - what a script prints is its output
    print(f"Name: {visible(file.name)}")  # noqa: T201
    print(f"Size: {file.size} bytes")  # noqa: T201
    print(f"Path: {file.path}")  # noqa: T201
    lines = config.get("preview_lines")
    if isinstance(lines, int) and lines > 0:
        with file.path.open(encoding="utf-8", errors="replace") as text:
            for line in islice(iter(lambda: text.readline(PREVIEW_CHARACTERS), ""), lines):
                print(visible(line.rstrip("\r\n")))  # noqa: T201

"""What docs/client.md says of the client is so."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

from tests.support.server import Server, clean_environment

from dropmill import client

TEXT = (Path(__file__).parents[2] / "docs" / "client.md").read_text()


def test_its_example_runs_and_prints_what_was_settled(server: Server, tmp_path: Path) -> None:
    submission = server.send(("a.txt", b"x"))
    (example,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    script = tmp_path / "follow.py"
    script.write_text(example.replace("http://127.0.0.1:8000", server.url))
    around = clean_environment({"NO_PROXY": "*"})
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=around) as running:
        assert running.stdout is not None
        line = running.stdout.readline()
        running.kill()
    assert line == "a.txt succeeded\n"
    server.settled(submission["id"])


def test_its_signatures_and_errors_are_those_of_the_code() -> None:
    for called, headline in (
        (client.AsyncClient, r"AsyncClient\(server"),
        (client.AsyncClient.follow, r"client\.follow\(topic"),
    ):
        (found,) = re.findall(rf"^## `{headline}(.*)\)`$", TEXT, re.MULTILINE)
        names = [name for name in inspect.signature(called).parameters if name != "self"]
        assert [word.partition("=")[0] for word in found.strip(", ").split(", ") if word != "*"] == names[1:]
        table = TEXT.split(found)[1].split("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == names
    errors = TEXT.split("\n## Errors\n")[1].split("\n## ")[0]
    for name in re.findall(r"^\| `(\w+)` \|", errors, re.MULTILINE):
        assert issubclass(getattr(client, name), client.ClientError)

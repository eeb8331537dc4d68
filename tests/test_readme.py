"""Every example of the README is read from it and run; what it shows of the output is compared.

The shell examples of docs/config.md are run, too.
"""

import contextlib
import gzip
import io
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from PIL import Image
from tests.support.certificates import make_certificate
from tests.support.server import Server, clean_environment
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

LOCAL, REMOTE = "http://127.0.0.1:8000", "https://drop.example.com"  # the addresses that the README uses
NOT_RUN = {"installs": "installs packages: that takes minutes and a package index"}
"""Why an example is not run: the word that its comment in the README begins with, and what it means."""

ENDLESS = ("tail -f", "dropmill watch")  # these follow until Ctrl-C
CHUNKED_BYTES = 9 * 1024 * 1024  # bytes: over the 8 MiB from which `send` uploads a file in chunks


class Block(NamedTuple):
    """One fenced block: the word behind the fence, and the lines."""

    kind: str
    lines: tuple[str, ...]

    @property
    def file(self) -> str | None:
        """The name of the file that this shows; None if it shows no file."""
        first = self.lines[1] if self.lines[0].startswith("#!") else self.lines[0]
        found = re.fullmatch(r"# (\w+\.\w+)", first)
        return found and found[1]


def blocks_of(text: str) -> list[Block]:
    """The fenced blocks of a document."""
    found = re.findall(r"^```(\w*)\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)
    return [Block(kind, tuple(lines.splitlines())) for kind, lines in found]


BLOCKS = blocks_of(README)
FILES = {block.file: "\n".join(block.lines) + "\n" for block in BLOCKS if block.file}
COMMANDS = [line for block in BLOCKS if block.kind == "sh" and not block.file for line in block.lines if line]
ADDRESSES = re.findall(r"`(/[^`]+)`", README)


def reason(command: str) -> str | None:
    """The first word of a command's comment, if it is a reason not to run it."""
    word = command.partition(" # ")[2].partition(" ")[0]
    return word if word in NOT_RUN else None


def shown(command: str) -> Sequence[str] | None:
    """The output that the README shows of a command; None if it shows none."""
    for block, following in itertools.pairwise(BLOCKS):
        if command in block.lines and following.kind == "text":
            address = re.search(r"https?://[^/\s]+", "\n".join(following.lines))
            is_of_it = command.startswith("dropmill send") and address is not None and address[0] in command
            return following.lines if is_of_it else None
    return None


RUN = [command for command in COMMANDS if reason(command) is None]
SERVED = [command for command in RUN if re.search(r"\b(dropmill serve|hypercorn)\b", command)]
FOLLOWED = [command for command in RUN if command.startswith(ENDLESS)]
ENDING = [command for command in RUN if command not in (*SERVED, *FOLLOWED)]


class Site(NamedTuple):
    """A served copy, and what stands around it."""

    server: Server
    environment: dict[str, str]

    def typed(self, command: str) -> str:
        """The command for this copy's address instead of the README's."""
        return command.replace(LOCAL, self.server.url).replace(REMOTE, self.server.url)


def environment(**more: str) -> dict[str, str]:
    """A person's, with `dropmill` on the path and no proxy."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return clean_environment(
        {"PATH": path, "NO_PROXY": "*", "DROPMILL_BIND": "127.0.0.1:0", "DROPMILL_CONCURRENCY": "1", **more}
    )


def started(command: str, folder: Path, around: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["sh", "-c", command],
        cwd=folder,
        env=around,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: "subprocess.Popen[str]", number: signal.Signals) -> None:
    """Signal all that a command started, if it still runs, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    """A copy at each of the README's two addresses, with the files beside it that the examples send."""
    certificate, key = make_certificate(tmp_path_factory.mktemp("certificate"))
    made = {}
    for address in (LOCAL, REMOTE):
        folder = tmp_path_factory.mktemp("site")
        for name in ("README.md", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        (folder / "scans").mkdir()
        for number in (1, 2):
            (folder / "scans" / f"page-{number}.txt").write_text("text\n")
        (folder / "big.iso").write_bytes(bytes(CHUNKED_BYTES))
        (folder / "config.yaml").write_text(FILES["config.yaml"])
        tls = ("--certfile", str(certificate), "--keyfile", str(key)) if address == REMOTE else ()
        server = Server(folder, *tls, certificate=certificate if tls else None)
        made[address] = Site(server, {})
    try:
        for site in made.values():
            url = site.server.start().url
            cache = str(site.server.folder / "cache")
            site.environment.update(
                environment(DROPMILL_SERVER=url, SSL_CERT_FILE=str(certificate), XDG_CACHE_HOME=cache)
            )
        yield made
    finally:
        for site in made.values():
            site.server.end()


def site_of(command: str, sites: dict[str, Site]) -> Site:
    return sites[REMOTE if REMOTE in command else LOCAL]


def test_what_is_not_run_says_why() -> None:
    """Only what is listed here is left out, and no reason is left over."""
    assert {reason(command) for command in COMMANDS if command not in RUN} == set(NOT_RUN)
    assert all(kind in ("sh", "python", "yaml", "text") for kind, _ in BLOCKS)
    assert all(block.file for block in BLOCKS if block.kind in ("python", "yaml"))
    assert [block for block in BLOCKS if block.kind == "text"] == [
        Block("text", tuple(lines)) for command in RUN if (lines := shown(command)) is not None
    ]


@pytest.mark.parametrize("command", ENDING)
def test_a_command_succeeds_and_prints_what_is_shown(command: str, sites: dict[str, Site]) -> None:
    site = site_of(command, sites)
    process = started(site.typed(command), site.server.folder, site.environment)
    try:
        output, _ = process.communicate(timeout=120)
    finally:
        ended(process, signal.SIGKILL)
    assert process.returncode == 0, output
    if command.startswith("curl"):  # which ends well whatever is answered
        answer = json.loads(output[output.index("{") :])
        assert len(answer["files"]) == command.count(" -F ")
    if (lines := shown(command)) is not None:
        wanted = "\n".join(site.typed(line) for line in lines) + "\n"
        assert re.fullmatch(re.escape(wanted).replace(r"\.\.\.", ".+"), output), output


@pytest.mark.parametrize("command", FOLLOWED)
def test_a_command_that_follows_prints_what_happens(command: str, sites: dict[str, Site]) -> None:
    server, around = site_of(command, sites)
    process = started(command, server.folder, around)
    assert process.stdout is not None
    try:
        lines: list[str] = []
        stream = process.stdout

        def read() -> None:
            for line in stream:
                lines.append(line)  # noqa: PERF402 - each is to be seen as it comes

        threading.Thread(target=read, daemon=True).start()
        names = iter(range(10_000))

        def heard() -> bool:
            # It may have begun to follow only after a file was sent: send until one is seen.
            name = f"seen-{next(names)}.txt"
            server.settled(server.send((name, b"x"))["id"])
            return any("seen-" in line and "job.settled" in line for line in lines)

        wait_until(heard)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) in (0, -signal.SIGINT, 128 + signal.SIGINT)
    finally:
        ended(process, signal.SIGKILL)
        process.communicate()


def has_thumbnail(client: httpx.Client, job: Any, output: str, sent: bytes) -> None:
    (result,) = job["results"]
    with Image.open(io.BytesIO(client.get(result["url"]).content)) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("WEBP", (320, 240))
    assert output == "made a thumbnail of (320, 240)\n"


def has_count(client: httpx.Client, job: Any, output: str, sent: bytes) -> None:
    assert int(output.split()[0]) == len(sent)


def has_packed(client: httpx.Client, job: Any, output: str, sent: bytes) -> None:
    (result,) = job["results"]
    assert gzip.decompress(client.get(result["url"]).content) == sent
    assert output == "packed portrait.png\n"


CHECKS: dict[str, Callable[[httpx.Client, Any, str, bytes], None]] = {
    "thumbs:process": has_thumbnail,
    "wc -c": has_count,
    "./pack.sh": has_packed,
}
"""What must have come of a sent image, by a part of the command that serves."""


@pytest.mark.parametrize("command", SERVED)
def test_a_server_processes_a_file_as_the_readme_says(command: str, tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / str(name)).write_text(text)
        (tmp_path / str(name)).chmod(0o755)
    etc = tmp_path / "etc"
    etc.mkdir()
    shutil.copy(tmp_path / "config.yaml", etc)
    typed = command.replace("/srv/dropmill", str(tmp_path / "srv")).replace("/etc/dropmill", str(etc))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    typed = typed.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    said = tmp_path / "said.txt"
    process = started(f"{typed} > {said} 2>&1", tmp_path, environment())
    try:

        def told() -> str | None:
            assert process.poll() is None, said.read_text()
            found = re.search(r"serving on (\S+)|Running on (\S+)", said.read_text() if said.exists() else "")
            return found and (found[1] or found[2])

        url = wait_until(told)
        with httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
            job, output, sent = processed(client)
            assert job["state"] == "succeeded", (job, output)
            (check,) = (check for part, check in CHECKS.items() if part in command)
            check(client, job, output, sent)
            for result in job["results"]:
                for address in ADDRESSES:
                    ids = {
                        "/jobs/<id>": f"/jobs/{job['id']}",
                        "/submissions/<id>": f"/submissions/{job['submission_id']}",
                    }
                    for old, new in ids.items():
                        address = address.replace(old, new)
                    assert client.get(address.replace("<path>", result["path"])).status_code == 200, address
        os.killpg(process.pid, signal.SIGTERM)
        code = process.wait(20)
        assert "hypercorn" in command or code in (0, -signal.SIGTERM), said.read_text()
    finally:
        ended(process, signal.SIGKILL)
        process.communicate()


def processed(client: httpx.Client) -> tuple[Any, str, bytes]:
    """The settled job of an image that was sent, its output, and the image's bytes."""
    picture = io.BytesIO()
    Image.effect_mandelbrot((1200, 900), (-2, -1.5, 1, 1.5), 20).convert("RGB").save(picture, "PNG")
    answer = client.post("/api/v1/submissions", files=[("file", ("portrait.png", picture.getvalue()))])
    assert answer.status_code == 201, answer.text
    address = f"/api/v1/jobs/{answer.json()['files'][0]['job']['id']}"

    def settled() -> Any:
        job = client.get(address).json()
        return job if job["state"] in ("succeeded", "failed") else None

    job = wait_until(settled)
    return job, client.get(f"{address}/output").text, picture.getvalue()


def test_the_guide_to_the_config_changes_a_value_and_goes_back(sites: dict[str, Site]) -> None:
    """The PATCH of docs/config.md, then its commands, on the config that the README shows."""
    script, commands = (
        block.lines for block in blocks_of((ROOT / "docs" / "config.md").read_text()) if block.kind == "sh"
    )
    site = sites[LOCAL]

    def run(command: str) -> str:
        process = started(site.typed(command), site.server.folder, site.environment)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
        return output

    first = site.server.http.get("/api/v1/config/revisions").json()["items"][0]["sha256"]
    assert '"message":"larger"' in run("\n".join(script))
    assert site.server.config.read_text() == FILES["config.yaml"].replace("320", "640")
    for command in commands:
        run(command.replace("3f9a41c2", first[:8]))
    assert site.server.config.read_text() == FILES["config.yaml"]

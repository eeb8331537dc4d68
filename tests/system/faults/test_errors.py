"""Promise 20: an error of disk or database is a 503 or 507 with a way back, never the end of the server.

strace makes single calls of the running server fail. The path that a call touches shows what it belongs to.
"""

import contextlib
import hashlib
import json
import random
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.missing import not_allowed
from tests.support.server import SERVE, Server
from tests.support.waiting import wait_until
from tests.system.faults.observers import Pulse

pytestmark = pytest.mark.fresh

Make = Callable[..., Server]

ERRORS = ("EIO", "ENOSPC", "EROFS", "EMFILE")
CALLS = (
    "openat,read,pread64,write,pwrite64,fsync,fdatasync,ftruncate,rename,renameat,renameat2,unlink,unlinkat,"
    "mkdir,mkdirat,rmdir,chmod,fchmod,fchmodat,stat,lstat,fstat,newfstatat,statx,getdents64,copy_file_range"
)
CALLS_MAX = 40
SAMPLE = 2  # of each subject, unless in full size
SUBJECTS = {
    "upload": "/(incoming|blobs|journal)/",
    "job": "/(attempts|outputs|configs|blobs)/",
    "config": r"/\.?config\.",
    "log": "/log/",
    "ledger": r"ledger\.sqlite",
}
"""What is done, and which paths its calls touch."""

PROCESSOR = """
def process(path, results):
    print("line", flush=True)
    for name in ("a.txt", "b.txt"):
        (results / name).write_text(name)
"""
FILES = {"small.txt": b"small\n", "large.bin": bytes(range(256)) * 3000}
TRACEABLE = (sys.executable, "-P", str(Path(__file__).with_name("serve_in_threads.py")), "serve")


@dataclass(frozen=True)
class Call:
    """The `number`-th call of this name in a thread since it was attached to."""

    thread: int
    name: str
    number: int
    text: str


_LINE = re.compile(r"(\d+) +(\w+)\((.*)")


@dataclass
class Play:
    """A server to which things are done, and what it must hold in the end."""

    server: Server
    stored: dict[str, str] = field(default_factory=dict)  # SHA-256 of files by their id
    answers: dict[int, int] = field(default_factory=dict)
    revision: int = 0
    hits: list[str] = field(default_factory=list)

    # --- strace ------------------------------------------------------------------------------------------------------

    def threads(self) -> list[int]:
        """All but the event loop's."""
        pid = self.server.process.pid
        return [tid for path in Path(f"/proc/{pid}/task").iterdir() if (tid := int(path.name)) != pid]

    @contextlib.contextmanager
    def traced(self, threads: list[int], *options: str) -> Iterator[Path]:
        """Trace threads; yields the file in which their calls are, complete once this has ended."""
        said = self.server.folder / "calls.txt"
        chosen = [word for thread in threads for word in ("-p", str(thread))]
        with subprocess.Popen(
            ["strace", "-y", "-s", "16", "-o", str(said), *chosen, *options], stderr=subprocess.PIPE
        ) as strace:
            assert strace.stderr is not None
            try:
                for _ in threads:
                    line = strace.stderr.readline()
                    if b"attached" not in line:
                        not_allowed(f"This machine does not let strace attach to a process: {line.decode().strip()}")
                yield said
            finally:
                strace.terminate()
                strace.stderr.read()

    def first_calls(self, subject: str) -> list[Call]:
        """The first calls that an undisturbed action makes on paths of a subject."""
        with self.traced(self.threads(), "-e", f"trace={CALLS}") as said:
            assert self.do(subject) == {"good"}
        found: list[Call] = []
        counts: dict[tuple[int, str], int] = {}
        for line in said.read_text(errors="replace").splitlines():
            if (match := _LINE.match(line)) is None:
                continue
            thread, name, text = int(match[1]), match[2], match[3]
            counts[thread, name] = number = counts.get((thread, name), 0) + 1
            if re.search(SUBJECTS[subject], text):
                found.append(Call(thread, name, number, text))
        return found[:CALLS_MAX]

    def fail(self, subject: str, call: Call, threads: list[int], error: str) -> None:
        """Do something while a call fails, then see that everything goes on."""
        injected = f"inject={call.name}:error={error}:when={call.number}"
        with Pulse(self.server):
            with self.traced(threads, "-e", f"trace={call.name}", "-e", injected) as said:
                self.do(subject)
            self.has_recovered()
        for line in said.read_text(errors="replace").splitlines():
            if "(INJECTED)" in line:
                self.hits.append(f"{subject}: {line.partition(' ')[2].strip()}")

    # --- what is done ------------------------------------------------------------------------------------------------

    def do(self, subject: str) -> set[str]:
        """Do what belongs to a subject; "good" and "refused", as far as they occurred."""
        if subject == "config":
            return {self.save()}
        if subject == "ledger":
            return {self.ask("GET", "/api/v1/submissions"), self.send(), self.ask("GET", "/api/v1/config")}
        return {self.send()}

    def ask(self, method: str, path: str, **request: Any) -> str:
        """One request; everything but its answer or a refusal with a way back is a fault."""
        return self._judge(self.server.http.request(method, path, **request))

    def _judge(self, answer: httpx.Response) -> str:
        self.answers[answer.status_code] = self.answers.get(answer.status_code, 0) + 1
        if answer.is_success:
            return "good"
        assert answer.status_code in (503, 507), f"{answer.status_code} {answer.text}"
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] in ("storage_unavailable", "unavailable", "out_of_space")
        assert answer.status_code == 507 or int(answer.headers["Retry-After"]) > 0
        return "refused"

    def send(self) -> str:
        """Send files. What is stored has the right hash and is processed; what is not is refused."""
        files = [("file", (name, content)) for name, content in FILES.items()]
        answer = self.server.http.post("/api/v1/submissions", files=files)
        said = self._judge(answer)
        submission = answer.json().get("id") or answer.json().get("submission")
        if submission is None:
            return said
        settled = self._settled(submission)
        kept = set(FILES) if said == "good" else set(answer.json().get("kept", ()))
        for file in settled["files"]:
            if file["state"] != "stored":
                assert file["name"] not in kept
                continue
            assert file["sha256"] == hashlib.sha256(FILES[file["name"]]).hexdigest()
            self.stored[file["id"]] = file["sha256"]
            job = file["job"]
            if job["state"] != "succeeded":
                assert job["error"]["type"] in ("cannot_start", "results_not_stored"), job
        return said

    def _settled(self, submission: str) -> Any:
        """A submission once it has settled; its page may be refused before."""

        def found() -> Any:
            answer = self.server.http.get(f"/api/v1/submissions/{submission}")
            return answer.json() if self._judge(answer) == "good" and answer.json()["state"] == "settled" else None

        return wait_until(found)

    def save(self) -> str:
        """Save a config: it is the new one then, or still the old one."""
        before = self.server.http.get("/api/v1/config")
        if self._judge(before) == "refused":
            return "refused"
        self.revision += 1
        text = f"# kept\nrevision: {self.revision}\n".encode()
        headers = {"If-Match": before.headers["ETag"]}
        said = self.ask("PUT", "/api/v1/config", content=text, headers=headers)

        def now() -> bytes | None:
            answer = self.server.http.get("/api/v1/config")
            return answer.content if self._judge(answer) == "good" else None

        assert wait_until(now) in ((text,) if said == "good" else (text, before.content))
        return said

    # --- what must be true -------------------------------------------------------------------------------------------

    def has_recovered(self) -> None:
        """Everything works again, without a restart."""

        def is_well() -> bool:
            assert self.server.process.poll() is None, self.server.said()
            answer = self.server.http.get("/readyz")
            return answer.status_code == 200 and answer.json()["degraded"] == []

        wait_until(is_well)
        wait_until(lambda: self.server.config.read_bytes() == self.server.http.get("/api/v1/config").content)

    def tells_one_story(self) -> None:
        """Files have their bytes, events have no hole, the log is the ledger, and no config was refused."""
        for file_id, sha256 in self.stored.items():
            content = self.server.http.get(f"/api/v1/files/{file_id}/content")
            assert hashlib.sha256(content.content).hexdigest() == sha256
        events = self.server.events()
        assert [event["cursor"] for event in events] == list(range(1, len(events) + 1))
        assert "config.rejected" not in {event["name"] for event in events}
        wait_until(lambda: len(self.server.log()) == len(events))
        logged = [(line["cursor"], line["event"]) for line in self.server.log()]
        assert logged == [(event["cursor"], event["name"]) for event in events]
        assert "Traceback" not in self.server.said()


def play_on(make_server: Make, command: Sequence[str] = SERVE) -> Play:
    server = make_server("--processor", "work:process", "--concurrency", "1", command=command)
    (server.folder / "work.py").write_text(PROCESSOR)
    play = Play(server.start())
    for _ in range(3):  # so that the threads that do the work are there
        assert play.do("ledger") | play.do("config") == {"good"}
    return play


@pytest.mark.usefixtures("strace")
def test_an_error_at_any_call_is_refused_and_the_server_goes_on(
    make_server: Make, chance: random.Random, is_full: bool
) -> None:
    play = play_on(make_server, TRACEABLE)
    for subject in SUBJECTS:
        calls = play.first_calls(subject)
        assert calls, subject
        threads = sorted({call.thread for call in calls})
        pairs = [(call, error) for call in calls for error in ERRORS]
        for call, error in pairs if is_full else chance.sample(pairs, SAMPLE):
            try:
                play.fail(subject, call, threads, error)
            except BaseException:
                print(f"failed at {error} of {call}\n{play.server.said()[-4000:]}")
                raise
    play.tells_one_story()
    print("\n".join(play.hits), json.dumps(play.answers), sep="\n")
    assert play.hits
    assert play.server.stop() == 0


def test_descriptors_that_are_used_up_and_given_back_cost_answers_only(make_server: Make) -> None:
    play = play_on(make_server)
    pid = play.server.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    before = len(play.server.events())
    with contextlib.ExitStack() as stack:
        # A refusal before the whole body ends its connection, and then no new one can be accepted: one for each round.
        rounds = [stack.enter_context(httpx.Client(base_url=play.server.url, trust_env=False)) for _ in range(3)]
        assert [client.get("/healthz").status_code for client in rounds] == [200] * 3
        held = max(int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()) + 1
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (held, limits[1]))  # the connections that are open stay
        try:
            # Lower numbers may still be free: they are used up by connections.
            for _ in range(held):
                stack.enter_context(play.server.connect())
            wait_until(lambda: rounds[0].get("/api/v1/submissions").status_code == 503)  # they are accepted
            for client in rounds:
                assert client.get("/healthz").status_code == 200
                # A refused connection gives its descriptor back, so now and then there is one.
                assert client.get("/api/v1/submissions").status_code in (200, 503)
                answer = client.put("/api/v1/config", content=b"a: 1\n", headers={"If-Match": '"x"'})
                assert (answer.status_code, answer.json()["code"]) in ((412, "config_conflict"), (503, "unavailable"))
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    play.has_recovered()
    assert play.send() == "good"
    play.tells_one_story()
    assert len(play.server.events()) > before
    assert play.server.stop() == 0

"""Plays the cases of surface `script`: each has a server of its own, whose processor does what the case says.

`input` is a shell script that gets the file's path as `$1`; or, where `what` begins with "Python callable", the body of
a function; or the bytes of a script file, if they begin with `#!`; or the path of a program; or `chmod -x script`.

`expect`: `state` the job settles in; `error` the types its error may have, `exit_code` its code, `output` a part
of its output; `is_refused` whether the server does not start, with one line; `says` a part of that line;
`timeout_s` how long an attempt may run.
"""

import tempfile
from pathlib import Path
from typing import Any

from tests.support.server import Server
from tests.support.waiting import wait_until
from tests.system.catalogue.cases import Case, Unplayable
from tests.system.faults.observers import Pulse, stays_true, zombies

from dropmill.processing.limits import Limiter, Limits

FLAGS = ("--grace", "1", "--min-free", "0", "--concurrency", "2")
TIMEOUT_S = 20
PIDS_MAX = 50
CONTENT = b"what was sent"
FORK_BOMB = b":(){ :|:& };:"
OUTPUT_KEPT_BYTES = 18 << 20  # the first 16 MiB and the last one, and what says so
PATIENCE_S = 120.0


def play_script(case: Case) -> None:
    """Run it on two files, and on one again; the server answers throughout, and nothing is left running."""
    (script,) = case.texts({})
    with tempfile.TemporaryDirectory(prefix="dropmill-case-") as name:
        folder = Path(name)
        timeout_s = case.expect.get("timeout_s", TIMEOUT_S)
        flags = [*_processor(case, script, folder), *FLAGS, "--timeout", f"{timeout_s}"]
        if script.strip() == FORK_BOMB:
            _require_pids_group(folder)
            flags += ["--max-processes", str(PIDS_MAX)]
        server = Server(folder, *flags)
        try:
            if _is_refused(server, case):
                return
            with Pulse(server):
                files = [_settled(server, server.send(("case.txt", CONTENT))["id"]) for _ in range(2)]
                for file in files:
                    _require_expected(server, case, file)
                _run_again(server, case, files[0])
                _require_own_bytes(server, files[0])
            assert stays_true(lambda: zombies(server) == [], 5), "zombies are left"
            assert server.stop() == 0
            assert server.strays() == [], "processes are left"
            assert "Traceback" not in server.said(), server.said()
        finally:
            server.end()


def _processor(case: Case, script: bytes, folder: Path) -> list[str]:
    """The flags that name the processor; what it needs is written into the folder."""
    file = folder / "case.sh"
    if case.what.startswith("Python callable"):
        body = b"".join(b"    " + line + b"\n" for line in script.splitlines())
        (folder / "case.py").write_bytes(b"import os, sys\n\n\ndef process(path):\n" + body)
        return ["--processor", "case:process"]
    if script.startswith(b"/"):
        return ["--command", f"{script.decode()} {{path}}"]
    if script.startswith(b"#!"):
        file.write_bytes(script.replace(b"\\r", b"\r").replace(b"\\n", b"\n"))
    else:
        file.write_bytes(b"#!/bin/bash\n" + script + b"\n")
    file.chmod(0o644 if script.startswith(b"chmod") else 0o755)
    return ["--command", "./case.sh {path}"]


def _is_refused(server: Server, case: Case) -> bool:
    try:
        server.start()
    except AssertionError:
        assert server.process.poll() == 2, server.said()
        (line,) = server.said().splitlines()
        assert line.startswith("dropmill: ")
        assert case.expect.get("is_refused", not case.is_known), line
        assert case.expect.get("says", "") in line, line
        return True
    assert not case.expect.get("is_refused"), "it started"
    return False


def _settled(server: Server, submission_id: str) -> Any:
    def found() -> Any:
        submission = server.get(f"/submissions/{submission_id}")
        return submission if submission["state"] == "settled" else None

    (file,) = wait_until(found, PATIENCE_S)["files"]
    return file


def _require_expected(server: Server, case: Case, file: Any) -> None:
    job = file["job"]
    assert job["state"] in ("succeeded", "failed"), job
    assert job["state"] == case.expect.get("state", job["state"]), job
    if "error" in case.expect:
        assert job["error"]["type"] in case.expect["error"], job
    if "exit_code" in case.expect:
        assert job["exit_code"] == case.expect["exit_code"], job
    output = server.http.get(f"/api/v1/jobs/{job['id']}/output").content
    assert len(output) <= OUTPUT_KEPT_BYTES
    assert case.expect.get("output", "").encode() in output, output[:200]


def _run_again(server: Server, case: Case, file: Any) -> None:
    """Retry it: another attempt, the same end, and one `job.settled` for each."""
    job_id = file["job"]["id"]
    answer = server.http.post(f"/api/v1/jobs/{job_id}/retry")
    assert answer.status_code < 500, answer.text
    submission = server.get(f"/jobs/{job_id}")["submission_id"]
    _require_expected(server, case, _settled(server, submission))
    names = [event["name"] for event in server.events(f"submission:{submission}")]
    assert names.count("job.settled") == 1 + answer.is_success, names


def _require_own_bytes(server: Server, file: Any) -> None:
    """The bytes that were sent are served, or none, whatever the script did to them."""
    answer = server.http.get(f"/api/v1/files/{file['id']}/content")
    assert answer.status_code in (200, 404, 409, 410, 503), answer.text
    assert answer.status_code != 200 or answer.content == CONTENT


def _require_pids_group(folder: Path) -> None:
    """A fork bomb is played only inside a control group that limits processes.

    Raises:
        Unplayable: no such group can be made here.
    """
    limiter = Limiter(Limits(max_processes=PIDS_MAX), folder)
    lacking = limiter.open()
    limiter.close()
    if lacking:
        raise Unplayable(lacking)

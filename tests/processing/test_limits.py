"""What attempts are held to: by the kernel's limits on a process, and by control groups."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from tests.support.bench import Bench, python
from tests.support.missing import not_allowed

from dropmill.model.errors import DropmillError
from dropmill.model.jobs import AttemptState, JobError
from dropmill.processing.limits import Limiter, Limits

MiB = 1 << 20
FAILED = AttemptState.FAILED

GREEDY = """
import sys, time
def process(path):
    what = path.read_text()
    if what == "memory":
        return len(bytearray(1 << 32))
    if what == "time":
        while True: pass
    if what == "file":
        open("large", "wb").write(bytes(2 << 20))
    if what == "small":
        open("small", "wb").write(bytes(1 << 20))
        return "kept to it"
"""


@pytest.mark.parametrize("fresh", [False, True])
async def test_the_error_of_a_callable_names_the_limit_that_it_exceeded(tmp_path: Path, fresh: bool) -> None:
    limits = {"memory": 1 << 30, "cpu_time": 1, "max_write": MiB}
    async with Bench(tmp_path, module=GREEDY, processor="script:process", fresh_process=fresh, **limits) as bench:

        async def error(way: bytes) -> str | None:
            outcome, _ = await bench.run(way)
            assert (outcome.state is FAILED) == (outcome.error is not None)
            return outcome.error.type if outcome.error else None

        assert await error(b"memory") == "out_of_memory"
        assert await error(b"time") == "cpu_time_exceeded"
        assert await error(b"file") == "file_size_exceeded"
        assert await error(b"small") is None


async def test_the_error_of_an_executable_names_the_limit_that_it_exceeded(tmp_path: Path) -> None:
    command = (
        "sh",
        "-c",
        'case $(cat "$0") in file) head -c 2M /dev/zero > large;; *) while :; do :; done;; esac',
        "{path}",
    )
    async with Bench(tmp_path, command=command, cpu_time=1, max_write=MiB) as bench:
        outcome, _ = await bench.run(b"file")  # the shell passes on what ended its child
        assert (outcome.exit_code, outcome.error) == (
            153,
            JobError(type="file_size_exceeded", message="wrote a file larger than 1 MiB (--max-write)"),
        )
        outcome, _ = await bench.run(b"time")
        assert (outcome.exit_code, outcome.error) == (
            -24,
            JobError(type="cpu_time_exceeded", message="used more than 1 s of CPU (--cpu-time)"),
        )
    async with Bench(tmp_path, command=("sh", "-c", "exit 152")) as bench:
        outcome, _ = await bench.run()
        assert outcome.error == JobError(type="exit_code", message="exited with code 152")


async def test_an_attempt_whose_group_cannot_be_created_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[str] = []

    def refuse(limiter: Limiter, attempt: str) -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Limiter, "has_groups", True)
    monkeypatch.setattr(Limiter, "enter", refuse)
    monkeypatch.setattr(Limiter, "leave", lambda limiter, attempt: left.append(attempt))
    async with Bench(tmp_path, command=("echo", "it ran")) as bench:
        job_id = bench.submit()
        outcome = await bench.ledger.settled(job_id)
        assert outcome.error is not None
        assert (outcome.state, outcome.error.type, await bench.output(job_id)) == (FAILED, "cannot_start", "")
        assert left == [f"{job_id}.1"]  # one of two groups may have been created


async def test_without_limits_there_are_none(tmp_path: Path) -> None:
    module = "import resource\ndef process(path): return [resource.getrlimit(k)[0] for k in (0, 1, 9)]\n"
    async with Bench(tmp_path, module=module, processor="script:process") as bench:
        import resource

        assert (await bench.run())[0].value == [resource.getrlimit(kind)[0] for kind in (0, 1, 9)]
        assert bench.lacking is None


# --- control groups: which are ours, seen on folders that look like the kernel's -------------------------------------


class Machine:
    """A folder that looks like `/proc` and `/sys/fs/cgroup` of another machine."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.marks: set[Path] = set()
        self._mounts: list[str] = []
        self._groups: list[str] = []
        (root / "proc/self").mkdir(parents=True)
        monkeypatch.setattr(os, "getuid", lambda: 0)
        monkeypatch.setattr(os, "getxattr", self._getxattr)

    def _getxattr(self, path: Path, name: str) -> bytes:
        if path in self.marks and name == "user.delegate":
            return b"1"
        raise OSError(61, "No data available")

    def mount(self, kind: str, point: str, controllers: str, own: str, top: str = "/") -> Path:
        """Mount a hierarchy in which the server is in the group `own`; that group's folder."""
        self._mounts.append(f"3{len(self._mounts)} 1 0:1 {top} /{point} rw,relatime - {kind} {kind} rw,{controllers}")
        self._groups.append(f"{len(self._groups)}:{'' if kind == 'cgroup2' else controllers}:{own}")
        (self.root / "proc/self/mountinfo").write_text("\n".join([*self._mounts, "9 1 0:2 / / rw - ext4 /dev/a rw"]))
        (self.root / "proc/self/cgroup").write_text("\n".join(self._groups) + "\n")
        group = self.root / point / os.path.relpath(own, top)
        group.mkdir(parents=True, exist_ok=True)
        if kind == "cgroup2":
            (group / "cgroup.controllers").write_text(controllers.replace(",", " "))
            (group / "cgroup.subtree_control").write_text("")
            (group / "cgroup.procs").write_text("")
            (group / "cgroup.type").write_text("domain")
        return group.resolve()

    def limiter(self, **limits: int) -> Limiter:
        return Limiter(Limits(**limits), Path("/data"), root=self.root)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def groups_of(limiter: Limiter) -> list[str]:
    return list(limiter.enter("job.1")["groups"])


def test_a_group_that_another_program_manages_is_not_touched(machine: Machine) -> None:
    """Root may write anywhere; that does not make it root's."""
    machine.mount("cgroup", "sys/memory", "memory", "/manager/unit")
    unit = machine.mount("cgroup2", "sys/unified", "memory,pids", "/system.slice/a.service")
    limiter = machine.limiter(memory=MiB, max_processes=9)
    lacking = limiter.open()
    assert lacking is not None
    assert "--memory" in lacking
    assert "--max-processes" in lacking
    assert not limiter.has_groups
    assert limiter.enter("job.1") == {
        "limits": {"memory": MiB, "cpu_time": None, "max_write": None},
        "groups": [],
    }
    assert [path for path in unit.iterdir() if path.is_dir()] == []


def test_without_limits_nothing_is_lacking(machine: Machine) -> None:
    machine.mount("cgroup", "sys/pids", "pids", "/unit")
    assert machine.limiter(cpu_time=5, max_write=5).open() is None
    assert machine.limiter().open() is None


def test_a_delegated_group_of_version_two_is_divided(machine: Machine) -> None:
    unit = machine.mount("cgroup2", "sys/unified", "cpu,memory,pids", "/system.slice/a.service")
    machine.marks.add(unit)
    (unit / "cgroup.procs").write_text(f"{os.getpid()}\n")
    limiter = machine.limiter(memory=MiB, max_processes=9)
    assert limiter.open() is None
    assert (unit / "dropmill-server" / "cgroup.procs").read_text() == str(os.getpid())
    (parent,) = [path for path in unit.glob("dropmill-*") if path.name != "dropmill-server"]
    entered = limiter.enter("job.1")
    assert entered["groups"] == [str(parent / "job.1" / "cgroup.procs")]
    assert entered["limits"]["memory"] is None  # the address space is free then
    assert (parent / "job.1" / "pids.max").read_text() == "9"


def test_others_in_a_group_of_version_two_are_not_moved(machine: Machine) -> None:
    unit = machine.mount("cgroup2", "sys/unified", "memory", "/system.slice/a.service")
    machine.marks.add(unit)
    (unit / "cgroup.procs").write_text("1\n")
    assert machine.limiter(memory=MiB).open() is not None
    assert not (unit / "dropmill-server").exists()


def test_the_group_above_is_used_if_that_one_was_delegated(machine: Machine) -> None:
    """The `DelegateSubgroup=` of systemd."""
    own = machine.mount("cgroup2", "sys/unified", "memory", "/a.service/server")
    for name, text in (("controllers", "memory"), ("subtree_control", ""), ("procs", ""), ("type", "domain")):
        (own.parent / f"cgroup.{name}").write_text(text)
    machine.marks.add(own.parent)
    limiter = machine.limiter(memory=MiB)
    assert limiter.open() is None
    assert Path(groups_of(limiter)[0]).parents[2] == own.parent


def test_the_root_of_a_hierarchy_may_be_divided(machine: Machine) -> None:
    top = machine.mount("cgroup", "sys/pids", "pids", "/docker/abc", top="/docker/abc")
    limiter = machine.limiter(max_processes=7)
    assert limiter.open() is None
    (procs,) = groups_of(limiter)
    assert Path(procs).parents[2] == top
    assert (Path(procs).parent / "pids.max").read_text() == "7"


@pytest.mark.parametrize(
    ("files", "limits", "error"),
    [
        ({"memory.events": "low 0\noom 1\noom_kill 1\n"}, {"memory": MiB}, "out_of_memory"),
        ({"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"}, {"memory": MiB}, "out_of_memory"),
        ({"memory.events": "low 0\nmax 9\noom 0\noom_kill 0\n"}, {"memory": MiB}, None),
        ({"pids.events": "max 3\n"}, {"max_processes": 5}, "too_many_processes"),
        ({"pids.events": "max 0\n"}, {"max_processes": 5}, None),
    ],
)
def test_a_group_shows_which_limit_its_attempt_exceeded(
    machine: Machine, files: dict[str, str], limits: dict[str, Any], error: str | None
) -> None:
    for kind in ("memory", "pids"):
        machine.mount("cgroup", f"sys/{kind}", kind, "/")
    limiter = machine.limiter(**limits)
    assert limiter.open() is None
    group = Path(groups_of(limiter)[0]).parent
    for name, text in files.items():
        (group / name).write_text(text)
    found = limiter.leave("job.1")
    assert (found and found.type) == error


def test_memory_is_limited_in_both_versions(machine: Machine) -> None:
    machine.mount("cgroup", "sys/memory", "memory", "/")
    limiter = machine.limiter(memory=MiB)
    limiter.open()
    group = Path(groups_of(limiter)[0]).parent
    assert (group / "memory.limit_in_bytes").read_text() == str(MiB)


# --- control groups: the kernel's own --------------------------------------------------------------------------------


@pytest.fixture
def needs_pids(tmp_path: Path) -> None:
    limiter = Limiter(Limits(max_processes=9), tmp_path)
    lacking = limiter.open()
    limiter.close()
    if lacking:
        not_allowed(lacking)


@pytest.mark.usefixtures("needs_pids")
async def test_an_attempt_has_no_more_processes_than_it_may(tmp_path: Path) -> None:
    script = """
import os, sys, time
most = int(open(sys.argv[1]).read())
for n in range(most):
    if os.fork() == 0:
        time.sleep(600)
print(open("/proc/self/cgroup").read())
"""
    async with Bench(tmp_path, command=python(tmp_path, script), max_processes=20) as bench:
        outcome, output = await bench.run(b"19")
        assert outcome.error is None, output
        (group,) = [
            line.rpartition(":")[2] for line in output.splitlines() if ":pids:" in line or line.startswith("0::")
        ][:1]
        assert "dropmill-" in group
        outcome, output = await bench.run(b"20")
        assert outcome.error == JobError(
            type="too_many_processes", message="started more than 20 processes (--max-processes)"
        )
        assert "BlockingIOError" in output
        left = list(Path("/sys/fs/cgroup").glob(f"*{group.rpartition('/')[0]}/*.*.*"))
        assert left == []


@pytest.mark.usefixtures("needs_pids")
async def test_what_is_left_in_a_group_ends_when_the_next_server_starts(tmp_path: Path) -> None:
    limiter = Limiter(Limits(max_processes=9), tmp_path)
    await asyncio.to_thread(limiter.open)
    (procs,) = limiter.enter("job.1")["groups"]
    left = await asyncio.create_subprocess_exec("sh", "-c", f"echo 0 > {procs} && echo in && sleep 600", stdout=-1)
    try:
        assert left.stdout is not None
        assert await left.stdout.readline() == b"in\n"
        again = Limiter(Limits(max_processes=9), tmp_path)
        removing = asyncio.create_task(asyncio.to_thread(again.open))
        assert await left.wait() == -9
        assert await removing is None
        assert not Path(procs).parent.exists()
        again.close()
        assert not Path(procs).parents[1].exists()
    finally:
        if left.returncode is None:
            left.kill()
            await left.wait()


# --- the settings ----------------------------------------------------------------------------------------------------


def test_a_limit_has_a_size() -> None:
    from dropmill.settings import Settings

    loaded = Settings.load({"memory": "512MiB", "max_write": "2GB", "cpu_time": "60", "reload": "on"}, {})
    assert Limits.from_settings(loaded) == Limits(memory=512 * MiB, max_write=2 * 10**9, cpu_time=60)
    assert loaded.reload
    assert not Settings.load({}, {"DROPMILL_RELOAD": "0"}).reload
    for flags in ({"memory": "0"}, {"memory": "much"}, {"cpu_time": "0.5"}, {"reload": "maybe"}, {"progress": "yes"}):
        with pytest.raises(DropmillError, match=f"--{next(iter(flags)).replace('_', '-')}"):
            Settings.load(flags, {})

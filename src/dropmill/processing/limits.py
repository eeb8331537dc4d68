"""What an attempt may use, and the control groups (cgroups(7)) that enforce it where the server may create some.

Only a control group limits memory and the number of processes of an attempt as a whole. The server divides its own
group if systemd has delegated it (`Delegate=yes`), if it belongs to the server's user, or if it is the root of a
hierarchy or of a container. Write access alone is not enough: root may write anywhere, also to groups that another
program manages. Groups are never required. Without them memory is limited for each process by its address space, and
the number of processes is not limited (`RLIMIT_NPROC` counts all processes of a user, on the whole machine). CPU time
and file size are limits of each process, set in the slot.

Everything here blocks: call it in a thread.
"""

import contextlib
import hashlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dropmill.model.jobs import JobError
from dropmill.settings import Settings, size_in_words
from dropmill.slot.processes import processes

REMOVE_TRIES = 100  # a millisecond apart: a group can be removed only a moment after its last process has ended

_DELEGATED = ("user.delegate", "trusted.delegate")  # attributes that systemd sets on a delegated group
_KINDS = ("memory", "pids")
_OOM_COUNTERS = ("memory.events", "memory.oom_control")  # of version 2, of version 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The limits of the settings; None means no limit.

    Attributes:
        memory: bytes for an attempt, or for each of its processes where there is no control group.
        cpu_time: seconds for each process.
        max_write: bytes of the largest file that may be written.
        max_processes: processes and threads of an attempt at once.
    """

    memory: int | None = None
    cpu_time: int | None = None
    max_write: int | None = None
    max_processes: int | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> "Limits":
        """The limits that the settings name."""
        return cls(
            memory=settings.memory,
            cpu_time=settings.cpu_time,
            max_write=settings.max_write,
            max_processes=settings.max_processes,
        )

    def explain(self, exit_code: int) -> JobError | None:
        """The limit that ended a process with this exit code; None if none did. A shell reports signal n as 128 + n."""
        number = exit_code - 128 if exit_code > 128 else -exit_code
        if self.cpu_time is not None and number == signal.SIGXCPU:
            return JobError(type="cpu_time_exceeded", message=f"used more than {self.cpu_time} s of CPU (--cpu-time)")
        if self.max_write is not None and number == signal.SIGXFSZ:
            size = size_in_words(self.max_write)
            return JobError(type="file_size_exceeded", message=f"wrote a file larger than {size} (--max-write)")
        return None


class Limiter:
    """Enforces limits: creates a control group for each attempt, if a limit needs one and the server may."""

    def __init__(self, limits: Limits, data: Path, *, root: Path = Path("/")) -> None:
        """Touch nothing yet.

        Args:
            limits: what attempts may use.
            data: the data folder; the names of the groups are derived from it, so that two servers never share one.
            root: the folder of `proc` and `sys`.
        """
        self.limits = limits
        self._root = root
        self._name = f"dropmill-{hashlib.sha256(os.fsencode(data)).hexdigest()[:16]}"
        self._parents: dict[str, Path] = {}

    def open(self) -> str | None:
        """Find the groups that may be divided, and remove the groups that an earlier process left.

        Returns:
            A line that says which limits cannot be enforced here; None if all can.
        """
        wanted = {"memory": self.limits.memory, "pids": self.limits.max_processes}
        for kind, base in _usable_groups(self._root, [kind for kind in _KINDS if wanted[kind] is not None]).items():
            parent = base / self._name
            try:
                if parent.exists():
                    for left in [path for path in parent.iterdir() if path.is_dir()]:
                        _remove(left)
                parent.mkdir(exist_ok=True)
                if (base / "cgroup.subtree_control").exists():
                    (parent / "cgroup.subtree_control").write_text(f"+{kind}")
            except OSError:
                continue
            self._parents[kind] = parent
        lacking = []
        if wanted["memory"] is not None and "memory" not in self._parents:
            lacking.append("--memory limits the address space of each process instead of the memory of an attempt")
        if wanted["pids"] is not None and "pids" not in self._parents:
            lacking.append("--max-processes has no effect")
        return f"No control group for this is delegated to the server: {'; '.join(lacking)}." if lacking else None

    @property
    def has_groups(self) -> bool:
        """Whether attempts get control groups, so that `leave` has something to do."""
        return bool(self._parents)

    def close(self) -> None:
        """Remove the server's groups; no attempt may be running."""
        for parent in set(self._parents.values()):
            with contextlib.suppress(OSError):
                parent.rmdir()

    def enter(self, attempt: str) -> dict[str, Any]:
        """Create the groups of an attempt; returns the part of its order that is about limits.

        Raises:
            OSError: a group cannot be created; the attempt must not run without it.
        """
        limits = self.limits
        groups = {kind: parent / attempt for kind, parent in self._parents.items()}
        for group in set(groups.values()):
            group.mkdir()
        if "memory" in groups:
            _limit_memory(groups["memory"], str(limits.memory))
        if "pids" in groups:
            (groups["pids"] / "pids.max").write_text(str(limits.max_processes))
        return {
            "limits": {
                "memory": None if "memory" in groups else limits.memory,
                "cpu_time": limits.cpu_time,
                "max_write": limits.max_write,
            },
            "groups": sorted({str(group / "cgroup.procs") for group in groups.values()}),
        }

    def leave(self, attempt: str) -> JobError | None:
        """Remove the groups of an attempt; returns the limit that it exceeded, None if it exceeded none."""
        error = None
        for kind, parent in self._parents.items():
            group = parent / attempt
            if kind == "pids" and _count(group / "pids.events", "max"):
                text = f"started more than {self.limits.max_processes} processes (--max-processes)"
                error = JobError(type="too_many_processes", message=text)
            if kind == "memory" and any(_count(group / name, "oom_kill") for name in _OOM_COUNTERS):
                text = f"used more than {size_in_words(self.limits.memory or 0)} of memory (--memory)"
                error = error or JobError(type="out_of_memory", message=text)
        for group in {parent / attempt for parent in self._parents.values()}:
            _remove(group)
        return error


def _limit_memory(group: Path, limit: str) -> None:
    is_second = (group / "memory.max").exists()
    (group / ("memory.max" if is_second else "memory.limit_in_bytes")).write_text(limit)
    # The limit excludes swap, and the kernel kills all processes of the attempt at once, so that none is left half
    # alive. A kernel without one of these files has nothing to switch.
    for name, value in (("memory.swap.max", "0"), ("memory.oom.group", "1"), ("memory.memsw.limit_in_bytes", limit)):
        if (group / name).exists():
            with contextlib.suppress(OSError):
                (group / name).write_text(value)


def _count(file: Path, key: str) -> int:
    """A counter in a file of lines `key number`; 0 if the key or the file does not exist."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.split()[:1] == [key])


def _remove(group: Path) -> None:
    """Kill the processes of a group and remove it; if that fails, the next start removes it."""
    for _ in range(REMOVE_TRIES):
        try:
            group.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                for pid in (group / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.001)


# --- which groups the server may divide -------------------------------------------------------------------------------


def _usable_groups(root: Path, kinds: list[str]) -> dict[str, Path]:
    """For each kind of limit the group that this server may divide; kinds without one are missing."""
    found: dict[str, Path] = {}
    if not kinds:
        return found
    with contextlib.suppress(OSError):
        for controllers, group, is_top in _own_groups(root):
            if controllers is None:
                found |= _second_version(kinds, group, is_top=is_top)
                continue
            for kind in kinds:
                if kind in controllers and kind not in found and (is_top or _is_handed_over(group)):
                    found[kind] = group
    return found


def is_delegated(root: Path = Path("/")) -> bool:
    """Whether this process is in a control group that it may divide. Only reads; `Limiter.open` makes changes."""
    with contextlib.suppress(OSError):
        for _, group, is_top in _own_groups(root):
            if is_top or _is_handed_over(group) or _is_handed_over(group.parent):
                return True
    return False


def _own_groups(root: Path) -> Iterator[tuple[set[str] | None, Path, bool]]:
    """The groups of this process: controllers (None: version 2, a file lists them), folder, whether it is the root."""
    mounts: list[tuple[set[str] | None, str, Path]] = []
    for line in (root / "proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = [*after.split(), "", "", ""][:3]
        if kind in ("cgroup", "cgroup2"):
            top, at = before.split()[3:5]
            mounts.append((None if kind == "cgroup2" else set(options.split(",")), top, root / at.lstrip("/")))
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        for controllers, top, point in mounts:
            if (controllers is None) == (names == "") and set(filter(None, names.split(","))) <= (controllers or set()):
                below = os.path.relpath(path, top)
                if not below.startswith(".."):
                    yield controllers, point / below, below == "."


def _is_handed_over(group: Path) -> bool:
    """Whether systemd has delegated this group, or it belongs to this process's user, other than root."""
    for mark in _DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(group, mark) == b"1":
                return True
    return os.getuid() != 0 and group.stat().st_uid == os.getuid()


def _second_version(kinds: list[str], own: Path, *, is_top: bool) -> dict[str, Path]:
    """As `_usable_groups`, for version 2. Only a group without processes can be divided, so ours move one down."""
    base = own
    if not is_top and not _is_handed_over(own) and _is_handed_over(own.parent):
        base = own.parent
    elif not is_top and not _is_handed_over(own):
        return {}
    there = (base / "cgroup.controllers").read_text().split()
    usable = [kind for kind in kinds if kind in there]
    if not usable:
        return {}
    try:
        if (base / "cgroup.type").exists():  # the machine's root group has none, and may keep its processes
            _move_aside(base)
        for kind in usable:
            (base / "cgroup.subtree_control").write_text(f"+{kind}")
    except OSError:
        return {}
    return dict.fromkeys(usable, base)


def _move_aside(base: Path) -> None:
    """Move this process and its children into a group of their own, below `base`.

    Raises:
        OSError: `base` has processes of other programs, which must not be moved.
    """
    ours = {os.getpid()}
    for _ in range(2):  # a child may have a lower number than its parent and be listed first
        ours |= {pid for pid, parent, _ in processes() if parent in ours}
    inside = {int(pid) for pid in (base / "cgroup.procs").read_text().split()}
    if not inside <= ours:
        raise PermissionError(f"{base} has other processes")
    server = base / "dropmill-server"
    if inside:
        server.mkdir(exist_ok=True)
    for pid in inside:
        with contextlib.suppress(ProcessLookupError):
            (server / "cgroup.procs").write_text(str(pid))

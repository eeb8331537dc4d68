"""`python -m dropmill` without the time that its imports take: a process that has made them forks for each start.

The imports of the server take 1.3 seconds of CPU and more, and the tests start it a thousand times. So each process of
the tests has one `python -m tests.support.preloaded`, which imports what the command line needs, runs none of it, and
has one thread. For each start it forks a child that becomes what `python -m dropmill WORDS` is:

- a child of the test's own process, with its own pid and exit code, in a session of its own if that is asked for;
- its standard streams, working directory, arguments, `sys.path`, umask and environment, and no other descriptor;
- the signal dispositions of a new interpreter, `random` seeded anew, and `dropmill.__main__` run as `__main__`.

What differs from a fresh process: all modules are imported, the hash seed and the addresses are those of its siblings,
and `/proc/PID/cmdline` and `/proc/PID/environ` are those of the process that has forked. Tests that depend on one of
these, or on anything before the first line of `dropmill.__main__`, use `subprocess` or the marker `fresh`.
"""

import atexit
import ctypes
import functools
import gc
import importlib
import io
import json
import os
import platform
import re
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, AnyStr, Final

DROPMILL: Final = (sys.executable, "-m", "dropmill")
_MODULES: Final = (
    *("app", "upkeep.webhook"),
    *(f"cli.{word}" for word in ("serve", "send", "watch", "config", "doctor", "doctor.host", "doctor.network")),
)
# Any other variable may be read while the interpreter starts or a module is imported.
_READ_AFTER_IMPORTS: Final = re.compile(
    r"DROPMILL_\w+|SERVING_TEST|XDG_CACHE_HOME|TZ|PYTEST_\w+|(?i:(no|http|https|all)_proxy)"
)
# Of the preloaded process. Servers do not run in asyncio's debug mode.
_ENVIRONMENT: Final = {name: value for name, value in os.environ.items() if name != "PYTHONASYNCIODEBUG"}
is_off = False
"""Whether every process is fresh."""

_MAX_ORDER: Final = 128 * 1024  # bytes; the kernel's default for a message is 208 KiB
_CLONE_CALL: Final = {"x86_64": 56, "aarch64": 220}
_CLONE_PARENT, _CLONE_CHILD_CLEARTID, _CLONE_CHILD_SETTID = 0x8000, 0x200000, 0x1000000
_PR_GET_TID_ADDRESS: Final = 40


# --- in the process of the tests -------------------------------------------------------------------------------------


class DropmillProcess(subprocess.Popen[AnyStr]):
    """`subprocess.Popen` for `DROPMILL` and words after it; whatever the preloaded process cannot start is fresh."""

    def _execute_child(  # Popen's own method; its arguments are the same from Python 3.11 to 3.14
        self,
        args: Sequence[str],
        executable: Any,
        preexec_fn: Any,
        close_fds: bool,
        pass_fds: Any,
        cwd: Any,
        env: Mapping[str, str] | None,
        startupinfo: Any,
        creationflags: Any,
        shell: Any,
        p2cread: int,
        p2cwrite: int,
        c2pread: int,
        c2pwrite: int,
        errread: int,
        errwrite: int,
        *others: Any,
    ) -> None:
        restore_signals, *rights, umask, start_new_session, process_group = others
        is_plain = close_fds and restore_signals and set(rights) == {None} and process_group == umask == -1
        parent = _preloaded() if is_plain and not (executable or preexec_fn or pass_fds or shell) else None
        words = list(map(str, args))
        if parent is None or tuple(words[:3]) != DROPMILL or not parent.is_alike(env):
            super()._execute_child(  # type: ignore[misc]  # typeshed leaves it out
                *(args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell),
                *(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, *others),
            )
            return
        streams = [own if given == -1 else given for own, given in enumerate((p2cread, c2pwrite, errwrite))]
        self.pid = parent.fork(
            words, cwd=os.fspath(cwd or os.getcwd()), env=env, streams=streams, leads=start_new_session
        )
        self._child_created = True
        self._close_pipe_fds(  # type: ignore[attr-defined]  # typeshed leaves it out
            p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite
        )


class _Parent:
    """The preloaded process, seen from the tests."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.preloaded", str(theirs.fileno())],
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self.end)

    def end(self) -> None:
        self._channel.close()
        self._process.wait()

    def is_alike(self, environment: Mapping[str, str] | None) -> bool:
        """Whether a process with this environment imports the same as the preloaded one has."""
        wanted, own = (os.environ if environment is None else environment), _ENVIRONMENT
        differing = {name for name in wanted.keys() | own.keys() if wanted.get(name) != own.get(name)}
        return all(_READ_AFTER_IMPORTS.fullmatch(name) for name in differing)

    def fork(
        self, words: list[str], *, cwd: str, env: Mapping[str, str] | None, streams: list[int], leads: bool
    ) -> int:
        """Start a child of this process; its pid."""
        mask = os.umask(0)
        os.umask(mask)
        environment = dict(os.environ if env is None else env)
        order = {"words": words, "cwd": cwd, "environment": environment, "umask": mask, "leads": leads}
        socket.send_fds(self._channel, [json.dumps(order).encode()], streams)
        answer = self._channel.recv(_MAX_ORDER)
        if not answer:
            raise OSError("the preloaded process has ended")
        return int(answer)


@functools.cache
def _preloaded() -> _Parent | None:
    """The process of these tests; None where there can be none."""
    is_measured = "COVERAGE_PROCESS_CONFIG" in os.environ  # coverage measures fresh processes alone
    return None if is_off or is_measured or _can_fork() is None else _Parent()


# --- in the preloaded process and its children -----------------------------------------------------------------------


def await_order(channel: socket.socket) -> None:
    """Fork for each order; returns in the children alone, and ends this process with the channel."""
    for name in _MODULES:
        importlib.import_module(f"dropmill.{name}")
    importlib.import_module("uvloop")
    gc.collect()
    gc.freeze()  # so that a child that collects garbage does not copy the pages of what is imported
    while True:
        message, streams, _, _ = socket.recv_fds(channel, _MAX_ORDER, 3)
        if not message:
            sys.exit()
        pid = _fork()
        if pid == 0:
            channel.close()
            _become(json.loads(message), streams)
            return
        for descriptor in streams:
            os.close(descriptor)
        channel.send(str(pid).encode())


def _become(order: dict[str, Any], streams: Sequence[int]) -> None:
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if order["leads"]:
        os.setsid()
    os.umask(order["umask"])
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    time.tzset()
    sys.orig_argv = [*order["words"]]
    sys.argv = ["-m", *order["words"][3:]]
    if not sys.flags.safe_path:
        sys.path[0] = os.getcwd()
    _open_streams()


def _open_streams() -> None:
    """As the interpreter does when it starts."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old: io.TextIOWrapper = getattr(sys, name)
        raw = io.FileIO(number, "w" if number else "r", closefd=False)
        is_raw = number > 0 and old.write_through  # PYTHONUNBUFFERED
        buffer: Any = raw if is_raw else io.BufferedWriter(raw) if number else io.BufferedReader(raw)
        stream = io.TextIOWrapper(
            buffer,
            old.encoding,
            old.errors,
            newline="\n" if number else None,
            line_buffering=old.line_buffering or raw.isatty(),
            write_through=old.write_through,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


@functools.cache
def _can_fork() -> tuple[int, ctypes.c_void_p] | None:
    """The number of the system call, and where the C library keeps the thread's id; None if either is unknown."""
    address = ctypes.c_void_p()
    call = _CLONE_CALL.get(platform.machine())
    if sys.platform != "linux" or call is None:
        return None
    is_told = ctypes.CDLL(None).prctl(_PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) == 0
    return (call, address) if is_told and address.value else None


def _fork() -> int:
    """`os.fork`, except that the child's parent is the parent of this process: the test can wait for it.

    Handlers that C libraries have set with `pthread_atfork` do not run. Those imported set some only once they run.
    """
    possible = _can_fork()
    assert possible is not None
    call, address = possible
    flags = _CLONE_PARENT | _CLONE_CHILD_CLEARTID | _CLONE_CHILD_SETTID | signal.SIGCHLD
    python = ctypes.pythonapi
    system = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock
    python.PyOS_BeforeFork()
    # The order of the last two arguments depends on the machine; the other one, for threads, is not looked at.
    pid = int(system.syscall(call, flags, None, None, address, address))
    if pid == 0:
        python.PyOS_AfterFork_Child()
    else:
        python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(ctypes.get_errno(), "clone")
    return pid


if __name__ == "__main__":
    await_order(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("dropmill", run_name="__main__", alter_sys=True)

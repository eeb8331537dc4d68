"""Scripts that the measured servers run."""

import ctypes
import mmap
import os
import time
from pathlib import Path

BUSY_MOST_S = 120.0  # a benchmark that died must not leave this running


def nothing(path: str) -> None:
    """Cost nothing, so that what remains is the server's."""


def wait(path: str) -> None:
    """Hold the slot until it is ended."""
    time.sleep(BUSY_MOST_S)


def busy(path: str) -> None:
    """Burn CPU until the file appears whose path is the content of the dropped one."""
    end = Path(Path(path).read_text())
    give_up = time.monotonic() + BUSY_MOST_S
    while not end.exists() and time.monotonic() < give_up:
        for _ in range(200_000):
            pass


def print_lines(path: str) -> None:
    """Print 100,000 lines a second, for three seconds."""
    began = time.monotonic()
    for tenth in range(30):
        print("".join(f"line {tenth * 10_000 + number} of many\n" for number in range(10_000)), end="")
        time.sleep(max(0.0, began + (tenth + 1) / 10 - time.monotonic()))


def read_twice(path: str) -> dict[str, float]:
    """Read the file as it comes, then again with nothing of it in the page cache.

    Returns:
        `cached`: which share of its pages was in the page cache before; `first_s` and `cold_s`: the seconds of each.
    """
    descriptor = os.open(path, os.O_RDONLY)
    cached = _cached_share(descriptor)
    first_s = _read(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return {"cached": cached, "first_s": first_s, "cold_s": _read(descriptor)}


def _cached_share(descriptor: int) -> float:
    libc = ctypes.CDLL(None, use_errno=True)
    size = os.fstat(descriptor).st_size
    pages = -(-size // mmap.PAGESIZE)
    held = (ctypes.c_ubyte * pages)()
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    address = ctypes.c_void_p(libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0))
    if address.value == ctypes.c_void_p(-1).value or libc.mincore(address, ctypes.c_size_t(size), held):
        raise OSError(ctypes.get_errno(), "the kernel does not say what it has cached")
    libc.munmap(address, ctypes.c_size_t(size))
    return sum(page & 1 for page in held) / pages


def _read(descriptor: int) -> float:
    data = bytearray(2**20)
    began, at = time.perf_counter(), 0
    while got := os.preadv(descriptor, [data], at):
        at += got
    return time.perf_counter() - began

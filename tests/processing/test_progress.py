"""What counts as progress, and how much of it is passed on."""

import asyncio
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from tests.support.fakes.attempt_ledger import FakeAttemptLedger
from tests.support.fakes.bus import FakeBus
from tests.support.waiting import eventually

from dropmill.processing.progress import LOOKED_AT_BYTES, ProgressFeed, find_progress, parse_explicit


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b" 45%|####5     | 45/100 [00:04<00:05, 10.00it/s]", (45, 100)),
        (b"Epoch 3/10", (3, 10)),
        (b"[ 12%] Building CXX object", (12, 100)),
        (b"  1,238,099  37%  146.38kB/s    0:00:08  (xfr#5, to-chk=169/396)", (37, 100)),
        (b"############           45.3%", (45.3, 100)),
        (b"\x1b[32m7/9\x1b[0m files", (7, 9)),
        (b"(2/5) linking.", (2, 5)),
        (b"downloaded 50 %, going on", (50, 100)),
        (b"page 4/4.", (4, 4)),
        (b"0/3", (0, 3)),
        (b"on 1/2/2024", None),
        (b"src/1/2", None),
        (b"/tmp/3/10", None),
        (b"3/10px", None),
        (b"v2.1/3", None),
        (b"a1/2", None),
        (b"5/4", None),
        (b"1/1", None),
        (b"150%", None),
        (b"url?q=50%25", None),
        (b"2024-01/02", None),
        (b"1/2.txt", None),
        (b"nothing", None),
    ],
)
def test_progress_is_read_as_tools_print_it(line: bytes, found: tuple[float, float] | None) -> None:
    assert find_progress(line) == (None if found is None else (*found, None))


@pytest.mark.parametrize(
    ("line", "report"),
    [
        (b"dropmill: progress 3/10", (3, 10, None)),
        (b"dropmill: progress 3/10 cutting out \xc3\xa4", (3, 10, "cutting out ä")),
        (b"dropmill: progress 12.5% half of a quarter", (12.5, 100, "half of a quarter")),
        (b"dropmill: progress 7 files", (7, None, "files")),
        (b"dropmill: progress", None),
        (b"dropmill: progress soon", None),
        (b"say dropmill: progress 3/10", None),
    ],
)
def test_a_line_may_report_on_purpose(line: bytes, report: tuple[float, float | None, str | None] | None) -> None:
    assert parse_explicit(line) == report


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


@pytest.fixture
async def feed(bus: FakeBus, tmp_path: Path) -> ProgressFeed:
    (tmp_path / "blob").touch()
    ledger = FakeAttemptLedger()
    return ProgressFeed(bus, ledger.orders[ledger.add(tmp_path / "blob")])


def values(bus: FakeBus) -> list[tuple[float, float | None]]:
    return [(progress.value, progress.total) for _, progress in bus.reports]


async def test_the_first_and_the_newest_are_published(feed: ProgressFeed, bus: FakeBus) -> None:
    for i in range(100):
        feed.read(b"%d/100\r" % i)
    assert values(bus) == [(0, 100)]
    await eventually(lambda: len(bus.reports) == 2)
    feed.close()
    assert values(bus) == [(0, 100), (99, 100)]


async def test_a_line_may_come_in_pieces_and_counts_when_it_is_ended(feed: ProgressFeed, bus: FakeBus) -> None:
    feed.read(b"\n1")
    feed.read(b"2/1")
    feed.read(b"5")
    feed.close()
    assert values(bus) == []
    feed.read(b" files\n")
    assert values(bus) == [(12, 15)]


async def test_what_is_said_on_purpose_silences_the_guess(feed: ProgressFeed, bus: FakeBus) -> None:
    feed.read(b"80%\ndropmill: progress 3/10\n90%\n")
    feed.read(b"95%\n")
    feed.close()
    assert values(bus) == [(3, 10)]


async def test_a_number_cut_by_the_window_is_not_half_read(feed: ProgressFeed, bus: FakeBus) -> None:
    feed.read(b"9" * 3 + b"1/40" + b" " * (LOOKED_AT_BYTES - 5) + b"\n")
    assert values(bus) == []


async def test_a_flood_without_line_ends_is_not_kept(feed: ProgressFeed, bus: FakeBus) -> None:
    for _ in range(100):
        feed.read(b"x" * 65536)
        await asyncio.sleep(0)
    feed.read(b"\n5/6\n")
    assert values(bus) == [(5, 6)]


# Real tools. `recorded` holds what they wrote into a pipe; each is fed in pieces of every size.

RECORDED = Path(__file__).parent / "recorded"


class NothingWithheld(ProgressFeed):
    """Publishes each report at once, however soon after the one before."""

    def read(self, output: bytes) -> None:
        super().read(output)
        self.close()


def shown(data: bytes, size: int) -> list[float]:
    """Per cent shown, as the bytes come in pieces of that size."""
    bus, ledger = FakeBus(), FakeAttemptLedger()
    feed = NothingWithheld(bus, ledger.orders[ledger.add(Path(__file__))])
    for start in range(0, len(data), size):
        feed.read(data[start : start + size])
    assert all(total is not None and 0 <= value <= total for value, total in values(bus))
    return [round(100 * value / total, 1) for value, total in values(bus) if total]


@pytest.mark.parametrize("size", [1, 7, 100, 65536])
@pytest.mark.parametrize(
    ("tool", "runs"),
    [("tqdm", 2), ("rsync", 3), ("rsync_total", 1), ("curl_bar", 1), ("ffmpeg", 1)],
)
async def test_a_real_tool_moves_the_bar_to_its_end(tool: str, runs: int, size: int) -> None:
    """The bar only moves forward, from 0 to 100, once for each run of the tool."""
    seen = shown((RECORDED / f"{tool}.txt").read_bytes(), size)
    assert seen[-1] == 100
    if size < 100:
        assert len(seen) >= 6
        assert seen[0] < 35
        falls = [pair for pair in pairwise(seen) if pair[0] > pair[1]]
        assert len(falls) == runs - 1


@pytest.mark.parametrize("size", [1, 65536])
async def test_a_table_without_progress_moves_nothing(size: int) -> None:
    """The meter of curl that is no bar: numbers without a sign."""
    assert shown((RECORDED / "curl_meter.txt").read_bytes(), size) == []


async def test_prints_of_a_script_move_the_bar() -> None:
    script = "for i in range(1, 8): print('step', f'{i}/7:', 'resize', flush=True)\nprint('4 of 7 changed, 1/2 a day')"
    running = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=subprocess.PIPE)
    output, _ = await running.communicate()
    assert shown(output, 1) == [round(100 * i / 7, 1) for i in range(1, 8)] + [50.0]

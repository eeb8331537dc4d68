"""Handing a job over that does nothing: ours, all included, beside ways that include less."""

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.bench import SUBMISSIONS, THIS, Bench, quiet_disk
from benchmarks.client import block, small_files
from benchmarks.peers import environment
from benchmarks.peers.ways import SLOW_S, slow_sync
from benchmarks.processors import nothing
from benchmarks.table import Table, middle

WORKERS = os.cpu_count() or 1
# What the measured callable's module imports, and the processor that says so.
NOTHING, PANDAS = "nothing imported", "pandas imported"
MODULES = {NOTHING: "nothing", PANDAS: "processors_with_pandas:nothing"}
CELERY = environment.SERVERS / "celery_jobs.py"


def measure(bench: Bench) -> Sequence[Table]:
    """Jobs a second and CPU a job."""
    jobs, many = bench.scale.jobs, bench.scale.many_jobs
    slow = f", each sync {1000 * SLOW_S:.0f} ms slower"
    ways: dict[str, Callable[[], tuple[float, float]]] = {}
    for count, words, is_slow in ((jobs, "", False), (many, "", False), (jobs, slow, True)):
        for name, tree in bench.trees.items():
            ways[f"{name}, {count:,} jobs{words}"] = partial(_ours, bench, count, tree=tree, is_slow=is_slow)
    ways |= {
        f"{THIS}, {jobs:,} jobs, pandas imported": partial(_ours, bench, jobs, label=PANDAS),
        "ProcessPoolExecutor (neither isolated nor killable)": partial(_pool, jobs),
        f"a fresh interpreter a file, {WORKERS} at a time": partial(_interpreters, jobs // 5),
        f"Celery with Redis, prefork {WORKERS} (one process a worker)": partial(_celery, jobs),
    }
    figures: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    missing: dict[str, str] = {}
    for number in range(bench.rounds):
        for way in list(ways) if number % 2 == 0 else reversed(ways):
            if way in missing:
                continue
            bench.say(f"dispatch, round {number + 1}: {way}")
            try:
                figures[way].append(ways[way]())
            except environment.Missing as error:
                missing[way] = str(error)
    rates = {way: median(rate for rate, _ in found) for way, found in figures.items() if found}
    ratios = [
        f"{count:,} jobs {rates[f'{THIS}, {count:,} jobs'] / rates[f'{name}, {count:,} jobs']:.2f}"
        for count in (jobs, many)
        for name, tree in bench.trees.items()
        if tree is not None
    ]
    return [
        Table(
            title="Dispatch: jobs that do nothing",
            columns=("way", "jobs/s", "CPU ms a job"),
            rows=[
                (way, missing[way], "")
                if way in missing
                else (way, middle([rate for rate, _ in found]), middle([cpu for _, cpu in found], 2))
                for way, found in figures.items()
            ],
            notes=[
                "Dropmill, all included: upload in one form, durability, ledger, events, log, fork, output; from the "
                "request's start until the submission has settled, CPU of all processes together. A new server each "
                f"time. {jobs // 5:,} jobs for fresh interpreters.",
                *([f"Jobs/s, times those of the commit before: {', '.join(ratios)}."] if ratios else []),
            ],
        )
    ]


def run(bench: Bench) -> None:
    """Our jobs, marked as work."""
    for label in MODULES:
        _ours(bench, bench.scale.jobs, label=label)


def _ours(
    bench: Bench, jobs: int, *, label: str = NOTHING, tree: Path | None = None, is_slow: bool = False
) -> tuple[float, float]:
    form = small_files([block()[n : n + 1024] for n in range(jobs)])
    with bench.dropmill(MODULES[label], tree=tree, under=slow_sync() if is_slow else ()) as program:
        bench.settled(program, bench.send(program, SUBMISSIONS, small_files([b"warm"])).result(), 1)
        quiet_disk()
        with bench.work(f"jobs that do nothing, {label}", program, jobs, "job") as work:
            bench.settled(program, bench.send(program, SUBMISSIONS, form).result(), jobs)
        return jobs / work.wall_s, 1000 * work.cpu_s / jobs


def _timed(run: Callable[[], None], jobs: int) -> tuple[float, float]:
    def cpu() -> float:
        own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime

    before, began = cpu(), time.perf_counter()
    run()
    seconds = time.perf_counter() - began
    return jobs / seconds, 1000 * (cpu() - before) / jobs


def _pool(jobs: int) -> tuple[float, float]:
    def run() -> None:
        with ProcessPoolExecutor(WORKERS) as pool:
            for waiting in [pool.submit(nothing, __file__) for _ in range(jobs)]:
                waiting.result()

    return _timed(run, jobs)


def _interpreters(jobs: int) -> tuple[float, float]:
    def run() -> None:
        running: list[subprocess.Popen[bytes]] = []
        for _ in range(jobs):
            running.append(subprocess.Popen([sys.executable, "-I", "-c", "pass"]))
            if len(running) == WORKERS:
                running.pop(0).wait()
        for process in running:
            process.wait()

    return _timed(run, jobs)


def _celery(jobs: int) -> tuple[float, float]:
    """By its own program, which starts Redis and a worker and prints jobs a second and CPU ms a job."""
    redis = shutil.which("redis-server")
    if redis is None:
        raise environment.Missing("redis-server is not installed (apt-get install redis-server)")
    words: list[str | Path] = [environment.python(), CELERY, redis, str(jobs), str(WORKERS)]
    try:
        ended = subprocess.run(words, check=True, capture_output=True, text=True, timeout=environment.PATIENCE_S)
    except subprocess.CalledProcessError as error:
        raise environment.Missing(f"Celery did not run: {error.stderr.strip().splitlines()[-1]}") from None
    except subprocess.TimeoutExpired:
        raise environment.Missing("Celery did not end in time") from None
    rate, cpu = ended.stdout.split()[-2:]
    return float(rate), float(cpu)

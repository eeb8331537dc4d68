"""Settings of the script: what runs on each file, how often, with which limits and environment."""

import os
from dataclasses import dataclass

from dropmill.settings import values
from dropmill.settings.field import setting


@dataclass(frozen=True, kw_only=True)
class ProcessingSettings:
    """Read by `processing`, and by `app` for the pool and the runner of attempts."""

    processor: str | None = setting(
        "--processor",
        values.text,
        None,
        "Python callable to run on each file, importable from the working directory. Without it and --command a "
        "built-in one prints name, size and path.",
        metavar="MODULE:FUNCTION",
    )
    command: tuple[str, ...] | None = setting(
        "--command",
        values.command,
        None,
        "Executable to run on each file, split as a shell splits words, but no shell runs; {path} {config} {results} "
        "{work} {job_id} are replaced.",
        metavar="'ARGV'",
    )
    concurrency: int = setting(
        "--concurrency",
        values.count,
        lambda: os.cpu_count() or 1,
        "Maximum number of attempts that run at once. Default: CPU cores.",
        metavar="N",
    )
    timeout: float | None = setting(
        "--timeout",
        values.seconds,
        None,
        "Seconds an attempt may run before the server ends it; no limit by default.",
        metavar="S",
    )
    grace: float = setting(
        "--grace",
        values.seconds_or_zero,
        5.0,
        "Seconds between asking a script to end and killing it, at a timeout, a cancel, and when the server stops.",
        metavar="S",
    )
    max_attempts: int = setting(
        "--max-attempts",
        values.count,
        5,
        "Number of lost attempts (the slot or the server died during them) after which a job fails.",
        metavar="N",
    )
    retry_exit_codes: tuple[int, ...] = setting(
        "--retry-exit-codes",
        values.exit_codes,
        (),
        "Exit codes after which a job is retried automatically, such as 75,111; -9 means signal 9. None by default.",
        metavar="N,...",
    )
    retry_times: int = setting(
        "--retry-times",
        values.count,
        3,
        "Maximum number of automatic retries after one of --retry-exit-codes.",
        metavar="N",
    )
    retry_delay: float = setting(
        "--retry-delay",
        values.seconds,
        10.0,
        "Seconds before the first automatic retry; doubled for each further one, up to an hour.",
        metavar="S",
    )
    memory: int | None = setting(
        "--memory",
        values.positive_size,
        None,
        "Memory an attempt may use, such as 2GiB; no limit by default. Enforced by a control group where one is "
        "delegated to the server, otherwise by the address space of each process.",
        metavar="SIZE",
    )
    cpu_time: int | None = setting(
        "--cpu-time",
        values.count,
        None,
        "Whole seconds of CPU that each process of an attempt may use; no limit by default.",
        metavar="S",
    )
    max_write: int | None = setting(
        "--max-write",
        values.positive_size,
        None,
        "Size of the largest file that a script may write; no limit by default.",
        metavar="SIZE",
    )
    max_processes: int | None = setting(
        "--max-processes",
        values.count,
        None,
        "Processes and threads an attempt may have at once; no limit by default. Needs a control group that is "
        "delegated to the server.",
        metavar="N",
    )
    max_results: int = setting(
        "--max-results",
        values.count,
        10_000,
        "Maximum number of result files of one attempt; an attempt with more fails, and none of its results is kept.",
        metavar="N",
    )
    max_results_size: int = setting(
        "--max-results-size",
        values.size,
        10 * 2**30,
        "Maximum total size of one attempt's results, holes in sparse files included; an attempt with more fails, and "
        "none of its results is kept. Default: 10GiB.",
        metavar="SIZE",
    )
    progress: str = setting(
        "--progress",
        values.one_of("auto", "off"),
        "auto",
        "auto: read progress such as 45% or 3/10 from a script's output. off: use only what it reports explicitly.",
        metavar="auto|off",
    )
    env: str = setting(
        "--env",
        values.one_of("all", "clean"),
        "all",
        "all: scripts get the server's environment, without its own variables and secrets. clean: they get only PATH, "
        "HOME, LANG, LC_*, TZ, TMPDIR and what --pass-env names.",
        metavar="all|clean",
    )
    pass_env: tuple[str, ...] = setting(
        "--pass-env",
        values.variable,
        (),
        "Environment variable that scripts get although --env withholds it; may be given several times.",
        metavar="NAME",
        many=True,
    )
    reload: bool = setting(
        "--reload",
        values.switch,
        False,
        "For development: import the callable again when a file of the modules imported with it has changed, and have "
        "pages use the scripts and styles in static/ as they are, and serve /styleguide.",
        metavar="",
    )
    fresh_process: bool = setting(
        "--fresh-process",
        values.switch,
        False,
        "Run the callable in a new interpreter for each file: slower, for modules that must not be forked.",
        metavar="",
    )
    reuse: int | None = setting(
        "--reuse",
        values.count,
        None,
        "Run up to N attempts of the callable one after the other in one process, for models that must stay loaded. "
        "They are then not isolated from each other (docs/scripts.md). By default each attempt has its own process.",
        metavar="N",
    )
    copy_input: bool = setting(
        "--copy-input",
        values.switch,
        False,
        "Give each attempt a copy of the file in its work folder, which the script may change.",
        metavar="",
    )

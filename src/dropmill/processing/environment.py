"""Which of the server's environment variables scripts get.

A script runs as the server's user, so a script that searches for the server's secrets can still find them
(docs/scripts.md says where). Withholding variables keeps secrets out of the environment that every script and its
children inherit, and that other processes of the user can read in /proc.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from dropmill.settings import ENVIRONMENT_PREFIX, Settings
from dropmill.text import visible

# A service manager talks to the server through these; a script must not answer in its place.
_SERVER_ONLY = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
# Variables from which the server's libraries read a secret, and the settings with which they do. A variable that holds
# the value of a secret setting under another name is found by its value.
_SECRETS: tuple[tuple[Callable[[Settings], bool], tuple[str, ...]], ...] = ((lambda _: True, ("PGPASSWORD",)),)
_CLEAN = ("PATH", "HOME", "LANG", "LC_*", "TZ", "TMPDIR")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScriptEnvironment:
    """The environment of every script, before the variables of its job.

    Attributes:
        variables: what scripts get.
        withheld: names of the variables that they do not get, sorted; without those that are only for the server.
    """

    variables: Mapping[str, str]
    withheld: tuple[str, ...]

    @classmethod
    def from_settings(cls, settings: Settings, environment: Mapping[str, str], directory: Path) -> "ScriptEnvironment":
        """The part of the server's environment that the settings pass on to scripts.

        Args:
            settings: `env`, `pass_env` and the server's own secrets.
            environment: the server's.
            directory: the server's working directory; search paths are made absolute from here, because attempts run
                in another folder.
        """
        for_scripts = {
            name: value
            for name, value in environment.items()
            if not name.startswith(ENVIRONMENT_PREFIX) and name not in _SERVER_ONLY
        }
        secret_names = [name for is_used, names in _SECRETS if is_used(settings) for name in names]
        secret_values = settings.secrets

        def is_passed(name: str, value: str) -> bool:
            if name in settings.pass_env:
                return True
            if settings.env == "clean":
                return _matches(name, _CLEAN)
            return value not in secret_values and not _matches(name, secret_names)

        passed = {name: value for name, value in for_scripts.items() if is_passed(name, value)}
        withheld = tuple(sorted(for_scripts.keys() - passed.keys()))
        for name in ("PATH", "PYTHONPATH"):
            if passed.get(name):
                parts = passed[name].split(os.pathsep)
                passed[name] = os.pathsep.join(os.path.normpath(directory / part) for part in parts)
        passed.setdefault("PYTHONUNBUFFERED", "1")  # else a Python script's lines would appear at its end
        return cls(variables=passed, withheld=withheld)

    @property
    def notice(self) -> str | None:
        """A line for the start that names the withheld variables; None if there are none."""
        if not self.withheld:
            return None
        return (
            f"Scripts do not get these variables: {visible(', '.join(self.withheld))}. --pass-env NAME passes one on."
        )


def _matches(name: str, patterns: tuple[str, ...] | list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)

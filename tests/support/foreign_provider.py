"""An identity provider that others wrote (`oidc-provider-mock`), as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
from tests.support.identity_provider import free_port
from tests.support.waiting import PATIENCE_S, wait_until


class ForeignProvider:
    """One provider. `start` and `stop` may take turns: it forgets everybody and makes another key, on the same port.

    Attributes:
        url: its issuer.
    """

    def __init__(self, folder: Path) -> None:
        """Find a port; `start` starts."""
        self._port = free_port()
        self._said = folder / "provider.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> "ForeignProvider":
        """Start it; returns when it answers."""
        with self._said.open("ab") as said:
            self._process = process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(self._port)],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=os.environ | {"NO_COLOR": "1"},
            )

        def answers() -> bool:
            assert process.poll() is None, self._said.read_text()
            try:
                return httpx.get(f"{self.url}/jwks", trust_env=False).status_code == 200
            except httpx.HTTPError:
                return False

        wait_until(answers)
        return self

    def knows(self, subject: str, **claims: object) -> None:
        """Have it say this of somebody from now on."""
        answer = httpx.put(f"{self.url}/users/{subject}", json=claims, trust_env=False)
        assert answer.status_code == 204, answer.text

    def stop(self) -> None:
        """End it; does nothing if it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_S)
            self._process = None

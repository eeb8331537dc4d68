"""Debian's nginx with the sample configuration of `deploy/`, on a free port of loopback."""

import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.missing import missing
from tests.support.waiting import PATIENCE_S, wait_until

SAMPLE = Path(__file__).parents[2] / "deploy" / "nginx.conf"
PEER = "127.0.0.9"
"""nginx connects to the server from here, so that a client of 127.0.0.1 can be told from its proxy."""

MAIN = """
master_process off;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    proxy_bind {peer};
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


class Nginx:
    """One nginx. `start` when the server's address is known; `end` leaves nothing behind.

    Attributes:
        url: where it serves, without a slash at its end.
    """

    def __init__(self, folder: Path, certificate: tuple[Path, Path], base: str = "") -> None:
        """Find a port. `base` is the sub-path, such as `/drop`."""
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if program is None:
            missing("nginx is not installed; run: apt-get install -y nginx-light (or: make test-setup)")
        self._program, self._folder, self._certificate, self._base = program, folder, certificate, base
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.url = f"https://localhost:{self.port}{base}"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, server: str, change: Callable[[str], str] = lambda text: text) -> "Nginx":
        """Serve for `server` (`HOST:PORT`); `change` alters the sample, which it must, once it is for here."""
        text = SAMPLE.read_text()
        for sample, here in (
            ("server 127.0.0.1:8000;", f"server {server};"),
            ("listen 443 ssl;", f"listen 127.0.0.1:{self.port} ssl;"),
            ("server_name drop.example.com;", "server_name localhost;"),
            ("/etc/ssl/drop.example.com.pem", str(self._certificate[0])),
            ("/etc/ssl/private/drop.example.com.key", str(self._certificate[1])),
            ("location / {", f"location {self._base}/ {{"),
        ):
            assert text.count(sample) == 1, sample
            text = text.replace(sample, here)
        (self._folder / "site.conf").write_text(change(text))
        main = self._folder / "nginx.conf"
        main.write_text(MAIN.format(folder=self._folder, peer=PEER))
        self._process = process = subprocess.Popen(
            [self._program, "-p", str(self._folder), "-e", str(self._folder / "error.log"), "-c", str(main)],
            stdin=subprocess.DEVNULL,
        )

        def is_up() -> bool:
            assert process.poll() is None, (self._folder / "error.log").read_text()
            with socket.socket() as asking:
                return asking.connect_ex(("127.0.0.1", self.port)) == 0

        wait_until(is_up)
        return self

    def end(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)
            self._process = None

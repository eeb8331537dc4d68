"""Two servers behind Debian's nginx: one after the other restarts while people and programs send."""

import hashlib
import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support import tus
from tests.support.certificates import make_certificate
from tests.support.cluster import Cluster
from tests.support.nginx import PEER, Nginx
from tests.support.waiting import PATIENCE_S, wait_until

CHUNK = 2**18


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path) -> Iterator[httpx.Client]:
    """Both servers at one address."""
    folder = tmp_path / "certificate"
    folder.mkdir()
    certificate = make_certificate(folder)
    nginx = Nginx(tmp_path / "nginx", certificate)
    flags = ("--public-url", nginx.url, "--trusted-proxy", PEER, "--auth", "off")
    first, second = cluster.server(*flags), cluster.server(*flags)
    cluster.worker("--concurrency", "2")
    sample = f"server {first.host};"
    both = "\n    ".join(f"server {server.host} max_fails=0;" for server in (first, second))
    nginx.start(first.host, lambda text: text.replace(sample, both))
    context = ssl.create_default_context(cafile=certificate[0])
    with httpx.Client(base_url=nginx.url, verify=context, timeout=PATIENCE_S, trust_env=False) as client:
        yield client
    nginx.end()


class Load:
    """Requests of some people until `end`; each notes its answers and what was accepted."""

    def __init__(self, site: httpx.Client) -> None:
        self.site = site
        self.answers: Counter[tuple[str, int]] = Counter()
        self.without_wait: list[str] = []
        self.accepted: list[str] = []
        self.uploaded: list[tuple[str, str]] = []
        self.errors: list[BaseException] = []
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(work,)) for work in (self.form, self.upload, self.read)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()
        assert not self.errors, self.errors

    def _repeat(self, work: Any) -> None:
        number = 0
        try:
            while not self._is_over.is_set():
                work(number)
                number += 1
        except BaseException as error:
            self.errors.append(error)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = self.site.request(method, path, **options)
        self.answers[method, answer.status_code] += 1
        if answer.status_code == 503 and "Retry-After" not in answer.headers:
            self.without_wait.append(f"{method} {path}: {answer.text[:200]}")
        return answer

    def form(self, number: int) -> None:
        answer = self.ask("POST", "/api/v1/submissions", files=[("file", (f"{number}.txt", b"x" * number))])
        if answer.status_code == 201:
            self.accepted.append(answer.json()["id"])

    def read(self, number: int) -> None:
        self.ask("GET", "/api/v1/submissions?limit=3")

    def upload(self, number: int) -> None:
        content = random.Random(number).randbytes(5 * CHUNK)
        told = {"Upload-Length": str(len(content)), "Upload-Metadata": tus.metadata(filename=f"{number}.bin")}
        created = self.ask("POST", "/api/v1/uploads", headers=tus.TUS | told)
        if created.status_code != 201:
            return
        url, offset = created.headers["Location"], 0
        while offset < len(content):
            sent = {**tus.TUS, **tus.OCTETS, "Upload-Offset": str(offset)}
            answer = self.ask("PATCH", url, headers=sent, content=content[offset : offset + CHUNK])
            if answer.status_code == 204:
                offset = int(answer.headers["Upload-Offset"])
                continue
            while (found := self.ask("HEAD", url, headers=tus.TUS)).status_code != 200:
                time.sleep(0.05)
            offset = int(found.headers["Upload-Offset"])
        self.uploaded.append((f"{number}.bin", hashlib.sha256(content).hexdigest()))


@pytest.mark.parametrize("cluster", [15.0], indirect=True)  # nobody is to be declared gone here
def test_servers_that_restart_one_after_the_other_lose_nothing(cluster: Cluster, site: httpx.Client) -> None:
    load = Load(site)
    load.start()
    wait_until(lambda: len(load.accepted) > 3 and load.uploaded)
    for server in cluster.servers:
        assert server.stop() == 0
        before = len(load.accepted), len(load.uploaded)
        wait_until(lambda: len(load.accepted) > before[0] + 2 and len(load.uploaded) > before[1])  # noqa: B023
        server.flags = ("--bind", server.host, *server.flags[2:])  # where nginx looks for it
        server.start()
        wait_until(lambda: server.http.get("/readyz").status_code == 200)  # noqa: B023
    load.end()
    print(load.answers)
    first, second = cluster.servers
    for submission_id in load.accepted:
        assert first.settled(submission_id)["counts"]["succeeded"] == 1
    stored = {
        event["subject"]["name"]: event["data"]["sha256"]
        for event in first.events()
        if event["name"] == "upload.stored"
    }
    for name, sha256 in load.uploaded:
        assert stored[name] == sha256
    cursors = [event["cursor"] for event in second.events()]
    assert cursors == list(range(1, len(cursors) + 1))
    assert load.without_wait == []
    # nginx does not repeat a POST or PATCH that it has sent on a kept connection just when the server closes it.
    cut = sum(load.answers.pop((method, 502), 0) for method in ("POST", "PATCH"))
    assert cut <= len(cluster.servers), cut
    assert {status for _, status in load.answers} <= {200, 201, 204, 409, 503}, load.answers

"""A page of another origin, in a real browser: what it may send and read, and what a stranger's may not."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from playwright.sync_api import Browser, Page
from tests.support.server import Server
from tests.system.browser.conftest import PATIENCE_MS

Open = Callable[[str], Page]


class _Blank(BaseHTTPRequestHandler):
    """An empty page at each address."""

    def do_GET(self) -> None:
        body = b"<!doctype html><link rel=icon href=data:,><title>another site</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write nothing."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    """The port of another web server, which serves empty pages under each name of this machine."""
    serving = ThreadingHTTPServer(("127.0.0.1", 0), _Blank)
    thread = Thread(target=serving.serve_forever)
    thread.start()
    try:
        yield serving.server_port
    finally:
        serving.shutdown()
        thread.join()
        serving.server_close()


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory, elsewhere: int) -> Iterator[Server]:
    """A server that pages of `localhost` at that port may call, and no other."""
    running = Server(tmp_path_factory.mktemp("called"), "--allowed-origin", f"http://localhost:{elsewhere}")
    try:
        yield running.start()
    finally:
        running.end()


@pytest.fixture
def open_at(chromium: Browser, elsewhere: int) -> Iterator[Open]:
    """Opens an empty page of the other web server under a name."""
    contexts = []

    def open_one(name: str) -> Page:
        contexts.append(chromium.new_context())
        contexts[-1].set_default_timeout(PATIENCE_MS)
        page = contexts[-1].new_page()
        page.goto(f"http://{name}:{elsewhere}/")
        return page

    yield open_one
    for context in contexts:
        context.close()


UPLOAD = """async (base) => {
  const tus = { "Tus-Resumable": "1.0.0", Authorization: "Bearer of-nobody" };
  const name = `filename ${btoa("from-elsewhere.txt")}`;
  const made = await fetch(`${base}/api/v1/uploads`, {
    method: "POST", headers: { ...tus, "Upload-Length": "4", "Upload-Metadata": name },
  });
  const address = new URL(made.headers.get("Location"), base);
  const sent = await fetch(address, {
    method: "PATCH", body: "abcd",
    headers: { ...tus, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream" },
  });
  return [made.status, sent.status, sent.headers.get("Upload-Offset")];
}"""

PUT = """async (base) => {
  const sent = await fetch(`${base}/send/put.txt`, {
    method: "PUT", body: "abc", headers: { "Idempotency-Key": crypto.randomUUID() },
  });
  const found = await fetch(new URL(sent.headers.get("Location"), base));
  return [sent.status, (await found.json()).files[0].name];
}"""

SAVE = """async (base) => {
  const read = await fetch(`${base}/api/v1/config`);
  const headers = { "If-Match": read.headers.get("ETag"), "Content-Type": "application/yaml" };
  const saved = await fetch(`${base}/api/v1/config`, { method: "PUT", body: "from: elsewhere\\n", headers });
  return [await read.text(), saved.status];
}"""

HELLO = """(base) => new Promise((resolve) => {
  const socket = new WebSocket(`${base.replace("http", "ws")}/api/v1/live`);
  socket.onmessage = (event) => { resolve(JSON.parse(event.data).type); socket.close(); };
  socket.onerror = () => resolve("refused");
})"""

WITH_COOKIES = """async (base) => {
  try { return (await fetch(`${base}/api/v1/jobs`, { credentials: "include" })).status; } catch { return "refused"; }
}"""

STATUS = """async ([url, options]) => {
  try { return (await fetch(url, options)).status; } catch { return "refused"; }
}"""


def test_an_allowed_page_sends_reads_saves_and_opens_the_socket(open_at: Open, called: Server) -> None:
    page = open_at("localhost")
    assert page.evaluate(UPLOAD, called.url) == [201, 204, "4"]
    assert page.evaluate(PUT, called.url) == [201, "put.txt"]
    before = called.config.read_text()
    assert page.evaluate(SAVE, called.url) == [before, 200]
    assert called.config.read_text() == "from: elsewhere\n"
    assert page.evaluate(STATUS, [f"{called.url}/api/v1/nowhere", {}]) == 404, "it reads errors, too"
    assert page.evaluate(HELLO, called.url) == "hello"


def test_an_allowed_page_gets_nothing_with_the_browsers_cookies(open_at: Open, called: Server) -> None:
    assert open_at("localhost").evaluate(WITH_COOKIES, called.url) == "refused"


@pytest.mark.parametrize("options", [{}, {"method": "POST"}, {"method": "PUT", "body": "x"}, {"method": "DELETE"}])
@pytest.mark.parametrize("path", ["/api/v1/config", "/api/v1/submissions", "/send/a.txt", "/api/v1/uploads", "/"])
def test_another_page_reads_nothing(open_at: Open, called: Server, path: str, options: dict[str, str]) -> None:
    assert open_at("127.0.0.1").evaluate(STATUS, [called.url + path, options]) == "refused"


def test_another_page_changes_nothing_and_opens_no_socket(open_at: Open, called: Server) -> None:
    """Not even blindly: a browser sends a form without asking first."""
    page, before = open_at("127.0.0.1"), called.newest()
    blind = {"method": "POST", "mode": "no-cors", "body": json.dumps({"files": []})}
    with page.expect_request("**/api/v1/submissions"):
        assert page.evaluate(STATUS, [f"{called.url}/api/v1/submissions", blind]) == "refused"
    page.set_content(f'<form method=post enctype=multipart/form-data action="{called.url}/api/v1/submissions">')
    with page.expect_response("**/api/v1/submissions") as answered:
        page.evaluate("document.forms[0].submit()")
    assert answered.value.status == 403
    assert open_at("127.0.0.1").evaluate(HELLO, called.url) == "refused"
    assert called.newest() == before

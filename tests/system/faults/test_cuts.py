"""Promise 2: an upload that is cut off is never processed; it can be gone on with, or nothing of it is left.

A client ends its connection (FIN), resets it (RST) or falls silent after every byte of a request.
"""

import asyncio
import contextlib
import hashlib
import random
import socket
import struct
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import pytest
from tests.support.faulty_proxy import Proxy
from tests.support.server import Server, form, post
from tests.support.tus import head, patch_head
from tests.support.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.fresh

Make = Callable[..., Server]

KINDS = ("fin", "rst", "stall")
IDLE_S = 0.5
STALL_S = 3.0  # a silent client's patience, where nothing can be answered yet


async def cut(server: Server, text: bytes, kind: str, patience_s: float = STALL_S) -> bytes:
    """Send bytes of a request, then break it off; what was answered within that time, b"" if nothing was."""
    name, port = server.host.split(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    try:
        writer.write(text)
        await writer.drain()
        if kind == "rst":
            # Half of them before the server has read it all, half afterwards.
            await asyncio.sleep(random.choice((0, 0.05)))
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return b""
        if kind == "fin":
            writer.write_eof()
        async with asyncio.timeout(patience_s):
            return await reader.read(65536)
    except (ConnectionError, TimeoutError):
        return b""
    finally:
        writer.close()


async def all_of(works: Iterable[tuple[str, Coroutine[Any, Any, Any]]]) -> None:
    """Do it all, a number at a time; those that fall silent together, for each takes as long as the server waits."""
    slots = {kind: asyncio.Semaphore(1000 if kind == "stall" else 30) for kind in KINDS}

    async def one(kind: str, work: Coroutine[Any, Any, Any]) -> None:
        async with slots[kind]:
            await work

    async with asyncio.TaskGroup() as group:
        for kind, work in works:
            group.create_task(one(kind, work))


def places(head: int, body: int, *, is_full: bool) -> list[int]:
    """Where to cut a request: at every byte of its body; of its head, where nothing has begun, not at each."""
    return [*range(0, head, 1 if is_full else 12), *range(head, head + body + 1)]


def test_a_form_that_is_cut_at_any_byte_leaves_whole_files_only(make_server: Make, is_full: bool) -> None:
    server = make_server("--idle-timeout", str(IDLE_S)).start()
    content = b"0123456789\r\n--A--\r\n-" * 2
    digest = hashlib.sha256(content).hexdigest()
    whole: dict[str, bool] = {}
    maybe: set[str] = set()
    works = []
    for kind in KINDS:
        name = f"{kind}-{{:04}}.txt"
        body = form([(name.format(0), content)])
        begin = post(server, len(body))
        for size in places(len(begin), len(body), is_full=is_full):
            body = form([(name.format(size), content)])
            # Before its boundary a part has not ended; after all of it, it must be there unless a reset overtook it.
            left = len(begin) + len(body) - size
            whole[name.format(size)] = left == 0 and kind != "rst"
            if left <= len(b"--\r\n"):
                maybe.add(name.format(size))
            works.append((kind, cut(server, (begin + body)[:size], kind)))
    asyncio.run(all_of(works))

    wait_until(lambda: not server.arriving())
    submissions = pages(server, "/submissions?")
    assert len(submissions) > len(content)  # many had got as far as a file
    found = {}
    for submission in submissions:
        for file in server.settled(submission["id"])["files"]:  # none if it was cut between the two
            found[file["name"]] = file
    stored = {name: file for name, file in found.items() if file["state"] == "stored"}
    assert {file["state"] for file in found.values()} <= {"stored", "aborted"}
    assert {name for name, is_whole in whole.items() if is_whole} <= set(stored) <= maybe
    assert all(file["sha256"] == digest for file in stored.values())
    assert all(file["job"] is None for name, file in found.items() if name not in stored)
    require_once(server, len(stored))


def test_a_patch_that_is_cut_at_any_byte_stands_where_the_disk_says(make_server: Make, is_full: bool) -> None:
    server = make_server("--idle-timeout", str(IDLE_S)).start()
    content = random.Random(2).randbytes(60)
    line = patch_head(server, "/api/v1/uploads/" + "0" * 32, 0, len(content))
    sizes = [(kind, size) for kind in KINDS for size in places(len(line), len(content), is_full=is_full)]
    uploads = announced(server, len(sizes), len(content))
    offsets: dict[str, int] = {}

    async def try_one(url: str, kind: str, size: int) -> None:
        request = patch_head(server, url, 0, len(content)) + content
        await cut(server, request[:size], kind)
        offset = offsets[url] = await head(server, url)
        assert 0 <= offset <= max(0, size - len(line)), (kind, size, offset)
        if kind == "stall":
            assert offset == max(0, size - len(line))  # what had come is kept
        if offset < len(content):
            rest = patch_head(server, url, offset, len(content) - offset, "Connection: close\r\n")
            answer = await cut(server, rest + content[offset:], "stall", PATIENCE_S)  # it is whole: one will come
            assert b" 204 " in answer.partition(b"\r\n")[0]

    asyncio.run(all_of((kind, try_one(url, kind, size)) for url, (kind, size) in zip(uploads, sizes, strict=True)))
    submission = server.get("/submissions?limit=1")["items"][0]["id"]
    server.http.post(f"/api/v1/submissions/{submission}/seal")
    server.settled(submission)
    files = pages(server, f"/submissions/{submission}/files?")
    assert len(files) == len(sizes)
    assert {file["sha256"] for file in files} == {hashlib.sha256(content).hexdigest()}
    assert len(set(offsets.values())) > len(content) // 2  # the cuts did fall all over it
    assert server.arriving() == []
    require_once(server, len(sizes))


def test_a_large_upload_survives_any_number_of_cuts(make_server: Make, chance: random.Random, is_full: bool) -> None:
    """500 of 1 GiB in full: after each, the offset that the server reports is the number of bytes on disk."""
    size, cuts = (1 << 30, 500) if is_full else (24 << 20, 12)
    server = make_server("--idle-timeout", "5").start()
    (url,) = announced(server, 1, size)
    block = chance.randbytes(1 << 20)
    digest = hashlib.sha256()
    for _ in range(size >> 20):
        digest.update(block)
    offset, done = 0, 0
    with Proxy(lambda: server.host) as proxy:
        proxy.cut_at(chance.randrange(size) for _ in range(cuts))
        while offset < size:
            sent_before = proxy.carried
            with contextlib.suppress(ConnectionError), connect(proxy) as connection:
                connection.sendall(patch_head(server, url, offset, size - offset))
                for at in range(offset - offset % len(block), size, len(block)):
                    connection.sendall(block[max(0, offset - at) :])
                connection.recv(65536)

            def stands(begun_at: int = offset, sent: int = proxy.carried - sent_before) -> int | None:
                now = asyncio.run(head(server, url))
                assert begun_at <= now <= begun_at + sent
                if now == size or [path.stat().st_size for path in (server.data / "incoming").iterdir()] in ([now], []):
                    return now + 1
                assert now == begun_at  # asked before the server read what was cut off, never in its middle
                return None

            offset = wait_until(stands) - 1
            done += 1
            assert done <= cuts + 1
    submission = server.get("/submissions?limit=1")["items"][0]["id"]
    server.http.post(f"/api/v1/submissions/{submission}/seal")
    (file,) = server.settled(submission)["files"]
    assert (file["state"], file["sha256"]) == ("stored", digest.hexdigest())
    assert server.arriving() == []
    require_once(server, 1)


def connect(proxy: Proxy) -> socket.socket:
    name, port = proxy.host.split(":")
    return socket.create_connection((name, int(port)))


def announced(server: Server, count: int, size: int) -> list[str]:
    """Paths of that many uploads of one open submission."""
    files = [{"name": f"{number}.bin", "size": size} for number in range(count)]
    submission = server.http.post("/api/v1/submissions", json={"files": files[:1000]}).json()["id"]
    for start in range(1000, count, 1000):
        more = server.http.post(f"/api/v1/submissions/{submission}/files", json={"files": files[start : start + 1000]})
        assert more.status_code == 201
    return [file["upload_url"] for file in pages(server, f"/submissions/{submission}/files?")]


def pages(server: Server, path: str) -> list[Any]:
    """All items of a list."""
    found, before = [], ""
    while True:
        page = server.get(f"{path}limit=1000{before}")
        found += page["items"]
        if page["next"] is None:
            return found
        before = f"&before={page['next']}"


def require_once(server: Server, count: int) -> None:
    """As many jobs as that, each processed once; nothing in the store but their files."""
    jobs = pages(server, "/jobs?")
    assert len(jobs) == count
    assert all(job["state"] == "succeeded" and len(job["attempts"]) == 1 for job in jobs)
    assert len([path for path in (server.data / "blobs").rglob("*") if path.is_file()]) == count
    assert server.http.get("/healthz").status_code == 200
    assert "Traceback" not in server.said()
    assert [line["cursor"] for line in server.log()] == list(range(1, len(server.log()) + 1))

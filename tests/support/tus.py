"""tus 1.0.0 by hand, for tests that break it off where no library would."""

import asyncio
import base64
import hashlib
from typing import Any

import httpx
from tests.support.server import Server

TUS = {"Tus-Resumable": "1.0.0"}
OCTETS = {"Content-Type": "application/offset+octet-stream"}
PATIENCE_S = 60.0


def metadata(**values: str) -> str:
    """An `Upload-Metadata` header."""
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


def checksum(chunk: bytes, algorithm: str = "sha256") -> dict[str, str]:
    """An `Upload-Checksum` header."""
    return {
        "Upload-Checksum": f"{algorithm} {base64.b64encode(hashlib.new(algorithm, chunk).digest()).decode()}",
    }


def create(client: httpx.Client, size: int, name: str = "a.bin", **values: str) -> str:
    """The path of a new upload."""
    told = {"Upload-Length": str(size), "Upload-Metadata": metadata(filename=name, **values)}
    answer = client.post("/api/v1/uploads", headers=TUS | told)
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


def append(client: httpx.Client, url: str, offset: int, content: Any, **headers: str) -> httpx.Response:
    """The answer to a PATCH."""
    return client.patch(url, content=content, headers=TUS | OCTETS | {"Upload-Offset": str(offset)} | headers)


def offset_of(client: httpx.Client, url: str) -> int:
    """Where an upload stands."""
    answer = client.head(url, headers=TUS)
    assert answer.status_code == 200, answer.status_code
    return int(answer.headers["Upload-Offset"])


def patch_head(server: Server, url: str, offset: int, length: int, more: str = "") -> bytes:
    """The head of a PATCH, to be written to a plain socket."""
    return (
        f"PATCH {url} HTTP/1.1\r\nHost: {server.host}\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\n"
        f"Content-Type: application/offset+octet-stream\r\n{more}Content-Length: {length}\r\n\r\n"
    ).encode()


async def head(server: Server, url: str) -> int:
    """Where an upload stands, asked on a connection of its own."""
    name, port = server.host.split(":")
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection(name, int(port))
        writer.write(
            f"HEAD {url} HTTP/1.1\r\nHost: {server.host}\r\nTus-Resumable: 1.0.0\r\nConnection: close\r\n\r\n".encode()
        )
        answer = (await reader.read()).decode("latin-1")
        writer.close()
    lines = dict(line.lower().split(": ", 1) for line in answer.split("\r\n")[1:] if ": " in line)
    assert " 200 " in answer.split("\r\n")[0], answer
    return int(lines["upload-offset"])

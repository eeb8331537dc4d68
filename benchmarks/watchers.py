"""Many clients that follow events over WebSockets, in one process: raw sockets, and each frame read once for all.

Equal frames are parsed once, so that little of the machine goes to the measuring side. No client of `watch` waits for
the handshake of another one, as real ones do not.
"""

import base64
import json
import os
import selectors
import socket
import struct
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

PIECE = 256 * 1024
PATIENCE_S = 60.0
RECEIVE_BYTES = 64 * 1024  # of the kernel's buffer


@dataclass(kw_only=True)
class Seen:
    """What the clients were sent.

    Attributes:
        events: of each client.
        latencies: seconds from an event's time to its arrival, of every event of every client.
        seconds: from the first connection until the last client had the last event.
        lasted_s: from the first event that arrived anywhere until then.
        disorder: clients that were sent an event twice, or not in the order of cursors.
    """

    events: list[int] = field(default_factory=list)
    latencies: Sequence[float] = ()
    seconds: float = 0.0
    lasted_s: float = 0.0
    disorder: int = 0


class _Watcher:
    def __init__(self, port: int, topic: str, after: int | None, *, is_socketio: bool = False) -> None:
        path = "/socket.io/?EIO=4&transport=websocket" if is_socketio else "/api/v1/live"
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(("127.0.0.1", port))
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self.buffer = bytearray()
        # 40: engine.io's message, socket.io's connect.
        join = json.dumps({"type": "join", "id": 1, "topic": topic, "after": after})
        self._first = b"40" if is_socketio else join.encode()
        self._is_open = False
        self.count = 0
        self.cursor = 0
        self.is_ordered = True
        self.is_over = False

    def open(self) -> None:
        """Wait for the server's answer, and join."""
        while not self._is_open:
            self._receive()

    def _receive(self) -> None:
        piece = self.socket.recv(PIECE)
        if not piece:
            raise ConnectionResetError(f"the server closed a socket: {bytes(self.buffer[-60:])!r}")
        self.buffer += piece
        if not self._is_open and (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            del self.buffer[: end + 4]
            self.socket.sendall(_masked(self._first))
            self._is_open = True

    def frames(self) -> list[bytes]:
        """The whole frames that have arrived; joins once the server has answered the handshake."""
        self._receive()
        found: list[bytes] = []
        while self._is_open and len(self.buffer) >= 2:
            size, head = self.buffer[1], 2
            if size == 126:
                size, head = struct.unpack(">H", self.buffer[2:4])[0] if len(self.buffer) >= 4 else PIECE, 4
            elif size == 127:
                size, head = struct.unpack(">Q", self.buffer[2:10])[0] if len(self.buffer) >= 10 else PIECE, 10
            if len(self.buffer) < head + size:
                break
            found.append(bytes(self.buffer[head : head + size]))
            del self.buffer[: head + size]
        return found


def _opened(port: int, topic: str, after: int | None) -> _Watcher:
    watcher = _Watcher(port, topic, after)
    watcher.open()
    return watcher


def _masked(data: bytes) -> bytes:
    return bytes([0x81, 0x80 | len(data)]) + bytes(4) + data  # short enough; masked with zeros


def watch(
    port: int,
    topic: str,
    after: int | None,
    count: int,
    last: str,
    ready: str,
    spread_s: float = 0.0,
    *,
    is_socketio: bool = False,
) -> Seen:
    """Follow a topic with many sockets until each has been sent an event of one name.

    Args:
        port: of the server.
        topic: what to join.
        after: the cursor to join after; None: a snapshot.
        count: of the sockets.
        last: name of the event that ends each.
        ready: path of a file that is made once all have joined.
        spread_s: over how many seconds the connections are spread.
        is_socketio: whether the server speaks Socket.IO, where nothing has to be joined.
    """
    began = time.perf_counter()
    first: float | None = None
    chosen = selectors.DefaultSelector()
    watchers: list[_Watcher] = []
    parsed: dict[bytes, tuple[list[int], list[float], bool]] = {}
    latencies = array("d")
    joined = 0

    def read(wait_s: float) -> int:
        """Take what has arrived; returns how many clients that finished."""
        nonlocal joined, first
        over = 0
        for key, _ in chosen.select(wait_s):
            watcher: _Watcher = key.data
            now = time.time()
            for frame in watcher.frames():
                if b'"type":"events"' not in frame[:40]:
                    joined += frame.startswith(b"40{") or b'"type":"reply"' in frame[:40]
                    continue
                first = first or time.perf_counter()
                if frame not in parsed:
                    if len(parsed) > 200:
                        parsed.clear()
                    message = json.loads(frame.removeprefix(b"42"))  # Socket.IO: an array of a name and the message
                    events = (message[1] if isinstance(message, list) else message)["events"]
                    ats = [datetime.fromisoformat(event["at"]).timestamp() for event in events]
                    cursors = [event["cursor"] for event in events]
                    parsed[frame] = cursors, ats, any(event["name"] == last for event in events)
                cursors, ats, is_last = parsed[frame]
                watcher.is_ordered &= cursors[0] > watcher.cursor and cursors == sorted(set(cursors))
                watcher.cursor = cursors[-1]
                watcher.count += len(cursors)
                latencies.extend([now - at for at in ats])
                if is_last:
                    watcher.is_over = True
                    over += 1
                    chosen.unregister(watcher.socket)
        return over

    over = 0
    try:
        for number in range(count):
            while (wait_s := began + spread_s * number / count - time.perf_counter()) > 0:
                over += read(wait_s) if watchers else (time.sleep(wait_s) or 0)
            watchers.append(_Watcher(port, topic, after, is_socketio=is_socketio))
            chosen.register(watchers[-1].socket, selectors.EVENT_READ, watchers[-1])
            over += read(0)
        while joined < count:
            over += read(1)
        Path(ready).touch()
        arrived, patient_until = -1, 0.0
        while over < count:
            if len(latencies) != arrived:
                arrived, patient_until = len(latencies), time.perf_counter() + PATIENCE_S
            elif time.perf_counter() > patient_until:
                break
            over += read(1)
        return Seen(
            events=[watcher.count for watcher in watchers],
            latencies=latencies,
            seconds=time.perf_counter() - began,
            lasted_s=time.perf_counter() - (first or began),
            disorder=sum(not watcher.is_ordered for watcher in watchers),
        )
    finally:
        for watcher in watchers:
            watcher.socket.close()


def stay(port: int, count: int, ready: str, until: str, topic: str = "all") -> int:
    """Have so many sockets follow a topic, and drop what they read, until a file appears; returns how many."""
    chosen = selectors.DefaultSelector()
    watchers = [_opened(port, topic, None) for _ in range(count)]
    for watcher in watchers:
        chosen.register(watcher.socket, selectors.EVENT_READ, watcher)
    Path(ready).touch()
    end = time.monotonic() + PATIENCE_S
    while not Path(until).exists() and time.monotonic() < end:
        for key, _ in chosen.select(0.05):
            key.data.socket.recv(PIECE)
    for watcher in watchers:
        watcher.socket.close()
    return len(watchers)


def stall(port: int, count: int, ready: str, until: str) -> int:
    """Have so many sockets follow everything from the first event, and read nothing, until a file appears."""
    watchers = [_opened(port, "all", 0) for _ in range(count)]
    Path(ready).touch()
    end = time.monotonic() + PATIENCE_S
    while not Path(until).exists() and time.monotonic() < end:
        time.sleep(0.05)
    for watcher in watchers:
        watcher.socket.close()
    return len(watchers)

"""Messages over the sockets of a slot; their meaning is in `dropmill.slot.protocol`."""

from __future__ import annotations

import _socket  # the part of `socket` that a slot needs
import array
import contextlib
import json
from collections.abc import Mapping

from dropmill.slot.protocol import MESSAGE_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:  # each import makes the slot larger, and every fork of it slower
    from typing import Any

_DESCRIPTORS_BYTES = _socket.CMSG_SPACE(2 * array.array("i").itemsize)


def receive(channel: _socket.socket) -> tuple[bytes, array.array[int]]:
    """The next message, empty at the end, and the descriptors that came with it.

    `socket.recv_fds` would make them inheritable.
    """
    descriptors = array.array("i")
    data, sent, _, _ = channel.recvmsg(MESSAGE_BYTES, _DESCRIPTORS_BYTES, _socket.MSG_CMSG_CLOEXEC)
    for _, _, numbers in sent:
        descriptors.frombytes(numbers[: len(numbers) - len(numbers) % descriptors.itemsize])
    return data, descriptors


def answer(channel: _socket.socket, message: Mapping[str, Any]) -> None:
    """Send a message; if the other side is gone, the next poll finds the socket closed."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        channel.send(json.dumps(message).encode())


def send_unusable(channel: _socket.socket, error: Exception) -> None:
    """Report why the callable cannot be a processor, in one line."""
    channel.send(json.dumps({"error": " ".join(str(error).split())[:2000]}).encode())

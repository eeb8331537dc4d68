"""`websockets` telling many clients of events: `python websockets_broadcast.py PORT CLIENTS EVENTS PER_SECOND`.

`events.py` beside it has what each is told, and when. The clients speak Dropmill's protocol as far as it matters.
"""

import asyncio
import sys

from events import PAUSE_S, event
from websockets.asyncio.server import ServerConnection, broadcast, serve

port, clients, events, per_s = map(int, sys.argv[1:])
connected: set[ServerConnection] = set()
complete = asyncio.Event()


async def client(connection: ServerConnection) -> None:
    await connection.recv()
    await connection.send('{"type":"reply"}')
    connected.add(connection)
    if len(connected) == clients:
        complete.set()
    await connection.wait_closed()


async def main() -> None:
    async with serve(client, "127.0.0.1", port):
        await complete.wait()
        await asyncio.sleep(PAUSE_S)
        began = asyncio.get_running_loop().time()
        for number in range(events):
            await asyncio.sleep(max(0, began + number / per_s - asyncio.get_running_loop().time()))
            broadcast(connected, event(number, events))
        await asyncio.Event().wait()


asyncio.run(main())

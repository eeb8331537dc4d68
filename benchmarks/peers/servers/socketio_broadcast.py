"""Flask-SocketIO telling many clients of events: `python socketio_broadcast.py PORT CLIENTS EVENTS PER_SECOND`.

As its documentation shows it: threads, and the server that comes with Werkzeug. `events.py` beside it has what each
client is told, and when.
"""

import json
import sys
import time

from events import PAUSE_S, event
from flask import Flask
from flask_socketio import SocketIO

PING_S = 3600  # so that a client needs to answer none

port, clients, events, per_s = map(int, sys.argv[1:])
app = Flask(__name__)
socketio = SocketIO(app, async_mode="threading", ping_interval=PING_S)
connected = 0


@socketio.on("connect")
def connect() -> None:
    global connected
    connected += 1
    if connected == clients:
        socketio.start_background_task(broadcast)


def broadcast() -> None:
    time.sleep(PAUSE_S)
    began = time.monotonic()
    for number in range(events):
        time.sleep(max(0, began + number / per_s - time.monotonic()))
        socketio.emit("message", json.loads(event(number, events)))


socketio.run(app, host="127.0.0.1", port=port, allow_unsafe_werkzeug=True)

"""Who follows the same topic, and who has unsaved changes of the config. Known only in memory, to this process.

Call it from the event loop only. When several processes serve, each must tell the others, as with who is sending.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NewType

from dropmill.live.outgoing import Outgoing
from dropmill.model.events import TOPIC_CONFIG
from dropmill.wire import socket

Viewer = NewType("Viewer", str)
"""One connection, or one client that polls; each counts as one."""

PUBLISH_EVERY_S = 1.0  # for each topic
VIEWERS_PER_S = 100  # told at most: a change of a topic that a thousand follow is published every ten seconds

LINGER_S = 10.0  # how long a client that polls counts after its last poll
EDITING_S = 60.0  # how long it counts as editing after it has said so

Changed = Callable[[], None]


@dataclass(eq=False, slots=True)
class _Present:
    """One viewer of a topic: what to call when the others change, for each time it entered."""

    notify: dict[object, Changed] = field(default_factory=dict)
    leaving: asyncio.TimerHandle | None = None


class Presence:
    """The viewers of each topic."""

    def __init__(self) -> None:
        self._viewers: dict[str, dict[Viewer, _Present]] = {}
        self._editing: dict[Viewer, asyncio.TimerHandle | None] = {}
        self._publishing: dict[str, asyncio.TimerHandle] = {}

    def enter(self, topic: str, viewer: Viewer, key: object, notify: Changed) -> None:
        """Count a viewer; `notify` is called some time after the other viewers have changed.

        Args:
            topic: what it follows.
            viewer: who.
            key: names this call in `leave`.
            notify: called on the event loop.
        """
        viewers = self._viewers.setdefault(topic, {})
        present = viewers.get(viewer)
        if present is None:
            present = viewers[viewer] = _Present()
            self._changed(topic)
        if present.leaving is not None:
            present.leaving.cancel()
            present.leaving = None
        present.notify[key] = notify

    def leave(self, topic: str, viewer: Viewer, key: object, *, lingers: bool) -> None:
        """End one call of `enter`. A viewer that lingers counts for `LINGER_S` more, unless it enters again."""
        present = self._viewers[topic][viewer]
        del present.notify[key]
        if present.notify:
            return
        if lingers:
            loop = asyncio.get_running_loop()
            present.leaving = loop.call_later(LINGER_S, self._forget, topic, viewer)
        else:
            self._forget(topic, viewer)

    def edit(self, viewer: Viewer, *, is_dirty: bool, expires: bool) -> None:
        """Note whether a viewer has unsaved changes of the config.

        Args:
            viewer: who.
            is_dirty: whether it has.
            expires: whether it counts for `EDITING_S` only, because it has no connection that could end.
        """
        was_dirty = viewer in self._editing
        timer = self._editing.pop(viewer, None)
        if timer is not None:
            timer.cancel()
        if is_dirty:
            loop = asyncio.get_running_loop()
            self._editing[viewer] = loop.call_later(EDITING_S, self._edited, viewer) if expires else None
        if was_dirty != is_dirty:
            self._changed(TOPIC_CONFIG)

    def message(self, topic: str, viewer: Viewer) -> Outgoing:
        """The message about the others; an equal one is the same object."""
        viewers = self._viewers.get(topic, {})
        others = len(viewers) - (viewer in viewers)
        is_edited = topic == TOPIC_CONFIG and len(self._editing) > (viewer in self._editing)
        return _message(topic, others, is_edited)

    def _edited(self, viewer: Viewer) -> None:
        self.edit(viewer, is_dirty=False, expires=False)

    def _forget(self, topic: str, viewer: Viewer) -> None:
        viewers = self._viewers[topic]
        del viewers[viewer]
        if not viewers:
            del self._viewers[topic]
        self._changed(topic)

    def _changed(self, topic: str) -> None:
        viewers = self._viewers.get(topic)
        if viewers and topic not in self._publishing:
            delay_s = max(PUBLISH_EVERY_S, len(viewers) / VIEWERS_PER_S)
            loop = asyncio.get_running_loop()
            self._publishing[topic] = loop.call_later(delay_s, self._publish, topic)

    def _publish(self, topic: str) -> None:
        del self._publishing[topic]
        for present in list(self._viewers.get(topic, {}).values()):
            for notify in list(present.notify.values()):
                notify()


@lru_cache(1024)
def _message(topic: str, watching: int, is_edited: bool) -> Outgoing:
    return Outgoing(socket.presence(topic, watching, None, is_edited))

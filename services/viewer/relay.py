"""One upstream shared by all who watch it.

It is opened with the first watcher and closed with the last. What it yields goes into each watcher's mailbox, which
holds the newest message of a kind: a slow watcher misses messages, holds nobody up, and takes a bounded amount of
memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Literal

from services.runtime import metrics

Kind = Literal["cameras", "status", "scene"]

_UNDRAWN = 2
"""Messages that a page may have before it says that it has drawn one: one to draw, and one on its way."""
_RESTART_SECONDS = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """What a page is sent: text is JSON, bytes are a scene (see `services.viewer.messages`)."""

    kind: Kind
    data: str | bytes


Upstream = Callable[[], AsyncIterator[Message]]


class Mailbox:
    """What waits for one watcher: the newest message of each kind, oldest first."""

    def __init__(self, waiting: dict[Kind, Message]) -> None:
        self._waiting = dict(waiting)
        self._credit = _UNDRAWN
        self._changed = asyncio.Event()

    def put(self, message: Message) -> None:
        """Leaves a message, in place of an older one of its kind that is still there."""
        if self._waiting.pop(message.kind, None) and message.kind == "scene":
            metrics.VIEWER_SCENES.labels("missed").inc()
        self._waiting[message.kind] = message
        self._changed.set()

    def drawn(self) -> None:
        """The watcher has drawn a message and has room for another."""
        self._credit = min(self._credit + 1, _UNDRAWN)
        self._changed.set()

    async def take(self) -> Message:
        """The next message, as soon as there is one and the watcher has room for it."""
        while not (self._waiting and self._credit):
            self._changed.clear()
            await self._changed.wait()
        self._credit -= 1
        return self._waiting.pop(next(iter(self._waiting)))


class Relays:
    """The upstreams that are watched now, by key."""

    def __init__(self) -> None:
        self._relays: dict[Hashable, _Relay] = {}

    @contextmanager
    def watch(self, key: Hashable, upstream: Upstream) -> Iterator[Mailbox]:
        """A mailbox for what the upstream of that key yields, while the block lasts.

        upstream: opened where nobody watches the key yet; expected to go on until it is closed.
        """
        relay = self._relays.get(key) or self._relays.setdefault(key, _Relay(key, upstream))
        mailbox = relay.join()
        try:
            yield mailbox
        finally:
            if relay.leave(mailbox):
                del self._relays[key]


class _Relay:
    """A running upstream and its watchers."""

    def __init__(self, key: Hashable, upstream: Upstream) -> None:
        self._key = key
        self._upstream = upstream
        self._mailboxes: set[Mailbox] = set()
        self._newest: dict[Kind, Message] = {}
        self._running = asyncio.create_task(self._run())

    def join(self) -> Mailbox:
        """Another watcher, who starts with the newest messages."""
        mailbox = Mailbox(self._newest)
        self._mailboxes.add(mailbox)
        return mailbox

    def leave(self, mailbox: Mailbox) -> bool:
        """One watcher less. True when it was the last, and the upstream is closed."""
        self._mailboxes.remove(mailbox)
        if self._mailboxes:
            return False
        self._running.cancel()
        return True

    async def _run(self) -> None:
        metrics.VIEWER_UPSTREAMS.inc()
        log.info("upstream opened", extra={"upstream": self._key})
        try:
            while True:
                try:
                    await self._relay()
                except Exception:  # a defect; watchers must not be left with a picture that stands still for good
                    log.exception("upstream failed", extra={"upstream": self._key})
                await asyncio.sleep(_RESTART_SECONDS)
        finally:
            metrics.VIEWER_UPSTREAMS.dec()
            log.info("upstream closed", extra={"upstream": self._key})

    async def _relay(self) -> None:
        async with aclosing(self._upstream()) as messages:  # type: ignore[type-var] # an upstream is a generator
            async for message in messages:
                self._newest.pop(message.kind, None)
                self._newest[message.kind] = message
                for mailbox in self._mailboxes:
                    mailbox.put(message)

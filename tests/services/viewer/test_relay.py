from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.viewer.relay import Mailbox, Message, Relays


class Source:
    """An upstream whose messages a test feeds, and which knows whether it is open."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Message | Exception] = asyncio.Queue()
        self.opened = 0
        self.closed = 0

    async def __call__(self) -> AsyncIterator[Message]:
        self.opened += 1
        try:
            while True:
                message = await self.queue.get()
                self.queue.task_done()
                if isinstance(message, Exception):
                    raise message
                yield message
        finally:
            self.closed += 1

    async def feed(self, *messages: Message | Exception) -> None:
        for message in messages:
            self.queue.put_nowait(message)
        await self.queue.join()
        await asyncio.sleep(0.001)  # until the last one is in the mailboxes


def scene(number: int) -> Message:
    return Message("scene", bytes([number]))


async def test_the_upstream_is_opened_with_the_first_watcher_and_closed_with_the_last():
    relays, source = Relays(), Source()
    with relays.watch("camera", source):
        with relays.watch("camera", source):
            await asyncio.sleep(0.01)
            assert (source.opened, source.closed) == (1, 0)
        await asyncio.sleep(0.01)
        assert source.closed == 0
    await asyncio.sleep(0.01)
    assert source.closed == 1
    with relays.watch("camera", source):
        await asyncio.sleep(0.01)
        assert (source.opened, source.closed) == (2, 1)
    await asyncio.sleep(0.01)


async def test_a_slow_watcher_misses_scenes_and_holds_up_nobody():
    relays, source = Relays(), Source()
    with relays.watch("camera", source) as slow, relays.watch("camera", source) as fast:
        for number in range(50):
            await source.feed(scene(number))
            assert (await fast.take()).data == bytes([number])
            fast.drawn()
        assert (await slow.take()).data == bytes([49])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await slow.take()


async def test_a_status_is_not_lost_behind_scenes_and_arrives_in_order():
    mailbox = Mailbox({})
    for message in (scene(1), Message("status", "stalled"), scene(2), scene(3)):
        mailbox.put(message)
    assert [(await mailbox.take()).data, (await mailbox.take()).data] == ["stalled", b"\x03"]


async def test_no_more_is_on_the_way_than_the_page_draws():
    mailbox = Mailbox({})
    for number in (1, 2):
        mailbox.put(scene(number))
        await mailbox.take()
    mailbox.put(scene(3))
    third = asyncio.create_task(mailbox.take())
    await asyncio.sleep(0.01)
    assert not third.done()
    for _ in range(100):
        mailbox.drawn()
    assert (await third).data == b"\x03"
    mailbox.put(scene(4))
    await mailbox.take()
    mailbox.put(scene(5))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await mailbox.take()


async def test_who_comes_later_starts_with_the_newest():
    relays, source = Relays(), Source()
    with relays.watch("camera", source):
        await source.feed(scene(1), Message("status", "streaming"), scene(2))
        with relays.watch("camera", source) as late:
            assert {(await late.take()).data, (await late.take()).data} == {b"\x02", "streaming"}


async def test_a_defect_of_the_upstream_is_logged_and_does_not_end_it(caplog, monkeypatch):
    monkeypatch.setattr("services.viewer.relay._RESTART_SECONDS", 0.01)
    relays, source = Relays(), Source()
    with relays.watch("camera", source) as mailbox:
        await source.feed(RuntimeError("a defect"), scene(7))
        assert (await mailbox.take()).data == b"\x07"
    assert source.opened == 2
    assert "upstream failed" in caplog.text

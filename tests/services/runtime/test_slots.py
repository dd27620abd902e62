"""Who gets the next place."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.slots import Slots


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_the_smallest_key_is_next_and_equal_ones_by_their_coming() -> None:
    slots, served = Slots(1), []
    await slots.take((9,))

    async def serve(name: str, key: int) -> None:
        await slots.take((key,))
        served.append(name)

    tasks = []
    for name, key in [("c", 2), ("a", 1), ("d", 2), ("b", 1)]:
        tasks.append(asyncio.create_task(serve(name, key)))
        await settle()
    for _ in tasks:
        slots.give_back()
        await settle()
    assert served == ["a", "b", "c", "d"]


async def test_who_is_cancelled_takes_no_place_at_whatever_moment() -> None:
    slots = Slots(1)
    await slots.take((1,))
    early, late = (asyncio.create_task(slots.take((1,))) for _ in range(2))
    await settle()
    early.cancel()
    await settle()
    slots.give_back()  # granted to the second, which is cancelled before it learns of it
    late.cancel()
    await settle()
    assert early.cancelled()
    assert late.cancelled()
    await asyncio.wait_for(slots.take((1,)), 1)


async def test_those_who_gave_up_leave_nothing_behind() -> None:
    slots = Slots(1)
    await slots.take((1,))
    for _ in range(100):
        waiting = asyncio.create_task(slots.take((3,)))
        await settle()
        waiting.cancel()
        await settle()
    assert not slots._waiting


@given(st.integers(1, 3), st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=12))
def test_never_more_than_there_are_and_none_is_lost(places: int, claims: list[tuple[int, bool]]) -> None:
    """claims: the key, and whether it is given up after a while."""

    async def scenario() -> None:
        slots, taken, most = Slots(places), 0, 0

        async def claim(key: int, gives_up: bool) -> None:
            nonlocal taken, most
            try:
                async with asyncio.timeout(0.0 if gives_up else None):
                    await slots.take((key,))
            except TimeoutError:
                return
            taken += 1
            most = max(most, taken)
            await asyncio.sleep(0)
            taken -= 1
            slots.give_back()

        await asyncio.gather(*(claim(*each) for each in claims))
        assert taken == 0
        assert most <= places
        for _ in range(places):
            await asyncio.wait_for(slots.take((1,)), 1)

    asyncio.run(scenario())
